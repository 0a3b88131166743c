"""The resume file of one download while it runs: read at the start, replaced by snapshots, added to by records.

What the records say is in `resume`, what is believed of it in `disk`. Blocking; for many threads. Without a path
nothing is remembered.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from wire.errors import DiskError
from wire.metainfo import Info
from wire.storage.pool import disk_error
from wire.storage.raw import write_all
from wire.storage.resume import Remembered, replay, snapshot

__all__ = ["Journal", "boot"]

_MAX_RESUME_BYTES = 256 << 20
"""Of a resume file that is read: two million pieces of the largest torrent, each with its record, fit."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Journal:
    """See the module's first lines; `path` is the resume file."""

    def __init__(self, path: Path | None, info: Info) -> None:
        self.path = path
        self._info = info
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._end = 0

    def recall(self, root: Path) -> Remembered | None:
        """What is remembered, if it is about this folder and nothing can have been lost since. Raises DiskError."""
        if self.path is None:
            return None
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_RESUME_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error("read", self.path, error) from error
        remembered = replay(data, self._info)
        if remembered is None or remembered.root != str(root):
            return None
        # Killed, but the machine ran on: every write arrived. After a crash of the machine some may not have.
        if not remembered.clean and (not remembered.boot or remembered.boot != boot()):
            return None
        return remembered

    def begin(self, remembered: Remembered) -> None:
        """From now on records are added to this. Raises DiskError."""
        if self.path is None:
            return
        self._replace(self.path, remembered)
        flags = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._fd = os.open(self.path, flags)
        except OSError as error:
            raise disk_error("write", self.path, error) from error

    def add(self, record: bytes) -> None:
        """Adds a record; one that a full disk tore is written over by the next. Raises DiskError."""
        with self._lock:
            if record and self._fd is not None and self.path is not None:
                try:
                    write_all(self._fd, memoryview(record), self._end)
                except OSError as error:
                    raise disk_error("write", self.path, error) from error
                self._end += len(record)

    def end(self, remembered: Remembered) -> None:
        """Says all of it in short. On a disk that takes no more the journal says the same."""
        if self._fd is not None and self.path is not None:
            self.let_go()
            with suppress(DiskError):
                self._replace(self.path, remembered)

    def let_go(self) -> None:
        """Closes the file as it is."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _replace(self, path: Path, remembered: Remembered) -> None:
        """Puts a snapshot in its place, so that at every moment one or the other is whole."""
        data = snapshot(self._info, remembered)
        aside = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            os.replace(aside, path)
        except OSError as error:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise disk_error("write", path, error) from error
        self._end = len(data)


def boot() -> str:
    """Names this run of the machine; empty where the system has no name for it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
