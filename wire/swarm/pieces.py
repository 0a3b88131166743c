"""One piece on its way: its buffer, and the state of each of its blocks. A value; `requests` keeps its rules."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from wire.peer.messages import BLOCK_BYTES

if TYPE_CHECKING:
    from wire.swarm.source import Source

__all__ = ["PIECE_OF", "BlockId", "OpenPiece", "PieceJob"]

BlockId = tuple[int, int, int]
"""Index, begin, length."""
PIECE_OF: Callable[[BlockId], int] = itemgetter(0)


class PieceJob(NamedTuple):
    """A whole piece, to be hashed and stored; then `Swarm.piece_stored`. `data` must not be used after that."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    data: memoryview


class OpenPiece:
    """A piece on its way: its buffer, and the state of each of its blocks."""

    __slots__ = (
        "alone",
        "buffer",
        "doubled",
        "free",
        "given",
        "index",
        "left",
        "loose",
        "orphan",
        "owner",
        "size",
        "view",
    )

    def __init__(self, index: int, size: int, *, alone: bool) -> None:
        self.index = index
        self.size = size
        self.alone = alone
        """Only its owner may give blocks."""
        self.owner: Source | None = None
        self.loose = False
        """Anybody may take of its free blocks; kept by the ledger, as the next."""
        self.orphan = False
        """It has free blocks and is nobody's own."""
        self.buffer: memoryview | None = None
        self.view: memoryview | None = None
        self.doubled: dict[int, list[Source]] = {}
        """Blocks asked of several, and of whom."""
        self.free: list[int]
        self.given: list[Source | None]
        self.left: int
        self.reset()

    def reset(self) -> None:
        if self.size <= BLOCK_BYTES:
            self.free, self.given, self.left = [0], [None], 1
            return
        self.left = blocks = -(-self.size // BLOCK_BYTES)
        self.free = list(range(blocks - 1, -1, -1))
        self.given = [None] * blocks

    def block(self, number: int) -> BlockId:
        begin = number * BLOCK_BYTES
        return self.index, begin, min(BLOCK_BYTES, self.size - begin)
