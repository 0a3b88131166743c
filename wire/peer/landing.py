"""Blocks received straight to where they belong: which are due next, and whether what came was these (BEP 3).

A peer answers requests in their order, nearly always. So what it sends next can be told: a header, a block, the next
header, and so on. The kernel then puts each block where its piece is put together, and one comparison of all headers
says that it was so. A block that came in the place of another is carried on as a copy; where the peer said anything
else, what came from there on is read as any stream of bytes is. Those places count as empty still. No I/O, and no
knowledge of pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from wire.peer.messages import BLOCK_BYTES, BLOCK_HEADER, BLOCK_OVERHEAD, PIECE

__all__ = ["FRAME_BYTES", "MAX_LANDING", "Landing", "Stray"]

HEADER_BYTES = BLOCK_HEADER.size
FRAME_BYTES = HEADER_BYTES + BLOCK_BYTES
MAX_LANDING = 128
"""Blocks that one read may bring: 2 MiB, and 257 buffers, far below what systems take at once."""


class Stray(NamedTuple):
    """A block of 16 KiB that came out of turn."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    begin: int
    data: bytes


class Landing:
    """Places for whole blocks of 16 KiB that are due, in the order in which they were asked for."""

    __slots__ = ("_headers", "blocks", "views")

    def __init__(self, blocks: Sequence[tuple[int, int]], views: Sequence[memoryview]) -> None:
        """`blocks`: index and begin of each, at most `MAX_LANDING`; `views`: where its 16 KiB belong."""
        self.blocks = blocks
        self.views = views
        self._headers = memoryview(bytearray(HEADER_BYTES * len(blocks)))

    def buffers(self) -> list[memoryview]:
        """What to receive into."""
        headers = self._headers
        both: list[memoryview] = []
        for at, view in enumerate(self.views):
            both.append(headers[at * HEADER_BYTES : (at + 1) * HEADER_BYTES])
            both.append(view)
        return both

    def landed(self, count: int) -> tuple[list[int], list[Stray], int]:
        """What of the `count` bytes that came is blocks: the places (of `blocks`) that hold what is due there, whole
        blocks that came at the place of another, copied, and how many bytes both are. The rest lies behind these.
        """
        whole = count // FRAME_BYTES
        pack, length = BLOCK_HEADER.pack, BLOCK_OVERHEAD + BLOCK_BYTES
        due = b"".join([pack(length, PIECE, index, begin) for index, begin in self.blocks[:whole]])
        came = self._headers
        if came[: len(due)] == due:
            return list(range(whole)), [], whole * FRAME_BYTES
        places: list[int] = []
        strays: list[Stray] = []
        for place in range(whole):
            at = place * HEADER_BYTES
            if came[at : at + HEADER_BYTES] == due[at : at + HEADER_BYTES]:
                places.append(place)
                continue
            size, kind, index, begin = BLOCK_HEADER.unpack_from(came, at)
            if size != length or kind != PIECE:
                return places, strays, place * FRAME_BYTES
            strays.append(Stray(index, begin, bytes(self.views[place])))
        return places, strays, whole * FRAME_BYTES

    def rest(self, taken: int, count: int) -> Iterator[memoryview]:
        """Of the `count` bytes that came those behind the first `taken`, which are whole frames."""
        left = count - taken
        for at in range(taken // FRAME_BYTES, len(self.blocks)):
            for part in (self._headers[at * HEADER_BYTES : (at + 1) * HEADER_BYTES], self.views[at]):
                if left <= 0:
                    return
                yield part[:left]
                left -= len(part)
