"""The UDP sockets that a node or a router stands on: bound, and each with the law for local addresses. Shell."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from wire.compact import IPV4, IPV6, Endpoint, Family, reach
from wire.errors import NetworkError
from wire.net import Datagrams, Network
from wire.roaming import Roaming, open_udp

__all__ = ["Socket", "bind", "bind_everywhere"]

_SAME_PORT_TRIES = 8
"""Random ports tried until one is free on IPv4 and IPv6 both."""


@dataclass(frozen=True, slots=True)
class Socket:
    """One of them."""

    datagrams: Datagrams
    allow_local: bool
    """Whether loopback and private addresses are talked to over it."""

    @property
    def family(self) -> Family:
        """What it speaks."""
        return self.datagrams.endpoint.family

    @property
    def bound(self) -> Endpoint:
        """Where it stays: of one that moves along with the machine's address, the port alone."""
        at = self.datagrams.endpoint
        return Endpoint(at.family.any_host, at.port) if isinstance(self.datagrams, Roaming) else at

    async def follow(self) -> None:
        """Keeps it at the machine's address (BEP 32); returns at once where it was bound to one."""
        if isinstance(self.datagrams, Roaming):
            await self.datagrams.follow()


async def bind(
    network: Network, listen: Sequence[Endpoint], allow_local: bool | None, parts: AsyncExitStack
) -> list[Socket]:
    """Binds them all; they close with `parts`. Raises NetworkError.

    Args:
        network: The outer world.
        listen: Where; the IPv6 wildcard stands for the machine's global address, where it has one (BEP 32).
        allow_local: Whether to talk to loopback and private addresses. None: where the bound address is one.
        parts: What closes them.
    """
    sockets = []
    for at in listen:
        datagrams = await open_udp(network, at)
        parts.callback(datagrams.close)
        sockets.append(_socket(datagrams, allow_local))
    return sockets


async def bind_everywhere(network: Network, allow_local: bool | None, parts: AsyncExitStack) -> list[Socket]:
    """Both families, on one port where that can be had; one, where the other does not exist. Raises NetworkError."""
    failure: NetworkError | None = None
    bound: list[Datagrams] = []
    for _ in range(_SAME_PORT_TRIES):
        for datagrams in bound:
            datagrams.close()
        bound = []
        failures = 0
        for family in (IPV4, IPV6):
            at = Endpoint(family.any_host, bound[0].endpoint.port if bound else 0)
            try:
                bound.append(await open_udp(network, at))
            except NetworkError as error:
                failure = error
                failures += 1
        if not failures:
            break
    if not bound and failure is not None:
        raise failure
    for datagrams in bound:
        parts.callback(datagrams.close)
    return [_socket(datagrams, allow_local) for datagrams in bound]


def _socket(datagrams: Datagrams, allow_local: bool | None) -> Socket:
    local = reach(datagrams.endpoint.host) in ("loopback", "private")
    return Socket(datagrams, local if allow_local is None else allow_local)
