"""Questions that wait for their answer: matched by transaction id and address, timed out twice (BEP 5).

After a short while a question counts as slow, so that its slot may be used for another; long after, it is
dead. An answer in between is still taken. What a question was for is its `purpose`, which is not looked at here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Generic, TypeVar

from wire.compact import Endpoint

__all__ = ["DEAD_S", "Pending", "RoundTrip", "Transactions"]

DEAD_S = 12.0
"""An answer later than this is not waited for."""
_TID_BYTES = 4
"""Answers cannot be forged from off the path: 2^32 ids, besides our port."""

_FIRST_SLOW_S = 1.0
_MIN_SLOW_S = 0.25
_MAX_SLOW_S = 1.5

PurposeT = TypeVar("PurposeT")


class RoundTrip:
    """Smoothed round trip time and its variance, and from these how long an answer usually takes at most."""

    __slots__ = ("_variance_s", "mean_s")

    def __init__(self) -> None:
        self.mean_s: float | None = None
        self._variance_s = 0.0

    def sample(self, rtt_s: float) -> None:
        """Takes one measurement."""
        if self.mean_s is None:
            self.mean_s, self._variance_s = rtt_s, rtt_s / 2
            return
        self._variance_s += (abs(rtt_s - self.mean_s) - self._variance_s) / 4
        self.mean_s += (rtt_s - self.mean_s) / 8

    @property
    def slow_s(self) -> float:
        """After how long an unanswered question counts as slow: 0.25 to 1.5 s, 1 s before anything is known."""
        if self.mean_s is None:
            return _FIRST_SLOW_S
        return min(max(self.mean_s + 4 * self._variance_s, _MIN_SLOW_S), _MAX_SLOW_S)


@dataclass(slots=True, eq=False)
class Pending(Generic[PurposeT]):
    """A question on its way."""

    tid: bytes
    endpoint: Endpoint
    sent_at: float
    purpose: PurposeT


class Transactions(Generic[PurposeT]):
    """All open questions of one socket."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._pending: dict[bytes, Pending[PurposeT]] = {}
        self._timers: list[tuple[float, int, bool, Pending[PurposeT]]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._pending)

    def begin(self, endpoint: Endpoint, purpose: PurposeT, now: float, slow_s: float) -> Pending[PurposeT]:
        """Opens a question; its `tid` is to be sent."""
        tid = self._rng.randbytes(_TID_BYTES)
        while tid in self._pending:
            tid = self._rng.randbytes(_TID_BYTES)
        pending = Pending(tid, endpoint, now, purpose)
        self._pending[tid] = pending
        for at, dead in ((now + slow_s, False), (now + max(DEAD_S, slow_s), True)):
            self._count += 1
            heappush(self._timers, (at, self._count, dead, pending))
        return pending

    def match(self, tid: bytes, source: Endpoint) -> Pending[PurposeT] | None:
        """Closes the question that this answers: same id, and asked of just that endpoint."""
        pending = self._pending.get(tid)
        if pending is None or pending.endpoint != source:
            return None
        del self._pending[tid]
        return pending

    def expire(self, now: float) -> list[tuple[Pending[PurposeT], bool]]:
        """Questions that became slow (False) or dead (True, and closed), in the order of their times."""
        due: list[tuple[Pending[PurposeT], bool]] = []
        while self._timers and self._timers[0][0] <= now:
            _, _, dead, pending = heappop(self._timers)
            if self._pending.get(pending.tid) is pending:
                due.append((pending, dead))
                if dead:
                    del self._pending[pending.tid]
        return due

    def next_timer(self) -> float | None:
        """When `expire` may have something."""
        while self._timers and self._pending.get(self._timers[0][3].tid) is not self._timers[0][3]:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None
