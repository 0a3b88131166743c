"""Makes a v1 torrent of files on disk (BEP 3): walks, hashes on all cores, gives a `Torrent`.

Blocking: call it from a thread. It refuses what `Info` would change or refuse when reading, so
that a torrent made here names the files exactly as they lie there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wire.bencode import Encodable, encode
from wire.errors import DiskError, MetainfoError, MisuseError
from wire.metainfo.files import FileEntry, Layout, refuse_collisions, safe_path, shown
from wire.metainfo.info import MAX_PIECE_BYTES, MAX_PIECES, Info
from wire.metainfo.torrent import Torrent

__all__ = ["CREATED_BY", "choose_piece_length", "create"]

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
    piece_length: int | None = None,
    trackers: Iterable[Iterable[str]] = (),
    web_seeds: Iterable[str] = (),
    private: bool = False,
    comment: str | None = None,
    created_by: str | None = CREATED_BY,
    creation_date: int | None = None,
) -> Torrent:
    """A v1 torrent of the file or folder at `path`.

    Args:
        path: A file, or a folder whose files are taken in the order of their names.
        piece_length: Bytes, a power of two from 16 KiB on; None chooses by size.
        trackers: Announce URLs, tier by tier.
        web_seeds: URLs of the content.
        private: Peers may come from the trackers alone (BEP 27).
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
    offset = 0
    for parts, _, size in found:
        whole = (name, *parts)
        try:
            safe = safe_path(whole)
        except MetainfoError as error:
            raise MisuseError(f"cannot be shared: {error}") from None
        if safe != whole:
            raise MisuseError(f"rename {shown('/'.join(whole))}: not every disk and terminal can take this name")
        entries.append(FileEntry(whole, size, offset))
        offset += size
    try:
        refuse_collisions(entries)
    except MetainfoError as error:
        raise MisuseError(f"cannot be shared: {error}") from None

    if piece_length is None:
        piece_length = choose_piece_length(offset)
    if not _MIN_PIECE_BYTES <= piece_length <= MAX_PIECE_BYTES or piece_length & (piece_length - 1):
        raise MisuseError(f"a piece length is a power of two from 16 KiB to 256 MiB, not {piece_length} bytes")
    layout = Layout(entries, piece_length)
    if layout.piece_count > MAX_PIECES:
        raise MisuseError(f"{layout.piece_count} pieces are too many; choose a piece length above {piece_length}")

    info: dict[str, Encodable] = {"name": name, "piece length": piece_length}
    info["pieces"] = _hash_all(layout, [real for _, real, _ in found])
    if top.is_dir():
        info["files"] = [{"length": entry.size, "path": entry.path[1:]} for entry in entries]
    else:
        info["length"] = entries[0].size
    if private:
        info["private"] = 1
    return Torrent(
        Info.from_bytes(encode(info)),
        trackers=tuple(tier for tier in (tuple(urls) for urls in trackers) if tier),
        web_seeds=tuple(web_seeds),
        comment=comment,
        created_by=created_by,
        creation_date=creation_date,
    )


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


def _hash_all(layout: Layout, paths: Sequence[Path]) -> bytes:
    """The SHA-1 of each piece, laid end to end. A worker takes a stretch of pieces, and reads it in order."""
    from concurrent.futures import ThreadPoolExecutor  # only those who make torrents wait for this import

    workers = os.cpu_count() or 1
    stretch = max(1, (8 << 20) // layout.piece_length)
    starts = range(0, layout.piece_count, stretch)
    with ThreadPoolExecutor(workers) as pool:
        return b"".join(pool.map(lambda start: _hash_stretch(layout, paths, start, stretch), starts))


def _hash_stretch(layout: Layout, paths: Sequence[Path], start: int, count: int) -> bytes:
    hashes: list[bytes] = []
    buffer = memoryview(bytearray(_READ_BYTES))
    for index in range(start, min(start + count, layout.piece_count)):
        digest = hashlib.sha1(usedforsecurity=False)
        for file_index, offset, length in layout.spans(index * layout.piece_length, layout.piece_size(index)):
            path = paths[file_index]
            try:
                with path.open("rb", buffering=0) as file:
                    file.seek(offset)
                    while length:
                        got = file.readinto(buffer[: min(length, _READ_BYTES)])
                        if not got:
                            raise DiskError(f"{path} became shorter while it was read")
                        digest.update(buffer[:got])
                        length -= got
            except OSError as error:
                raise _cannot_read(path, error) from None
        hashes.append(digest.digest())
    return b"".join(hashes)
