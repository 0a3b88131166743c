"""The torrents of a session that outlives its process: each that is added stays listed until it is taken off.

The list is one small file in the state folder, replaced whole at every change, so that a crash loses none. It is read
like bytes from a stranger: what is damaged is set aside, and the worst that a forged one does is to download.
One process at a time keeps it; single commands (`magnet get`) do not touch it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from magnet.inputs import read_source, read_torrent
from magnet.link import MagnetLink, PointerLink
from magnet.session import Session
from magnet.torrent import TorrentHandle
from magnet.vault import Vault
from wire.bencode import decode, encode, get_bytes, get_int, get_list
from wire.errors import DiskError, MisuseError, ProtocolError, WireError
from wire.metainfo import Torrent
from wire.storage.lock import FileLock

__all__ = ["Listed", "Roster", "is_kept", "listed_as", "read_list", "read_roster", "write_list"]

_HEADER = b"kademlia-bt session 1\n"
_MAX_BYTES = 16 << 20
_MAX_TORRENTS = 10_000


@dataclass(frozen=True, slots=True)
class Listed:
    """A torrent as it was asked for."""

    link: str
    directory: str
    only: tuple[str, ...] = ()
    seed: bool = False

    @property
    def label(self) -> str:
        """What to call it: the link's name, or its hash."""
        with suppress(ProtocolError):
            link = MagnetLink.parse(self.link)
            return link.name or str(link.info_hash)
        return self.link

    def is_of(self, start: str) -> bool:
        """Whether one of its info-hashes begins so (lower-case hex)."""
        with suppress(ProtocolError):
            info_hash = MagnetLink.parse(self.link).info_hash
            return any(one is not None and one.hex().startswith(start) for one in (info_hash.v1, info_hash.v2))
        return False


