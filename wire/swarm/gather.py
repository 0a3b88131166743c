"""The trade in metadata among the peers of one torrent (BEP 9): asked for until it is there, handed out after.

Which block to ask of whom, and who lied, is decided in `wire.peer.metadata`; here it meets the connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wire.compact import Endpoint
from wire.ids import InfoHash
from wire.peer.messages import BLOCK_BYTES
from wire.peer.metadata import FetchEvent, MetadataFetch, MetadataFetched, MetadataServe
from wire.swarm.peer import Peer

__all__ = ["Gathered", "Metadata"]

MAX_ROUNDS = 3
"""Times that one connection may ask for the whole metadata."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What an answer of a peer brought about."""

    raw: bytes | None
    """The info dictionary, where it is whole now; it has the right hash."""
    liars: tuple[tuple[Endpoint, str], ...]
    """Who sent what cannot be true, and what."""


class Metadata:
    """`peers` is the swarm's own table; `dirty` collects those whose outbox was filled."""

    def __init__(self, info_hash: InfoHash, peers: Mapping[Endpoint, Peer], dirty: dict[Peer, None]) -> None:
        self.without = 0
        """Peers that do not offer it, seen while it was wanted."""
        self.rejected = 0
        """Peers that offered it and refused to send it."""
        self._peers = peers
        self._dirty = dirty
        self._fetch: MetadataFetch[Endpoint] = MetadataFetch(info_hash)
        self._serve: MetadataServe | None = None

    @property
    def hash_failures(self) -> int:
        """Whole info dictionaries that did not match."""
        return self._fetch.hash_failures

    def known(self, raw: bytes) -> None:
        """It is verified: from now on it is handed out."""
        self._serve = MetadataServe(raw)

    def next_timer(self) -> float | None:
        """When `ask` may have something to ask again."""
        return self._fetch.next_timer() if self._serve is None else None

    def offered(self, peer: Peer, now: float) -> None:
        """The peer's extended handshake came (BEP 10)."""
        if self._serve is not None:
            return
        remote = peer.connection.remote
        if not remote.ut_metadata or remote.metadata_size is None:
            self.missing(peer)
        elif self._fetch.offer(peer.endpoint, remote.metadata_size, now):
            self.ask(now)

    def missing(self, peer: Peer) -> None:
        """The peer does not offer it."""
        if self._serve is None and not peer.without_metadata:
            peer.without_metadata = True
            self.without += 1

    def gone(self, peer: Peer, now: float) -> None:
        """The connection is closed."""
        self._fetch.gone(peer.endpoint)
        self.ask(now)

    def ask(self, now: float) -> None:
        """Sends what is to be asked now."""
        if self._serve is not None:
            return
        for endpoint, piece in self._fetch.assign(now):
            peer = self._peers.get(endpoint)
            if peer is not None:
                peer.connection.metadata_request(piece)
                self._dirty[peer] = None

    def data(self, peer: Peer, piece: int, total_size: int | None, data: bytes, now: float) -> Gathered:
        """A block came."""
        return self._conclude(self._fetch.data(peer.endpoint, piece, total_size, data, now), now)

    def reject(self, peer: Peer, piece: int, now: float) -> Gathered:
        """A peer refused a block."""
        if not peer.rejected_metadata:
            peer.rejected_metadata = True
            self.rejected += 1
        return self._conclude(self._fetch.reject(peer.endpoint, piece, now), now)

    def _conclude(self, events: Iterable[FetchEvent[Endpoint]], now: float) -> Gathered:
        raw: bytes | None = None
        liars: list[tuple[Endpoint, str]] = []
        for event in events:
            if isinstance(event, MetadataFetched):
                raw = event.raw
            elif event.lied:
                liars.append((event.peer, event.reason))
        if raw is None:
            self.ask(now)
        return Gathered(raw, tuple(liars))

    def answer(self, peer: Peer, piece: int) -> None:
        """The peer asks for a block."""
        serve = self._serve
        block = None if serve is None else serve.block(piece)
        if serve is None or block is None or peer.metadata_answers > MAX_ROUNDS * (1 + serve.size // BLOCK_BYTES):
            peer.connection.metadata_reject(piece)
        else:
            peer.metadata_answers += 1
            peer.connection.metadata_data(piece, serve.size, block)
        self._dirty[peer] = None
