"""A piece that is there no more (BEP 54)."""

from __future__ import annotations

import pytest

from wire.errors import ProtocolError
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import LT_DONTHAVE_ID, ExtendedHandshake
from wire.peer.messages import Event

HASH = b"h" * 20


def pair(theirs: int = LT_DONTHAVE_ID) -> tuple[PeerConnection, PeerConnection]:
    """Two that have shaken hands over a torrent of five pieces; the second has told that it has all of them."""
    one = PeerConnection(
        peer_id=b"1" * 20, info_hash=HASH, extended=ExtendedHandshake(lt_donthave=theirs), now=0.0, piece_count=5
    )
    other = PeerConnection(peer_id=b"2" * 20, info_hash=None, extended=ExtendedHandshake(), now=0.0, piece_count=5)
    pump(one, other)
    other.accept(HASH)
    pump(other, one)
    pump(one, other)
    other._send(m.frame(m.HAVE_ALL))
    pump(other, one)
    return one, other


def pump(of: PeerConnection, to: PeerConnection) -> list[Event]:
    data = b"".join(bytes(part) for part in of.outgoing())
    to.buffer()[: len(data)] = data
    return to.received(len(data), 0.0) if data else []


def test_it_is_told_once_and_believed() -> None:
    one, other = pair()
    assert one.is_seed
    other.dont_have(3)
    assert pump(other, one) == [m.HaveNot(3)]
    assert one.peer_has is not None
    assert list(one.peer_has.indices()) == [0, 1, 2, 4]
    assert not one.is_seed
    other.dont_have(3)
    assert pump(other, one) == []


def test_who_does_not_understand_it_is_not_told() -> None:
    one, other = pair(theirs=0)
    other.dont_have(3)
    assert not other.outgoing_bytes
    assert one.is_seed


def test_a_piece_that_cannot_be_is_a_breach() -> None:
    one, other = pair()
    other.dont_have(5)
    with pytest.raises(ProtocolError, match="piece 5"):
        pump(other, one)
