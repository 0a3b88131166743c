"""The lookup engine: walks towards a target, a few questions at a time (Kademlia, BEP 5). Decides; sends nothing.

A `Lookup` is what its user holds; it has one `Walk` a face. A walk keeps candidates in order of distance and
asks those among the closest that are still open, until the closest have all answered. "The closest" are the 8
closest of all together with the 8 closest whose id fits their address (BEP 42): sybils that crowd around a
target with ids of their choice delay a walk but do not end it. A question that is slow gives its slot to
another and is repeated while its node still matters; a node is given up after three tries.

Of each network (a /24 of IPv4, a /64 of IPv6) one node takes part: the first that was asked and did not fail. A
second has its turn only where that one is silent, so that bare names of nodes that do not exist hide nobody.

Starters (routers, bootstrap nodes) have no known id. They are asked while too little else is known.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator
from itertools import islice

from kademlia_bt.dht.candidate import Candidate, State
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.lookups import LookupKind
from kademlia_bt.dht.node_id import number
from kademlia_bt.dht.table import K
from wire.compact import Endpoint

__all__ = ["Lookup", "Walk"]

_MAX_TRIES = 3
"""With a third of all datagrams lost, half of all exchanges fail: three tries miss one live node in eight."""
_PARALLEL = 4
_MAX_PARALLEL = 10
"""A walk that meets silence asks more at once, up to this."""
_MAX_STARTERS_AT_ONCE = 6
_MAX_CANDIDATES = 100
_MAX_OF_NETWORK = 4
"""Known candidates of one network, so that it cannot crowd out the others."""
_MAX_FAILED_OF_NETWORK = 3
"""After so many silent nodes of one network no other is asked: names cost nothing, time-outs do."""
_MAX_PEERS = 10_000
"""Of one lookup; a swarm keeps fewer."""


class _Network:
    """What a walk knows of one network."""

    __slots__ = ("failed", "known", "speaker")

    def __init__(self) -> None:
        self.known = self.failed = 0
        self.speaker: Candidate | None = None
        """The one that takes part; the latest asked."""


class Lookup:
    """A lookup under way: the handle that its events carry. Equal only to itself."""

    def __init__(self, kind: LookupKind, started_at: float, *, internal: bool = False) -> None:
        self.kind = kind
        self.started_at = started_at
        self.internal = internal
        """Ours, for the table: nobody hears of it."""
        self.asked = 0
        """Nodes asked, each once however often the question was repeated."""
        self.answered = 0
        self.stored = 0
        """Nodes that took the announce."""
        self.hops = 0
        """The longest chain of nodes, each named by the one before it, that led to an answer."""
        self.done = False
        self._peers: set[Endpoint] = set()

    @property
    def found(self) -> int:
        """Distinct peers named so far."""
        return len(self._peers)

    def new_peers(self, peers: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Those not named before, in order; they count as named now. None beyond 10,000."""
        new = tuple(dict.fromkeys(peer for peer in peers if peer not in self._peers))
        new = new[: _MAX_PEERS - len(self._peers)]
        self._peers.update(new)
        return new


