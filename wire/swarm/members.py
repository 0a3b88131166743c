"""Who is in the swarm with us: whom to dial, who comes, who goes, who is thrown out, without I/O (BEP 3, 10).

What the members say is taken in `rules`; what their owner wants of them is in `wishes`.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

from wire.bitfield import Bitfield
from wire.compact import IPV4, IPV6, Endpoint, reach
from wire.errors import MetainfoError, ProtocolError
from wire.ids import ID_BYTES, InfoHash
from wire.metainfo import Info
from wire.peer import messages as m
from wire.peer.connection import PeerConnection, opening
from wire.peer.extended import LT_DONTHAVE_ID, UT_HOLEPUNCH_ID, UT_METADATA_ID, UT_PEX_ID, ExtendedHandshake
from wire.peer.handshake import SelfConnectionError
from wire.swarm.candidates import Candidates
from wire.swarm.crowd import NO_LIMIT, Crowd
from wire.swarm.exchange import Exchange
from wire.swarm.gather import Metadata
from wire.swarm.giving import MAX_QUEUE
from wire.swarm.holepunch import Holepunch
from wire.swarm.peer import Peer
from wire.swarm.sight import Sight
from wire.swarm.trees import Trees
from wire.swarm.turnover import Turnover
from wire.swarm.values import PeerDropped, Settings, SwarmEvent

__all__ = ["TICK_S", "Members"]

CLIENT = "kademlia-bt"
TICK_S = 1.0
CROSSING_S = 10.0
"""Two connections between the same two peers that were opened within so long have crossed on their way."""


class _Names(NamedTuple):
    """The 20-byte names of a torrent in a handshake of ours."""

    asked: bytes
    upgrade: bytes | None
    """What the peer may answer with instead."""


class Members:
    """Who is in one torrent's swarm with us. Times are monotonic seconds; `info` is given where it is known already."""

    def __init__(
        self,
        info_hash: InfoHash,
        *,
        peer_id: bytes,
        rng: random.Random,
        now: float,
        settings: Settings | None = None,
        info: Info | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        self.info_hash = info_hash
        self.peer_id = peer_id
        self.settings = settings or Settings()
        self.info: Info | None = None
        self.broken: MetainfoError | None = None
        """Set where the info dictionary has the right hash and cannot be used all the same."""
        self.crowd = crowd or Crowd(NO_LIMIT)
        self.candidates = Candidates(now, crowd)
        self.candidates.block_list = self.settings.block_list
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
        self._sight = Sight()
        self._holepunch = Holepunch(self._peers, self._dirty, now, is_ours=self._is_ours)
        self._punches: list[Endpoint] = []
        self._trees = Trees(self._peers, self._dirty)
        self._turnover = Turnover(now)
        self._named: dict[Endpoint, _Names] = {}
        """What those who are being dialled were asked for."""
        self._dropped: list[Peer] = []
        self._tick_at = now
        self._dialled = self._connected = self._refused = self._timed_out = self._handshake_failed = 0
        if info is not None:
            self._know(info, now)

    def handshake(self, endpoint: Endpoint) -> ExtendedHandshake:
        """What we say of ourselves to a peer (BEP 10)."""
        info, family = self.info, endpoint.family
        return ExtendedHandshake(
            ut_metadata=UT_METADATA_ID,
            ut_pex=UT_PEX_ID if self._tells_of_peers else 0,
            lt_donthave=LT_DONTHAVE_ID,
            ut_holepunch=UT_HOLEPUNCH_ID if self._tells_of_peers and self.settings.holepunch else 0,
            metadata_size=None if info is None else len(info.raw),
            reqq=MAX_QUEUE,
            v=CLIENT,
            p=self.settings.listen_port or None,
            yourip=endpoint.host,
            ipv4=self._sight.of(IPV4) if family is IPV6 else None,
            ipv6=self._sight.of(IPV6) if family is IPV4 else None,
            upload_only=self.finished and not self._super_seeding,
        )

    # --- connections come and go

    def found(self, endpoint: Endpoint, via: str, now: float, swarm_id: bytes | None = None) -> None:
        """A source named an address; `swarm_id`: as one of the swarm of that name, where the torrent has two."""
        self.candidates.add(endpoint, via, now, swarm_id)

    def _may_dial(self) -> bool:
        if self.info is not None and self.settings.metadata_only and not self._trees.wanted:
            return False
        if self._dials >= self.settings.max_dials or not self.crowd.has_room(self):
            return False
        return len(self._peers) + self._dials < self.settings.max_peers

    def _counted(self, dials: int = 0) -> None:
        self._dials += dials
        self.crowd.told(self, len(self._peers) + self._dials)

    def _make_room(self, now: float) -> None:
        """Where all places are taken and others want in, some of those who trade nothing go."""
        places = len(self._peers)
        if places < self.settings.max_peers and self.crowd.has_room(self):
            return
        dial_at = self.candidates.next_timer(now)
        if self._turnover.wanted or (dial_at is not None and dial_at <= now):
            for peer in self._turnover.quiet(self._peers.values(), places, now):
                self._drop(peer, "it trades nothing, and others want its place", now)

    @property
    def is_engaged(self) -> bool:
        """Whether somebody is connected or being dialled."""
        return bool(self._peers or self._dials)

    def next_dial(self, now: float) -> Endpoint | None:
        """Whom to dial now; answered by `dial_opened` or `dial_failed`. Call until it gives None."""
        while self._may_dial():
            endpoint = self.candidates.next(now)
            if endpoint is None:
                return None
            if any(peer.listens_at == endpoint for peer in self._peers.values()):
                self.candidates.closed(endpoint, now, useful=False)  # it dialled us
                continue
            self._counted(1)
            self._dialled += 1
            self._named[endpoint] = self._names_for(endpoint)
            return endpoint
        return None

    def _names_for(self, endpoint: Endpoint) -> _Names:
        """By what name to ask for the torrent: a hybrid by the one of the swarm in which the peer was found, else by
        the v1 one, which it may answer with the other (BEP 52)."""
        ids = self.info_hash.swarm_ids
        chosen = self.candidates.swarm_id(endpoint)
        asked = chosen if chosen in ids else ids[0]
        return _Names(asked, ids[1] if len(ids) > 1 and asked == ids[0] else None)

    def opening(self, endpoint: Endpoint) -> bytes:
        """What is said first to a peer that `next_dial` gave: our handshake (BEP 3)."""
        names = self._named.get(endpoint) or self._names_for(endpoint)
        return opening(names.asked, self.peer_id, dht=self._tells_of_dht, v2=names.upgrade is not None)

    def dial_failed(self, endpoint: Endpoint, now: float, *, timed_out: bool, no_handshake: bool = False) -> None:
        """Nobody answered, or not with a stream, or with one on which no handshake came."""
        self._counted(-1)
        self._other_name_next(endpoint, self._named.pop(endpoint, None), failed=no_handshake)
        if no_handshake:
            self._handshake_failed += 1
        elif timed_out:
            self._timed_out += 1
        else:
            self._refused += 1
        self.candidates.failed(endpoint, now)
        if self._tells_of_peers and self.settings.holepunch:
            self._holepunch.ask(endpoint, now)

    def dial_put_off(self, endpoint: Endpoint, now: float) -> None:
        """The peer has no part in the failure: it is dialled again soon."""
        self._counted(-1)
        self._dialled -= 1
        self.candidates.cancelled(endpoint, now)

    def next_punch(self) -> Endpoint | None:
        """Whom to dial by uTP at once, because the peer does so too; answered as `next_dial` is. Call until None."""
        return self._punches.pop() if self._punches else None

    def _punch(self, endpoint: Endpoint, now: float) -> None:
        if self._may_dial() and self.candidates.claim(endpoint, "pex", now):
            self._counted(1)
            self._dialled += 1
            self._named[endpoint] = self._names_for(endpoint)
            self._punches.append(endpoint)

    def _other_name_next(self, endpoint: Endpoint, names: _Names | None, *, failed: bool) -> None:
        """Who hangs up on one name of a hybrid may know it by the other."""
        ids = self.info_hash.swarm_ids
        if failed and names is not None and len(ids) > 1:
            self.candidates.prefer(endpoint, ids[1] if names.asked == ids[0] else ids[0])

    def dial_opened(
        self, endpoint: Endpoint, now: float, *, greeted: bool = False, over_utp: bool = False, encrypted: bool = False
    ) -> Peer | None:
        """The stream is open. None: close it again.

        The peer's connection has our handshake in its outbox, unless `greeted`: `opening` was said already.
        """
        self._counted(-1)
        names = self._named.pop(endpoint, None) or self._names_for(endpoint)
        if self.candidates.is_banned(endpoint) or not self._is_free(endpoint, None, now):
            self.candidates.cancelled(endpoint, now)
            return None
        connection = PeerConnection(
            peer_id=self.peer_id,
            info_hash=names.asked,
            extended=self.handshake(endpoint),
            now=now,
            dht=self._tells_of_dht,
            piece_count=None if self.info is None else self.info.piece_count,
            greeted=greeted,
            upgrade=names.upgrade,
        )
        peer = Peer(next(self._keys), endpoint, connection, now, dialled=True, over_utp=over_utp, encrypted=encrypted)
        self._peers[endpoint] = peer
        self._counted()
        self._tick_at = min(self._tick_at, now + TICK_S)
        self._dirty[peer] = None
        return peer

    def seen_as(self, host: str) -> None:
        """Our own IP address, as the DHT or a tracker sees it."""
        self._sight.told(host)
        self.candidates.seen_as(host)

    def _is_ours(self, endpoint: Endpoint) -> bool:
        own = endpoint.port == self.settings.listen_port and self._sight.has(endpoint.host)
        return own or self.candidates.is_ours(endpoint)

    @property
    def _tells_of_peers(self) -> bool:
        """Whether peers are told of each other: those of a private torrent are not (BEP 27)."""
        return self.settings.pex and not (self.info is not None and self.info.private)

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
        self._counted()
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
        self._holepunch.gone(peer)
        if peer.ready and not breach and not ban:
            self._remember_other_address(peer, now)
            if now - peer.crossed_at <= CROSSING_S and peer.listens_at is not None:
                candidates.again(peer.listens_at, now)  # the other side kept the one that we closed
        self._trees.gone(peer, now)
        if self._exchange is not None:
            self._exchange.leave(peer, now, lied=ban)

    def _remember_other_address(self, peer: Peer, now: float) -> None:
        """The address of its other family, where it told one (BEP 10): by that it may be reached again."""
        remote = peer.connection.remote
        other = remote.ipv4 if peer.endpoint.family is IPV6 else remote.ipv6
        if other is not None and peer.listens_at is not None and self._tells_of_peers and reach(other) == "global":
            self.candidates.add(Endpoint(other, peer.listens_at.port), "pex", now)

    def _joined(self, peer: Peer, handshake: m.HandshakeReceived, now: float) -> None:
        """The handshake is done, both ways."""
        identity = handshake.peer_id
        twin = self._by_id.get(identity)
        if twin is not None and not self._replaces(peer, twin, now):
            peer.ready = True  # it is no failed handshake
            if peer.dialled:
                twin.listens_at = peer.endpoint
            if twin.dialled != peer.dialled:
                twin.crossed_at = now
            self._drop(peer, "it is connected already", now)
            return
        peer.ready = True
        self._connected += 1
        self._by_id[identity] = peer
        if peer.dialled:
            self.candidates.connected(peer.endpoint)
        exchange = self._exchange
        peer.connection.bitfield(self._shown())
        if self._tells_of_dht and self.settings.listen_port:
            peer.connection.port(self.settings.listen_port)
        self._dirty[peer] = None
        if exchange is not None:
            exchange.join(peer, now)
        if self._speaks_v2(peer):
            self._trees.joined(peer, now)
        if not handshake.extended:
            self._metadata.missing(peer)

    def _is_free(self, endpoint: Endpoint, accepted: bytes | None, now: float) -> bool:
        """Whether a new connection may take this address: one that we dialled, or accepted from the peer of that id.

        Two uTP dials that crossed, as after an introduction (BEP 55), have the same two addresses: the same of them
        must stay on both sides.
        """
        twin = self._peers.get(endpoint)
        if twin is None:
            return True
        dialled = accepted is None
        identity = accepted or twin.connection.peer_id
        same = identity is not None and twin.connection.peer_id in (None, identity)
        if identity is None or not same or twin.dialled == dialled or now - twin.joined_at > CROSSING_S:
            return False
        if dialled != (self.peer_id < identity):
            return False
        self._drop(twin, "the other connection to it stays", now)
        return True

    def _shown(self) -> Bitfield | None:
        """What a new peer is told that we have; None where the pieces are not known yet."""
        if self.info is None:
            return None
        if self._exchange is None or self._super_seeding:
            return Bitfield(self.info.piece_count)
        return self._exchange.have

    def _replaces(self, peer: Peer, twin: Peer, now: float) -> bool:
        """Of two connections to one peer, both sides must keep the same: that which the lower id dialled.

        libtorrent goes by ports, or by the higher id, and closes one before both have shaken hands. Where the other
        side kept the one that we closed, and nobody is left, it is dialled again at once.
        """
        if peer.dialled == twin.dialled or peer.endpoint.host != twin.endpoint.host:
            return False  # the older stays: the id may be stolen
        we_dial = self.peer_id < (peer.connection.peer_id or b"")
        if now - twin.joined_at > CROSSING_S or peer.dialled != we_dial:
            return False
        peer.listens_at = peer.listens_at or twin.listens_at
        peer.crossed_at = now
        self._drop(twin, "the other connection to it stays", now)
        return True

    def _ban(self, endpoint: Endpoint, reason: str, now: float) -> None:
        peer = self._peers.get(endpoint)
        if peer is None:
            self.candidates.ban(endpoint)
        else:
            self._drop(peer, reason, now, ban=True)

    def _know(self, info: Info, now: float) -> None:
        self.info = info
        self.info_hash = info.info_hash  # a link's gains its other half
        self._metadata.known(info.raw)
        self._trees.known(info, now)

    def _speaks_v2(self, peer: Peer) -> bool:
        """Whether the connection is one of version 2: only there hashes are asked for (BEP 52)."""
        v2 = self.info_hash.v2
        return v2 is not None and peer.connection.info_hash == v2[:ID_BYTES]
