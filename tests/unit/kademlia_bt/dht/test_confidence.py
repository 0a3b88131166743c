"""How densely nodes stand around a target: what honest networks look like, and what an eclipse does."""

from __future__ import annotations

import random

from kademlia_bt.dht.confidence import NetworkSize, judge
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.node_id import make_node_id, number, random_id
from wire.compact import IPV4, Endpoint


def network(rng: random.Random, count: int) -> list[Contact]:
    return [Contact(random_id(rng), Endpoint("127.0.0.1", port + 1)) for port in range(count)]


def closest(contacts: list[Contact], target: bytes) -> list[Contact]:
    return sorted(contacts, key=lambda contact: number(contact.id) ^ number(target))[:8]


def measured(rng: random.Random, contacts: list[Contact], samples: int) -> NetworkSize:
    size = NetworkSize()
    for _ in range(samples):
        target = random_id(rng)
        size.sample(target, closest(contacts, target))
    return size


def near(target: bytes, rng: random.Random, count: int, bits: int) -> list[Contact]:
    """Nodes that share all but the last `bits` bits with a target."""
    return [
        Contact((number(target) ^ rng.getrandbits(bits)).to_bytes(20, "big"), Endpoint(f"{20 + i}.1.1.1", 6881))
        for i in range(count)
    ]


def test_the_size_of_a_network_from_lookups_of_random_targets() -> None:
    rng = random.Random(1)
    for count in (100, 1_000, 5_000):
        errors = []
        for _ in range(20):
            nodes = measured(rng, network(rng, count), 12).nodes
            assert nodes is not None
            errors.append(abs(nodes / count - 1))
        assert sorted(errors)[14] < 0.2
        assert max(errors) < 0.5


def test_a_network_of_fewer_than_eight_is_counted() -> None:
    rng = random.Random(1)
    assert measured(rng, network(rng, 5), 3).nodes == 5
    assert NetworkSize().nodes is None
    size = NetworkSize()
    size.sample(bytes(20), [])  # a lookup that met nobody says nothing
    assert size.nodes is None


def test_no_warning_where_nobody_cheats() -> None:
    rng = random.Random(2)
    contacts = network(rng, 1_000)
    for samples in (1, 2, 12):
        densities = []
        for _ in range(200):
            size, target = measured(rng, contacts, samples), random_id(rng)
            confidence = judge(IPV4, target, closest(contacts, target), size)
            assert confidence.crowd == 0
            assert confidence.warning is None
            assert confidence.density is not None
            densities.append(confidence.density)
        assert 0.8 < sorted(densities)[100] < 1.25


def test_sybils_that_crowd_around_a_target_are_told() -> None:
    rng = random.Random(3)
    contacts = network(rng, 1_000)
    size = measured(rng, contacts, 1)  # the least that is known after a join
    for count in (4, 8, 64):
        for _ in range(20):
            target = random_id(rng)
            found = closest([*contacts, *near(target, rng, count, 130)], target)
            confidence = judge(IPV4, target, found, size)
            assert confidence.eclipse_likely
            assert confidence.crowd == min(count, 8)
            assert confidence.density is not None
            assert confidence.density > 1_000
            assert confidence.secure <= 8 - confidence.crowd
            assert f"{confidence.crowd} of the 8" in str(confidence.warning)


def test_an_indexer_beside_a_target_is_no_eclipse() -> None:
    rng = random.Random(4)
    contacts = network(rng, 1_000)
    target = random_id(rng)
    found = closest([*contacts, *near(target, rng, 2, 100)], target)
    confidence = judge(IPV4, target, found, measured(rng, contacts, 12))
    assert confidence.crowd == 2
    assert not confidence.eclipse_likely


def test_nothing_is_claimed_of_what_is_not_known() -> None:
    rng = random.Random(5)
    target = random_id(rng)
    unmeasured = judge(IPV4, target, near(target, rng, 8, 100), NetworkSize())
    assert (unmeasured.network_size, unmeasured.density, unmeasured.eclipse_likely) == (None, None, False)
    nobody = judge(IPV4, target, [], measured(rng, network(rng, 100), 3))
    assert (nobody.nodes, nobody.density, nobody.warning) == (0, None, None)


def test_the_same_id_as_the_target_is_measured_too() -> None:
    rng = random.Random(6)
    target = random_id(rng)
    size = measured(rng, network(rng, 100), 3)
    same = [Contact(target, Endpoint(f"{20 + i}.1.1.1", 6881)) for i in range(8)]
    assert judge(IPV4, target, same, size).crowd == 8


def test_ids_that_fit_their_addresses_are_counted() -> None:
    rng = random.Random(7)
    here = Endpoint("21.75.31.124", 6881)
    target = random_id(rng)
    fitting, other = Contact(make_node_id(here.ip, rng), here), Contact(target, Endpoint("22.1.1.1", 6881))
    assert judge(IPV4, target, [fitting, other], NetworkSize()).secure == 1
