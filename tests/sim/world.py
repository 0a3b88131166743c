"""A world of DHT cores on one event heap, without trio or sockets: deterministic, and fast enough for hundreds.

The same seed gives the same datagrams in the same order. Delay, loss and NAT are the world's; the
nodes are whole `Dht` objects with the addresses that they are given here.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kademlia_bt.core import Dht, DhtConfig
from kademlia_bt.events import DhtEvent, LookupDone, PeersFound
from kademlia_bt.face import Face
from kademlia_bt.lookup import Lookup
from kademlia_bt.lookups import LookupKind
from kademlia_bt.node_id import make_node_id
from wire.compact import IPV4, IPV6, Endpoint, Family, reach

__all__ = ["SimNode", "World"]

NAT_HOLE_S = 120.0


@dataclass(eq=False)
class SimNode:
    """One node: its DHT, one face an endpoint, and what it has heard."""

    dht: Dht
    faces: dict[Endpoint, Face] = field(default_factory=dict)
    nat: bool = False
    alive: bool = True
    events: list[DhtEvent] = field(default_factory=list)
    holes: dict[Endpoint, float] = field(default_factory=dict)

    @property
    def endpoint(self) -> Endpoint:
        return next(iter(self.faces))

    @property
    def face(self) -> Face:
        return self.faces[self.endpoint]

    def done(self, lookup: Lookup) -> LookupDone | None:
        return next((e for e in self.events if isinstance(e, LookupDone) and e.lookup is lookup), None)

    def peers(self, lookup: Lookup) -> list[Endpoint]:
        found = [e for e in self.events if isinstance(e, PeersFound) and e.lookup is lookup]
        return [endpoint for event in found for endpoint in event.endpoints]


class World:
    """Nodes, the datagrams between them, and the time."""

    def __init__(
        self, seed: int, *, loss: float = 0.0, delay_s: tuple[float, float] = (0.02, 0.15), start: float = 1000.0
    ) -> None:
        self.rng = random.Random(seed)
        self.now = start
        self.loss = loss
        self.delay_s = delay_s
        self.nodes: list[SimNode] = []
        self.datagrams = 0
        self.largest = 0
        self.on_datagram: Callable[[bytes, Endpoint, Endpoint], None] | None = None
        self._digest = hashlib.sha256()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._at: dict[Endpoint, SimNode] = {}
        self._timers: dict[Endpoint, float] = {}

    @property
    def digest(self) -> str:
        """Of every datagram sent so far: when, from where, to where, what."""
        return self._digest.hexdigest()

    def add(
        self,
        *families: Family,
        bootstrap: Sequence[Endpoint] = (),
        routers: bool = False,
        nat: bool = False,
        config: DhtConfig | None = None,
        node_id: bytes | None = None,
        hosts: Sequence[str] = (),
        fresh_ids: bool = False,
    ) -> SimNode:
        """A node with a face a family (IPv4 where none is said), at addresses of networks of their own.

        Its ids fit its addresses (BEP 42), unless they are to be `fresh_ids`: then the core makes them, one a face.
        """
        index = len(self.nodes)
        node = SimNode(Dht(config or DhtConfig(per_ip_limit=0, upload_limit=0), self._child_rng(), self.now), nat=nat)
        self.nodes.append(node)
        for at, family in enumerate(families or (IPV4,)):
            if at < len(hosts):
                host = hosts[at]
            elif family is IPV6:
                host = str(Endpoint.of(f"2a00:{index + 1:x}::1", 1).host)
            else:
                host = f"{20 + index // 65536}.{index // 256 % 256}.{index % 256}.7"
            endpoint = Endpoint(host, 6881)
            fitting = None if fresh_ids else node_id or make_node_id(endpoint.ip, self.rng)
            face = node.dht.add_face(family, fitting, self.now, allow_local=reach(host) != "global", bound=endpoint)
            node.faces[endpoint] = face
            self._at[endpoint] = node
        if bootstrap:
            node.dht.add_bootstrap(bootstrap, self.now, routers=routers)
        self.poke(node)
        return node

    def kill(self, node: SimNode) -> None:
        """Takes a node off the net, without a word."""
        node.alive = False
        for endpoint in node.faces:
            self._at.pop(endpoint, None)

    def start(self, node: SimNode, kind: LookupKind) -> Lookup:
        lookup = node.dht.start(kind, self.now)
        self.poke(node)
        return lookup

    def inject(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        """Delivers a datagram at once, from wherever it says."""
        node = self._at[to]
        node.faces[to].receive(data, source, self.now)
        self.poke(node)

    def poke(self, node: SimNode) -> None:
        """Sends what a node has to say, and looks at its timers: after each call on it from outside."""
        node.events += node.dht.events()
        for endpoint, face in node.faces.items():
            for data, to in face.outgoing():
                self._send(bytes(data), endpoint, to, node)
            due = face.next_timer()
            if due < self._timers.get(endpoint, float("inf")):
                self._timers[endpoint] = due
                self._push(due, lambda endpoint=endpoint, due=due: self._tick(endpoint, due))  # type: ignore[misc]

    def call_at(self, when: float, action: Callable[[], None]) -> None:
        self._push(when, action)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Runs for so long, or until the condition holds; True where it does."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, action = heapq.heappop(self._heap)
            action()
            if until is not None and until():
                return True
        self.now = end
        return until is not None and until()

    def finish(self, node: SimNode, lookup: Lookup, seconds: float = 60.0) -> LookupDone:
        assert self.run(seconds, lambda: lookup.done), "the lookup did not end"
        self.poke(node)
        done = node.done(lookup)
        assert done is not None
        return done

    def _child_rng(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))

    def _push(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, action))

    def _tick(self, endpoint: Endpoint, due: float) -> None:
        node = self._at.get(endpoint)
        if node is None or self._timers.get(endpoint) != due:
            return
        del self._timers[endpoint]
        node.faces[endpoint].tick(self.now)
        self.poke(node)

    def _send(self, data: bytes, source: Endpoint, to: Endpoint, sender: SimNode) -> None:
        self.datagrams += 1
        self.largest = max(self.largest, len(data))
        self._digest.update(f"{self.now:.9f} {source} {to} {len(data)} ".encode() + data)
        sender.holes[to] = self.now + NAT_HOLE_S
        if self.on_datagram is not None:
            self.on_datagram(data, source, to)
        if self.rng.random() < self.loss:
            return
        delay = self.rng.uniform(*self.delay_s)
        self._push(self.now + delay, lambda: self._deliver(data, source, to))

    def _deliver(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        node = self._at.get(to)
        if node is None or (node.nat and node.holes.get(source, 0.0) < self.now):
            return
        node.faces[to].receive(data, source, self.now)
        self.poke(node)
