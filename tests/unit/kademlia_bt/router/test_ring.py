"""The router's ring: against a plain dictionary, its fairness, its bounds, its doubts, and its memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.places import is_global
from kademlia_bt.router.ring import PER_NETWORK, NodeRing
from kademlia_bt.router.scatter import scatter
from tests.examples import examples
from wire.compact import IPV4, IPV6, Endpoint, Family
from wire.errors import MisuseError


def contact(n: int) -> Contact:
    return Contact(n.to_bytes(20, "big"), Endpoint(f"{1 + (n >> 16) % 200}.{n >> 8 & 255}.{n & 255}.9", 6881))


def address(n: int) -> bytes:
    return contact(n).endpoint.compact()


def put(ring: NodeRing, n: int, **more: bool) -> str:
    return ring.add(contact(n).id, address(n), **more)


def miss(ring: NodeRing, where: bytes) -> str:
    ring.asked(where)
    return ring.overdue(where)


def split(nodes: bytes, family: Family = IPV4) -> list[bytes]:
    width = family.node_bytes
    assert len(nodes) % width == 0
    return [nodes[at : at + width] for at in range(0, len(nodes), width)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "miss", "answer", "hand out", "check"]), st.integers(0, 40)), max_size=120
    ),
    st.sampled_from([7, 64]),
)
@settings(max_examples=examples(40), deadline=None)
def test_against_a_dictionary(steps: list[tuple[str, int]], room: int) -> None:
    ring = NodeRing(IPV4, random.Random(1), max_nodes=room, per_network=0)
    model: dict[bytes, int] = {}
    for what, n in steps:
        where = address(n)
        if what == "add":
            assert put(ring, n) == ("known" if where in model else "new")
            if len(model) == room and where not in model:
                (gone,) = model.keys() - {node.endpoint.compact() for node in ring.nodes()}
                del model[gone]
            model[where] = 0
        elif what == "miss":
            outcome = miss(ring, where)
            if where not in model:
                assert outcome == "answered"
            else:
                model[where] += 1
                assert outcome == ("gone" if model[where] == 2 else "missed")
                if model[where] == 2:
                    del model[where]
        elif what == "answer":
            ring.asked(where)
            if where in model:
                put(ring, n)
                model[where] = 0
            assert ring.overdue(where) == "answered"
        elif what == "hand out":
            given_out = [entry[20:] for entry in split(ring.hand_out(n))]
            assert len(given_out) == min(n, len(model))
            assert set(given_out) <= model.keys()
            assert len(set(given_out)) == len(given_out)
        else:
            assert (ring.next_to_check() is None) == (not model)
        assert {node.endpoint.compact() for node in ring.nodes()} == model.keys()
        assert all(node in ring and ring.is_proven(node) == (not misses) for node, misses in model.items())
        assert (where in ring) == (where in model)


def test_each_gets_its_turn() -> None:
    ring = NodeRing(IPV4, random.Random(2))
    for n in range(100):
        put(ring, n)
    given_out: dict[bytes, int] = {}
    for _ in range(50):
        entries = split(ring.hand_out(16))
        assert len(set(entries)) == 16
        for entry in entries:
            given_out[entry] = given_out.get(entry, 0) + 1
    assert set(given_out.values()) == {8}
    assert len(ring.hand_out(500)) == 100 * 26
    assert NodeRing(IPV4, random.Random(2)).hand_out(16) == b""


def test_who_is_in_doubt_comes_last() -> None:
    ring = NodeRing(IPV4, random.Random(2))
    for n in range(20):
        put(ring, n)
    for n in range(10):
        assert miss(ring, address(n)) == "missed"
    for _ in range(20):
        assert {entry[20:] for entry in split(ring.hand_out(4))} <= {address(n) for n in range(10, 20)}
    assert len(split(ring.hand_out(16))) == 16  # where the others do not suffice
    only_doubted = NodeRing(IPV4, random.Random(2))
    for n in range(12):
        assert only_doubted.doubt(contact(n).id, address(n)) == "new"
    turns = [entry for _ in range(3) for entry in split(only_doubted.hand_out(4))]
    assert len(set(turns)) == 12  # in turn, they too
    put(only_doubted, 5)
    assert only_doubted.doubt(b"other id, same addr.", address(5)) == "known"
    assert not only_doubted.is_proven(address(5))
    assert b"other id, same addr." + address(5) in split(only_doubted.hand_out(12))
    assert put(ring, 3) == "known"
    assert ring.is_proven(address(3))
    assert not ring.is_proven(address(4))
    assert not ring.is_proven(address(99))


def test_a_node_of_a_life_before_is_in_doubt_until_it_answers() -> None:
    ring = NodeRing(IPV4, random.Random(2))
    assert put(ring, 1, proven=False) == "new"
    assert not ring.is_proven(address(1))
    assert ring.hand_out(1) == contact(1).compact()
    assert put(ring, 1, proven=False) == "known"
    assert not ring.is_proven(address(1))
    assert put(ring, 1) == "known"
    assert ring.is_proven(address(1))
    put(ring, 2, proven=False)
    assert miss(ring, address(2)) == "gone"


def test_one_network_has_its_share() -> None:
    ring = NodeRing(IPV4, random.Random(3))
    answers = [ring.add(bytes(20), Endpoint(f"9.9.9.{n}", 1).compact()) for n in range(20)]
    assert answers == ["new"] * PER_NETWORK + ["network"] * (20 - PER_NETWORK)
    six = NodeRing(IPV6, random.Random(3))
    answers = [six.add(bytes(20), Endpoint.of(f"2a00:1:2:{n:x}::1", 1).compact()) for n in range(20)]
    assert answers.count("new") == PER_NETWORK
    assert six.add(bytes(20), Endpoint.of("2a00:1:3::1", 1).compact()) == "new"
    first, another = Endpoint("9.9.9.0", 1).compact(), Endpoint("9.9.9.77", 1).compact()
    miss(ring, first)
    assert ring.add(bytes(20), another) == "network"
    assert miss(ring, first) == "gone"
    assert ring.add(bytes(20), another) == "new"


def test_one_address_has_one_node_unless_the_network_is_ones_own() -> None:
    ring = NodeRing(IPV4, random.Random(3))
    assert ring.add(b"a" * 20, Endpoint("9.9.9.9", 1).compact()) == "new"
    assert ring.add(b"b" * 20, Endpoint("9.9.9.9", 2).compact()) == "network"
    assert Endpoint("9.9.9.9", 2).compact() not in ring
    assert miss(ring, Endpoint("9.9.9.9", 2).compact()) == "answered"  # which is nobody's loss
    assert ring.hand_out(2) == b"a" * 20 + Endpoint("9.9.9.9", 1).compact()
    own = NodeRing(IPV4, random.Random(3))  # loopback
    assert [own.add(bytes(20), Endpoint("127.0.0.1", port).compact()) for port in range(1, 99)] == ["new"] * 98


def test_a_full_ring_takes_the_newest() -> None:
    ring = NodeRing(IPV4, random.Random(4), max_nodes=50)
    for n in range(500):
        assert put(ring, n) == "new"
        assert len(ring) <= 50
    assert address(499) in ring
    assert ring.newest(1) == contact(499).compact()
    assert ring.dump() == b"".join(node.compact() for node in ring.nodes())


def test_every_node_is_checked_again() -> None:
    ring = NodeRing(IPV4, random.Random(5))
    for n in range(30):
        put(ring, n)
    assert {ring.next_to_check() for _ in range(30)} == {address(n) for n in range(30)}
    assert NodeRing(IPV4, random.Random(5)).next_to_check() is None


@given(st.lists(st.integers(0, 29), max_size=25, unique=True), st.integers(0, 29))
@settings(max_examples=examples(60), deadline=None)
def test_who_leaves_meanwhile_keeps_nobody_from_being_checked(leaving: list[int], first: int) -> None:
    ring = NodeRing(IPV4, random.Random(5), per_network=0)
    for n in range(30):
        put(ring, n)
    for _ in range(first):
        ring.next_to_check()
    checked = set()
    for _ in range(30):
        checked.add(ring.next_to_check())
        if leaving and random.Random(len(leaving)).random() < 0.9:
            gone = address(leaving.pop())
            miss(ring, gone)
            miss(ring, gone)
            checked.discard(gone)
    assert {node.endpoint.compact() for node in ring.nodes()} <= checked


def test_memory_stays_flat_through_turnover() -> None:
    ring = NodeRing(IPV4, random.Random(6), max_nodes=2000, per_network=0)
    for n in range(4000):
        put(ring, n)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(4000, 20_000):
        put(ring, n)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000


def test_no_room_is_misuse() -> None:
    with pytest.raises(MisuseError):
        NodeRing(IPV4, random.Random(7), max_nodes=0)


def test_the_standing_is_what_the_other_ways_to_ask_say() -> None:
    """Of nodes of the open internet and of the machine, present or not, on this port or another."""
    place = scatter(random.Random(4))
    ring = NodeRing(IPV4, random.Random(1), place=place)
    ports = (b"\x1a\xe1", b"\x1a\xe2")
    places = [bytes((host, n, 2, 1)) + port for host in (9, 127) for n in range(60) for port in ports]
    for n, each in enumerate(places):
        if n % 3:
            ring.add(bytes(20), each, proven=n % 2 == 0)
    for each in places:
        key = each[:4] if is_global(each[:4]) else each
        missed = ring.standing(each, key, place(key))
        assert (missed is not None) == (each in ring)
        assert (missed == 0) == ring.is_proven(each)
