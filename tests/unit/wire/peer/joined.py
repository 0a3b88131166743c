"""Two peer connections joined by a wire that the test cuts as it likes."""

from __future__ import annotations

from wire.peer.connection import Event, PeerConnection
from wire.peer.extended import UT_METADATA_ID, UT_PEX_ID, ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.peer.messages import Block

INFO_HASH = b"info-hash of a test!"
OURS = b"-KB0100-ourselves..."
THEIRS = b"-LT2110-somebody...."
SPEAKS_ALL = ExtendedHandshake(ut_metadata=UT_METADATA_ID, ut_pex=UT_PEX_ID, v="test 1", reqq=500)


def dial(*, piece_count: int | None = 10, now: float = 0.0, extended: ExtendedHandshake = SPEAKS_ALL) -> PeerConnection:
    return PeerConnection(
        peer_id=OURS, info_hash=INFO_HASH, extended=extended, now=now, dht=True, piece_count=piece_count
    )


def listen(*, piece_count: int | None = 10, now: float = 0.0) -> PeerConnection:
    return PeerConnection(
        peer_id=THEIRS, info_hash=None, extended=SPEAKS_ALL, now=now, dht=True, piece_count=piece_count
    )


def opened(*, piece_count: int | None = 10, fast: bool = True, extended: bool = False) -> PeerConnection:
    """A dialled connection after a scripted handshake, its outbox empty."""
    connection = dial(piece_count=piece_count)
    feed(connection, Handshake(INFO_HASH, THEIRS, extended=extended, fast=fast, dht=True).encode())
    connection.outgoing()
    return connection


def feed(connection: PeerConnection, data: bytes, now: float = 0.0, step: int | None = None) -> list[Event]:
    """Lets `data` come in reads of at most `step` bytes; blocks are copied out of the buffer as they come."""
    events: list[Event] = []
    at = 0
    while at < len(data):
        space = connection.buffer()
        count = min(len(space), len(data) - at, step or len(data))
        space[:count] = data[at : at + count]
        events += kept(connection.received(count, now))
        at += count
    return events


def kept(events: list[Event]) -> list[Event]:
    return [
        Block(event.index, event.begin, memoryview(bytes(event.data))) if isinstance(event, Block) else event
        for event in events
    ]


def sent(connection: PeerConnection) -> bytes:
    return b"".join(bytes(part) for part in connection.outgoing())


def joined(
    *, here: int | None = 10, there: int | None = 10, step: int | None = None
) -> tuple[PeerConnection, PeerConnection]:
    """A dialled and an accepted connection, both open and with nothing under way."""
    dialled, accepted = dial(piece_count=here), listen(piece_count=there)
    feed(accepted, sent(dialled), step=step)
    accepted.accept(INFO_HASH)
    feed(dialled, sent(accepted), step=step)
    feed(accepted, sent(dialled), step=step)
    return dialled, accepted