class Walk:
    """One face's share of a lookup."""

    def __init__(self, lookup: Lookup, own_id: bytes) -> None:
        self.lookup = lookup
        self.done = False
        """Set by the face once nothing is left to do."""
        self._own_id = own_id
        self._target = number(lookup.kind.target)
        self._candidates: list[Candidate] = []
        self._distances: list[int] = []
        """Theirs, in the same order: what places are looked for by."""
        self._starters: dict[Endpoint, Candidate] = {}
        self._known: dict[Endpoint, Candidate] = {}
        self._networks: dict[str | bytes, _Network] = {}
        self._silences = 0
        self._writers: list[Candidate] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it has, and had, nobody to ask."""
        return not self._candidates and not self._starters

    @property
    def is_thin(self) -> bool:
        """Whether fewer than 8 live candidates are known."""
        return len(list(islice(self._eligible(), K))) < K

    @property
    def has_answers(self) -> bool:
        """Whether anybody has answered."""
        return any(c.state is State.ANSWERED for c in (*self._candidates, *self._starters.values()))

    @property
    def closest(self) -> list[Contact]:
        """The up to 8 closest nodes that answered, closest first."""
        return [Contact(c.id, c.endpoint) for c in islice(self._answerers(), K) if c.id is not None]

    def add(self, contacts: Iterable[Contact], hop: int = 1) -> None:
        """Takes up nodes; those known already, our own, and too many of one network are passed over."""
        for contact in contacts:
            self._add(contact, hop)

    def add_starter(self, endpoint: Endpoint) -> None:
        """Takes up a node without a known id, to be asked while too little else is known.

        One that is known by an id already is asked as what it is, once.
        """
        if endpoint not in self._starters and endpoint not in self._known:
            self._starters[endpoint] = Candidate(endpoint, None, -1, 1)

    def to_ask(self) -> list[Candidate]:
        """Whom to ask now, or again; they count as asked."""
        if self._writers is not None:
            return []
        slots = min(_PARALLEL + self._silences, _MAX_PARALLEL)
        slots -= [candidate.state for candidate in self._candidates].count(State.ASKED)
        chosen: list[Candidate] = []
        for candidate in self._closest_open():
            if len(chosen) >= slots:
                break
            if _is_askable(candidate):
                chosen.append(candidate)
        if self._needs_starters():
            free = _MAX_STARTERS_AT_ONCE - sum(c.state is State.ASKED for c in self._starters.values())
            nodes = {candidate.endpoint for candidate in chosen}
            able = (c for at, c in self._starters.items() if _is_askable(c) and at not in nodes)
            chosen += islice(able, max(free, 0))
        for candidate in chosen:
            self._settle_twin(candidate)
            candidate.state = State.ASKED
            candidate.tries += 1
            if candidate.network is not None:
                self._network(candidate.network).speaker = candidate
        return chosen

    def _settle_twin(self, candidate: Candidate) -> None:
        """About to be asked: a starter that was named as a node meanwhile, or the other way round, is asked once."""
        if candidate.id is not None:
            self._starters.pop(candidate.endpoint, None)
            return
        named = self._known.get(candidate.endpoint)
        if named is not None and named.state is State.FRESH:
            self._drop(named)

    def answered(self, candidate: Candidate, node_id: bytes, token: bytes | None, *, counts: bool) -> None:
        """A node answered; its id may be news. `counts` is false for a router, which is no result."""
        self.lookup.hops = max(self.lookup.hops, candidate.hop)
        if candidate.id is not None and not counts:
            self._fail(candidate)  # somebody named a router
            return
        if candidate.id == node_id:
            candidate.state = State.ANSWERED
            candidate.token = token
            return
        # A starter, or a node that has another id now: it takes its place by the id that it gives itself.
        if candidate.id is None:
            candidate.state = State.ANSWERED
        else:
            self._fail(candidate)
        if not counts or node_id == self._own_id:
            return
        for old in (candidate, self._known.get(candidate.endpoint)):
            if old is not None and old in self._candidates:
                self._take_out(old)
        twin = Candidate(candidate.endpoint, node_id, number(node_id) ^ self._target, candidate.hop)
        twin.state = State.ANSWERED
        twin.token = token
        self._insert(twin)

    def slow(self, candidate: Candidate) -> bool:
        """An answer takes long: the slot is free again. True where that was the last try, and the node is given up."""
        if candidate.state is not State.ASKED:
            return False
        self._silences += 1
        if candidate.tries < _MAX_TRIES:
            candidate.state = State.SLOW
            return False
        self._fail(candidate)
        return True

    def refused(self, candidate: Candidate) -> None:
        """A node answered with an error."""
        self._fail(candidate)

    @property
    def settled(self) -> bool:
        """Whether the closest have all answered, and nobody is left who could know closer ones."""
        if any(candidate.state is not State.ANSWERED for candidate in self._closest_open()):
            return False
        return not self._needs_starters() or all(
            c.state in (State.ANSWERED, State.FAILED) for c in self._starters.values()
        )

    def begin_store(self) -> None:
        """Picks the 8 closest that gave a token, those first whose id fits their address (BEP 42)."""
        if self._writers is None:
            able = [c for c in self._answerers() if c.token is not None]
            self._writers = sorted(able, key=lambda c: not c.secure)[:K]

    def to_store(self) -> list[Candidate]:
        """With whom to store now, or again; they count as asked."""
        chosen = [
            c
            for c in self._writers or ()
            if c.store_state is State.FRESH or (c.store_state is State.SLOW and c.store_tries < _MAX_TRIES)
        ]
        for candidate in chosen:
            candidate.store_state = State.ASKED
            candidate.store_tries += 1
        return chosen

    def stored(self, candidate: Candidate, *, taken: bool) -> bool:
        """A node answered the store, or refused it. True where that is news and it was taken."""
        news = candidate.store_state is not State.ANSWERED and taken
        candidate.store_state = State.ANSWERED if taken else State.FAILED
        return news

    def store_slow(self, candidate: Candidate) -> None:
        """The answer to a store takes long."""
        if candidate.store_state is State.ASKED:
            candidate.store_state = State.FAILED if candidate.store_tries >= _MAX_TRIES else State.SLOW

    @property
    def is_stored(self) -> bool:
        """Whether every store has ended, one way or the other."""
        return all(c.store_state in (State.ANSWERED, State.FAILED) for c in self._writers or ())

    def _add(self, contact: Contact, hop: int) -> None:
        node_id, endpoint = contact
        known = self._known.get(endpoint)
        # Most of what is named was named before.
        if (known is not None and (known.state is not State.FRESH or known.id == node_id)) or node_id == self._own_id:
            return
        starter = self._starters.get(endpoint)
        if starter is not None and starter.state is not State.FRESH:
            return  # its answer will tell its id itself
        distance = number(node_id) ^ self._target
        if known is not None:
            if known.distance <= distance:
                return
            # Named by two ids: the closer one counts, lest a false name hide a node. Its answer will tell.
            self._drop(known)
        last = self._candidates[-1] if len(self._candidates) >= _MAX_CANDIDATES else None
        if last is not None and last.distance <= distance:
            return
        candidate = Candidate(endpoint, node_id, distance, hop)
        if candidate.network is not None and self._network(candidate.network).known >= _MAX_OF_NETWORK:
            return
        if last is not None:
            self._drop(last)
        self._insert(candidate)

    def _insert(self, candidate: Candidate) -> None:
        self._known[candidate.endpoint] = candidate
        at = bisect(self._distances, candidate.distance)
        self._distances.insert(at, candidate.distance)
        self._candidates.insert(at, candidate)
        if candidate.network is not None:
            network = self._network(candidate.network)
            network.known += 1
            if candidate.state is State.ANSWERED:
                network.speaker = candidate

    def _take_out(self, candidate: Candidate) -> None:
        at = self._candidates.index(candidate)
        del self._candidates[at], self._distances[at]

    def _drop(self, candidate: Candidate) -> None:
        """Forgets a candidate; one that was asked stays known, so that it is not asked anew."""
        self._take_out(candidate)
        if candidate.state is State.FRESH:
            del self._known[candidate.endpoint]
            if candidate.network is not None:
                self._network(candidate.network).known -= 1

    def _fail(self, candidate: Candidate) -> None:
        candidate.state = State.FAILED
        if candidate.network is not None:
            self._network(candidate.network).failed += 1

    def _network(self, key: str | bytes) -> _Network:
        network = self._networks.get(key)
        if network is None:
            network = self._networks[key] = _Network()
        return network

    def _eligible(self) -> Iterator[Candidate]:
        """Those that did not fail, one a network, in order of distance."""
        seen: set[str | bytes] = set()
        for candidate in self._candidates:
            if candidate.state is not State.FAILED and (candidate.network is None or self._speaks(candidate, seen)):
                yield candidate

    def _speaks(self, candidate: Candidate, seen: set[str | bytes]) -> bool:
        """Whether it is the one of its network that takes part; `seen`: networks of which one was met already."""
        key = candidate.network
        assert key is not None
        network = self._networks[key]
        speaker = network.speaker
        if speaker is not None and speaker.state is not State.FAILED:
            if candidate is not speaker:
                return False
        elif network.failed >= _MAX_FAILED_OF_NETWORK or key in seen:
            return False
        seen.add(key)
        return True

    def _answerers(self) -> Iterator[Candidate]:
        """Those that answered, one a network, in order of distance."""
        return (candidate for candidate in self._eligible() if candidate.state is State.ANSWERED)

    def _closest_open(self) -> Iterator[Candidate]:
        """The closest that did not fail, 8 of all and 8 of those with a fitting id, in order of distance."""
        any_left = secure_left = K
        seen: set[str | bytes] = set()
        for candidate in self._candidates:  # `_eligible`, spelled out: this is what each answer leads to
            if candidate.state is State.FAILED or not (candidate.network is None or self._speaks(candidate, seen)):
                continue
            if any_left > 0 or (candidate.secure and secure_left > 0):
                any_left -= 1
                secure_left -= candidate.secure
                yield candidate
            if any_left <= 0 and secure_left <= 0:
                return

    def _needs_starters(self) -> bool:
        if not self._starters:
            return False
        live = silent = answered = 0
        for candidate in self._eligible():
            live += 1
            answered += candidate.state is State.ANSWERED
            silent += candidate.state is State.SLOW
            if live >= K and answered:
                return False
        silent += [candidate.state for candidate in self._candidates].count(State.FAILED)
        return live < K or (silent > 0 and not answered)


def _is_askable(candidate: Candidate) -> bool:
    return candidate.state is State.FRESH or (candidate.state is State.SLOW and candidate.tries < _MAX_TRIES)
