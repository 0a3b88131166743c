from __future__ import annotations

import struct

import pytest

from tests.unit.wire.peer.joined import INFO_HASH, OURS, SPEAKS_ALL, THEIRS, dial, feed, joined, listen, opened, sent
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.errors import MisuseError, ProtocolError
from wire.peer import connection as c
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import Handshake, SelfConnectionError
from wire.peer.hashes import HashAsk
from wire.peer.pex import PexMessage, PexPeer
from wire.peer.receive_buffer import LARGE_BYTES, SMALL_BYTES

HANDSHAKE = Handshake(INFO_HASH, THEIRS, extended=True, fast=True, dht=True).encode()


def block_frame(index: int, begin: int, data: bytes) -> bytes:
    return m.piece_header(index, begin, len(data)) + data


# The opening


def test_the_dialling_side_speaks_first_and_then_says_what_it_can() -> None:
    connection = dial()
    assert not connection.open
    assert connection.outgoing_bytes == 68
    assert Handshake.parse(sent(connection)) == Handshake(INFO_HASH, OURS, extended=True, fast=True, dht=True)
    assert feed(connection, HANDSHAKE) == [m.HandshakeReceived(INFO_HASH, THEIRS, True, True, True)]
    assert connection.open
    assert (connection.fast, connection.dht, connection.peer_id) == (True, True, THEIRS)
    assert sent(connection) == m.frame(m.EXTENDED, b"\0" + SPEAKS_ALL.encode())


def test_the_accepting_side_waits_for_a_decision() -> None:
    connection = listen()
    assert sent(connection) == b""
    haves = m.index_frame(m.HAVE, 4) + m.index_frame(m.HAVE, 5)
    handshake = Handshake(INFO_HASH, OURS, extended=True, fast=False, dht=False).encode()
    assert feed(connection, handshake + haves[:9]) == [m.HandshakeReceived(INFO_HASH, OURS, True, False, False)]
    assert (connection.info_hash, connection.open, sent(connection)) == (INFO_HASH, False, b"")
    assert feed(connection, haves[9:]) == []
    named = ExtendedHandshake(metadata_size=777)
    assert connection.accept(INFO_HASH, named) == [m.Have(4), m.Have(5)]
    out = sent(connection)
    assert Handshake.parse(out[:68]) == Handshake(INFO_HASH, THEIRS, extended=True, fast=True, dht=True)
    assert out[68:] == m.frame(m.EXTENDED, b"\0" + named.encode())
    assert not connection.fast


def test_the_wrong_use_of_accept() -> None:
    with pytest.raises(MisuseError):
        listen().accept(INFO_HASH)
    connection = listen()
    feed(connection, HANDSHAKE.replace(THEIRS, OURS))
    with pytest.raises(MisuseError):
        connection.accept(bytes(20))
    connection.accept(INFO_HASH)
    with pytest.raises(MisuseError):
        connection.accept(INFO_HASH)


def test_verbs_need_an_open_connection() -> None:
    with pytest.raises(MisuseError):
        dial().interested()
    with pytest.raises(MisuseError):
        c.PeerConnection(peer_id=b"short", info_hash=None, extended=SPEAKS_ALL, now=0.0)


def test_another_info_hash_and_garbage_are_breaches() -> None:
    with pytest.raises(ProtocolError, match="another info-hash"):
        feed(dial(), HANDSHAKE.replace(INFO_HASH, bytes(20)))
    with pytest.raises(ProtocolError, match="not a BitTorrent handshake"):
        feed(listen(), b"GET ")


@pytest.mark.parametrize("side", [dial, listen])
def test_a_connection_to_ourselves_is_told_apart(side: type) -> None:
    own = OURS if side is dial else THEIRS
    with pytest.raises(SelfConnectionError):
        feed(side(), Handshake(INFO_HASH, own, extended=True, fast=True, dht=True).encode())


def test_a_peer_without_extensions_gets_none() -> None:
    connection = opened(fast=False, extended=False)
    connection.reject(1, 0, 16384)
    connection.bitfield(None)
    connection.metadata_request(0)
    connection.pex(b"de")
    connection.extended(SPEAKS_ALL)
    assert sent(connection) == b""
    connection.bitfield(Bitfield(10))
    assert sent(connection) == bytes.fromhex("00000003 05 0000"), "some wait for a first message"
    connection.bitfield(Bitfield.full(10))
    assert sent(connection) == bytes.fromhex("00000003 05 ffc0")


