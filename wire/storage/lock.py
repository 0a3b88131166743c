"""One process at a time: a lock on a file, which ends with the process, however that ends.

The file stays when the lock goes: to remove it would be a race with the next one. Blocking for no time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

from wire.errors import DiskError, MisuseError

__all__ = ["FileLock"]


class FileLock:
    """A lock that a process holds from `take` to `release`; two of one process exclude each other as well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def take(self, otherwise: str) -> None:
        """Takes it. Raises MisuseError with the text `otherwise` where somebody has it, DiskError for a bad folder."""
        if self._file is not None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("ab")
        except OSError as error:
            raise DiskError(f"cannot write {self._path}: {error.strerror}") from error
        try:
            _lock(file)
        except OSError as error:
            file.close()
            raise MisuseError(otherwise) from error
        self._file = file

    def release(self) -> None:
        """Lets go of it; nothing where it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
