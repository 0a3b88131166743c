"""What a node shows of its store to a sampler: a random subset that changes once an interval (BEP 51)."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["MAX_INTERVAL_S", "SAMPLES", "SampleSet"]

SAMPLES = 20
"""Info-hashes in one answer: with eight nodes of both families it stays below 1,024 bytes (BEP 32)."""
MAX_INTERVAL_S = 21600
"""The longest interval that BEP 51 allows: six hours."""
INTERVAL_S = 6 * 3600
"""How long a subset stays: as libtorrent."""


class SampleSet:
    """Keeps the subset. Times are monotonic seconds."""

    def __init__(self, rng: random.Random, *, interval_s: int = INTERVAL_S) -> None:
        self._rng = rng
        self._interval_s = interval_s
        self._samples: tuple[bytes, ...] = ()
        self._until = float("-inf")

    def take(self, stored: Sequence[bytes], now: float) -> tuple[tuple[bytes, ...], int]:
        """The subset of the stored info-hashes (20 bytes each), and after how many seconds another comes.

        While everything fits into one answer nothing is hidden, so nothing need be waited for.
        """
        if len(stored) <= SAMPLES:
            self._until = float("-inf")
            return tuple(stored), 0
        if now >= self._until:
            self._samples = tuple(self._rng.sample(stored, SAMPLES))
            self._until = now + self._interval_s
        return self._samples, int(self._until - now)
