"""The port to a torrent's bytes: what a swarm asks of a store, and a store in memory.

A store is the border where a piece becomes verified: what it says it has was hashed and found right.
The store on disk is in `wire.storage.disk`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from wire.bitfield import Bitfield
from wire.errors import DiskError, MetainfoError, MisuseError
from wire.metainfo import Info
from wire.metainfo.judge import is_right, leaves_if_right

__all__ = ["Changed", "MemoryStore", "Outcome", "Progress", "Store", "whole_files"]

Progress = Callable[[int, int], None]
"""Called with bytes checked so far and bytes to check in all."""


Outcome = bool | DiskError | MetainfoError
"""What became of a piece that was to be stored: right and kept, wrong, or why that cannot be said."""


class Changed(NamedTuple):
    """Somebody else changed files: which pieces that were had are not right any more, and what to tell people."""

    pieces: list[int]
    error: DiskError


class Store(Protocol):
    """Where the pieces of one torrent lie. One task may be in `load`; any number in `put` and `read_into` after it."""

    @property
    def info(self) -> Info:
        """The torrent."""
        ...

    async def load(self, progress: Progress | None = None) -> Bitfield:
        """Finds out which pieces are there and right; comes first. The bitfield is the caller's. Raises DiskError."""
        ...

    async def put(self, index: int, data: memoryview | bytearray | bytes) -> bool:
        """Hashes a whole piece and, if it is right, keeps it. False: wrong hash or size, nothing was written.

        `data` must not change meanwhile. Raises DiskError; the piece is then not there. Raises MetainfoError where
        the two versions of a hybrid torrent contradict each other about it.
        """
        ...

    async def put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[Outcome]:
        """As `put` for each, in one go: what it would return or, where it would raise, that error. No piece twice."""
        ...

    async def read_into(self, requests: Sequence[tuple[int, int, int]], views: Sequence[memoryview]) -> None:
        """Reads the bytes of each (piece, offset in it, length) to its view, which is as long; perhaps without waiting.

        Raises MisuseError where the store has not that piece or the range leaves it, and DiskError.
        """
        ...

    async def lost(self) -> Changed | None:
        """To be asked after each `put_many` and `read_into`: what was found to be right no more, once; mostly None."""
        ...

    async def recheck(self, pieces: Sequence[int]) -> list[int]:
        """Which of these pieces, ascending, were there all along: their hashes are known only now (BEP 52).

        Raises DiskError.
        """
        ...

    async def leaves(self, index: int) -> bytes | None:
        """The hashes of the blocks of a piece of version 2 that is there, 32 bytes each, end to end (BEP 52).

        None where its bytes are not right any more. Raises MisuseError where the store has not that piece, and
        DiskError.
        """
        ...

    async def aclose(self) -> None:
        """Saves what is to be remembered and lets go of the files. May be called twice."""
        ...


class MemoryStore:
    """A store without disk or threads, for tests and simulations."""

    def __init__(self, info: Info, data: bytes | None = None) -> None:
        """Starts with `data`, all pieces laid end to end (of which `load` believes what is right), or empty.

        Raises MisuseError where `data` has another size than the pieces.
        """
        if data is not None and len(data) != info.size:
            raise MisuseError(f"the torrent has {info.size} bytes, not {len(data)}")
        self.info = info
        self.data = bytearray(info.size if data is None else data)
        """All pieces laid end to end, pads included; zeros where nothing is."""
        self._have = Bitfield(info.piece_count)
        self._check_first = self._began_with_data = data is not None

    async def load(self, progress: Progress | None = None) -> Bitfield:
        """See `Store.load`."""
        if self._check_first:
            self._check_first = False
            for index in range(self.info.piece_count):
                if is_right(self.info, index, self._piece(index)):
                    self._have.set(index)
                if progress is not None:
                    progress(index * self.info.piece_length + self.info.piece_size(index), self.info.size)
        return self._have.copy()

    async def put(self, index: int, data: memoryview | bytearray | bytes) -> bool:
        """See `Store.put`."""
        if not is_right(self.info, index, data):
            return False
        start = index * self.info.piece_length
        self.data[start : start + len(data)] = data
        self._have.set(index)
        return True

    async def put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[Outcome]:
        """See `Store.put_many`."""
        outcomes: list[Outcome] = []
        for index, data in pieces:
            try:
                outcomes.append(await self.put(index, data))
            except (DiskError, MetainfoError) as error:
                outcomes.append(error)
        return outcomes

    async def read_into(self, requests: Sequence[tuple[int, int, int]], views: Sequence[memoryview]) -> None:
        """See `Store.read_into`."""
        for index, begin, length in requests:
            check_request(self.info, self._have, index, begin, length)
        for (index, begin, length), view in zip(requests, views, strict=True):
            start = index * self.info.piece_length + begin
            view[:] = self.data[start : start + length].ljust(length, b"\0")

    async def lost(self) -> Changed | None:
        """See `Store.lost`: nobody else has this memory."""
        return None

    async def recheck(self, pieces: Sequence[int]) -> list[int]:
        """See `Store.recheck`."""
        found = [index for index in pieces if self._began_with_data and is_right(self.info, index, self._piece(index))]
        for index in found:
            self._have.set(index)
        return found

    async def leaves(self, index: int) -> bytes | None:
        """See `Store.leaves`."""
        check_request(self.info, self._have, index, 0, self.info.piece_size(index))
        return leaves_if_right(self.info, index, [self._piece(index)])

    def _piece(self, index: int) -> memoryview:
        start = index * self.info.piece_length
        return memoryview(self.data)[start : start + self.info.piece_size(index)]

    async def aclose(self) -> None:
        """See `Store.aclose`; the data stay."""


def whole_files(info: Info, have: Bitfield) -> tuple[bool, ...]:
    """For each file entry, whether all pieces that hold bytes of it are in `have`."""
    return tuple(all(have[piece] for piece in info.layout.pieces_of(index)) for index in range(len(info.files)))


def check_request(info: Info, have: Bitfield, index: int, begin: int, length: int) -> None:
    """Raises MisuseError unless the bytes are within a piece that is had."""
    if not 0 <= index < have.size or not have[index]:
        raise MisuseError(f"piece {index} is not there to be read")
    if not info.may_be_asked(index, begin, length):
        raise MisuseError(f"bytes {begin} to {begin + length} leave piece {index} of {info.piece_size(index)}")
