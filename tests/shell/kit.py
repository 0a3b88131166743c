"""What tests of whole sessions share: torrents made in memory, a virtual internet with a DHT, peers that misbehave.

    async with a_world(seed=1) as world:
        torrent, data = make_torrent("name", {"a/b.bin": 100_000})
        await world.seeder(torrent, data)
        handle = await (await world.session()).add(link_of(torrent))

All time is that of trio's MockClock (`autojump_clock`); nothing here uses a thread, a socket or a file.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from kademlia_bt import Node
from magnet import Config, MagnetLink, Session
from magnet.nursery import open_plain_nursery
from tests.sim.net import Host, Internet
from wire.bencode import encode
from wire.compact import Endpoint
from wire.errors import DiskError, NetworkError, ProtocolError
from wire.metainfo import Info, Torrent
from wire.net import Stream
from wire.peer.connection import PeerConnection
from wire.peer.extended import UT_METADATA_ID, ExtendedHandshake
from wire.peer.messages import HandshakeReceived, MetadataRequest
from wire.storage import MemoryStore

PIECE = 16384 * 2
ROUTER = "80.0.0.1"
_numbers = itertools.count()


def make_torrent(
    name: str,
    files: Mapping[str, int],
    *,
    piece_length: int = PIECE,
    private: bool = False,
    trackers: Sequence[str] = (),
) -> tuple[Torrent, bytes]:
    """A torrent of random files and its bytes laid end to end; one file without a folder if its name is `name`."""
    rng = random.Random(name)
    data = rng.randbytes(sum(files.values()))
    pieces = b"".join(hashlib.sha1(data[at : at + piece_length]).digest() for at in range(0, len(data), piece_length))
    info: dict[bytes, object] = {b"name": name.encode(), b"piece length": piece_length, b"pieces": pieces}
    if list(files) == [name]:
        info[b"length"] = files[name]
    else:
        info[b"files"] = [
            {b"length": size, b"path": [part.encode() for part in path.split("/")]} for path, size in files.items()
        ]
    if private:
        info[b"private"] = 1
    return Torrent.of(Info.from_bytes(encode(info)), trackers=[[url] for url in trackers]), data


def link_of(torrent: Torrent, *peers: Endpoint, **more: object) -> MagnetLink:
    """The barest link: the info-hash, and the peers that are given."""
    return MagnetLink(info_hash=torrent.info.info_hash, peers=tuple(peers), **more)


class Store(MemoryStore):
    """A store in memory that counts, and can fail like a disk."""

    def __init__(self, info: Info, data: bytes | None = None) -> None:
        super().__init__(info, data)
        self.closed = 0
        self.wanted: Sequence[bool] | None = None
        self.fails_after: int | None = None
        self.written = 0

    async def put(self, index: int, data: memoryview | bytearray | bytes) -> bool:
        await trio.lowlevel.checkpoint()
        assert not self.closed, "written after it was closed"
        if self.fails_after is not None and self.written >= self.fails_after:
            raise DiskError("cannot write /x: No space left on device")
        right = await super().put(index, data)
        self.written += right
        return right

    async def read_into(self, requests: Sequence[tuple[int, int, int]], views: Sequence[memoryview]) -> None:
        await trio.lowlevel.checkpoint()
        assert not self.closed, "read after it was closed"
        await super().read_into(requests, views)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1


class LyingStore(Store):
    """Has everything, and sends every `each`-th piece with a wrong byte."""

    each = 1

    async def read_into(self, requests: Sequence[tuple[int, int, int]], views: Sequence[memoryview]) -> None:
        await super().read_into(requests, views)
        for request, view in zip(requests, views, strict=True):
            if request[0] % self.each == 0:
                view[0] ^= 1


class StallingStore(Store):
    """Has everything, says so, and after some blocks never sends another."""

    blocks = 2

    async def read_into(self, requests: Sequence[tuple[int, int, int]], views: Sequence[memoryview]) -> None:
        self.blocks -= len(requests)
        if self.blocks < 0:
            await trio.sleep_forever()
        await super().read_into(requests, views)


class Stores:
    """A `StoreFactory` that remembers what it made; the next store of a torrent starts with the data of its last."""

    def __init__(self) -> None:
        self.made: list[Store] = []
        self.make: Callable[[Info, bytes | None], Store] = Store
        self.kept: dict[bytes, bytes] = {}

    def __call__(
        self, info: Info, directory: Path, resume: Path | None, wanted: Sequence[bool] | None, read_only: bool
    ) -> Store:
        last = next((bytes(store.data) for store in reversed(self.made) if store.info == info), None)
        store = self.make(info, last or self.kept.get(info.raw))
        store.wanted = wanted
        self.made.append(store)
        return store

    @property
    def last(self) -> Store:
        return self.made[-1]


class World:
    """An internet with a DHT, and the sessions and peers in it."""

    def __init__(self, internet: Internet, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self.internet = internet
        self._stack = stack
        self.nursery = nursery
        self._hosts = 0
        self.stores: dict[Session, Stores] = {}
        self.hosts: dict[Session, Host] = {}

    def host(self, **faults: bool) -> Host:
        """A new machine, in a network of its own."""
        self._hosts += 1
        return self.internet.host(f"81.{self._hosts // 250}.{self._hosts % 250}.7", **faults)

    async def dht_node(self, address: str | None = None, *, network_name: str | None = None) -> Node:
        """One more node of the DHT, or the first one of a private network."""
        host = self.internet.host(address) if address else self.host()
        node = Node(
            listen=[Endpoint(host.addresses[0], 6881)],
            bootstrap=[] if address == ROUTER or network_name else [(ROUTER, 6881)],
            network_name=network_name,
            network=host,
            rng=random.Random(str(host.addresses)),
        )
        return await self._stack.enter_async_context(node)

    def config(self, **more: object) -> Config:
        return Config(**{"bootstrap": ((ROUTER, 6881),), "state_dir": None, "patience_s": 300.0, **more})

    async def session(self, *, host: Host | None = None, keep: bool = True, **config: object) -> Session:
        """A session on a host of its own, closed at the end of the world."""
        session = self.new_session(host=host, **config)
        return await self._stack.enter_async_context(session)

    def new_session(self, *, host: Host | None = None, stores: Stores | None = None, **config: object) -> Session:
        """The same, not opened."""
        host = host or self.host()
        stores = stores or Stores()
        session = Session(
            self.config(**config), network=host, rng=random.Random(str(host.addresses)), store_factory=stores
        )
        self.stores[session], self.hosts[session] = stores, host
        return session

    async def seeder(
        self, torrent: Torrent, data: bytes, *, store: type[Store] = Store, host: Host | None = None, **config: object
    ) -> Endpoint:
        """A session that shares a torrent; returns where it listens."""
        host = host or self.host()
        stores = Stores()
        stores.make = store
        stores.kept[torrent.info.raw] = data
        session = self.new_session(host=host, stores=stores, **config)
        await self._stack.enter_async_context(session)
        handle = await session.add(torrent, seed=True)
        await handle.finished()
        return Endpoint(host.addresses[0], session.endpoints[0].port)

    async def peer(self, behave: Callable[[Stream], object]) -> Endpoint:
        """A peer of a kind of its own: `behave` has each stream that comes in."""
        host = self.host()
        listener = await host.listen(Endpoint(host.addresses[0], 6881))

        async def serve(stream: Stream) -> None:
            try:
                await behave(stream)  # type: ignore[misc]
            except (NetworkError, ProtocolError):
                pass
            finally:
                stream.close()

        async def accept() -> None:
            while True:
                self.nursery.start_soon(serve, await listener.accept())

        self.nursery.start_soon(accept)
        return listener.endpoint


@asynccontextmanager
async def a_world(seed: int = 1, *, dht_nodes: int = 6, **faults: object) -> AsyncIterator[World]:
    """An internet with a router and some DHT nodes, up when its body begins."""
    internet = Internet(random.Random(seed), **faults)
    async with open_plain_nursery() as nursery, AsyncExitStack() as stack:
        world = World(internet, stack, nursery)
        if dht_nodes:
            await world.dht_node(ROUTER)
            nodes = [await world.dht_node() for _ in range(dht_nodes - 1)]
            for node in nodes:
                await node.wait_joined()
        yield world


# peers that misbehave


async def silent(stream: Stream) -> None:
    """Takes the connection and never says a word."""
    await _listen_on(stream)


async def garbage(stream: Stream) -> None:
    """Says something else."""
    await stream.send_all([random.Random(7).randbytes(5000)])
    await _listen_on(stream)


async def _listen_on(stream: Stream) -> None:
    buffer = memoryview(bytearray(1000))
    while await stream.receive_into(buffer):
        pass


async def hangs_up(stream: Stream) -> None:
    """Leaves at once."""


def metadata_peer(
    torrent: Torrent, *, size: int | None = None, answer: Callable[[PeerConnection, int], None] | None = None
) -> Callable[[Stream], object]:
    """A peer that speaks as it should, has no pieces, and answers requests for metadata with `answer`.

    `size`: the metadata size that it claims; None: it offers no metadata at all.
    """

    number = next(_numbers)

    async def behave(stream: Stream) -> None:
        mine = ExtendedHandshake(ut_metadata=UT_METADATA_ID if size is not None else 0, metadata_size=size)
        connection = PeerConnection(
            peer_id=b"-XX0000-%012d" % number, info_hash=None, extended=mine, now=trio.current_time()
        )
        while count := await stream.receive_into(connection.buffer()):
            for event in connection.received(count, trio.current_time()):
                if isinstance(event, HandshakeReceived):
                    connection.accept(torrent.info.info_hash.swarm_ids[0])
                    connection.bitfield(None)
                elif isinstance(event, MetadataRequest) and answer is not None:
                    answer(connection, event.piece)
            if out := connection.outgoing():
                await stream.send_all(out)

    return behave


def wrong_metadata(torrent: Torrent) -> Callable[[Stream], object]:
    """Offers metadata of the right size whose bytes are wrong."""
    wrong = bytes(len(torrent.info.raw))

    def answer(connection: PeerConnection, piece: int) -> None:
        connection.metadata_data(piece, len(wrong), wrong[piece * 16384 : (piece + 1) * 16384])

    return metadata_peer(torrent, size=len(wrong), answer=answer)


def rejecting_metadata(torrent: Torrent) -> Callable[[Stream], object]:
    """Offers metadata and rejects each request."""

    def answer(connection: PeerConnection, piece: int) -> None:
        connection.metadata_reject(piece)

    return metadata_peer(torrent, size=len(torrent.info.raw), answer=answer)
