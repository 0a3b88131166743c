"""The trio shell of a swarm: dials, reads, writes, stores, and wakes the brain in `rules` by the clock.

What to do is decided there; here it is only done. Slow disks stop the readers (bounded unwritten bytes),
slow peers stop their own uploads (bounded outboxes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.limits import TokenBucket
from wire.metainfo import Info
from wire.net import Network, Stream
from wire.peer.connection import Event, PeerConnection
from wire.storage.store import Store
from wire.swarm.rules import Swarm
from wire.swarm.stats import SwarmStats

__all__ = ["SwarmRunner"]


class SwarmRunner:
    """Runs one swarm. The rate limits are shared by all torrents of a session; None means no limit."""

    def __init__(
        self, swarm: Swarm, network: Network, *, down: TokenBucket | None = None, up: TokenBucket | None = None
    ) -> None:
        self.swarm = swarm

    async def run(self) -> None:
        """Runs until cancelled; returns by itself only after a failed disk write (see `finished`).

        On the way out every stream is closed. It does not close the store.
        """
        raise NotImplementedError

    def found(self, endpoints: Iterable[Endpoint], via: str) -> None:
        """Takes addresses from a source ("dht", "tracker", "peer", "link", "pex", "lsd"). Any time, any number."""
        raise NotImplementedError

    def adopt(self, stream: Stream, connection: PeerConnection, events: Sequence[Event]) -> None:
        """Takes over an accepted connection whose handshake named this torrent.

        The handshake is answered here (`connection.accept`); `events` are those that came after
        `HandshakeReceived` in the same read. Closes the stream where there is no room for it.
        """
        raise NotImplementedError

    async def metadata(self) -> Info:
        """Waits for the verified info dictionary. Waits for ever: the caller bounds the time."""
        raise NotImplementedError

    def begin(self, store: Store, have: Bitfield, wanted: Sequence[bool] | None = None) -> None:
        """Starts fetching and serving pieces. `have`: what `store.load()` found; `wanted`: a flag a file, all if None."""
        raise NotImplementedError

    async def finished(self) -> None:
        """Waits until every wanted piece is stored. Raises DiskError when a write failed: what was stored is kept."""
        raise NotImplementedError

    def stats(self) -> SwarmStats:
        """A snapshot of counts and rates."""
        raise NotImplementedError
