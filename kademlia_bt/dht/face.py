"""One socket's DHT without I/O: takes datagrams, answers queries, keeps its table alive (BEP 5, 32, 42, 43).

A `wire.udp.Tenant`. Datagrams are judged here in this order: where from, well-formed, within limits. What this
face asks of others, and what their answers lead to, stands in seeker.py; what the faces share in core.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kademlia_bt.dht.border import Border
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.events import ExternalAddress, FaceStats, Health, Joined, NodeIdChanged
from kademlia_bt.dht.firewall import Firewall
from kademlia_bt.dht.guard import Guard
from kademlia_bt.dht.keeper import BEAT_S, Keeper
from kademlia_bt.dht.krpc import Query, QueryError, encode_error, parse
from kademlia_bt.dht.lookup import Lookup
from kademlia_bt.dht.lookups import FindNode
from kademlia_bt.dht.node_id import fits, spread_id
from kademlia_bt.dht.peer_store import PeerStore
from kademlia_bt.dht.private import Envelope
from kademlia_bt.dht.responder import Responder
from kademlia_bt.dht.seeker import Seeker
from kademlia_bt.dht.table import K, Table
from kademlia_bt.dht.traffic import DropReason, Traffic
from kademlia_bt.dht.usual import usual_query
from kademlia_bt.dht.votes import AddressVotes
from wire.compact import Endpoint, Family, reach
from wire.errors import ProtocolError
from wire.limits import TokenBucket

if TYPE_CHECKING:
    from kademlia_bt.dht.core import Dht

__all__ = ["Face"]

_KRPC_FIRST_BYTE = ord("d")
_ERROR = b"d1:eli"
"""How an error begins; its code of three digits follows."""
_MIN_BYTES = 20
"""Shorter than the shortest message."""
_MAX_BYTES = 8_192
"""Nobody sends more than 1,500 on purpose; a larger datagram only costs time."""

_PER_IP_LIMIT = 5.0
_LOCAL_PER_IP_LIMIT = 1_000.0
_UPLOAD_LIMIT = 16_000
_UPLOAD_BURST_S = 4.0
_UDP_OVERHEAD_BYTES = 28
_SWEEP_S = 60.0
_PINGED_AT_START = 4 * K
"""Of the saved nodes, the best: should half of them be gone, more than a bucket full is left."""


class Face:
    """One socket's DHT: its id, table and transactions. A `wire.udp.Tenant`. Made by `Dht.add_face`."""

    def __init__(
        self,
        dht: Dht,
        family: Family,
        node_id: bytes | None,
        store: PeerStore,
        rng: random.Random,
        now: float,
        *,
        allow_local: bool,
        bound: Endpoint | None,
    ) -> None:
        config = dht.config
        self.family = family
        self.node_id: bytes = node_id or spread_id(None, [face.node_id for face in self._siblings(dht)], rng)
        self.allow_local = allow_local
        self.bound = bound
        self.border = Border(family, allow_local)
        self.table = Table(family, self.node_id)
        self.keeper = Keeper(self.table, rng, now)
        self.responder = Responder(self.table, store, dht.items, dht.tokens, config.version, rng)
        self.seeker = Seeker(dht, self, rng)
        self.firewall = Firewall(now)
        self.traffic = Traffic()
        self._packed = self.border.packed
        self.queries = self.answers = 0
        self.received_bytes = 0
        self._answered_bytes = 0
        self._dht = dht
        self._rng = rng
        self._votes = AddressVotes()
        self._join: Lookup | None = None
        self._outbox: list[tuple[bytes | bytearray | memoryview, Endpoint]] = []
        self._envelope = Envelope(config.network)
        self._tag_bytes = 0
        per_ip = config.per_ip_limit
        if per_ip is None:
            per_ip = _LOCAL_PER_IP_LIMIT if allow_local else _PER_IP_LIMIT
        self._read_only = config.read_only
        self._guard = Guard(per_ip)
        self._is_open = not self._read_only and not self._guard.is_on
        upload = config.upload_limit
        if upload is None:
            upload = 0 if allow_local else _UPLOAD_LIMIT
        self._upload = TokenBucket(upload, upload * _UPLOAD_BURST_S, now)
        self._beat_at = now
        self._sweep_at = now + _SWEEP_S

    @property
    def external(self) -> Endpoint | None:
        """Where the others see us, once enough of them agree (BEP 42)."""
        return self._votes.agreed

    @property
    def sent_bytes(self) -> int:
        """Of answers and questions; UDP headers not counted."""
        return self._answered_bytes + self.seeker.sent_bytes + self._tag_bytes

    @property
    def dropped(self) -> int:
        """Datagrams dropped, for whatever reason."""
        return sum(self.traffic.dropped.values())

    @property
    def limited(self) -> int:
        """Of these, dropped for a rate limit."""
        return self.traffic.dropped["limit"] + self.traffic.dropped["upload"]

    # What the pump calls

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing` has something to give."""
        return bool(self._outbox or self.seeker.outbox)

    def claims(self, first_byte: int) -> bool:
        """KRPC datagrams begin with `d`."""
        return first_byte == _KRPC_FIRST_BYTE

    def outgoing(self) -> list[tuple[bytes | bytearray | memoryview, Endpoint]]:
        """What is to be sent, drained."""
        outbox = self._outbox
        if outbox:
            self._outbox = []
        if self.seeker.outbox:
            outbox = outbox + self.seeker.outbox
            self.seeker.outbox = []
        envelope = self._envelope
        if envelope.overhead_bytes:
            self._tag_bytes += envelope.overhead_bytes * len(outbox)
            outbox = [(envelope.seal(data), to) for data, to in outbox]
        return outbox

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        """Takes a datagram; never raises for what is in it."""
        size = len(data)
        self.received_bytes += size
        if not _MIN_BYTES <= size <= _MAX_BYTES:
            self._drop("malformed")
            return
        host, port = address
        ip = self._packed(host)
        if ip is None or not port:
            self._drop("address")
            return
        envelope = self._envelope
        opened = envelope.open(data) if envelope.overhead_bytes else data
        query = None if opened is None else usual_query(opened)
        if query is None:
            query = self._other(data, address, now)
            if query is None:
                return
        self.queries += 1
        if not self._is_open and not self._admits(address, now):
            return
        self.traffic.hear(query.method)
        if now >= self.firewall.look_again_at:
            self.firewall.heard(address, now)
        node = self.table.get(address)
        if node is not None and node.contact.id == query.sender:
            node.last_query = now
        elif (
            not query.read_only
            and query.sender != self.node_id
            and self.keeper.would_take(address, now)
            and (node is not None or self.table.wants(query.sender, address))
        ):
            self.keeper.suggest(address, now)
            self.seeker.probe(now)
        self._reply(self.responder.answer(query, ip, port, size, node is not None, now), address, now)

    def _other(self, data: bytes, address: Endpoint, now: float) -> Query | None:
        """A datagram that is none of the usual queries: given back where it is another, else dealt with."""
        opened = self._envelope.open(data)
        if opened is None:
            self._drop("foreign")
            return None
        try:
            message = parse(opened)
        except QueryError as error:
            self.queries += 1
            if self._is_open or self._admits(address, now):
                answer = encode_error(error.tid, error.code, str(error), address.compact(), self._dht.config.version)
                self._reply(answer, address, now)
            return None
        except ProtocolError:
            self._drop("malformed")
            return None
        if isinstance(message, Query):
            return message
        if not self.seeker.response(message, address, now):
            self._drop("unasked")
        return None

    def next_timer(self) -> float:
        """When `tick` is wanted next."""
        timer = self.seeker.next_timer()
        return self._beat_at if timer is None or timer > self._beat_at else timer

    def tick(self, now: float) -> None:
        """Does what time brings: time-outs, refreshes, pings."""
        self.seeker.expire(now)
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            self._beat(now)

    # What core.py calls

    def add_starters(self, endpoints: Iterable[Endpoint], now: float, *, routers: bool) -> None:
        """Adds places to start from; running lookups get them too."""
        self.seeker.add_starters((e for e in endpoints if self.border.talks_to(e)), routers=routers)
        self._nudge(now)

    def add_node(self, endpoint: Endpoint, now: float) -> None:
        """Pings an address that somebody says is a node's."""
        if self.border.talks_to(endpoint) and self.table.get(endpoint) is None:
            self.keeper.suggest(endpoint, now)
            self.seeker.probe(now)

    def remember(self, contacts: list[Contact], now: float) -> None:
        """Takes up saved nodes, best last."""
        usable = [c for c in contacts if self.border.talks_to(c.endpoint) and c.id != self.node_id]
        self.keeper.remember(usable)
        self.seeker.enrich(usable)
        self._nudge(now)
        if self.needs_nodes:  # a lookup alone would wait for each of them that is gone
            for contact in usable[: -_PINGED_AT_START - 1 : -1]:
                self.keeper.suggest(contact.endpoint, now)
            self.seeker.probe(now)

    @property
    def saved(self) -> list[Contact]:
        """Nodes worth saving, best first."""
        nodes = sorted(self.table.nodes, key=lambda node: (node.fails, -node.last_reply))
        known = dict.fromkeys(node.contact for node in nodes)
        known.update(dict.fromkeys(reversed(self.keeper.remembered)))
        return list(known)

    def own_peer(self, port: int | None) -> Endpoint | None:
        """Where we are to be reached as a peer: on `port`, or, where it is None, on the UDP port. None if unknown."""
        bound, external = self.bound, self.external
        if bound is not None and reach(bound.host) != "unspecified":
            host = bound.host
        elif external is not None:
            host = external.host
        else:
            return None
        if port is None:
            port = bound.port if bound is not None else 0
        return Endpoint(host, port) if port else None

    def own_lookup_ended(self, lookup: Lookup, now: float) -> None:
        """A lookup of the table's own has ended."""
        if lookup is not self._join:
            self.keeper.refreshed()
        elif self.keeper.join_ended(now):
            self.firewall.begin(now)
            self._dht.tell(Joined(self.family, self.table.good(now)))

    def health(self, now: float) -> Health:
        """How well it is connected."""
        good = self.table.good(now, K)
        if not good:
            return "broken"
        if good < K:
            return "poor"
        is_closed = not self._dht.config.read_only and self.firewall.is_closed(now)
        return "firewalled" if is_closed else "good"

    def stats(self, now: float) -> FaceStats:
        """A snapshot."""
        return FaceStats(
            family=self.family,
            node_id=self.node_id,
            good=self.table.good(now),
            nodes=len(self.table),
            replacements=self.table.replacements,
            joined=self.keeper.joined,
            health=self.health(now),
            external=self.external,
            rtt_s=self.seeker.rtt_s,
            pending=self.seeker.pending,
        )

    # What seeker.py calls

    def seen_as(self, seen: Endpoint, voter: Endpoint, now: float) -> None:
        """A node says where it sees us: where enough do, our id is made to fit (BEP 42)."""
        if seen.family is not self.family or not self._votes.vote(seen, voter):
            return
        self._dht.tell(ExternalAddress(self.family, seen))
        if not fits(self.node_id, seen.ip):
            others = [face.node_id for face in self._siblings(self._dht)]
            self.node_id = self.responder.node_id = spread_id(seen.ip, others, self._rng)
            self.table.rekey(self.node_id)
            self.keeper.moved(now)
            self._dht.tell(NodeIdChanged(self.family, self.node_id))

    def _siblings(self, dht: Dht) -> list[Face]:
        """The faces of our family on other addresses (BEP 45)."""
        return [face for face in dht.faces if face is not self and face.family is self.family]

    def _ask_siblings(self, now: float) -> None:
        """Where we know nobody, begins with nodes that our other addresses know."""
        for sibling in self._siblings(self._dht):
            if sibling.table.has_good(now):
                self.remember(sibling.table.closest(self.node_id, 2 * K)[::-1], now)

    def _drop(self, reason: DropReason) -> None:
        self.traffic.dropped[reason] += 1

    # Queries

    def _admits(self, address: Endpoint, now: float) -> bool:
        if self._read_only:
            self._drop("read_only")
            return False
        if self._guard.is_on and not self._guard.allows(address, now):
            self._drop("limit")
            return False
        return True

    def _reply(self, data: bytes, address: Endpoint, now: float) -> None:
        if self._upload.rate and not self._upload.take(len(data) + _UDP_OVERHEAD_BYTES, now):
            self._drop("upload")
            return
        self.answers += 1
        if data.startswith(_ERROR):
            self.traffic.refuse(int(data[len(_ERROR) : len(_ERROR) + 3]))
        self._answered_bytes += len(data)
        self._outbox.append((data, address))

    # Upkeep

    def _nudge(self, now: float) -> None:
        self.keeper.join_soon(now)
        self._upkeep(now)
        self.seeker.advance_all(now)

    def _beat(self, now: float) -> None:
        self.keeper.watch(now)
        if not self.seeker.has_start:
            self._ask_siblings(now)
        self._upkeep(now)
        self.seeker.advance_all(now)
        self.seeker.keep_alive(now)
        self.keeper.revive(now)
        self.seeker.probe(now)
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            self._guard.sweep(now)
            self._dht.sweep(now)
        self._dht.watch_health(now)

    def _upkeep(self, now: float) -> None:
        if self.seeker.has_start and self.keeper.should_join(now):
            self._join = Lookup(FindNode(self.node_id), now, internal=True)
            self._own_lookup(self._join, now)
        target = self.keeper.refresh_target(now)
        if target is not None:
            self._own_lookup(Lookup(FindNode(target), now, internal=True), now)

    def _own_lookup(self, lookup: Lookup, now: float) -> None:
        self.seeker.begin(lookup, now)
        self._dht.advance(lookup, self, now)

    @property
    def needs_nodes(self) -> bool:
        """Whether so few nodes are known that other families are asked for some (BEP 32)."""
        return len(self.table) < K
