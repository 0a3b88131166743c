"""What implementers get wrong of BEP 6, 9, 10, 11 and 54 on one connection: a test for each sentence."""

from __future__ import annotations

import pytest

from tests.unit.wire.peer.joined import INFO_HASH, OURS, THEIRS, dial, feed, joined, opened, sent
from wire import bencode
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import LT_DONTHAVE_ID, UT_METADATA_ID, UT_PEX_ID, ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.peer.pex import PexMessage, PexPeer

HOST = Endpoint("192.0.2.1", 6881)


def handshake_frame(payload: bytes) -> bytes:
    return m.frame(m.EXTENDED, b"\0" + payload)


def greeted(theirs: bytes = b"de", ours: ExtendedHandshake | None = None) -> PeerConnection:
    """Ours after the peer's extended handshake with that payload, its outbox empty."""
    connection = dial(extended=ours or ExtendedHandshake(ut_metadata=1, ut_pex=2, lt_donthave=3))
    feed(connection, Handshake(INFO_HASH, THEIRS, extended=True, fast=True, dht=False).encode())
    feed(connection, handshake_frame(theirs))
    sent(connection)
    return connection


# BEP 6


def test_reserved_7_04_is_the_fast_extension() -> None:
    said = Handshake(INFO_HASH, OURS, extended=False, fast=True, dht=False).encode()
    assert said[20:28] == bytes.fromhex("00000000 00000004")


def test_the_ids_of_the_fast_messages() -> None:
    assert (m.SUGGEST, m.HAVE_ALL, m.HAVE_NONE, m.REJECT, m.ALLOWED_FAST) == (0x0D, 0x0E, 0x0F, 0x10, 0x11)


@pytest.mark.parametrize("pieces", [None, Bitfield(10), Bitfield.of(10, [3]), Bitfield.full(10)])
def test_exactly_one_of_bitfield_all_and_none_is_said_first(pieces: Bitfield | None) -> None:
    connection = opened()
    connection.bitfield(pieces)
    said = sent(connection)
    assert said[4] in (m.BITFIELD, m.HAVE_ALL, m.HAVE_NONE)
    assert len(said) == 4 + int.from_bytes(said[:4], "big")


@pytest.mark.parametrize(
    "message",
    [
        m.frame(m.HAVE_ALL),
        m.frame(m.HAVE_NONE),
        m.index_frame(m.SUGGEST, 3),
        m.index_frame(m.ALLOWED_FAST, 3),
        m.blocks_frames(m.REJECT, [(3, 0, 16384)]),
    ],
)
@pytest.mark.parametrize("piece_count", [10, None])
def test_without_the_fast_extension_its_messages_end_the_connection(message: bytes, piece_count: int | None) -> None:
    feed(opened(piece_count=piece_count), message)
    with pytest.raises(ProtocolError, match="BEP 6"):
        feed(opened(piece_count=piece_count, fast=False), message)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (m.frame(m.HAVE_ALL), m.frame(m.HAVE_NONE)),
        (m.frame(m.HAVE_NONE), m.frame(m.HAVE_ALL)),
        (m.frame(m.BITFIELD, b"\xff\xc0"), m.frame(m.HAVE_ALL)),
        (m.frame(m.BITFIELD, b"\0\0"), m.frame(m.HAVE_NONE)),
    ],
)
@pytest.mark.parametrize("piece_count", [10, None])
def test_all_and_none_after_another_word_of_the_kind_end_the_connection(
    first: bytes, second: bytes, piece_count: int | None
) -> None:
    connection = opened(piece_count=piece_count)
    feed(connection, first)
    with pytest.raises(ProtocolError, match="after it said something else"):
        feed(connection, second)


@pytest.mark.parametrize("said", [m.frame(m.HAVE_ALL), m.frame(m.HAVE_NONE), m.frame(m.BITFIELD, b"\x80\0")])
def test_what_it_has_need_not_be_the_first_word_and_may_be_said_twice(said: bytes) -> None:
    """More than BEP 6 allows, as libtorrent does: WebTorrent says "have none" twice, others announce a piece first."""
    connection = opened()
    feed(connection, m.index_frame(m.HAVE, 0) + m.frame(m.INTERESTED) + said + said)
    assert connection.peer_has is not None
    assert connection.peer_has[0]
    feed(connection, m.frame(m.BITFIELD, b"\x40\0"))  # aria2, for many haves
    assert connection.peer_has[1]


