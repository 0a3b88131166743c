"""What a person names as SOURCE, made into a value: a link, an info-hash, a .torrent file, or a URL of one.

Reads files and fetches URLs, both bounded; what is read is verified by `Torrent.from_bytes`. Everything that is
wrong with a SOURCE is the input's fault and comes out as a ProtocolError or MisuseError of one line.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from magnet.link import LinkError, MagnetLink
from wire.compact import reach
from wire.errors import MetainfoError, MisuseError, ProtocolError
from wire.metainfo import Torrent
from wire.metainfo.torrent import MAX_TORRENT_BYTES

if TYPE_CHECKING:
    import httpx

__all__ = ["fetch_torrent", "is_url", "read_source", "read_torrent"]

_FETCH_S = 30.0
_QUIET_S = 15.0
"""To connect, and between two parts of the answer."""
_REDIRECTS = 5


def is_url(source: str) -> bool:
    """Whether it is to be fetched first."""
    return source.strip().lower().startswith(("http://", "https://"))


def read_source(source: str) -> MagnetLink | Torrent:
    """Reads a link, a bare info-hash or a .torrent file. Raises ProtocolError or MisuseError."""
    text = source.strip()
    if text.lower().startswith("magnet:"):
        return MagnetLink.parse(text)
    path = Path(source)
    looks_like_path = os.sep in source or source.lower().endswith(".torrent")
    if looks_like_path or _exists(path):
        return read_torrent(path)
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


def fetch_torrent(url: str) -> Torrent:
    """Fetches a .torrent over HTTP. Raises MisuseError where that fails, ProtocolError where it is broken.

    Blocking, for half a minute or so. A redirect may not lead from the global internet into a network nearby.
    """
    import httpx

    try:
        with httpx.Client(timeout=_QUIET_S, follow_redirects=False) as client:
            data = _fetch(client, url.strip())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MisuseError(f"cannot fetch {url}: {str(error) or type(error).__name__}") from None
    try:
        return Torrent.from_bytes(data)
    except ProtocolError as error:
        raise MetainfoError(f"{url}: {error}") from None


def _fetch(client: httpx.Client, url: str) -> bytes:
    end = time.monotonic() + _FETCH_S
    for _ in range(_REDIRECTS + 1):
        with client.stream("GET", url) as response:
            if response.is_redirect:
                url = _redirected(url, response.headers.get("location", ""))
                continue
            if response.status_code != 200:
                raise MisuseError(
                    f"cannot fetch {url}: the server says {response.status_code} {response.reason_phrase}"
                )
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_TORRENT_BYTES:
                    raise MisuseError(f"cannot fetch {url}: it is larger than any .torrent")
                if time.monotonic() > end:
                    raise MisuseError(f"cannot fetch {url}: it takes longer than {_FETCH_S:.0f} s")
            return bytes(data)
    raise MisuseError(f"cannot fetch {url}: more than {_REDIRECTS} redirects")


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    if not is_url(target):
        raise MisuseError(f"cannot fetch {url}: it redirects to {target}")
    if not _is_near(url) and _is_near(target):
        raise MisuseError(f"cannot fetch {url}: it redirects to an address of this network, {target}")
    return target


def _is_near(url: str) -> bool:
    """Whether the host of a URL is, or resolves to, anything but a global address."""
    host = urlsplit(url).hostname or ""
    try:
        rows = socket.getaddrinfo(host, None)
    except OSError:
        return False  # the fetch will say so itself
    return any(reach(str(row[4][0]).partition("%")[0]) != "global" for row in rows)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
