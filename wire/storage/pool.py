"""Open files of one torrent: never outside its folder, never too many, read and written by position.

Below the folder no symbolic link is followed: each part of a path is opened from the folder before it,
so that nothing can be swapped in between (where the system cannot, the resolved path is compared).
May be used from many threads at a time. Which bytes belong where is not known here.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wire.errors import DiskError

__all__ = ["FilePool", "Place", "allocate", "data_ranges", "disk_error", "read_at", "read_into", "write_all"]

_OPEN_FILES = 40
"""Kept open for one torrent: as libtorrent's pool; far below the usual limit of 1,024 a process."""

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FILE_FLAGS = _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Non-blocking only for the opening: a pipe lying there must not hang it."""
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_BY_FOLDER = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd and bool(_NO_FOLLOW)

_HINTS = {
    errno.ENOSPC: "; the disk is full: make room and start again, what was verified is kept",
    errno.EDQUOT: "; the quota is used up: make room and start again, what was verified is kept",
    errno.EIO: "; the disk itself fails: look at the system's log, and save what is on it",
    errno.EACCES: "; it is not permitted: check its owner and rights, or choose another folder",
    errno.EPERM: "; it is not permitted: check its owner and rights, or choose another folder",
    errno.EROFS: "; choose a folder that can be written",
    errno.EMFILE: "; raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "; choose a folder with a shorter path",
    errno.EFBIG: "; this disk's format does not take files of that size",
}

_position_lock = threading.Lock()
"""Where the system cannot read by position (Windows), seeking and reading must not be parted."""


class Place(NamedTuple):
    """A file that may be opened: where it lies below the pool's folder, and its greatest size in bytes."""

    parts: tuple[str, ...]
    max_size: int
    mode: int = 0o666
    """Of a file that is made, before the user's umask."""


@dataclass(slots=True, eq=False)
class _Open:
    fd: int
    writable: bool
    users: int = 0
    dropped: bool = False


