from __future__ import annotations

import pytest

from tests.unit.wire.peer.joined import THEIRS, dial, feed, sent
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import UT_HOLEPUNCH_ID, ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.peer.holepunch import HolepunchError, HolepunchKind, HolepunchMessage

V4 = Endpoint("192.0.2.1", 6881)
V6 = Endpoint("2001:db8::1", 6882)
COMPACT4 = bytes.fromhex("c0000201 1ae1")
COMPACT6 = bytes.fromhex("20010db8000000000000000000000001 1ae2")


@pytest.mark.parametrize("kind", HolepunchKind)
@pytest.mark.parametrize("endpoint", [V4, V6])
@pytest.mark.parametrize("error", [*HolepunchError, 77])
def test_there_and_back(kind: HolepunchKind, endpoint: Endpoint, error: int) -> None:
    said = HolepunchMessage(kind, endpoint, error if kind is HolepunchKind.ERROR else 0)
    assert HolepunchMessage.parse(said.encode()) == said


def test_the_layout_of_bep_55() -> None:
    rendezvous = HolepunchMessage(HolepunchKind.RENDEZVOUS, V4)
    assert rendezvous.encode() == b"\0\0" + COMPACT4 + bytes(4)  # the code is sent where there is no error too
    refusal = HolepunchMessage(HolepunchKind.ERROR, V6, HolepunchError.NO_SUPPORT)
    assert refusal.encode() == b"\2\1" + COMPACT6 + b"\0\0\0\3"


@pytest.mark.parametrize("code", [b"", bytes(4), b"\0\0\0\7"])
def test_messages_without_an_error_come_with_a_code_or_without_and_it_says_nothing(code: bytes) -> None:
    assert HolepunchMessage.parse(b"\1\0" + COMPACT4 + code) == HolepunchMessage(HolepunchKind.CONNECT, V4, 0)


def test_what_nobody_knows_yet_is_ignored() -> None:
    assert HolepunchMessage.parse(b"\3\0" + COMPACT4 + bytes(4)) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\0\2" + COMPACT4,
        b"\0\0" + COMPACT4[:5],
        b"\0\1" + COMPACT4,
        b"\0\0" + COMPACT6,
        b"\0\0" + COMPACT4 + b"x",
    ],
)
def test_what_breaks_the_form(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        HolepunchMessage.parse(payload)


def opened(ours: int, theirs: int) -> PeerConnection:
    connection = dial(extended=ExtendedHandshake(ut_holepunch=ours))
    feed(connection, Handshake(b"info-hash of a test!", THEIRS, extended=True, fast=True, dht=True).encode())
    feed(connection, m.frame(m.EXTENDED, b"\0" + ExtendedHandshake(ut_holepunch=theirs).encode()))
    sent(connection)
    return connection


def test_on_a_connection_ids_are_the_receivers_own() -> None:
    message = HolepunchMessage(HolepunchKind.CONNECT, V4)
    connection = opened(UT_HOLEPUNCH_ID, 9)
    connection.holepunch(message)
    assert sent(connection) == m.frame(m.EXTENDED, b"\x09" + message.encode())
    came = feed(connection, m.frame(m.EXTENDED, bytes((UT_HOLEPUNCH_ID,)) + message.encode()))
    assert came == [m.HolepunchReceived(message)]


@pytest.mark.parametrize(("ours", "theirs"), [(0, 9), (UT_HOLEPUNCH_ID, 0)])
def test_it_takes_two_that_say_so(ours: int, theirs: int) -> None:
    message = HolepunchMessage(HolepunchKind.RENDEZVOUS, V4)
    connection = opened(ours, theirs)
    frame = m.frame(m.EXTENDED, bytes((UT_HOLEPUNCH_ID,)) + message.encode())
    assert feed(connection, frame) == []
    if not theirs:
        connection.holepunch(message)
        assert sent(connection) == b""
