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

    __slots__ = ("_changed", "_own", "_shared")

    def __init__(self, shared: TokenBucket | None) -> None:
        self._shared = shared
        self._own: TokenBucket | None = None
        self._changed = trio.Event()

    @property
    def limit_bytes_s(self) -> int:
        """The torrent's own limit; 0: none."""
        return 0 if self._own is None else int(self._own.rate)

    def limit(self, bytes_s: int, now: float) -> None:
        """Sets the torrent's own limit; 0: none. Who waits already waits by the new one from now on."""
        if bytes_s == self.limit_bytes_s:
            return  # a new bucket would be full: who says the same again and again would have no limit
        burst = max(bytes_s * BURST_S, BLOCK_BYTES)
        self._own = TokenBucket(bytes_s, burst, now) if bytes_s > 0 else None
        self._changed.set()
        self._changed = trio.Event()

    async def allowance(self) -> int:
        """Waits until something may pass; returns how many bytes, at least a block."""
        while not (room := self.room(trio.current_time())):
            await self.wait(self._changed)
        return room

    def room(self, now: float) -> int:
        """How many bytes may pass now: at least a block, or 0: none."""
        least = float(UNLIMITED_BYTES)
        for bucket in (self._own, self._shared):
            if bucket is not None:
                least = min(least, bucket.available(now))
        return max(BLOCK_BYTES, int(least)) if least > 0.0 else 0

    async def wait(self, event: trio.Event) -> None:
        """Waits as long as nothing may pass, or until the event."""
        now = trio.current_time()
        wait_s = max((bucket.wait_s(now) for bucket in (self._own, self._shared) if bucket is not None), default=0.0)
        with trio.move_on_after(wait_s):
            await event.wait()

    def take(self, count: int, now: float) -> None:
        """So many bytes passed; where they were more than allowed, the next wait longer."""
        for bucket in (self._own, self._shared):
            if bucket is not None:
                bucket.charge(count, now)  # several wait at once: each was let in before the others' bytes came
