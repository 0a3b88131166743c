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

    __slots__ = ("_memory", "frames")

    def __init__(self) -> None:
        self._memory = memoryview(bytearray())
        self.frames = self._memory
        """The messages, once what `lay` gave is filled. They change with the next `lay`."""

    def lay(self, blocks: Sequence[tuple[int, int, int]]) -> list[memoryview]:
        """Makes ready for these (index, begin, length) each; gives the place of each one's data, in order.

        What lies there before it is filled are other blocks, or zeros.
        """
        size = sum([length for _, _, length in blocks]) + BLOCK_HEADER.size * len(blocks)
        if size > len(self._memory):
            self._memory = memoryview(bytearray(size))
        memory, pack, head_bytes = self._memory, BLOCK_HEADER.pack_into, BLOCK_HEADER.size
        places: list[memoryview] = []
        at = 0
        for index, begin, length in blocks:
            pack(memory, at, BLOCK_OVERHEAD + length, PIECE, index, begin)
            at += head_bytes
            places.append(memory[at : at + length])
            at += length
        self.frames = memory[:at]
        return places
