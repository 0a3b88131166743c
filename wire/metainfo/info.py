"""The info dictionary: what the info-hash names, read once from its raw bytes (BEP 3, 27, 47, 52).

An `Info` exists only where everything was checked: types, ranges, paths, the number of hashes, both sides of a
hybrid, and the info-hash if one was expected. The piece hashes of version 2 are not in the info dictionary; what is
known of them is in its `layers`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from wire.bencode import Value, decode, get_bytes, get_dict, get_int, get_list
from wire.errors import BencodeError, MetainfoError, MisuseError
from wire.ids import InfoHash
from wire.metainfo.files import FileEntry, Layout, decode_name, refuse_collisions, safe_part, safe_path, shown
from wire.metainfo.layers import PieceLayers
from wire.metainfo.merkle import BLOCK_BYTES, HASH_BYTES, height_of

__all__ = ["MAX_PIECES", "MAX_PIECE_BYTES", "Info", "TreePiece"]

MAX_PIECES = 0x200000
"""As libtorrent; a bitfield of so many takes 256 KiB, below the cap of a peer message."""

MAX_PIECE_BYTES = 256 << 20
"""A piece is assembled in memory. 128 MiB is the largest that is seen in use."""

_MAX_SIZE_BYTES = 1 << 62
"""Of one file and of all: whatever is added to it here still fits 64 bits on disk and wire."""

_V1_HASH_BYTES = 20


class TreePiece(NamedTuple):
    """A piece as version 2 hashes it (BEP 52)."""

    root: bytes
    """The pieces root of its file."""
    number: int
    """Which of the file's pieces it is."""
    size: int
    """Bytes of the file in it; a hybrid's padding is not hashed."""
    height: int
    """Layers of the tree between its leaves and its hash."""
    hash: bytes | None
    """32 bytes; None while the file's layer is not known."""


