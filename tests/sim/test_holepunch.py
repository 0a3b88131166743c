"""Two sessions behind NATs meet through a third (BEP 55), on the virtual internet and its clock."""

from __future__ import annotations

import pytest
import trio

from magnet import Session
from tests.shell.kit import World, a_world, link_of, make_torrent
from tests.sim.net import Nat
from wire.compact import Endpoint
from wire.metainfo import Torrent

FILES = {"things.bin": 4_000_000}


async def three(world: World, homes: list[Nat], transport: str = "both") -> tuple[Torrent, Session, Session, Endpoint]:
    """A seeder and a downloader behind `homes`, and a slow relay that both know."""
    torrent, data = make_torrent("things.bin", FILES)
    relay = await world.session(dht=False, lsd=False, down_limit=30_000, up_limit=1000)
    await relay.add(torrent)  # too slow to have it all before they meet
    at = Endpoint(world.hosts[relay].addresses[0], relay.endpoints[0].port)
    known = {"peers": ((at.host, at.port),), "dht": False, "lsd": False}
    hidden = world.internet.host("192.168.1.2", behind=homes[0])
    await world.seeder(torrent, data, host=hidden, transport=transport, **known)
    another = await world.session(down_limit=30_000, up_limit=1000, pex=False, **known)
    await another.add(torrent)
    await trio.sleep(5)  # of that one the seeder is told now, and so of the next for a minute nothing
    seeks = await world.session(host=world.internet.host("192.168.7.3", behind=homes[1]), transport=transport, **known)
    return torrent, relay, seeks, at


@pytest.mark.parametrize(("transport", "keeps_ports"), [("both", True), ("utp", True), ("utp", False)])
async def test_two_behind_nats_meet_through_a_third(
    transport: str, keeps_ports: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Over uTP to the relay whatever port the NAT gives; over TCP where it keeps the number, as most do."""
    async with a_world(dht_nodes=0) as world:
        homes = [world.internet.nat(address, keeps_ports=keeps_ports) for address in ("80.3.0.1", "80.4.0.1")]
        torrent, _, seeks, at = await three(world, homes, transport)
        handle = await seeks.add(link_of(torrent, at))
        peers = handle.runner.swarm._peers
        with trio.fail_after(30):
            while not any(peer.endpoint.host == homes[0].address and peer.ready for peer in peers.values()):
                await trio.sleep(0.1)
        assert all(peer.over_utp for peer in peers.values() if peer.endpoint.host == homes[0].address)
        with trio.fail_after(120):  # the others alone would take an hour
            await handle.finished()


async def test_where_it_cannot_work_nothing_is_flooded(autojump_clock: trio.testing.MockClock) -> None:
    """Through symmetric NATs nobody is met; what is tried stays small."""
    async with a_world(dht_nodes=0) as world:
        homes = [world.internet.nat("80.3.0.1", symmetric=True), world.internet.nat("80.4.0.1", symmetric=True)]
        torrent, _, seeks, at = await three(world, homes)
        handle = await seeks.add(link_of(torrent, at))
        await trio.sleep(600)
        assert not [peer for peer in handle.runner.swarm._peers.values() if peer.endpoint.host == homes[0].address]
        sent = world.hosts[seeks].datagrams_to
        assert 0 < sum(count for to, count in sent.items() if to.host == homes[0].address) < 60
