"""Whole sessions, from the link to the verified bytes, over a virtual internet: what works when all behave."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import trio

import magnet
from magnet import Checked, Finished, MetadataReady, Phase, Verdict
from magnet.resolver import resolving
from tests.shell.kit import ROUTER, Store, Stores, a_world, link_of, make_torrent
from wire.compact import Endpoint
from wire.errors import MisuseError, NetworkError, ProtocolError

ONE, ONE_DATA = make_torrent("one.bin", {"one.bin": 300_001})
MANY, MANY_DATA = make_torrent(
    "many", {"a.txt": 10, "empty": 0, "deep/er/b.bin": 150_000, "c.txt": 1, "last.bin": 70_000}
)


async def test_a_bare_link_brings_the_files_from_several_seeders(autojump_clock):
    async with a_world() as world:
        for _ in range(3):
            await world.seeder(MANY, MANY_DATA)
        session = await world.session()
        handle = await session.add(link_of(MANY))
        assert handle.status().phase is Phase.METADATA
        torrent = await handle.metadata()
        assert torrent.info == MANY.info
        await handle.finished()
        assert bytes(world.stores[session].last.data) == MANY_DATA
        status = handle.status()
        assert status.phase is Phase.SEEDING
        assert (status.done, status.size, status.progress) == (len(MANY_DATA), len(MANY_DATA), 1.0)
        assert status.metadata_source == "dht"
        assert status.counts.found.get("dht", 0) >= 1
        assert status.counts.nodes_answered >= 1
        assert status.counts.connected >= 1
        assert status.verdict is None
        assert status.elapsed_s < 60


async def test_what_happens_is_told_once_in_its_order(autojump_clock):
    async with a_world() as world:
        seeder = await world.seeder(MANY, MANY_DATA)
        session = await world.session(dht=False)
        handle = await session.add(link_of(MANY, seeder), directory="there")
        await handle.finished()
        await handle.remove()
        events = [event async for event in handle.events()]
        assert [type(event) for event in events] == [MetadataReady, Checked, Finished]
        assert events[0].torrent.info == MANY.info
        assert events[0].source == "peer"
        assert events[1].have_bytes == 0
        assert events[2].bytes == MANY.size
        assert str(events[2].path) == "there/many"
        assert handle.status().phase is Phase.CANCELLED
        assert session.torrents == ()


async def test_a_link_to_files_without_a_byte_is_resolved_too(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        torrent, data = make_torrent("nothing", {"a": 0, "b/c": 0})
        seeder = await world.seeder(torrent, data, dht=False)
        session = await world.session(dht=False)
        handle = await session.add(link_of(torrent, seeder))
        await handle.finished()
        assert (await handle.metadata()).info == torrent.info


async def test_a_given_peer_is_enough_without_any_dht(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(ONE, ONE_DATA, dht=False)
        session = await world.session(dht=False, peers=(seeder,))
        handle = await session.add(link_of(ONE))
        await handle.finished()
        assert session.node is None
        assert handle.status().counts.dht is False
        assert world.hosts[session].datagrams_to.total() == 0
        assert bytes(world.stores[session].last.data) == ONE_DATA


async def test_a_torrent_needs_no_metadata_and_can_be_its_bytes_in_a_bare_hash_too(autojump_clock):
    async with a_world() as world:
        await world.seeder(ONE, ONE_DATA)
        session = await world.session()
        handle = await session.add(ONE)
        assert (await handle.metadata()) == ONE
        assert handle.metadata_via == "file"
        await handle.finished()
        other = await world.session()
        handle = await other.add(str(ONE.info.info_hash).upper())
        await handle.finished()
        assert bytes(world.stores[other].last.data) == ONE_DATA


async def test_with_metadata_only_no_store_is_made_and_nothing_is_announced(autojump_clock):
    async with a_world() as world:
        await world.seeder(ONE, ONE_DATA)
        session = await world.session()
        handle = await session.add(link_of(ONE, name="shown"), metadata_only=True)
        assert handle.status().name == "shown"
        torrent = await handle.metadata()
        await handle.finished()
        assert torrent.info == ONE.info
        await trio.sleep(10)
        assert world.stores[session].made == []
        assert not world.hosts[session].streams
        assert session.torrents == ()
        # Who searches now finds the seeder alone: the resolver told nobody that it shares the torrent.
        assert session.node is not None
        search = session.node.get_peers(ONE.info.info_hash.swarm_ids[0])
        async with search:
            assert len([endpoint async for endpoint in search]) == 1


async def test_a_link_keeps_its_trackers_and_web_seeds_in_the_torrent(autojump_clock):
    async with a_world() as world:
        seeder = await world.seeder(ONE, ONE_DATA)
        session = await world.session(dht=False)
        link = link_of(
            ONE, seeder, trackers=("http://t.example/a", "udp://u.example:1"), web_seeds=("http://w.example/",)
        )
        handle = await session.add(link, metadata_only=True)
        torrent = await handle.metadata()
        assert torrent.trackers == (("http://t.example/a",), ("udp://u.example:1",))
        assert torrent.web_seeds == ("http://w.example/",)


@pytest.mark.parametrize(
    ("only", "files"),
    [
        (["*.txt"], ["a.txt", "c.txt"]),
        (["DEEP/*"], ["deep/er/b.bin"]),
        (["many/deep/*", "last.*"], ["deep/er/b.bin", "last.bin"]),
    ],
)
async def test_only_the_files_that_a_pattern_picks_are_fetched(autojump_clock, only, files):
    async with a_world() as world:
        seeder = await world.seeder(MANY, MANY_DATA)
        session = await world.session(dht=False)
        handle = await session.add(link_of(MANY, seeder), only=only)
        await handle.finished()
        store = world.stores[session].last
        assert store.wanted is not None
        for wanted, file in zip(store.wanted, MANY.info.files, strict=True):
            there = bytes(store.data[file.offset : file.offset + file.size])
            assert wanted == ("/".join(file.path[1:]) in files)
            if wanted:
                assert there == MANY_DATA[file.offset : file.offset + file.size]
        status = handle.status()
        assert status.size == sum(f.size for f in MANY.info.files if "/".join(f.path[1:]) in files)
        assert status.done == status.size
        assert store.written <= MANY.info.piece_count - (len(files) == 1)


async def test_the_files_that_a_link_selects_are_fetched(autojump_clock):
    async with a_world() as world:
        seeder = await world.seeder(MANY, MANY_DATA)
        session = await world.session(dht=False)
        handle = await session.add(link_of(MANY, seeder, select=((0, 1), (3, 3))))
        await handle.finished()
        assert list(world.stores[session].last.wanted or ()) == [True, True, False, True, False]


async def test_a_pattern_that_picks_nothing_is_bad_input(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        session = await world.session(dht=False)
        handle = await session.add(MANY, only=["*.flac"])
        with pytest.raises(magnet.DownloadError, match=r"no file of 'many' matches \*.flac") as caught:
            await handle.finished()
        assert caught.value.verdict is Verdict.BAD_INPUT


async def test_leechers_finish_from_each_other(autojump_clock):
    torrent, data = make_torrent("shared", {"shared": 1_000_000})
    async with a_world() as world:
        await world.seeder(torrent, data, up_limit=200_000)
        sessions = [await world.session() for _ in range(5)]
        handles = [await session.add(link_of(torrent)) for session in sessions]
        for handle, session in zip(handles, sessions, strict=True):
            await handle.finished()
            assert bytes(world.stores[session].last.data) == data
        assert sum(handle.status().uploaded for handle in handles) > 0
        assert max(handle.status().elapsed_s for handle in handles) < 60


async def test_what_was_there_already_is_not_fetched_again(autojump_clock):
    async with a_world() as world:
        seeder = await world.seeder(ONE, ONE_DATA)
        session = world.new_session(dht=False)
        half = 5 * ONE.info.piece_length
        world.stores[session].kept[ONE.info.raw] = ONE_DATA[:half] + bytes(len(ONE_DATA) - half)
        async with session:
            handle = await session.add(link_of(ONE, seeder))
            await handle.finished()
            assert Checked(half) in [await anext(events) for events in [handle.events()] for _ in range(3)]
            assert handle.status().downloaded <= len(ONE_DATA) - half
            assert bytes(world.stores[session].last.data) == ONE_DATA


async def test_a_seeder_shares_what_it_has_and_fetches_nothing(autojump_clock):
    async with a_world() as world:
        whole = await world.seeder(ONE, ONE_DATA)
        session = world.new_session(dht=False, peers=(whole,))
        world.stores[session].kept[ONE.info.raw] = ONE_DATA[: ONE.info.piece_length] + bytes(
            len(ONE_DATA) - ONE.info.piece_length
        )
        async with session:
            handle = await session.add(ONE, seed=True)
            await handle.finished()
            await trio.sleep(60)
            assert handle.status().phase is Phase.SEEDING
            assert handle.status().done == ONE.info.piece_length
            assert handle.status().downloaded == 0
            assert world.stores[session].last.written == 0


async def test_whoever_has_everything_only_announces(autojump_clock):
    async with a_world() as world:
        await world.seeder(ONE, ONE_DATA)
        session = await world.session()
        handle = await session.add(link_of(ONE))
        await handle.finished()
        await trio.sleep(5)
        searches = handle._work._sources.dht_counts.searches
        await trio.sleep(700)
        assert handle._work._sources.dht_counts.searches == searches
        await trio.sleep(600)
        assert handle._work._sources.dht_counts.searches == searches + 1


async def test_it_can_be_removed_and_added_again(autojump_clock):
    async with a_world() as world:
        seeder = await world.seeder(ONE, ONE_DATA)
        session = await world.session(dht=False)
        handle = await session.add(link_of(ONE, seeder))
        with pytest.raises(MisuseError, match="in this session already"):
            await session.add(link_of(ONE))
        await handle.metadata()
        await handle.remove()
        await handle.remove()
        assert not world.hosts[session].streams
        with pytest.raises(magnet.DownloadError) as caught:
            await handle.finished()
        assert caught.value.verdict is Verdict.CANCELLED
        again = await session.add(link_of(ONE, seeder))
        await again.finished()


async def test_a_private_torrent_is_asked_of_nobody_but_given_peers(autojump_clock):
    secret, data = make_torrent("secret", {"secret": 100_000}, private=True)
    async with a_world() as world:
        seeder = await world.seeder(secret, data)
        session = await world.session(peers=(seeder,))
        handle = await session.add(secret)
        await handle.finished()
        await trio.sleep(500)
        assert handle.status().counts.found == {"peer": 1}
        assert handle.status().counts.dht is False
        assert session.node is not None
        search = session.node.get_peers(secret.info.info_hash.swarm_ids[0])
        async with search:
            assert [endpoint async for endpoint in search] == []


async def test_a_link_that_turns_out_private_leaves_the_dht(autojump_clock):
    secret, data = make_torrent("secret", {"secret": 100_000}, private=True)
    async with a_world() as world:
        seeder = await world.seeder(secret, data)
        session = await world.session()
        handle = await session.add(link_of(secret, seeder))
        await handle.finished()
        searches = handle._work._sources.dht_counts.searches
        await trio.sleep(500)
        assert handle._work._sources.dht_counts.searches == searches <= 2


async def test_many_links_are_resolved_so_many_at_a_time(autojump_clock):
    torrents = [make_torrent(f"t{n}", {f"t{n}": 40_000 + n}) for n in range(12)]
    missing, _ = make_torrent("missing", {"missing": 1})
    async with a_world() as world:
        for torrent, data in torrents:
            await world.seeder(torrent, data)
        session = await world.session(patience_s=30)
        links = [str(link_of(torrent)) for torrent, _ in torrents]
        links[3:3] = [str(link_of(missing)), "magnet:?dn=nothing"]
        results = []
        async with resolving(session, links, jobs=4) as channel:
            async for result in channel:
                assert len(session.torrents) <= 4
                results.append(result)
        good = [result for result in results if result.torrent is not None]
        assert {result.torrent.info for result in good} == {torrent.info for torrent, _ in torrents}
        assert all(result.via == "dht" and result.error is None for result in good)
        bad = {result.source: result.error for result in results if result.error is not None}
        assert set(bad) == set(links[3:5])
        assert isinstance(bad[links[4]], ProtocolError)
        assert isinstance(bad[links[3]], magnet.ResolveError)
        assert bad[links[3]].verdict is Verdict.NO_PEERS
        assert session.torrents == ()


async def test_resolving_can_be_left_early(autojump_clock):
    torrents = [make_torrent(f"t{n}", {f"t{n}": 40_000 + n}) for n in range(6)]
    async with a_world() as world:
        for torrent, data in torrents:
            await world.seeder(torrent, data)
        session = await world.session()
        async with resolving(session, [link_of(torrent) for torrent, _ in torrents], jobs=2) as channel:
            await channel.receive()
        assert session.torrents == ()


async def test_rate_limits_hold_for_the_whole_session(autojump_clock):
    async with a_world() as world:
        seeder = await world.seeder(ONE, ONE_DATA)
        session = await world.session(dht=False, down_limit=20_000)
        handle = await session.add(link_of(ONE, seeder))
        await handle.finished()
        assert 0.6 * len(ONE_DATA) / 20_000 < handle.status().elapsed_s < 3 * len(ONE_DATA) / 20_000


async def test_tcp_and_udp_have_one_port_on_both_families(autojump_clock):
    async with a_world() as world:
        host = world.internet.host("90.0.0.1", "2a01:90::1")
        session = await world.session(host=host)
        ports = {endpoint.port for endpoint in session.endpoints}
        assert len(session.endpoints) == 2
        assert len(ports) == 1
        assert {endpoint.port for endpoint in host.udp_sockets} == ports


async def test_a_machine_without_ipv6_loses_nothing(autojump_clock):
    async with a_world() as world:
        await world.seeder(ONE, ONE_DATA)
        session = await world.session()
        assert len(session.endpoints) == 1
        handle = await session.add(link_of(ONE))
        await handle.finished()


async def test_a_port_in_use_is_one_error_and_leaves_nothing_open(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        host = world.host()
        at = Endpoint(host.addresses[0], 7000)
        for taken in (host.listen, host.udp):
            socket = await taken(at)
            with pytest.raises(NetworkError, match="in use"):
                await world.session(host=host, listen=(at,))
            socket.close()
            assert not host.listeners
            assert not host.udp_sockets


async def test_the_dht_is_joined_by_nodes_that_a_peer_or_a_torrent_names(autojump_clock):
    async with a_world() as world:
        seeder = await world.seeder(ONE, ONE_DATA)
        by_peer = await world.session(bootstrap=())
        await by_peer.add(link_of(ONE, seeder))
        by_torrent = await world.session(bootstrap=())
        await by_torrent.add(replace(MANY, nodes=(("nowhere.example", 1), (ROUTER, 6881))))
        alone = await world.session(bootstrap=())
        await alone.add(MANY)
        await trio.sleep(30)
        assert by_peer.node.joined
        assert by_torrent.node.joined
        assert not alone.node.joined


async def test_errors_come_out_of_a_session_as_themselves(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        session = world.new_session(dht=False, patience_s=5)
        with pytest.raises(magnet.ResolveError) as caught:
            await _resolve_in(session, link_of(ONE))
        assert caught.value.verdict is Verdict.NO_PEERS
        assert caught.value.info_hash == ONE.info.info_hash
        assert not world.hosts[session].listeners


async def test_a_session_that_is_not_open_takes_nothing(autojump_clock):
    with pytest.raises(MisuseError, match="not open"):
        await magnet.Session(magnet.Config(state_dir=None)).add(link_of(ONE))


@pytest.mark.parametrize("seed", range(4))
async def test_it_works_over_a_bad_network(autojump_clock, seed):
    async with a_world(seed, loss=0.2, jitter_s=0.2, duplicate=0.05, fragment=True) as world:
        rng = random.Random(seed)
        await world.seeder(ONE, ONE_DATA)
        await world.seeder(MANY, MANY_DATA)
        session = await world.session()
        handles = [await session.add(link_of(torrent)) for torrent in rng.sample([ONE, MANY], 2)]
        for handle in handles:
            await handle.finished()
        assert sorted(bytes(store.data) for store in world.stores[session].made) == sorted([ONE_DATA, MANY_DATA])


async def test_the_network_may_come_late(autojump_clock):
    async with a_world() as world:
        await world.seeder(ONE, ONE_DATA)
        host = world.host()
        host.up = False
        session = await world.session(host=host)
        handle = await session.add(link_of(ONE))
        await trio.sleep(60)
        host.plug()
        with trio.fail_after(120):
            await handle.finished()


@pytest.mark.parametrize("away_s", [200, 900])
async def test_when_the_network_is_back_those_who_gave_before_are_dialled_soon(autojump_clock, away_s):
    async with a_world() as world:
        for _ in range(2):
            await world.seeder(ONE, ONE_DATA)
        host = world.host()
        session = await world.session(host=host, down_limit=5_000, patience_s=0.0)
        handle = await session.add(link_of(ONE))
        while not handle.status().done:
            await trio.sleep(1)
        host.unplug()
        await trio.sleep(away_s)
        done = handle.status().done
        assert 0 < done < ONE.size
        host.plug()
        with trio.fail_after(30):
            while not handle.status().peers:
                await trio.sleep(1)
        with trio.fail_after(60):
            while handle.status().done == done:
                await trio.sleep(1)


async def _resolve_in(session, link):
    async with session:
        handle = await session.add(link, metadata_only=True)
        await handle.metadata()


def test_the_kit_keeps_what_a_store_held():
    stores = Stores()
    store = stores(ONE.info, None, None, None, False)
    assert isinstance(store, Store)
    store.data[:] = ONE_DATA
    assert bytes(stores(ONE.info, None, None, None, False).data) == ONE_DATA


async def test_a_private_dht_brings_the_files_to_its_own_and_to_nobody_else(autojump_clock):
    async with a_world(dht_nodes=2) as world:
        at = (await world.dht_node(network_name="acme")).endpoints[0]
        inside = {"bootstrap": ((at.host, at.port),), "network": "acme"}
        await world.seeder(ONE, ONE_DATA, **inside)
        handle = await (await world.session(**inside)).add(link_of(ONE))
        with trio.fail_after(60):
            await handle.finished()
        assert handle.status().metadata_source == "dht"
        for outside in ({"bootstrap": ((at.host, at.port),)}, {}, {**inside, "network": "rival"}):
            stranger = await (await world.session(patience_s=30.0, **outside)).add(link_of(ONE))
            with pytest.raises(magnet.ResolveError) as caught:
                await stranger.metadata()
            assert caught.value.verdict in (Verdict.DHT_UNREACHABLE, Verdict.NO_PEERS)
    with pytest.raises(MisuseError, match="network's name"):
        magnet.Config(network="")
