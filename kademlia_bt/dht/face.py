"""One socket's DHT without I/O: takes datagrams, answers queries, keeps its table alive (BEP 5, 32, 42, 43).

A `wire.udp.AnsweringTenant`. How datagrams are judged and queries answered stands in intake.py; what this face asks of
others, and what their answers lead to, in seeker.py; what the faces share in core.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kademlia_bt.dht.border import Border
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.events import ExternalAddress, FaceStats, Health, Joined, NodeIdChanged
from kademlia_bt.dht.firewall import Firewall
from kademlia_bt.dht.intake import Intake
from kademlia_bt.dht.keeper import BEAT_S, Keeper
from kademlia_bt.dht.lookup import Lookup
from kademlia_bt.dht.lookups import FindNode
from kademlia_bt.dht.node_id import fits, spread_id
from kademlia_bt.dht.peer_store import PeerStore
from kademlia_bt.dht.responder import Responder
from kademlia_bt.dht.seeker import Seeker
from kademlia_bt.dht.table import K, Table
from kademlia_bt.dht.votes import AddressVotes
from wire.compact import Endpoint, Family, reach
from wire.net import Buffer

if TYPE_CHECKING:
    from kademlia_bt.dht.core import Dht

__all__ = ["Face"]

_KRPC_FIRST_BYTE = ord("d")
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
        self.intake = Intake(self, config, now)
        self.traffic = self.intake.traffic
        self.answer = self.intake.answer
        """See `wire.udp.AnsweringTenant`."""
        self._dht = dht
        self._rng = rng
        self._votes = AddressVotes()
        self._join: Lookup | None = None
        self._outbox: list[tuple[Buffer, Endpoint]] = []
        self._tag_bytes = 0
        self._beat_at = now
        self._sweep_at = now + _SWEEP_S

    @property
    def external(self) -> Endpoint | None:
        """Where the others see us, once enough of them agree (BEP 42)."""
        return self._votes.agreed

    @property
    def queries(self) -> int:
        """Queries that came in, those included that were dropped for a limit."""
        return self.intake.queries

    @property
    def answers(self) -> int:
        """Answers and errors that were sent."""
        return self.intake.answers

    @property
    def received_bytes(self) -> int:
        """UDP headers not counted."""
        return self.intake.received_bytes

    @property
    def sent_bytes(self) -> int:
        """Of answers and questions; UDP headers not counted."""
        return self.intake.answered_bytes + self.seeker.sent_bytes + self._tag_bytes

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
        return bool(self._outbox or self.seeker.outbox or self.seeker.is_heedless)

    def claims(self, first_byte: int) -> bool:
        """KRPC datagrams begin with `d`."""
        return first_byte == _KRPC_FIRST_BYTE

    def outgoing(self) -> list[tuple[Buffer, Endpoint]]:
        """What is to be sent, drained."""
        self.seeker.heed()
        outbox = self._outbox
        if outbox:
            self._outbox = []
        questions = self.seeker.outbox
        if questions:
            self.seeker.outbox = []
            envelope = self.intake.envelope
            if envelope.overhead_bytes:
                self._tag_bytes += envelope.overhead_bytes * len(questions)
                questions = [(envelope.seal(data), to) for data, to in questions]
            outbox = outbox + questions
        return outbox

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        """Takes a datagram, as `answer` does; its answer comes from `outgoing`. Never raises for what is in it."""
        answer = self.answer(data, address, now)
        if answer is not None:
            self._outbox.append((answer, address))

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
            self.intake.sweep(now)
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
