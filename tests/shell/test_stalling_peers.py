"""Peers that stall once they unchoked us, inside a block, or at a byte a second: others are asked within a minute."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from tests.shell.kit import a_world, link_of, make_torrent
from wire.bitfield import Bitfield
from wire.errors import NetworkError
from wire.net import Stream
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.peer.messages import HandshakeReceived, Request, frame, piece_header

TORRENT, DATA = make_torrent("stalled", {"stalled": 200_000})


class Staller:
    """Has everything, unchokes, and gives of the first block that it is asked for as much as it is told, then drips."""

    def __init__(self, gives: int, drips: bool) -> None:
        self.gives = gives
        self.drips = drips
        self.asked = trio.Event()

    async def __call__(self, stream: Stream) -> None:
        connection = PeerConnection(
            peer_id=b"-XX0000-stallstallst", info_hash=None, extended=ExtendedHandshake(), now=trio.current_time()
        )
        while count := await stream.receive_into(connection.buffer()):
            events = connection.received(count, trio.current_time())
            if any(isinstance(event, HandshakeReceived) for event in events):
                connection.accept(TORRENT.info.info_hash.swarm_ids[0])
                connection.set_piece_count(TORRENT.info.piece_count)
                connection.bitfield(Bitfield.full(TORRENT.info.piece_count))
                connection.unchoke()
            requests = [event for event in events if isinstance(event, Request)]
            if out := connection.outgoing():
                await stream.send_all(out)
            if requests and not self.asked.is_set():
                self.asked.set()
                await self.stall(stream, requests[0])

    async def stall(self, stream: Stream, block: Request) -> None:
        frame = piece_header(block.index, block.begin, block.length) + bytes(block.length)
        if self.gives:
            await stream.send_all([frame[: self.gives]])
        for at in range(self.gives, len(frame)):
            if not self.drips:
                return
            await trio.sleep(1.0)
            await stream.send_all([frame[at : at + 1]])


@pytest.mark.parametrize(
    ("gives", "drips"),
    [(0, False), (5000, False), (0, True), (5000, True)],
    ids=["before the first block", "inside a block", "a byte a second", "a byte a second inside a block"],
)
async def test_what_a_peer_keeps_is_asked_of_another_within_a_minute(
    autojump_clock: MockClock, gives: int, drips: bool
) -> None:
    async with a_world() as world:
        staller = Staller(gives, drips)
        bad = await world.peer(staller)
        session = await world.session(dht=False, encryption="off")
        honest = await world.seeder(TORRENT, DATA, up_limit=20_000)
        handle = await session.add(link_of(TORRENT, bad, honest))
        with trio.fail_after(60.0):
            await handle.finished()
        assert staller.asked.is_set(), "it had its chance"
        assert bytes(world.stores[session].last.data) == DATA


async def test_what_is_asked_before_the_metadata_is_refused_at_once_and_whoever_does_not_read_that_is_dropped(
    autojump_clock: MockClock,
) -> None:
    """Refusals of the connection's own go out as they come: they do not pile up until the brain's next look."""
    asked = [frame(6, struct.pack(">III", at, 0, 16384)) for at in range(1000)]
    swarm_id = TORRENT.info.info_hash.swarm_ids[0]
    refused_at: list[float] = []
    dropped = trio.Event()

    async def asks(stream: Stream) -> None:
        await stream.receive_into(memoryview(bytearray(68)))
        await stream.send_all(
            [Handshake(swarm_id, b"-XX0000-askingasking", extended=False, fast=True, dht=False).encode()]
        )
        began, said = trio.current_time(), 0
        await stream.send_all(asked)
        buffer = memoryview(bytearray(65536))
        while said < 17 * len(asked):
            said += await stream.receive_into(buffer)
        refused_at.append(trio.current_time() - began)
        with suppress(NetworkError):
            while True:  # and reads no more
                await stream.send_all(asked)
        dropped.set()

    async with a_world() as world:
        peer = await world.peer(asks)
        session = await world.session(dht=False, encryption="off")
        await session.add(link_of(TORRENT, peer))
        with trio.fail_after(60.0):
            await dropped.wait()
    assert refused_at[0] < 0.5
