"""The IPv6 socket of a node is at one global address of its machine, and follows it (BEP 32)."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from kademlia_bt import Node, QueryError
from tests.sim.net import Host, Internet
from wire.blocklist import BlockList
from wire.compact import Endpoint
from wire.filtered import FilteredNetwork
from wire.net import Network

Clock = trio.testing.MockClock
LOOKED_S = 61.0


@pytest.fixture
def internet() -> Internet:
    return Internet(random.Random(1), delay_s=0.03)


def node_on(network: Network, *listen: Endpoint) -> Node:
    return Node(network=network, rng=random.Random(2), bootstrap=[], listen=listen or None)


async def answers(asker: Host, at: Endpoint) -> bool:
    """Whether the node is there, and answers from there."""
    async with node_on(asker) as node:
        try:
            return (await node.ping(at)).endpoint == at
        except QueryError:
            return False


@pytest.mark.parametrize("listen", [(), (Endpoint("0.0.0.0", 7000), Endpoint("::", 7000))])
async def test_it_is_at_one_of_several_addresses(
    listen: tuple[Endpoint, ...], internet: Internet, autojump_clock: Clock
) -> None:
    asker = internet.host("82.0.0.1", "2a02:1::1")
    async with node_on(internet.host("81.0.0.1", "fd00::1", "2a02:7::1", "2a02:8::1"), *listen) as node:
        v4, v6 = node.endpoints
        assert (v4.host, v6.host) == ("0.0.0.0", "2a02:7::1")
        assert v4.port == v6.port
        assert await answers(asker, v6)
        assert not await answers(asker, Endpoint("2a02:8::1", v6.port))


@pytest.mark.parametrize("addresses", [("81.0.0.1",), ("81.0.0.1", "fd00::1")])
async def test_without_a_global_address_nothing_changes(
    addresses: tuple[str, ...], internet: Internet, autojump_clock: Clock
) -> None:
    async with node_on(internet.host(*addresses)) as node:
        assert [at.host for at in node.endpoints] == ["0.0.0.0", "::"][: len(addresses)]
        await trio.sleep(LOOKED_S)
        assert [at.host for at in node.endpoints] == ["0.0.0.0", "::"][: len(addresses)]


async def test_it_follows_the_address_on_the_same_port(internet: Internet, autojump_clock: Clock) -> None:
    asker = internet.host("82.0.0.1", "2a02:1::1")
    host = internet.host("81.0.0.1", "2a02:7::1")
    async with node_on(FilteredNetwork(host, BlockList())) as node:
        before = node.endpoints[1]
        assert await answers(asker, before)
        host.renumber("81.0.0.1", "2a02:9::1")
        await trio.sleep(LOOKED_S)
        after = node.endpoints[1]
        assert after == Endpoint("2a02:9::1", before.port)
        assert await answers(asker, after)
        assert not await answers(asker, before)

        host.renumber("81.0.0.1")  # no IPv6 for a while: IPv4 goes on
        await trio.sleep(LOOKED_S)
        assert not await answers(asker, after)
        assert await answers(asker, Endpoint("81.0.0.1", before.port))
        host.renumber("81.0.0.1", "2a02:9::1")
        await trio.sleep(LOOKED_S)
        assert await answers(asker, after)


async def test_an_address_that_cannot_be_bound_to_yet(internet: Internet, autojump_clock: Clock) -> None:
    class Tentative(Host):
        tested = False

        def global_ipv6(self) -> str | None:
            return "2a02:7::1" if self.tested else "2a02:ffff::1"

    host = internet.host("81.0.0.1", "2a02:7::1")
    host.__class__ = Tentative
    async with node_on(host) as node:
        assert node.endpoints[1].host == "::"
        host.tested = True  # type: ignore[attr-defined]
        await trio.sleep(LOOKED_S)
        assert node.endpoints[1].host == "2a02:7::1"
