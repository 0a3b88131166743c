"""Open files of one torrent: never outside its folder, never too many, read and written by position.

All pools of the process together keep no more open than a part of what it may: who was used last keeps his.

Below the folder no symbolic link is followed: each part of a path is opened from the folder before it,
so that nothing can be swapped in between (where the system cannot, the resolved path is compared).
May be used from many threads at a time. Which bytes belong where is not known here.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wire.descriptors import open_files
from wire.errors import DiskError
from wire.storage.raw import read_cached
from wire.storage.share import CAN_SHARE, share, unshare

__all__ = ["FilePool", "Place", "disk_error"]

_OPEN_FILES = 40
"""Kept open for one torrent: as libtorrent's pool; far below the usual limit of 1,024 a process."""

_PART = 4
"""All torrents together keep a quarter of what the process may have open: half is for peers, and some must be free."""

_PATIENCE_S = (0.01, 0.05, 0.1)
"""Where no file is left: how long each pool is waited for that is busy, the first time and again."""

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


class _Pools:
    """All pools of this process, and how many files they have open: descriptors are the process's, not a torrent's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: weakref.WeakSet[FilePool] = weakref.WeakSet()
        self._uses = itertools.count()
        self.open = 0

    def join(self, pool: FilePool) -> None:
        with self._lock:
            self._pools.add(pool)

    def use(self) -> int:
        """Numbers the uses of files, so that it is known which pool was used last."""
        return next(self._uses)

    def count(self, more: int) -> None:
        with self._lock:
            self.open += more

    def relieve(self, pool: FilePool, most: int, patience_s: float = 0.0) -> None:
        """Closes what others have open and do not use now, until at most so many are: the longest unused pools first.

        `pool` is the caller, who holds its lock. A pool that is busy for longer is passed over, so that two never wait
        for each other.
        """
        with self._lock:
            others = sorted((other for other in self._pools if other is not pool), key=lambda other: other.used)
        for other in others:
            if self.open <= most:
                return
            if other.lock.acquire(timeout=patience_s):
                try:
                    other.evict(0)
                finally:
                    other.lock.release()


_POOLS = _Pools()


class FilePool:
    """Opens files below `root`, and keeps the last used ones open."""

    def __init__(self, root: Path, limit: int = _OPEN_FILES) -> None:
        self.root = root
        self._limit = limit
        self.lock = threading.Lock()
        self._files: OrderedDict[Place, _Open] = OrderedDict()
        self.used = 0
        _POOLS.join(self)

    def path(self, place: Place) -> Path:
        """Where the file is, for messages."""
        return self.root.joinpath(*place.parts)

    def name(self, place: Place) -> str:
        """The same for the system."""
        return os.path.join(self.root, *place.parts)

    @contextmanager
    def use(self, place: Place, *, write: bool = False) -> Iterator[int]:
        """A file descriptor for as long as the block runs.

        For writing, the file and its folders are made, and one larger than it may be is cut.
        Raises FileNotFoundError (for reading), other OSErrors, and DiskError for a link or what is no file.
        """
        with self.lock:
            opened = self._files.get(place)
            if opened is None or (write and not opened.writable):
                if opened is not None:
                    self._drop(place)
                opened = self._files[place] = self._open(place, write)
            self._files.move_to_end(place)
            opened.users += 1
            self.used = _POOLS.use()
            self.evict(self._limit)
        try:
            yield opened.fd
        finally:
            with self.lock:
                opened.users -= 1
                if opened.dropped and not opened.users:
                    self._close(opened)

    def read_cached(self, place: Place, views: Sequence[memoryview], offset: int) -> bool:
        """Fills these with what the system has of a file in memory, without waiting for a disk or for other threads.

        False where that cannot be: not all is in memory, the file is not open, or somebody opens one just now.
        """
        if not self.lock.acquire(blocking=False):
            return False
        try:  # nobody closes it as long as the lock is held
            opened = self._files.get(place)
            if opened is None or not read_cached(opened.fd, views, offset):
                return False
            self._files.move_to_end(place)
            self.used = _POOLS.use()
            return True
        finally:
            self.lock.release()

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

    def share(self, place: Place, other: FilePool, its_place: Place) -> bool:
        """Gives `place`, where nothing lies yet, the content of another pool's file without copying it.

        False where the disk or the system can do no such thing, or something is in the way. Raises no OSError.
        """
        if not (_BY_FOLDER and CAN_SHARE):
            return False
        folders: list[int] = []
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with other.use(its_place) as donor:
                folders.append(other._open_folder(its_place.parts[:-1], write=False))
                folders.append(self._open_folder(place.parts[:-1], write=True))
                same_mode = bool(os.fstat(donor).st_mode & 0o100) == bool(place.mode & 0o100)
                return same_mode and share(donor, folders[0], its_place.parts[-1], folders[1], place.parts[-1])
        except (OSError, DiskError):
            return False
        finally:
            for folder in folders:
                os.close(folder)

    def forget(self, place: Place) -> None:
        """Closes one, as `close` does."""
        with self.lock:
            if place in self._files:
                self._drop(place)

    def close(self) -> None:
        """Closes all; one that is in use right now is closed when its user is done."""
        with self.lock:
            for place in list(self._files):
                self._drop(place)

    def _drop(self, place: Place) -> None:
        opened = self._files.pop(place)
        opened.dropped = True
        if not opened.users:
            self._close(opened)

    def _close(self, opened: _Open) -> None:
        _POOLS.count(-1)
        os.close(opened.fd)

    def evict(self, keep: int) -> None:
        """Closes the longest unused, until it has so many; for who holds its lock."""
        if len(self._files) > keep:
            for place in [place for place, opened in self._files.items() if not opened.users]:
                if len(self._files) <= keep:
                    break
                self._drop(place)

    def _open(self, place: Place, write: bool) -> _Open:
        if _POOLS.open >= (most := open_files() // _PART):
            _POOLS.relieve(self, most * 3 // 4)
        for patience_s in (*_PATIENCE_S, None):
            try:
                fd = self._open_below(place, write)
                break
            except OSError as error:
                if error.errno != errno.EMFILE or patience_s is None:
                    raise
            self.evict(0)
            _POOLS.relieve(self, 0, patience_s)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise DiskError(f"{self.path(place)} is in the way: it is no regular file")
            if write and found.st_nlink > 1:
                self._unshare(place, fd)
                os.close(fd)
                fd = -1
                fd = self._open_below(place, write)
            if write and found.st_size > place.max_size:
                os.ftruncate(fd, place.max_size)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        _POOLS.count(1)
        return _Open(fd, write)

    def _unshare(self, place: Place, fd: int) -> None:
        """A file with another name elsewhere is written to as a copy: who has that name keeps what he has."""
        if not _BY_FOLDER:
            unshare(fd, str(self.path(place)), None)
            return
        folder = self._open_folder(place.parts[:-1], write=True)
        try:
            unshare(fd, place.parts[-1], folder)
        finally:
            os.close(folder)

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
