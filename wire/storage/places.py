"""Where each byte of each piece lies on disk: in a wanted file, in the parts file, or, for a pad, nowhere.

A piece that holds bytes of a file that is not wanted is also kept whole in the parts file, in a slot
that names its piece, so that nothing else must be remembered to find it. Blocking; for many threads.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from wire.bitfield import Bitfield
from wire.errors import DiskError
from wire.metainfo import Info
from wire.storage.check import Source
from wire.storage.pool import FilePool, Place, disk_error
from wire.storage.raw import allocate, data_ranges, read_into, read_views, write_all, write_views
from wire.storage.resume import PARTS, Stamp
from wire.storage.runs import Stretch, cut

__all__ = ["Places"]

_SLOT = struct.Struct(">II")  # before each piece in the parts file: its index, and that one's checksum
_SLOT_SALT = b"a piece kept whole"
"""Goes into the checksum: a header that a crash tore, or zeros, must not name a piece."""


class Places:
    """The files of one torrent, by the index of their entry; `PARTS` is the key of the parts file."""

    def __init__(self, info: Info, root: Path, parts: Path, wanted: Bitfield) -> None:
        self.info = info
        self._wanted = wanted
        self._files = FilePool(root)
        self._file_places = [
            Place(entry.path, entry.size, 0o777 if entry.executable else 0o666) for entry in info.files
        ]
        self._parts = FilePool(parts.parent)
        self._parts_place = Place((parts.name,), 1 << 62)
        self._slots: dict[int, int] = {}
        self._next_slot = 0
        self._lock = threading.Lock()

    @property
    def kept_whole(self) -> list[int]:
        """The pieces in the parts file, ascending."""
        return sorted(self._slots)

    def path(self, key: int) -> Path:
        """Where the file is."""
        pool, place = self._place(key)
        return pool.path(place)

    def name(self, key: int) -> str:
        """The same for the system: a `Path` for each look at a file costs more than the look."""
        pool, place = self._place(key)
        return pool.name(place)

    def mixed(self, wanted: Bitfield) -> Bitfield:
        """The pieces that hold bytes of a file outside `wanted`."""
        pieces = Bitfield(self.info.piece_count)
        for file_index, entry in enumerate(self.info.files):
            if entry.on_disk and not wanted[file_index]:
                for piece in self.info.layout.pieces_of(file_index):
                    pieces.set(piece)
        return pieces

    def pieces_of(self, keys: Iterable[int]) -> Bitfield:
        """The pieces that lie in these files."""
        pieces = Bitfield(self.info.piece_count)
        for key in keys:
            if key == PARTS:
                pieces |= self.mixed(self._wanted)
            else:
                pieces.update(list(self.info.layout.pieces_of(key)))
        return pieces

    def files_of(self, run: range) -> list[int]:
        """The keys of the files that neighbouring pieces lie in."""
        length = self.info.piece_length
        size = (len(run) - 1) * length + self.info.piece_size(run[-1])
        files = [index for index, _, _ in self.info.spans(run.start * length, size) if not self.info.files[index].pad]
        wanted = [index for index in files if self._wanted[index]]
        return wanted if len(wanted) == len(files) else [*wanted, PARTS]

    def ends_of(self, stretches: Sequence[Stretch]) -> set[int]:
        """The files that these begin and end in."""
        file_at, length = self.info.layout.file_at, self.info.piece_length
        starts = [index * length + begin for index, begin, _ in stretches]
        ends = [
            min(index * length + begin + sum(map(len, views)), index * length + self.info.piece_size(index)) - 1
            for index, begin, views in stretches
        ]
        return {file_at(at) for at in (*starts, *ends)}

    def stamps(self) -> dict[int, Stamp]:
        """What each file that is there looks like; finds the slots of the parts file too. Raises DiskError."""
        found: dict[int, Stamp] = {}
        keys = [index for index, entry in enumerate(self.info.files) if entry.on_disk and entry.size]
        for key in (*keys, PARTS):
            stamp = self.stamp(key)
            if stamp is not None:
                found[key] = stamp
        if PARTS in found:
            self._find_slots(found[PARTS].size)
        return found

    def usable_sizes(self, stamps: Mapping[int, Stamp]) -> dict[int, int]:
        """Bytes of each file; of one longer than it should be, the last is not counted, so that its end is written
        again, and the rest cut off."""
        return {
            key: stamp.size if key == PARTS or stamp.size <= (size := self.info.files[key].size) else size - 1
            for key, stamp in stamps.items()
        }

    def stamp(self, key: int) -> Stamp | None:
        """What a file looks like now; None where it is not there. Raises DiskError."""
        pool, place = self._place(key)
        try:
            with pool.use(place) as fd:
                return Stamp.of(os.fstat(fd))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error("read", pool.path(place), error) from error

    def sources(self, index: int, begin: int, length: int) -> Iterator[Source]:
        """Where bytes of a piece are to be read, in order."""
        at = begin
        for file_index, offset, taken in self.info.spans(index * self.info.piece_length + begin, length):
            if self.info.files[file_index].pad:
                yield Source(None, 0, taken)
            elif not self._wanted[file_index] and index in self._slots:
                yield Source(PARTS, self._slot_start(index) + at, taken)
            else:
                yield Source(file_index, offset, taken)
            at += taken

    def read(self, key: int, view: memoryview, offset: int) -> bool:
        """Fills `view`; False where the file is not there or ends before. Raises DiskError."""
        pool, place = self._place(key)
        try:
            with pool.use(place) as fd:
                return read_into(fd, view, offset) == len(view)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise disk_error("read", pool.path(place), error) from error

    def fill(self, index: int, begin: int, views: Sequence[memoryview]) -> None:
        """Reads a part of a piece that is there. Raises DiskError, also where the files have changed meanwhile.

        What lies behind the end of a version 2 file are zeros, see `Info.may_be_asked`.
        """
        for key, offset, some in self._parts_of(index, begin, views):
            pool, place = self._place(key)
            try:
                with pool.use(place) as fd:
                    whole = read_views(fd, some, offset) == sum(map(len, some))
            except OSError as error:
                raise disk_error("read", pool.path(place), error) from error
            if not whole:
                raise DiskError(f"{pool.path(place)} became shorter while it was shared")

    def fill_cached(self, index: int, begin: int, views: Sequence[memoryview]) -> bool:
        """As `fill`, without waiting; False where that cannot be, see `FilePool.read_cached`."""
        for key, offset, some in self._parts_of(index, begin, views):
            pool, place = self._place(key)
            if not pool.read_cached(place, some, offset):
                return False
        return True

    def _parts_of(
        self, index: int, begin: int, views: Sequence[memoryview]
    ) -> Iterator[tuple[int, int, list[memoryview]]]:
        """What of these is to be read from which file, from where on; the rest is made zeros."""
        length = sum(map(len, views))
        left = list(views)
        for key, offset, taken in self.sources(index, begin, min(length, self.info.piece_size(index) - begin)):
            some, left = (left, []) if taken == length else cut(left, taken)
            if key is None:
                _clear(some)
            else:
                yield key, offset, some
        _clear(left)

    def read_kept(self, index: int) -> bytearray | None:
        """A whole piece from the parts file, unverified; None where it is not there."""
        data = bytearray(self.info.piece_size(index))
        return data if self.read(PARTS, memoryview(data), self._slot_start(index)) else None

    def write_piece(self, index: int, data: memoryview) -> list[int]:
        """Writes a verified piece to where its bytes belong; the keys of the files touched. Raises DiskError."""
        touched: list[int] = []
        keep_whole = False
        at = 0
        for file_index, offset, length in self.info.spans(index * self.info.piece_length, len(data)):
            if not self.info.files[file_index].pad:
                if self._wanted[file_index]:
                    self.write(file_index, data[at : at + length], offset)
                    touched.append(file_index)
                else:
                    keep_whole = True
            at += length
        if keep_whole:
            with self._lock:
                if index not in self._slots:
                    self._slots[index] = self._next_slot
                    self._next_slot += 1
            start = self._slot_start(index)
            self.write(PARTS, data, start)
            self.write(PARTS, memoryview(_SLOT.pack(index, _slot_checksum(index))), start - _SLOT.size)
            touched.append(PARTS)
        return touched

    def write_run(self, first: int, pieces: Sequence[memoryview]) -> list[int] | None:
        """Writes verified pieces that follow each other in one go, where they lie in one wanted file; its key.

        None, and nothing is written, where they do not. Raises DiskError; of what was written nothing is known then.
        """
        length = self.info.piece_length
        if any(len(piece) != length for piece in pieces[:-1]):
            return None  # the end of a file of version 2: the next begins on a piece of its own
        offset, size = first * length, (len(pieces) - 1) * length + len(pieces[-1])
        key = self.info.layout.file_at(offset)
        entry = self.info.files[key]
        if entry.pad or not self._wanted[key] or offset + size > entry.offset + entry.size:
            return None
        pool, place = self._place(key)
        try:
            with pool.use(place, write=True) as fd:
                write_views(fd, pieces, offset - entry.offset)
        except OSError as error:
            raise disk_error("write", pool.path(place), error) from error
        return [key]

    def write(self, key: int, data: memoryview, offset: int) -> None:
        """Writes to one file, which is made where it is not there. Raises DiskError."""
        pool, place = self._place(key)
        try:
            with pool.use(place, write=True) as fd:
                write_all(fd, data, offset)
        except OSError as error:
            raise disk_error("write", pool.path(place), error) from error

    def make_links(self) -> None:
        """Makes the symbolic links of the torrent to files of it that are wanted (BEP 47)."""
        wanted = {entry.path for index, entry in enumerate(self.info.files) if entry.on_disk and self._wanted[index]}
        for entry in self.info.files:
            if entry.target is not None and entry.target in wanted:
                self._files.link(entry.path, entry.target)

    def allocate(self, key: int) -> None:
        """Sets room aside for a whole file, which is made where it is not there. Raises DiskError."""
        pool, place = self._place(key)
        try:
            with pool.use(place, write=True) as fd:
                allocate(fd, place.max_size)
        except OSError as error:
            raise disk_error("set room aside for", pool.path(place), error) from error

    def data_ranges(self, key: int) -> list[tuple[int, int]]:
        """Where a file holds data, as (start, end), ascending; nowhere where it is not there."""
        pool, place = self._place(key)
        try:
            with pool.use(place) as fd:
                return data_ranges(fd, os.fstat(fd).st_size)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error("read", pool.path(place), error) from error

    def forget(self, keys: Iterable[int]) -> None:
        """Closes these files: whoever wants them next finds what lies in their place then."""
        for key in keys:
            pool, place = self._place(key)
            pool.forget(place)

    def close(self) -> None:
        """Closes all files."""
        self._files.close()
        self._parts.close()

    def _place(self, key: int) -> tuple[FilePool, Place]:
        return (self._parts, self._parts_place) if key == PARTS else (self._files, self._file_places[key])

    def _slot_start(self, piece: int) -> int:
        return self._slots[piece] * (_SLOT.size + self.info.piece_length) + _SLOT.size

    def _find_slots(self, size: int) -> None:
        header = bytearray(_SLOT.size)
        width = _SLOT.size + self.info.piece_length
        self._next_slot = -(-size // width)
        for slot in range(self._next_slot):
            if self.read(PARTS, memoryview(header), slot * width):
                piece, checksum = _SLOT.unpack(header)
                if checksum == _slot_checksum(piece) and piece < self.info.piece_count:
                    self._slots[piece] = slot


def _clear(views: Iterable[memoryview]) -> None:
    for view in views:
        view[:] = bytes(len(view))


def _slot_checksum(piece: int) -> int:
    return zlib.crc32(_SLOT_SALT + piece.to_bytes(4, "big"))
