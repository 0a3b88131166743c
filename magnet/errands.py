"""The short road of a link that names its peers: the metadata by one conversation, without a torrent in the session.

A swarm, its sources and their tasks are made for what lasts. Of many links whose peer is known by address most are over
after a few packets: those are fetched here, over the session's switchboard. Where it does not work at once, for
whatever reason, the link goes the long road as if this one had not been, and is judged there.
"""

from __future__ import annotations

from magnet.link import MagnetLink
from magnet.parts import split_given
from magnet.sources import PEER
from magnet.task import CACHE, Shared
from wire.compact import Endpoint
from wire.errors import MetainfoError, ProtocolError
from wire.metainfo import Info, Torrent
from wire.peer.errand import MetadataErrand
from wire.peer.veiled import VeiledErrand
from wire.secure import methods_of
from wire.switchboard import CallError, Switchboard, switchboard_of

__all__ = ["Errands"]

_MAX_PEERS = 2
"""Of one link that are asked, one after the other."""
_MAX_SILENT = 1000
"""Addresses that did not answer, and are spared while they are remembered."""


class Errands:
    """The errands of one session."""

    def __init__(self, shared: Shared) -> None:
        config = shared.config
        unlimited = not (config.down_limit or config.up_limit)
        self._shared = shared
        self._board = switchboard_of(shared.network) if config.transport != "utp" and unlimited else None
        self._silent: dict[Endpoint, None] = {}

    async def run(self) -> None:
        """Serves those who fetch, until cancelled; for the session, once."""
        if self._board is not None:
            await self._board.run()

    async def fetch(self, link: MagnetLink) -> tuple[Torrent, str] | None:
        """The metadata of a link, and where it came from; None where it must be looked for on the long road."""
        shared = self._shared
        endpoints = [] if self._board is None else split_given(link, shared)[0]
        endpoints = [endpoint for endpoint in endpoints if endpoint not in self._silent]
        if self._board is None or not endpoints:
            return None
        if (known := await shared.vault.load(link.info_hash)) is not None:
            return (known, CACHE) if known.info.layers.complete else None
        for endpoint in endpoints[:_MAX_PEERS]:
            raw = await self._ask(self._board, endpoint, link)
            if raw is not None and (info := _read(raw, link)) is not None:
                torrent = Torrent.of(info, trackers=[[url] for url in link.trackers], web_seeds=link.web_seeds)
                await shared.vault.save(torrent)
                return torrent, PEER
        return None

    async def _ask(self, board: Switchboard, endpoint: Endpoint, link: MagnetLink) -> bytes | None:
        shared = self._shared
        for encrypted in shared.dialler.kinds(endpoint):
            errand = MetadataErrand(link.info_hash, shared.peer_id)
            talk: MetadataErrand | VeiledErrand = errand
            if encrypted:
                methods = methods_of(shared.config.encryption)
                talk = VeiledErrand(errand, link.info_hash.swarm_ids[0], methods, shared.rng)
            try:
                await board.call(endpoint, talk)
            except CallError as error:
                if error.silent:
                    self._silent[endpoint] = None
                    if len(self._silent) > _MAX_SILENT:
                        del self._silent[next(iter(self._silent))]
                if errand.shaken or not error.connected:
                    return None
            except ProtocolError:
                if errand.shaken:
                    return None
            else:
                shared.dialler.remember(endpoint, "tcp", encrypted=encrypted)
                return errand.raw
        return None


def _read(raw: bytes, link: MagnetLink) -> Info | None:
    """What a peer sent, if it is what the link names, and all of it: hashes that are not in the info dictionary
    (BEP 52) are got where there are several to ask."""
    try:
        info = Info.from_bytes(raw, link.info_hash)
    except MetainfoError:
        return None
    return info if info.layers.complete else None
