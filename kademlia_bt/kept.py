"""Files that a program keeps between its runs, read like bytes from a stranger and written in one step. Shell."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from wire.errors import DiskError, ProtocolError

__all__ = ["damaged", "read", "write"]


def read(path: Path, what: str, most_bytes: int) -> bytes | None:
    """The file's content, of one that is too long a byte more than `most_bytes`; None where there is none.

    Raises DiskError, with the file named as `what`: also for a pipe or a device, which might be waited for in vain.
    """
    try:
        # Without the flag, opening a pipe would wait for somebody who writes to it.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DiskError(f"cannot read {what} {path}: it is no regular file")
            return file.read(most_bytes + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskError(f"cannot read {what} {path}: {error.strerror or error}") from error


def damaged(path: Path, what: str, error: ProtocolError, then: str) -> ProtocolError:
    """Sets a file aside as `NAME.damaged`; gives the error that says so, and what is done `then`."""
    with contextlib.suppress(OSError):  # it will be overwritten instead
        path.replace(path.with_name(path.name + ".damaged"))
    return ProtocolError(f"{what} {path} is damaged ({error}); {then}")


def write(path: Path, what: str, parts: Iterable[bytes]) -> None:
    """Writes the file in one step. Raises DiskError.

    It is not synced: after a power cut the reader's checksum tells, and what was in it is found anew.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.writelines(parts)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DiskError(f"cannot save {what} {path}: {error.strerror or error}") from error
