"""Where a torrent's bytes lie: safe relative paths, and from a place in the pieces to places in files (BEP 3, BEP 47).

A name from a torrent is hostile. What would leave the folder, mean a device, not fit, or fall together
with another file is refused; what merely should not reach a terminal or a Windows disk (control and
text-direction characters, `:` and its like) is replaced, always in the same way. Nothing here touches a disk.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from wire.errors import MetainfoError, MisuseError

__all__ = ["FileEntry", "Layout", "decode_name", "refuse_collisions", "safe_part", "shown"]

_WINDOWS = sys.platform == "win32"

_MAX_PART_BYTES = 255
"""Of a file's or folder's name in UTF-8: what ext4, APFS and most others take."""
_MAX_PATH_BYTES = 2048
"""Of a whole relative path: half of Linux's 4,096, so that the folder it goes into fits too."""
_MAX_PARTS = 100
"""Folders inside each other, as libtorrent."""

_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"]
    + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"]
)
"""Names that Windows gives to devices in every folder, with any extension, in any case."""

_DRIVE = re.compile(r"[A-Za-z]:(?:$|[\\/])")
_SEPARATORS = re.compile(r"[\\/]")
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode's bidirectional controls: with them `exe.doc` may be shown for `cod.exe`."""
_WINDOWS_FORBIDDEN = re.compile(r'[<>:"|?*]')


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a torrent. `path` is relative to the folder of the download and safe to join to it."""

    path: tuple[str, ...]
    """Its parts, the torrent's own name first where there are several files; empty for a pad."""
    size: int
    """Bytes."""
    offset: int
    """Where it starts in the pieces laid end to end, in bytes."""
    pad: bool = False
    """Zeros that only align the next file; never on disk (BEP 47)."""
    link: bool = False
    """A symbolic link: it has no bytes (BEP 47)."""
    pieces_root: bytes | None = None
    """The root of its merkle tree, 32 bytes, in a v2 or hybrid torrent (BEP 52); None for an empty file."""
    target: tuple[str, ...] | None = None
    """Of a link: the path of the file of this torrent that it points to; None where it points elsewhere: such a link
    is never made."""
    executable: bool = False
    """Whether it is made as a program (BEP 47)."""

    @property
    def on_disk(self) -> bool:
        """Whether it is written: neither a pad nor a link."""
        return not (self.pad or self.link)

    @property
    def shown_path(self) -> str:
        """The parts joined by `/`, for people."""
        return "/".join(self.path)


