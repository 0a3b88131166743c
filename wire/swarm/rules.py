"""One torrent's brain, from the first address to the last piece, without I/O (BEP 3, 6, 9, 10, 11, 52).

It decides over the `PeerConnection`s that a shell pumps: what to ask of whom, whom to serve, whom to
drop. It answers by filling their outboxes and by listing jobs: pieces to be hashed and stored, blocks
to be read. It opens no socket and no file; it reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wire.compact import Endpoint, reach
from wire.errors import MetainfoError, ProtocolError
from wire.metainfo import Info
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.hash_fetch import WrongHashesError
from wire.peer.holepunch import HolepunchMessage
from wire.peer.landing import Landing
from wire.peer.pex import ENCRYPTION, HOLEPUNCH, REACHABLE, SEED, UTP, PexPeer
from wire.swarm.exchange import Exchange
from wire.swarm.gather import Gathered
from wire.swarm.members import TICK_S
from wire.swarm.peer import Peer
from wire.swarm.values import (
    Finished,
    LayerComplete,
    MetadataComplete,
    NodeNamed,
    PeerDropped,
    PiecesDone,
    Settings,
    SwarmEvent,
    SwarmStats,
)
from wire.swarm.wishes import Wishes

__all__ = ["Finished", "MetadataComplete", "PeerDropped", "PiecesDone", "Settings", "Swarm", "SwarmEvent"]

IDLE_TICK_S = 10.0
MAX_UPGRADES = 3
"""Connections closed and opened again for the sake of piece layers."""
MAX_OUTBOX_BYTES = 3 << 19
"""A peer that lets so much lie unread is dropped. Haves for 100,000 pieces fit, and a batch of blocks just read."""


class Swarm(Wishes):
    """One torrent's brain. Times are monotonic seconds; `info` is given where the metadata is known already."""

    # --- what the shell asks

    def events(self) -> Sequence[SwarmEvent]:
        """What happened since the last call, drained."""
        events, self._events = self._events, []
        return events

    def outboxes(self) -> list[Peer]:
        """Peers that have something to be sent, or to be read for them, since the last call."""
        peers = [peer for peer in self._dirty if not peer.gone]
        self._dirty.clear()  # the exchange shares it
        return peers

    def dropped(self) -> list[Peer]:
        """Peers whose stream is to be closed, since the last call."""
        peers, self._dropped = self._dropped, []
        return peers

    def next_timer(self, now: float) -> float:
        """When `tick` is wanted, or `next_dial` may have something."""
        timers = [self._tick_at]
        if self._may_dial() and (dial_at := self.candidates.next_timer(now)) is not None:
            timers.append(dial_at)
        for at in (self._metadata.next_timer(), self._trees.next_timer(now), self.look_at):
            if at is not None:
                timers.append(at)
        return min(timers)

    @property
    def look_at(self) -> float | None:
        """A timer that what peers say may set, and bring nearer than `next_timer` was."""
        return None if self._exchange is None else self._exchange.giving.leechers.look_at

    def stats(self) -> SwarmStats:
        """A snapshot of its counts and rates."""
        ready = [peer for peer in self._peers.values() if peer.ready]
        exchange = self._exchange
        return SwarmStats(
            found=dict(self.candidates.found),
            dialled=self._dialled,
            connected=self._connected,
            refused=self._refused,
            timed_out=self._timed_out,
            handshake_failed=self._handshake_failed,
            without_metadata=self._metadata.without,
            metadata_rejected=self._metadata.rejected,
            metadata_hash_failures=self._metadata.hash_failures,
            piece_hash_failures=0 if exchange is None else exchange.hash_failures,
            banned=self.candidates.banned,
            blocked=self.candidates.blocked,
            peers=len(ready),
            seeds=sum(peer.connection.is_seed for peer in ready),
            downloaded_bytes=0 if exchange is None else exchange.down.total,
            uploaded_bytes=0 if exchange is None else exchange.giving.up.total,
            wasted_bytes=0 if exchange is None else exchange.wasted_bytes,
            down_rate=0.0 if exchange is None else exchange.down.rate,
            up_rate=0.0 if exchange is None else exchange.giving.up.rate,
            pieces_done=0 if exchange is None else exchange.have.count,
            pieces_total=0 if self.info is None else self.info.piece_count,
            wanted_left_bytes=0 if exchange is None else exchange.left_bytes,
            web_seeds=() if exchange is None else exchange.web.states,
            layer_hashes=self._trees.received,
        )

    # --- what peers say

    def receive(self, peer: Peer, events: Iterable[m.Event], now: float) -> None:
        """Takes what a connection received. The data of blocks is copied before this returns."""
        blocks: list[m.Block] = []
        requests: list[m.Request] = []
        try:
            for event in events:
                kind = type(event)
                if blocks and kind is not m.Block:  # in the order in which they came
                    self._take_blocks(peer, blocks, now)
                    blocks = []
                elif requests and kind is not m.Request:
                    self._take_requests(peer, requests)
                    requests = []
                if type(event) is m.Block:
                    blocks.append(event)
                    continue
                if type(event) is m.Request:
                    requests.append(event)
                    continue
                if type(event) is m.Landed:
                    self._begun().landed(peer, event, now)
                    continue
                self._take(peer, event, now)
                if peer.gone:
                    return
            if blocks:
                self._take_blocks(peer, blocks, now)
            elif requests:
                self._take_requests(peer, requests)
        except ProtocolError as error:
            self._drop(peer, str(error), now, breach=True, ban=isinstance(error, WrongHashesError))
            return
        if peer.connection.outgoing_bytes > MAX_OUTBOX_BYTES:
            self._drop(peer, "it does not read what it is sent", now)
        elif peer.connection.outgoing_bytes:
            self._dirty[peer] = None

    def landing(self, peer: Peer, most: int) -> Landing | None:
        """Where the next whole blocks belong that the peer owes, at most so many: to be received into at once."""
        if self._exchange is None or not peer.source.asked:
            return None
        return self._exchange.landing(peer, peer.connection.in_block, most)

    def _take_blocks(self, peer: Peer, blocks: list[m.Block], now: float) -> None:
        if self._exchange is None:
            raise ProtocolError("sends blocks that were not asked for")
        self._exchange.blocks(peer, blocks, now)

    def _take_requests(self, peer: Peer, requests: Sequence[m.Request]) -> None:
        if self._exchange is not None:
            self._exchange.giving.requests(peer, requests)

    def _take(self, peer: Peer, event: m.Event, now: float) -> None:
        match event:
            case m.HandshakeReceived():
                self._joined(peer, event, now)
            case m.ExtendedReceived():
                self._on_extended(peer, now)
            case m.MetadataRequest(piece):
                self._metadata.answer(peer, piece)
            case m.MetadataData(piece, total_size, data):
                self._conclude(self._metadata.data(peer, piece, total_size, data, now), peer, now)
            case m.MetadataReject(piece):
                self._conclude(self._metadata.reject(peer, piece, now), peer, now)
            case m.HashRequest(ask):
                self._trees.answer(peer, ask)
            case m.Hashes():
                self._on_hashes(peer, event, now)
            case m.HashReject(ask):
                self._trees.rejected(peer, ask, now)
            case m.PexReceived(added):
                self._on_pex(peer, added, now)
            case m.HolepunchReceived(message):
                self._on_holepunch(peer, message, now)
            case m.Port(port) if self._tells_of_dht:
                self._events.append(NodeNamed(Endpoint(peer.endpoint.host, port)))
            case _:
                if self._exchange is not None:
                    self._trade(self._exchange, peer, event, now)

    def _trade(self, exchange: Exchange, peer: Peer, event: m.Event, now: float) -> None:
        match event:
            case m.Have(index):
                exchange.has_piece(peer, index, now)
                self._drop_useless(peer, now)
            case m.HasPieces(pieces):
                exchange.has_pieces(peer, pieces, now)
                self._drop_useless(peer, now)
            case m.Choked():
                exchange.choked(peer, now)
            case m.Unchoked():
                exchange.unchoked(peer, now)
            case m.Interested():
                exchange.giving.interested(peer, now)
            case m.NotInterested():
                exchange.giving.not_interested(peer, now)
            case m.Cancel():
                exchange.giving.cancel(peer, (event.index, event.begin, event.length))
            case m.Reject(index, begin, _):
                exchange.rejected(peer, index, begin, now)
            case m.AllowedFast(index):
                exchange.allowed(peer, index, now)
            case m.Suggest(index):
                exchange.suggested(peer, index)
            case m.HaveNot(index):
                exchange.lost_piece(peer, index, now)
            case _:
                pass

    def _on_hashes(self, peer: Peer, message: m.Hashes, now: float) -> None:
        leaves = self._trees.leaves
        if leaves is None or not leaves.is_for(message.ask):
            if self._trees.take(peer, message, now):
                self._events.append(LayerComplete())
        elif (known := leaves.take(peer, message, now)) is not None:
            self.leaves_known(*known, now)

    def _on_extended(self, peer: Peer, now: float) -> None:
        remote = peer.connection.remote
        if remote.p is not None and not peer.dialled and not peer.over_utp:
            peer.listens_at = Endpoint(peer.endpoint.host, remote.p)
        if remote.yourip is not None and self._sight.vote(peer.endpoint, remote.yourip):
            self.candidates.seen_as(remote.yourip)
        if self._exchange is not None:
            self._exchange.limit(peer)
        self._metadata.offered(peer, now)

    def _on_pex(self, peer: Peer, added: Iterable[PexPeer], now: float) -> None:
        if not self._tells_of_peers:
            return
        local = reach(peer.endpoint.host) != "global"
        for named in added:
            if local or reach(named.endpoint.host) == "global":  # strangers do not send us into our own network
                self.candidates.add(named.endpoint, "pex", now)
                self._holepunch.named(peer, named)

    def _on_holepunch(self, peer: Peer, message: HolepunchMessage, now: float) -> None:
        if self._tells_of_peers and self.settings.holepunch:
            endpoint = self._holepunch.receive(peer, message, now)
            if endpoint is not None:
                self._punch(endpoint, now)

    def accept(
        self,
        endpoint: Endpoint,
        connection: PeerConnection,
        events: Iterable[m.Event],
        now: float,
        *,
        over_utp: bool = False,
        encrypted: bool = False,
    ) -> Peer | None:
        """A peer dialled us and named this torrent; its handshake is answered here. None: close the stream.

        `events` are those that `connection.received` gave with the handshake, that one included.
        """
        if len(self._peers) >= self.settings.max_peers or not self.crowd.has_room(self):
            self._turnover.wanted = True
            return None
        if not self._is_free(endpoint, connection.peer_id, now):
            return None
        if connection.info_hash not in self.info_hash.swarm_ids or not self.candidates.admit(endpoint):
            return None
        peer = Peer(next(self._keys), endpoint, connection, now, dialled=False, over_utp=over_utp, encrypted=encrypted)
        self._peers[endpoint] = peer
        self._counted()
        self._tick_at = min(self._tick_at, now + TICK_S)
        try:
            if self.info is not None:
                connection.set_piece_count(self.info.piece_count)
            name = self._answer_to(connection.info_hash, events)
            came = [*events, *connection.accept(name, self.handshake(endpoint), dht=self._tells_of_dht)]
        except ProtocolError as error:
            self._drop(peer, str(error), now, breach=True)
            return None
        self.receive(peer, came, now)
        return None if peer.gone else peer

    def _answer_to(self, named: bytes, events: Iterable[m.Event]) -> bytes:
        """By what name to answer a handshake: a hybrid's v1 name with the v2 one, where the peer is for it (BEP 52)."""
        ids = self.info_hash.swarm_ids
        upgrade = any(isinstance(event, m.HandshakeReceived) and event.v2 for event in events)
        return ids[1] if upgrade and len(ids) > 1 else named

    # --- metadata

    def _conclude(self, gathered: Gathered, peer: Peer, now: float) -> None:
        for endpoint, reason in gathered.liars:
            self._ban(endpoint, reason, now)
        if gathered.raw is not None:
            peer.useful = True
            self._understand(gathered.raw, peer, now)

    def _understand(self, raw: bytes, peer: Peer, now: float) -> None:
        try:
            info = Info.from_bytes(raw, self.info_hash)
        except MetainfoError as error:
            self.broken = error
            return
        self.provide(info, self.candidates.via(peer.listens_at or peer.endpoint), now)

    def provide(self, info: Info, via: str, now: float) -> None:
        """The metadata is here, from a peer or another way. It was checked against the info-hash."""
        if self.info is not None:
            return
        self._know(info, now)
        is_all = self.settings.metadata_only and not self._trees.wanted
        for other in [] if is_all else list(self._peers.values()):  # nothing more is wanted: nobody is told
            try:
                other.connection.set_piece_count(info.piece_count)
            except ProtocolError as error:
                self._drop(other, str(error), now, breach=True)
                continue
            if other.ready:
                other.connection.extended(self.handshake(other.endpoint))
                self._dirty[other] = None
                if self._speaks_v2(other):
                    self._trees.joined(other, now)
        if self.settings.metadata_only and self._trees.wanted:
            self._upgrade(now)
        self._events.append(MetadataComplete(info, via))

    def _upgrade(self, now: float) -> None:
        """Where all speak version 1, as a link's hash had it, some are dialled anew: hashes are asked in version 2."""
        ready = [peer for peer in self._peers.values() if peer.ready]
        if any(self._speaks_v2(peer) for peer in ready):
            return
        for peer in [peer for peer in ready if peer.dialled][:MAX_UPGRADES]:
            self._drop(peer, "it is dialled again for version 2 of the torrent", now)
            self.candidates.prefer(peer.endpoint, self.info_hash.swarm_ids[-1])
            self.candidates.again(peer.endpoint, now)

    # --- time

    def tick(self, now: float) -> None:
        """Does what time brings."""
        self._metadata.ask(now)
        self._trees.ask(now)
        if self._exchange is not None and (look_at := self.look_at) is not None and now >= look_at:
            self._exchange.giving.leechers.look(now)
        if now < self._tick_at:
            return
        self._tick_at = now + (TICK_S if self._peers or self._uses_web_seeds else IDLE_TICK_S)
        for peer in list(self._peers.values()):
            before = peer.connection.outgoing_bytes
            late = peer.connection.tick(now) if now >= peer.connection.next_timer() else None
            if late is not None:
                self._drop(peer, late.value, now)
            elif before > MAX_OUTBOX_BYTES:
                self._drop(peer, "it does not read what it is sent", now)
            elif peer.connection.outgoing_bytes:
                self._dirty[peer] = None
        if self._exchange is not None:
            for peer in self._exchange.tick(now):
                self._drop(peer, "it never sends what it is asked for", now)
        self._make_room(now)
        self._exchange_peers(now)

    def _exchange_peers(self, now: float) -> None:
        """Tells peers of each other (BEP 11)."""
        if self.info is None or not self._tells_of_peers:
            return
        due = [p for p in self._peers.values() if p.ready and p.connection.remote.ut_pex and p.pex.next_at <= now]
        if not due:
            return
        connected = {p.listens_at: _pex_flags(p) for p in self._peers.values() if p.ready and p.listens_at is not None}
        for peer in due:
            others = {endpoint: flags for endpoint, flags in connected.items() if endpoint != peer.listens_at}
            if (payload := peer.pex.message(others, now)) is not None:
                peer.connection.pex(payload)
                self._dirty[peer] = None


def _pex_flags(peer: Peer) -> int:
    """What others are told of a peer (BEP 11)."""
    said = (
        (peer.encrypted, ENCRYPTION),
        (peer.connection.is_seed, SEED),
        (peer.over_utp, UTP),
        (bool(peer.connection.remote.ut_holepunch), HOLEPUNCH),
        (peer.dialled, REACHABLE),
    )
    return sum(flag for holds, flag in said if holds)