# Messages


def test_every_verb_is_its_event_on_the_other_side() -> None:
    here, there = joined()
    here.bitfield(Bitfield.of(10, [1, 9]))
    here.interested()
    here.unchoke()
    here.have(2)
    here.request([(1, 0, 16384), (1, 16384, 5)])
    here.cancel([(1, 0, 16384)])
    here.piece(9, 16384, b"data")
    here.reject(3, 0, 16384)
    here.port(6881)
    here.metadata_request(7)
    here.metadata_data(7, 114693, memoryview(b"metad"))
    here.metadata_reject(8)
    added = (PexPeer(Endpoint("192.0.2.1", 6881), 2),)
    here.pex(PexMessage(added, ()).encode())
    here.choke()
    here.not_interested()
    here.extended(ExtendedHandshake(ut_metadata=7, upload_only=True))
    size = here.outgoing_bytes
    out = sent(here)
    assert (size, here.outgoing_bytes) == (len(out), 0)
    events = feed(there, out)
    assert events == [
        m.HasPieces(Bitfield.of(10, [1, 9])),
        m.Interested(),
        m.Unchoked(),
        m.Have(2),
        m.Request(1, 0, 16384),
        m.Request(1, 16384, 5),
        m.Cancel(1, 0, 16384),
        m.Block(9, 16384, memoryview(b"data")),
        m.Reject(3, 0, 16384),
        m.Port(6881),
        m.MetadataRequest(7),
        m.MetadataData(7, 114693, b"metad"),
        m.MetadataReject(8),
        m.PexReceived(added, ()),
        m.Choked(),
        m.NotInterested(),
        m.ExtendedReceived(there.remote),
    ]
    assert there.peer_has == Bitfield.of(10, [1, 2, 9])
    assert there.remote.ut_metadata == 7
    assert there.remote.upload_only
    there.metadata_request(0)
    assert feed(here, sent(there)) == [m.MetadataRequest(0)]


def test_the_four_flags() -> None:
    here, there = joined()
    assert (here.am_choking, here.am_interested, here.peer_choking, here.peer_interested) == (True, False, True, False)
    here.unchoke()
    here.unchoke()
    here.interested()
    here.interested()
    assert here.outgoing_bytes == 10
    assert feed(there, sent(here)) == [m.Unchoked(), m.Interested()]
    assert (there.peer_choking, there.peer_interested) == (False, True)
    assert (here.am_choking, here.am_interested) == (False, True)
    assert feed(there, m.frame(m.UNCHOKE) + m.frame(m.INTERESTED)) == []
    here.choke()
    here.choke()
    here.not_interested()
    here.not_interested()
    assert feed(there, sent(here)) == [m.Choked(), m.NotInterested()]


@pytest.mark.parametrize(
    ("pieces", "frame"),
    [(None, m.frame(15)), (Bitfield(10), m.frame(15)), (Bitfield.full(10), m.frame(14))],
)
def test_all_and_none_in_short(pieces: Bitfield | None, frame: bytes) -> None:
    here, there = joined()
    here.bitfield(pieces)
    out = sent(here)
    assert out == frame
    (event,) = feed(there, out)
    assert isinstance(event, m.HasPieces)
    assert there.is_seed == (event.pieces.count == 10)


def test_pieces_told_before_the_count_is_known() -> None:
    connection = opened(piece_count=None)
    assert feed(connection, m.frame(m.BITFIELD, b"\x80\x40") + m.index_frame(m.HAVE, 1)) == []
    assert connection.peer_has is None
    assert connection.set_piece_count(10) == [m.HasPieces(Bitfield.of(10, [0, 1, 9]))]
    assert connection.peer_has == Bitfield.of(10, [0, 1, 9])
    assert feed(connection, m.index_frame(m.HAVE, 2)) == [m.Have(2)]


def test_before_the_count_is_known_nothing_can_be_asked_or_advised() -> None:
    connection = opened(piece_count=None)
    asked = m.blocks_frames(m.REQUEST, [(1, 0, 5)]) + m.blocks_frames(m.CANCEL, [(1, 0, 5)])
    assert feed(connection, asked + m.index_frame(m.ALLOWED_FAST, 1)) == []
    assert sent(connection) == m.blocks_frames(m.REJECT, [(1, 0, 5)])
    with pytest.raises(ProtocolError):
        feed(connection, block_frame(0, 0, b"x"))


