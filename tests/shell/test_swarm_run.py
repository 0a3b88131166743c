"""The swarm's shell over the virtual network: streams, limits, disks that fail or lag, cancelling."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

from tests.sim.net import Host, Internet
from wire.bencode import encode
from wire.compact import Endpoint
from wire.dialler import Dialler
from wire.errors import DiskError, MisuseError, NetworkError, ProtocolError
from wire.ids import make_peer_id
from wire.limits import TokenBucket
from wire.metainfo import Info
from wire.net import Stream
from wire.peer.connection import PeerConnection
from wire.peer.messages import HandshakeReceived
from wire.storage.store import MemoryStore
from wire.swarm.rules import Settings, Swarm
from wire.swarm.run import SwarmRunner

PIECE = 1 << 16


def make(size: int) -> tuple[Info, bytes]:
    data = random.Random(5).randbytes(size)
    hashes = b"".join(hashlib.sha1(data[at : at + PIECE]).digest() for at in range(0, size, PIECE))
    raw = encode({b"length": size, b"name": b"f", b"piece length": PIECE, b"pieces": hashes})
    return Info.from_bytes(raw), data


class Node:
    """A host with a runner and a listener on port 6881."""

    def __init__(
        self,
        host: Host,
        info: Info,
        *,
        knows: bool = True,
        down: TokenBucket | None = None,
        up: TokenBucket | None = None,
        **settings: object,
    ) -> None:
        self.host = host
        self.info = info
        self.endpoint = Endpoint(host.addresses[0], 6881)
        rng = random.Random(host.addresses[0])
        swarm = Swarm(
            info.info_hash,
            peer_id=make_peer_id(rng),
            rng=rng,
            now=trio.current_time(),
            settings=Settings(listen_port=6881, **settings),  # type: ignore[arg-type]
            info=info if knows else None,
        )
        self.runner = SwarmRunner(swarm, plain(host), down=down, up=up)

    async def serve(self) -> None:
        listener = await self.host.listen(self.endpoint)
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self.accept, await listener.accept())
        finally:
            listener.close()

    async def accept(self, stream: Stream) -> None:
        swarm = self.runner.swarm
        connection = PeerConnection(
            peer_id=swarm.peer_id, info_hash=None, extended=swarm.handshake(stream.remote), now=trio.current_time()
        )
        try:
            while True:
                count = await stream.receive_into(connection.buffer())
                events = connection.received(count, trio.current_time())
                if any(isinstance(event, HandshakeReceived) for event in events):
                    return self.runner.adopt(stream, connection, events)
                if not count:
                    break
        except (NetworkError, ProtocolError):
            pass
        except trio.Cancelled:
            stream.close()
            raise
        return stream.close()

    async def begin(self, store: MemoryStore) -> None:
        self.runner.begin(store, await store.load())


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.runner.run)
            nursery.start_soon(node.serve)
        await trio.sleep(0.001)
        yield
        nursery.cancel_scope.cancel()


def plain(host: Host) -> Dialler:
    return Dialler(host, rng=random.Random(1), transport="tcp", encryption="off")


def internet(**options: float) -> Internet:
    return Internet(random.Random(1), **options)  # type: ignore[arg-type]


async def test_from_the_info_hash_to_the_last_byte(autojump_clock: MockClock) -> None:
    info, data = make(10 * PIECE + 5)
    net = internet()
    seed, leecher = Node(net.host("80.0.0.1"), info), Node(net.host("80.0.0.2"), info, knows=False)
    async with running(seed, leecher):
        await seed.begin(MemoryStore(info, data))
        leecher.runner.found([seed.endpoint], "dht")
        assert await leecher.runner.metadata() == info
        assert leecher.runner.metadata_via == "dht"
        store = MemoryStore(info)
        await leecher.begin(store)
        await leecher.runner.finished()
        assert store.data == data
        assert leecher.runner.stats().connected == 1
        await seed.runner.finished()
        assert seed.runner.stats().uploaded_bytes == len(data)


async def test_who_serves_nobody_keeps_no_memory_for_it(autojump_clock: MockClock) -> None:
    info, data = make(10 * PIECE)
    net = internet()
    seed, leecher = Node(net.host("80.0.0.1"), info), Node(net.host("80.0.0.2"), info)
    async with running(seed, leecher):
        await seed.begin(MemoryStore(info, data))
        await leecher.begin(MemoryStore(info))
        seed.runner.found([leecher.endpoint], "dht")
        await leecher.runner.finished()
        assert seed.runner._spare is not None, "the next blocks go out from it"
        await trio.sleep(20.0)
        assert seed.runner._spare is None


async def test_a_dead_address_and_a_refusal_are_told_apart(autojump_clock: MockClock) -> None:
    info, _ = make(PIECE)
    net = internet()
    node, other = Node(net.host("80.0.0.2"), info), net.host("80.0.0.3")
    async with running(node):
        node.runner.found([Endpoint("80.9.9.9", 6881), Endpoint(other.addresses[0], 6881)], "dht")
        await trio.sleep(7.0)
        stats = node.runner.stats()
        assert (stats.dialled, stats.refused, stats.timed_out) == (2, 1, 1)


async def test_the_download_limit_holds(autojump_clock: MockClock) -> None:
    info, data = make(16 * PIECE)
    net = internet()
    bucket = TokenBucket(1e5, 2e4, trio.current_time())
    seed, leecher = Node(net.host("80.0.0.1"), info), Node(net.host("80.0.0.2"), info, down=bucket)
    async with running(seed, leecher):
        await seed.begin(MemoryStore(info, data))
        await leecher.begin(MemoryStore(info))
        leecher.runner.found([seed.endpoint], "dht")
        began = trio.current_time()
        await leecher.runner.finished()
        assert len(data) / (trio.current_time() - began) == pytest.approx(1e5, rel=0.15)
        assert leecher.runner.stats().down_rate == pytest.approx(1e5, rel=0.3)


async def test_the_upload_limit_holds_over_all_peers(autojump_clock: MockClock) -> None:
    info, data = make(8 * PIECE)
    net = internet()
    bucket = TokenBucket(1e5, 2e4, trio.current_time())
    seed = Node(net.host("80.0.0.1"), info, up=bucket)
    leechers = [Node(net.host(f"80.0.1.{n}"), info, pex=False) for n in range(3)]
    async with running(seed, *leechers):
        await seed.begin(MemoryStore(info, data))
        began = trio.current_time()
        for leecher in leechers:
            await leecher.begin(MemoryStore(info))
            leecher.runner.found([seed.endpoint], "dht")
        for leecher in leechers:
            await leecher.runner.finished()
        assert seed.runner.stats().uploaded_bytes / (trio.current_time() - began) == pytest.approx(1e5, rel=0.15)


class SlowStore(MemoryStore):
    """Its disk takes its time."""

    async def put(self, index: int, data: memoryview | bytearray | bytes) -> bool:
        await trio.sleep(0.1)
        return await super().put(index, data)


async def test_a_slow_disk_holds_the_readers_back(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.swarm.exchange.MAX_UNWRITTEN_BYTES", 4 * PIECE)
    info, data = make(100 * PIECE)
    net = internet(delay_s=0.001)
    seed, leecher = Node(net.host("80.0.0.1"), info), Node(net.host("80.0.0.2"), info)
    peak = 0
    async with running(seed, leecher):
        await seed.begin(MemoryStore(info, data))
        store = SlowStore(info)
        await leecher.begin(store)
        leecher.runner.found([seed.endpoint], "dht")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    nonlocal peak
                    exchange = leecher.runner.swarm._exchange
                    assert exchange is not None
                    while True:
                        peak = max(peak, exchange._requests.unwritten_bytes)
                        await trio.sleep(0.01)

                nursery.start_soon(watch)
                with trio.fail_after(20.0):  # four pieces each 0.1 s: 2.5 s
                    await leecher.runner.finished()
                scope.cancel()
        assert store.data == data
    # What one read brings in, up to a buffer of 2 MiB, may come on top.
    assert peak <= 4 * PIECE + (2 << 20)


class FullStore(MemoryStore):
    """Its disk is full after some pieces."""

    left = 3

    async def put(self, index: int, data: memoryview | bytearray | bytes) -> bool:
        self.left -= 1
        if self.left < 0:
            raise DiskError("no space left on the disk")
        return await super().put(index, data)


async def test_a_full_disk_is_told_at_once_and_when_space_returns_it_goes_on(
    autojump_clock: MockClock,
) -> None:
    info, data = make(8 * PIECE)
    net = internet()
    seed, leecher = Node(net.host("80.0.0.1"), info), Node(net.host("80.0.0.2"), info)
    async with running(seed, leecher):
        await seed.begin(MemoryStore(info, data))
        store = FullStore(info)
        await leecher.begin(store)
        leecher.runner.found([seed.endpoint], "dht")
        with trio.fail_after(1.0), pytest.raises(DiskError, match="no space"):
            await leecher.runner.finished()
        assert (await store.load()).count == 3
        await trio.sleep(60.0)
        with trio.fail_after(0.1), pytest.raises(DiskError, match="no space"):
            await leecher.runner.finished()
        assert store.left > -100, "it tries again now and then, not all the time"
        store.left = 1000
        with trio.fail_after(15.0):
            while not leecher.runner.swarm.finished:
                with suppress(DiskError):
                    await leecher.runner.finished()
                await trio.sleep(0.5)
        assert (await store.load()).all
        assert leecher.runner.stats().pieces_done == 8
        await leecher.runner.finished()


class BrokenStore(MemoryStore):
    async def read_into(self, requests: Sequence[tuple[int, int, int]], views: Sequence[memoryview]) -> None:
        raise DiskError("the disk is gone")


async def test_a_failed_read_is_told_with_its_reason(autojump_clock: MockClock) -> None:
    info, data = make(2 * PIECE)
    net = internet()
    seed, leecher = Node(net.host("80.0.0.1"), info, dht=False), Node(net.host("80.0.0.2"), info)
    async with running(seed, leecher):
        await leecher.begin(MemoryStore(info))
        await seed.begin(BrokenStore(info, data))
        leecher.runner.found([seed.endpoint], "dht")
        await trio.sleep(2.0)
        with pytest.raises(DiskError, match="gone"):
            await seed.runner.finished()


async def test_cancelled_at_any_moment_no_stream_stays_open(autojump_clock: MockClock) -> None:
    info, data = make(20 * PIECE)
    for step in range(25):
        net = internet(rate_bytes_s=2e6)
        seed = Node(net.host("80.0.0.1"), info)
        leecher = Node(net.host("80.0.0.2"), info, knows=step % 2 == 0)
        with trio.move_on_after(0.001 + step * 0.03):
            async with running(seed, leecher):
                await seed.begin(MemoryStore(info, data))
                leecher.runner.found([seed.endpoint], "dht")
                await leecher.runner.metadata()
                await leecher.begin(MemoryStore(info))
                await trio.sleep_forever()
        await trio.sleep(1.0)
        assert not seed.host.streams
        assert not leecher.host.streams


async def test_who_is_dropped_is_hung_up_on(autojump_clock: MockClock) -> None:
    info, data = make(2 * PIECE)
    net = internet()
    seed, other = Node(net.host("80.0.0.1"), info), net.host("80.0.0.2")
    async with running(seed):
        await seed.begin(MemoryStore(info, data))
        for garbage in (b"GET / HTTP/1.1\r\n\r\n" * 10, b"\x13BitTorrent protocol" + bytes(8) + bytes(40)):
            stream = await other.connect(seed.endpoint)
            await stream.send_all([garbage])
            with trio.fail_after(30.0), suppress(NetworkError):
                while await stream.receive_into(memoryview(bytearray(100))):
                    pass
            stream.close()
        await trio.sleep(5.0)
        assert not seed.host.streams
        assert seed.runner.stats().peers == 0


async def test_it_runs_once_at_a_time_and_takes_nobody_in_before(autojump_clock: MockClock) -> None:
    info, _ = make(PIECE)
    net = internet()
    node, other = Node(net.host("80.0.0.1"), info), Node(net.host("80.0.0.2"), info)
    async with running(other):
        stream = await node.host.connect(other.endpoint)
        connection = PeerConnection(
            peer_id=b"x" * 20, info_hash=None, extended=node.runner.swarm.handshake(stream.remote), now=0.0
        )
        node.runner.adopt(stream, connection, [])
        assert stream not in node.host.streams
        with pytest.raises(MisuseError):
            await other.runner.run()
