"""What lies finished on this disk: a file that another torrent brought is not fetched again.

Each finished torrent leaves a record in the state folder: where it lies and its files' sizes, names and, for version
2, roots (BEP 52). A new torrent looks for files of the same root or size there, and for files of the same name in
torrents that hint at each other (BEP 38). Whatever is found is copied piece by piece through the store, which hashes
each before it writes it: a record that lies, or a file that changed meanwhile, costs a little reading and nothing else.
A copy, not a hard link: whoever edits one of the two later must not edit both.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from wire.bencode import Encodable, Value, decode, encode, get_bytes, get_list
from wire.bitfield import Bitfield
from wire.errors import DiskError, MetainfoError, ProtocolError
from wire.metainfo import Info, Torrent
from wire.metainfo.files import safe_path
from wire.metainfo.hints import Hints
from wire.metainfo.judge import is_right
from wire.storage.pool import FilePool, Place, read_into
from wire.storage.store import Progress, Store, whole_files

__all__ = ["KeptFile", "Record", "Shelf"]

_HEADER = b"kademlia-bt finished 1\n"
_MAX_RECORDS = 1000
"""Torrents that are remembered; beyond them the one that was finished first is forgotten."""
_MAX_RECORD_BYTES = 1 << 20
_MAX_FILES = 5000
"""Of one record; the largest count."""
_MIN_FILE_BYTES = 16384
"""A smaller file is fetched sooner than looked for."""
_MAX_OFFERS = 64
"""Finished files that are thought of for one file, and"""
_MAX_TRIED = 8
"""those of them, the likeliest, of which a piece is read and hashed."""
_MAX_COMPARED = 200_000
"""Pairs of files: thousands of one size in both torrents must not keep a download waiting."""
_WORKERS = max(1, min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A finished file: path below the record's directory, size in bytes, and root if it is of a version 2 torrent."""

    path: tuple[str, ...]
    size: int
    root: bytes = b""


@dataclass(frozen=True, slots=True)
class Record:
    """The finished files of one torrent."""

    directory: str
    hashes: tuple[bytes, ...]
    """Its info-hashes."""
    hints: Hints
    files: tuple[KeptFile, ...]

    def to_bytes(self) -> bytes:
        """The file's content."""
        items: dict[bytes, Encodable] = {
            b"directory": os.fsencode(self.directory),
            b"files": [[file.size, file.root, [part.encode() for part in file.path]] for file in self.files],
            b"hashes": self.hashes,
            **self.hints.items(),
        }
        packed = encode(items)
        return _HEADER + hashlib.sha256(packed).digest() + packed

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """Reads a file's content. Raises ProtocolError for anything that is no record of this version."""
        start = len(_HEADER) + hashlib.sha256().digest_size
        packed = data[start:]
        if not data.startswith(_HEADER) or hashlib.sha256(packed).digest() != data[len(_HEADER) : start]:
            raise ProtocolError("not a record of this version, or a damaged one")
        items = decode(packed)
        directory = get_bytes(items, b"directory") if isinstance(items, dict) else None
        if not isinstance(items, dict) or directory is None or b"\0" in directory:
            raise ProtocolError("it names no directory")
        return cls(
            directory=os.fsdecode(directory),
            hashes=tuple(one for one in get_list(items, b"hashes") or () if isinstance(one, bytes)),
            hints=Hints.read(items),
            files=tuple(_read_file(row) for row in (get_list(items, b"files") or [])[:_MAX_FILES]),
        )


