"""Whole sessions among liars, stallers and silent peers; and the verdict where nothing can be done."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from magnet import DownloadError, Failed, Phase, ResolveError, Verdict
from tests.shell.kit import (
    LyingStore,
    StallingStore,
    Store,
    a_world,
    garbage,
    hangs_up,
    link_of,
    make_torrent,
    metadata_peer,
    rejecting_metadata,
    silent,
    wrong_metadata,
)
from wire.compact import Endpoint
from wire.errors import DiskError

TORRENT, DATA = make_torrent("faults", {"a": 200_000, "b": 100_003})
WIDE, WIDE_DATA = make_torrent("wide", {f"folder/{n:04}": 100 for n in range(3000)})
"""Its metadata takes several blocks."""
PATIENCE_S = 60.0


async def verdict_of(world, session, *peers, metadata_only=False, torrent=TORRENT):
    handle = await session.add(link_of(torrent, *peers), metadata_only=metadata_only)
    kind = ResolveError if metadata_only else (ResolveError, DownloadError)
    with pytest.raises(kind) as caught:
        await handle.finished()
    status = handle.status()
    assert status.phase is Phase.FAILED
    assert status.verdict is caught.value.verdict
    assert status.reason == str(caught.value)
    assert "\n" not in status.reason
    assert not world.hosts[session].streams
    assert session.torrents == ()
    return caught.value


# with honest peers about, the files come all the same


async def test_a_corrupt_seeder_is_banned_and_the_download_goes_on(autojump_clock):
    async with a_world() as world:
        liar = await world.seeder(TORRENT, DATA, store=LyingStore)
        honest = [await world.seeder(TORRENT, DATA, up_limit=100_000) for _ in range(2)]
        session = await world.session(dht=False)
        handle = await session.add(link_of(TORRENT, liar, *honest))
        with trio.fail_after(300):
            await handle.finished()
        assert bytes(world.stores[session].last.data) == DATA
        counts = handle.status().counts
        assert counts.piece_hash_failures >= 1
        assert counts.banned == 1
        # Most of what a stranger sends before his first piece is judged was asked of him at once.
        assert counts.piece_hash_failures < TORRENT.info.piece_count


async def test_stallers_do_not_hold_the_download_up(autojump_clock):
    async with a_world() as world:
        peers = [await world.seeder(TORRENT, DATA, store=StallingStore) for _ in range(3)]
        peers.append(await world.seeder(TORRENT, DATA))
        session = await world.session(dht=False)
        handle = await session.add(link_of(TORRENT, *peers))
        with trio.fail_after(150):
            await handle.finished()
        assert bytes(world.stores[session].last.data) == DATA


async def test_silent_and_strange_peers_do_not_hold_it_up(autojump_clock):
    async with a_world() as world:
        peers = [await world.peer(kind) for kind in [silent, garbage, hangs_up] * 5]
        peers.append(await world.seeder(TORRENT, DATA))
        session = await world.session(dht=False)
        handle = await session.add(link_of(TORRENT, *peers))
        with trio.fail_after(60):
            await handle.finished()
        assert handle.status().counts.connected == 1
        await trio.sleep(30)
        assert handle.status().counts.handshake_failed >= 10


@pytest.mark.parametrize("torrent_and_data", [(TORRENT, DATA), (WIDE, WIDE_DATA)], ids=["one block", "many blocks"])
@pytest.mark.parametrize("bad", ["of all kinds", "silent"])
async def test_the_metadata_comes_from_the_one_honest_peer_of_twenty_one(autojump_clock, torrent_and_data, bad):
    torrent, data = torrent_and_data
    async with a_world() as world:
        sizes = (1, 1 << 20, (1 << 31) - 1, None)
        kinds = [partial(wrong_metadata, torrent), partial(rejecting_metadata, torrent)]
        kinds += [partial(metadata_peer, torrent, size=size) for size in sizes]
        if bad == "silent":
            kinds = [partial(metadata_peer, torrent, size=len(torrent.info.raw))]
        peers = [await world.peer(kinds[number % len(kinds)]()) for number in range(20)]
        honest = await world.seeder(torrent, data)
        session = await world.session(dht=False)
        handle = await session.add(link_of(torrent, *peers, honest), metadata_only=True)
        with trio.fail_after(30):
            assert (await handle.metadata()).info == torrent.info


async def test_seeders_may_come_and_go(autojump_clock):
    async with a_world() as world:
        hosts = [world.host() for _ in range(4)]
        peers = [await world.seeder(TORRENT, DATA, host=host, up_limit=40_000) for host in hosts]
        session = await world.session(dht=False)
        handle = await session.add(link_of(TORRENT, *peers))

        async def shake() -> None:
            while True:
                for host in hosts:
                    await trio.sleep(1.7)
                    host.unplug()
                    await trio.sleep(0.3)
                    host.plug()

        world.nursery.start_soon(shake)
        with trio.fail_after(600):
            await handle.finished()
        assert bytes(world.stores[session].last.data) == DATA


async def test_whoever_connects_and_says_nothing_useful_is_sent_away(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(TORRENT, DATA, dht=False)
        host = world.host()
        streams = [await host.connect(seeder) for _ in range(3)]
        await streams[0].send_all([b"GET / HTTP/1.1\r\n\r\n" + bytes(100)])
        await streams[1].send_all([b"\x13BitTorrent protocol" + bytes(8) + b"\xee" * 20 + bytes(20)])
        with trio.fail_after(1):
            assert await streams[1].receive_into(memoryview(bytearray(10))) == 0
        with trio.fail_after(11):
            assert await streams[2].receive_into(memoryview(bytearray(10))) == 0
            # What is no plain handshake may become an encrypted one: it gets our public key, and no more than that.
            got = 0
            while count := await streams[0].receive_into(memoryview(bytearray(1000))):
                got += count
            assert got <= 96 + 512


async def test_where_encryption_is_off_only_plain_handshakes_are_listened_to(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(TORRENT, DATA, dht=False, encryption="off")
        stream = await world.host().connect(seeder)
        await stream.send_all([b"GET / HTTP/1.1\r\n\r\n" + bytes(100)])
        with trio.fail_after(1):
            assert await stream.receive_into(memoryview(bytearray(10))) == 0


async def test_too_many_who_say_nothing_are_not_let_in(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(TORRENT, DATA, dht=False)
        session = await world.session(dht=False)
        host = world.host()
        streams = []
        for _ in range(300):
            streams.append(await host.connect(seeder))
        await trio.sleep(1)
        seeding = world.internet.at(seeder.host)
        assert seeding is not None
        assert len(seeding.streams) <= 140
        handle = await session.add(link_of(TORRENT, seeder))
        with trio.fail_after(120):
            await handle.finished()


# nothing can be done: it says what and why


async def test_dht_unreachable(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        world.internet.host("80.0.0.1")
        session = await world.session(patience_s=PATIENCE_S)
        start = trio.current_time()
        error = await verdict_of(world, session, metadata_only=True)
        assert error.verdict is Verdict.DHT_UNREACHABLE
        assert error.counts.routers_tried >= 1
        assert error.counts.routers_answered == error.counts.nodes_answered == 0
        assert PATIENCE_S <= trio.current_time() - start < PATIENCE_S + 2


async def test_no_peers(autojump_clock):
    async with a_world() as world:
        session = await world.session(patience_s=PATIENCE_S)
        error = await verdict_of(world, session, metadata_only=True)
        assert error.verdict is Verdict.NO_PEERS
        assert error.counts.nodes_answered >= 1
        assert error.counts.found_total == 0


async def test_peers_unreachable(autojump_clock):
    async with a_world() as world:
        session = await world.session(patience_s=PATIENCE_S)
        refuses = Endpoint(world.host().addresses[0], 6881)
        behind_nat = Endpoint(world.host(nat=True).addresses[0], 6881)
        mute = await world.peer(silent)
        error = await verdict_of(world, session, refuses, behind_nat, mute)
        assert error.verdict is Verdict.PEERS_UNREACHABLE
        assert error.counts.found == {"peer": 3}
        assert error.counts.refused >= 1
        assert error.counts.timed_out >= 1
        assert error.counts.handshake_failed >= 1


async def test_dead_peers_that_the_dht_names_again_and_again_are_no_news(autojump_clock):
    async with a_world() as world:
        dead = world.new_session()
        async with dead:
            handle = await dead.add(TORRENT)
            await trio.sleep(30)
            assert handle.status().counts.nodes_answered
        session = await world.session(patience_s=200)
        start = trio.current_time()
        error = await verdict_of(world, session, metadata_only=True)
        assert error.verdict is Verdict.PEERS_UNREACHABLE
        assert error.counts.found == {"dht": 1}
        assert trio.current_time() - start < 210


async def test_no_metadata_peers(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        session = await world.session(patience_s=PATIENCE_S, dht=False)
        peers = [await world.peer(metadata_peer(TORRENT)), await world.peer(rejecting_metadata(TORRENT))]
        error = await verdict_of(world, session, *peers, metadata_only=True)
        assert error.verdict is Verdict.NO_METADATA_PEERS
        assert error.counts.without_metadata >= 1
        assert error.counts.metadata_rejected >= 1


async def test_bad_metadata(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        session = await world.session(patience_s=PATIENCE_S, dht=False)
        error = await verdict_of(world, session, await world.peer(wrong_metadata(TORRENT)), metadata_only=True)
        assert error.verdict is Verdict.BAD_METADATA
        assert error.counts.metadata_hash_failures >= 1
        assert error.counts.banned >= 1


async def test_stalled(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        session = await world.session(patience_s=PATIENCE_S, dht=False)
        error = await verdict_of(world, session, await world.seeder(TORRENT, DATA, store=StallingStore, dht=False))
        assert isinstance(error, DownloadError)
        assert error.verdict is Verdict.STALLED


async def test_patience_is_not_lost_while_bytes_come(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(TORRENT, DATA, dht=False, up_limit=2_000)
        session = await world.session(patience_s=20, dht=False)
        handle = await session.add(link_of(TORRENT, seeder))
        await handle.finished()
        assert handle.status().elapsed_s > 100


async def test_the_deadline_holds_whatever_comes(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(TORRENT, DATA, dht=False, up_limit=2_000)
        session = await world.session(deadline_s=30.0, patience_s=0, dht=False)
        handle = await session.add(link_of(TORRENT, seeder))
        with pytest.raises(DownloadError) as caught:
            await handle.finished()
        assert caught.value.verdict is Verdict.STALLED
        assert handle.status().elapsed_s == pytest.approx(30, abs=0.1)
        assert handle.status().downloaded > 0


async def test_without_patience_it_waits_for_ever(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        session = await world.session(patience_s=0, dht=False)
        handle = await session.add(link_of(TORRENT))
        with trio.move_on_after(5_000):
            await handle.finished()
        assert handle.status().phase is Phase.METADATA
        assert handle.status().quiet_s >= 4_900


async def test_a_full_disk_stops_the_torrent_and_keeps_what_is_verified(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(TORRENT, DATA, dht=False)
        session = world.new_session(dht=False)
        stores = world.stores[session]
        make = stores.make

        def full(info, data):
            store = make(info, data)
            store.fails_after = 3
            return store

        stores.make = full
        async with session:
            handle = await session.add(link_of(TORRENT, seeder))
            with pytest.raises(DownloadError, match="No space left") as caught:
                await handle.finished()
            assert caught.value.verdict is Verdict.DISK
            assert handle.status().phase is Phase.FAILED
            assert stores.last.written == 3
            assert stores.last.closed == 1
            kept = len(DATA) - stores.last.data.count(0) - 3 * 256
            assert not world.hosts[session].streams
            # Space came back: what was kept is kept.
            stores.make = make
            again = await session.add(link_of(TORRENT, seeder))
            await again.finished()
            assert bytes(stores.last.data) == DATA
            assert again.status().downloaded <= len(DATA) - kept < len(DATA)


async def test_a_disk_that_fails_under_a_seeder_ends_it_with_its_reason(autojump_clock):
    class BrokenStore(Store):
        async def read_into(self, requests, views):
            raise DiskError("cannot read /x: Input/output error")

    async with a_world(dht_nodes=0) as world:
        session = world.new_session(dht=False)
        leecher = await world.session(dht=False)
        world.stores[session].make = BrokenStore
        world.stores[session].kept[TORRENT.info.raw] = DATA
        async with session:
            handle = await session.add(TORRENT, seed=True)
            await handle.finished()
            here = Endpoint(world.hosts[session].addresses[0], session.endpoints[0].port)
            await leecher.add(link_of(TORRENT, here))
            with trio.fail_after(60):
                events = [event async for event in handle.events()]
            assert isinstance(events[-1], Failed)
            assert events[-1].error.verdict is Verdict.DISK
            assert "Input/output" in str(events[-1].error)
            assert world.stores[session].last.closed == 1
