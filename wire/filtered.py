"""The outer world without the addresses of a block list: a `Network` over another one. A shell.

Nothing is sent to them, nobody of them is let in, what comes from them is dropped unread, names do not lead to them.
"""

from __future__ import annotations

from collections.abc import Sequence

from wire.blocklist import BlockList
from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.net import Buffer, Datagrams, Listener, Network, Stream
from wire.switchboard import Switchboard, switchboard_of

__all__ = ["FilteredNetwork"]


class FilteredNetwork:
    """See `wire.net.Network`."""

    def __init__(self, inner: Network, blocked: BlockList) -> None:
        self.refused = 0
        """Dials, connections and datagrams, either way, that were refused for the list."""
        self.inner = inner
        self._blocked = blocked

    def refuses(self, host: str) -> bool:
        """Whether the list names it; counted."""
        if host in self._blocked:
            self.refused += 1
            return True
        return False

    async def udp(self, at: Endpoint) -> Datagrams:
        """Datagrams but those of the list."""
        return _Filtered(self, await self.inner.udp(at))

    async def multicast(self, group: Endpoint, at: str) -> Datagrams:
        """The same for a group."""
        return _Filtered(self, await self.inner.multicast(group, at))

    def global_ipv6(self) -> str | None:
        """That of the machine."""
        return self.inner.global_ipv6()

    async def connect(self, to: Endpoint) -> Stream:
        """Raises NetworkError for an address of the list."""
        if self.refuses(to.host):
            raise NetworkError(f"cannot connect to {to}: the block list names it")
        return await self.inner.connect(to)

    def switchboard(self) -> Switchboard | None:
        """One that does not call the addresses of the list."""
        board = switchboard_of(self.inner)
        if board is not None:
            board.refuses = self.refuses
        return board

    async def listen(self, at: Endpoint) -> Listener:
        """A listener that hangs up on the list's addresses."""
        return _Selective(self, await self.inner.listen(at))

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        """Addresses that the list does not name. Raises NetworkError where none is left."""
        found = await self.inner.resolve(host, port)
        left = [endpoint for endpoint in found if not self.refuses(endpoint.host)]
        if found and not left:
            raise NetworkError(f"{host} leads to {found[0].host}, which the block list names")
        return left


class _Selective:
    def __init__(self, network: FilteredNetwork, inner: Listener) -> None:
        self._network = network
        self._inner = inner
        self.endpoint = inner.endpoint
        self.close = inner.close

    async def accept(self) -> Stream:
        while self._network.refuses((stream := await self._inner.accept()).remote.host):
            stream.close()
        return stream


class _Filtered:
    def __init__(self, network: FilteredNetwork, inner: Datagrams) -> None:
        self._refuses = network.refuses
        self._inner = inner
        self.endpoint = inner.endpoint
        self.expect_bulk = inner.expect_bulk
        self.close = inner.close

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        while True:
            batch = [one for one in await self._inner.receive() if not self._refuses(one[1].host)]
            if batch:
                return batch

    def send(self, data: Buffer, to: Endpoint) -> bool:
        return self._refuses(to.host) or self._inner.send(data, to)

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        return self._inner.send_many([one for one in batch if not self._refuses(one[1].host)])
