"""The first nodes: names to addresses, tried again when the network comes late, and how it went with each.

The core asks the addresses and backs off by itself; here is only what needs the outer world, and what to
say of it. Saved nodes are not known here: those go to the core before any name is resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import trio

from kademlia_bt.dht.events import StarterStats
from wire.compact import Endpoint, Family
from wire.errors import MisuseError, NetworkError
from wire.net import Network

__all__ = ["ROUTERS", "Attempt", "Starts", "keep_resolving", "literals"]

ROUTERS: tuple[tuple[str, int], ...] = (
    ("router.bittorrent.com", 6881),
    ("router.utorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
)
"""The public entry points of the mainline DHT."""

_RESOLVE_S = 15.0
"""Longer than a resolver's own two tries."""
_PAUSES_S = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Between tries while no node is known: soon after a network comes up, at most once a minute for ever."""
_LOOK_AGAIN_S = 30.0
"""How often to see whether a node that had company is alone again."""
_MAX_ADDRESSES_OF_NAME = 32


@dataclass(frozen=True, slots=True)
class Attempt:
    """How it went with one address to start from, or with a name that led to none."""

    place: str
    """As it was given: `HOST:PORT`."""
    endpoint: Endpoint | None
    """None where the name has no address."""
    answered: bool
    outcome: str
    """For people: `answered`, or why not."""

    def __str__(self) -> str:
        name = "" if self.endpoint is None or str(self.endpoint) == self.place else f" ({self.endpoint})"
        return f"{self.place}{name}: {self.outcome}"


def literals(hosts: Sequence[tuple[str, int]]) -> tuple[list[Endpoint], list[tuple[str, int]]]:
    """Splits into addresses that need no resolver, and names. Raises MisuseError for an impossible port."""
    endpoints: list[Endpoint] = []
    names: list[tuple[str, int]] = []
    for host, port in hosts:
        if not 0 < port < 65536:
            raise MisuseError(f"bootstrap node {host}:{port}: a port is 1 to 65535")
        try:
            endpoints.append(Endpoint.of(host, port))
        except MisuseError:
            names.append((host, port))
    return endpoints, names


class Starts:
    """The places that a node starts from: which names led to which addresses, and why the others led nowhere."""

    def __init__(self, hosts: Sequence[tuple[str, int]]) -> None:
        """Takes them as (host or address, port). Raises MisuseError for an impossible port."""
        self.literals, self.names = literals(hosts)
        self._addresses: dict[tuple[str, int], list[Endpoint]] = {}
        self._unresolved: dict[tuple[str, int], str] = {}

    def found(self, host: str, port: int, endpoints: list[Endpoint]) -> None:
        """A name led to these addresses, and maybe to others before: the latest are kept."""
        known = dict.fromkeys([*self._addresses.get((host, port), ()), *endpoints])
        self._addresses[host, port] = list(known)[-_MAX_ADDRESSES_OF_NAME:]
        self._unresolved.pop((host, port), None)

    def failed(self, host: str, port: int, reason: str) -> None:
        """A name led nowhere."""
        self._unresolved[host, port] = reason

    def attempts(
        self, asked: Iterable[StarterStats], unsent: Collection[Endpoint], families: Collection[Family]
    ) -> list[Attempt]:
        """How it went with each place.

        Args:
            asked: What the core knows of the addresses that it took.
            unsent: Where this machine cannot send to.
            families: Of the node's sockets.
        """
        stats = {starter.endpoint: starter for starter in asked}
        attempts: list[Attempt] = []
        places: list[tuple[str, Endpoint]] = [(str(endpoint), endpoint) for endpoint in self.literals]
        for host, port in self.names:
            places += [(f"{host}:{port}", endpoint) for endpoint in self._addresses.get((host, port), ())]
            if (host, port) not in self._addresses:
                reason = self._unresolved.get((host, port), "its name is still being resolved")
                attempts.append(Attempt(f"{host}:{port}", None, False, reason))
        for place, endpoint in places:
            starter = stats.get(endpoint)
            answered = starter is not None and starter.answered
            if answered:
                outcome = "answered"
            elif endpoint.family not in families:
                outcome = f"not asked: no socket for {endpoint.family.name}"
            elif starter is None:
                outcome = "not asked: a local address, and such are not allowed here"
            elif endpoint in unsent:
                outcome = "could not be sent to: no route from this machine"
            else:
                outcome = "no answer" if starter.tried else "not asked yet"
            attempts.append(Attempt(place, endpoint, answered, outcome))
        return attempts


async def keep_resolving(
    names: Sequence[tuple[str, int]],
    network: Network,
    *,
    found: Callable[[str, int, list[Endpoint]], None],
    failed: Callable[[str, int, str], None],
    alone: Callable[[], bool],
) -> None:
    """Resolves the names at once, in parallel, and again with back-off while `alone()`. Runs until cancelled.

    `found` gets every address of a name as it comes, `failed` why it has none; the next round tries that again.
    """

    async def resolve(host: str, port: int) -> None:
        with trio.move_on_after(_RESOLVE_S) as waiting:
            try:
                endpoints = await network.resolve(host, port)
            except NetworkError as error:
                failed(host, port, str(error))
            else:
                found(host, port, endpoints)
        if waiting.cancelled_caught:
            failed(host, port, f"the resolver did not answer in {_RESOLVE_S:g} s")

    misses = 0
    while True:
        async with trio.open_nursery() as nursery:
            for host, port in names:
                nursery.start_soon(resolve, host, port)
        await trio.sleep(_PAUSES_S[min(misses, len(_PAUSES_S) - 1)])
        misses += 1
        while not alone():
            misses = 0
            await trio.sleep(_LOOK_AGAIN_S)
