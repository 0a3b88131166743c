"""A small SOCKS5 server over any `Network`, for tests of whoever goes through one (RFC 1928, 1929).

server = SocksServer(host); nursery.start_soon(server.serve, await host.listen(Endpoint("80.7.7.7", 1080)))
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.net import Listener, Network, Stream


class SocksServer:
    """Serves whoever comes; `asked` holds what it was asked to reach, as it was said."""

    def __init__(self, network: Network, at: str, *, login: tuple[str, str] | None = None, udp: bool = True) -> None:
        self.network, self.at, self.login, self.udp = network, at, login, udp
        self.asked: list[tuple[str, int]] = []
        self.sent: list[tuple[str, int]] = []
        """Whither datagrams went, as it was said."""
        self._scopes: set[trio.CancelScope] = set()

    async def serve(self, listener: Listener) -> None:
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    stream = await listener.accept()
                    nursery.start_soon(self._one, stream)
        finally:
            listener.close()

    def kick(self) -> None:
        """Ends every connection."""
        for scope in self._scopes:
            scope.cancel()

    async def _one(self, stream: Stream) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._talk(stream)
            except NetworkError:
                pass
            finally:
                stream.close()
                self._scopes.discard(scope)

    async def _talk(self, stream: Stream) -> None:
        version, count = await exactly(stream, 2)
        methods = await exactly(stream, count)
        wanted = 0 if self.login is None else 2
        assert version == 5
        await stream.send_all([bytes([5, wanted if wanted in methods else 255])])
        if wanted not in methods:
            return
        if self.login is not None:
            _, length = await exactly(stream, 2)
            user = await exactly(stream, length)
            password = await exactly(stream, (await exactly(stream, 1))[0])
            right = (user.decode(), password.decode()) == self.login
            await stream.send_all([bytes([1, not right])])
            if not right:
                return
        _, command, _ = await exactly(stream, 3)
        host, port = await self._address(lambda count: exactly(stream, count))
        if command == 1:
            self.asked.append((host, port))
            await self._connect(stream, host, port)
        elif command == 3 and self.udp:
            await self._relay(stream)
        else:
            await stream.send_all([bytes([5, 7, 0, 1, 0, 0, 0, 0, 0, 0])])

    async def _address(self, take: Callable[[int], object]) -> tuple[str, int]:
        (kind,) = await take(1)  # type: ignore[misc]
        if kind == 3:
            (length,) = await take(1)  # type: ignore[misc]
            host = (await take(length)).decode()  # type: ignore[misc]
            return host, int.from_bytes(await take(2), "big")  # type: ignore[misc]
        packed = await take({1: 6, 4: 18}[kind])  # type: ignore[misc]
        endpoint = Endpoint.from_compact(packed)
        return endpoint.host, endpoint.port

    async def _connect(self, stream: Stream, host: str, port: int) -> None:
        try:
            other = await self.network.connect((await self.network.resolve(host, port))[0])
        except NetworkError:
            await stream.send_all([bytes([5, 5, 0, 1, 0, 0, 0, 0, 0, 0])])
            return
        try:
            await stream.send_all([bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pipe, stream, other, nursery.cancel_scope)
                nursery.start_soon(pipe, other, stream, nursery.cancel_scope)
        finally:
            other.close()

    async def _relay(self, stream: Stream) -> None:
        inner = await self.network.udp(Endpoint(self.at, 0))
        outer = await self.network.udp(Endpoint(self.at, 0))
        client: list[Endpoint] = []

        async def outwards() -> None:
            while True:
                for data, source in await inner.receive():
                    client[:] = [source]
                    at = 3

                    async def take(count: int, data: bytes = data) -> bytes:
                        nonlocal at
                        at += count
                        return data[at - count : at]

                    host, port = await self._address(take)
                    self.sent.append((host, port))
                    try:
                        to = (await self.network.resolve(host, port))[0]
                    except NetworkError:
                        continue
                    outer.send(data[at:], to)

        async def inwards() -> None:
            while True:
                for data, source in await outer.receive():
                    if client:
                        kind = 4 if ":" in source.host else 1
                        inner.send(bytes([0, 0, 0, kind]) + source.compact() + data, client[0])

        try:
            port = inner.endpoint.port.to_bytes(2, "big")
            await stream.send_all([bytes([5, 0, 0, 1, 10, 0, 0, 1]) + port])  # as behind a NAT: not where it is
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outwards)
                nursery.start_soon(inwards)
                while await stream.receive_into(memoryview(bytearray(10))):
                    pass
                nursery.cancel_scope.cancel()
        finally:
            inner.close()
            outer.close()


async def exactly(stream: Stream, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        buffer = memoryview(bytearray(count - len(data)))
        came = await stream.receive_into(buffer)
        if not came:
            raise NetworkError("gone")
        data += buffer[:came]
    return bytes(data)


async def pipe(source: Stream, sink: Stream, scope: trio.CancelScope) -> None:
    buffer = memoryview(bytearray(1 << 16))
    try:
        while count := await source.receive_into(buffer):
            await sink.send_all([bytes(buffer[:count])])
    except NetworkError:
        pass
    scope.cancel()
