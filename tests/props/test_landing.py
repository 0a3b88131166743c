"""However a peer's words are cut and whatever stands between its blocks: received to where they belong or through the
connection's buffer, the same blocks and the same events come out."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.unit.wire.peer.joined import INFO_HASH, THEIRS, dial, feed, kept
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.handshake import Handshake
from wire.peer.landing import FRAME_BYTES, MAX_LANDING, Landing
from wire.peer.messages import BLOCK_BYTES as B

PIECES, BLOCKS = 3, 4
TALK = [
    m.frame(m.CHOKE),
    m.index_frame(m.HAVE, 7),
    m.frame(m.UNCHOKE),
    bytes(4),
    m.frame(m.EXTENDED, b"\x63" * 40),
    m.piece_header(9, 0, 100) + bytes(100),
]


def data_of(index: int, begin: int) -> bytes:
    return bytes([1 + index * BLOCKS + begin // B]) * B


def open_connection() -> PeerConnection:
    connection = dial(piece_count=10)
    feed(connection, Handshake(INFO_HASH, THEIRS, extended=False, fast=True, dht=True).encode())
    return connection


class Reader:
    """Receives as the shell does, and keeps pieces as the ledger does."""

    def __init__(self) -> None:
        self.connection = open_connection()
        self.pieces = [memoryview(bytearray(BLOCKS * B)) for _ in range(PIECES)]
        self.due = [(index, at * B) for index in range(PIECES) for at in range(BLOCKS)]
        self.events: list[m.Event] = []
        self.landed = 0

    def landing(self) -> Landing | None:
        blocks = self.due[self.connection.in_block :][:MAX_LANDING]
        views = [self.pieces[index][begin : begin + B] for index, begin in blocks]
        return Landing(blocks, views) if blocks else None

    def read(self, data: memoryview) -> int:
        landing = self.landing()
        buffers = None if landing is None else self.connection.scattered(landing)
        if landing is None or buffers is None:
            room = self.connection.buffer()
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.take(self.connection.received(count, 0.0))
            return count
        count = 0
        for buffer in buffers:
            part = data[count : count + len(buffer)]
            buffer[: len(part)] = part
            count += len(part)
        self.take(self.connection.landed(landing, count, 0.0))
        return count

    def take(self, events: list[m.Event]) -> None:
        for event in events:
            if isinstance(event, m.Landed):
                for block, view in zip(event.blocks, event.views, strict=True):
                    self.due.remove(block)
                    self.landed += 1
                    self.events.append(m.Block(*block, view))
            else:
                if isinstance(event, m.Block) and (event.index, event.begin) in self.due:
                    self.due.remove((event.index, event.begin))
                    self.pieces[event.index][event.begin : event.begin + len(event.data)] = event.data
                self.events += kept([event])


def frame_of(index: int, begin: int) -> bytes:
    return m.piece_header(index, begin, B) + data_of(index, begin)


def shown(event: m.Event) -> object:
    return (event.index, event.begin, bytes(event.data)) if isinstance(event, m.Block) else event


STEPS = [1, 5, 13, 700, B, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES, 1 << 20]


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 1 << 32))
def test_landed_or_not_the_same_comes_out(seed: int) -> None:
    rng = random.Random(seed)
    order = [(index, at * B) for index in range(PIECES) for at in range(BLOCKS)]
    for _ in range(rng.randrange(4)):
        one, other = rng.randrange(len(order)), rng.randrange(len(order))
        order[one], order[other] = order[other], order[one]
    frames = [frame_of(*block) for block in order]
    for _ in range(rng.randrange(4)):
        frames.insert(rng.randrange(len(frames) + 1), rng.choice(TALK))
    said = memoryview(b"".join(frames))
    reader = Reader()
    steps = rng.sample(STEPS, 3)
    at = 0
    while at < len(said):
        at += reader.read(said[at : at + rng.choice(steps)])
    assert not reader.due
    for index, piece in enumerate(reader.pieces):
        assert piece == b"".join(data_of(index, at * B) for at in range(BLOCKS))
    plain = open_connection()
    expected = feed(plain, bytes(said))
    assert sorted(map(repr, map(shown, reader.events))) == sorted(map(repr, map(shown, expected)))
    talk = [event for event in reader.events if not isinstance(event, m.Block)]
    assert talk == [event for event in expected if not isinstance(event, m.Block)]


def test_blocks_in_turn_are_not_copied() -> None:
    reader = Reader()
    said = memoryview(b"".join(frame_of(index, at * B) for index in range(PIECES) for at in range(BLOCKS)))
    assert reader.read(said) == len(said)
    assert reader.landed == PIECES * BLOCKS


def test_only_what_comes_out_of_turn_is_copied() -> None:
    reader = Reader()
    order = list(reader.due)
    order[2], order[5] = order[5], order[2]
    reader.read(memoryview(b"".join(frame_of(*block) for block in order)))
    assert reader.landed == PIECES * BLOCKS - 2
    assert not reader.due


def test_a_block_that_came_twice_is_told_twice() -> None:
    reader = Reader()
    first = reader.due[0]
    reader.read(memoryview(frame_of(*first) * 2))
    assert [(event.index, event.begin) for event in reader.events if isinstance(event, m.Block)] == [first, first]
    assert reader.landed == 1
