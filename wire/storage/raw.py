"""Reading and writing an open file by position, whatever the system has for it: room set aside, holes found."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence

__all__ = ["allocate", "data_ranges", "read_cached", "read_into", "read_views", "write_all", "write_views"]

_VIEWS_AT_ONCE = 512
"""Below the IOV_MAX of 1,024 that systems guarantee."""
_WRITE_BYTES = 64 << 10
"""Written by one call, at most. Linux takes memory for its page cache in stretches as long as a call writes, and long
ones are what the host of a virtual machine has taken back meanwhile: to touch them costs more than the calls."""

_position_lock = threading.Lock()
"""Where the system cannot read by position (Windows), seeking and reading must not be parted."""


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


def read_views(fd: int, views: Sequence[memoryview], offset: int) -> int:
    """As `read_into`, of several that follow each other, as few calls as the system lets it be."""
    done = 0
    for at in range(0, len(views), _VIEWS_AT_ONCE):
        some = views[at : at + _VIEWS_AT_ONCE]
        got = os.preadv(fd, some, offset + done) if hasattr(os, "preadv") else 0
        for view in some:
            if got < len(view):  # the file's end, or a disk that gave a part: what says so is the next call
                rest = view[got:]
                if (more := read_into(fd, rest, offset + done + got)) < len(rest):
                    return done + got + more
                got = len(view)
            got -= len(view)
            done += len(view)
    return done


def read_cached(fd: int, views: Sequence[memoryview], offset: int) -> bool:
    """As `read_views`, without waiting for a disk: False where not all is in memory, or the system cannot tell."""
    no_wait = getattr(os, "RWF_NOWAIT", 0)  # Linux alone has it
    if not no_wait or not hasattr(os, "preadv"):
        return False
    for at in range(0, len(views), _VIEWS_AT_ONCE):
        some = views[at : at + _VIEWS_AT_ONCE]
        size = sum(map(len, some))
        try:
            if os.preadv(fd, some, offset, no_wait) < size:
                return False
        except OSError:  # not in memory, or a file system that cannot do this
            return False
        offset += size
    return True


def write_all(fd: int, view: memoryview, offset: int) -> None:
    """Writes all of `view` at `offset`; what lies between the file's end and there stays a hole where disks can."""
    done = 0
    while done < len(view):
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, view[done : done + _WRITE_BYTES], offset + done)
        else:
            with _position_lock:
                os.lseek(fd, offset + done, os.SEEK_SET)
                done += os.write(fd, view[done : done + _WRITE_BYTES])


def write_views(fd: int, views: Sequence[memoryview], offset: int) -> None:
    """As `write_all`, of several that follow each other, small ones together."""
    if not hasattr(os, "pwritev"):
        for view in views:
            write_all(fd, view, offset)
            offset += len(view)
        return
    for some in _gathered(views):
        if len(some) == 1:
            write_all(fd, some[0], offset)
            offset += len(some[0])
            continue
        done = os.pwritev(fd, some, offset)
        for view in some:
            if done < len(view):  # a disk that fills up takes a part: what says so is the next call
                write_all(fd, view[done:], offset + done)
            done = max(0, done - len(view))
            offset += len(view)


def _gathered(views: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """What one call each is to write; a longer one is alone."""
    some: list[memoryview] = []
    size = 0
    for view in views:
        if some and (size + len(view) > _WRITE_BYTES or len(some) == _VIEWS_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(view)
        size += len(view)
    if some:
        yield some


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
