"""The whole DHT of one process without I/O: faces (one a socket), shared stores, lookups, events (BEP 5, 32, 42, 43).

How a shell drives it: one `UdpPump` a socket with its `Face` as tenant. After any call on `Dht` that may
send (start, query, cancel, add_*), and after each batch of datagrams, look at `dht.has_events` (drain with
`events()`) and wake the pump of each face whose `has_outgoing` is true: what comes in on one face may
make another speak (BEP 32). Both flags are cheap.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Literal

from kademlia_bt.dht.confidence import Confidence, NetworkSize, judge
from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.events import (
    Answered,
    DhtEvent,
    DhtStats,
    Health,
    HealthChanged,
    LookupDone,
    LookupReport,
    LookupTotals,
    PeersFound,
    Unanswered,
)
from kademlia_bt.dht.face import Face
from kademlia_bt.dht.lookup import Lookup
from kademlia_bt.dht.lookups import GetItem, GetPeers, LookupKind, PutItem, Scrape
from kademlia_bt.dht.peer_store import PeerStore
from kademlia_bt.dht.questions import Question, QuestionKind
from kademlia_bt.dht.table import K
from kademlia_bt.dht.tokens import Tokens
from kademlia_bt.dht.traffic import merge_messages, merge_refusals
from kademlia_bt.items.store import ItemStore
from kademlia_bt.items.values import ImmutableItem
from wire.compact import Endpoint, Family
from wire.errors import MisuseError
from wire.ids import ID_BYTES

__all__ = ["Dht", "Face"]

_PATIENCE_S = 10.0
"""How long a lookup waits for somebody to ask, while no node is known at all: names may still be resolving."""
_MAX_SAVED = 500
_MAX_REPORTS = 50
"""Lookups that are over, kept for those who watch."""


class Dht:
    """The DHT. Times are monotonic seconds; `rng` should be unpredictable in life (`random.SystemRandom()`)."""

    def __init__(self, config: DhtConfig, rng: random.Random, now: float) -> None:
        self.config = config
        self.tokens = Tokens(rng, now)
        self.items = ItemStore()
        self._rng = rng
        self._now = now
        self._faces: list[Face] = []
        self._stores: dict[Family, PeerStore] = {}
        self._events: list[DhtEvent] = []
        self._questions: set[Question] = set()
        self._health: Health = "broken"
        self._reports: deque[tuple[float, LookupReport]] = deque(maxlen=_MAX_REPORTS)
        self._totals: dict[str, LookupTotals] = {}
        self._sizes: dict[Family, NetworkSize] = {}

    @property
    def faces(self) -> Sequence[Face]:
        """In the order they were added."""
        return self._faces

    def add_face(
        self,
        family: Family,
        node_id: bytes | None,
        now: float,
        *,
        allow_local: bool = False,
        bound: Endpoint | None = None,
    ) -> Face:
        """Adds a socket's DHT.

        Args:
            family: `IPV4` or `IPV6`: what its socket speaks.
            node_id: 20 bytes, as saved; None makes a random one. A new one is taken by itself once the external
                address is known and the id does not fit it (BEP 42).
            now: Monotonic seconds.
            allow_local: Talks to loopback and private addresses too; else datagrams from there are dropped.
            bound: Where its socket is bound, if that is known; a wildcard says only its port.
        """
        if node_id is not None and len(node_id) != ID_BYTES:
            raise MisuseError(f"a node id is {ID_BYTES} bytes long, not {len(node_id)}")
        store = self._stores.setdefault(family, PeerStore(family, self._rng))
        face = Face(self, family, node_id, store, self._rng, now, allow_local=allow_local, bound=bound)
        self._faces.append(face)
        self.items.own_id = self._faces[0].node_id
        for each in self._faces:
            each.responder.serve([other.table for other in self._faces])
        return face

    def add_bootstrap(self, endpoints: Iterable[Endpoint], now: float, *, routers: bool = False) -> None:
        """Adds places to start from, each on the faces of its family; joins at once where no node is known yet.

        They are asked again, with back-off, whenever no live node is known. With `routers` they are the public
        entry points, which hand out nodes for all: they never enter the table and are not announced to.
        Without, they are ordinary nodes. May be called again (names resolved late, the network came back).
        """
        self._now = now
        places = list(endpoints)
        for face in self._faces:
            face.add_starters(places, now, routers=routers)

    def add_node(self, endpoint: Endpoint, now: float) -> None:
        """A node that somebody named (a PORT message, a torrent's `nodes`): pinged first, kept if it answers.

        Bounded and silent: too many at once, or an address that is not talked to, and it is forgotten.
        """
        self._now = now
        for face in self._faces:
            face.add_node(endpoint, now)

    def import_nodes(self, nodes: Iterable[Contact], now: float) -> None:
        """Takes up saved nodes, best first: lookups start from them at once, none enters a table before it answers."""
        self._now = now
        saved = list(nodes)[:_MAX_SAVED]
        for face in self._faces:
            face.remember(saved[::-1], now)

    def export_nodes(self) -> list[Contact]:
        """The nodes worth saving, best first, of all faces; at most 500."""
        in_turn = chain.from_iterable(zip_longest(*(face.saved for face in self._faces)))
        return [contact for contact in in_turn if contact is not None][:_MAX_SAVED]

    def start(self, kind: LookupKind, now: float) -> Lookup:
        """Starts a lookup, on a face of each family; `PeersFound` and at last one `LookupDone` carry the handle."""
        self._now = now
        lookup = Lookup(kind, now)
        for face in self._faces_for_lookup(now):
            face.seeker.begin(lookup, now)
        if isinstance(kind, GetPeers):
            self._look_at_home(lookup, kind, now)
        elif self._knows_enough(kind, now):
            self.enough(lookup, now)
        for face in self._faces:
            self.advance(lookup, face, now)
        return lookup

    def cancel(self, lookup: Lookup, now: float) -> None:
        """Ends a lookup; its `LookupDone` comes at once. Nothing happens where it is done."""
        self._now = now
        self._finish(lookup, now, cancelled=True)

    def query(self, endpoint: Endpoint, kind: QuestionKind, now: float) -> Question:
        """Asks one node one thing; `Answered` or `Unanswered` (within 15 s) carries the handle given here."""
        self._now = now
        question = Question(endpoint, kind)
        self._questions.add(question)
        if not any(face.seeker.single(question, now) for face in self._faces):
            self.close_question(Unanswered(question, "no_route"))
        return question

    @property
    def has_events(self) -> bool:
        """Whether `events` has something to give."""
        return bool(self._events)

    def events(self) -> list[DhtEvent]:
        """What happened, in order, drained."""
        events, self._events = self._events, []
        return events

    def stats(self) -> DhtStats:
        """A snapshot of the counts, as of the latest call or tick."""
        faces = self._faces
        starters = tuple(starter for face in faces for starter in face.seeker.starters)
        return DhtStats(
            routers_tried=sum(starter.tried for starter in starters),
            routers_answered=sum(starter.answered for starter in starters),
            nodes_asked=sum(face.seeker.nodes_asked for face in faces),
            nodes_answered=sum(face.seeker.nodes_answered for face in faces),
            faces=tuple(face.stats(self._now) for face in faces),
            torrents=len({info_hash for store in self._stores.values() for info_hash in store.info_hashes}),
            peers=sum(store.peers for store in self._stores.values()),
            queries=sum(face.queries for face in faces),
            answers=sum(face.answers for face in faces),
            dropped=sum(face.dropped for face in faces),
            limited=sum(face.limited for face in faces),
            sent_bytes=sum(face.sent_bytes for face in faces),
            received_bytes=sum(face.received_bytes for face in faces),
            health=self._judge(self._now),
            starters=starters,
            lookups=tuple(self._totals.values()),
            messages=merge_messages(face.traffic.messages for face in faces),
            refused=merge_refusals(face.traffic.refusals for face in faces),
        )

    @property
    def health(self) -> Health:
        """How well it is connected; `HealthChanged` tells of each change, within a second."""
        return self._health

    def lookups(self, now: float) -> list[LookupReport]:
        """Those under way, and the last 50 that are over: the latest first."""
        running = dict.fromkeys(lookup for face in self._faces for lookup in face.seeker.lookups)
        reports = [_report(lookup, "running", now) for lookup in running]
        reports += [replace(report, age_s=now - began_at) for began_at, report in self._reports]
        return sorted(reports, key=lambda report: report.age_s)

    def network_size(self, family: Family) -> int | None:
        """About how many nodes the whole network has in a family; None before it was measured.

        Measured by the lookups that keep the table alive, so it comes with the join and grows better within minutes.
        """
        size = self._sizes.get(family)
        return None if size is None else size.nodes

    def measure(self, family: Family, target: bytes, closest: Sequence[Contact]) -> None:
        """Takes the closest nodes to a target that chance chose, as a sample of the network's size."""
        self._sizes.setdefault(family, NetworkSize()).sample(target, closest)

    def judge(self, target: bytes, closest: Iterable[Contact]) -> tuple[Confidence, ...]:
        """How far the closest nodes that a lookup found can be trusted, by what is known of the network now."""
        by_family: dict[Family, dict[bytes, Contact]] = {}
        for contact in closest:
            by_family.setdefault(contact.endpoint.family, {})[contact.id] = contact
        return tuple(
            judge(family, target, list(contacts.values()), self._sizes.get(family, NetworkSize()))
            for family, contacts in by_family.items()
        )

    # What the faces call

    def tell(self, event: DhtEvent) -> None:
        """Queues an event."""
        self._events.append(event)

    def is_open(self, question: Question) -> bool:
        """Whether a question still waits."""
        return question in self._questions

    def close_question(self, outcome: Answered | Unanswered) -> None:
        """Ends a question with its one event."""
        self._questions.discard(outcome.question)
        self.tell(outcome)

    def enough(self, lookup: Lookup, now: float) -> None:
        """Ends a lookup that has found all that there can be."""
        self._finish(lookup, now, cancelled=False)

    def wants_both(self, lookup: Lookup, asking: Face) -> bool:
        """Whether a lookup asks for nodes of the other family too: only while that knows too few (BEP 32)."""
        for face in self._faces:
            if face.family is not asking.family:
                walk = face.seeker.walk_of(lookup)
                if face.needs_nodes or (walk is not None and walk.is_thin):
                    return True
        return False

    def advance(self, lookup: Lookup, face: Face, now: float) -> None:
        """Lets a lookup take its next steps on one face, and ends it where no face has any left to take."""
        self._now = now
        if lookup.done:
            return
        face.seeker.drive(lookup, now)
        done = busy = hopeful = 0
        for each in self._faces:
            walk = each.seeker.walk_of(lookup)
            if walk is None:
                continue
            done += walk.done
            if not walk.done and not walk.is_idle:
                busy += 1
                hopeful += not each.keeper.is_cut_off or walk.has_answers
        # A family that leads nowhere on this machine, as IPv6 often does, is not waited for.
        if (done and not hopeful) or (not busy and now - lookup.started_at >= _PATIENCE_S):
            self._finish(lookup, now, cancelled=False)

    def watch_health(self, now: float) -> None:
        """Looks whether the health is still what it was."""
        health = self._judge(now)
        if health != self._health:
            self._health = health
            self.tell(HealthChanged(health))

    def sweep(self, now: float) -> None:
        """Forgets what is over in the shared stores."""
        for store in self._stores.values():
            store.sweep(now)
        self.items.own_id = self._faces[0].node_id
        self.items.sweep(now)

    def _faces_for_lookup(self, now: float) -> list[Face]:
        """One of each family, lest several sockets ask the same nodes at once (BEP 45).

        Any of those that know live nodes, so that repeated announces go out from all of them; where none does,
        all: nobody knows yet which address leads anywhere.
        """
        chosen: list[Face] = []
        for family in dict.fromkeys(face.family for face in self._faces):
            faces = [face for face in self._faces if face.family is family]
            live = [face for face in faces if face.table.has_good(now)] if len(faces) > 1 else []
            chosen += [self._rng.choice(live)] if live else faces
        return chosen

    def _judge(self, now: float) -> Health:
        good = sum(face.table.good(now, K) for face in self._faces)
        if not good:
            return "broken"
        if good < K:
            return "poor"
        of_faces = [health for face in self._faces if (health := face.health(now)) != "broken"]
        return "firewalled" if all(health == "firewalled" for health in of_faces) else "good"

    def _look_at_home(self, lookup: Lookup, kind: GetPeers, now: float) -> None:
        """Peers that announced themselves to us are found at once; and whoever asks us is told of ourselves.

        So that a network of two works, where each is all that the other can ask.
        """
        peers: list[Endpoint] = []
        for face in self._faces:
            store = self._stores[face.family]
            own = face.own_peer(kind.announce_port) if kind.stores else None
            peers += [peer for peer in store.peers_of(kind.info_hash, now) if peer != own]
            if own is not None:
                store.add(kind.info_hash, own.compact(), now, seed=kind.seed)
        found = lookup.new_peers(peers)
        if found:
            self.tell(PeersFound(lookup, found, None))

    def _knows_enough(self, kind: LookupKind, now: float) -> bool:
        """Puts in what others have left with us; True where that is the whole answer."""
        if isinstance(kind, Scrape):
            for store in self._stores.values():
                filters = store.filters(kind.info_hash, now)
                if filters is not None:
                    kind.gather.add(*filters)
        elif isinstance(kind, GetItem | PutItem):
            item = self.items.get(kind.target, now)
            if item is not None:
                kind.gather.hold(item, None)
                return isinstance(kind, GetItem) and isinstance(item, ImmutableItem)
        return False

    def _finish(self, lookup: Lookup, now: float, *, cancelled: bool) -> None:
        if lookup.done:
            return
        lookup.done = True
        report = _report(lookup, "cancelled" if cancelled else "done", now)
        self._reports.append((lookup.started_at, report))
        self._totals[report.method] = self._totals.get(report.method, LookupTotals(report.method)).plus(report)
        closest: list[Contact] = []
        for face in self._faces:
            walk = face.seeker.end(lookup)
            if walk is None:
                continue
            closest += walk.closest
            if lookup.internal:
                if not cancelled:
                    self.measure(face.family, lookup.kind.target, walk.closest)
                face.own_lookup_ended(lookup, now)
        if not lookup.internal:
            confidence = self.judge(lookup.kind.target, closest)
            self.tell(LookupDone(lookup, tuple(closest), lookup.stored, cancelled, confidence))


def _report(lookup: Lookup, state: Literal["running", "done", "cancelled"], now: float) -> LookupReport:
    return LookupReport(
        method=lookup.kind.method.decode(),
        target=lookup.kind.target,
        internal=lookup.internal,
        state=state,
        age_s=now - lookup.started_at,
        took_s=now - lookup.started_at,
        asked=lookup.asked,
        answered=lookup.answered,
        found=lookup.found,
        stored=lookup.stored,
        hops=lookup.hops,
    )
