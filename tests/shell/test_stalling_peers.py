"""Peers that stall, at each step of the protocol: others are asked in their place, and each step has its end.

Inside the trade, once they unchoked us, inside a block or at a byte a second: others are asked within a minute.
"""

from __future__ import annotations

import itertools
import struct
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from tests.shell.kit import a_world, link_of, make_torrent
from wire.bitfield import Bitfield
from wire.compact import Endpoint
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


NAME = TORRENT.info.info_hash.swarm_ids[0]
RAW = TORRENT.info.raw
OFFER = frame(20, b"\0" + ExtendedHandshake(ut_metadata=2, metadata_size=len(RAW)).encode())
METADATA = frame(20, b"\1d8:msg_typei1e5:piecei0e10:total_sizei%dee" % len(RAW) + RAW)
NUMBERS = itertools.count()


def handshake() -> bytes:
    return Handshake(NAME, b"-XX0000-%012d" % next(NUMBERS), extended=True, fast=True, dht=False).encode()


STEPS = {
    "says nothing": (-1, b"", 10.0),
    "half a handshake": (-1, handshake()[:40], 10.0),
    "a handshake alone": (0, b"", 180.0),
    "offers metadata and sends none": (0, OFFER, 180.0),
    "half of the metadata": (1, METADATA[:100], 180.0),
    "metadata, and has nothing": (1, METADATA + frame(15), 180.0),
    "a length, and no message": (1, METADATA + bytes([0, 0, 0, 99]), 180.0),
    "has everything and keeps us choked": (1, METADATA + frame(14), 180.0),
}
"""How far it goes (0: a handshake, 1: it is asked for the metadata), what it says then before it stalls, and the
seconds until it is hung up on."""


@pytest.mark.parametrize("step", STEPS)
async def test_a_stall_at_any_step_costs_nothing_and_has_an_end(autojump_clock: MockClock, step: str) -> None:
    asked, said, limit_s = STEPS[step]
    held_s: list[float] = []

    async def stalls(stream: Stream) -> None:
        began = trio.current_time()
        buffer = memoryview(bytearray(65536))
        heard = b""
        try:
            if asked >= 0:
                await stream.send_all([handshake()])
            if asked == 1:
                await stream.send_all([OFFER])
                while b"8:msg_typei0e" not in heard:
                    count = await stream.receive_into(buffer)
                    if not count:
                        return
                    heard += buffer[:count]
            await stream.send_all([said])
            while await stream.receive_into(buffer):
                pass
        finally:
            held_s.append(trio.current_time() - began)

    plain = {"dht": False, "pex": False, "encryption": "off", "transport": "tcp", "patience_s": 1000.0}

    async def seconds(*peers: Endpoint) -> float:
        honest = await world.seeder(TORRENT, DATA, up_limit=20_000, dht=False)
        async with world.new_session(**plain) as session:
            handle = await session.add(link_of(TORRENT, *peers, honest))
            began = trio.current_time()
            with trio.fail_after(60.0):
                await handle.finished()
            return trio.current_time() - began

    async with a_world(dht_nodes=0) as world:
        alone_s = await seconds()
        among_s = await seconds(*[await world.peer(stalls) for _ in range(5)])
        await trio.sleep(1.0)
        assert among_s <= 1.5 * alone_s + 9.0, "the metadata is asked of others after 3, 6 and 9 s"
        assert len(held_s) == 5, "they had their chance"
        assert min(held_s) >= 5.0
        held_s.clear()
        session = await world.session(**plain)
        await session.add(link_of(TORRENT, await world.peer(stalls)))
        await trio.sleep(limit_s + 3.0)
        assert len(held_s) == 1
        assert limit_s - 1.0 <= held_s[0] <= limit_s + 1.5


async def test_what_is_asked_before_the_metadata_is_refused_at_once_and_whoever_does_not_read_that_is_dropped(
    autojump_clock: MockClock,
) -> None:
    """Refusals of the connection's own go out as they come: they do not pile up until the brain's next look."""
    asked = [frame(6, struct.pack(">III", at, 0, 16384)) for at in range(1000)]
    refused_at: list[float] = []
    dropped = trio.Event()

    async def asks(stream: Stream) -> None:
        await stream.receive_into(memoryview(bytearray(68)))
        await stream.send_all([Handshake(NAME, b"-XX0000-askingasking", extended=False, fast=True, dht=False).encode()])
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