def test_choke_no_longer_implies_reject() -> None:
    here, there = joined()
    here.unchoke()
    here.choke()
    assert feed(there, sent(here)) == [m.Unchoked(), m.Choked()]  # and no word of what was asked for


# BEP 9


def test_a_metadata_block_is_16_kib() -> None:
    connection = greeted()
    head = b"\x01d8:msg_typei1e5:piecei0ee"
    assert feed(connection, m.frame(m.EXTENDED, head + bytes(16384))) == [m.MetadataData(0, None, bytes(16384))]
    with pytest.raises(ProtocolError):
        feed(connection, m.frame(m.EXTENDED, head + bytes(16385)))


def test_metadata_size_is_at_the_top_level_not_in_m() -> None:
    assert greeted(b"d1:md13:metadata_sizei99e11:ut_metadatai3eee").remote.metadata_size is None
    assert greeted(b"d1:md11:ut_metadatai3ee13:metadata_sizei99ee").remote.metadata_size == 99
    said = bencode.decode(ExtendedHandshake(ut_metadata=1, metadata_size=5).encode())
    assert isinstance(said, dict)
    assert said[b"metadata_size"] == 5


def test_data_follow_the_dictionary_whatever_they_look_like() -> None:
    data = b"d8:msg_typei2e5:piecei7ee"  # as if it were a message of its own
    frame = m.frame(m.EXTENDED, b"\x01d8:msg_typei1e5:piecei0e10:total_sizei25ee" + data)
    assert feed(greeted(), frame) == [m.MetadataData(0, 25, data)]


def test_an_unknown_msg_type_is_ignored() -> None:
    assert feed(greeted(), m.frame(m.EXTENDED, b"\x01d8:msg_typei77e5:piecei0ee")) == []


# BEP 10


def test_reserved_5_10_is_the_extension_protocol_with_id_20_and_its_handshake_0() -> None:
    assert Handshake(INFO_HASH, OURS, extended=True, fast=False, dht=False).encode()[25] == 0x10
    connection = dial()
    feed(connection, Handshake(INFO_HASH, THEIRS, extended=True, fast=True, dht=False).encode())
    assert sent(connection)[68 + 4 : 68 + 6] == b"\x14\x00"


def test_the_peers_ids_are_used_when_sending_and_ours_when_receiving() -> None:
    connection = greeted(b"d1:md11:lt_donthavei33e11:ut_metadatai11e6:ut_pexi22eee")
    connection.metadata_request(4)
    connection.pex(b"de")
    connection.dont_have(5)
    assert sent(connection) == (
        m.frame(m.EXTENDED, b"\x0bd8:msg_typei0e5:piecei4ee")
        + m.frame(m.EXTENDED, b"\x16de")
        + m.frame(m.EXTENDED, b"\x21\0\0\0\5")
    )
    pex = PexMessage((PexPeer(HOST, 0),), ()).encode()
    heard = [
        m.frame(m.EXTENDED, bytes((UT_METADATA_ID,)) + b"d8:msg_typei0e5:piecei4ee"),
        m.frame(m.EXTENDED, bytes((UT_PEX_ID,)) + pex),
        m.frame(m.HAVE, bytes((0, 0, 0, 5))) + m.frame(m.EXTENDED, bytes((LT_DONTHAVE_ID, 0, 0, 0, 5))),
    ]
    assert feed(connection, b"".join(heard)) == [
        m.MetadataRequest(4), m.PexReceived((PexPeer(HOST, 0),), ()), m.Have(5), m.HaveNot(5),
    ]  # fmt: skip


def test_a_later_handshake_changes_an_id_and_0_disables_it() -> None:
    connection = greeted(b"d1:md11:ut_metadatai11e6:ut_pexi22eee")
    feed(connection, handshake_frame(b"d1:md6:ut_pexi23eee"))
    connection.pex(b"de")
    connection.metadata_request(0)  # of which nothing was said: it is as it was
    assert sent(connection) == m.frame(m.EXTENDED, b"\x17de") + m.frame(m.EXTENDED, b"\x0bd8:msg_typei0e5:piecei0ee")
    feed(connection, handshake_frame(b"d1:md6:ut_pexi0eee"))
    connection.pex(b"de")
    assert sent(connection) == b""


