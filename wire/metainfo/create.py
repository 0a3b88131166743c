"""Makes a torrent of files on disk, of version 1, 2 or both (BEP 3, 47, 52): walks, hashes on all cores.

Blocking: call it from a thread. It refuses what `Info` would change or refuse when reading, so
that a torrent made here names the files exactly as they lie there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from wire.bencode import Encodable, encode
from wire.errors import DiskError, MetainfoError, MisuseError
from wire.metainfo.files import FileEntry, Layout, refuse_collisions, safe_path, shown
from wire.metainfo.hints import Hints
from wire.metainfo.info import MAX_PIECE_BYTES, MAX_PIECES, Info
from wire.metainfo.merkle import BLOCK_BYTES, height_of, leaves_of, root_of, root_of_layer
from wire.metainfo.torrent import Torrent

__all__ = ["CREATED_BY", "Version", "choose_piece_length", "create"]

Version = Literal["1", "2", "hybrid"]

CREATED_BY = "kademlia-bt"

_MIN_PIECE_BYTES = 16384
_MAX_CHOSEN_PIECE_BYTES = 16 << 20
_AIM_PIECES = 1500
"""Enough that peers have something to trade early, few enough that the .torrent stays near 30 KB."""
_READ_BYTES = 1 << 20


def choose_piece_length(size: int) -> int:
    """A power of two from 16 KiB to 16 MiB that gives about 1,500 pieces or fewer, in bytes."""
    length = _MIN_PIECE_BYTES
    while length * _AIM_PIECES < size and length < _MAX_CHOSEN_PIECE_BYTES:
        length *= 2
    return length


def create(
    path: Path | str,
    *,
    version: Version = "1",
    piece_length: int | None = None,
    trackers: Iterable[Iterable[str]] = (),
    web_seeds: Iterable[str] = (),
    private: bool = False,
    hints: Hints | None = None,
    comment: str | None = None,
    created_by: str | None = CREATED_BY,
    creation_date: int | None = None,
) -> Torrent:
    """A torrent of the file or folder at `path`.

    Args:
        path: A file, or a folder whose files are taken in the order of their names.
        version: By which rules the pieces are hashed: 1 (BEP 3), 2 (BEP 52), or both.
        piece_length: Bytes, a power of two from 16 KiB on; None chooses by size.
        trackers: Announce URLs, tier by tier.
        web_seeds: URLs of the content.
        private: Peers may come from the trackers alone (BEP 27).
        hints: Torrents and collections that it shares files with (BEP 38); part of what the info-hash covers.
        comment: For people.
        created_by: The program's name; None leaves it out.
        creation_date: Seconds since 1970; None leaves it out.

    Raises:
        DiskError: Something cannot be read, or changed meanwhile.
        MisuseError: The folder is empty, holds what cannot be shared, or the piece length is no such.
    """
    top = Path(os.path.abspath(path))
    try:
        if not top.exists():
            raise DiskError(f"cannot read {top}: there is no such file or folder")
        found = list(_walk(top)) if top.is_dir() else [((), *_stat(top))]
    except OSError as error:
        raise _cannot_read(Path(error.filename or top), error) from None
    if not found:
        raise MisuseError(f"the folder {top} holds no files")
    name = top.name
    entries: list[FileEntry] = []
    for parts, _, size in found:
        whole = (name, *parts)
        try:
            safe = safe_path(whole)
        except MetainfoError as error:
            raise MisuseError(f"cannot be shared: {error}") from None
        if safe != whole:
            raise MisuseError(f"rename {shown('/'.join(whole))}: not every disk and terminal can take this name")
        entries.append(FileEntry(whole, size, 0))
    try:
        refuse_collisions(entries)
    except MetainfoError as error:
        raise MisuseError(f"cannot be shared: {error}") from None

    if piece_length is None:
        piece_length = choose_piece_length(sum(entry.size for entry in entries))
    if not _MIN_PIECE_BYTES <= piece_length <= MAX_PIECE_BYTES or piece_length & (piece_length - 1):
        raise MisuseError(f"a piece length is a power of two from 16 KiB to 256 MiB, not {piece_length} bytes")
    layout = _laid_out(entries, piece_length, version, padded=version == "hybrid" and len(entries) > 1)
    if layout.piece_count > MAX_PIECES:
        raise MisuseError(f"{layout.piece_count} pieces are too many; choose a piece length above {piece_length}")

    real = iter([path for _, path, _ in found])
    paths = [None if entry.pad else next(real) for entry in layout.files]
    hashed = _hash_all(layout, paths, version)
    info: dict[str, Encodable] = {"name": name, "piece length": piece_length}
    if private:
        info["private"] = 1
    if hints is not None:
        info |= {name.decode(): value for name, value in hints.items().items()}
    if version != "2":
        info["pieces"] = b"".join(one.sha1 for one in hashed)
        if top.is_dir():
            info["files"] = [_v1_entry(entry) for entry in layout.files]
        else:
            info["length"] = layout.files[0].size
    layers: dict[bytes, bytes] = {}
    if version != "1":
        info["meta version"] = 2
        info["file tree"] = _tree(layout, hashed, layers, 1 if top.is_dir() else 0)
    made = Info.from_bytes(encode(info))
    for root, layer in layers.items():
        made.layers.add(root, layer)
    return Torrent(
        made,
        trackers=tuple(tier for tier in (tuple(urls) for urls in trackers) if tier),
        web_seeds=tuple(web_seeds),
        comment=comment,
        created_by=created_by,
        creation_date=creation_date,
    )


def _laid_out(entries: Iterable[FileEntry], piece_length: int, version: Version, *, padded: bool) -> Layout:
    """The files at their places: end to end, each on a piece of its own, or so with pads in between (BEP 47)."""
    placed: list[FileEntry] = []
    offset = 0
    for entry in entries:
        if version == "2":
            offset += -offset % piece_length
        placed.append(FileEntry(entry.path, entry.size, offset))
        offset += entry.size
        if padded and offset % piece_length:
            placed.append(FileEntry((), -offset % piece_length, offset, pad=True))
            offset += -offset % piece_length
    return Layout(placed, piece_length, aligned=version == "2")


def _v1_entry(entry: FileEntry) -> dict[str, Encodable]:
    if entry.pad:
        return {"attr": "p", "length": entry.size, "path": [".pad", str(entry.size)]}
    return {"length": entry.size, "path": entry.path[1:]}


def _tree(layout: Layout, hashed: Sequence[_Hashed], layers: dict[bytes, bytes], skip: int) -> dict[str, Encodable]:
    """The file tree of version 2, its paths without their first `skip` parts; adds to `layers` those that it needs."""
    top: dict[str, Encodable] = {}
    for index, entry in enumerate(layout.files):
        if entry.pad:
            continue
        folder = top
        for part in entry.path[skip:-1]:
            folder = folder.setdefault(part, {})  # type: ignore[assignment]  # a folder, by the collision check
        leaf: dict[str, Encodable] = {"length": entry.size}
        pieces = layout.pieces_of(index)
        if len(pieces) == 1:
            leaf["pieces root"] = hashed[pieces[0]].root
        elif pieces:
            layer = b"".join(hashed[piece].root for piece in pieces)
            root = leaf["pieces root"] = root_of_layer(layer, layout.piece_length)
            layers[root] = layer
        folder[entry.path[-1]] = {"": leaf}
    return top


def _walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Path, int]]:
    for child in sorted(folder.iterdir(), key=lambda item: os.fsencode(item.name)):
        if child.is_dir() and not child.is_symlink():
            yield from _walk(child, (*above, child.name))
        else:
            yield (*above, child.name), *_stat(child)


def _stat(path: Path) -> tuple[Path, int]:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise MisuseError(f"{path} is no regular file and cannot be shared; links are not followed")
    return path, found.st_size


def _cannot_read(path: Path, error: OSError) -> DiskError:
    return DiskError(f"cannot read {path}: {error.strerror or error}")


class _Hashed(NamedTuple):
    """The hashes of a piece; empty where the version has none."""

    sha1: bytes
    root: bytes


def _hash_all(layout: Layout, paths: Sequence[Path | None], version: Version) -> list[_Hashed]:
    """The hashes of each piece; a pad has no path. A worker takes a stretch of pieces, and reads it in order."""
    from concurrent.futures import ThreadPoolExecutor  # only those who make torrents wait for this import

    workers = os.cpu_count() or 1
    stretch = max(1, (8 << 20) // layout.piece_length)
    starts = range(0, layout.piece_count, stretch)
    with ThreadPoolExecutor(workers) as pool:
        stretches = pool.map(lambda start: _hash_stretch(layout, paths, version, start, stretch), starts)
        return [hashed for some in stretches for hashed in some]


def _hash_stretch(
    layout: Layout, paths: Sequence[Path | None], version: Version, start: int, count: int
) -> list[_Hashed]:
    hashes: list[_Hashed] = []
    buffer = memoryview(bytearray(_READ_BYTES))
    for index in range(start, min(start + count, layout.piece_count)):
        sha1 = hashlib.sha1(usedforsecurity=False)
        leaves: list[bytes] = []
        height = 0
        for file_index, offset, length in layout.spans(index * layout.piece_length, layout.piece_size(index)):
            path, size = paths[file_index], layout.files[file_index].size
            if path is None:
                sha1.update(bytes(length))
                continue
            height = height_of(-(-min(size, layout.piece_length) // BLOCK_BYTES))
            for part in _read(path, offset, length, buffer):
                if version != "2":
                    sha1.update(part)
                if version != "1":
                    leaves += leaves_of(part)
        hashes.append(_Hashed(sha1.digest() if version != "2" else b"", root_of(leaves, height) if leaves else b""))
    return hashes


def _read(path: Path, offset: int, length: int, buffer: memoryview) -> Iterator[memoryview]:
    """A stretch of a file in parts, each of them as large as the buffer but the last. Raises DiskError."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while length:
                wanted = buffer[: min(length, len(buffer))]
                filled = 0
                while filled < len(wanted):
                    got = file.readinto(wanted[filled:])
                    if not got:
                        raise DiskError(f"{path} became shorter while it was read")
                    filled += got
                yield wanted
                length -= filled
    except OSError as error:
        raise _cannot_read(path, error) from None
