"""What a person names as SOURCE, made into a value: a link, an info-hash, a .torrent file, or a URL of one.

Reads files and fetches URLs, both bounded; what is read is verified by `Torrent.from_bytes`. Everything that is
wrong with a SOURCE is the input's fault and comes out as a ProtocolError or MisuseError of one line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from magnet.link import LinkError, MagnetLink, PointerLink, read_link
from wire.errors import MetainfoError, MisuseError, ProtocolError
from wire.metainfo import Torrent
from wire.metainfo.torrent import MAX_TORRENT_BYTES

if TYPE_CHECKING:
    from wire.net import Network

__all__ = ["fetch_torrent", "fetched_torrent", "is_file", "is_url", "read_source", "read_torrent"]


def is_url(source: str) -> bool:
    """Whether it is to be fetched first."""
    return source.strip().lower().startswith(("http://", "https://"))


def is_file(source: str) -> bool:
    """Whether it names a file, there or not."""
    text = source.strip().lower()
    if not text or text.startswith("magnet:") or is_url(source):
        return False
    return os.sep in source or text.endswith(".torrent") or _exists(Path(source))


def read_source(source: str) -> MagnetLink | PointerLink | Torrent:
    """Reads a link, a bare info-hash or a .torrent file. Raises ProtocolError or MisuseError."""
    text = source.strip()
    if not text:
        raise MisuseError("the SOURCE is empty")
    if text.lower().startswith("magnet:"):
        return read_link(text)
    if is_file(source):
        return read_torrent(Path(source))
    try:
        return MagnetLink.parse(text)
    except LinkError as error:
        if text.isalnum() and len(text) >= 30:
            raise
        raise MisuseError(f"{source!r} is no magnet link, no info-hash, and no .torrent file that is there") from error


def read_torrent(path: Path) -> Torrent:
    """Reads a .torrent file. Raises MisuseError where the file cannot be read, MetainfoError where it is broken."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TORRENT_BYTES + 1)
    except OSError as error:  # not a failing disk, but a wrong name: bad input
        raise MisuseError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise MisuseError(f"cannot read {str(path)!r}: that is no file name") from None
    try:
        return Torrent.from_bytes(data)
    except ProtocolError as error:
        raise MetainfoError(f"{path}: {error}") from None


def fetch_torrent(url: str, network: Network | None = None) -> Torrent:
    """Fetches a .torrent over HTTP. Raises MisuseError where that fails, ProtocolError where it is broken.

    Blocking, for half a minute at the most; for scripts and commands, outside of trio. Whoever names the URL may name
    one of his own network. `network`: None for the machine's own.
    """
    import trio

    async def get() -> Torrent:
        from wire.trio_net import TrioNetwork

        return await fetched_torrent(network or TrioNetwork(), url.strip(), near=True)

    return trio.run(get)


async def fetched_torrent(network: Network, url: str, *, near: bool) -> Torrent:
    """The same as a task. `near`: whether the URL may lead into this machine's own network."""
    from wire.http import HttpError, fetch  # not needed by those who give links and files

    try:
        reply = await fetch(network, url, near=near, max_bytes=MAX_TORRENT_BYTES)
    except HttpError as error:
        raise MisuseError(f"cannot fetch {error}") from None
    if reply.status != 200:
        raise MisuseError(f"cannot fetch {url}: the server says {reply.status}")
    try:
        return Torrent.from_bytes(reply.body)
    except ProtocolError as error:
        raise MetainfoError(f"{url}: {error}") from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
