"""A session that is cancelled, anywhere: no task, socket, stream or store is left behind.

Some dozens each time; `KADEMLIA_BT_CANCELS=500` in the environment for as many as one likes, of both kinds.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio
import trio.testing

from magnet import Config, Session
from tests.shell.kit import LyingStore, Store, a_world, link_of, make_torrent, silent
from wire.compact import Endpoint
from wire.errors import WireError

CANCELS = int(os.environ.get("KADEMLIA_BT_CANCELS", "36"))
AT_ONCE = 12
"""Of those at random moments, so many in one world."""
TORRENT, DATA = make_torrent("cancelled", {"a": 150_000, "b": 90_001})


def left_behind(world, session) -> list[object]:
    host = world.hosts[session]
    stores = [store for store in world.stores[session].made if store.closed != 1]
    return [*host.udp_sockets, *host.listeners, *host.streams, *stores]


async def download(world, session, peers):
    async with session:
        handle = await session.add(link_of(TORRENT, *peers))
        await handle.finished()
        await trio.sleep(1)


@pytest.mark.parametrize("seed", range(-(-CANCELS // AT_ONCE)))
async def test_cancelled_at_any_moment_it_leaves_nothing(autojump_clock, seed):
    rng = random.Random(seed)
    async with a_world(seed, fragment=True) as world:
        peers = [await world.seeder(TORRENT, DATA, up_limit=200_000), await world.peer(silent)]
        peers.append(await world.seeder(TORRENT, DATA, store=LyingStore))
        tasks = trio.lowlevel.current_task().parent_nursery
        ends = 0
        for _ in range(AT_ONCE):
            session = world.new_session()
            with trio.move_on_after(rng.uniform(0, 2)) as scope:
                await download(world, session, peers)
            ends += scope.cancelled_caught
            assert left_behind(world, session) == []
        assert ends >= 3
        assert tasks is trio.lowlevel.current_task().parent_nursery


async def test_cancelled_at_each_step_of_the_scheduler_it_leaves_nothing(autojump_clock):
    """The n-th checkpoint of the session's opening, adding and first steps is the one that is cancelled."""
    async with a_world() as world:
        peers = [await world.seeder(TORRENT, DATA)]
        for steps in range(max(60, CANCELS)):
            session = world.new_session()
            with trio.CancelScope() as scope:
                world.nursery.start_soon(_cancel_after, steps, scope)
                await download(world, session, peers)
            assert left_behind(world, session) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted by /proc")
async def test_real_files_and_sockets_are_closed_too(tmp_path):
    rng = random.Random(5)
    torrent, data = make_torrent("real", {"a": 300_000, "b": 700_003})
    folder = tmp_path / "seeds" / "real"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(data[:300_000])
    (folder / "b").write_bytes(data[300_000:])
    here = (Endpoint("127.0.0.1", 0),)
    config = Config(listen=here, bootstrap=(), lsd=False, use_trackers=False, state_dir=tmp_path / "state")
    async with Session(config) as seeder:
        seeding = await seeder.add(torrent, directory=tmp_path / "seeds", seed=True)
        await seeding.finished()
        link = link_of(torrent, seeder.endpoints[0])
        opened = None
        for number in range(12):
            with trio.move_on_after(rng.uniform(0.0, 0.15) if number else 10.0):
                async with Session(config) as session:
                    handle = await session.add(link, directory=tmp_path / f"out{number % 3}")
                    if number:
                        handle.set_limits(down_limit=1 << 20)
                    await handle.finished()
            with trio.fail_after(10):  # the seeder hears of it a moment later
                while opened is not None and len(os.listdir("/proc/self/fd")) > opened:
                    await trio.sleep(0.01)
                while seeding.status().peers:
                    await trio.sleep(0.01)
            if opened is None:  # by the first, which is complete: what the seeder keeps open
                await trio.testing.wait_all_tasks_blocked()
                opened = len(os.listdir("/proc/self/fd"))


async def _cancel_after(steps: int, scope: trio.CancelScope) -> None:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_the_number_of_tasks_comes_back_to_what_it_was(autojump_clock):
    async with a_world() as world:
        peers = [await world.seeder(TORRENT, DATA), await world.peer(silent)]
        session = await world.session()
        await trio.sleep(100)
        before = trio.lowlevel.current_statistics().tasks_living
        for wait_s in (0.0, 0.1, 0.5, 2.0, 8.0):
            handle = await session.add(link_of(TORRENT, *peers))
            await trio.sleep(wait_s)
            await handle.remove()
        await trio.sleep(100)
        assert trio.lowlevel.current_statistics().tasks_living <= before
        assert not world.hosts[session].streams
        assert all(store.closed == 1 for store in world.stores[session].made)


async def test_removing_while_it_is_checked_waits_for_the_store(autojump_clock):
    loading = trio.Event()

    class SlowStore(Store):
        async def load(self, progress=None):
            loading.set()
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            return await super().load(progress)

    async with a_world(dht_nodes=0) as world:
        session = world.new_session(dht=False)
        world.stores[session].make = SlowStore
        async with session:
            handle = await session.add(TORRENT)
            await loading.wait()
            await handle.remove()
            assert world.stores[session].last.closed == 1


async def test_an_error_in_the_body_ends_the_session_and_stays_itself(autojump_clock):
    async with a_world() as world:
        session = world.new_session()
        with pytest.raises(WireError, match="mine"):
            await _fails(session)
        assert left_behind(world, session) == []


async def _fails(session) -> None:
    async with session:
        await session.add(link_of(TORRENT))
        await trio.sleep(1)
        raise WireError("mine")