@pytest.mark.parametrize("step", [None, 1, 17, 40])
def test_requests_in_a_row_are_each_heard_up_to_what_is_wrong(step: int | None) -> None:
    blocks = [(index, begin, 16384) for index in (3, 9) for begin in (0, 16384, 32768)]
    row = m.blocks_frames(m.REQUEST, blocks)
    heard = [m.Request(*block) for block in blocks]
    for behind, last in (
        (m.blocks_frames(m.CANCEL, blocks[:1]), m.Cancel(*blocks[0])),
        (bytes(4) + m.index_frame(m.HAVE, 1), m.Have(1)),
        (m.blocks_frames(m.REQUEST, [(0, 0, 128 << 10)]), m.Request(0, 0, 128 << 10)),
    ):
        assert feed(opened(), row + behind, step=step) == [*heard, last]
    for wrong in ((10, 0, 16384), (1, 0, 0), (1, 0, (128 << 10) + 1)):
        connection = opened()
        assert feed(connection, row, step=step) == heard
        with pytest.raises(ProtocolError, match="request"):
            feed(connection, row + m.blocks_frames(m.REQUEST, [wrong]), step=step)
    with pytest.raises(ProtocolError, match="of 12 bytes"):
        feed(opened(), row + m.frame(m.REQUEST, bytes(11)) + row, step=step)


def test_advice_is_passed_on_where_it_makes_sense() -> None:
    connection = opened()
    frames = [m.index_frame(kind, index) for kind in (m.SUGGEST, m.ALLOWED_FAST) for index in (9, 10)]
    assert feed(connection, b"".join(frames)) == [m.Suggest(9), m.AllowedFast(9)]


def test_keep_alives_unknown_messages_and_port_0_are_nothing() -> None:
    connection = opened()
    quiet = bytes(4) + m.frame(99, b"xyz") + m.frame(m.PORT, b"\0\0") + bytes(8) + m.frame(m.EXTENDED, b"\x55de")
    assert feed(connection, quiet + m.index_frame(m.HAVE, 1)) == [m.Have(1)]


def test_unknown_kinds_of_metadata_messages_are_ignored() -> None:
    connection = opened()
    assert feed(connection, m.frame(m.EXTENDED, b"\x01d8:msg_typei3e5:piecei0ee")) == []


def test_a_torrent_that_turned_out_private_takes_no_peer_exchange() -> None:
    connection = opened(extended=True)
    connection.extended(ExtendedHandshake(ut_metadata=1))
    pex = m.frame(m.EXTENDED, b"\x02" + PexMessage((PexPeer(Endpoint("192.0.2.1", 1), 0),), ()).encode())
    assert feed(connection, pex) == []


def test_peer_exchanges_that_come_too_fast_are_ignored() -> None:
    connection = opened()
    pex = m.frame(m.EXTENDED, b"\x02" + PexMessage((), ()).encode())
    times = [0.0, 1.0, 44.0, 45.0, 80.0, 100.0]
    assert [len(feed(connection, pex, now=now)) for now in times] == [1, 0, 0, 1, 0, 1]


