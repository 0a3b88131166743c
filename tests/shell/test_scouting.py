"""Links whose metadata alone is wanted, in sessions of real sockets: whom the DHT names is asked at once."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

import magnet
import magnet.work
import wire.switchboard
from kademlia_bt import Node
from magnet import Verdict
from magnet.sources import DHT
from tests.shell.kit import link_of, make_torrent
from tests.shell.test_switchboard import HERE, a_door, a_seed, settings
from wire.blocklist import BlockList
from wire.compact import Endpoint
from wire.metainfo import Torrent

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="the switchboard stands on Linux's epoll")

ONE, _ = make_torrent("one", {"one": 40_000})
OTHER, _ = make_torrent("other", {"other": 40_000})


@pytest.fixture(autouse=True)
def _a_slow_machine_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_OPEN_S", "_MOVE_S", "_WHOLE_S", "TURN_S"):
        monkeypatch.setattr(wire.switchboard, limit, 60.0)
    monkeypatch.setattr(magnet.work, "HEAD_START_S", 60.0)


@asynccontextmanager
async def a_session(*peers: Endpoint, torrent: Torrent = ONE, **more: object) -> AsyncIterator[magnet.Session]:
    """One that has joined a DHT in which these peers have announced the torrent."""
    name = torrent.info.info_hash.swarm_ids[0]
    async with Node(listen=[Endpoint(HERE, 0)], bootstrap=[]) as knowing:
        start = (HERE, knowing.endpoints[0].port)
        for peer in peers:
            async with Node(listen=[Endpoint(peer.host, 0)], bootstrap=[start]) as node:
                await node.wait_joined()
                assert await node.announce(name, peer.port)
        async with magnet.Session(settings(dht=True, bootstrap=(start,), **more)) as session:
            assert session.node is not None
            await session.node.wait_joined()
            yield session


@pytest.mark.parametrize("encryption", ["off", "prefer"])
async def test_who_the_dht_names_is_asked_without_a_swarm(encryption: str) -> None:
    async with a_seed(ONE) as seed, a_session(seed.endpoint, encryption=encryption) as session:
        handle = await session.add(link_of(ONE), metadata_only=True)
        with trio.fail_after(30):
            torrent = await handle.metadata()
            await handle.finished()
        assert torrent.info == ONE.info
        assert handle.metadata_via == DHT
        counts = handle.status().counts
        assert (counts.found, counts.dialled, counts.connected) == ({DHT: 1}, 1, 1)
        status = handle.status()
        assert (status.name, status.pieces_total) == ("one", ONE.info.piece_count)
        assert handle.runner.stats().dialled == 0
        # The seed understands plain text alone: it was asked so second, where encryption is preferred.
        assert len(seed.asked) == (2 if encryption == "prefer" else 1)
        await handle.remove()


async def test_the_metadata_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for head_start_s in (60.0, 0.0):  # within it, and when all else has begun
        monkeypatch.setattr(magnet.work, "HEAD_START_S", head_start_s)
        async with a_seed(ONE) as seed, a_session(seed.endpoint) as session:
            handle = await session.add(link_of(ONE), metadata_only=True)
            with trio.fail_after(30):
                await handle.finished()
                kinds = [type(event).__name__ async for event in handle.events()]
            assert kinds == ["MetadataReady"]


async def test_who_has_it_not_is_the_swarms_and_another_one_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(magnet.work, "HEAD_START_S", 0.0)
    async with a_seed(OTHER) as other, a_seed(ONE) as seed, a_session(other.endpoint, seed.endpoint) as session:
        handle = await session.add(link_of(ONE), metadata_only=True)
        with trio.fail_after(30):
            torrent = await handle.metadata()
            assert torrent.info == ONE.info
            while not other.asked:  # it is read, if late
                await trio.sleep(0.01)
        await handle.remove()


async def test_where_nobody_gives_it_the_verdict_is_the_swarms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(magnet.work, "HEAD_START_S", 0.0)
    async with a_seed(OTHER) as other, a_session(other.endpoint, patience_s=5.0, transport="tcp") as session:
        handle = await session.add(link_of(ONE), metadata_only=True)
        with pytest.raises(magnet.ResolveError) as caught, trio.fail_after(30):
            await handle.metadata()
        assert caught.value.verdict is Verdict.PEERS_UNREACHABLE
        assert caught.value.counts.handshake_failed
        assert caught.value.counts.found == {DHT: 1}


async def test_who_is_out_is_counted_and_let_go_at_the_end() -> None:
    async with a_door(echoes=False) as door, a_session(door.endpoint) as session:
        handle = await session.add(link_of(ONE), metadata_only=True)
        with trio.fail_after(30):
            while not door.let_in:
                await trio.sleep(0.01)
        counts = handle.status().counts
        assert (counts.found, counts.dialled, counts.connected) == ({DHT: 1}, 1, 0)
        await handle.remove()
        assert session._errands is not None
        assert session._errands._visits == 0


async def test_who_is_silent_is_tried_by_utp_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(magnet.work, "HEAD_START_S", 0.0)
    monkeypatch.setattr(wire.switchboard, "_OPEN_S", 0.0)
    monkeypatch.setattr(wire.switchboard, "_SWEEP_S", 0.0)
    async with a_door(echoes=False) as door, a_session(door.endpoint) as session:
        handle = await session.add(link_of(ONE), metadata_only=True)
        assert session._shared is not None
        dialler = session._shared.dialler
        with trio.fail_after(30):
            while not handle.runner.stats().dialled:
                await trio.sleep(0.01)
        assert [name for name, _ in dialler._ways(door.endpoint)] == ["utp", "tcp"]
        await handle.remove()


async def test_who_is_on_the_block_list_is_the_swarms_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(magnet.work, "HEAD_START_S", 0.0)
    calls: list[Endpoint] = []
    monkeypatch.setattr(wire.switchboard.Switchboard, "place", lambda _, to, talk: calls.append(to))
    async with a_session(Endpoint("127.0.0.9", 4000), block_list=BlockList(["127.0.0.9"])) as session:
        handle = await session.add(link_of(ONE), metadata_only=True)
        with trio.fail_after(30):
            while not handle.runner.stats().blocked:
                await trio.sleep(0.01)
        assert not calls
        await handle.remove()
