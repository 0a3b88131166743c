"""What a session stands on: TCP and UDP of one port number, the DHT node and uTP on the latter, and the dialler.

No torrents here: who connects is handed on as a stream that has said nothing yet.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from kademlia_bt.node import Node
from magnet.config import Config
from magnet.nursery import open_plain_nursery
from magnet.vault import Vault
from wire.compact import IPV4, IPV6, Endpoint
from wire.dialler import Dialler
from wire.errors import NetworkError
from wire.net import Listener, Network
from wire.udp import UdpPump
from wire.utp.stream import UtpSocket

__all__ = ["Sockets", "open_sockets"]

_PORT_TRIES = 20
"""A port that is free for TCP may be taken for UDP; a third one soon is not."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """What `open_sockets` holds open."""

    endpoints: tuple[Endpoint, ...]
    """Where it listens, TCP and UDP alike."""
    listeners: tuple[Listener, ...]
    """Whence streams come: TCP and uTP, as far as the settings want them."""
    node: Node | None
    """The DHT node; None without DHT."""
    dialler: Dialler
    pumps: tuple[UdpPump, ...]
    """The UDP sockets, for those who share them."""


@asynccontextmanager
async def open_sockets(
    config: Config, network: Network, rng: random.Random, *, allow_local: bool
) -> AsyncIterator[Sockets]:
    """Binds what `config` asks for, and closes it in the end. Raises NetworkError where it cannot listen."""
    async with AsyncExitStack() as stack:
        listeners, node, pumps = await _bind(config, network, rng, allow_local, stack)
        endpoints = tuple(listener.endpoint for listener in listeners)
        if config.transport == "utp":
            for listener in listeners:  # they held the port number until UDP had it too
                listener.close()
            listeners = []
        utp = [] if config.transport == "tcp" else [UtpSocket(pump, rng) for pump in pumps]
        for socket in utp:
            stack.callback(socket.close)
        dialler = Dialler(network, rng=rng, utp=utp, transport=config.transport, encryption=config.encryption)
        yield Sockets(endpoints, (*listeners, *utp), node, dialler, tuple(pumps))


async def _bind(
    config: Config, network: Network, rng: random.Random, allow_local: bool, stack: AsyncExitStack
) -> tuple[list[Listener], Node | None, Sequence[UdpPump]]:
    """Finds a port number that is free for all; what it opened closes with `stack`."""
    free = all(endpoint.port == 0 for endpoint in config.listen)
    for tries_left in reversed(range(_PORT_TRIES if free else 1)):
        try:
            async with AsyncExitStack() as parts:
                listeners = await _listen(config, network, parts)
                at = tuple(listener.endpoint for listener in listeners)
                node: Node | None = None
                pumps: Sequence[UdpPump] = ()
                if config.dht:
                    node = await parts.enter_async_context(
                        Node(
                            listen=at,
                            bootstrap=config.bootstrap,
                            network_name=config.network,
                            state=Vault(config.state_dir).dht_state,
                            network=network,
                            rng=rng,
                            allow_local=allow_local,
                        )
                    )
                    pumps = node.pumps
                elif config.transport != "tcp" or config.use_trackers:
                    pumps = await _own_pumps(at, network, parts)
                stack.push_async_exit(parts.pop_all())
                return listeners, node, pumps
        except NetworkError:
            if not tries_left:
                raise
    raise AssertionError("unreachable")


async def _listen(config: Config, network: Network, parts: AsyncExitStack) -> list[Listener]:
    listeners: list[Listener] = []
    for wanted in config.listen or (Endpoint(IPV4.any_host, 0), Endpoint(IPV6.any_host, 0)):
        port = listeners[0].endpoint.port if listeners else 0
        try:
            listener = await network.listen(Endpoint(wanted.host, wanted.port or port))
        except NetworkError:
            if not config.listen and listeners:
                continue  # a machine without IPv6 does without
            raise
        parts.callback(listener.close)
        listeners.append(listener)
    return listeners


async def _own_pumps(at: Sequence[Endpoint], network: Network, parts: AsyncExitStack) -> list[UdpPump]:
    """UDP for uTP and trackers alone, where no DHT node has opened it."""
    pumps = []
    for endpoint in at:
        datagrams = await network.udp(endpoint)
        parts.callback(datagrams.close)
        pumps.append(UdpPump(datagrams))
    nursery: trio.Nursery = await parts.enter_async_context(open_plain_nursery())
    for pump in pumps:
        nursery.start_soon(pump.run)
    return pumps
