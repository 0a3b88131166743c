"""What one face asks of others: the questions of lookups, single ones and pings, and what the answers lead to (BEP 5).

Every question is sent up to three times, each waited for longer; an answer to any of them counts. Here
only its fate is handled: whom a lookup asks next stands in lookup.py, whom upkeep pings in keeper.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from kademlia_bt.dht.candidate import Candidate, State
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.events import Answered, PeersFound, StarterStats, Unanswered
from kademlia_bt.dht.krpc import WANT_IPV4, WANT_IPV6, Answer, Refusal
from kademlia_bt.dht.lookup import Lookup, Walk
from kademlia_bt.dht.lookups import PutItem
from kademlia_bt.dht.questions import Question
from kademlia_bt.dht.table import K
from kademlia_bt.dht.transactions import Pending, RoundTrip, Transactions
from kademlia_bt.dht.writing import encode_query
from wire.bencode import Encodable
from wire.compact import IPV4, IPV6, Endpoint

if TYPE_CHECKING:
    from kademlia_bt.dht.core import Dht
    from kademlia_bt.dht.face import Face

__all__ = ["Seeker"]

_TRY_FACTORS = (1.0, 1.5, 2.0)
"""How much longer than usual each try of a question is waited for."""
_START_FROM = 4 * K
_MAX_STARTERS = 64


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


def _method_of(purpose: _Purpose) -> bytes:
    if isinstance(purpose, _Ask):
        return purpose.walk.lookup.kind.method
    if isinstance(purpose, _Store):
        return purpose.walk.lookup.kind.store_method or b"other"
    return purpose.question.kind.method if isinstance(purpose, _Single) else b"ping"


class _Unheeded(NamedTuple):
    """An answer whose peers were told of, and nothing else of it was looked at yet."""

    purpose: _Ask
    answer: Answer
    address: Endpoint
    now: float
    counts: bool


class _Starter:
    __slots__ = ("answered", "router", "tried")

    def __init__(self, router: bool) -> None:
        self.router = router
        self.tried = False
        self.answered = False


class Seeker:
    """Asks for one face."""

    def __init__(self, dht: Dht, face: Face, rng: random.Random) -> None:
        self.outbox: list[tuple[bytes | bytearray | memoryview, Endpoint]] = []
        """What is to be sent; the face drains it."""
        self.sent_bytes = 0
        self.nodes_asked = self.nodes_answered = 0
        self._dht = dht
        self._face = face
        self._rng = rng
        self._transactions: Transactions[_Purpose] = Transactions(rng)
        self._round_trip = RoundTrip()
        self._walks: dict[Lookup, Walk] = {}
        self._unheeded: _Unheeded | None = None
        self._starters: dict[Endpoint, _Starter] = {}

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round trip; None before the first answer."""
        return self._round_trip.mean_s

    @property
    def pending(self) -> int:
        """Queries that wait for an answer."""
        return len(self._transactions)

    @property
    def has_start(self) -> bool:
        """Whether there is anybody to begin a lookup with."""
        return bool(len(self._face.table) or self._starters or self._face.keeper.remembered)

    @property
    def starters(self) -> list[StarterStats]:
        """The places to start from, and how each fared."""
        return [StarterStats(at, each.router, each.tried, each.answered) for at, each in self._starters.items()]

    @property
    def lookups(self) -> list[Lookup]:
        """Those under way."""
        return list(self._walks)

    def add_starters(self, endpoints: Iterable[Endpoint], *, routers: bool) -> None:
        """Adds places to start from; running walks get them too."""
        for endpoint in endpoints:
            if endpoint in self._starters or len(self._starters) >= _MAX_STARTERS:
                continue
            self._starters[endpoint] = _Starter(routers)
            for walk in self._walks.values():
                walk.add_starter(endpoint)

    def enrich(self, contacts: list[Contact]) -> None:
        """Gives saved nodes, best last, to walks that know few."""
        for walk in self._walks.values():
            if walk.is_thin:
                walk.add(reversed(contacts))

    # Lookups

    def walk_of(self, lookup: Lookup) -> Walk | None:
        """A lookup's walk here."""
        return self._walks.get(lookup)

    def begin(self, lookup: Lookup, now: float) -> None:
        """Starts a lookup's walk from the nodes that are known; `drive` sends its first questions."""
        face = self._face
        walk = self._walks[lookup] = Walk(lookup, face.node_id)
        target = lookup.kind.target
        face.table.looked_up(target, now)
        walk.add(face.table.closest(target, _START_FROM))
        if walk.is_thin:
            walk.add(reversed(face.keeper.remembered))
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
        want = WANT_IPV4 | WANT_IPV6 if self._dht.wants_both(lookup, self._face) else 0
        for node in walk.to_ask():
            lookup.asked += node.tries == 1
            self._ask(node.endpoint, kind.method, kind.arguments, _Ask(walk, node, node.tries), now, want)
        if not walk.settled:
            return
        if kind.store_method is not None and self._stores(walk):
            walk.begin_store()
            for node in walk.to_store():
                assert node.token is not None
                arguments = (
                    kind.gather.store_arguments(node.endpoint, node.token)
                    if isinstance(kind, PutItem)
                    else kind.store_arguments(node.token)
                )
                self._ask(node.endpoint, kind.store_method, arguments, _Store(walk, node, node.store_tries), now)
            if not walk.is_stored:
                return
        walk.done = True

    def _stores(self, walk: Walk) -> bool:
        kind = walk.lookup.kind
        return kind.gather.stores(self, walk.closest) if isinstance(kind, PutItem) else kind.stores

    def advance_all(self, now: float) -> None:
        """Lets every lookup take its next steps: nodes may have come from elsewhere."""
        for lookup in list(self._walks):
            self._dht.advance(lookup, self._face, now)

    def end(self, lookup: Lookup) -> Walk | None:
        """Forgets a lookup's walk; late answers still serve the table."""
        walk = self._walks.pop(lookup, None)
        if walk is not None:
            walk.done = True
        return walk

    def offer(self, lookup: Lookup, contacts: list[Contact], now: float, hop: int) -> None:
        """Nodes of this family, named on another face: for the lookup's walk here, or, where it has none, the table."""
        walk = self._walks.get(lookup)
        if walk is not None and not walk.done:
            walk.add(contacts, hop)
            self._dht.advance(lookup, self._face, now)
        elif self._face.needs_nodes:
            for contact in contacts:
                self._face.keeper.suggest(contact.endpoint, now)

    # Questions

    def single(self, question: Question, now: float) -> bool:
        """Asks a single question. False where its address is not talked to."""
        if not self._face.border.talks_to(question.endpoint):
            return False
        self._single(_Single(question, 1), now)
        return True

    def probe(self, now: float) -> None:
        """Pings addresses that may be nodes'."""
        for endpoint in self._face.keeper.probes(now):
            self._ask(endpoint, b"ping", {}, _Probe(_Ping("suggested"), 1), now)

    def keep_alive(self, now: float) -> None:
        """Pings nodes of the table that were not heard of for long."""
        for endpoint in self._face.keeper.keepalives(now):
            self._ask(endpoint, b"ping", {}, _Probe(_Ping("keepalive"), 1), now)

    def _single(self, purpose: _Single, now: float) -> None:
        kind = purpose.question.kind
        self._ask(purpose.question.endpoint, kind.method, kind.arguments, purpose, now)

    def _ask(
        self,
        endpoint: Endpoint,
        method: bytes,
        arguments: dict[bytes, Encodable],
        purpose: _Purpose,
        now: float,
        want: int = 0,
    ) -> None:
        self.nodes_asked += purpose.number == 1
        self._face.traffic.ask(method)
        self._face.firewall.asked(endpoint, now)
        starter = self._starters.get(endpoint)
        if starter is not None:
            starter.tried = True
        slow_s = self._round_trip.slow_s * _TRY_FACTORS[purpose.number - 1]
        pending = self._transactions.begin(endpoint, purpose, now, slow_s)
        config = self._dht.config
        data = encode_query(
            pending.tid,
            method,
            self._face.node_id,
            arguments,
            version=config.version,
            read_only=config.read_only,
            want=want,
        )
        self.sent_bytes += len(data)
        self.outbox.append((data, endpoint))

    # Time-outs

    def next_timer(self) -> float | None:
        """When `expire` may have something to do."""
        return self._transactions.next_timer()

    def expire(self, now: float) -> None:
        """Repeats the questions that have waited long enough, or gives them up."""
        self.heed()
        for pending, dead in self._transactions.expire(now):
            if not dead:
                self._slow(pending, now)

    def _slow(self, pending: Pending[_Purpose], now: float) -> None:
        purpose = pending.purpose
        is_last = purpose.number >= len(_TRY_FACTORS)
        if isinstance(purpose, _Ask):
            walk, candidate, number = purpose
            if not walk.done and candidate.tries == number:
                if walk.slow(candidate):
                    self._silent(pending.endpoint)
                self._dht.advance(walk.lookup, self._face, now)
        elif isinstance(purpose, _Store):
            walk, candidate, number = purpose
            if not walk.done and candidate.store_tries == number:
                walk.store_slow(candidate)
                self._dht.advance(walk.lookup, self._face, now)
        elif isinstance(purpose, _Single):
            if not self._dht.is_open(purpose.question):
                return
            if not is_last:
                self._single(purpose._replace(number=purpose.number + 1), now)
                return
            self._silent(pending.endpoint)
            self._dht.close_question(Unanswered(purpose.question, "timed_out"))
        elif not purpose.ping.ended:
            if not is_last:
                self._ask(pending.endpoint, b"ping", {}, purpose._replace(number=purpose.number + 1), now)
                return
            self._silent(pending.endpoint)
            self._ping_ended(purpose.ping, now, answered=False)

    def _silent(self, endpoint: Endpoint) -> None:
        fallen = self._face.table.failed(endpoint)
        if fallen is not None:
            self._face.keeper.remember([fallen])

    def _ping_ended(self, ping: _Ping, now: float, *, answered: bool) -> None:
        if ping.ended:
            return
        ping.ended = True
        self.nodes_answered += answered
        if ping.why == "keepalive":
            self._face.keeper.kept_alive(answered=answered)
        else:
            self._face.keeper.probed()
            self.probe(now)

    # Answers

    def response(self, message: Answer | Refusal, address: Endpoint, now: float) -> bool:
        """Takes an answer or error. False where nobody there was asked anything of the sort.

        Where an answer names peers, these are told of first: what it says of nodes is heeded with the next call, or
        by `heed`, and not at all where the lookup has ended for the peers' sake.
        """
        self.heed()
        pending = self._transactions.match(message.tid, address)
        if pending is None:
            return False
        starter = self._starters.get(address)
        if starter is not None:
            starter.answered = True
        self._face.traffic.end(_method_of(pending.purpose), answered=isinstance(message, Answer))
        if isinstance(message, Refusal):
            self._refused(message, pending.purpose, now)
            return True
        rtt_s = now - pending.sent_at
        self._round_trip.sample(rtt_s)
        face = self._face
        is_router = starter is not None and starter.router
        node = Contact(message.id, address)
        if message.id != face.node_id and not is_router:
            face.table.answered(node, rtt_s, now)
        if not face.keeper.joined:
            face.keeper.join_soon(now)
        seen = message.own_address
        if seen is not None:
            face.seen_as(seen, address, now)
        purpose = pending.purpose
        if isinstance(purpose, _Ask):
            self._ask_answered(purpose, message, address, now, counts=not is_router)
        elif isinstance(purpose, _Store):
            self._store_ended(purpose, now, taken=True)
        elif isinstance(purpose, _Single):
            self._single_answered(purpose.question, message, node, rtt_s)
        else:
            self._ping_ended(purpose.ping, now, answered=True)
        return True

    def _ask_answered(self, purpose: _Ask, answer: Answer, address: Endpoint, now: float, *, counts: bool) -> None:
        walk, candidate, _ = purpose
        if walk.done:
            return
        lookup = walk.lookup
        if candidate.state is not State.ANSWERED:
            lookup.answered += 1
            self.nodes_answered += 1
        border = self._face.border
        peers = lookup.new_peers(peer for peer in answer.peers if border.believes(peer, address))
        self._unheeded = _Unheeded(purpose, answer, address, now, counts)
        if peers and not lookup.internal:
            self._dht.tell(PeersFound(lookup, peers, address))
        else:
            self.heed()

    @property
    def is_heedless(self) -> bool:
        """Whether `heed` has something to do."""
        return self._unheeded is not None

    def heed(self) -> None:
        """Goes on with the answer whose peers were told of: the nodes that it names, and whom to ask next."""
        if self._unheeded is None:
            return
        (walk, candidate, _), answer, address, now, counts = self._unheeded
        self._unheeded = None
        if walk.done:
            return
        lookup = walk.lookup
        walk.answered(candidate, answer.id, answer.token, counts=counts)
        border = self._face.border
        hop = candidate.hop + 1
        walk.add(border.believed(answer.contacts(self._face.family), address), hop)
        for face in self._dht.faces:
            if face.family is not self._face.family:
                face.seeker.offer(lookup, face.border.believed(answer.contacts(face.family), address), now, hop)
        gather = lookup.kind.gather
        if gather is not None and gather.take(answer, address):
            self._dht.enough(lookup, now)
            return
        self._dht.advance(lookup, self._face, now)

    def _store_ended(self, purpose: _Store, now: float, *, taken: bool) -> None:
        walk, candidate, _ = purpose
        if not walk.done:
            walk.lookup.stored += walk.stored(candidate, taken=taken)
            self._dht.advance(walk.lookup, self._face, now)

    def _single_answered(self, question: Question, answer: Answer, node: Contact, rtt_s: float) -> None:
        if not self._dht.is_open(question):
            return
        self.nodes_answered += 1
        border = self._face.border
        nodes = [contact for family in (IPV4, IPV6) for contact in answer.contacts(family)]
        outcome = Answered(
            question,
            node,
            rtt_s,
            nodes=tuple(border.believed(nodes, node.endpoint)),
            peers=tuple(peer for peer in answer.peers if border.believes(peer, node.endpoint)),
            token=answer.token,
            version=answer.version,
            own_address=answer.own_address,
            samples=answer.samples,
        )
        self._dht.close_question(outcome)

    def _refused(self, refusal: Refusal, purpose: _Purpose, now: float) -> None:
        if isinstance(purpose, _Ask):
            if not purpose.walk.done and purpose.candidate.state is not State.ANSWERED:
                purpose.walk.refused(purpose.candidate)
                self._dht.advance(purpose.walk.lookup, self._face, now)
        elif isinstance(purpose, _Store):
            kind = purpose.walk.lookup.kind
            if isinstance(kind, PutItem):
                kind.gather.refused(refusal)
            self._store_ended(purpose, now, taken=False)
        elif isinstance(purpose, _Single):
            if self._dht.is_open(purpose.question):
                self._dht.close_question(Unanswered(purpose.question, "refused", (refusal.code, refusal.text)))
        else:
            self._ping_ended(purpose.ping, now, answered=False)