# Breaches


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\xff\xff\xff\xff", id="a length of 4 GiB"),
        pytest.param(struct.pack(">I", 300 * 1024 + 1), id="over the cap"),
        pytest.param(struct.pack(">IB", 262_146, 5), id="a bitfield of 2 million pieces for ten"),
        pytest.param(m.frame(m.BITFIELD, b"\xff\xff"), id="spare bits"),
        pytest.param(m.frame(m.BITFIELD, b"\xff"), id="short bitfield"),
        pytest.param(m.frame(m.HAVE_ALL) + m.frame(m.HAVE_NONE), id="all, then none"),
        pytest.param(m.frame(m.BITFIELD, b"\0\0") + m.frame(m.HAVE_NONE), id="a bitfield, then none"),
        pytest.param(m.index_frame(m.HAVE, 10), id="have out of range"),
        pytest.param(m.blocks_frames(m.REQUEST, [(10, 0, 16384)]), id="request out of range"),
        pytest.param(m.blocks_frames(m.CANCEL, [(10, 0, 16384)]), id="cancel out of range"),
        pytest.param(m.blocks_frames(m.REJECT, [(10, 0, 16384)]), id="reject out of range"),
        pytest.param(m.blocks_frames(m.REQUEST, [(0, 0, 1 << 20)]), id="a request of 1 MiB"),
        pytest.param(block_frame(10, 0, b"x"), id="block out of range"),
        pytest.param(m.piece_header(1, 0, 0), id="empty block"),
        pytest.param(m.piece_header(1, 0, 16385), id="block too long"),
        pytest.param(struct.pack(">IB", 3, 7), id="block without its header"),
        pytest.param(struct.pack(">IBxxxxxxxx", 3, 7), id="block shorter than its header"),
        pytest.param(m.frame(m.EXTENDED), id="extended without an id"),
        pytest.param(m.frame(m.EXTENDED, b"\0le"), id="extended handshake that is a list"),
        pytest.param(m.frame(m.EXTENDED, b"\0d13:metadata_sizei-1ee"), id="metadata_size -1"),
        pytest.param(m.frame(m.EXTENDED, b"\0d13:metadata_sizei1099511627776ee"), id="metadata_size 2^40"),
        pytest.param(m.frame(m.EXTENDED, b"\x01x"), id="broken metadata message"),
        pytest.param(m.frame(m.EXTENDED, b"\x02x"), id="broken peer exchange"),
        pytest.param(m.frame(m.CHOKE, b"x"), id="choke with a payload"),
    ],
)
@pytest.mark.parametrize("step", [None, 1])
def test_a_breach_is_seen_however_it_is_cut(frame: bytes, step: int | None) -> None:
    connection = opened()
    feed(connection, m.frame(m.UNCHOKE))
    with pytest.raises(ProtocolError):
        feed(connection, frame, step=step)


def test_a_promise_of_a_long_frame_takes_no_memory() -> None:
    connection = opened(piece_count=None)
    feed(connection, struct.pack(">IB", 262_145, 5))
    assert len(connection.buffer()) < SMALL_BYTES
    feed(connection, bytes(262_144))
    connection.set_piece_count(262_144 * 8)
    feed(connection, m.index_frame(m.HAVE, 1))


def test_more_than_was_free_cannot_have_come() -> None:
    connection = opened()
    space = connection.buffer()
    for count in (-1, len(space) + 1):
        with pytest.raises(MisuseError):
            connection.received(count, 0.0)


# Blocks


@pytest.mark.parametrize("step", [1, 7, 16397, 16398, 100_000, None])
def test_blocks_come_out_as_they_went_in_however_the_stream_is_cut(step: int | None) -> None:
    connection = opened()
    blocks = [(at % 10, at * 16384 % 65536, bytes((at,)) * (16384 if at % 3 else 100 + at)) for at in range(12)]
    stream = b"".join(block_frame(*block) + m.index_frame(m.HAVE, block[0]) for block in blocks)
    events = [event for event in feed(connection, stream, step=step) if isinstance(event, m.Block)]
    assert [(event.index, event.begin, bytes(event.data)) for event in events] == blocks


def test_blocks_are_views_of_the_receive_buffer() -> None:
    connection = opened()
    frame = block_frame(3, 16384, b"here")
    space = connection.buffer()
    space[: len(frame)] = frame
    (event,) = connection.received(len(frame), 0.0)
    assert isinstance(event, m.Block)
    space[len(frame) - 4 : len(frame)] = b"seen"
    assert bytes(event.data) == b"seen"


def test_the_buffer_grows_while_blocks_flow_and_shrinks_when_they_do_not() -> None:
    connection = opened()
    assert len(connection.buffer()) == SMALL_BYTES
    stream = block_frame(1, 0, bytes(16384)) * 150
    feed(connection, stream, now=1.0)
    assert len(connection.buffer()) == LARGE_BYTES
    feed(connection, bytes(4), now=30.0)
    assert len(connection.buffer()) == LARGE_BYTES
    feed(connection, bytes(4), now=32.0)
    assert len(connection.buffer()) == SMALL_BYTES


def test_a_flood_of_small_messages_does_not_make_the_buffer_large() -> None:
    connection = opened()
    feed(connection, m.blocks_frames(m.REQUEST, [(1, 0, 16384)]) * 4000)
    assert len(connection.buffer()) <= SMALL_BYTES


