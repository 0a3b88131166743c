"""The .torrent of which a link says where it lies (BEP 9): fetched over HTTP, while peers are asked for the metadata.

What comes is believed only where its info dictionary has the hash of the link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from magnet.inputs import fetched_torrent
from magnet.link import MagnetLink
from magnet.sources import Sources
from wire.errors import MisuseError, ProtocolError
from wire.http_url import is_http_url, is_near_literal
from wire.metainfo import Info, Torrent
from wire.net import Network

__all__ = ["MAX_SOURCES", "SOURCE_PAUSES_S", "LinkedTorrent"]

MAX_SOURCES = 5
"""URLs of a link that are tried at once for a .torrent."""
SOURCE_PAUSES_S = (5.0, 30.0, 120.0)
"""After each failure to fetch one; then it is given up."""


class LinkedTorrent:
    """The race for the .torrent of a link; `local`: whether addresses of this machine may be asked by name."""

    def __init__(
        self, link: MagnetLink, take: Callable[[Info], bool], sources: Sources, network: Network, *, local: bool
    ) -> None:
        """`take` gets the info dictionary, which is what the link names; it says whether that was news."""
        self._link = link
        self._take = take
        self._sources = sources
        self._network = network
        self._local = local
        self.urls = [url for url in link.sources if is_http_url(url)][:MAX_SOURCES]
        """Where the link says that there is one."""
        self._fetched: Torrent | None = None
        """What a URL of the link gave."""

    async def run(self) -> None:
        """Gets a .torrent from where the link says that there is one (BEP 9): it races with the peers' metadata."""
        async with trio.open_nursery() as nursery:
            for url in self.urls:
                nursery.start_soon(self._fetch_from, url)

    def torrent_of(self, info: Info) -> Torrent:
        """The torrent of this info dictionary, with what the link and a fetched .torrent say beside it."""
        fetched = self._fetched
        if fetched is None or fetched.info.raw != info.raw:
            return Torrent.of(info, trackers=[[url] for url in self._link.trackers], web_seeds=self._link.web_seeds)
        self._sources.add_trackers(fetched.trackers)
        linked = [(url,) for url in self._link.trackers if all(url not in tier for tier in fetched.trackers)]
        web_seeds = dict.fromkeys((*fetched.web_seeds, *self._link.web_seeds))
        return replace(fetched, trackers=(*fetched.trackers, *linked), web_seeds=tuple(web_seeds))

    async def _fetch_from(self, url: str) -> None:
        near = self._local or (is_near_literal(url) and "?" not in url)
        for pause_s in SOURCE_PAUSES_S:
            try:
                torrent = await fetched_torrent(self._network, url, near=near)
                Info.from_bytes(torrent.info.raw, self._link.info_hash)
            except ProtocolError:
                return  # it is another torrent, or none at all
            except MisuseError:
                await trio.sleep(pause_s)
                continue
            if self._take(torrent.info):
                self._fetched = torrent
            return