def test_later_handshakes_are_additive_and_the_connection_goes_on() -> None:
    connection = greeted(b"d1:md11:ut_metadatai3ee1:pi6881e4:reqqi99e1:v1:xe")
    assert feed(connection, handshake_frame(b"d13:metadata_sizei50ee")) == [m.ExtendedReceived(connection.remote)]
    remote = connection.remote
    assert (remote.ut_metadata, remote.p, remote.reqq, remote.v, remote.metadata_size) == (3, 6881, 99, "x", 50)
    for _ in range(20):
        feed(connection, handshake_frame(b"de"))
    assert connection.remote == remote


def test_ours_may_change_too() -> None:
    """From then on what comes under the old id is nothing."""
    connection = greeted()
    connection.extended(ExtendedHandshake(ut_metadata=7))
    assert b"11:ut_metadatai7e6:ut_pexi0e" in sent(connection)
    request = b"d8:msg_typei0e5:piecei4ee"
    assert feed(connection, m.frame(m.EXTENDED, b"\1" + request)) == []
    assert feed(connection, m.frame(m.EXTENDED, b"\2de")) == []
    assert feed(connection, m.frame(m.EXTENDED, b"\7" + request)) == [m.MetadataRequest(4)]


def test_the_disabling_example_of_the_bep_lacks_m_and_says_nothing() -> None:
    connection = greeted(b"d1:md11:ut_metadatai3eee")
    feed(connection, handshake_frame(b"d11:ut_metadatai0ee"))
    assert connection.remote.ut_metadata == 3


def test_all_items_are_optional_and_unknown_ones_ignored() -> None:
    assert greeted(b"de").remote == ExtendedHandshake()
    assert greeted(b"d1:ei1e1:md9:lt_futurei9ee12:complete_agoi5e7:unknownd1:xleee").remote == ExtendedHandshake()


@pytest.mark.parametrize("ip", ["192.0.2.55", "2001:db8::55"])
def test_yourip_is_4_or_16_bytes_both_ways(ip: str) -> None:
    said = bencode.decode(ExtendedHandshake(yourip=ip).encode())
    assert isinstance(said, dict)
    assert said[b"yourip"] == Endpoint(ip, 0).ip
    assert greeted(ExtendedHandshake(yourip=ip).encode()).remote.yourip == ip


@pytest.mark.parametrize("kind", [4, 100, 255])
def test_extended_messages_that_we_never_named_are_ignored(kind: int) -> None:
    assert feed(greeted(), m.frame(m.EXTENDED, bytes((kind,)) + b"\xff" * 30)) == []


@pytest.mark.parametrize("kind", [10, 12, 18, 19, 24, 99, 255])
def test_messages_of_unknown_kinds_are_ignored(kind: int) -> None:
    connection = greeted()
    assert feed(connection, m.frame(kind, b"\xff" * 30) + m.index_frame(m.HAVE, 1)) == [m.Have(1)]


# BEP 11


def test_never_is_one_peer_both_added_and_dropped() -> None:
    both = PexMessage((PexPeer(HOST, 0),), (HOST,)).encode()
    assert feed(greeted(), m.frame(m.EXTENDED, b"\2" + both)) == [m.PexReceived((), ())]


# BEP 54


@pytest.mark.parametrize(("theirs", "told"), [(b"de", False), (b"d1:md11:lt_donthavei9eee", True)])
def test_dont_have_is_negotiated_for_each_direction(theirs: bytes, told: bool) -> None:
    """Who names an id is told, whether or not we named one; and the other way round."""
    connection = greeted(theirs, ExtendedHandshake())
    connection.dont_have(2)
    assert bool(sent(connection)) is told
    feed(connection, m.index_frame(m.HAVE, 2))
    assert feed(connection, m.frame(m.EXTENDED, bytes((LT_DONTHAVE_ID, 0, 0, 0, 2)))) == []
    connection.extended(ExtendedHandshake(lt_donthave=LT_DONTHAVE_ID))
    assert feed(connection, m.frame(m.EXTENDED, bytes((LT_DONTHAVE_ID, 0, 0, 0, 2)))) == [m.HaveNot(2)]
