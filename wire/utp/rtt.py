"""How long an acknowledgement takes, and how long to wait for one (BEP 29)."""

from __future__ import annotations

__all__ = ["FIRST_TIMEOUT_S", "RoundTrip"]

FIRST_TIMEOUT_S = 1.0
MIN_TIMEOUT_S = 0.5
MAX_TIMEOUT_S = 4.0
"""One packet in so long burdens no path, and where every third gets lost the tenth try is what saves a connection."""


class RoundTrip:
    """The smoothed round trip and its spread, in seconds."""

    __slots__ = ("_spread_s", "latest_s", "smooth_s", "timeout_s")

    def __init__(self) -> None:
        self.smooth_s = MIN_TIMEOUT_S
        """The round trip; a guess before the first sample."""
        self.latest_s = float("inf")
        """The last sample."""
        self._spread_s: float | None = None
        self.timeout_s = FIRST_TIMEOUT_S
        """How long to wait for the next acknowledgement."""

    def sample(self, seconds: float) -> None:
        """One packet, sent once, was acknowledged after so long."""
        self.latest_s = seconds
        if self._spread_s is None:
            self.smooth_s, self._spread_s = seconds, seconds / 2
        else:
            self._spread_s += (abs(self.smooth_s - seconds) - self._spread_s) / 4
            self.smooth_s += (seconds - self.smooth_s) / 8
        self.timeout_s = max(self.smooth_s + 4 * self._spread_s, MIN_TIMEOUT_S)

    def answered(self) -> None:
        """The peer is there after all: what it was waited for so long says nothing of the next wait."""
        if self._spread_s is not None:
            self.timeout_s = max(self.smooth_s + 4 * self._spread_s, MIN_TIMEOUT_S)

    def silence(self) -> None:
        """Nothing came in time: the next wait is twice as long."""
        self.timeout_s = max(self.timeout_s, min(self.timeout_s * 2, MAX_TIMEOUT_S))