class Shelf:
    """The records below a state folder; None: there are none. Processes may share it: each record is a file."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / "finished"

    async def keep(self, torrent: Torrent, directory: Path, have: Bitfield) -> None:
        """Remembers the files of a torrent that are whole. A folder that cannot be written costs the memory alone."""
        if self._folder is not None:
            await trio.to_thread.run_sync(_keep, self._folder, torrent, directory, have)

    async def fill(
        self,
        torrent: Torrent,
        store: Store,
        directory: Path,
        have: Bitfield,
        wanted: Sequence[bool],
        progress: Progress | None = None,
    ) -> Bitfield:
        """Puts into `store` what finished files of other torrents hold of it; the pieces that are right now.

        Raises DiskError where the store cannot write, and what `Store.put` raises for a torrent that contradicts
        itself.
        """
        got = Bitfield(torrent.info.piece_count)
        if self._folder is None or have.all:
            return got
        finder = _Finder(torrent, directory, have, wanted)
        pieces = await trio.to_thread.run_sync(finder.find, self._folder)
        left, done = iter(pieces), 0

        async def work() -> None:
            nonlocal done
            for index in left:
                data = await trio.to_thread.run_sync(finder.piece, index)
                if data is not None and await store.put(index, data):
                    got.set(index)
                done += 1
                if progress is not None:
                    progress(done, len(pieces))

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(min(_WORKERS, len(pieces))):
                    nursery.start_soon(work)
        except* (DiskError, MetainfoError) as group:
            raise group.exceptions[0] from None
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(finder.close)
        return got


@dataclass(frozen=True, slots=True, eq=False)
class _Donor:
    pool: FilePool
    place: Place

    def read(self, view: memoryview, offset: int) -> bool:
        try:
            with self.pool.use(self.place) as fd:
                return read_into(fd, view, offset) == len(view)
        except (OSError, DiskError):
            return False


class _Finder:
    """The donors of one torrent's files. Blocking; `piece` for many threads."""

    def __init__(self, torrent: Torrent, directory: Path, have: Bitfield, wanted: Sequence[bool]) -> None:
        self._torrent, self._directory, self._have, self._wanted = torrent, directory, have, wanted
        self._info: Info = torrent.info
        self._pools: dict[str, FilePool] = {}
        self._donors: dict[int, _Donor] = {}

    def find(self, folder: Path) -> list[int]:
        """Finds a donor for each file that has one; the missing pieces that can be put together, ascending."""
        info, have = self._info, self._have
        lacking = {
            index
            for index, entry in enumerate(info.files)
            if self._wanted[index]
            and entry.on_disk
            and entry.size >= _MIN_FILE_BYTES
            and not all(have[piece] for piece in info.layout.pieces_of(index))
        }
        if not lacking:
            return []
        offered = self._offers(folder, lacking)
        for index in sorted(lacking):
            for _, donor in sorted(offered.get(index, []), key=lambda offer: offer[0])[:_MAX_TRIED]:
                if self._fits(index, donor):
                    self._donors[index] = donor
                    break
        pieces = {piece for index in self._donors for piece in info.layout.pieces_of(index) if not have[piece]}
        return [piece for piece in sorted(pieces) if self._is_covered(piece)]

    def piece(self, index: int) -> bytearray | None:
        """The bytes of a piece out of the donors' files, not verified; None where they do not reach."""
        data = bytearray(self._info.piece_size(index))
        view, at = memoryview(data), 0
        for file_index, offset, length in self._info.spans(index * self._info.piece_length, len(data)):
            donor = self._donors.get(file_index)
            if donor is not None and not donor.read(view[at : at + length], offset):
                return None
            at += length  # a pad is zeros
        return data

    def close(self) -> None:
        """Closes the files."""
        for pool in self._pools.values():
            pool.close()

    def _offers(self, folder: Path, lacking: set[int]) -> dict[int, list[tuple[int, _Donor]]]:
        """For each file those that may be the same, with how likely that is: the less, the better."""
        info, hints = self._info, self._torrent.hints
        hashes = {one for one in (info.info_hash.v1, info.info_hash.v2) if one is not None}
        offers: dict[int, list[tuple[int, _Donor]]] = {index: [] for index in lacking}
        alike: dict[bytes | int | str, list[int]] = {}  # by root, by size, by name
        for index in sorted(lacking):
            entry = info.files[index]
            for key in (entry.pieces_root, entry.size, entry.path[-1]):
                if key is not None:
                    alike.setdefault(key, []).append(index)
        left = _MAX_COMPARED
        for record in _records(folder):
            hinted = bool(
                hashes.intersection((*record.hashes, *record.hints.similar))
                or set(hints.similar).intersection(record.hashes)
                or set(hints.collections).intersection(record.hints.collections)
            )
            for file in record.files:
                named = alike.get(file.path[-1], []) if hinted else []
                for index in {*alike.get(file.root, []), *alike.get(file.size, []), *named}:
                    left -= 1
                    rank = self._rank(index, file, hinted)
                    if rank is None or len(offers[index]) >= _MAX_OFFERS:
                        continue
                    donor = self._donor(record.directory, file)
                    if not self._is_itself(donor, index):
                        offers[index].append((rank, donor))
                if left <= 0:
                    return offers
        return offers

    def _rank(self, index: int, file: KeptFile, hinted: bool) -> int | None:
        """How likely a finished file is the wanted one, 0 being sure; None where it is another."""
        entry = self._info.files[index]
        same_name = file.path[-1] == entry.path[-1]
        if file.root and entry.pieces_root:
            if (file.root == entry.pieces_root) != (file.size == entry.size):
                return None
            if file.root == entry.pieces_root:
                return 0
        if hinted:
            return 1 if same_name else 2
        return 3 if same_name else 4

    def _donor(self, directory: str, file: KeptFile) -> _Donor:
        pool = self._pools.setdefault(directory, FilePool(Path(directory)))
        return _Donor(pool, Place(file.path, file.size))

    def _is_itself(self, donor: _Donor, index: int) -> bool:
        ours = self._directory.joinpath(*self._info.files[index].path)
        try:
            return os.path.samefile(donor.pool.path(donor.place), ours)
        except (OSError, ValueError):
            return False

    def _fits(self, index: int, donor: _Donor) -> bool:
        """Whether the first piece that lies in the file alone is right; where there is none, all will be tried."""
        info = self._info
        for piece in info.layout.pieces_of(index):
            spans = list(info.spans(piece * info.piece_length, info.piece_size(piece)))
            if not all(file == index or info.files[file].pad for file, _, _ in spans):
                continue
            data = bytearray(info.piece_size(piece))
            view, at = memoryview(data), 0
            for file, offset, length in spans:
                if file == index and not donor.read(view[at : at + length], offset):
                    return False
                at += length
            tree = info.tree_piece(piece)
            if info.info_hash.v1 is None and (tree is None or tree.hash is None):
                return True  # its layer is not known yet
            return is_right(info, piece, data)
        return True

    def _is_covered(self, piece: int) -> bool:
        info = self._info
        return all(
            file in self._donors or info.files[file].pad
            for file, _, _ in info.spans(piece * info.piece_length, info.piece_size(piece))
        )


