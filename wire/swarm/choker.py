"""Whom to serve: tit for tat while we download, who passes on while we seed, and a chance for the unknown (BEP 3).

A pure choice over what each peer did lately; the flags live in the connections.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["RATE_MARKS", "Choker", "Contender"]

RECHOKE_S = 10.0
OPTIMISTIC_S = 30.0
NEWCOMER_S = 60.0
NEWCOMER_WEIGHT = 3
"""A newcomer is three times as likely to be tried: he has nothing to give yet (BEP 3)."""
RATE_MARKS = 2
"""Rounds that a rate for tit for tat looks back over: 20 s."""
TURN_S = 30.0
"""While we seed, a peer is served so long before one that waits takes its turn."""
FIRST_SLOTS = 8
MIN_SLOTS = 4
MAX_SLOTS = 64
SLOT_STEP_BYTES_S = 4096
"""The n-th slot is worth its while where the n-th fastest takes n times so much: on 100 KB/s some five are served, on
1 MB/s sixteen. More would only make each slower, and nobody a source soon."""


class Contender(NamedTuple):
    """A peer that is interested in our pieces. Rates in bytes a second, times in monotonic seconds."""

    key: int
    """A number of the peer, of one order in each run."""
    gives: float
    """What it sends us."""
    takes: float
    """What we send it."""
    unchoked_at: float | None
    """Since when it is served; None while it is choked."""
    waits_since: float
    """When it was choked last, or came."""
    joined_at: float
    snubs: bool
    """It owes us blocks and sends none."""
    spreads: float
    """How much of what we gave it was seen with others since, in pieces; old ones count less (`Spread`)."""


class Choker:
    """Chooses who is unchoked. `slots` counts the optimistic one too; None: found from what the served ones take."""

    def __init__(self, rng: random.Random, slots: int | None) -> None:
        self._rng = rng
        self._fixed = slots is not None
        self.slots = FIRST_SLOTS if slots is None else slots
        self._optimistic: int | None = None
        self._optimistic_at = float("-inf")

    def free(self, served: int) -> int:
        """How many more may be unchoked at once, without waiting for the next round."""
        return max(0, self.slots - served)

    def _size(self, contenders: Sequence[Contender]) -> None:
        """As many slots as there are peers that take their share, one more to see whether it would, one for luck."""
        served = sorted((c.takes for c in contenders if c.unchoked_at is not None), reverse=True)
        worth = 0
        while worth < len(served) and served[worth] >= (worth + 1) * SLOT_STEP_BYTES_S:
            worth += 1
        self.slots = min(max(worth + 2, MIN_SLOTS), MAX_SLOTS)

    def choose(self, contenders: Sequence[Contender], now: float, *, seeding: bool) -> set[int]:
        """The keys of those who are served from now on; every 10 s."""
        if not self._fixed:
            self._size(contenders)
        if len(contenders) <= self.slots:
            return {contender.key for contender in contenders}
        if not self.slots:
            return set()
        ranked = sorted(contenders, key=lambda c: _turn(c, now) if seeding else _merit(c))
        chosen = {contender.key for contender in ranked[: max(1, self.slots - 1)]}
        if len(chosen) < self.slots:
            chosen.add(self._lucky([c for c in ranked if c.key not in chosen], now))
        return chosen

    def _lucky(self, others: Sequence[Contender], now: float) -> int:
        if now - self._optimistic_at < OPTIMISTIC_S and any(c.key == self._optimistic for c in others):
            assert self._optimistic is not None
            return self._optimistic
        pool = [c for c in others if c.unchoked_at is None] or others
        weights = [NEWCOMER_WEIGHT if now - c.joined_at < NEWCOMER_S else 1 for c in pool]
        self._optimistic = self._rng.choices(pool, weights)[0].key
        self._optimistic_at = now
        return self._optimistic


def _merit(contender: Contender) -> tuple[float, ...]:
    return contender.snubs, -contender.gives, contender.waits_since, contender.key


def _turn(contender: Contender, now: float) -> tuple[float, ...]:
    """While we seed nobody pays us: those who pass on pay the others. Among equals each has its turn."""
    if contender.unchoked_at is None:
        return 1, -contender.spreads, contender.waits_since, contender.key
    in_his_time = now - contender.unchoked_at < TURN_S
    return 0 if in_his_time else 1, -contender.spreads, float("inf"), -contender.takes, contender.key
