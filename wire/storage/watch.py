"""Whether somebody else changed a torrent's files while they are ours: what each looked like when we left it.

An edit in the very moment in which we write to the same file is not seen, a cut is. What lies in a file is no business
of this. Blocking; for one thread at a time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from wire.storage.resume import Stamp

__all__ = ["Watch"]

MAX_VAIN = 2
"""Times that files which looked changed are hashed in vain, before their times are no longer minded: network disks set
these as they like."""


class Watch:
    """The files of one torrent, by the keys of `Places`; `path_of` says where each is."""

    __slots__ = ("_path_of", "_room", "_vain", "changed", "stamps")

    def __init__(self, path_of: Callable[[int], str]) -> None:
        self._path_of = path_of
        self._vain = 0
        self._room: dict[int, int] = {}
        """What each took of the disk at its last look."""
        self.stamps: dict[int, Stamp] = {}
        """What those that are there looked like when we had looked at them, or written to them, last."""
        self.changed: set[int] = set()
        """Those that looked otherwise since."""

    def look(self, keys: Iterable[int]) -> set[int]:
        """Which of these somebody else changed, moved or replaced, as far as is not in `changed` yet."""
        found = {key for key in keys if key not in self.changed and key in self.stamps and not self._is_as_left(key)}
        self.changed |= found
        return found

    def sees_news(self, keys: Iterable[int]) -> bool:
        """Whether `look` would find any of these."""
        return any(key not in self.changed and key in self.stamps and not self._is_as_left(key) for key in keys)

    def _is_as_left(self, key: int) -> bool:
        known = self.stamps[key]
        try:
            found = os.lstat(self._path_of(key))
        except OSError:
            return False
        self._room[key] = _room(found)
        if self._vain < MAX_VAIN:
            return Stamp.of(found) == known
        return found.st_size == known.size and stat.S_ISREG(found.st_mode)

    def cut(self, keys: Iterable[int]) -> set[int]:
        """Which of these took more of the disk at their `look` than now: we only wrote to them. In `changed` then."""
        found = set()
        for key in keys if self._vain < MAX_VAIN else ():
            with suppress(OSError):  # it is gone: the next look says so
                if _room(os.lstat(self._path_of(key))) < self._room.get(key, 0):
                    found.add(key)
        self.changed |= found
        return found

    def in_vain(self) -> None:
        """What looked changed had its content."""
        self._vain += 1


def _room(found: os.stat_result) -> int:
    return getattr(found, "st_blocks", 0)
