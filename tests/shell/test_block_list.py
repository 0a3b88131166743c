"""Addresses of a block list are neither dialled nor let in nor heard, whoever names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kademlia_bt.commands.console import run_app
from magnet.cli import app
from magnet.torrent import TorrentHandle
from tests.shell.kit import ROUTER, World, a_world, link_of, make_torrent
from tests.shell.test_web_seeds import Mirror
from tests.shell.web import HttpTracker
from wire.blocklist import BlockList
from wire.compact import Endpoint
from wire.filtered import FilteredNetwork
from wire.metainfo import Torrent

FILES = {"a.bin": 100_000}


async def held(world: World, blocked: str, torrent: Torrent, **config: object) -> TorrentHandle:
    session = await world.session(block_list=BlockList(blocked.split()), **config)
    handle = await session.add(torrent)
    await trio.sleep(30)
    return handle


@pytest.mark.parametrize("blocked", [True, False])
async def test_a_peer_that_the_dht_names(autojump_clock: object, blocked: bool) -> None:
    async with a_world() as world:
        torrent, data = make_torrent("t", FILES)
        peer = await world.seeder(torrent, data)
        await trio.sleep(5)
        session = await world.session(block_list=BlockList([peer.host] if blocked else []))
        handle = await session.add(link_of(torrent))
        await trio.sleep(30)
        counts = handle.status().counts
        assert (counts.connected == 0) == blocked
        assert (counts.blocked > 0) == blocked


async def test_nobody_of_it_is_let_in_or_dialled_though_a_person_names_him(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        torrent, data = make_torrent("t", FILES)
        peer = await world.seeder(torrent, data, dht=False)
        guest = world.host()
        handle = await held(
            world, f"{peer.host} {guest.addresses[0]}", torrent, dht=False, peers=((peer.host, peer.port),)
        )
        assert (handle.status().counts.dialled, handle.status().peers) == (0, 0)
        session = next(s for s in world.stores if handle in s.torrents)
        stream = await guest.connect(Endpoint(world.hosts[session].addresses[0], session.endpoints[0].port))
        with trio.fail_after(5):
            assert await stream.receive_into(memoryview(bytearray(10))) == 0, "hung up on"
        stream.close()
        assert handle.status().counts.blocked >= 2


async def test_a_router_a_tracker_and_a_web_seed_of_it_are_never_asked(autojump_clock: object) -> None:
    async with a_world(dht_nodes=2) as world:
        torrent, data = make_torrent("t", FILES, trackers=["http://80.9.9.9/announce"])
        mirror, tracker = Mirror(torrent, data), HttpTracker()
        host = world.internet.host("80.9.9.9", "80.9.9.8")
        world.nursery.start_soon(tracker.serve, await host.listen(Endpoint("80.9.9.9", 80)))
        world.nursery.start_soon(mirror.serve, await host.listen(Endpoint("80.9.9.8", 80)))
        seeded = Torrent.of(torrent.info, trackers=torrent.trackers, web_seeds=["http://80.9.9.8/"])
        handle = await held(world, f"80.9.9.0/24 {ROUTER}", seeded)
        assert (tracker.asked, mirror.asked) == ([], [])
        counts = handle.status().counts
        assert (counts.nodes_answered, counts.trackers_answered, counts.web_seeds_failed) == (0, 0, 1)
        handle = await held(world, "9.9.9.9", seeded)
        assert handle.status().counts.nodes_answered
        assert tracker.asked


async def test_datagrams_neither_go_there_nor_come_from_there(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        one, bad, good = (world.host() for _ in range(3))
        network = FilteredNetwork(one, BlockList([bad.addresses[0]]))
        sockets = [await host.udp(Endpoint(host.addresses[0], 9)) for host in (bad, good)]
        ours = await network.udp(Endpoint(one.addresses[0], 9))
        assert ours.send(b"to bad", sockets[0].endpoint), "dropped, and not held for a fault of the system"
        assert ours.send_many([(b"x", sockets[0].endpoint), (b"to good", sockets[1].endpoint)]) == []
        for socket in sockets:
            socket.send(b"hello", ours.endpoint)
        assert [data for data, _ in await ours.receive()] == [b"hello"]
        with trio.move_on_after(1) as waited:
            await sockets[0].receive()
        assert waited.cancelled_caught
        assert (await sockets[1].receive())[0][0] == b"to good"
        with trio.move_on_after(1) as waited:
            await ours.receive()
        assert waited.cancelled_caught
        assert network.refused == 3


def test_a_file_that_is_no_list_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html>\n")
    for path in (page, tmp_path / "absent"):
        assert run_app(app, "magnet", ["get", "0" * 40, "--no-dht", "--block-list", str(path)]) == 2
        assert str(path) in capsys.readouterr().err
