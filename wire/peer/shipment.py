"""Blocks laid out to be sent: the heads of their messages stand, and between them is where the store reads to (BEP 3).

So what goes out is one stretch of memory, read into by one call and sent by another, and nothing is made, cut or joined
for each block. The same memory serves for the next blocks of a peer, once these are on their way: pages that were just
used cost less than new ones. No I/O, and no knowledge of pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

from wire.peer.messages import BLOCK_HEADER, BLOCK_OVERHEAD, PIECE

__all__ = ["Shipment"]


class Shipment:
    """Memory for the answers to several requests at a time; as large as the largest of these needed."""

    __slots__ = ("_lengths", "_memory", "_places", "frames")

    def __init__(self) -> None:
        self._memory = memoryview(bytearray())
        self._lengths: list[int] = []
        self._places: list[memoryview] = []
        self.frames = self._memory
        """The messages, once what `lay` gave is filled. They change with the next `lay`."""

    def lay(self, blocks: Sequence[tuple[int, int, int]]) -> Sequence[memoryview]:
        """Makes ready for these (index, begin, length) each; gives the place of each one's data, in order.

        What lies there before it is filled are other blocks, or zeros.
        """
        lengths = [length for _, _, length in blocks]
        if lengths != self._lengths:  # mostly all are whole, and as many as the last time
            self._divide(lengths)
        frames, pack, head_bytes = self.frames, BLOCK_HEADER.pack_into, BLOCK_HEADER.size
        at = 0
        for index, begin, length in blocks:
            pack(frames, at, BLOCK_OVERHEAD + length, PIECE, index, begin)
            at += head_bytes + length
        return self._places

    def _divide(self, lengths: list[int]) -> None:
        size = sum(lengths) + BLOCK_HEADER.size * len(lengths)
        if size > len(self._memory):
            self._memory = memoryview(bytearray(size))
        self.frames = memory = self._memory[:size]
        self._lengths, self._places = lengths, []
        at = 0
        for length in lengths:
            at += BLOCK_HEADER.size
            self._places.append(memory[at : at + length])
            at += length
