"""Local discovery: what is sent can be read, what is not ours is left, nobody shouts too often."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.lsd import GROUP_V4, GROUP_V6, INTERVAL_S, MIN_INTERVAL_S, LocalPeer, Lsd, build, parse

HASHES = [bytes([n]) * 20 for n in range(100)]
SOURCE = Endpoint("192.168.1.5", 6771)


@pytest.mark.parametrize("group", [GROUP_V4, GROUP_V6])
def test_what_is_built_is_read(group: Endpoint) -> None:
    packets = build(group, 6881, HASHES, "cookie")
    assert len(packets) > 1
    assert all(len(packet) <= 1400 and packet.endswith(b"\r\n\r\n\r\n") for packet in packets)
    peers = [parse(packet, SOURCE, "another") for packet in packets]
    assert [h for peer in peers if peer for h in peer.info_hashes] == HASHES
    assert {peer.endpoint for peer in peers if peer} == {Endpoint("192.168.1.5", 6881)}
    assert parse(packets[0], SOURCE, "cookie") is None


def test_the_exact_bytes() -> None:
    assert build(GROUP_V4, 6881, [bytes(20)], "c") == [
        b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: "
        + b"0" * 40
        + b"\r\ncookie: c\r\n\r\n\r\n"
    ]


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Port: 1\r\n",
        b"Infohash: " + b"0" * 40 + b"\r\n",
        b"Port: 0\r\nInfohash: " + b"0" * 40 + b"\r\n",
        b"Port: 65536\r\nInfohash: " + b"0" * 40 + b"\r\n",
        b"Port: 1\r\nInfohash: " + b"z" * 40 + b"\r\n",
    ],
)
def test_what_is_incomplete_is_refused(lines: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(b"BT-SEARCH * HTTP/1.1\r\n" + lines + b"\r\n\r\n", SOURCE, "c")


@given(st.binary(max_size=300))
def test_any_bytes(tail: bytes) -> None:
    lsd = Lsd(GROUP_V4, 1, random.Random(0))
    assert lsd.receive(b"BT-SEARCH * HTTP/1.1\r\n" + tail, SOURCE) is None


def test_rounds_keep_their_distance() -> None:
    lsd = Lsd(GROUP_V4, 6881, random.Random(1))
    assert lsd.next_timer() is None
    lsd.add(HASHES[0], 0.0)
    assert len(lsd.tick(0.0)) == 1
    lsd.add(HASHES[1], 1.0)
    assert lsd.next_timer() == MIN_INTERVAL_S
    assert lsd.tick(59.0) == []
    (packet,) = lsd.tick(60.0)
    assert HASHES[1].hex().encode() in packet
    assert HASHES[0].hex().encode() not in packet
    assert lsd.next_timer() == INTERVAL_S


def test_only_shared_torrents_count_and_never_our_own_voice() -> None:
    ours, other = Lsd(GROUP_V4, 1, random.Random(1)), Lsd(GROUP_V4, 2, random.Random(2))
    for info_hash in HASHES[:2]:
        other.add(info_hash, 0.0)
    (packet,) = other.tick(0.0)
    assert ours.receive(packet, SOURCE) is None
    ours.add(HASHES[1], 0.0)
    assert ours.receive(packet, SOURCE) == LocalPeer(Endpoint(SOURCE.host, 2), (HASHES[1],))
    assert other.receive(packet, SOURCE) is None
    ours.remove(HASHES[1])
    assert ours.receive(packet, SOURCE) is None
