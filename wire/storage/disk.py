"""A torrent's pieces in files: written whole and verified, read in batches, remembered between runs (BEP 3, BEP 47).

Each call is one hop into a thread of a small pool of its own, where hashing, reading and writing let go
of the interpreter's lock. Where bytes lie is in `places`, how files are opened without ever leaving the
folder in `pool`, what is remembered in `resume`, how pieces are rechecked in `check`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import trio

from wire.bitfield import Bitfield
from wire.errors import DiskError, MetainfoError, MisuseError
from wire.metainfo import Info
from wire.metainfo.judge import is_right, leaves_if_right
from wire.net import Buffer
from wire.storage.check import Checker, TreeHasher, check_pieces
from wire.storage.places import Places
from wire.storage.pool import disk_error
from wire.storage.raw import write_all
from wire.storage.resume import PARTS, Remembered, Stamp, begun_record, pieces_record, replay, snapshot
from wire.storage.store import Outcome, Progress, check_request

__all__ = ["DiskStore"]

_THREADS = max(2, min(4, os.cpu_count() or 1))
"""Hops at a time: hashing wants a core each, a disk wants few that wait for it."""

_LEAVES_BYTES = 1 << 20
"""Of a piece that is read at once to hash its blocks."""

_MAX_RESUME_BYTES = 256 << 20
"""Of a resume file that is read: two million pieces of the largest torrent, each with its record, fit."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_Result = TypeVar("_Result")

_Written = tuple[range, list[int]]
"""Neighbouring pieces, and the keys of the files that they were written to."""


