"""Joins a world to programs over `kademlia_bt.Node`: its hosts are networks for them. Needs trio.

    async with open_bridge(world) as bridge:
        async with Node(network=bridge.host("81.2.3.4"), bootstrap=[bridge.entry]) as node:
            ...

The world's time follows trio's: under pytest-trio's `autojump_clock` minutes pass in moments. Datagrams alone are
joined; there are no streams in a world.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from kademlia_bt.testing.world import World
from wire.compact import Endpoint, reach
from wire.errors import MisuseError, NetworkError
from wire.net import Buffer, Datagrams, Listener, Stream

__all__ = ["Bridge", "Host", "open_bridge"]

_GRAIN_S = 0.001
"""Events of the world so close together happen in one step."""
_FIRST_PORT = 49152


class Bridge:
    """A world that runs in step with trio's clock. Made by `open_bridge`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._ahead_s = world.now - trio.current_time()
        self._sent = trio.Event()

    @property
    def entry(self) -> tuple[str, int]:
        """A living node of the world, to bootstrap from: host and port."""
        node = self.world.rng.choice([node for node in self.world.living if not node.nat])
        return node.endpoint.host, node.endpoint.port

    def host(self, *addresses: str) -> Host:
        """A machine with these IP addresses, as a `wire.net.Network`."""
        return Host(self, tuple(Endpoint.of(address, 0).host for address in addresses))

    def catch_up(self) -> None:
        """Has everything happen in the world that is due by now."""
        behind_s = trio.current_time() + self._ahead_s - self.world.now
        if behind_s > 0:
            self.world.run(behind_s)

    def send(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        """Sends a datagram into the world."""
        self.catch_up()
        self.world.send(data, source, to)
        self._sent.set()

    async def run(self) -> None:
        """Runs the world until cancelled."""
        while True:
            self.catch_up()
            self._sent = trio.Event()
            due = self.world.next_at
            with trio.move_on_at(float("inf") if due is None else due - self._ahead_s + _GRAIN_S):
                await self._sent.wait()
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_bridge(world: World) -> AsyncIterator[Bridge]:
    """Runs a world in the background for as long as the block lasts."""
    bridge = Bridge(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.run)
        yield bridge
        nursery.cancel_scope.cancel()


class Host:
    """A machine in a world: a `wire.net.Network` without streams. Made by `Bridge.host`."""

    def __init__(self, bridge: Bridge, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        self._bridge = bridge
        self._next_port = _FIRST_PORT

    async def udp(self, at: Endpoint) -> Datagrams:
        """Binds a socket: at an address of this host, or at the wildcard, which here is the first of its family."""
        await trio.lowlevel.checkpoint()
        own = [host for host in self.addresses if (":" in host) == (":" in at.host)]
        if not own or at.host not in (*own, at.family.any_host):
            raise NetworkError(f"cannot open UDP {at}: Cannot assign requested address")
        host = own[0] if at.host == at.family.any_host else at.host
        port = at.port or self._next_port
        self._next_port += not at.port
        return _Socket(self._bridge, Endpoint(host, port))

    def global_ipv6(self) -> str | None:
        """The first of this host, where it has any."""
        return next((host for host in self.addresses if ":" in host and reach(host) == "global"), None)

    async def connect(self, to: Endpoint) -> Stream:
        """There is nobody to connect to."""
        await trio.lowlevel.checkpoint()
        raise NetworkError(f"cannot connect to {to}: a world of DHT nodes has no streams")

    async def listen(self, at: Endpoint) -> Listener:
        """Nobody would come."""
        await trio.lowlevel.checkpoint()
        raise NetworkError(f"cannot listen on {at}: a world of DHT nodes has no streams")

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        """IP literals alone. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        try:
            return [Endpoint.of(host, port)]
        except MisuseError as error:
            raise NetworkError(f"cannot resolve {host}: {error}") from None


class _Socket:
    def __init__(self, bridge: Bridge, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._bridge = bridge
        self._arrived: list[tuple[bytes, Endpoint]] = []
        self._news = trio.Event()
        self._closed = False
        bridge.world.tap(endpoint, self._hear)

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        await trio.lowlevel.checkpoint()
        while not self._arrived:
            if self._closed:
                raise NetworkError(f"the UDP socket {self.endpoint} is closed")
            self._news = trio.Event()
            await self._news.wait()
        batch, self._arrived = self._arrived, []
        return batch

    def send(self, data: Buffer, to: Endpoint) -> bool:
        if self._closed or to.family is not self.endpoint.family or not to.port:
            return False
        self._bridge.send(bytes(data), self.endpoint, to)
        return True

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        return [to for data, to in batch if not self.send(data, to)]

    def expect_bulk(self) -> None:
        pass

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._bridge.world.untap(self.endpoint)
            self._news.set()

    def _hear(self, data: bytes, source: Endpoint) -> None:
        self._arrived.append((data, source))
        self._news.set()
