"""The blocking twin for scripts: each call runs a session of its own, from its start to its end.

Not for use inside a trio program (trio refuses to nest); there, use `magnet.Session`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import trio

from magnet.config import Config
from magnet.link import MagnetLink
from magnet.session import Session
from wire.metainfo import Torrent

__all__ = ["download", "resolve"]


def resolve(link: str | MagnetLink, timeout: float | None = 300, *, config: Config | None = None) -> Torrent:
    """Finds the metadata of a link or bare info-hash (BEP 9) and gives it, verified.

    `timeout`: seconds for the whole; None waits as long as something new keeps coming.
    Raises ResolveError with its verdict and counts, LinkError for what is no link, NetworkError where no socket opens.
    """

    async def main() -> Torrent:
        async with Session(_bounded(config, timeout)) as session:
            handle = await session.add(link, metadata_only=True)
            await handle.finished()
            return await handle.metadata()

    return trio.run(main)


def download(
    source: str | MagnetLink | Torrent | Path,
    directory: str | Path = ".",
    timeout: float | None = None,
    *,
    only: tuple[str, ...] = (),
    config: Config | None = None,
) -> Path:
    """Downloads into `directory` and gives the path of the file, or of the folder of a torrent with several.

    `timeout`: seconds for the whole; None: as long as something new keeps coming. `only` as in `Session.add`.
    Raises DownloadError or ResolveError with verdict and counts, ProtocolError for a broken link or .torrent,
    NetworkError where no socket opens. What is verified stays on disk; calling again goes on from there.
    """

    async def main() -> Path:
        async with Session(_bounded(config, timeout)) as session:
            handle = await session.add(source, directory=directory, only=only)
            await handle.finished()
            return handle.path

    return trio.run(main)


def _bounded(config: Config | None, timeout: float | None) -> Config:
    config = config or Config()
    return config if timeout is None else replace(config, deadline_s=timeout)