class Layout:
    """Files laid end to end over pieces of one length, the last one as long as is left.

    `aligned`: each file starts on a piece of its own, and its last piece ends where the file does (BEP 52).
    """

    __slots__ = ("_indices", "_starts", "files", "piece_count", "piece_length", "short", "size")

    def __init__(self, files: Sequence[FileEntry], piece_length: int, *, aligned: bool = False) -> None:
        self.files = tuple(files)
        self.piece_length = piece_length
        self.size = max((entry.offset + entry.size for entry in files), default=0)
        self.piece_count = -(-self.size // piece_length)
        self._indices = [index for index, entry in enumerate(files) if entry.size]
        self._starts = [files[index].offset for index in self._indices]
        ends = [files[index].offset + files[index].size for index in self._indices] if aligned else [self.size]
        self.short: Mapping[int, int] = {end // piece_length: end % piece_length for end in ends if end % piece_length}
        """The pieces that are shorter than the others, and their bytes."""

    def piece_size(self, index: int) -> int:
        """Bytes in a piece. Raises MisuseError where there is no such piece."""
        if not 0 <= index < self.piece_count:
            raise MisuseError(f"there is no piece {index} among {self.piece_count}")
        return self.short.get(index, self.piece_length)

    def file_at(self, offset: int) -> int:
        """The index of the file, or pad, that holds the byte at `offset`, which is within the torrent."""
        return self._indices[bisect_right(self._starts, offset) - 1]

    def spans(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Which bytes of which files make up `length` bytes at `offset`: (file index, offset in it, bytes).

        In order, without gaps, never empty; pads included. Raises MisuseError where the range leaves the torrent.
        """
        end = offset + length
        if offset < 0 or length < 0 or end > self.size:
            raise MisuseError(f"bytes {offset} to {end} are not within the torrent's {self.size}")
        at = bisect_right(self._starts, offset) - 1
        while offset < end:
            index = self._indices[at]
            entry = self.files[index]
            offset = max(offset, entry.offset)  # before a v2 file, which starts on a piece of its own, is a gap
            taken = min(entry.offset + entry.size, end) - offset
            if taken > 0:
                yield index, offset - entry.offset, taken
                offset += taken
            at += 1

    def pieces_of(self, file_index: int) -> range:
        """The pieces that hold bytes of a file; empty for an empty file."""
        entry = self.files[file_index]
        if not entry.size:
            return range(0)
        return range(entry.offset // self.piece_length, (entry.offset + entry.size - 1) // self.piece_length + 1)


def decode_name(raw: bytes) -> str:
    """UTF-8 as it should be; a byte that is none becomes `%E9`, so that two such names stay two."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return "".join(f"%{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char for char in text)


def shown(text: str, limit: int = 80) -> str:
    """Hostile text as it may go into a message: in quotes, escaped, cut."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


@lru_cache(maxsize=4096)  # a folder's name comes once for each file in it
def safe_part(name: str, *, windows: bool = _WINDOWS) -> str | None:
    """A name as one part of a path below the download's folder; None for `` and `.`, which add nothing.

    Raises:
        MetainfoError: It would leave the folder, is absolute, holds NUL, means a device, or is over-long.
    """
    if "\0" in name:
        raise MetainfoError(f"refused: the file name {shown(name)} holds a NUL character")
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        raise MetainfoError(f"refused: the file name {shown(name)} is an absolute path")
    if name.count(".") > 1 and any(
        step.count(".") > 1 and not step.strip(". ") for step in _SEPARATORS.split(name)
    ):  # Windows drops dots and spaces at the end, so `.. ` is `..` to it, and `...` has been more
        raise MetainfoError(f"refused: the file name {shown(name)} leads out of its folder")
    if name in ("", "."):
        return None
    part = _SEPARATORS.sub("_", name)
    if not part.isprintable():
        part = "".join("_" if _unshowable(char) else char for char in part)
    if part.partition(".")[0].partition(":")[0].rstrip(" ").upper() in _DEVICES:
        raise MetainfoError(f"refused: the file name {shown(name)} is a device's name on Windows")
    if windows:
        part = _WINDOWS_FORBIDDEN.sub("_", part)
    if windows or not part.strip(". "):
        bare = part.rstrip(". ")
        part = bare + "_" * (len(part) - len(bare))
    length = len(part.encode("utf-8"))
    if length > _MAX_PART_BYTES:
        raise MetainfoError(
            f"refused: the file name {shown(name)} is over-long: {length} bytes, where disks take {_MAX_PART_BYTES}"
        )
    return part


def safe_path(parts: Iterable[str]) -> tuple[str, ...]:
    """The safe parts of a path; empty where nothing is left of it. Raises MetainfoError as `safe_part` does."""
    made = tuple(part for part in map(safe_part, parts) if part is not None)
    if len(made) > _MAX_PARTS or sum(len(part.encode("utf-8")) + 1 for part in made) > _MAX_PATH_BYTES:
        raise MetainfoError(f"refused: the path of {shown(made[-1])} is over-long or deeper than {_MAX_PARTS} folders")
    return made


def refuse_collisions(files: Sequence[FileEntry]) -> None:
    """Raises MetainfoError where two files would be one, or one a folder of another, on some disk.

    Disks differ: to some, case and the composed or decomposed form of accents do not count, so they do not here.
    """
    if len(files) < 2:
        return
    taken: dict[tuple[str, ...], FileEntry] = {}
    folders: dict[tuple[str, ...], FileEntry] = {}
    folded: dict[str, str] = {}
    for entry in files:
        if entry.pad:
            continue
        for part in entry.path:
            if part not in folded:
                folded[part] = _folded(part)
        key = tuple(folded[part] for part in entry.path)
        other = taken.get(key) or folders.get(key)
        for depth in range(1, len(key)):
            other = other or taken.get(key[:depth])
            folders.setdefault(key[:depth], entry)
        if other is not None:
            raise MetainfoError(
                f"refused: the files {shown(other.shown_path)} and {shown(entry.shown_path)} collide: "
                "on some disks they are one"
            )
        taken[key] = entry


def _folded(part: str) -> str:
    """What it is to a disk for which neither case nor the form of accents counts, nor dots and spaces at the end."""
    if not part.isascii():
        part = unicodedata.normalize("NFC", unicodedata.normalize("NFD", part).casefold())
    return part.casefold().rstrip(". ")


def _unshowable(char: str) -> bool:
    """Control characters, line separators, and what turns the direction of text; joiners, as in emoji, may stay."""
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _DIRECTION