def test_data_to_send_are_not_copied() -> None:
    connection = opened()
    data = memoryview(bytearray(b"a block"))
    connection.have(1)
    connection.piece(0, 0, data)
    connection.piece(0, 16384, data)
    connection.have(2)
    out = connection.outgoing()
    assert [part for part in out if part is data] == [data, data]
    assert len(out) == 5
    assert connection.outgoing() == []


# Time


def test_a_handshake_must_come_in_time() -> None:
    for connection in (dial(now=100.0), listen(now=100.0)):
        assert connection.next_timer() == 110.0
        assert connection.tick(109.9) is None
        assert connection.tick(110.0) is c.TimedOut.HANDSHAKE


def test_a_handshake_that_drips_is_too_late_too() -> None:
    connection = dial()
    for second in range(10):
        feed(connection, HANDSHAKE[second : second + 1], now=float(second))
    assert connection.tick(10.0) is c.TimedOut.HANDSHAKE


def test_silence_ends_the_connection() -> None:
    connection = opened()
    feed(connection, bytes(4), now=100.0)
    assert connection.tick(279.9) is None
    assert connection.tick(280.0) is c.TimedOut.IDLE


def test_keep_alives_go_out_while_nothing_else_does() -> None:
    connection = opened()
    last_sent, gaps = 0.0, []
    now = 0.0
    while now < 1000.0:
        feed(connection, bytes(4), now=now)
        assert connection.next_timer() > now
        now = min(connection.next_timer(), now + 10.0)
        assert connection.tick(now) is None
        if sent(connection):
            gaps.append(now - last_sent)
            last_sent = now
    assert max(gaps) <= 100.0
    assert len(gaps) >= 9


def test_no_keep_alive_where_something_was_sent_just_before() -> None:
    connection = opened()
    connection.have(1)
    sent(connection)
    connection.tick(50.0)
    assert sent(connection) == b""
    connection.tick(100.0)
    assert sent(connection) == bytes(4)


def test_no_keep_alive_while_other_messages_go_out() -> None:
    connection = opened()
    out = b""
    for now in range(0, 1000, 40):
        feed(connection, bytes(4), now=float(now))
        connection.have(1)
        assert connection.tick(float(now)) is None
        out += sent(connection)
    assert out == m.index_frame(m.HAVE, 1) * 25


# For people


def test_names() -> None:
    connection = dial()
    assert connection.client == ""
    feed(connection, HANDSHAKE)
    assert connection.client == "libtorrent 2.1.1.0"
    feed(connection, m.frame(m.EXTENDED, b"\0d1:v7:other 1e"))
    assert connection.client == "other 1"


# The upgrade of a hybrid torrent's connection (BEP 52)

V2_HASH = b"v2 name of the test!"


def test_a_v1_name_may_be_answered_with_the_v2_one() -> None:
    dialled = PeerConnection(
        peer_id=OURS, info_hash=INFO_HASH, extended=SPEAKS_ALL, now=0.0, dht=True, piece_count=10, upgrade=V2_HASH
    )
    accepted = listen()
    assert feed(accepted, sent(dialled)) == [m.HandshakeReceived(INFO_HASH, OURS, True, True, True, v2=True)]
    accepted.accept(V2_HASH)
    answer = sent(accepted)
    assert Handshake.parse(answer[:68]).info_hash == V2_HASH
    assert not Handshake.parse(answer[:68]).v2
    feed(dialled, answer)
    assert (dialled.info_hash, accepted.info_hash, dialled.open) == (V2_HASH, V2_HASH, True)


def test_nobody_upgrades_who_did_not_say_so() -> None:
    accepted = listen()
    feed(accepted, sent(dial()))
    with pytest.raises(MisuseError):
        accepted.accept(V2_HASH)
    dialled = dial()
    with pytest.raises(ProtocolError, match="another info-hash"):
        feed(dialled, Handshake(V2_HASH, THEIRS, extended=True, fast=True, dht=True).encode())


def test_messages_about_trees_are_handed_on() -> None:
    dialled, accepted = joined()
    ask = HashAsk(b"r" * 32, 0, 0, 2, 0)
    dialled.hash_request(ask)
    dialled.hashes(ask, [b"1" * 32, b"2" * 32])
    dialled.hash_reject(ask)
    assert feed(accepted, sent(dialled)) == [
        m.HashRequest(ask),
        m.Hashes(ask, (b"1" * 32, b"2" * 32)),
        m.HashReject(ask),
    ]