class Roster:
    """Keeps the list of a session in `folder`. An async context manager, inside that of its session:

        async with Session(Config(state_dir=folder)) as session, Roster(session, folder) as roster:
            await roster.restore()
            await roster.add(link, directory="downloads")

    Opening it raises MisuseError where another process keeps the same list, DiskError for a bad folder.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self._session = session
        self._path = folder / "session"
        self._vault = Vault(folder)
        self._lock = FileLock(folder / "session.lock")
        self._listed: dict[Listed, TorrentHandle | None] = {}

    async def __aenter__(self) -> Self:
        self._lock.take(f"another process keeps the session in {self._path.parent}: give another folder")
        try:
            entries = await trio.to_thread.run_sync(_load, self._path)
        except BaseException:
            self._lock.release()
            raise
        self._listed = dict.fromkeys(entries)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def listed(self) -> tuple[Listed, ...]:
        """What is on the list, in the order it was added."""
        return tuple(self._listed)

    async def restore(self) -> list[TorrentHandle]:
        """Adds what is listed and not yet in the session; metadata and progress come from the state folder.

        What cannot be added any more (an unusable link, or one that is in the session already) stays listed.
        """
        handles = []
        for entry, handle in list(self._listed.items()):
            if handle is None:
                with suppress(WireError):
                    handles.append(await self.start(entry))
        return handles

    async def start(self, entry: Listed) -> TorrentHandle:
        """Adds one that is listed to the session, also again after it failed. Raises what `Session.add` does."""
        if entry not in self._listed:
            raise MisuseError(f"{entry.link} is not on the list")
        handle = await self._session.add(entry.link, directory=entry.directory, only=entry.only, seed=entry.seed)
        self._listed[entry] = handle
        return handle

    async def add(
        self,
        source: str | MagnetLink | PointerLink | Torrent | Path,
        *,
        directory: str | Path = ".",
        only: Sequence[str] = (),
        seed: bool = False,
    ) -> TorrentHandle:
        """`Session.add`, and lists it. Raises what that raises, and DiskError where the list cannot be written."""
        self._make_sure_of_room()
        if isinstance(source, Path):
            source = await trio.to_thread.run_sync(read_torrent, source)
        elif isinstance(source, str):
            found = await trio.to_thread.run_sync(read_source, source)
            if not isinstance(found, MagnetLink | Torrent):
                raise MisuseError("a link that points at a changing torrent cannot be listed: list what it points at")
            source = found
        handle = await self._session.add(source, directory=directory, only=only, seed=seed)
        link = str(handle.link)  # now: the one made of the metadata names no peers
        if isinstance(source, Torrent):
            await self._vault.save(source)  # the list holds links alone
        place = str(await trio.Path(directory).absolute())  # the next process may start elsewhere
        self._listed[Listed(link, place, tuple(only), seed)] = handle
        await self._save()
        return handle

    async def enlist(
        self, source: MagnetLink | Torrent, *, directory: str | Path = ".", only: Sequence[str] = ()
    ) -> Listed | None:
        """Lists a torrent without starting it; None where it is listed already. Raises DiskError."""
        link = source if isinstance(source, MagnetLink) else MagnetLink.of(source)
        if any(entry.is_of(str(link.info_hash)) for entry in self._listed):
            return None
        self._make_sure_of_room()
        if isinstance(source, Torrent):
            await self._vault.save(source)
        entry = listed_as(link, await trio.Path(directory).absolute(), only)
        self._listed[entry] = None
        await self._save()
        return entry

    def _make_sure_of_room(self) -> None:
        if len(self._listed) >= _MAX_TORRENTS:
            raise MisuseError(f"a session keeps at most {_MAX_TORRENTS} torrents")

    async def remove(self, handle: TorrentHandle) -> None:
        """Stops it and takes it off the list; files stay."""
        for entry in [entry for entry, known in self._listed.items() if known is handle]:
            await self.forget(entry)
        await handle.remove()

    async def forget(self, entry: Listed) -> None:
        """Takes one off the list, and stops it where it runs; files stay.

        Raises DiskError where the list cannot be written.
        """
        handle = self._listed.pop(entry)
        await self._save()
        if handle is not None:
            await handle.remove()

    async def _save(self) -> None:
        data = write_list(self.listed)
        with trio.CancelScope(shield=True):  # a torrent that runs and is not listed would be forgotten
            await trio.to_thread.run_sync(_write, self._path, data)


def listed_as(link: MagnetLink, directory: Path | trio.Path, only: Sequence[str]) -> Listed:
    """The entry of a link whose files go to a folder, which is absolute: the next process may start elsewhere."""
    return Listed(str(link), str(directory), tuple(only))


def is_kept(folder: Path) -> bool:
    """Whether a process keeps the list of a state folder. Raises DiskError for a bad folder."""
    lock = FileLock(folder / "session.lock")
    if not folder.exists():
        return False
    try:
        lock.take("another process")
    except MisuseError:
        return True
    lock.release()
    return False


def read_roster(folder: Path) -> list[Listed]:
    """The list of a state folder, also while a process keeps it. Raises DiskError where it cannot be read."""
    return _load(folder / "session")


def write_list(entries: Sequence[Listed]) -> bytes:
    """The file's content."""
    packed = encode(
        [
            {
                b"directory": os.fsencode(entry.directory),
                b"link": entry.link.encode(),
                b"only": [os.fsencode(glob) for glob in entry.only],
                b"seed": int(entry.seed),
            }
            for entry in entries
        ]
    )
    return _HEADER + hashlib.sha256(packed).digest() + packed


def read_list(data: bytes) -> list[Listed]:
    """Reads a file's content. Raises ProtocolError for anything that `write_list` would not have written."""
    start = len(_HEADER) + hashlib.sha256().digest_size
    packed = data[start:]
    if not data.startswith(_HEADER) or hashlib.sha256(packed).digest() != data[len(_HEADER) : start]:
        raise ProtocolError("not a session list of this version, or a damaged one")
    rows = decode(packed)
    if not isinstance(rows, list) or len(rows) > _MAX_TORRENTS:
        raise ProtocolError("it holds no list of torrents")
    entries = []
    for row in rows:
        link = get_bytes(row, b"link") if isinstance(row, dict) else None
        if not isinstance(row, dict) or link is None:
            raise ProtocolError("it holds something that is no torrent")
        entries.append(
            Listed(
                link.decode("utf-8", "replace"),
                os.fsdecode(get_bytes(row, b"directory") or b"."),
                tuple(os.fsdecode(glob) for glob in get_list(row, b"only") or () if isinstance(glob, bytes)),
                get_int(row, b"seed") == 1,
            )
        )
    return entries


def _load(path: Path) -> list[Listed]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DiskError(f"cannot read the session {path}: {error.strerror}") from error
    try:
        return read_list(data)
    except ProtocolError:
        with suppress(OSError):
            path.replace(path.with_name("session.damaged"))
        return []


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise DiskError(f"cannot save the session {path}: {error.strerror}") from error
