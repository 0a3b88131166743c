from __future__ import annotations

import pytest

from wire.errors import ProtocolError
from wire.peer.handshake import Handshake, check_start, client_of, printable

HASH, PEER = bytes(range(20)), b"-TR4050-abcdefghijkl"


def test_the_68_bytes_of_bep_3_with_the_bits_of_bep_5_6_and_10() -> None:
    said = Handshake(HASH, PEER, extended=True, fast=True, dht=True)
    assert said.encode() == b"\x13BitTorrent protocol" + bytes.fromhex("0000000000100005") + HASH + PEER
    assert Handshake.parse(said.encode()) == said


def test_the_bit_of_bep_52() -> None:
    said = Handshake(HASH, PEER, extended=False, fast=False, dht=False, v2=True)
    assert said.encode()[20:28] == bytes.fromhex("0000000000000010")


@pytest.mark.parametrize("bits", range(16))
def test_each_bit_is_read_on_its_own(bits: int) -> None:
    said = Handshake(HASH, PEER, extended=bool(bits & 1), fast=bool(bits & 2), dht=bool(bits & 4), v2=bool(bits & 8))
    assert Handshake.parse(said.encode()) == said


def test_bits_that_nobody_knows_are_ignored() -> None:
    data = bytearray(Handshake(HASH, PEER, extended=False, fast=False, dht=False).encode())
    data[20:28] = bytes.fromhex("8000000000090002")
    assert Handshake.parse(data) == Handshake(HASH, PEER, extended=False, fast=False, dht=False)


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"\x14", b"\x13BitTorrent protocoL", b"\0"])
def test_what_is_no_handshake_is_seen_from_its_first_bytes(start: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_start(start)


def test_a_beginning_of_a_handshake_is_waited_for() -> None:
    whole = Handshake(HASH, PEER, extended=True, fast=True, dht=True).encode()
    for size in range(69):
        check_start(whole[:size])
    for size in (0, 67, 69):
        with pytest.raises(ProtocolError):
            Handshake.parse((whole + b"x")[:size])


@pytest.mark.parametrize(
    ("peer_id", "name"),
    [
        (b"-TR4050-abcdefghijkl", "Transmission 4.0.5.0"),
        (b"-qB5010-abcdefghijkl", "qBittorrent 5.0.1.0"),
        (b"A2-1-36-0-abcdefghij", "aria2 1.36.0"),
        (b"M7-9-2--abcdefghijkl", "BitTorrent 7.9.2"),
        (b"-XX1234-abcdefghijkl", "XX 1.2.3.4"),
        (b"\x1b[2J-evil-peer-id---", ""),
        (b"", ""),
    ],
)
def test_names_from_peer_ids(peer_id: bytes, name: str) -> None:
    assert client_of(peer_id) == name


def test_a_strangers_text_cannot_drive_a_terminal() -> None:
    assert printable("evil\x1b[2J\r\n\u202e\u200bµTorrent", 64) == "evil[2JµTorrent"
    assert printable("x" * 100, 64) == "x" * 64
