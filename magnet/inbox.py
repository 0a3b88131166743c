"""What other processes ask of the one that keeps a session's list: to put torrents on it, or to take some off.

Each request is a small file in a folder beside the list, written whole, read like bytes from a stranger, and removed
when it was followed: by that its writer knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from magnet.roster import Listed, read_list, write_list
from wire.errors import DiskError, ProtocolError

__all__ = ["Inbox", "Kind", "Request"]

Kind = Literal["add", "remove"]

LOOK_S = 0.5
"""Between two looks into the folder: a listing of nothing, mostly."""
PATIENCE_S = 15.0
"""How long a request waits to be followed: who keeps the list may just be hashing on all cores, or leaving."""
_MAX_REQUEST_BYTES = 1 << 20
_MAX_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Request:
    """What one process asks."""

    kind: Kind
    entries: tuple[Listed, ...]
    path: Path

    def followed(self) -> None:
        """Tells the process that asked."""
        with suppress(OSError):
            self.path.unlink()


class Inbox:
    """The requests to who keeps the list of a state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "session.inbox"

    async def next(self) -> list[Request]:
        """Waits until something is asked, and gives it in its order; the same again until it was `followed`."""
        while not (requests := await trio.to_thread.run_sync(self._read)):  # noqa: ASYNC110 - of another process
            await trio.sleep(LOOK_S)
        return requests

    async def ask(self, kind: Kind, entries: Sequence[Listed]) -> bool:
        """Asks, and waits until it was followed; False where nobody did: it is taken back. Raises DiskError."""
        path = await trio.to_thread.run_sync(self._write, kind, write_list(entries))
        with trio.move_on_after(PATIENCE_S):
            while await trio.Path(path).exists():  # noqa: ASYNC110 - of another process
                await trio.sleep(LOOK_S / 5)
            return True
        try:
            path.unlink()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise DiskError(f"cannot remove {path}: {error.strerror}") from error
        return False

    def _write(self, kind: Kind, data: bytes) -> Path:
        name = f"{time.time_ns():020}-{os.getpid()}.{kind}"
        beside = self._folder / f".{name}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.write_bytes(data)
            os.replace(beside, self._folder / name)
        except OSError as error:
            raise DiskError(f"cannot write to {self._folder}: {error.strerror}") from error
        return self._folder / name

    def _read(self) -> list[Request]:
        try:
            names = sorted(name for name in os.listdir(self._folder) if not name.startswith("."))
        except OSError:
            return []  # nobody ever asked
        requests: list[Request] = []
        for name in names[:_MAX_AT_ONCE]:
            path = self._folder / name
            kind: Kind | None = "add" if name.endswith(".add") else "remove" if name.endswith(".remove") else None
            try:
                with path.open("rb") as file:
                    entries = tuple(read_list(file.read(_MAX_REQUEST_BYTES + 1)))
            except (OSError, ProtocolError):
                kind, entries = None, ()
            if kind is None:
                with suppress(OSError):
                    path.unlink()  # no request of ours, or a damaged one: it would be in the way for ever
            else:
                requests.append(Request(kind, entries, path))
        return requests
