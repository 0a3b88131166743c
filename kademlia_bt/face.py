"""One socket's DHT without I/O: takes datagrams, answers queries, asks on behalf of lookups, keeps its table alive.

A `wire.udp.Tenant` (BEP 5, 32, 42, 43). What the faces share, and what their user sees, stands in core.py.
Datagrams are judged here in this order: where from, well-formed, within limits; answers only to what was asked.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from kademlia_bt.contact import Contact
from kademlia_bt.events import Answered, ExternalAddress, FaceStats, Joined, NodeIdChanged, PeersFound, Unanswered
from kademlia_bt.guard import Guard
from kademlia_bt.keeper import BEAT_S, Keeper
from kademlia_bt.krpc import (
    WANT_IPV4,
    WANT_IPV6,
    Answer,
    Query,
    QueryError,
    Refusal,
    encode_error,
    encode_query,
    parse,
)
from kademlia_bt.lookup import Candidate, Lookup, State, Walk
from kademlia_bt.lookups import FindNode
from kademlia_bt.node_id import fits, make_node_id, random_id
from kademlia_bt.peer_store import PeerStore
from kademlia_bt.questions import Question
from kademlia_bt.responder import Responder
from kademlia_bt.table import K, Table
from kademlia_bt.transactions import Pending, RoundTrip, Transactions
from kademlia_bt.votes import AddressVotes
from wire.bencode import Encodable
from wire.compact import IPV4, IPV6, Endpoint, Family, reach
from wire.errors import ProtocolError
from wire.limits import TokenBucket

if TYPE_CHECKING:
    from kademlia_bt.core import Dht

__all__ = ["Face"]

_KRPC_FIRST_BYTE = ord("d")
_MIN_BYTES = 20
"""Shorter than the shortest message."""

_PER_IP_LIMIT = 5.0
_LOCAL_PER_IP_LIMIT = 1_000.0
_UPLOAD_LIMIT = 16_000
_UPLOAD_BURST_S = 4.0
_UDP_OVERHEAD_BYTES = 28

_TRIES = 3
_TRY_FACTORS = (1.0, 1.5, 2.0)
"""Each try of a question is waited for longer than the one before."""
_START_FROM = 4 * K
_MAX_STARTERS = 64
_SWEEP_S = 60.0


class _Ask(NamedTuple):
    walk: Walk
    candidate: Candidate
    number: int


class _Store(NamedTuple):
    walk: Walk
    candidate: Candidate
    number: int


class _Single(NamedTuple):
    question: Question
    number: int


class _Ping:
    """A ping of our own accord, until it has ended one way or the other."""

    __slots__ = ("ended", "why")

    def __init__(self, why: Literal["suggested", "keepalive"]) -> None:
        self.why = why
        self.ended = False


class _Probe(NamedTuple):
    ping: _Ping
    number: int


_Purpose = _Ask | _Store | _Single | _Probe


class _Starter:
    __slots__ = ("answered", "router", "tried")

    def __init__(self, router: bool) -> None:
        self.router = router
        self.tried = False
        self.answered = False


@lru_cache(maxsize=8192)  # bounded: sources can be forged
def _packed(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


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
    ) -> None:
        config = dht.config
        self.family = family
        self.node_id = node_id or random_id(rng)
        self.allow_local = allow_local
        self.table = Table(family, self.node_id)
        self.responder = Responder(self.table, store, dht.tokens, config.version)
        self.queries = self.answers = self.dropped = self.limited = 0
        self.sent_bytes = self.received_bytes = 0
        self.nodes_asked = self.nodes_answered = 0
        self._dht = dht
        self._config = config
        self._rng = rng
        self._keeper = Keeper(self.table, rng, now)
        self._transactions: Transactions[_Purpose] = Transactions(rng)
        self._round_trip = RoundTrip()
        self._votes = AddressVotes()
        self._walks: dict[Lookup, Walk] = {}
        self._starters: dict[Endpoint, _Starter] = {}
        self._join: Lookup | None = None
        self._outbox: list[tuple[bytes | bytearray | memoryview, Endpoint]] = []
        per_ip = config.per_ip_limit
        if per_ip is None:
            per_ip = _LOCAL_PER_IP_LIMIT if allow_local else _PER_IP_LIMIT
        self._guard = Guard(per_ip)
        upload = config.upload_limit
        if upload is None:
            upload = 0 if allow_local else _UPLOAD_LIMIT
        self._upload = TokenBucket(upload, upload * _UPLOAD_BURST_S, now)
        self._beat_at = now
        self._sweep_at = now + _SWEEP_S

    # What the pump calls

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing` has something to give."""
        return bool(self._outbox)

    @property
    def external(self) -> Endpoint | None:
        """Where the others see us, once enough of them agree (BEP 42)."""
        return self._votes.agreed

    def claims(self, first_byte: int) -> bool:
        """KRPC datagrams begin with `d`."""
        return first_byte == _KRPC_FIRST_BYTE

    def outgoing(self) -> list[tuple[bytes | bytearray | memoryview, Endpoint]]:
        """What is to be sent, drained."""
        outbox = self._outbox
        if outbox:
            self._outbox = []
        return outbox

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        """Takes a datagram; never raises for what is in it."""
        self.received_bytes += len(data)
        if len(data) < _MIN_BYTES or not self._talks_to(address):
            self.dropped += 1
            return
        try:
            message = parse(data)
        except QueryError as error:
            if self._admits(address, now):
                self._reply(self._error(error, address), address, now)
            return
        except ProtocolError:
            self.dropped += 1
            return
        if isinstance(message, Query):
            self._query(message, len(data), address, now)
        else:
            self._response(message, address, now)

    def next_timer(self) -> float:
        """When `tick` is wanted next."""
        timer = self._transactions.next_timer()
        return self._beat_at if timer is None or timer > self._beat_at else timer

    def tick(self, now: float) -> None:
        """Does what time brings: time-outs, refreshes, pings."""
        for pending, dead in self._transactions.expire(now):
            if not dead:
                self._slow(pending, now)
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            self._beat(now)

    # What core.py calls

    @property
    def lookups(self) -> list[Lookup]:
        """Those that walk here."""
        return list(self._walks)

    def walk_of(self, lookup: Lookup) -> Walk | None:
        """A lookup's walk on this face."""
        return self._walks.get(lookup)

    def begin(self, lookup: Lookup, now: float) -> None:
        """Starts a lookup's walk from the nodes that are known; `drive` sends its first questions."""
        walk = Walk(lookup, self.node_id)
        self._walks[lookup] = walk
        target = lookup.kind.target
        self.table.looked_up(target, now)
        walk.add(self.table.closest(target, _START_FROM))
        if walk.is_thin:
            walk.add(reversed(self._keeper.remembered))
        starters = list(self._starters)
        self._rng.shuffle(starters)
        for endpoint in starters:
            walk.add_starter(endpoint)

    def drive(self, lookup: Lookup, now: float) -> None:
        """Does what a lookup's walk wants next, up to its end."""
        walk = self._walks.get(lookup)
        if walk is None or walk.done or walk.is_idle:
            return
        kind = lookup.kind
        for candidate in walk.to_ask():
            if candidate.tries == 1:
                lookup.asked += 1
            self._ask(
                candidate.endpoint, kind.method, kind.arguments, _Ask(walk, candidate, candidate.tries), now, lookup
            )
        if not walk.settled:
            return
        if kind.stores and kind.store_method is not None:
            walk.begin_store()
            for candidate in walk.to_store():
                assert candidate.token is not None
                self._ask(
                    candidate.endpoint,
                    kind.store_method,
                    kind.store_arguments(candidate.token),
                    _Store(walk, candidate, candidate.store_tries),
                    now,
                )
            if not walk.is_stored:
                return
        walk.done = True

    def end(self, lookup: Lookup) -> Walk | None:
        """Forgets a lookup's walk; late answers still serve the table."""
        walk = self._walks.pop(lookup, None)
        if walk is not None:
            walk.done = True
        return walk

    def offer(self, lookup: Lookup, contacts: list[Contact], now: float) -> None:
        """Nodes of this family, named on another face: for the lookup's walk here, or, where it has none, the table."""
        walk = self._walks.get(lookup)
        if walk is not None and not walk.done:
            walk.add(contacts)
            self._dht.advance(lookup, self, now)
        elif self.needs_nodes:
            for contact in contacts:
                self._keeper.suggest(contact.endpoint, now)

    @property
    def needs_nodes(self) -> bool:
        """Whether so few nodes are known that other families are asked for some (BEP 32)."""
        return len(self.table) < K

    def add_starters(self, endpoints: Iterable[Endpoint], now: float, *, routers: bool) -> None:
        """Adds places to start from; running lookups get them too."""
        for endpoint in endpoints:
            if endpoint in self._starters or len(self._starters) >= _MAX_STARTERS or not self._talks_to(endpoint):
                continue
            self._starters[endpoint] = _Starter(routers)
            for walk in self._walks.values():
                walk.add_starter(endpoint)
        self._nudge(now)

    def add_node(self, endpoint: Endpoint, now: float) -> None:
        """Pings an address that somebody says is a node's."""
        if self._talks_to(endpoint) and self.table.get(endpoint) is None and endpoint not in self._starters:
            self._keeper.suggest(endpoint, now)
            self._probe(now)

    def remember(self, contacts: list[Contact], now: float) -> None:
        """Takes up saved nodes."""
        usable = [contact for contact in contacts if self._talks_to(contact.endpoint) and contact.id != self.node_id]
        self._keeper.remember(usable)
        for walk in self._walks.values():
            if walk.is_thin:
                walk.add(reversed(usable))
        self._nudge(now)

    @property
    def saved(self) -> list[Contact]:
        """Nodes worth saving, best first."""
        nodes = sorted(self.table.nodes, key=lambda node: (node.fails, -node.last_reply))
        known = dict.fromkeys(node.contact for node in nodes)
        known.update(dict.fromkeys(reversed(self._keeper.remembered)))
        return list(known)

    def question(self, question: Question, now: float) -> bool:
        """Asks a single question. False where its address is not talked to."""
        if not self._talks_to(question.endpoint):
            return False
        self._single(_Single(question, 1), now)
        return True

    def starters_counted(self) -> tuple[int, int]:
        """How many starters were tried, and answered."""
        starters = self._starters.values()
        return sum(starter.tried for starter in starters), sum(starter.answered for starter in starters)

    def stats(self, now: float) -> FaceStats:
        """A snapshot."""
        return FaceStats(
            family=self.family,
            node_id=self.node_id,
            good=self.table.good(now),
            nodes=len(self.table),
            replacements=self.table.replacements,
            joined=self._keeper.joined,
            external=self.external,
            rtt_s=self._round_trip.mean_s,
            pending=len(self._transactions),
        )

    # Queries that come in

    def _talks_to(self, endpoint: Endpoint) -> bool:
        place = reach(endpoint.host)
        if place != "global" and (not self.allow_local or place not in ("loopback", "private")):
            return False
        return endpoint.port != 0 and (":" in endpoint.host) == (self.family is IPV6)

    def _admits(self, address: Endpoint, now: float) -> bool:
        self.queries += 1
        if self._config.read_only:
            self.dropped += 1
            return False
        if not self._guard.allows(address, now):
            self.dropped += 1
            self.limited += 1
            return False
        return True

    def _query(self, query: Query, size: int, address: Endpoint, now: float) -> None:
        if not self._admits(address, now):
            return
        node = self.table.get(address)
        if node is not None and node.contact.id == query.sender:
            node.last_query = now
        elif (
            not query.read_only
            and query.sender != self.node_id
            and (node is not None or self.table.wants(query.sender, address))
        ):
            self._keeper.suggest(address, now)
        host, port = address
        self._reply(
            self.responder.answer(query, _packed(host), port, size, node is not None, now),
            address,
            now,
        )
        if self._keeper.has_suggestions:
            self._probe(now)

    def _reply(self, data: bytes, address: Endpoint, now: float) -> None:
        if self._upload.rate and not self._upload.take(len(data) + _UDP_OVERHEAD_BYTES, now):
            self.dropped += 1
            self.limited += 1
            return
        self.answers += 1
        self.sent_bytes += len(data)
        self._outbox.append((data, address))

    def _error(self, error: QueryError, address: Endpoint) -> bytes:
        return encode_error(error.tid, error.code, str(error), address.compact(), self._config.version)

    # Questions of ours

    def _ask(
        self,
        endpoint: Endpoint,
        method: bytes,
        arguments: dict[bytes, Encodable],
        purpose: _Purpose,
        now: float,
        lookup: Lookup | None = None,
    ) -> None:
        if purpose.number == 1:
            self.nodes_asked += 1
        starter = self._starters.get(endpoint)
        if starter is not None:
            starter.tried = True
        slow_s = self._round_trip.slow_s * _TRY_FACTORS[purpose.number - 1]
        pending = self._transactions.begin(endpoint, purpose, now, slow_s)
        want = 0
        if lookup is not None and self._dht.wants_both(lookup, self):
            want = WANT_IPV4 | WANT_IPV6
        data = encode_query(
            pending.tid,
            method,
            self.node_id,
            arguments,
            version=self._config.version,
            read_only=self._config.read_only,
            want=want,
        )
        self.sent_bytes += len(data)
        self._outbox.append((data, endpoint))

    def _single(self, purpose: _Single, now: float) -> None:
        kind = purpose.question.kind
        self._ask(purpose.question.endpoint, kind.method, kind.arguments, purpose, now)

    def _probe(self, now: float) -> None:
        for endpoint in self._keeper.probes(now):
            self._ask(endpoint, b"ping", {}, _Probe(_Ping("suggested"), 1), now)

    def _slow(self, pending: Pending[_Purpose], now: float) -> None:
        """A question has waited long enough to be repeated, or given up."""
        purpose = pending.purpose
        if isinstance(purpose, _Ask):
            walk, candidate, number = purpose
            if not walk.done and candidate.tries == number:
                if walk.slow(candidate):
                    self._silent(pending.endpoint)
                self._dht.advance(walk.lookup, self, now)
        elif isinstance(purpose, _Store):
            walk, candidate, number = purpose
            if not walk.done and candidate.store_tries == number:
                walk.store_slow(candidate)
                self._dht.advance(walk.lookup, self, now)
        elif isinstance(purpose, _Single):
            if not self._dht.is_open(purpose.question):
                return
            if purpose.number < _TRIES:
                self._single(purpose._replace(number=purpose.number + 1), now)
            else:
                self._silent(pending.endpoint)
                self._dht.close_question(Unanswered(purpose.question, "timed_out"))
        elif purpose.ping.ended:
            pass
        elif purpose.number < _TRIES:
            self._ask(pending.endpoint, b"ping", {}, purpose._replace(number=purpose.number + 1), now)
        else:
            self._silent(pending.endpoint)
            self._probe_ended(purpose, now, answered=False)

    def _silent(self, endpoint: Endpoint) -> None:
        fallen = self.table.failed(endpoint)
        if fallen is not None:
            self._keeper.remember([fallen])

    def _probe_ended(self, purpose: _Probe, now: float, *, answered: bool) -> None:
        if purpose.ping.ended:
            return
        purpose.ping.ended = True
        self.nodes_answered += answered
        if purpose.ping.why == "keepalive":
            self._keeper.kept_alive(answered=answered)
        else:
            self._keeper.probed()
            self._probe(now)

    # Answers that come in

    def _response(self, message: Answer | Refusal, address: Endpoint, now: float) -> None:
        pending = self._transactions.match(message.tid, address)
        if pending is None:
            self.dropped += 1
            return
        if isinstance(message, Refusal):
            self._refused(message, pending.purpose, now)
            return
        rtt_s = now - pending.sent_at
        self._round_trip.sample(rtt_s)
        starter = self._starters.get(address)
        if starter is not None:
            starter.answered = True
        is_router = starter is not None and starter.router
        node = Contact(message.id, address)
        if message.id != self.node_id and not is_router:
            self.table.answered(node, rtt_s, now)
        self._vote(message, address, now)
        purpose = pending.purpose
        if isinstance(purpose, _Ask):
            self._ask_answered(purpose, message, address, now, counts=not is_router)
        elif isinstance(purpose, _Store):
            self._store_answered(purpose, now, taken=True)
        elif isinstance(purpose, _Single):
            self._single_answered(purpose.question, message, node, rtt_s)
        else:
            self._probe_ended(purpose, now, answered=True)

    def _ask_answered(self, purpose: _Ask, answer: Answer, address: Endpoint, now: float, *, counts: bool) -> None:
        walk, candidate, _ = purpose
        if walk.done:
            return
        lookup = walk.lookup
        if candidate.state is not State.ANSWERED:
            lookup.answered += 1
            self.nodes_answered += 1
        walk.answered(candidate, answer.id, answer.token, counts=counts)
        walk.add(self.believed(answer.contacts(self.family), address))
        for face in self._dht.faces:
            if face.family is not self.family:
                face.offer(lookup, face.believed(answer.contacts(face.family), address), now)
        peers = lookup.new_peers(peer for peer in answer.peers if self._believes(peer, address))
        if peers and not lookup.internal:
            self._dht.tell(PeersFound(lookup, peers, address))
        self._dht.advance(lookup, self, now)

    def _store_answered(self, purpose: _Store, now: float, *, taken: bool) -> None:
        walk, candidate, _ = purpose
        if not walk.done:
            walk.lookup.stored += walk.stored(candidate, taken=taken)
            self._dht.advance(walk.lookup, self, now)

    def _single_answered(self, question: Question, answer: Answer, node: Contact, rtt_s: float) -> None:
        if not self._dht.is_open(question):
            return
        self.nodes_answered += 1
        nodes = [contact for family in (IPV4, IPV6) for contact in answer.contacts(family)]
        self._dht.close_question(
            Answered(
                question,
                node,
                rtt_s,
                nodes=tuple(self.believed(nodes, node.endpoint)),
                peers=tuple(peer for peer in answer.peers if self._believes(peer, node.endpoint)),
                token=answer.token,
                version=answer.version,
                own_address=answer.own_address,
            )
        )

    def _refused(self, refusal: Refusal, purpose: _Purpose, now: float) -> None:
        if isinstance(purpose, _Ask):
            if not purpose.walk.done and purpose.candidate.state is not State.ANSWERED:
                purpose.walk.refused(purpose.candidate)
                self._dht.advance(purpose.walk.lookup, self, now)
        elif isinstance(purpose, _Store):
            self._store_answered(purpose, now, taken=False)
        elif isinstance(purpose, _Single):
            if self._dht.is_open(purpose.question):
                self._dht.close_question(Unanswered(purpose.question, "refused", (refusal.code, refusal.text)))
        else:
            self._probe_ended(purpose, now, answered=False)

    def _believes(self, endpoint: Endpoint, sender: Endpoint) -> bool:
        """Whether an address that `sender` names may be used: never port 0, a local one only from a local sender."""
        place = reach(endpoint.host)
        if endpoint.port == 0 or place in ("unspecified", "invalid"):
            return False
        return place == "global" or (self.allow_local and reach(sender.host) != "global")

    def believed(self, contacts: list[Contact], sender: Endpoint) -> list[Contact]:
        """Of the nodes that `sender` named, those whose addresses may be used."""
        return [contact for contact in contacts if self._believes(contact.endpoint, sender)]

    def _vote(self, answer: Answer, voter: Endpoint, now: float) -> None:
        seen = answer.own_address
        if seen is None or seen.family is not self.family or not self._votes.vote(seen, voter):
            return
        self._dht.tell(ExternalAddress(self.family, seen))
        if not fits(self.node_id, seen.ip):
            self.node_id = self.responder.node_id = make_node_id(seen.ip, self._rng)
            self.table.rekey(self.node_id)
            self._dht.tell(NodeIdChanged(self.family, self.node_id))

    # Upkeep

    def _nudge(self, now: float) -> None:
        self._keeper.join_soon(now)
        self._upkeep(now)
        for lookup in self.lookups:
            self._dht.advance(lookup, self, now)

    def _beat(self, now: float) -> None:
        self._keeper.watch(now)
        self._upkeep(now)
        for lookup in self.lookups:
            self._dht.advance(lookup, self, now)
        for endpoint in self._keeper.keepalives(now):
            self._ask(endpoint, b"ping", {}, _Probe(_Ping("keepalive"), 1), now)
        self._probe(now)
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            self._guard.sweep(now)
            self._dht.sweep(now)

    def _upkeep(self, now: float) -> None:
        has_start = len(self.table) or self._starters or self._keeper.remembered
        if has_start and self._keeper.should_join(now):
            self._join = Lookup(FindNode(self.node_id), now, internal=True)
            self._own_lookup(self._join, now)
        target = self._keeper.refresh_target(now)
        if target is not None:
            self._own_lookup(Lookup(FindNode(target), now, internal=True), now)

    def _own_lookup(self, lookup: Lookup, now: float) -> None:
        self.begin(lookup, now)
        self._dht.advance(lookup, self, now)

    def own_lookup_ended(self, lookup: Lookup, now: float) -> None:
        """A lookup of the table's own has ended."""
        if lookup is not self._join:
            self._keeper.refreshed()
        elif self._keeper.join_ended(now):
            self._dht.tell(Joined(self.family, self.table.good(now)))
