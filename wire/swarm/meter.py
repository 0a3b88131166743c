"""Measures a rate from a counter: bytes a second, smoothed over some seconds. The clock is the caller's."""

from __future__ import annotations

import math

__all__ = ["Meter"]

_SMOOTH_S = 4.0
"""How far back it looks: long enough to be read, short enough to follow a peer that stops."""


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