class DiskStore:
    """A `Store` below a folder."""

    def __init__(
        self,
        info: Info,
        root: Path,
        *,
        resume: Path | None = None,
        wanted: Sequence[bool] | None = None,
        read_only: bool = False,
        preallocate: bool = False,
    ) -> None:
        """Nothing is touched before `load`.

        Args:
            info: The torrent; of version 2, with the piece layers that are known (`Info.layers`).
            root: The folder of the download; the torrent's own folder or file comes to lie in it.
            resume: Where to remember what was verified; None rechecks everything each time.
            wanted: For each file entry, whether it is to be written; None wants all. A wanted piece that holds
                bytes of another file is kept whole in a file beside `resume` (or, hidden, in `root`).
            read_only: Nothing is made, changed or remembered, as for checking; `put` is misuse then.
            preallocate: `load` sets the room of all wanted files aside, so that a disk without it says so at the start;
                otherwise files grow as their pieces come, with holes where disks can.

        Raises:
            MisuseError: `wanted` is not as long as the list of files.
        """
        files = len(info.files)
        if wanted is not None and len(wanted) != files:
            raise MisuseError(f"the torrent has {files} files, not {len(wanted)}")
        self.info = info
        self._read_only = read_only
        self._preallocate = preallocate
        self._root = Path(os.path.abspath(root))
        self._resume = None if resume is None else Path(os.path.abspath(resume))
        if self._resume is None:
            parts = self._root / f".{info.info_hash}.parts"
        else:
            parts = self._resume.with_name(self._resume.name + ".parts")
        if wanted is None:
            self._wanted = Bitfield.full(files)
        else:
            self._wanted = Bitfield.of(files, [index for index, is_wanted in enumerate(wanted) if is_wanted])
        self._places = Places(info, self._root, parts, self._wanted)
        self._have = Bitfield(info.piece_count)
        self._stamps: dict[int, Stamp] = {}
        self._lock = threading.Lock()  # threads share the stamps and the journal
        self._journal: int | None = None
        self._journal_end = 0
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._closed = False

    async def load(self, progress: Progress | None = None) -> Bitfield:
        """See `Store.load`: believes what is remembered and unchanged, rechecks the rest on all cores."""
        believed, suspects = await self._hop(self._survey)
        if self.info.info_hash.v1 is None:
            await self._learn()
        checker = Checker(self.info, self._places, self._usable_sizes())
        found = await check_pieces(
            self._judgeable(suspects), suspects.size, self.info.piece_length, checker.is_right, progress
        )
        self._have = believed | found
        if not self._read_only:
            await self._hop(self._begin)
        return self._have.copy()

    async def put(self, index: int, data: memoryview | bytearray | bytes) -> bool:
        """See `Store.put`."""
        (outcome,) = await self.put_many([(index, memoryview(data))])
        if isinstance(outcome, bool):
            return outcome
        raise outcome

    async def put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[Outcome]:
        """See `Store.put_many`: hashed, written and remembered in one thread hop for all."""
        if self._read_only or self._closed:
            raise MisuseError("this store is not open for writing")
        outcomes = await self._hop(self._put_many, pieces)
        self._have.update([index for (index, _), right in zip(pieces, outcomes, strict=True) if right is True])
        return outcomes

    async def read_many(self, requests: Sequence[tuple[int, int, int]]) -> list[Buffer]:
        """See `Store.read_many`: one thread hop for all, one read for those that follow each other."""
        stretches = _stretches(requests)
        for index, begin, lengths in stretches:
            check_request(self.info, self._have, index, begin, sum(lengths))
        return await self._hop(self._read_many, stretches)

    async def recheck(self, pieces: Sequence[int]) -> list[int]:
        """See `Store.recheck`: files as they were when `load` looked at them."""
        checker = Checker(self.info, self._places, self._usable_sizes())
        found = await check_pieces(pieces, self.info.piece_count, self.info.piece_length, checker.is_right)
        right = list(found.indices())
        if right:
            self._have |= found
            await self._hop(self._note_found, right)
        return right

    async def leaves(self, index: int) -> bytes | None:
        """See `Store.leaves`: one thread hop, a megabyte at a time."""
        size = self.info.piece_size(index)
        check_request(self.info, self._have, index, 0, size)
        return await self._hop(self._leaves, index, size)

    async def aclose(self) -> None:
        """See `Store.aclose`. Runs to its end even when cancelled."""
        if not self._closed:
            self._closed = True
            with trio.CancelScope(shield=True):
                await self._hop(self._close)

    async def _hop(self, work: Callable[..., _Result], *args: object) -> _Result:
        return await trio.to_thread.run_sync(work, *args, limiter=self._limiter)

    async def _learn(self) -> None:
        """Finds piece layers of version 2 that are not known from files that are there whole (BEP 52)."""
        info, sizes = self.info, self._usable_sizes()
        missing = set(info.layers.missing())
        for index, entry in enumerate(info.files):
            root = entry.pieces_root
            if root not in missing or root is None or sizes.get(index) != entry.size:
                continue
            missing.remove(root)
            hasher = TreeHasher(info, self._places)
            pieces = info.layout.pieces_of(index)
            await check_pieces(list(pieces), info.piece_count, info.piece_length, hasher.hash)
            hasher.settle(root, pieces)

    def _judgeable(self, pieces: Bitfield) -> list[int]:
        """Those whose hash is known; `recheck` looks at the others when theirs is."""
        info = self.info
        if info.info_hash.v1 is not None or info.layers.complete:
            return list(pieces.indices())
        return [index for index in pieces.indices() if (tree := info.tree_piece(index)) is not None and tree.hash]

    # What follows runs in threads.

    def _survey(self) -> tuple[Bitfield, Bitfield]:
        """Looks at the files: which pieces may be believed, and which must be hashed."""
        self._stamps = self._places.stamps()
        remembered = self._recall()
        if remembered is None:
            return Bitfield(self.info.piece_count), Bitfield.full(self.info.piece_count)
        suspects = remembered.begun
        for index in range(len(self.info.files)):
            if self._stamps.get(index) != remembered.stamps.get(index):
                for piece in self.info.layout.pieces_of(index):
                    suspects.set(piece)
        if self._stamps.get(PARTS) != remembered.stamps.get(PARTS) or self._wanted != remembered.wanted:
            suspects |= self._places.mixed(self._wanted) | self._places.mixed(remembered.wanted)
        return remembered.have - suspects, suspects

    def _usable_sizes(self) -> dict[int, int]:
        """Bytes of each file; of one longer than it should be, the last is not counted, so that its end is written
        again, and the rest cut off."""
        return {
            key: stamp.size if key == PARTS or stamp.size <= (size := self.info.files[key].size) else size - 1
            for key, stamp in self._stamps.items()
        }

    def _recall(self) -> Remembered | None:
        """What is remembered, if it is about this folder and nothing can have been lost since."""
        if self._resume is None:
            return None
        try:
            with self._resume.open("rb") as file:
                data = file.read(_MAX_RESUME_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error("read", self._resume, error) from error
        remembered = replay(data, self.info)
        if remembered is None or remembered.root != str(self._root):
            return None
        # Killed, but the machine ran on: every write arrived. After a crash of the machine some may not have.
        if not remembered.clean and (not remembered.boot or remembered.boot != _boot()):
            return None
        return remembered

    def _begin(self) -> None:
        """Makes what must be there before the first piece: the folder, empty files, the journal."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error("make the folder", self._root, error) from error
        for index, entry in enumerate(self.info.files):
            if entry.on_disk and not entry.size and self._wanted[index]:
                self._places.write(index, memoryview(b""), 0)
            elif entry.on_disk and self._preallocate and self._wanted[index]:
                self._allocate(index)
        self._places.make_links()
        if self._resume is not None:
            self._remember(self._resume, clean=False)
            flags = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            try:
                self._journal = os.open(self._resume, flags)
            except OSError as error:
                raise disk_error("write", self._resume, error) from error
        # Kept whole when a file of theirs was not wanted; now it is, or a file is gone.
        for piece in self._places.kept_whole:
            data = None if self._have[piece] else self._places.read_kept(piece)
            if data is not None and self._put_many([(piece, memoryview(data))]) == [True]:
                self._have.set(piece)

    def _leaves(self, index: int, size: int) -> bytes | None:
        steps = range(0, size, _LEAVES_BYTES)
        read = self._places.read_block
        return leaves_if_right(self.info, index, (read(index, at, min(_LEAVES_BYTES, size - at)) for at in steps))

    def _note_found(self, pieces: Sequence[int]) -> None:
        file_at, length = self.info.layout.file_at, self.info.piece_length  # of version 2: each is in one file
        self._note([(range(index, index + 1), [file_at(index * length)]) for index in pieces])

    def _allocate(self, index: int) -> None:
        if all(self._have[piece] for piece in self.info.layout.pieces_of(index)):
            return
        self._places.allocate(index)
        if (stamp := self._places.stamp(index)) is not None:
            self._stamps[index] = stamp

    def _read_many(self, stretches: Sequence[tuple[int, int, list[int]]]) -> list[Buffer]:
        blocks: list[Buffer] = []
        for index, begin, lengths in stretches:
            data = self._places.read_block(index, begin, sum(lengths))
            if len(lengths) == 1:
                blocks.append(data)
                continue
            view, at = memoryview(data), 0
            for length in lengths:
                blocks.append(view[at : at + length])
                at += length
        return blocks

    def _put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        right: dict[int, memoryview] = {}
        for index, data in pieces:
            try:
                outcomes[index] = is_right(self.info, index, data)
                if outcomes[index]:
                    right[index] = data
            except MetainfoError as error:
                outcomes[index] = error
        runs = list(_runs(sorted(right)))
        written: list[_Written] = []
        with self._lock, suppress(DiskError):  # a disk that takes no more says so when it comes to their bytes
            self._append(b"".join(map(begun_record, runs)))
        for run in runs:
            written += self._write(run, right, outcomes)
        try:
            self._note(written)
        except DiskError as error:
            for run, _ in written:
                outcomes.update(dict.fromkeys(run, error))
        return [outcomes[index] for index, _ in pieces]

    def _write(self, run: range, data: Mapping[int, memoryview], outcomes: dict[int, Outcome]) -> list[_Written]:
        """Writes neighbouring pieces, in one go where it can be; puts into `outcomes` what went wrong with which."""
        if len(run) > 1:
            with suppress(DiskError):  # which of them the disk takes is seen one by one
                keys = self._places.write_run(run.start, [data[index] for index in run])
                if keys is not None:
                    return [(run, keys)]
        written: list[_Written] = []
        for index in run:
            try:
                written.append((range(index, index + 1), self._places.write_piece(index, data[index])))
            except DiskError as error:
                outcomes[index] = error
        return written

    def _note(self, written: Sequence[_Written]) -> None:
        """Remembers pieces that were written, and what the files that they lie in look like now."""
        with self._lock:  # so that of two records of one file the later one has the later stamp
            touched = {key for _, keys in written for key in keys}
            stamps = {key: stamp for key in sorted(touched) if (stamp := self._places.stamp(key)) is not None}
            self._stamps.update(stamps)
            records = [
                pieces_record(run, [(key, stamps[key]) for key in keys if key in stamps]) for run, keys in written
            ]
            self._append(b"".join(records))

    def _append(self, record: bytes) -> None:
        """Adds to the journal; a record that a full disk tore is written over by the next."""
        if record and self._journal is not None and self._resume is not None:
            try:
                write_all(self._journal, memoryview(record), self._journal_end)
            except OSError as error:
                raise disk_error("write", self._resume, error) from error
            self._journal_end += len(record)

    def _remember(self, resume: Path, *, clean: bool) -> None:
        """Replaces the resume file by a snapshot, so that at every moment one or the other is whole."""
        begun = Bitfield(self.info.piece_count)
        remembered = Remembered(str(self._root), _boot(), clean, self._have, self._wanted, self._stamps, begun)
        data = snapshot(self.info, remembered)
        aside = resume.with_name(f"{resume.name}.{os.getpid()}.new")
        try:
            resume.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            os.replace(aside, resume)
        except OSError as error:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise disk_error("write", resume, error) from error
        self._journal_end = len(data)

    def _close(self) -> None:
        if self._journal is not None and self._resume is not None:
            os.close(self._journal)
            self._journal = None
            with suppress(DiskError):  # a full disk, say: the journal says the same, if less shortly
                self._remember(self._resume, clean=True)
        self._places.close()
        if self._have.all and self._wanted.all and not self._read_only:
            with suppress(OSError):
                self._places.path(PARTS).unlink(missing_ok=True)


def _stretches(requests: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, list[int]]]:
    """Requests that follow each other in a piece, as one: its index, where it begins, and the lengths of each."""
    joined: list[tuple[int, int, list[int]]] = []
    piece, end = -1, 0
    for index, begin, length in requests:
        if index == piece and begin == end:
            joined[-1][2].append(length)
        else:
            joined.append((index, begin, [length]))
            piece, end = index, begin
        end += length
    return joined


def _runs(indices: Sequence[int]) -> Iterator[range]:
    """Ascending indices as ranges of neighbours."""
    start = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1:
            yield range(indices[start], indices[end - 1] + 1)
            start = end


def _boot() -> str:
    """Names this run of the machine; empty where the system has no name for it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
