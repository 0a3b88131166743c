"""What a download remembers between runs: a snapshot, and a journal of the pieces since (no BEP; our own format).

The file is a magic line, then records: length, checksum, payload. The first record is a snapshot; each verified and
written piece, or run of neighbours, adds one that names the files it lies in and what they looked like right after
(size and times). A piece is believed only while all its files still look like their last record. Before it is written
there is a record too: of two writers one may be killed when its pieces are there, in a file that looks just as the
other recorded it; these are hashed. The file is treated as hostile: reading stops at the first record that is torn or
damaged, and what is believed too little is hashed again. Files are not touched here.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from wire.bencode import Encodable, decode, encode, get_bytes, get_int, get_list
from wire.bitfield import Bitfield
from wire.errors import ProtocolError
from wire.metainfo import Info

__all__ = ["PARTS", "Remembered", "Stamp", "begun_record", "pieces_record", "replay", "snapshot"]

MAGIC = b"kademlia-bt resume 1\n"

PARTS = 0xFFFFFFFF
"""Stands for the parts file among the file indices."""

_FRAME = struct.Struct(">II")  # bytes of the payload, its CRC-32
_PIECE = struct.Struct(">cI")  # kind, piece index
_RUN = struct.Struct(">cII")  # kind, first piece index, how many
_STAMP = struct.Struct(">IQqq")  # file index, size, mtime, ctime
_SNAPSHOT_KIND = b"S"
_PIECE_KIND = b"P"
_RUN_KIND = b"R"
_BEGUN_KIND = b"B"
_HEADS = {_PIECE_KIND: _PIECE, _RUN_KIND: _RUN, _BEGUN_KIND: _RUN}


class Stamp(NamedTuple):
    """What a file looks like from outside: bytes, and nanoseconds of its last change of content and of anything."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """From a stat result."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(slots=True)
class Remembered:
    """What a resume file says."""

    root: str
    """The folder it is about."""
    boot: str
    """The run of the machine in which it was written; empty where the system does not name it."""
    clean: bool
    """Whether the last run ended in order, so that what was written before has long reached the disk."""
    have: Bitfield
    wanted: Bitfield
    """Which file entries were to be written; of the others, bytes lie in the parts file."""
    stamps: dict[int, Stamp]
    """By file index, `PARTS` being the parts file."""
    begun: Bitfield
    """The pieces whose writing began and of which no end is recorded: there or not, or in part."""


def snapshot(info: Info, remembered: Remembered) -> bytes:
    """A whole resume file without a journal yet."""
    files: list[Encodable] = [[index, *stamp] for index, stamp in sorted(remembered.stamps.items())]
    items: Mapping[str, Encodable] = {
        "boot": remembered.boot,
        "clean": int(remembered.clean),
        "files": files,
        "have": remembered.have.to_bytes(),
        "info hash": info.info_hash.v1 or info.info_hash.v2 or b"",
        "root": os.fsencode(remembered.root),
        "wanted": remembered.wanted.to_bytes(),
    }
    return MAGIC + _framed(_SNAPSHOT_KIND + encode(items))


def pieces_record(pieces: range, stamps: Iterable[tuple[int, Stamp]]) -> bytes:
    """A journal's record: these neighbours were verified and written, and the files that they lie in look so."""
    packed = b"".join([_STAMP.pack(file_index, *stamp) for file_index, stamp in stamps])
    if len(pieces) == 1:
        return _framed(_PIECE.pack(_PIECE_KIND, pieces.start) + packed)
    return _framed(_RUN.pack(_RUN_KIND, pieces.start, len(pieces)) + packed)


def begun_record(pieces: range) -> bytes:
    """A journal's record: these neighbours are verified and will now be written."""
    return _framed(_RUN.pack(_BEGUN_KIND, pieces.start, len(pieces)))


def replay(data: bytes, info: Info) -> Remembered | None:
    """What a resume file says; None where it is none, damaged at its head, or about another torrent."""
    at = len(MAGIC)
    payload, at = _unframed(data, at) if data.startswith(MAGIC) else (b"", at)
    if payload[:1] != _SNAPSHOT_KIND:
        return None
    try:
        remembered = _read_snapshot(payload[1:], info)
    except ProtocolError:
        return None
    while remembered is not None:
        payload, at = _unframed(data, at)
        head = _HEADS.get(payload[:1], _PIECE)
        if payload[:1] not in _HEADS or len(payload) < head.size or (len(payload) - head.size) % _STAMP.size:
            break
        _, index, *more = head.unpack_from(payload)
        count = more[0] if more else 1
        if index + count > info.piece_count:
            break
        remembered.clean = False
        if payload[:1] == _BEGUN_KIND:
            for piece in range(index, index + count):
                remembered.have.clear(piece)
                remembered.begun.set(piece)
            continue
        for file_index, size, mtime_ns, ctime_ns in _STAMP.iter_unpack(payload[head.size :]):
            remembered.stamps[file_index] = Stamp(size, mtime_ns, ctime_ns)
        for piece in range(index, index + count):
            remembered.have.set(piece)
            remembered.begun.clear(piece)
    return remembered


def _read_snapshot(data: bytes, info: Info) -> Remembered | None:
    items = decode(data)
    if not isinstance(items, dict) or get_bytes(items, b"info hash") != (info.info_hash.v1 or info.info_hash.v2):
        return None
    have = Bitfield.from_bytes(get_bytes(items, b"have") or b"", info.piece_count)
    wanted = Bitfield.from_bytes(get_bytes(items, b"wanted") or b"", len(info.files))
    stamps: dict[int, Stamp] = {}
    for row in get_list(items, b"files") or []:
        numbers = [number for number in row if isinstance(number, int)] if isinstance(row, list) else []
        if len(numbers) != 4:
            return None
        stamps[numbers[0]] = Stamp(*numbers[1:])
    return Remembered(
        root=os.fsdecode(get_bytes(items, b"root") or b""),
        boot=(get_bytes(items, b"boot") or b"").decode("ascii", "replace"),
        clean=get_int(items, b"clean") == 1,
        have=have,
        wanted=wanted,
        stamps=stamps,
        begun=Bitfield(info.piece_count),
    )


def _framed(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _unframed(data: bytes, at: int) -> tuple[bytes, int]:
    """The payload of the record at `at` and where the next starts; empty where it is torn or damaged."""
    if at + _FRAME.size > len(data):
        return b"", at
    length, checksum = _FRAME.unpack_from(data, at)
    start = at + _FRAME.size
    payload = data[start : start + length]
    if len(payload) != length or zlib.crc32(payload) != checksum:
        return b"", at
    return payload, start + length
