"""What lies finished on this disk, as records in the state folder: where a torrent lies, and its files that are whole.

A record is another program's file as much as ours: it may lie, be damaged, or name what is gone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wire.bencode import Encodable, Value, decode, encode, get_bytes, get_list
from wire.bitfield import Bitfield
from wire.errors import MetainfoError, ProtocolError
from wire.metainfo import Torrent
from wire.metainfo.files import safe_path
from wire.metainfo.hints import Hints
from wire.storage.store import whole_files

__all__ = ["MIN_FILE_BYTES", "KeptFile", "Record", "keep_record", "records"]

_HEADER = b"kademlia-bt finished 1\n"
_MAX_RECORDS = 1000
"""Torrents that are remembered; beyond them the one that was finished first is forgotten."""
_MAX_RECORD_BYTES = 1 << 20
_MAX_FILES = 5000
"""Of one record; the largest count."""
MIN_FILE_BYTES = 16384
"""A smaller file is fetched sooner than looked for."""


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


def _read_file(row: Value) -> KeptFile:
    if isinstance(row, list) and len(row) == 3:
        size, root, parts = row
        if isinstance(size, int) and size >= 0 and isinstance(root, bytes) and isinstance(parts, list) and parts:
            names = [part.decode("utf-8", "replace") for part in parts if isinstance(part, bytes)]
            with suppress(MetainfoError):
                if len(names) == len(parts) and safe_path(names) == tuple(names):
                    return KeptFile(tuple(names), size, root)
    raise ProtocolError("it holds something that is no file")


def records(folder: Path) -> Iterator[Record]:
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


def keep_record(folder: Path, torrent: Torrent, directory: Path, have: Bitfield) -> None:
    """Notes the files of a torrent that are whole. A folder that cannot be written costs the memory alone."""
    info = torrent.info
    whole = [
        KeptFile(entry.path, entry.size, entry.pieces_root or b"")
        for entry, is_whole in zip(info.files, whole_files(info, have), strict=True)
        if is_whole and entry.on_disk and entry.size >= MIN_FILE_BYTES
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
