"""IPv6 and dual stack: a machine without IPv6 loses nothing, one with it alone has all, one with both uses both."""

from __future__ import annotations

import pytest
import trio

from tests.shell.kit import a_world, link_of, make_torrent
from tests.sim.net import Host, VirtualDatagrams, VirtualListener
from wire.compact import IPV6, Endpoint
from wire.errors import NetworkError

TORRENT, DATA = make_torrent("things.bin", {"things.bin": 300_000})


class WithoutIPv6(Host):
    """A machine whose system has no AF_INET6 at all."""

    async def udp(self, at: Endpoint) -> VirtualDatagrams:
        if at.family is IPV6:
            raise NetworkError(f"cannot open UDP {at}: Address family not supported by protocol")
        return await super().udp(at)

    async def listen(self, at: Endpoint) -> VirtualListener:
        if at.family is IPV6:
            raise NetworkError(f"cannot listen on {at}: Address family not supported by protocol")
        return await super().listen(at)


@pytest.mark.parametrize("transport", ["both", "utp"])
async def test_a_machine_without_ipv6_loses_nothing(transport: str, autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        await world.seeder(TORRENT, DATA, transport=transport)
        bare = world.host()
        bare.__class__ = WithoutIPv6
        session = await world.session(host=bare, transport=transport)
        assert [endpoint.family.name for endpoint in session.endpoints] == ["ipv4"]
        handle = await session.add(link_of(TORRENT, Endpoint("2a01:5::5", 6881)))  # whom it cannot reach
        with trio.fail_after(120):
            await handle.finished()


@pytest.mark.parametrize("transport", ["tcp", "utp"])
async def test_ipv6_alone(transport: str, autojump_clock: trio.testing.MockClock) -> None:
    async with a_world(dht_nodes=0) as world:
        at = await world.seeder(TORRENT, DATA, host=world.internet.host("2a01:1::1"), dht=False, transport=transport,
                                listen=(Endpoint("2a01:1::1", 7000),))  # fmt: skip
        assert at == Endpoint("2a01:1::1", 7000)
        session = await world.session(
            host=world.internet.host("2a01:2::1"), dht=False, transport=transport, listen=(Endpoint("2a01:2::1", 0),)
        )
        handle = await session.add(link_of(TORRENT, at))
        with trio.fail_after(60):
            await handle.finished()


async def test_peers_of_one_family_are_told_to_those_of_both(autojump_clock: trio.testing.MockClock) -> None:
    """Peer exchange carries IPv6 addresses (`added6`): the seeder is known to the one in between alone."""
    async with a_world(dht_nodes=0) as world:
        only = {"dht": False, "lsd": False}
        seed = await world.seeder(TORRENT, DATA, host=world.internet.host("2a01:1::1"), up_limit=20_000, **only,
                                  listen=(Endpoint("2a01:1::1", 7000),))  # fmt: skip
        between = await world.session(host=world.internet.host("80.7.0.1", "2a01:7::1"), **only)
        assert {endpoint.family.name for endpoint in between.endpoints} == {"ipv4", "ipv6"}
        assert len({endpoint.port for endpoint in between.endpoints}) == 1
        await between.add(link_of(TORRENT, seed))
        seeks = await world.session(host=world.internet.host("80.8.0.1", "2a01:8::1"), **only)
        handle = await seeks.add(link_of(TORRENT, Endpoint("80.7.0.1", between.endpoints[0].port)))
        with trio.fail_after(60):
            while seed not in world.hosts[seeks].dialled:
                await trio.sleep(0.1)
            await handle.metadata()
