"""Bad company for a world: what is no node but speaks KRPC as it likes (BEP 5).

An `Impostor` stands at one address and answers what it is asked as its `reply` says; sybils and poisoners are
such. To be known it does as any node does: it asks others, who then ask it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.node_id import number
from kademlia_bt.dht.table import K
from kademlia_bt.testing.simnode import SimNode
from kademlia_bt.testing.world import World
from wire.bencode import Encodable, Value, decode, encode
from wire.compact import Endpoint

__all__ = ["Impostor", "Poisoner", "Sybils"]

_ID_BITS_FREE = 100
"""Sybils share all but so many bits with their target: no honest node is ever nearer."""
_HELLO_TO = 8
_MANY_NODES = 1_000


class Impostor:
    """Something at an address that answers as it likes. Subclass it and write `reply`."""

    def __init__(self, world: World, endpoint: Endpoint, node_id: bytes) -> None:
        self.world = world
        self.contact = Contact(node_id, endpoint)
        self.asked: Counter[bytes] = Counter()
        """Queries heard, by method."""
        world.tap(endpoint, self._hear)

    def reply(self, method: bytes, arguments: Mapping[bytes, Value], asker: Endpoint) -> dict[bytes, Encodable] | None:
        """What it returns beside its id, or instead of it; None for silence. Here: nothing but its id."""
        return {}

    def respond(self, tid: Value, returned: dict[bytes, Encodable], asker: Endpoint) -> None:
        """Sends an answer."""
        assert isinstance(tid, bytes)
        self.world.send(encode({b"r": returned, b"t": tid, b"y": b"r"}), self.contact.endpoint, asker)

    def say_hello(self, nodes: Sequence[SimNode]) -> None:
        """Pings nodes, so that those with room for it ping back and take it in."""
        ping = encode({b"a": {b"id": self.contact.id}, b"q": b"ping", b"t": b"aa", b"y": b"q"})
        for node in nodes:
            self.world.send(ping, self.contact.endpoint, node.endpoint)

    def _hear(self, data: bytes, source: Endpoint) -> None:
        message = decode(data)
        if not isinstance(message, dict) or message.get(b"y") != b"q":
            return
        method, arguments = message[b"q"], message[b"a"]
        assert isinstance(method, bytes)
        assert isinstance(arguments, dict)
        self.asked[method] += 1
        returned = self.reply(method, arguments, source)
        if returned is not None:
            self.respond(message[b"t"], {b"id": self.contact.id, **returned}, source)


class Sybils:
    """Nodes of one owner with ids as near to a target as it likes: they answer, but name only each other.

    They claim to store what is announced to them, and know no peers. Their ids do not fit their addresses (BEP 42),
    as nobody owns the addresses that would.
    """

    def __init__(self, world: World, target: bytes, hosts: Sequence[str], rng: random.Random) -> None:
        """One at each host; each says hello to 8 nodes of the world."""
        self.nodes = [
            _Sybil(world, Endpoint(host, 6881), _near(target, rng), self, random.Random(rng.getrandbits(64)))
            for host in hosts
        ]
        living = world.living
        for node in self.nodes:
            node.say_hello(rng.sample(living, min(_HELLO_TO, len(living))))

    @property
    def asked(self) -> int:
        """How many questions of lookups they heard."""
        return sum(count for node in self.nodes for method, count in node.asked.items() if method != b"ping")

    @property
    def endpoints(self) -> set[Endpoint]:
        """Where they are."""
        return {node.contact.endpoint for node in self.nodes}


class _Sybil(Impostor):
    def __init__(self, world: World, endpoint: Endpoint, node_id: bytes, gang: Sybils, rng: random.Random) -> None:
        super().__init__(world, endpoint, node_id)
        self._gang, self._rng = gang, rng

    def reply(self, method: bytes, arguments: Mapping[bytes, Value], asker: Endpoint) -> dict[bytes, Encodable]:
        if method == b"ping":
            return {}
        others = self._rng.sample(self._gang.nodes, min(K, len(self._gang.nodes)))
        return {b"nodes": b"".join(other.contact.compact() for other in others), b"token": b"mine"}


class Poisoner(Impostor):
    """Answers with nodes that do not exist, that must not be asked, or that are the asker itself; too many of them.

    Beside each true answer it sends some that nobody asked for: with another transaction, from another port.
    """

    def __init__(self, world: World, endpoint: Endpoint, node_id: bytes, rng: random.Random) -> None:
        super().__init__(world, endpoint, node_id)
        self.claimed: set[Endpoint] = set()
        """Every address that it named and that is nobody's."""
        self._rng = rng

    def reply(self, method: bytes, arguments: Mapping[bytes, Value], asker: Endpoint) -> dict[bytes, Encodable] | None:
        target = arguments.get(b"info_hash", arguments.get(b"target", self.contact.id))
        own_id = arguments[b"id"]
        assert isinstance(target, bytes)
        assert isinstance(own_id, bytes)
        forged: dict[bytes, Encodable] = {b"id": _near(target, self._rng), b"nodes": self._nodes(target, asker, own_id)}
        self.respond(self._rng.randbytes(4), forged, asker)  # nobody asked
        other_port = Endpoint(self.contact.endpoint.host, self.contact.endpoint.port + 1)
        self.world.send(encode({b"r": forged, b"t": b"aaaa", b"y": b"r"}), other_port, asker)
        if method == b"ping":
            return {}
        return {b"nodes": self._nodes(target, asker, own_id), b"token": b"mine"}

    def _nodes(self, target: bytes, asker: Endpoint, own_id: bytes) -> bytes:
        hosts = ["0.0.0.0", "127.0.0.1", "10.0.0.1", "192.168.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"]  # noqa: S104
        bad = [Endpoint(host, 6881) for host in hosts]
        bad += [Endpoint(f"77.{self._rng.randrange(256)}.1.1", 0)]
        nobody = [
            Endpoint(f"{self._rng.randrange(120, 124)}.{self._rng.randrange(256)}.{self._rng.randrange(256)}.9", 6881)
            for _ in range(_MANY_NODES // 50)
        ]
        self.claimed.update(bad, nobody)
        named = [Contact(_near(target, self._rng), at) for at in (*bad, *nobody)]
        named += [Contact(own_id, asker), Contact(own_id, nobody[0]), Contact(_near(target, self._rng), asker)]
        compact = b"".join(contact.compact() for contact in named)
        return (compact * (_MANY_NODES // len(named)))[: _MAX_DATAGRAM_NODES * 26]


_MAX_DATAGRAM_NODES = 250
"""What fits into a datagram that a node still reads."""


def _near(target: bytes, rng: random.Random) -> bytes:
    return (number(target) ^ rng.getrandbits(_ID_BITS_FREE)).to_bytes(20, "big")
