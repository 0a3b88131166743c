"""One torrent's brain, from the first address to the last piece, without I/O (BEP 3, 6, 9, 10, 11).

It decides over the `PeerConnection`s that a shell pumps: what to ask of whom, whom to serve, whom to
drop. It answers by filling their outboxes and by listing jobs: pieces to be hashed and stored, blocks
to be read. It opens no socket and no file; it reads no clock.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

from wire.bitfield import Bitfield
from wire.compact import Endpoint, reach
from wire.errors import MetainfoError, MisuseError, ProtocolError
from wire.ids import InfoHash
from wire.metainfo import Info
from wire.net import Buffer
from wire.peer import messages as m
from wire.peer.connection import PeerConnection, opening
from wire.peer.extended import LT_DONTHAVE_ID, UT_METADATA_ID, UT_PEX_ID, ExtendedHandshake
from wire.peer.handshake import SelfConnectionError
from wire.peer.pex import REACHABLE, SEED, PexPeer
from wire.swarm.candidates import Candidates
from wire.swarm.exchange import Exchange
from wire.swarm.gather import Gathered, Metadata
from wire.swarm.giving import MAX_QUEUE
from wire.swarm.peer import Peer
from wire.swarm.pieces import BlockId, PieceJob
from wire.swarm.values import (
    Finished,
    MetadataComplete,
    NodeNamed,
    PeerDropped,
    PieceDone,
    Priority,
    Settings,
    SwarmEvent,
    SwarmStats,
)

__all__ = ["Finished", "MetadataComplete", "PeerDropped", "PieceDone", "Settings", "Swarm", "SwarmEvent"]

CLIENT = "kademlia-bt"
TICK_S = 1.0
IDLE_TICK_S = 10.0
CROSSING_S = 10.0
"""Two connections between the same two peers that were opened within so long have crossed on their way."""
MAX_OUTBOX_BYTES = 2 << 20
"""A peer that lets so much lie unread is dropped. Haves for 100,000 pieces fit; piece data are not queued so."""


class Swarm:
    """One torrent's brain. Times are monotonic seconds; `info` is given where the metadata is known already."""

    def __init__(
        self,
        info_hash: InfoHash,
        *,
        peer_id: bytes,
        rng: random.Random,
        now: float,
        settings: Settings | None = None,
        info: Info | None = None,
    ) -> None:
        self.info_hash = info_hash
        self.peer_id = peer_id
        self.settings = settings or Settings()
        self.info: Info | None = None
        self.broken: MetainfoError | None = None
        """Set where the info dictionary has the right hash and cannot be used all the same."""
        self.candidates = Candidates(now)
        self.finished = False
        """Every wanted piece is stored."""
        self._rng = rng
        self._peers: dict[Endpoint, Peer] = {}
        self._by_id: dict[bytes, Peer] = {}
        self._keys = itertools.count(1)
        self._dials = 0
        self._exchange: Exchange | None = None
        self._super_seeding = False
        self._events: list[SwarmEvent] = []
        self._dirty: dict[Peer, None] = {}
        self._metadata = Metadata(info_hash, self._peers, self._dirty)
        self._dropped: list[Peer] = []
        self._tick_at = now
        self._dialled = self._connected = self._refused = self._timed_out = self._handshake_failed = 0
        if info is not None:
            self._know(info)

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
        if (fetch_at := self._metadata.next_timer()) is not None:
            timers.append(fetch_at)
        return min(timers)

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
        )

    def handshake(self, endpoint: Endpoint) -> ExtendedHandshake:
        """What we say of ourselves to a peer (BEP 10)."""
        info = self.info
        pex = self.settings.pex and not (info is not None and info.private)
        return ExtendedHandshake(
            ut_metadata=UT_METADATA_ID,
            ut_pex=UT_PEX_ID if pex else 0,
            lt_donthave=LT_DONTHAVE_ID,
            metadata_size=None if info is None else len(info.raw),
            reqq=MAX_QUEUE,
            v=CLIENT,
            p=self.settings.listen_port or None,
            yourip=endpoint.host,
            upload_only=self.finished and not self._super_seeding,
        )

    # --- connections come and go

    def found(self, endpoint: Endpoint, via: str, now: float) -> None:
        """A source named an address."""
        self.candidates.add(endpoint, via, now)

    def _may_dial(self) -> bool:
        if self.info is not None and self.settings.metadata_only:
            return False
        return self._dials < self.settings.max_dials and len(self._peers) + self._dials < self.settings.max_peers

    def next_dial(self, now: float) -> Endpoint | None:
        """Whom to dial now; answered by `dial_opened` or `dial_failed`. Call until it gives None."""
        while self._may_dial():
            endpoint = self.candidates.next(now)
            if endpoint is None:
                return None
            if any(peer.listens_at == endpoint for peer in self._peers.values()):
                self.candidates.closed(endpoint, now, useful=False)  # it dialled us
                continue
            self._dials += 1
            self._dialled += 1
            return endpoint
        return None

    @property
    def opening(self) -> bytes:
        """What is said first to a peer that is dialled: our handshake (BEP 3)."""
        return opening(self.info_hash.swarm_ids[0], self.peer_id, dht=self._tells_of_dht)

    def dial_failed(self, endpoint: Endpoint, now: float, *, timed_out: bool, no_handshake: bool = False) -> None:
        """Nobody answered, or not with a stream, or with one on which no handshake came."""
        self._dials -= 1
        if no_handshake:
            self._handshake_failed += 1
        elif timed_out:
            self._timed_out += 1
        else:
            self._refused += 1
        self.candidates.failed(endpoint, now)

    def dial_opened(self, endpoint: Endpoint, now: float, *, greeted: bool = False) -> Peer | None:
        """The stream is open. None: close it again.

        The peer's connection has our handshake in its outbox, unless `greeted`: `opening` was said already.
        """
        self._dials -= 1
        if endpoint in self._peers or self.candidates.is_banned(endpoint):
            self.candidates.cancelled(endpoint, now)
            return None
        connection = PeerConnection(
            peer_id=self.peer_id,
            info_hash=self.info_hash.swarm_ids[0],
            extended=self.handshake(endpoint),
            now=now,
            dht=self._tells_of_dht,
            piece_count=None if self.info is None else self.info.piece_count,
            greeted=greeted,
        )
        peer = Peer(next(self._keys), endpoint, connection, now, dialled=True)
        self._peers[endpoint] = peer
        self._tick_at = min(self._tick_at, now + TICK_S)
        self._dirty[peer] = None
        return peer

    def accept(
        self, endpoint: Endpoint, connection: PeerConnection, events: Iterable[m.Event], now: float
    ) -> Peer | None:
        """A peer dialled us and named this torrent; its handshake is answered here. None: close the stream.

        `events` are those that `connection.received` gave with the handshake, that one included.
        """
        if len(self._peers) >= self.settings.max_peers or endpoint in self._peers:
            return None
        if connection.info_hash not in self.info_hash.swarm_ids or not self.candidates.admit(endpoint):
            return None
        peer = Peer(next(self._keys), endpoint, connection, now, dialled=False)
        self._peers[endpoint] = peer
        self._tick_at = min(self._tick_at, now + TICK_S)
        try:
            if self.info is not None:
                connection.set_piece_count(self.info.piece_count)
            came = [*events, *connection.accept(connection.info_hash, self.handshake(endpoint), dht=self._tells_of_dht)]
        except ProtocolError as error:
            self._drop(peer, str(error), now, breach=True)
            return None
        self.receive(peer, came, now)
        return None if peer.gone else peer

    @property
    def _tells_of_dht(self) -> bool:
        """Whether peers learn that we have a DHT node: those of a private torrent do not (BEP 27)."""
        return self.settings.dht and not (self.info is not None and self.info.private)

    def lost(self, peer: Peer, reason: str, now: float) -> None:
        """The stream ended or broke."""
        self._drop(peer, reason, now)

    def breached(self, peer: Peer, error: ProtocolError, now: float) -> None:
        """The connection found a breach of the protocol."""
        if isinstance(error, SelfConnectionError):
            self.candidates.is_ourselves(peer.endpoint)
        self._drop(peer, str(error), now, breach=True)

    def _drop(self, peer: Peer, reason: str, now: float, *, breach: bool = False, ban: bool = False) -> None:
        if peer.gone:
            return
        peer.gone = True
        del self._peers[peer.endpoint]
        self._dirty.pop(peer, None)
        identity = peer.connection.peer_id
        if identity is not None and self._by_id.get(identity) is peer:
            del self._by_id[identity]
        if not peer.ready:
            self._handshake_failed += 1
        candidates = self.candidates
        if not peer.dialled:
            candidates.departed(peer.endpoint)
        elif peer.ready:
            candidates.closed(peer.endpoint, now, useful=peer.useful and not breach)
        else:
            candidates.failed(peer.endpoint, now)
        if ban:
            candidates.ban(peer.endpoint)
            if peer.listens_at is not None:
                candidates.ban(peer.listens_at)
        self._dropped.append(peer)
        self._events.append(PeerDropped(peer.endpoint, reason, ban))
        self._metadata.gone(peer, now)
        if self._exchange is not None:
            self._exchange.leave(peer, now, lied=ban)

    def _joined(self, peer: Peer, handshake: m.HandshakeReceived, now: float) -> None:
        """The handshake is done, both ways."""
        identity = handshake.peer_id
        twin = self._by_id.get(identity)
        if twin is not None and not self._replaces(peer, twin, now):
            peer.ready = True  # it is no failed handshake
            if peer.dialled:
                twin.listens_at = peer.endpoint
            self._drop(peer, "it is connected already", now)
            return
        peer.ready = True
        self._connected += 1
        self._by_id[identity] = peer
        if peer.dialled:
            self.candidates.connected(peer.endpoint)
        exchange = self._exchange
        peer.connection.bitfield(None if exchange is None or self._super_seeding else exchange.have)
        if self._tells_of_dht and self.settings.listen_port:
            peer.connection.port(self.settings.listen_port)
        self._dirty[peer] = None
        if exchange is not None:
            exchange.join(peer, now)
        if not handshake.extended:
            self._metadata.missing(peer)

    def _replaces(self, peer: Peer, twin: Peer, now: float) -> bool:
        """Of two connections to one peer, both sides must keep the same: that which the lower id dialled (BEP 3)."""
        if peer.dialled == twin.dialled or peer.endpoint.host != twin.endpoint.host:
            return False  # the older stays: the id may be stolen
        if now - twin.joined_at > CROSSING_S:
            return False
        we_dial = self.peer_id < (peer.connection.peer_id or b"")
        if peer.dialled != we_dial:
            return False
        peer.listens_at = peer.listens_at or twin.listens_at
        self._drop(twin, "the other connection to it stays", now)
        return True

    # --- what peers say

    def receive(self, peer: Peer, events: Iterable[m.Event], now: float) -> None:
        """Takes what a connection received. The data of blocks is copied before this returns."""
        blocks: list[m.Block] = []
        try:
            for event in events:
                if type(event) is m.Block:
                    blocks.append(event)
                    continue
                if blocks:  # in the order in which they came
                    self._take_blocks(peer, blocks, now)
                    blocks = []
                self._take(peer, event, now)
                if peer.gone:
                    return
            if blocks:
                self._take_blocks(peer, blocks, now)
        except ProtocolError as error:
            self._drop(peer, str(error), now, breach=True)
            return
        if peer.connection.outgoing_bytes > MAX_OUTBOX_BYTES:
            self._drop(peer, "it does not read what it is sent", now)

    def _take_blocks(self, peer: Peer, blocks: list[m.Block], now: float) -> None:
        if self._exchange is None:
            raise ProtocolError("sends blocks that were not asked for")
        self._exchange.blocks(peer, blocks, now)

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
            case m.PexReceived(added):
                self._on_pex(peer, added, now)
            case m.Port(port) if self._tells_of_dht:
                self._events.append(NodeNamed(Endpoint(peer.endpoint.host, port)))
            case _:
                if self._exchange is not None:
                    self._trade(self._exchange, peer, event, now)

    def _trade(self, exchange: Exchange, peer: Peer, event: m.Event, now: float) -> None:
        match event:
            case m.Request():
                exchange.giving.request(peer, (event.index, event.begin, event.length))
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

    def _on_extended(self, peer: Peer, now: float) -> None:
        remote = peer.connection.remote
        if remote.p is not None and not peer.dialled:
            peer.listens_at = Endpoint(peer.endpoint.host, remote.p)
        if self._exchange is not None:
            self._exchange.limit(peer)
        self._metadata.offered(peer, now)

    def _on_pex(self, peer: Peer, added: Iterable[PexPeer], now: float) -> None:
        if not self.settings.pex or (self.info is not None and self.info.private):
            return
        local = reach(peer.endpoint.host) != "global"
        for endpoint, _ in added:
            if local or reach(endpoint.host) == "global":  # strangers do not send us into our own network
                self.candidates.add(endpoint, "pex", now)

    # --- metadata

    def _conclude(self, gathered: Gathered, peer: Peer, now: float) -> None:
        for endpoint, reason in gathered.liars:
            self._ban(endpoint, reason, now)
        if gathered.raw is not None:
            peer.useful = True
            self._understand(gathered.raw, peer, now)

    def _ban(self, endpoint: Endpoint, reason: str, now: float) -> None:
        peer = self._peers.get(endpoint)
        if peer is None:
            self.candidates.ban(endpoint)
        else:
            self._drop(peer, reason, now, ban=True)

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
        self._know(info)
        for other in list(self._peers.values()):
            try:
                other.connection.set_piece_count(info.piece_count)
            except ProtocolError as error:
                self._drop(other, str(error), now, breach=True)
                continue
            if other.ready:
                other.connection.extended(self.handshake(other.endpoint))
                self._dirty[other] = None
        self._events.append(MetadataComplete(info, via))

    def _know(self, info: Info) -> None:
        self.info = info
        self._metadata.known(info.raw)

    # --- pieces

    def begin(self, have: Bitfield, wanted: Sequence[bool] | None, now: float) -> None:
        """Starts fetching and serving pieces. `wanted`: a flag for each file entry; all if None.

        Raises MisuseError before the metadata is known, or the second time.
        """
        if self.info is None or self._exchange is not None:
            raise MisuseError("the pieces are fetched once, and after the metadata")
        self._super_seeding = self.settings.super_seed and have.all
        exchange = self._exchange = Exchange(
            self.info,
            have,
            wanted,
            rng=self._rng,
            slots=self.settings.upload_slots,
            super_seed=self._super_seeding,
            dirty=self._dirty,
            now=now,
        )
        ready = [peer for peer in self._peers.values() if peer.ready]
        for peer in ready:
            for index in (
                () if self._super_seeding else have.indices()
            ):  # the bitfield, as the first message, said "none"
                if peer.connection.peer_has is None or not peer.connection.peer_has[index]:
                    peer.connection.have(index)
                    self._dirty[peer] = None
            exchange.join(peer, now)
        self._check_finished(now)

    @property
    def congested(self) -> bool:
        """Too much waits for the disk: nobody should be read from until it does not."""
        return self._exchange is not None and self._exchange.congested

    def piece_jobs(self) -> list[PieceJob]:
        """Pieces to be hashed and stored, since the last call; each is answered by `piece_stored`."""
        return [] if self._exchange is None else self._exchange.jobs()

    def piece_stored(self, index: int, ok: bool, now: float) -> None:
        """A piece was hashed, and, where that was right, stored."""
        exchange = self._begun()
        for liar in exchange.piece_stored(index, ok, now):
            if liar.endpoint is not None:
                self._ban(liar.endpoint, f"sent wrong data in piece {index}", now)
        if ok:
            self._events.append(PieceDone(index))
            self._check_finished(now)

    def piece_kept_out(self, index: int, now: float) -> None:
        """A piece could not be stored, because of the disk: it is fetched again."""
        self._begun().piece_kept_out(index, now)

    def piece_lost(self, index: int, now: float) -> None:
        """A stored piece cannot be read any more: it is fetched again, and peers are told (BEP 54)."""
        self._begun().piece_lost(index, now)
        self._check_finished(now)

    def uploads(self, peer: Peer, most_bytes: int) -> list[BlockId]:
        """Blocks to be read for a peer, at least one where it waits for any; answered by `uploaded`."""
        return [] if self._exchange is None or peer.gone else self._exchange.giving.uploads(peer, most_bytes)

    def uploaded(self, peer: Peer, batch: Sequence[BlockId], data: Sequence[Buffer]) -> None:
        """The blocks were read and lie in the peer's outbox after this."""
        if not peer.gone:
            self._begun().giving.uploaded(peer, batch, data)

    def not_uploaded(self, peer: Peer, batch: Sequence[BlockId]) -> None:
        """The blocks could not be read."""
        if not peer.gone:
            self._begun().giving.refuse(peer, batch)

    # --- wishes: any time after `begin`; MisuseError before

    @property
    def have(self) -> Bitfield:
        """The pieces that are stored; to be read only."""
        return self._begun().have

    def set_priority(self, pieces: Iterable[int], priority: Priority, now: float) -> None:
        """Says how much some pieces are wanted; `Priority.SKIP`: not at all. Raises MisuseError."""
        chosen = list(pieces)
        self._check_pieces(chosen)
        self._begun().prefer(chosen, priority, now)
        self._check_finished(now)

    def want_files(self, wanted: Sequence[bool], now: float) -> None:
        """Says anew which files are wanted: a flag for each file entry."""
        self._begun().want_files(wanted, now)
        self._check_finished(now)

    def set_sequential(self, sequential: bool) -> None:
        """Whether pieces are fetched from the first to the last, not the rarest first."""
        self._begun().read_in_order(sequential)

    def set_deadline(self, piece: int, at: float, now: float) -> None:
        """Somebody needs this piece at `at` (monotonic seconds): it goes before all that is needed later or never.

        It becomes wanted. What else was asked for is taken back where the piece is needed within a second.
        """
        self._check_pieces([piece])
        self._begun().set_deadline(piece, at, now)
        self._check_finished(now)

    def clear_deadlines(self, piece: int | None = None) -> None:
        """Nobody waits for this piece any more (None: for any); what became wanted stays so."""
        self._begun().clear_deadlines(piece)

    def _check_pieces(self, pieces: Iterable[int]) -> None:
        count = 0 if self.info is None else self.info.piece_count
        for index in pieces:
            if not 0 <= index < count:
                raise MisuseError(f"there is no piece {index} among {count}")

    def _begun(self) -> Exchange:
        if self._exchange is None:
            raise MisuseError("no pieces are exchanged yet")
        return self._exchange

    def _check_finished(self, now: float) -> None:
        was, self.finished = self.finished, self._begun().finished
        if was == self.finished:
            return
        if was:  # more is wanted than before
            self.candidates.want_seeds = True
            return
        self.candidates.want_seeds = False
        self._events.append(Finished())
        for peer in list(self._peers.values()):
            if peer.ready:
                peer.connection.extended(self.handshake(peer.endpoint))
                self._dirty[peer] = None
                self._drop_useless(peer, now)

    def _drop_useless(self, peer: Peer, now: float) -> None:
        if self._begun().is_useless(peer):
            self.candidates.is_seed(peer.endpoint)
            self._drop(peer, "neither side needs anything of the other", now)

    # --- time

    def tick(self, now: float) -> None:
        """Does what time brings."""
        self._metadata.ask(now)
        if now < self._tick_at:
            return
        self._tick_at = now + (TICK_S if self._peers else IDLE_TICK_S)
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
        self._exchange_peers(now)

    def _exchange_peers(self, now: float) -> None:
        """Tells peers of each other (BEP 11)."""
        if not self.settings.pex or self.info is None or self.info.private:
            return
        due = [p for p in self._peers.values() if p.ready and p.connection.remote.ut_pex and p.pex.next_at <= now]
        if not due:
            return
        connected = {
            p.listens_at: (SEED if p.connection.is_seed else 0) | (REACHABLE if p.dialled else 0)
            for p in self._peers.values()
            if p.ready and p.listens_at is not None
        }
        for peer in due:
            others = {endpoint: flags for endpoint, flags in connected.items() if endpoint != peer.listens_at}
            if (payload := peer.pex.message(others, now)) is not None:
                peer.connection.pex(payload)
                self._dirty[peer] = None
