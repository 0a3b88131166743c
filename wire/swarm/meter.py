"""Measures a rate from a counter: bytes a second, smoothed over some seconds. The clock is the caller's."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Meter", "Span"]

_SMOOTH_S = 4.0
"""How far back it looks: long enough to be read, short enough to follow a peer that stops."""


class Span:
    """The rate of a counter over the last `marks` calls, straight: what tit for tat goes by."""

    __slots__ = ("_marks",)

    def __init__(self, total: int, now: float, marks: int) -> None:
        self._marks: deque[tuple[float, int]] = deque([(now, total)], marks)

    def mark(self, total: int, now: float) -> float:
        """Units a second since the oldest mark that is kept; 0 where no time has gone by."""
        since, before = self._marks[0]
        self._marks.append((now, total))
        return (total - before) / (now - since) if now > since else 0.0


class Meter:
    """Add to `total` freely; `measure` now and then (about once a second) keeps `rate` true."""

    __slots__ = ("_at", "_before", "_weight", "latest", "rate", "total")

    def __init__(self, now: float) -> None:
        self.total = 0
        self.rate = 0.0
        """Units a second, smoothed."""
        self.latest = 0.0
        """Units a second between the last two measurements."""
        self._before = 0
        self._at = now
        self._weight = 0.0

    def measure(self, now: float) -> None:
        """Takes what was added since the last measurement into the rate."""
        span = now - self._at
        if span <= 0.0:
            return
        self.latest = (self.total - self._before) / span
        keep = math.exp(-span / _SMOOTH_S)
        # The weights of all samples add up to less than one at first; dividing by their sum makes young rates true.
        weight = self._weight * keep + (1.0 - keep)
        self.rate = (self.rate * self._weight * keep + self.latest * (1.0 - keep)) / weight
        self._weight = weight
        self._before = self.total
        self._at = now
