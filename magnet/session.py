"""A session: the DHT node, the listeners and the torrents that share them.

TCP and UDP use one port number. Whoever connects says in the handshake which torrent he means
(BEP 3) and is handed to it. The session makes no decision about pieces or peers.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from magnet.config import Config
from magnet.link import MagnetLink
from magnet.torrent import TorrentHandle
from wire.compact import Endpoint
from wire.metainfo import Info, Torrent
from wire.net import Network
from wire.storage.store import Store

__all__ = ["Session", "StoreFactory"]

StoreFactory = Callable[[Info, Path, Path | None, Sequence[bool] | None], Awaitable[Store]]
"""Opens the store of a torrent: info, folder, resume file (None: keep none), wanted files (None: all)."""


class Session:
    """Torrents that share a DHT node and a port. An async context manager (trio); leaving it stops them all.

    `config` is what the command line gives; the default is a dual-stack listener on a free port and
    the built-in DHT routers. `network`, `rng` and `store_factory` are for simulations.

    Raises NetworkError when it cannot listen, MisuseError for a config that cannot be.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        network: Network | None = None,
        rng: random.Random | None = None,
        store_factory: StoreFactory | None = None,
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        raise NotImplementedError

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it listens, TCP and UDP alike."""
        raise NotImplementedError

    @property
    def torrents(self) -> tuple[TorrentHandle, ...]:
        """What was added and not removed, in order."""
        raise NotImplementedError

    async def add(
        self,
        source: str | MagnetLink | Torrent | Path,
        *,
        directory: str | Path = ".",
        only: Sequence[str] = (),
        metadata_only: bool = False,
        seed: bool = False,
    ) -> TorrentHandle:
        """Takes in a torrent and starts on it; returns at once.

        `source`: a magnet link, a bare info-hash (hex or base32), a Torrent, or the path of a .torrent
        file. `only`: shell patterns of the files to download (matched against the path inside the torrent and
        against the file name, any case); none: what the link selects (BEP 53), or all.
        `metadata_only`: stop at the metadata, write no file. `seed`: share what `directory` holds and
        download nothing (checked first, as `finished` waits for).

        Raises ProtocolError for a broken link or .torrent, DiskError where a file cannot be read, MisuseError where
        the torrent is in the session already or cannot be downloaded.
        """
        raise NotImplementedError
