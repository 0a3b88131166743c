"""A world of DHT cores on one event heap, without trio or sockets: deterministic, and fast enough for thousands.

The same seed gives the same datagrams in the same order. Delay, loss, duplicates and NAT are the world's; the
nodes are whole `Dht` objects with the addresses that they are given here. Nodes of a grown population are calm:
each sleeps, at no cost, until a datagram reaches it, and then answers without any upkeep of its own.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterable, Sequence

from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.events import LookupDone
from kademlia_bt.dht.lookup import Lookup
from kademlia_bt.dht.lookups import FindNode, GetPeers, LookupKind
from kademlia_bt.dht.node_id import make_node_id, number
from kademlia_bt.dht.table import K
from kademlia_bt.testing.population import IdSpace
from kademlia_bt.testing.simnode import Search, SimNode
from wire.compact import IPV4, IPV6, Endpoint, Family, reach
from wire.errors import MisuseError

__all__ = ["World"]

_NAT_HOLE_S = 120.0
_NEVER = float("inf")
_PORT = 6881
_LOOKUP_S = 60.0
_NO_LIMITS = DhtConfig(per_ip_limit=0, upload_limit=0)


class World:
    """Nodes, the datagrams between them, and the time."""

    def __init__(
        self,
        seed: int,
        *,
        loss: float = 0.0,
        delay_s: tuple[float, float] = (0.02, 0.15),
        jitter_s: float = 0.0,
        duplicate: float = 0.0,
        start: float = 1000.0,
    ) -> None:
        """An empty world.

        Args:
            seed: Of all chance in it, the nodes' too.
            loss: The share of datagrams that vanish, 0..1.
            delay_s: Each datagram takes a time drawn evenly between these two.
            jitter_s: Some take much longer: an exponentially distributed time of this mean is added.
            duplicate: The share of datagrams that arrive twice.
            start: The first moment, in seconds.
        """
        self.rng = random.Random(seed)
        self.seed = seed
        self.now = start
        self.loss = loss
        self.delay_s = delay_s
        self.jitter_s = jitter_s
        self.duplicate = duplicate
        self.nodes: list[SimNode] = []
        self.datagrams = 0
        """Sent so far."""
        self.largest = 0
        """Bytes of the largest datagram so far."""
        self.on_datagram: Callable[[bytes, Endpoint, Endpoint], None] | None = None
        """Told of every datagram sent: its bytes, from where, to where."""
        self.passes: Callable[[Endpoint, Endpoint], bool] | None = None
        """Where set: whether a datagram gets from one address to another at all. Islands are made so."""
        self._digest = hashlib.sha256()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._at: dict[Endpoint, SimNode] = {}
        self._taps: dict[Endpoint, Callable[[bytes, Endpoint], None]] = {}
        self._timers: dict[Endpoint, float] = {}
        self._spaces: dict[Family, IdSpace] = {}

    @property
    def digest(self) -> str:
        """Of every datagram sent so far: when, from where, to where, what. Equal for equal seeds."""
        return self._digest.hexdigest()

    @property
    def living(self) -> list[SimNode]:
        """The nodes that were not killed."""
        return [node for node in self.nodes if node.alive]

    # Who is there

    def add(
        self,
        *families: Family,
        bootstrap: Iterable[Endpoint] = (),
        routers: bool = False,
        nat: bool = False,
        config: DhtConfig | None = None,
        node_id: bytes | None = None,
        hosts: Sequence[str] = (),
        fresh_ids: bool = False,
    ) -> SimNode:
        """A node with a face a family (IPv4 where none is said), at addresses of networks of their own.

        It knows nobody but the `bootstrap` nodes. Its ids fit its addresses (BEP 42), unless a `node_id` is given,
        or they are to be `fresh_ids`: then the core makes them, one a face.
        """
        node = self._node(families or (IPV4,), hosts, nat)
        if not fresh_ids:
            node.ids = {at: node_id or make_node_id(at.ip, self.rng) for at in node.endpoints}
        node.wake = self._maker(node, config, grown=False)
        places = list(bootstrap)
        if places:
            node.dht.add_bootstrap(places, self.now, routers=routers)
        self.poke(node)
        return node

    def populate(
        self,
        count: int,
        *,
        families: Sequence[tuple[Family, ...]] = ((IPV4,),),
        nat_share: float = 0.0,
        config: DhtConfig | None = None,
    ) -> list[SimNode]:
        """Adds a grown network: nodes that have lived for hours and whose tables are full.

        The tables are filled from the true space of ids, without datagrams, each when its node first hears something
        or is used: nodes that were killed by then are in it. They keep no table alive before `wake_all`.

        `families` are dealt out in turn: with `[(IPV4,), (IPV6,), (IPV4, IPV6)]` a third of the nodes joins two
        islands. Of the nodes a share is behind NATs; no other node knows these.
        """
        nodes: list[SimNode] = []
        known: dict[Family, list[Contact]] = {}
        for index in range(count):
            node = self._node(families[index % len(families)], (), self.rng.random() < nat_share)
            node.ids = {at: make_node_id(at.ip, self.rng) for at in node.endpoints}
            node.wake = self._maker(node, config, grown=True)
            node.is_calm = True
            nodes.append(node)
            if not node.nat:
                for at, node_id in node.ids.items():
                    known.setdefault(at.family, []).append(Contact(node_id, at))
        for family, contacts in known.items():
            self._spaces.setdefault(family, IdSpace()).add(contacts, self.rng)
        return nodes

    def wake_all(self) -> None:
        """Wakes all that sleep, and ends the calm: from now on each keeps its table alive, which costs time.

        For minutes of churn; lookups alone need it not.
        """
        for node in self.nodes:
            if node.alive:
                node.is_calm = False
                self.poke(node)

    def kill(self, node: SimNode) -> None:
        """Takes a node off the net, without a word."""
        node.alive = False
        for endpoint in node.endpoints:
            self._at.pop(endpoint, None)

    def suspend(self, node: SimNode, for_s: float) -> None:
        """Puts a node's machine to sleep for so many seconds: it hears nothing, and its timers come late."""
        for endpoint in node.endpoints:
            self._at.pop(endpoint, None)
            self._timers.pop(endpoint, None)

        def wake() -> None:
            if node.alive:
                self._at.update(dict.fromkeys(node.endpoints, node))
                for face in node.dht.faces:
                    face.tick(self.now)
                self.poke(node)

        self.call_at(self.now + for_s, wake)

    def tap(self, endpoint: Endpoint, hear: Callable[[bytes, Endpoint], None]) -> None:
        """Puts something else than a node at an address: it hears each datagram and where it is from.

        It speaks through `send`. Raises MisuseError where a node lives there.
        """
        if endpoint in self._at:
            raise MisuseError(f"there is a node at {endpoint}")
        self._taps[endpoint] = hear

    def untap(self, endpoint: Endpoint) -> None:
        """Takes a tap away."""
        self._taps.pop(endpoint, None)

    def true_closest(self, target: bytes, but: SimNode | None = None, family: Family = IPV4) -> list[Endpoint]:
        """The 8 living nodes, not behind NATs, that are closest to a target: what a lookup should find."""
        found: list[tuple[int, Endpoint]] = []
        for node in self.nodes:
            if not node.alive or node.nat or node is but:
                continue
            for at in node.endpoints:
                if at.family is family:
                    node_id = node.face_at(at).node_id if node.is_awake else node.ids[at]
                    found.append((number(node_id) ^ number(target), at))
        return [at for _, at in sorted(found)[:K]]

    # What they do

    def start(self, node: SimNode, kind: LookupKind) -> Lookup:
        """Starts a lookup; `run` lets it go on."""
        lookup = node.dht.start(kind, self.now)
        self.poke(node)
        return lookup

    def finish(self, node: SimNode, lookup: Lookup, seconds: float = _LOOKUP_S) -> LookupDone:
        """Runs until a lookup has ended. Raises AssertionError where it takes longer than `seconds`."""
        if not self.run(seconds, lambda: lookup.done):
            raise AssertionError(f"the lookup did not end within {seconds:g} s")
        self.poke(node)
        done = node.done(lookup)
        assert done is not None
        return done

    def find(self, node: SimNode, target: bytes) -> LookupDone:
        """Runs until a node has looked up the closest nodes to a target."""
        return self.finish(node, self.start(node, FindNode(target)))

    def announce(self, node: SimNode, info_hash: bytes, port: int) -> LookupDone:
        """Runs until a node has announced itself as a peer at `port`."""
        return self.finish(node, self.start(node, GetPeers(info_hash, announce_port=port)))

    def search(self, node: SimNode, info_hash: bytes) -> Search:
        """Runs until a node's search for peers has ended."""
        began = self.now
        lookup = self.start(node, GetPeers(info_hash))
        self.run(_LOOKUP_S, lambda: lookup.found > 0 or lookup.done)
        first_s = self.now - began if lookup.found else None
        done = self.finish(node, lookup)
        return Search(done, node.peers(lookup), first_s, self.now - began)

    def inject(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        """Delivers a datagram to a living node at once, from wherever it says."""
        node = self._at[to]
        node.face_at(to).receive(data, source, self.now)
        self.poke(node)

    def send(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        """Sends a datagram through the world, which may lose or delay it."""
        self._send(data, source, to)

    def poke(self, node: SimNode) -> None:
        """Sends what a node has to say, and looks at its timers: after each call on it from outside."""
        dht = node.dht
        if dht.has_events:
            node.events += dht.events()
        for endpoint, face in zip(node.endpoints, dht.faces, strict=True):
            if face.has_outgoing:
                for data, to in face.outgoing():
                    if node.nat:
                        node.holes[to] = self.now + _NAT_HOLE_S
                    self._send(bytes(data), endpoint, to)
            due = face.next_timer() if not node.is_calm or face.seeker.lookups else face.seeker.next_timer() or _NEVER
            if due < self._timers.get(endpoint, _NEVER):
                self._timers[endpoint] = due
                self._push(due, lambda endpoint=endpoint, due=due: self._tick(endpoint, due))  # type: ignore[misc]

    # Time

    @property
    def next_at(self) -> float | None:
        """When something happens next."""
        return self._heap[0][0] if self._heap else None

    def call_at(self, when: float, action: Callable[[], None]) -> None:
        """Has something done at a moment."""
        self._push(when, action)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Runs for so long, or until the condition holds; True where it does."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, action = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            action()
            if until is not None and until():
                return True
        self.now = end
        return until is not None and until()

    # Inside

    def _node(self, families: Sequence[Family], hosts: Sequence[str], nat: bool) -> SimNode:
        index = len(self.nodes)
        endpoints = []
        for at, family in enumerate(families):
            if at < len(hosts):
                host = hosts[at]
            elif family is IPV6:
                host = str(Endpoint.of(f"2a00:{index // 65536 + 1:x}:{index % 65536:x}::1", 1).host)
            else:
                host = f"{20 + index // 65536}.{index // 256 % 256}.{index % 256}.7"
            endpoints.append(Endpoint(host, _PORT))
        node = SimNode(tuple(endpoints), nat)
        self.nodes.append(node)
        for endpoint in endpoints:
            self._at[endpoint] = node
        return node

    def _maker(self, node: SimNode, config: DhtConfig | None, *, grown: bool) -> Callable[[], Dht]:
        seed = self.rng.getrandbits(64)

        def make() -> Dht:
            rng = random.Random(seed)
            dht = Dht(config or _NO_LIMITS, rng, self.now)
            for at in node.endpoints:
                local = reach(at.host) != "global"
                face = dht.add_face(at.family, node.ids.get(at), self.now, allow_local=local, bound=at)
                if grown:
                    self._spaces[at.family].fill(dht, face, rng, self.now, sum(self.delay_s) + 2 * self.jitter_s)
            return dht

        return make

    def _push(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, action))

    def _tick(self, endpoint: Endpoint, due: float) -> None:
        node = self._at.get(endpoint)
        if node is None or self._timers.get(endpoint) != due:
            return
        del self._timers[endpoint]
        face = node.face_at(endpoint)
        if node.is_calm and not face.seeker.lookups:
            face.seeker.expire(self.now)
        else:
            face.tick(self.now)
        self.poke(node)

    def _send(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        self.datagrams += 1
        self.largest = max(self.largest, len(data))
        self._digest.update(f"{self.now:.9f} {source} {to} {len(data)} ".encode() + data)
        if self.on_datagram is not None:
            self.on_datagram(data, source, to)
        if self.passes is not None and not self.passes(source, to):
            return
        copies = 2 if self.duplicate and self.rng.random() < self.duplicate else 1
        for _ in range(copies):
            if self.rng.random() < self.loss:
                continue
            delay = self.rng.uniform(*self.delay_s)
            if self.jitter_s:
                delay += self.rng.expovariate(1 / self.jitter_s)
            self._push(self.now + delay, lambda: self._deliver(data, source, to))

    def _deliver(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        node = self._at.get(to)
        if node is None:
            tap = self._taps.get(to)
            if tap is not None:
                tap(data, source)
        elif not node.nat or node.holes.get(source, 0.0) >= self.now:
            node.face_at(to).receive(data, source, self.now)
            self.poke(node)
