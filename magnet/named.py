"""What the words of a command line name: sources, lists of them, folders. Read and checked before anything is begun.

Raises ProtocolError or MisuseError, which the console shows as one line with exit 2. No session is begun here.
"""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from magnet.config import Config, default_state_dir
from magnet.inputs import fetch_torrent, is_url, read_source
from magnet.link import MagnetLink, PointerLink
from magnet.network import network_of
from magnet.reporter import Reporter
from magnet.verdict import MagnetError
from wire.errors import DiskError, MisuseError, ProtocolError, WireError
from wire.metainfo import Torrent

if TYPE_CHECKING:
    from magnet.options import Settings
    from magnet.session import Session

__all__ = ["data_folder", "key_of", "located", "read_all", "read_one", "usable_folder", "with_usable_state"]


def read_all(
    sources: Sequence[str], links_from: Path | None, settings: Settings, nothing: str
) -> tuple[list[tuple[str, MagnetLink | PointerLink | Torrent]], list[tuple[str, WireError]]]:
    """What is named, with what it is called, and the lines of a file that name nothing, with the reason.

    Raises what is wrong with a SOURCE of the command line, or that there is nothing at all.
    """
    found: list[tuple[str, MagnetLink | PointerLink | Torrent]] = [
        (source, read_one(source, settings)) for source in sources
    ]
    broken: list[tuple[str, WireError]] = []
    for where, line in _lines(links_from):
        try:
            found.append((where, read_one(line, settings)))
        except (ProtocolError, MisuseError) as error:
            broken.append((where, error))
    if not found and not broken:
        raise MisuseError(f"{nothing}: name a SOURCE, or --from FILE with one a line")
    return found, broken


def read_one(source: str, settings: Settings) -> MagnetLink | PointerLink | Torrent:
    return fetch_torrent(source, network_of(settings.config)) if is_url(source) else read_source(source)


def _lines(path: Path | None) -> Iterator[tuple[str, str]]:
    """The lines of a list of links with where each stands; empty lines and comments are passed over."""
    if path is None:
        return
    if str(path) == "-":
        name, lines = "stdin", sys.stdin.read().splitlines()
    else:
        name = str(path)
        try:
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError as error:
            raise MisuseError(f"cannot read {path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{name}:{number}", line.strip()


def key_of(item: MagnetLink | PointerLink | Torrent) -> str:
    """Two of one key are the same torrent."""
    return str(
        item.info.info_hash if isinstance(item, Torrent) else item.info_hash if isinstance(item, MagnetLink) else item
    )


async def located(
    session: Session, items: Sequence[MagnetLink | PointerLink | Torrent], broken: list[tuple[str, WireError]]
) -> list[MagnetLink | Torrent]:
    """The items with each link of BEP 46 followed to its torrent; those that lead nowhere are added to `broken`."""
    if len(items) == 1 and isinstance(items[0], PointerLink):
        return [await session.locate(items[0])]
    located: dict[int, MagnetLink | Torrent] = {}

    async def follow(number: int, link: PointerLink) -> None:
        try:
            located[number] = await session.locate(link)
        except (MagnetError, MisuseError) as error:
            broken.append((str(link), error))

    async with trio.open_nursery() as nursery:
        for number, item in enumerate(items):
            if isinstance(item, PointerLink):
                nursery.start_soon(follow, number, item)
            else:
                located[number] = item
    return [located[number] for number in sorted(located)]


_DISK_FAULTS = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What is the disk's fault, not that of whoever chose the folder."""


def usable_folder(folder: Path) -> None:
    """Makes sure that files can be put there, before anything is fetched.

    Raises MisuseError where it is no place for them, DiskError where its disk takes none.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise MisuseError(f"cannot write to {folder}: it is a file, not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
            from wire.storage.pool import disk_error

            raise disk_error("write to the folder", folder, error) from None
        reason = error.strerror if isinstance(error, OSError) else error
        raise MisuseError(f"cannot write to the folder {folder}: {reason}") from None


def with_usable_state(config: Config, reporter: Reporter) -> Config:
    """A state folder that was named must be usable; without the default one it works too, and says so."""
    folder = config.state_dir
    if folder is None:
        return config
    try:
        usable_folder(folder)
    except (DiskError, MisuseError) as error:
        if folder != default_state_dir():
            raise
        reporter.note(f"{error}: nothing is remembered between runs (--state DIR names another folder)")
        return replace(config, state_dir=None)
    return config


def data_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise MisuseError(f"{folder} is no folder: --data takes the folder in which the torrent's file or folder lies")
