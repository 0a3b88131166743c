"""One content under two names, and each its own again: reflinks, hard links, and the copy that ends it.

A reflink (btrfs, XFS, bcachefs) is a copy that shares its blocks until one of the two is written. A hard link is one
file with two names: whoever writes to it must give it a file of its own first, else the other changes too. Blocking.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from wire.storage.raw import data_ranges, read_into, write_all

__all__ = ["CAN_SHARE", "share", "unshare"]

CAN_SHARE = os.link in os.supports_dir_fd and os.open in os.supports_dir_fd
"""Elsewhere (Windows) the two ends cannot be held while they are joined."""

_FICLONE = 0x40049409
"""Linux: `ioctl_ficlone(2)`."""
_COPY_BYTES = 1 << 20
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def share(donor: int, donor_folder: int, donor_name: str, folder: int, name: str) -> bool:
    """Gives `name` in `folder`, where nothing lies yet, the content of the open file `donor`, without copying it.

    A reflink where the disk makes them, else a hard link. False where neither can be, or where the donor's name leads
    to another file by now; nothing is left behind then. Raises no OSError.
    """
    return _clone(donor, folder, name) or _link(donor, donor_folder, donor_name, folder, name)


def _clone(donor: int, folder: int, name: str) -> bool:
    try:
        from fcntl import ioctl
    except ImportError:
        return False
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, dir_fd=folder)
    except OSError:
        return False
    try:
        ioctl(fd, _FICLONE, donor)
    except OSError:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        return False
    finally:
        os.close(fd)
    return True


def _link(donor: int, donor_folder: int, donor_name: str, folder: int, name: str) -> bool:
    try:
        os.link(donor_name, name, src_dir_fd=donor_folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    try:
        same = os.path.samestat(os.fstat(donor), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        same = False
    if not same:  # something else was moved to that name meanwhile
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
    return same


def unshare(fd: int, name: str, folder: int | None) -> None:
    """Gives `name` (in `folder`, where that is given) a file of its own with the content of the open file `fd`.

    At every moment the name leads to one of the two, whole. `fd` still is the old one. Raises OSError, as for a full
    disk; then nothing has changed.
    """
    found = os.fstat(fd)
    head, tail = os.path.split(name)
    aside = os.path.join(head, f".{tail[:200]}.{os.getpid()}.own")
    with suppress(FileNotFoundError):  # of a run that was killed
        os.unlink(aside, dir_fd=folder)
    copy = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, stat.S_IMODE(found.st_mode), dir_fd=folder)
    try:
        try:
            _copy(fd, copy, found.st_size)
        finally:
            os.close(copy)
        os.replace(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside, dir_fd=folder)
        raise


def _copy(source: int, target: int, size: int) -> None:
    """Holes stay holes."""
    buffer = memoryview(bytearray(_COPY_BYTES))
    for start, end in data_ranges(source, size):
        at = start
        while at < end and (got := read_into(source, buffer[: min(_COPY_BYTES, end - at)], at)):
            write_all(target, buffer[:got], at)
            at += got
    os.ftruncate(target, size)
