"""The trade in piece layers among the peers of one version 2 or hybrid torrent (BEP 52): asked for, and handed out.

Which hashes to ask of whom is decided in `wire.peer.hash_fetch`, what is answered in `wire.peer.hash_serve`; here
they meet the connections. What is about single blocks is passed on to `leaves`. A torrent of version 1 has nothing
of this.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.metainfo import Info
from wire.peer import messages as m
from wire.peer.hash_fetch import HashFetch
from wire.peer.hash_serve import HashServe
from wire.peer.hashes import HashAsk
from wire.swarm.leaves import Leaves
from wire.swarm.peer import Peer

__all__ = ["Trees"]

MAX_ROUNDS = 4
"""Times that one connection may ask for as many hashes as all layers have."""
SPARE_HASHES = 100_000
"""Beyond that: uncles, and fillers of short layers."""


class Trees:
    """`peers` is the swarm's own table; `dirty` collects those whose outbox was filled."""

    def __init__(self, peers: Mapping[Endpoint, Peer], dirty: dict[Peer, None]) -> None:
        self._peers = peers
        self._dirty = dirty
        self._fetch: HashFetch[Endpoint] | None = None
        self._serve: HashServe | None = None
        self._most_hashes = 0
        self.leaves: Leaves | None = None
        self.received = 0
        """Piece hashes that came and were proved."""

    def known(self, info: Info, now: float) -> None:
        """The metadata is there."""
        if info.info_hash.v2 is not None:
            self._fetch = HashFetch(info.layers)
            self._serve = HashServe(info)
            self.leaves = Leaves(info, self._serve, self._peers, self._dirty, now)
            self._most_hashes = MAX_ROUNDS * info.piece_count + SPARE_HASHES

    def prefer(self, roots: Container[bytes]) -> None:
        """The layers of these files are asked for before the others."""
        if self._fetch is not None:
            self._fetch.prefer(roots)

    @property
    def wanted(self) -> bool:
        """Whether something is missing."""
        return self._fetch is not None and not self._fetch.done

    def next_timer(self, now: float) -> float | None:
        """When `ask` may have something to ask again, or `leaves` something to do."""
        if self._fetch is None or self.leaves is None:
            return None
        times = (self._fetch.next_timer(), self.leaves.next_timer(now))
        return min((at for at in times if at is not None), default=None)

    def joined(self, peer: Peer, now: float) -> None:
        """A peer that speaks version 2 is ready, or the metadata came while it was."""
        if self._fetch is not None and self.leaves is not None:
            self._fetch.offer(peer.endpoint)
            self.leaves.joined(peer, now)
            self.ask(now)

    def gone(self, peer: Peer, now: float) -> None:
        """The connection is closed."""
        if self._fetch is not None and self.leaves is not None:
            self._fetch.gone(peer.endpoint)
            self.leaves.gone(peer, now)
            self.ask(now)

    def ask(self, now: float) -> None:
        """Sends what is to be asked now."""
        if self._fetch is None or self.leaves is None:
            return
        self.leaves.ask(now)
        for endpoint, ask in self._fetch.assign(now):
            peer = self._peers.get(endpoint)
            if peer is not None:
                peer.connection.hash_request(ask)
                self._dirty[peer] = None

    def take(self, peer: Peer, message: m.Hashes, now: float) -> bool:
        """Hashes came; True where they made a layer whole.

        Raises ProtocolError where nobody asked for them, and WrongHashesError where they are a lie.
        """
        if self._fetch is None:
            raise ProtocolError("sends hashes that were not asked for")
        whole = self._fetch.data(peer.endpoint, message.ask, message.hashes)
        self.received += message.ask.length
        peer.useful = True
        self.ask(now)
        return whole

    def rejected(self, peer: Peer, ask: HashAsk, now: float) -> None:
        """A peer refused some."""
        if self._fetch is not None and self.leaves is not None:
            if self.leaves.is_for(ask):
                self.leaves.rejected(peer, ask, now)
            else:
                self._fetch.reject(peer.endpoint, ask, now)
            self.ask(now)

    def answer(self, peer: Peer, ask: HashAsk) -> None:
        """The peer asks for some."""
        if self.leaves is not None and self.leaves.is_for(ask):
            self.leaves.answer(peer, ask)
            return
        hashes = None
        if self._serve is not None and peer.hashes_sent < self._most_hashes:
            hashes = self._serve.answer(ask)
        if hashes is None:
            peer.connection.hash_reject(ask)
        else:
            peer.hashes_sent += len(hashes)
            peer.connection.hashes(ask, hashes)
        self._dirty[peer] = None
