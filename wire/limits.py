"""A token bucket: how much may pass, on average and at once. The clock is the caller's."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """Lets `rate` units a second pass on average and `burst` at once. A rate of 0 means no limit.

    A `take` may go into debt, so that a thing larger than the burst still passes, and later
    ones wait for it: the average holds whatever the sizes are.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = now

    def available(self, now: float) -> float:
        """Units that may pass at `now`; negative while in debt, infinite without a limit."""
        if self.rate <= 0:
            return float("inf")
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        return self._tokens

    def take(self, amount: float, now: float) -> bool:
        """Takes `amount` if the bucket is not in debt. False: nothing was taken."""
        rate = self.rate
        if rate <= 0:
            return True
        if now > self._at:  # as `available` does: a datagram or block each comes by here
            self._tokens = min(self.burst, self._tokens + (now - self._at) * rate)
            self._at = now
        if self._tokens <= 0:
            return False
        self._tokens -= amount
        return True

    def charge(self, amount: float, now: float) -> None:
        """Takes `amount` whatever is left: it has passed already."""
        self.available(now)
        if self.rate > 0:
            self._tokens -= amount

    def wait_s(self, now: float) -> float:
        """Seconds until `take` will succeed; 0 if it does now."""
        missing = -self.available(now)
        return 0.0 if missing < 0 else max(missing / self.rate, 1e-3)
