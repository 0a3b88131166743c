"""A torrent's pieces in files: written whole and verified, read in batches, remembered between runs (BEP 3, BEP 47).

Each call is one hop into a thread of a small pool of its own, where hashing, reading and writing let go
of the interpreter's lock. Where bytes lie is in `places`, how files are opened without ever leaving the
folder in `pool`, what is remembered in `resume`, how pieces are rechecked in `check`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import trio

from wire.bitfield import Bitfield
from wire.errors import DiskError, MetainfoError, MisuseError
from wire.metainfo import Info
from wire.metainfo.judge import is_right, leaves_if_right
from wire.storage.check import Checker, TreeHasher, check_pieces
from wire.storage.journal import Journal, boot
from wire.storage.places import Places
from wire.storage.pool import disk_error
from wire.storage.resume import PARTS, Remembered, begun_record, pieces_record
from wire.storage.runs import Stretch, runs_of, stretches_of
from wire.storage.store import Changed, Outcome, Progress, check_request
from wire.storage.watch import Watch

__all__ = ["DiskStore"]

_THREADS = max(2, min(4, os.cpu_count() or 1))
"""Hops at a time: hashing wants a core each, a disk wants few that wait for it."""

_LEAVES_BYTES = 1 << 20
"""Of a piece that is read at once to hash its blocks."""

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
        self._watch = Watch(self._places.name)
        self._checking = trio.Lock()
        self._hashing: set[int] = set()
        """Files that were changed and whose pieces are hashed just now, or were when that was cancelled."""
        self._lost: set[int] = set()
        """Pieces that were had, and are not right any more."""
        self._needed = Bitfield(info.piece_count)
        """The pieces of wanted files."""
        self._seen_whole = False
        self._journal = Journal(self._resume, info)
        self._writing = threading.Lock()
        """Held from before the first byte of a batch to after its record, as the stamps are only right then."""
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._closed = False

    async def load(self, progress: Progress | None = None) -> Bitfield:
        """See `Store.load`: believes what is remembered and unchanged, rechecks the rest on all cores."""
        believed, suspects = await self._hop(self._survey)
        if self.info.info_hash.v1 is None:
            await self._learn()
        checker = Checker(self.info, self._places, self._places.usable_sizes(self._watch.stamps))
        found = await check_pieces(
            self._judgeable(suspects), suspects.size, self.info.piece_length, checker.is_right, progress
        )
        self._have = believed | found
        self._needed = self._places.pieces_of(
            index for index, entry in enumerate(self.info.files) if entry.on_disk and self._wanted[index]
        )
        self._seen_whole = self._is_whole()
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
        right = [index for (index, _), outcome in zip(pieces, outcomes, strict=True) if outcome is True]
        self._have.update(right)
        self._lost.difference_update(right)
        return outcomes

    async def lost(self) -> Changed | None:
        """See `Store.lost`: looks at all files once they are whole, hashes what lies in those that were changed."""
        if not (self._watch.changed or self._hashing) and (self._seen_whole or not self._is_whole()):
            return None
        async with self._checking:  # whoever asks meanwhile has read from files that are not to be trusted yet
            if not self._seen_whole and self._is_whole():
                self._seen_whole = True
                await self._hop(self._look_at_all)
            return await self._hash_changed() if self._watch.changed else None

    async def _hash_changed(self) -> Changed | None:
        keys = await self._hop(self._take_changed)
        error = DiskError(f"{self._places.path(min(keys))} was changed by somebody else")
        suspects = [
            index for index in self._places.pieces_of(keys).indices() if self._have[index] and index not in self._lost
        ]
        found = Bitfield(self.info.piece_count)
        try:
            checker = Checker(self.info, self._places, self._places.usable_sizes(self._watch.stamps))
            found = await check_pieces(suspects, self.info.piece_count, self.info.piece_length, checker.is_right)
        except DiskError as why:
            error = why
        lost = [index for index in suspects if not found[index]]
        self._lost.update(lost)
        if lost:
            self._seen_whole = False
        else:
            self._watch.in_vain()
        if not self._read_only:
            await self._hop(self._note_found, list(found.indices()))
        self._hashing -= keys
        return Changed(lost, error) if lost else None

    async def read_into(self, requests: Sequence[tuple[int, int, int]], views: Sequence[memoryview]) -> None:
        """See `Store.read_into`: one read for those that follow each other; at once where the system has them all in
        memory, which takes a tenth of a millisecond for a megabyte, else by one thread hop for all."""
        stretches = stretches_of(requests, views)
        for index, begin, some in stretches:
            check_request(self.info, self._have, index, begin, sum(map(len, some)))
        if not self._read_cached(stretches):
            await self._hop(self._read, stretches)

    async def recheck(self, pieces: Sequence[int]) -> list[int]:
        """See `Store.recheck`: files as they were when `load` looked at them."""
        checker = Checker(self.info, self._places, self._places.usable_sizes(self._watch.stamps))
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

    def _is_whole(self) -> bool:
        return not self._lost and not (self._needed - self._have).count

    async def _learn(self) -> None:
        """Finds piece layers of version 2 that are not known from files that are there whole (BEP 52)."""
        info, sizes = self.info, self._places.usable_sizes(self._watch.stamps)
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

    def _read_cached(self, stretches: Sequence[Stretch]) -> bool:
        """As `_read`, in the event loop: False where it would wait, or somebody changed what was read."""
        if not all(self._places.fill_cached(*stretch) for stretch in stretches):
            return False
        if not self._writing.acquire(blocking=False):  # who writes looks
            return True
        try:
            return not self._watch.sees_news(self._places.ends_of(stretches))
        finally:
            self._writing.release()

    # What follows runs in threads.

    def _survey(self) -> tuple[Bitfield, Bitfield]:
        """Looks at the files: which pieces may be believed, and which must be hashed."""
        self._watch.stamps = self._places.stamps()
        remembered = self._journal.recall(self._root)
        if remembered is None:
            return Bitfield(self.info.piece_count), Bitfield.full(self.info.piece_count)
        suspects = remembered.begun
        for index in range(len(self.info.files)):
            if self._watch.stamps.get(index) != remembered.stamps.get(index):
                for piece in self.info.layout.pieces_of(index):
                    suspects.set(piece)
        if self._watch.stamps.get(PARTS) != remembered.stamps.get(PARTS) or self._wanted != remembered.wanted:
            suspects |= self._places.mixed(self._wanted) | self._places.mixed(remembered.wanted)
        return remembered.have - suspects, suspects

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
        self._journal.begin(self._remembered(clean=False))
        # Kept whole when a file of theirs was not wanted; now it is, or a file is gone.
        for piece in self._places.kept_whole:
            data = None if self._have[piece] else self._places.read_kept(piece)
            if data is not None and self._put_many([(piece, memoryview(data))]) == [True]:
                self._have.set(piece)

    def _leaves(self, index: int, size: int) -> bytes | None:
        steps = range(0, size, _LEAVES_BYTES)

        def read(at: int) -> memoryview:
            part = memoryview(bytearray(min(_LEAVES_BYTES, size - at)))
            self._places.fill(index, at, [part])
            return part

        return leaves_if_right(self.info, index, map(read, steps))

    def _note_found(self, pieces: Sequence[int]) -> None:
        with self._writing:
            self._note([(run, self._places.files_of(run)) for run in runs_of(pieces)])

    def _look(self, keys: Iterable[int]) -> None:
        self._mistrust(self._watch.look(keys))

    def _mistrust(self, changed: set[int]) -> None:
        """Somebody else changed these files: what is in them is believed no more, nor after a kill."""
        if changed:
            self._places.forget(changed)
            pieces = list(self._places.pieces_of(changed).indices())
            with suppress(DiskError):
                self._journal.add(b"".join(map(begun_record, runs_of(pieces))))

    def _look_at_all(self) -> None:
        with self._writing:
            self._look(list(self._watch.stamps))

    def _take_changed(self) -> set[int]:
        """The files to be hashed; what changes from now on is news."""
        with self._writing:
            keys = set(self._watch.changed)
            self._watch.changed.clear()
            self._hashing |= keys
            self._restamp(keys)
            return keys

    def _restamp(self, keys: Iterable[int]) -> None:
        for key in keys:
            stamp = None
            with suppress(DiskError):  # a link: who opens it is told
                stamp = self._places.stamp(key)
            if stamp is None:
                self._watch.stamps.pop(key, None)
            else:
                self._watch.stamps[key] = stamp

    def _allocate(self, index: int) -> None:
        if all(self._have[piece] for piece in self.info.layout.pieces_of(index)):
            return
        self._places.allocate(index)
        if (stamp := self._places.stamp(index)) is not None:
            self._watch.stamps[index] = stamp

    def _read(self, stretches: Sequence[Stretch]) -> None:
        for stretch in stretches:
            self._places.fill(*stretch)
        if self._writing.acquire(blocking=False):  # else who writes looks
            try:
                self._look(self._places.ends_of(stretches))
            finally:
                self._writing.release()

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
        if right:
            with self._writing:
                self._write_runs(list(runs_of(sorted(right))), right, outcomes)
        return [outcomes[index] for index, _ in pieces]

    def _write_runs(self, runs: list[range], data: Mapping[int, memoryview], outcomes: dict[int, Outcome]) -> None:
        written: list[_Written] = []
        with suppress(DiskError):  # a disk that takes no more says so when it comes to their bytes
            self._journal.add(b"".join(map(begun_record, runs)))
        for run in runs:
            files = self._places.files_of(run)
            self._look(files)
            written += self._write(run, data, outcomes)
            self._restamp(files)
            self._mistrust(self._watch.cut(files))
        try:
            self._note(written)
        except DiskError as error:
            for run, _ in written:
                outcomes.update(dict.fromkeys(run, error))

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
        """Remembers pieces that were written, and what the files that they lie in looked like right after."""
        stamps = self._watch.stamps
        records = [pieces_record(run, [(key, stamps[key]) for key in keys if key in stamps]) for run, keys in written]
        self._journal.add(b"".join(records))

    def _remembered(self, *, clean: bool) -> Remembered:
        count = self.info.piece_count
        have = self._have - Bitfield.of(count, self._lost)
        doubtful = self._watch.changed | self._hashing
        stamps = {key: stamp for key, stamp in self._watch.stamps.items() if key not in doubtful}
        return Remembered(str(self._root), boot(), clean, have, self._wanted, stamps, Bitfield(count))

    def _close(self) -> None:
        self._journal.end(self._remembered(clean=True))
        self._places.close()
        if self._have.all and not self._lost and self._wanted.all and not self._read_only:
            with suppress(OSError):
                self._places.path(PARTS).unlink(missing_ok=True)