class FilePool:
    """Opens files below `root`, and keeps the last used ones open."""

    def __init__(self, root: Path, limit: int = _OPEN_FILES) -> None:
        self.root = root
        self._limit = limit
        self._lock = threading.Lock()
        self._files: OrderedDict[Place, _Open] = OrderedDict()

    def path(self, place: Place) -> Path:
        """Where the file is, for messages."""
        return self.root.joinpath(*place.parts)

    @contextmanager
    def use(self, place: Place, *, write: bool = False) -> Iterator[int]:
        """A file descriptor for as long as the block runs.

        For writing, the file and its folders are made, and one larger than it may be is cut.
        Raises FileNotFoundError (for reading), other OSErrors, and DiskError for a link or what is no file.
        """
        with self._lock:
            opened = self._files.get(place)
            if opened is None or (write and not opened.writable):
                if opened is not None:
                    self._drop(place)
                opened = self._files[place] = self._open(place, write)
            self._files.move_to_end(place)
            opened.users += 1
            self._evict(self._limit)
        try:
            yield opened.fd
        finally:
            with self._lock:
                opened.users -= 1
                if opened.dropped and not opened.users:
                    os.close(opened.fd)

    def link(self, parts: tuple[str, ...], target: tuple[str, ...]) -> None:
        """Makes a relative symbolic link to a file below the folder, where nothing lies in its place yet.

        Where the system or the disk makes none there is none. `target` must be known to be harmless.
        """
        to = os.path.relpath(os.path.join(os.sep, *target), os.path.join(os.sep, *parts[:-1]))
        if not (_BY_FOLDER and os.symlink in os.supports_dir_fd):
            return  # not where folders could be swapped meanwhile
        with suppress(OSError):
            folder = self._open_folder(parts[:-1], write=True)
            try:
                os.symlink(to, parts[-1], dir_fd=folder)
            finally:
                os.close(folder)

    def close(self) -> None:
        """Closes all; one that is in use right now is closed when its user is done."""
        with self._lock:
            for place in list(self._files):
                self._drop(place)

    def _drop(self, place: Place) -> None:
        opened = self._files.pop(place)
        opened.dropped = True
        if not opened.users:
            os.close(opened.fd)

    def _evict(self, keep: int) -> None:
        if len(self._files) > keep:
            for place in [place for place, opened in self._files.items() if not opened.users]:
                if len(self._files) <= keep:
                    break
                self._drop(place)

    def _open(self, place: Place, write: bool) -> _Open:
        try:
            fd = self._open_below(place, write)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            self._evict(0)
            fd = self._open_below(place, write)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise DiskError(f"{self.path(place)} is in the way: it is no regular file")
            if write and found.st_size > place.max_size:
                os.ftruncate(fd, place.max_size)
        except BaseException:
            os.close(fd)
            raise
        return _Open(fd, write)

    def _open_below(self, place: Place, write: bool) -> int:
        try:
            if _BY_FOLDER:
                return self._open_from_folders(place, write)
            return self._open_by_path(place, write)
        except OSError as error:
            link = self._link_on(place)
            if link is not None and error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                raise _link_error(link) from None
            if error.errno == errno.EISDIR:
                raise DiskError(f"{self.path(place)} is in the way: it is a folder") from None
            raise

    def _open_from_folders(self, place: Place, write: bool) -> int:
        folder = self._open_folder(place.parts[:-1], write)
        try:
            flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
            return os.open(place.parts[-1], flags | _FILE_FLAGS, place.mode, dir_fd=folder)
        finally:
            os.close(folder)

    def _open_folder(self, parts: tuple[str, ...], write: bool) -> int:
        folder = os.open(self.root, _FOLDER_FLAGS)
        try:
            for part in parts:
                try:
                    inner = os.open(part, _FOLDER_FLAGS | _NO_FOLLOW, dir_fd=folder)
                except FileNotFoundError:
                    if not write:
                        raise
                    with suppress(FileExistsError):  # another was faster; what it made is looked at next
                        os.mkdir(part, dir_fd=folder)
                    inner = os.open(part, _FOLDER_FLAGS | _NO_FOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
        except BaseException:
            os.close(folder)
            raise
        return folder

    def _open_by_path(self, place: Place, write: bool) -> int:
        path = self.path(place)
        link = self._link_on(place)
        if link is not None:
            raise _link_error(link)
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
        root = os.path.realpath(self.root)
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise DiskError(f"{path} leads out of {self.root}")
        flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        return os.open(path, flags | _FILE_FLAGS, place.mode)

    def _link_on(self, place: Place) -> Path | None:
        """The first symbolic link on the way from the folder to the file."""
        path = self.root
        for part in place.parts:
            path = path / part
            if path.is_symlink():
                return path
        return None


def _link_error(link: Path) -> DiskError:
    return DiskError(f"{link} is a symbolic link, which is not followed: remove it, or choose another folder")


def disk_error(action: str, path: Path, error: OSError) -> DiskError:
    """The world's failure in one line: what could not be done to what, why, and what may help."""
    reason = error.strerror or str(error) or type(error).__name__
    return DiskError(f"cannot {action} {path}: {reason}{_HINTS.get(error.errno or 0, '')}")


def read_into(fd: int, view: memoryview, offset: int) -> int:
    """Fills `view` from `offset` of the file; how many bytes there were: fewer only at its end."""
    done = 0
    while done < len(view):
        if hasattr(os, "preadv"):
            got = os.preadv(fd, [view[done:]], offset + done)
        elif hasattr(os, "pread"):
            data = os.pread(fd, len(view) - done, offset + done)
            got = len(data)
            view[done : done + got] = data
        else:
            with _position_lock:
                os.lseek(fd, offset + done, os.SEEK_SET)
                data = os.read(fd, len(view) - done)
            got = len(data)
            view[done : done + got] = data
        if not got:
            break
        done += got
    return done


def read_at(fd: int, length: int, offset: int) -> bytes:
    """`length` bytes from `offset`, fewer at the file's end: without the copy that filling a buffer would cost."""
    if hasattr(os, "pread"):
        data = os.pread(fd, length, offset)
        if len(data) in (0, length):
            return data
    buffer = bytearray(length)
    return bytes(buffer[: read_into(fd, memoryview(buffer), offset)])


def write_all(fd: int, view: memoryview, offset: int) -> None:
    """Writes all of `view` at `offset`; what lies between the file's end and there stays a hole where disks can."""
    done = 0
    while done < len(view):
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, view[done:], offset + done)
        else:
            with _position_lock:
                os.lseek(fd, offset + done, os.SEEK_SET)
                done += os.write(fd, view[done:])


def allocate(fd: int, size: int) -> None:
    """Makes the file `size` bytes long where it is shorter, with room on the disk for all of them where it can tell.

    Raises OSError, as for a disk without that room. Where the disk or the system cannot set room aside the file
    only becomes as long: what is missing then shows while it is written.
    """
    have = os.fstat(fd).st_size
    if hasattr(os, "posix_fallocate") and size:
        try:
            os.posix_fallocate(fd, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                if os.fstat(fd).st_size > have:  # it took what there was, which others may need
                    os.ftruncate(fd, have)
                raise
    if have < size:
        os.ftruncate(fd, size)


def data_ranges(fd: int, size: int) -> list[tuple[int, int]]:
    """Where the file holds data, as (start, end), ascending; the rest is holes, which read as zeros."""
    if not hasattr(os, "SEEK_DATA"):
        return [(0, size)]
    ranges: list[tuple[int, int]] = []
    at = 0
    try:
        while at < size:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
            ranges.append((start, at))
    except OSError as error:
        if error.errno != errno.ENXIO:  # that one says: no data after here; another, that the disk cannot tell
            return [(0, size)]
    return ranges
