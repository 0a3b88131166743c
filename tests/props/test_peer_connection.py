"""Two peer connections joined by a wire that cuts anywhere, and one connection against any bytes at all."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.unit.wire.peer.joined import INFO_HASH, OURS, THEIRS, feed, joined, kept, opened, sent
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.peer import messages as m
from wire.peer.connection import Event, PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.peer.pex import PexMessage, PexPeer
from wire.peer.receive_buffer import LARGE_BYTES

COUNT = 21
PIECES = st.integers(0, COUNT - 1)
BLOCKS = st.tuples(PIECES, st.integers(0, 2**32 - 1), st.integers(1, 131072))
VERBS = st.one_of(
    st.tuples(st.sampled_from(["choke", "unchoke", "interested", "not_interested"])),
    st.tuples(st.just("have"), PIECES),
    st.tuples(st.sampled_from(["request", "cancel"]), st.lists(BLOCKS, max_size=3)),
    st.tuples(st.just("piece"), PIECES, st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=300)),
    st.tuples(st.just("piece"), PIECES, st.just(0), st.just(bytes(16384))),
    st.tuples(st.just("reject"), PIECES, st.integers(0, 2**32 - 1), st.integers(1, 131072)),
    st.tuples(st.just("port"), st.integers(1, 65535)),
    st.tuples(st.sampled_from(["metadata_request", "metadata_reject"]), st.integers(0, 131071)),
    st.tuples(st.just("metadata_data"), st.integers(0, 9), st.integers(1, 10**6), st.binary(max_size=100)),
)
SIDES = st.integers(0, 1)


class Side:
    """One end, and what the other end must have been told."""

    def __init__(self, connection: PeerConnection) -> None:
        self.connection = connection
        self.expected: list[Event] = []
        self.heard: list[Event] = []
        self.has: set[int] = set()

    def do(self, verb: tuple[object, ...]) -> None:
        name, *arguments = verb
        was = (self.connection.am_choking, self.connection.am_interested)
        getattr(self.connection, str(name))(*arguments)
        changed = (self.connection.am_choking, self.connection.am_interested) != was
        told: list[Event] = []
        match verb:
            case ("choke",):
                told = [m.Choked()] if changed else []
            case ("unchoke",):
                told = [m.Unchoked()] if changed else []
            case ("interested",):
                told = [m.Interested()] if changed else []
            case ("not_interested",):
                told = [m.NotInterested()] if changed else []
            case ("have", int(index)):
                told = [] if index in self.has else [m.Have(index)]
                self.has.add(index)
            case ("request", list(blocks)):
                told = [m.Request(*block) for block in blocks]
            case ("cancel", list(blocks)):
                told = [m.Cancel(*block) for block in blocks]
            case ("piece", int(index), int(begin), bytes(data)):
                told = [m.Block(index, begin, memoryview(data))]
            case ("reject", int(index), int(begin), int(length)):
                told = [m.Reject(index, begin, length)]
            case ("port", int(port)):
                told = [m.Port(port)]
            case ("metadata_request", int(piece)):
                told = [m.MetadataRequest(piece)]
            case ("metadata_reject", int(piece)):
                told = [m.MetadataReject(piece)]
            case ("metadata_data", int(piece), int(total), bytes(data)):
                told = [m.MetadataData(piece, total, data)]
        self.expected += told


@settings(max_examples=examples(150), deadline=None)
@given(
    steps=st.lists(st.tuples(SIDES, st.one_of(VERBS, st.integers(1, 40000))), max_size=40),
    first=st.tuples(st.frozensets(PIECES), st.frozensets(PIECES)),
)
def test_what_one_side_says_is_what_the_other_hears(
    steps: list[tuple[int, tuple[object, ...] | int]], first: tuple[frozenset[int], frozenset[int]]
) -> None:
    sides = [Side(connection) for connection in joined(here=COUNT, there=COUNT)]
    wires = [bytearray(), bytearray()]  # from each side to the other
    for side, pieces in zip(sides, first, strict=True):
        side.connection.bitfield(Bitfield.of(COUNT, pieces))
        side.has |= pieces
        side.expected.append(m.HasPieces(Bitfield.of(COUNT, pieces)))

    def carry(at: int, count: int) -> None:
        wires[at] += sent(sides[at].connection)
        sides[1 - at].heard += feed(sides[1 - at].connection, bytes(wires[at][:count]))
        del wires[at][:count]

    for at, step in steps:
        if isinstance(step, int):
            carry(at, step)
        else:
            sides[at].do(step)
    for at in (0, 1):
        while wires[at] or sides[at].connection.outgoing_bytes:
            carry(at, 1 << 20)
    for speaker, listener in ((sides[0], sides[1]), (sides[1], sides[0])):
        assert listener.heard == speaker.expected
        assert [type(event) for event in listener.heard] == [type(event) for event in speaker.expected]
        assert listener.connection.peer_has == Bitfield.of(COUNT, speaker.has)
        assert listener.connection.peer_choking == speaker.connection.am_choking
        assert listener.connection.peer_interested == speaker.connection.am_interested


def outcome(piece_count: int | None, stream: bytes, cuts: list[int]) -> tuple[list[Event], PeerConnection | None]:
    """Everything that comes out of one stream cut in that way, up to a breach (then the connection is None)."""
    connection = opened(piece_count=piece_count)
    events: list[Event] = []
    at = 0
    for cut in [*cuts, len(stream)]:
        while at < min(cut, len(stream)):
            space = connection.buffer()
            assert len(space)
            count = min(len(space), cut - at, len(stream) - at)
            space[:count] = stream[at : at + count]
            at += count
            try:
                events += kept(connection.received(count, 0.0))
            except ProtocolError:
                return events, None
            assert len(connection._buffer.data) <= max(4096, 16 * at, 4 * 16397)
    return events, connection


FRAMES = st.one_of(
    st.builds(m.frame, st.sampled_from([0, 1, 2, 3, 14, 15])),
    st.builds(m.index_frame, st.sampled_from([4, 13, 17]), st.integers(0, 25)),
    st.builds(lambda kind, block: m.blocks_frames(kind, [block]), st.sampled_from([6, 8, 16]), BLOCKS),
    st.builds(lambda data: m.piece_header(1, 0, len(data)) + data, st.binary(min_size=1, max_size=50)),
    st.builds(lambda data: m.frame(5, data), st.binary(max_size=4)),
    st.builds(lambda kind, data: m.frame(20, bytes((kind,)) + data), st.integers(0, 3), st.binary(max_size=50)),
    st.builds(m.frame, st.integers(0, 255), st.binary(max_size=30)),
    st.just(bytes(4)),
    st.binary(max_size=20),
)


@settings(max_examples=examples(300), deadline=None)
@given(
    piece_count=st.sampled_from([None, 1, COUNT]),
    frames=st.lists(FRAMES, max_size=12),
    cuts=st.lists(st.integers(0, 400), max_size=20).map(sorted),
)
def test_any_bytes_give_the_same_however_they_are_cut_and_only_the_peers_fault(
    piece_count: int | None, frames: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(frames)
    single, from_single = outcome(piece_count, stream, list(range(len(stream))))
    pieces, from_pieces = outcome(piece_count, stream, cuts)
    whole, from_whole = outcome(piece_count, stream, [])
    assert (from_single is None) == (from_pieces is None) == (from_whole is None)
    if from_whole is None:
        # What came in the same read as a breach is not reported: never more than byte by byte, and in its order.
        assert whole == single[: len(whole)]
        assert pieces == single[: len(pieces)]
    else:
        assert whole == pieces == single
        assert from_single is not None
        assert from_whole.peer_has == from_single.peer_has


@settings(max_examples=examples(200), deadline=None)
@given(data=st.binary(max_size=200), good=st.integers(0, 68))
def test_any_bytes_instead_of_a_handshake(data: bytes, good: int) -> None:
    handshake = Handshake(INFO_HASH, THEIRS, extended=True, fast=True, dht=True).encode()
    for info_hash in (INFO_HASH, None):
        connection = PeerConnection(peer_id=OURS, info_hash=info_hash, extended=ExtendedHandshake(), now=0.0)
        try:
            feed(connection, handshake[:good] + data)
        except ProtocolError:
            continue
        assert connection.open or info_hash is None or good + len(data) < 68


@settings(max_examples=examples(300), deadline=None)
@given(
    data=st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda b: b"d5:added%d:" % len(b) + b + b"e"))
)
def test_any_bytes_as_payloads_of_extended_messages(data: bytes) -> None:
    for kind in (0, 1, 2):
        said = ""
        try:
            feed(opened(), m.frame(m.EXTENDED, bytes((kind,)) + data))
        except ProtocolError as error:
            said = str(error)
        assert "\n" not in said  # one line for people
        assert len(said) < 300


ENDPOINTS = st.builds(
    Endpoint.of,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(1, 65535),
)


@settings(max_examples=examples(100), deadline=None)
@given(added=st.dictionaries(ENDPOINTS, st.integers(0, 255), max_size=20), dropped=st.sets(ENDPOINTS, max_size=20))
def test_peer_exchange_comes_back_as_it_went(added: dict[Endpoint, int], dropped: set[Endpoint]) -> None:
    gone = sorted(dropped - set(added))
    message = PexMessage(tuple(PexPeer(endpoint, flags) for endpoint, flags in added.items()), tuple(gone))
    parsed = PexMessage.parse(message.encode())
    assert set(parsed.added) == set(message.added)
    assert set(parsed.dropped) == set(gone)


def test_the_largest_buffer_holds_the_longest_frame() -> None:
    assert m.MAX_FRAME_BYTES + 4 < LARGE_BYTES
