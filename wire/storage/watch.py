"""Whether somebody else changed a torrent's files while they are ours: what each looked like when we left it.

A change in the very moment in which we write to the same file is not seen; what lies in it is not looked at here.
Blocking; for one thread at a time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from wire.storage.resume import Stamp

__all__ = ["Watch"]

MAX_VAIN = 2
"""Times that files which looked changed are hashed in vain, before their times are no longer minded: network disks set
these as they like."""


class Watch:
    """The files of one torrent, by the keys of `Places`; `path_of` says where each is."""

    __slots__ = ("_path_of", "_vain", "changed", "stamps")

    def __init__(self, path_of: Callable[[int], Path]) -> None:
        self._path_of = path_of
        self._vain = 0
        self.stamps: dict[int, Stamp] = {}
        """What those that are there looked like when we had looked at them, or written to them, last."""
        self.changed: set[int] = set()
        """Those that looked otherwise since."""

    def look(self, keys: Iterable[int]) -> set[int]:
        """Which of these somebody else changed, moved or replaced, as far as is not in `changed` yet."""
        found = {key for key in keys if key not in self.changed and key in self.stamps and not self._is_as_left(key)}
        self.changed |= found
        return found

    def _is_as_left(self, key: int) -> bool:
        known = self.stamps[key]
        try:
            found = os.lstat(self._path_of(key))
        except OSError:
            return False
        if self._vain < MAX_VAIN:
            return Stamp.of(found) == known
        return found.st_size == known.size and stat.S_ISREG(found.st_mode)

    def in_vain(self) -> None:
        """What looked changed had its content."""
        self._vain += 1