@dataclass(frozen=True, slots=True, repr=False)
class Info:
    """A verified info dictionary. Made only by `Info.from_bytes`; equal when the raw bytes are."""

    raw: bytes
    """The dictionary's bytes as they came; what is served to others and written to .torrent files."""
    info_hash: InfoHash = field(compare=False)
    """v1, v2, or, for a hybrid, both."""
    name: str = field(compare=False)
    """The name of the file, or of the folder of several; safe to show and to join to a folder."""
    private: bool = field(compare=False)
    """Peers may come from trackers alone (BEP 27)."""
    layout: Layout = field(compare=False)
    """The files over the pieces."""
    single_file: bool = field(compare=False)
    """Whether it is one file by the name `name`, not a folder."""
    layers: PieceLayers = field(compare=False)
    """What is known of the piece hashes of version 2; empty for version 1."""
    _hashes_at: int = field(compare=False)
    """Where in `raw` the SHA-1 of the pieces stand, which are most of it."""

    @classmethod
    def from_bytes(cls, raw: bytes, expected: InfoHash | None = None) -> Info:
        """Reads and checks an info dictionary; with `expected`, first of all that it is the one.

        Raises MetainfoError, in one line, for whatever is wrong with it.
        """
        v1 = hashlib.sha1(raw, usedforsecurity=False).digest()
        if expected is not None and not _are_of(expected, raw, v1):
            raise MetainfoError(f"these are not the bytes that the info-hash {expected} names")
        try:
            items = decode(raw)
        except BencodeError as error:
            raise MetainfoError(f"the info dictionary is broken: {error}") from None
        if not isinstance(items, dict):
            raise MetainfoError("the info dictionary is no dictionary")
        version = items.get(b"meta version", 1)
        if version not in (1, 2):
            raise MetainfoError(f"the torrent is of a version that is not known here: {shown(str(version))}")
        has_v2 = version == 2
        has_v1 = b"pieces" in items or not has_v2
        v2 = hashlib.sha256(raw).digest() if has_v2 else b""
        info_hash = InfoHash(v1=v1 if has_v1 else None, v2=v2 if has_v2 else None)
        if expected is not None and not info_hash.matches(expected):
            raise MetainfoError(f"the info dictionary of {expected} is of another version than its link says")

        name = _read_name(items, v1.hex() if has_v1 else v2.hex())
        piece_length = get_int(items, b"piece length")
        if piece_length is None or not 0 < piece_length <= MAX_PIECE_BYTES:
            raise MetainfoError(
                f"the piece length is {shown(str(items.get(b'piece length')))}, not 1 to {MAX_PIECE_BYTES} bytes"
            )
        v2_files = _read_v2_files(items, name, piece_length) if has_v2 else []
        files = _read_v1_files(items, name) if has_v1 else v2_files
        if has_v1 and has_v2:
            files = _join_hybrid(files, v2_files)
        files = _without_stray_links(files)
        refuse_collisions(files)
        layout = Layout(files, piece_length, aligned=not has_v1)
        if layout.size > _MAX_SIZE_BYTES:
            raise MetainfoError("the torrent is larger than any disk")
        if layout.piece_count > MAX_PIECES:
            raise MetainfoError(f"the torrent has {layout.piece_count} pieces; at most {MAX_PIECES} are read")
        hashes = get_bytes(items, b"pieces") if has_v1 else b""
        if hashes is None:
            raise MetainfoError("the torrent has no piece hashes")
        if has_v1 and len(hashes) != layout.piece_count * _V1_HASH_BYTES:
            raise MetainfoError(
                f"the torrent has {len(hashes)} bytes of piece hashes, where its {layout.piece_count} pieces "
                f"need {layout.piece_count * _V1_HASH_BYTES}"
            )
        return cls(
            raw=raw,
            info_hash=info_hash,
            name=name,
            private=bool(get_int(items, b"private")),
            layout=layout,
            single_file=[entry.path for entry in files if not entry.pad] == [(name,)],
            layers=PieceLayers(v2_files, piece_length),
            _hashes_at=raw.index(hashes),
        )

    @property
    def version(self) -> Literal["1", "2", "hybrid"]:
        """By which rules its pieces are hashed (BEP 3, BEP 52)."""
        if self.info_hash.v1 is None:
            return "2"
        return "1" if self.info_hash.v2 is None else "hybrid"

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All entries in the torrent's order, pads and links included: indices (BEP 53) count them all."""
        return self.layout.files

    @property
    def piece_length(self) -> int:
        """Bytes of each piece but the last."""
        return self.layout.piece_length

    @property
    def piece_count(self) -> int:
        """Number of pieces; 0 for a torrent of nothing but empty files."""
        return self.layout.piece_count

    @property
    def size(self) -> int:
        """Bytes in all pieces together, pads included: what is transferred and counted on the wire."""
        return self.layout.size

    @property
    def content_size(self) -> int:
        """Bytes of the files that end up on disk: what people call the size."""
        return sum(entry.size for entry in self.files if entry.on_disk)

    def piece_size(self, index: int) -> int:
        """Bytes in a piece. Raises MisuseError where there is no such piece."""
        return self.layout.piece_size(index)

    def may_be_asked(self, index: int, begin: int, length: int) -> bool:
        """Whether these bytes of a piece may be asked for.

        In a torrent of version 2 alone the last block of a file may be asked for as a whole one, zeros behind the file:
        so libtorrent 2.0 asks.
        """
        size = self.piece_size(index)
        if begin + length > size and self.info_hash.v1 is None and begin < size:
            size += -size % BLOCK_BYTES
        return begin >= 0 and length >= 0 and begin + length <= size

    def piece_hash(self, index: int) -> bytes:
        """The SHA-1 of a piece, 20 bytes. Raises MisuseError for a v2-only torrent or where there is no such piece."""
        if self.info_hash.v1 is None or not 0 <= index < self.piece_count:
            raise MisuseError(f"there is no v1 hash of piece {index}")
        at = self._hashes_at + index * _V1_HASH_BYTES
        return self.raw[at : at + _V1_HASH_BYTES]

    def tree_piece(self, index: int) -> TreePiece | None:
        """How version 2 hashes a piece; None for a v1 torrent, and for a piece of padding alone.

        Raises MisuseError where there is no such piece.
        """
        if self.info_hash.v2 is None:
            return None
        if not 0 <= index < self.piece_count:
            raise MisuseError(f"there is no piece {index} among {self.piece_count}")
        start, length = index * self.piece_length, self.piece_length
        entry = self.files[self.layout.file_at(start)]
        root, left = entry.pieces_root, entry.offset + entry.size - start
        if root is None:
            return None
        if entry.size <= length:
            return TreePiece(root, 0, left, height_of(-(-entry.size // BLOCK_BYTES)), root)
        number = (start - entry.offset) // length
        layer = self.layers.get(root)
        known = None if layer is None else layer[number * HASH_BYTES : (number + 1) * HASH_BYTES]
        return TreePiece(root, number, min(length, left), height_of(length // BLOCK_BYTES), known)

    def spans(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """See `Layout.spans`: (file index, offset in that file, bytes), pads included."""
        return self.layout.spans(offset, length)

    def __repr__(self) -> str:
        return f"<Info {self.info_hash} {self.name!r}>"


def _are_of(expected: InfoHash, raw: bytes, v1: bytes) -> bool:
    """Whether these bytes, whose SHA-1 is `v1`, are what the info-hash names."""
    return expected.v1 in (None, v1) and (expected.v2 is None or expected.v2 == hashlib.sha256(raw).digest())


def _read_name(items: dict[bytes, Value], fallback: str) -> str:
    raw = get_bytes(items, b"name.utf-8") or get_bytes(items, b"name")
    if raw is None:
        raise MetainfoError("the torrent has no name")
    return safe_part(decode_name(raw)) or fallback


def _size(items: dict[bytes, Value], of: str) -> int:
    size = get_int(items, b"length")
    if size is None or not 0 <= size <= _MAX_SIZE_BYTES:
        raise MetainfoError(f"the length of {of} is missing or out of range")
    return size


def _attributes(items: dict[bytes, Value]) -> bytes:
    return get_bytes(items, b"attr") or b""


def _read_v1_files(items: dict[bytes, Value], name: str) -> list[FileEntry]:
    if b"files" not in items:
        return [FileEntry((name,), _size(items, "the file"), 0, executable=b"x" in _attributes(items))]
    listed = get_list(items, b"files")
    if not listed:
        raise MetainfoError("the torrent's list of files is empty or no list")
    files: list[FileEntry] = []
    offset = 0
    for item in listed:
        if not isinstance(item, dict):
            raise MetainfoError("the torrent's list of files holds something that is no file")
        if b"p" in _attributes(item):
            entry = FileEntry((), _size(item, "a pad"), offset, pad=True)
        else:
            path = _v1_path(item, name)
            link = b"l" in _attributes(item)
            if link and get_int(item, b"length"):
                raise MetainfoError(f"{shown(path[-1])} is a symbolic link with a length")
            entry = FileEntry(
                path,
                0 if link else _size(item, shown(path[-1])),
                offset,
                link=link,
                target=_link_target(item, (name,)) if link else None,
                executable=b"x" in _attributes(item),
            )
        files.append(entry)
        offset += entry.size
    return files


def _link_target(item: dict[bytes, Value], top: tuple[str, ...]) -> tuple[str, ...] | None:
    """Where a link says that it points; None where that is no path below the torrent's own folder (BEP 47)."""
    parts = get_list(item, b"symlink path") or []
    texts = [decode_name(part) for part in parts if isinstance(part, bytes)]
    try:
        return safe_path([*top, *texts]) if texts and len(texts) == len(parts) else None
    except MetainfoError:
        return None


def _without_stray_links(files: list[FileEntry]) -> list[FileEntry]:
    """A link is believed only where it points to a file of the torrent: neither out of it, nor to a folder (which may
    be its own), nor to another link."""
    if not any(entry.link for entry in files):
        return files
    real = {entry.path for entry in files if entry.on_disk}
    return [replace(entry, target=None) if entry.link and entry.target not in real else entry for entry in files]


def _v1_path(item: dict[bytes, Value], name: str) -> tuple[str, ...]:
    parts = get_list(item, b"path.utf-8") or get_list(item, b"path")
    texts = [decode_name(part) for part in parts or () if isinstance(part, bytes)]
    if not parts or len(texts) != len(parts):
        raise MetainfoError("a file of the torrent has no path")
    path = safe_path([name, *texts])
    if len(path) < 2:
        raise MetainfoError("a file of the torrent has an empty path")
    return path


def _read_v2_files(items: dict[bytes, Value], name: str, piece_length: int) -> list[FileEntry]:
    if piece_length < BLOCK_BYTES or piece_length & (piece_length - 1):
        raise MetainfoError(f"a v2 torrent's piece length is a power of two from 16384 on, not {piece_length}")
    tree = get_dict(items, b"file tree")
    if not tree:
        raise MetainfoError("the v2 torrent has no file tree")
    leaves = list(_leaves(tree, ()))
    if len(leaves) == 1 and len(leaves[0][0]) == 1 and safe_path(leaves[0][0]) == (name,):
        prefix: tuple[str, ...] = ()
    else:
        prefix = (name,)
    files: list[FileEntry] = []
    offset = 0
    for names, leaf in leaves:
        path = safe_path((*prefix, *names))
        if len(path) < len(prefix) + 1:
            raise MetainfoError("a file of the torrent has an empty path")
        link = b"l" in _attributes(leaf)
        size = 0 if link else _size(leaf, shown(path[-1]))
        root = get_bytes(leaf, b"pieces root")
        if size and (root is None or len(root) != HASH_BYTES):
            raise MetainfoError(f"the file {shown(path[-1])} has no pieces root of {HASH_BYTES} bytes")
        offset += -offset % piece_length
        target = _link_target(leaf, prefix) if link else None
        runs = b"x" in _attributes(leaf)
        root = root if size else None
        files.append(FileEntry(path, size, offset, link=link, pieces_root=root, target=target, executable=runs))
        offset += size
    return files


def _leaves(tree: dict[bytes, Value], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[bytes, Value]]]:
    """The files of a v2 tree in its order. Depth is bounded by what `decode` lets through."""
    for key, value in tree.items():
        if not isinstance(value, dict) or not value or key == b"":
            raise MetainfoError("the v2 file tree holds something that is neither file nor folder")
        path = (*above, decode_name(key))
        leaf = value.get(b"")
        if leaf is None:
            yield from _leaves(value, path)
        elif isinstance(leaf, dict) and len(value) == 1:
            yield path, leaf
        else:
            raise MetainfoError(f"{shown(path[-1])} in the v2 file tree is file and folder at once")


def _join_hybrid(v1_files: list[FileEntry], v2_files: list[FileEntry]) -> list[FileEntry]:
    """The v1 list with the merkle roots of the v2 tree. Both must tell of the same files at the same places."""
    roots: dict[tuple[str, ...], FileEntry] = {entry.path: entry for entry in v2_files}
    joined: list[FileEntry] = []
    for entry in v1_files:
        if entry.pad:
            joined.append(entry)
            continue
        twin = roots.pop(entry.path, None)
        if twin is None or twin.size != entry.size or (entry.size and twin.offset != entry.offset):
            raise MetainfoError(f"the hybrid torrent's two sides disagree about {shown(entry.shown_path)}")
        joined.append(replace(entry, pieces_root=twin.pieces_root))
    if roots:
        raise MetainfoError("the hybrid torrent's two sides do not name the same files")
    return joined