def _read_file(row: Value) -> KeptFile:
    if isinstance(row, list) and len(row) == 3:
        size, root, parts = row
        if isinstance(size, int) and size >= 0 and isinstance(root, bytes) and isinstance(parts, list) and parts:
            names = [part.decode("utf-8", "replace") for part in parts if isinstance(part, bytes)]
            with suppress(MetainfoError):
                if len(names) == len(parts) and safe_path(names) == tuple(names):
                    return KeptFile(tuple(names), size, root)
    raise ProtocolError("it holds something that is no file")


def _records(folder: Path) -> Iterator[Record]:
    """All that can be read; what is damaged is passed over."""
    for path in _paths(folder):
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_RECORD_BYTES + 1)
            yield Record.from_bytes(data)
        except (OSError, ProtocolError):
            continue


def _paths(folder: Path) -> list[Path]:
    """The records, the oldest first."""
    found: list[tuple[int, Path]] = []
    try:
        for entry in os.scandir(folder):
            if entry.name.endswith(".record") and entry.is_file(follow_symlinks=False):
                found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
    except OSError:
        return []
    return [path for _, path in sorted(found)][-_MAX_RECORDS:]


def _keep(folder: Path, torrent: Torrent, directory: Path, have: Bitfield) -> None:
    info = torrent.info
    whole = [
        KeptFile(entry.path, entry.size, entry.pieces_root or b"")
        for entry, is_whole in zip(info.files, whole_files(info, have), strict=True)
        if is_whole and entry.on_disk and entry.size >= _MIN_FILE_BYTES
    ]
    if not whole:
        return
    place = os.path.realpath(directory)
    hashes = tuple(one for one in (info.info_hash.v1, info.info_hash.v2) if one is not None)
    largest = sorted(whole, key=lambda file: file.size, reverse=True)[:_MAX_FILES]
    data = Record(place, hashes, torrent.hints, tuple(largest)).to_bytes()
    while len(data) > _MAX_RECORD_BYTES:
        largest = largest[: len(largest) // 2]
        data = Record(place, hashes, torrent.hints, tuple(largest)).to_bytes()
    path = folder / f"{info.info_hash}-{hashlib.sha1(os.fsencode(place)).hexdigest()[:8]}.record"
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        os.replace(beside, path)
        for old in _all_but_newest(folder):
            old.unlink(missing_ok=True)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _all_but_newest(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.record"), key=lambda path: path.lstat().st_mtime_ns)
    return found[:-_MAX_RECORDS]
