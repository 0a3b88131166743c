"""The memory that a connection receives into: small while little comes, large while blocks flow. No parsing here.

Bytes are never copied from it by this file, but for the frame that the end of a read cut in two: it moves to the
front, or into a new memory of another size.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["LARGE_BYTES", "SMALL_BYTES", "ReceiveBuffer"]

SMALL_BYTES = 4096
"""Enough for a handshake and small talk: 500 such connections cost 2 MiB."""
LARGE_BYTES = 1 << 20
"""One read of a fast peer: some 60 blocks."""
_GROWTH = 4
SCATTER_BYTES = 64 << 10
"""Enough beside a `Landing`: the block that a read ended in, twice, and small talk."""


class ReceiveBuffer:
    """`data[start:end]` is what came and was not read yet. The reader moves `start`, the receiver `end`."""

    __slots__ = ("_grow", "data", "end", "start", "view")

    def __init__(self) -> None:
        self.data = bytearray(SMALL_BYTES)
        self.view = memoryview(self.data)
        """All of `data`; both are other objects after `space`."""
        self.start = 0
        self.end = 0
        self._grow = False

    @property
    def is_full(self) -> bool:
        """The last read filled it to the brim: more was probably waiting."""
        return self.end == len(self.data)

    def grow(self) -> None:
        """From the next `space` on it is four times as large, up to `LARGE_BYTES`."""
        self._grow = True

    def reserve(self, count: int) -> memoryview:
        """Exactly `count` bytes of free space behind what is there. What `space` gave before becomes invalid."""
        pending = self.end - self.start
        if pending + count > len(self.data):
            self._renew(max(pending + count, SCATTER_BYTES))
        elif self.start:
            self.view[:pending] = self.view[self.start : self.end]
            self.start, self.end = 0, pending
        return self.view[pending : pending + count]

    def append(self, parts: Iterable[memoryview], count: int) -> None:
        """Takes `count` bytes that were received elsewhere. What lies here stays valid for those who look at it."""
        if self.end + count > len(self.data):
            self._renew(max(self.end - self.start + count, SCATTER_BYTES))
        view, end = self.view, self.end
        for part in parts:
            view[end : end + len(part)] = part
            end += len(part)
        self.end = end

    def _renew(self, capacity: int) -> None:
        # A new one, as a bytearray cannot change its size while views of it live.
        old, pending = self.view[self.start : self.end], self.end - self.start
        self.data = bytearray(capacity)
        self.view = memoryview(self.data)
        self.view[:pending] = old
        self.start, self.end = 0, pending

    def space(self, shrink: bool) -> memoryview:
        """Free space, never empty unless it is full and may not grow. What it gave before becomes invalid.

        `shrink`: it may become small again.
        """
        start, end = self.start, self.end
        pending = end - start
        capacity = len(self.data)
        if self._grow:
            capacity = min(capacity * _GROWTH, LARGE_BYTES)
            self._grow = False
        elif shrink and pending < SMALL_BYTES:
            capacity = SMALL_BYTES
        if capacity != len(self.data):
            self._renew(capacity)
        elif start and pending:
            self.view[:pending] = self.view[start:end]
        self.start, self.end = 0, pending
        return self.view[pending:]
