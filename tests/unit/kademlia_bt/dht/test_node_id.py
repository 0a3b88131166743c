"""Node ids: the vectors of BEP 42, distances, ids in a bucket."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.node_id import fits, is_secure, make_node_id, number, random_id, random_id_sharing, shared_bits
from wire.compact import Endpoint

VECTORS = [  # BEP 42, "test vectors": address, first bytes and last byte of a fitting id
    ("124.31.75.21", 1, "5fbfbf"),
    ("21.75.31.124", 86, "5a3ce9"),
    ("65.23.51.170", 22, "a5d432"),
    ("84.124.73.14", 65, "1b0321"),
    ("43.213.53.83", 90, "e56f6c"),
]


@pytest.mark.parametrize(("host", "last", "first"), VECTORS)
def test_bep42_vectors(host: str, last: int, first: str) -> None:
    ip = Endpoint(host, 1).ip
    node_id = bytes.fromhex(first) + bytes(16) + bytes([last])
    assert fits(node_id, ip)
    assert not fits(bytes([node_id[0] ^ 0x80]) + node_id[1:], ip)
    # The last three bits of the third byte are free, the ones before are not.
    assert fits(node_id[:2] + bytes([node_id[2] ^ 7]) + node_id[3:], ip)
    assert not fits(node_id[:2] + bytes([node_id[2] ^ 8]) + node_id[3:], ip)


@pytest.mark.parametrize("host", ["8.8.4.4", "2a02:1234:5678:9abc::1"])
def test_made_ids_fit_their_address_and_differ(host: str) -> None:
    rng = random.Random(1)
    ip = Endpoint(host, 1).ip
    ids = {make_node_id(ip, rng) for _ in range(50)}
    assert len(ids) == 50
    assert all(fits(node_id, ip) for node_id in ids)


def test_only_the_first_half_of_an_ipv6_address_counts() -> None:
    node_id = make_node_id(Endpoint("2a02:1:2:3::1", 1).ip, random.Random(1))
    assert fits(node_id, Endpoint("2a02:1:2:3:ffff::9", 1).ip)
    assert not fits(node_id, Endpoint("2a02:1:2:4::1", 1).ip)


def test_local_addresses_are_exempt() -> None:
    node_id = random_id(random.Random(1))
    for host in ("127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.1.1", "::1", "fe80::1"):
        assert is_secure(node_id, Endpoint(host, 1)), host
    assert not is_secure(node_id, Endpoint("8.8.8.8", 1))


def test_shared_bits() -> None:
    assert shared_bits(0, 0) == 160
    assert shared_bits(0, 1) == 159
    assert shared_bits(0, 1 << 159) == 0


@pytest.mark.parametrize("bits", [0, 1, 7, 8, 100, 158, 159])
def test_random_id_sharing_shares_exactly_so_many_bits(bits: int) -> None:
    rng = random.Random(bits)
    own = random_id(rng)
    ids = [random_id_sharing(own, bits, rng) for _ in range(20)]
    assert {shared_bits(number(own), number(other)) for other in ids} == {bits}
    if bits < 100:
        assert len(set(ids)) == 20
