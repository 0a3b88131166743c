"""What a session keeps between runs: metadata that was verified once, and where resume data lies.

Everything here is a convenience: a folder that cannot be written costs time, never the torrent. What is read
back is as hostile as anything from outside (others may write there): metadata is verified against
the info-hash again, and `wire.storage` judges resume data by itself.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import trio

from wire.errors import ProtocolError
from wire.ids import InfoHash
from wire.metainfo import MAX_TORRENT_BYTES, Torrent

__all__ = ["Vault"]


class Vault:
    """The state folder of a session: `torrents/<info-hash>.torrent`, `resume/...`, `dht.state`. None: keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def dht_state(self) -> Path | None:
        """The file of the DHT's nodes."""
        return None if self._folder is None else self._folder / "dht.state"

    async def load(self, info_hash: InfoHash) -> Torrent | None:
        """The metadata of a torrent that was resolved before; None where it is not known or not right any more."""
        if self._folder is None:
            return None
        return await trio.to_thread.run_sync(_read, self._torrent_path(self._folder, info_hash), info_hash)

    async def save(self, torrent: Torrent) -> None:
        """Keeps verified metadata, a hybrid's by either name (BEP 52)."""
        if self._folder is not None:
            info_hash, data = torrent.info.info_hash, torrent.to_bytes()
            halves = [InfoHash(v1=info_hash.v1)] if info_hash.v1 is not None else []
            halves += [InfoHash(v2=info_hash.v2)] if info_hash.v2 is not None else []
            for one in halves:
                await trio.to_thread.run_sync(_write, self._torrent_path(self._folder, one), data)

    async def resume_path(self, info_hash: InfoHash, directory: Path) -> Path | None:
        """Where the resume data of a torrent in a directory lies; None where there is no place for it.

        The directory is part of the name: one torrent may be downloaded to two places.
        """
        if self._folder is None:
            return None
        folder = self._folder / "resume"
        try:
            await trio.to_thread.run_sync(lambda: folder.mkdir(parents=True, exist_ok=True))
            place = await trio.to_thread.run_sync(os.path.realpath, directory)
        except OSError:
            return None
        return folder / f"{info_hash}-{hashlib.sha1(os.fsencode(place)).hexdigest()[:8]}.resume"

    @staticmethod
    def _torrent_path(folder: Path, info_hash: InfoHash) -> Path:
        return folder / "torrents" / f"{info_hash}.torrent"


def _read(path: Path, info_hash: InfoHash) -> Torrent | None:
    try:
        if path.stat().st_size > MAX_TORRENT_BYTES:
            return None
        torrent = Torrent.from_bytes(path.read_bytes())
    except (OSError, ProtocolError):
        return None
    return torrent if torrent.info.info_hash.matches(info_hash) else None


def _write(path: Path, data: bytes) -> None:
    # Whole or not at all, also when two processes write it: each has a file of its own until the rename.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
