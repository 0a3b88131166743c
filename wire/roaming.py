"""The UDP socket of an IPv6 DHT: at one global address of this machine, and after it where that changes (BEP 32).

A shell.

Others know a node by its address, and a socket at the wildcard sends from whichever the system picks: of several, now
this, now that. While the machine has no global address, the socket is at the wildcard.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar, cast

import trio

from wire.compact import IPV6, Endpoint
from wire.errors import NetworkError
from wire.net import AnsweredDatagrams, Answerer, Buffer, Datagrams, Network

__all__ = ["Roaming", "open_udp"]

_LOOK_AGAIN_S = 60.0

T = TypeVar("T")


async def open_udp(network: Network, at: Endpoint) -> Datagrams:
    """Binds a UDP socket; for the IPv6 wildcard a `Roaming` one. Raises NetworkError."""
    if at.host != IPV6.any_host:
        return await network.udp(at)
    host = network.global_ipv6()
    inner: Datagrams | None = None
    if host is not None:
        with suppress(NetworkError):  # one that the system is still testing cannot be bound to yet
            inner = await network.udp(Endpoint(host, at.port))
    if inner is None:
        inner = await network.udp(at)
    return _AnsweredRoaming(network, inner) if isinstance(inner, AnsweredDatagrams) else Roaming(network, inner)


class Roaming:
    """A `Datagrams` on one port; `follow` looks now and then whether it is still where it should be."""

    def __init__(self, network: Network, inner: Datagrams) -> None:
        self._network = network
        self._inner = inner
        self._moved = trio.Event()
        self._is_bulk = self._is_away = self._closed = False

    @property
    def endpoint(self) -> Endpoint:
        return self._inner.endpoint

    async def follow(self) -> None:
        """Moves along until it is closed or cancelled."""
        while not self._closed:
            await trio.sleep(_LOOK_AGAIN_S)
            host = self._network.global_ipv6() or IPV6.any_host
            if self._is_away or host != self.endpoint.host:
                await self._move(host)

    async def _move(self, host: str) -> None:
        port = self.endpoint.port
        self._inner.close()  # first: the wildcard and an address cannot have one port at a time
        self._is_away = True
        try:
            inner = await self._network.udp(Endpoint(host, port))
        except NetworkError:
            return  # the address is gone already, or another program has the port there: tried again
        self._is_away = False
        if self._closed:
            inner.close()
            return
        self._inner = inner
        if self._is_bulk:
            inner.expect_bulk()
        self._moved.set()
        self._moved = trio.Event()

    async def _while_it_moves(self, call: Callable[[Datagrams], Awaitable[T]]) -> T:
        """What a call on the socket gives, waiting for the next one where it was closed to move. Raises NetworkError
        once it was closed for good."""
        while True:
            inner, moved = self._inner, self._moved
            try:
                return await call(inner)
            except NetworkError:
                if self._closed:
                    raise
            if inner is self._inner:
                await moved.wait()

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        return await self._while_it_moves(lambda inner: inner.receive())

    def send(self, data: Buffer, to: Endpoint) -> bool:
        return self._inner.send(data, to)

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        return self._inner.send_many(batch)

    def expect_bulk(self) -> None:
        self._is_bulk = True
        self._inner.expect_bulk()

    def close(self) -> None:
        self._closed = True
        self._inner.close()
        self._moved.set()


class _AnsweredRoaming(Roaming):
    """Where the network's sockets are `AnsweredDatagrams`."""

    async def readable(self) -> None:
        await self._while_it_moves(lambda inner: cast("AnsweredDatagrams", inner).readable())

    def serve(self, answerers: Sequence[Answerer], now: float, unsent: list[Endpoint]) -> bool:
        try:
            return cast("AnsweredDatagrams", self._inner).serve(answerers, now, unsent)
        except NetworkError:
            if self._closed:
                raise
            return False  # it moves
