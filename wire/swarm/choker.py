"""Whom to serve: tit for tat while we download, turns while we seed, and a chance for the unknown (BEP 3).

A pure choice over what each peer did lately; the flags live in the connections.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Choker", "Contender"]

RECHOKE_S = 10.0
OPTIMISTIC_S = 30.0
NEWCOMER_S = 60.0
NEWCOMER_WEIGHT = 3
"""A newcomer is three times as likely to be tried: he has nothing to give yet (BEP 3)."""
TURN_S = 30.0
"""While we seed, a peer is served so long before one that waits takes its turn."""


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


class Choker:
    """Chooses who is unchoked. `slots` counts the optimistic one too."""

    def __init__(self, rng: random.Random, slots: int) -> None:
        self._rng = rng
        self._slots = slots
        self._optimistic: int | None = None
        self._optimistic_at = float("-inf")

    def free(self, served: int) -> int:
        """How many more may be unchoked at once, without waiting for the next round."""
        return max(0, self._slots - served)

    def choose(self, contenders: Sequence[Contender], now: float, *, seeding: bool) -> set[int]:
        """The keys of those who are served from now on; every 10 s."""
        if len(contenders) <= self._slots:
            return {contender.key for contender in contenders}
        ranked = sorted(contenders, key=lambda c: _turn(c, now) if seeding else _merit(c))
        chosen = {contender.key for contender in ranked[: max(1, self._slots - 1)]}
        if len(chosen) < self._slots:
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
    if contender.unchoked_at is None:
        return 1, contender.waits_since, contender.key
    in_his_time = now - contender.unchoked_at < TURN_S
    return 0 if in_his_time else 2, -contender.takes, contender.key
