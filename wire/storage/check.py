"""Rechecks pieces on all cores, and skips what cannot be there.

Stretches of pieces are hashed in threads, each reading its own stretch in order. A piece whose files
are missing or too short is not read, nor one that lies in a hole, as most do in a young sparse file.
Where a piece's bytes lie is the caller's knowledge.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import trio

from wire.bitfield import Bitfield
from wire.errors import MetainfoError, WireError
from wire.metainfo import Info
from wire.metainfo.judge import PieceDigest, PieceHashes, judge
from wire.storage.store import Progress

__all__ = ["Checker", "Source", "Sources", "TreeHasher", "check_pieces"]

_BUFFER_BYTES = 1 << 20
"""What is read at once into each thread's buffer: large enough that the calls do not count."""

_STRETCH_BYTES = 16 << 20
"""Checked in one thread hop: some 15 ms, so that a cancelled check ends soon."""


class Source(NamedTuple):
    """Bytes of a piece in a file. `key` says which one; None stands for a pad, all zeros."""

    key: int | None
    offset: int
    length: int


class Sources(Protocol):
    """Where pieces lie, and how to get at them; called from many threads."""

    def sources(self, index: int, begin: int, length: int) -> Iterable[Source]:
        """The places of a part of a piece, in order."""
        ...

    def read(self, key: int, view: memoryview, offset: int) -> bool:
        """Fills `view`; False where the file is not there or ends before. Raises DiskError."""
        ...

    def data_ranges(self, key: int) -> list[tuple[int, int]]:
        """Where the file holds data, as (start, end), ascending."""
        ...


class Checker:
    """Tells of one piece after the other whether it is right, as the files are now."""

    def __init__(self, info: Info, files: Sources, sizes: Mapping[int, int]) -> None:
        """`sizes` has the bytes of each file that is there."""
        self._info = info
        self._files = files
        self._sizes = sizes
        self._ranges: dict[int, tuple[list[int], list[int]]] = {}  # where data start and end
        self._lock = threading.Lock()
        self._zeros: dict[tuple[int, ...], PieceHashes] = {}

    def is_right(self, index: int, buffer: memoryview) -> bool:
        """Whether the piece's bytes have its hash; `buffer` is to read with. Raises DiskError."""
        info = self._info
        size = info.piece_size(index)
        sources = list(self._files.sources(index, 0, size))
        hole = True
        for key, offset, length in sources:
            if key is None:
                continue
            if offset + length > self._sizes.get(key, -1):
                return False
            hole = hole and not self._has_data(key, offset, offset + length)
        if hole:
            return judge(info, index, self._hashes_of_zeros(index, size))
        hashes = _hashes(info, index, self._files, sources, buffer)
        return hashes is not None and judge(info, index, hashes)

    def _has_data(self, key: int, start: int, end: int) -> bool:
        with self._lock:
            if key not in self._ranges:
                ranges = self._files.data_ranges(key)
                self._ranges[key] = ([first for first, _ in ranges], [last for _, last in ranges])
            starts, ends = self._ranges[key]
        at = bisect_right(ends, start)  # the first range that ends after `start`
        return at < len(starts) and starts[at] < end

    def _hashes_of_zeros(self, index: int, size: int) -> PieceHashes:
        tree = self._info.tree_piece(index)
        shape = (size,) if tree is None else (size, tree.size, tree.height)
        known = self._zeros.get(shape)
        if known is None:
            digest = PieceDigest(self._info, index)
            digest.update(bytes(size))
            known = self._zeros[shape] = digest.hashes()
        return known


class TreeHasher:
    """Hashes the pieces of a file whose layer nobody has told (BEP 52), to see whether they give its root."""

    def __init__(self, info: Info, files: Sources) -> None:
        self._info = info
        self._files = files
        self._found: dict[int, bytes] = {}

    def hash(self, index: int, buffer: memoryview) -> bool:
        """One piece, whatever it is; False where it cannot be read."""
        sources = self._files.sources(index, 0, self._info.piece_size(index))
        hashes = _hashes(self._info, index, self._files, sources, buffer)
        if hashes is not None and hashes.root is not None:
            self._found[index] = hashes.root
        return index in self._found

    def settle(self, root: bytes, pieces: Iterable[int]) -> None:
        """Takes the hashes of all pieces as the layer of that root, if they are."""
        with suppress(KeyError, MetainfoError):  # a piece could not be read; the file is another, or damaged
            self._info.layers.add(root, b"".join(self._found[index] for index in pieces))


def _hashes(
    info: Info, index: int, files: Sources, sources: Iterable[Source], buffer: memoryview
) -> PieceHashes | None:
    """What the bytes of a piece hash to; None where some are not there. Raises DiskError."""
    digest = PieceDigest(info, index)
    for key, start, length in sources:
        at, end = start, start + length
        while at < end:
            part = buffer[: min(end - at, len(buffer))]
            if key is None:
                part[:] = bytes(len(part))
            elif not files.read(key, part, at):
                return None
            digest.update(part)
            at += len(part)
    return digest.hashes()


async def check_pieces(
    pieces: Sequence[int],
    piece_count: int,
    piece_length: int,
    is_right: Callable[[int, memoryview], bool],
    progress: Progress | None = None,
) -> Bitfield:
    """Which of `pieces`, in ascending order, are right.

    Args:
        pieces: Those to look at.
        piece_count: Pieces of the torrent, the size of the answer.
        piece_length: Bytes in a piece.
        is_right: Called in a thread with a piece and a buffer of 1 MiB to read it with.
        progress: Called in trio's thread, now and then, with bytes done and in all.

    Raises what `is_right` raises on purpose, the first of it.
    """
    step = max(1, _STRETCH_BYTES // piece_length)
    stretches = iter([pieces[at : at + step] for at in range(0, len(pieces), step)])
    workers = os.cpu_count() or 1
    limiter = trio.CapacityLimiter(workers)
    have = Bitfield(piece_count)
    done = 0

    async def work() -> None:
        nonlocal done
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        for stretch in stretches:
            right = await trio.to_thread.run_sync(_check_stretch, stretch, is_right, buffer, limiter=limiter)
            for index in right:
                have.set(index)
            done += len(stretch)
            if progress is not None:
                progress(done * piece_length, len(pieces) * piece_length)

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(min(workers, -(-len(pieces) // step))):
                nursery.start_soon(work)
    except* WireError as group:
        raise group.exceptions[0] from None
    return have


def _check_stretch(
    stretch: Iterable[int], is_right: Callable[[int, memoryview], bool], buffer: memoryview
) -> list[int]:
    return [index for index in stretch if is_right(index, buffer)]
