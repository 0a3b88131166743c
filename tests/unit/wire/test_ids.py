"""Info-hashes as people and the wire write them."""

import base64
import random

import pytest

from wire.errors import ProtocolError
from wire.ids import InfoHash, make_peer_id

V1 = bytes(range(20))
V2 = bytes(range(32))


@pytest.mark.parametrize(
    "text", [V1.hex(), V1.hex().upper(), base64.b32encode(V1).decode(), base64.b32encode(V1).decode().lower()]
)
def test_v1_is_read_in_any_form(text: str) -> None:
    assert InfoHash.parse(text) == InfoHash(v1=V1)


@pytest.mark.parametrize("text", [V2.hex(), "1220" + V2.hex()])
def test_v2_is_read_in_any_form(text: str) -> None:
    assert InfoHash.parse(text) == InfoHash(v2=V2)


@pytest.mark.parametrize(
    "text", ["", "00", V1.hex()[:-1], V1.hex() + "0", "g" * 40, "1" * 32, "1" * 31, "1110" + V2.hex(), " " * 40]
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        InfoHash.parse(text)
    assert "\n" not in str(caught.value)


def test_parts_of_wrong_width_are_refused() -> None:
    for parts in ({}, {"v1": V2}, {"v2": V1}):
        with pytest.raises(ProtocolError):
            InfoHash(**parts)


def test_swarm_ids_truncate_v2() -> None:
    assert InfoHash(v1=V1, v2=V2[::-1]).swarm_ids == (V1, V2[::-1][:20])
    assert InfoHash(v2=V2).swarm_ids == (V2[:20],)
    assert InfoHash(v2=V2).multihash == "1220" + V2.hex()


def test_matching_needs_a_shared_hash_and_no_contradiction() -> None:
    hybrid = InfoHash(v1=V1, v2=V2)
    assert hybrid.matches(InfoHash(v1=V1))
    assert InfoHash(v2=V2).matches(hybrid)
    assert not InfoHash(v1=V1).matches(InfoHash(v2=V2))
    assert not hybrid.matches(InfoHash(v1=V1, v2=V2[::-1]))


def test_peer_id_names_the_client_and_follows_the_chance_given() -> None:
    assert make_peer_id(random.Random(1)) == make_peer_id(random.Random(1))
    assert make_peer_id(random.Random(1)) != make_peer_id(random.Random(2))
    assert len(make_peer_id(random.Random(1))) == 20
    assert make_peer_id(random.Random(1)).startswith(b"-KB")
