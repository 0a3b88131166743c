"""Waits until bytes may pass: the limits of a session and of one torrent. A shell over trio's clock."""

from __future__ import annotations

import trio

from wire.limits import TokenBucket
from wire.peer.messages import BLOCK_BYTES

__all__ = ["Throttle"]

UNLIMITED_BYTES = 1 << 30
BURST_S = 0.25
"""Of a torrent's own limit, that may pass at once."""


class Throttle:
    """One direction of one torrent. `shared` is the session's bucket; None: it has no limit."""

    __slots__ = ("_own", "_shared")

    def __init__(self, shared: TokenBucket | None) -> None:
        self._shared = shared
        self._own: TokenBucket | None = None

    @property
    def limit_bytes_s(self) -> int:
        """The torrent's own limit; 0: none."""
        return 0 if self._own is None else int(self._own.rate)

    def limit(self, bytes_s: int, now: float) -> None:
        """Sets the torrent's own limit; 0: none."""
        burst = max(bytes_s * BURST_S, BLOCK_BYTES)
        self._own = TokenBucket(bytes_s, burst, now) if bytes_s > 0 else None

    async def allowance(self) -> int:
        """Waits until something may pass; returns how many bytes, at least a block."""
        least = UNLIMITED_BYTES
        for bucket in (self._own, self._shared):
            if bucket is not None:
                least = min(least, await _allowance(bucket))
        return least

    def take(self, count: int, now: float) -> None:
        """So many bytes passed; where they were more than allowed, the next wait longer."""
        for bucket in (self._own, self._shared):
            if bucket is not None:
                bucket.charge(count, now)  # several wait at once: each was let in before the others' bytes came


async def _allowance(bucket: TokenBucket) -> int:
    while True:
        now = trio.current_time()
        available = bucket.available(now)
        if available > 0.0:
            return max(BLOCK_BYTES, int(min(available, UNLIMITED_BYTES)))
        await trio.sleep(bucket.wait_s(now))
