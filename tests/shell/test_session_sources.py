"""Whole sessions that find each other by trackers, the local network, a URL or other peers; and the private law."""

from __future__ import annotations

import random

import pytest
import trio

from magnet import MagnetLink, Session
from magnet.verdict import ResolveError, Verdict
from tests.shell.kit import World, a_world, link_of, make_torrent
from tests.shell.web import HttpTracker, UdpTracker, Web, ok, redirect
from tests.sim.net import Host
from wire.compact import Endpoint
from wire.lsd import GROUP_V4, build
from wire.metainfo import Torrent
from wire.net import Stream
from wire.peer.connection import PeerConnection
from wire.peer.extended import UT_METADATA_ID, UT_PEX_ID, ExtendedHandshake
from wire.peer.messages import ExtendedReceived, HandshakeReceived, PexReceived, Port
from wire.peer.pex import PexMessage, PexPeer

FILES = {"a/b.bin": 200_000}


async def http_tracker(world: World, tracker: Web, host: Host | None = None) -> str:
    host = host or world.host()
    world.nursery.start_soon(tracker.serve, await host.listen(Endpoint(host.addresses[0], 80)))
    return f"http://{host.addresses[0]}/announce"


async def udp_tracker(world: World, tracker: UdpTracker) -> str:
    host = world.host()
    world.nursery.start_soon(tracker.serve, await host.udp(Endpoint(host.addresses[0], 6969)))
    return f"udp://{host.addresses[0]}:6969/announce"


async def downloaded(session: Session, source: MagnetLink | Torrent, within_s: float = 60.0) -> dict[str, int]:
    with trio.fail_after(within_s):
        handle = await session.add(source)
        await handle.finished()
    return {via: count for via, count in handle.status().counts.found.items() if count}


@pytest.mark.parametrize("kind", ["http", "udp"])
@pytest.mark.parametrize("dht", [False, True])
async def test_a_tracker_alone_gets_the_files(autojump_clock: object, kind: str, dht: bool) -> None:
    async with a_world(dht_nodes=3 if dht else 0) as world:
        tracker: HttpTracker | UdpTracker = HttpTracker() if kind == "http" else UdpTracker()
        url = await (http_tracker(world, tracker) if isinstance(tracker, HttpTracker) else udp_tracker(world, tracker))
        torrent, data = make_torrent("t", FILES, trackers=[url])
        await world.seeder(torrent, data, dht=False)
        await trio.sleep(1)
        session = world.new_session(dht=dht)
        async with session:
            handle = await session.add(link_of(torrent, trackers=(url,)))
            with trio.fail_after(30):
                await handle.finished()
            counts = handle.status().counts
            assert dict(counts.found) == {"tracker": 1}
            assert (counts.trackers_asked, counts.trackers_answered) == (1, 1)
            assert handle.metadata_via == "tracker"
            assert world.stores[session].last.data == data
            await trio.sleep(5)
        expected = ["started", "started", "completed", "stopped"] if kind == "http" else [2, 2, 1, 3]
        assert tracker.events == expected


async def test_a_tracker_that_the_user_names(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        tracker = HttpTracker()
        url = await http_tracker(world, tracker)
        torrent, data = make_torrent("t", FILES)
        await world.seeder(torrent, data, dht=False, trackers=(url,))
        await trio.sleep(1)
        assert await downloaded(await world.session(dht=False, trackers=(url,)), link_of(torrent)) == {"tracker": 1}
        silent = await world.session(dht=False, trackers=(url,), use_trackers=False, patience_s=20.0)
        await trio.sleep(1)
        asked = len(tracker.asked)
        handle = await silent.add(link_of(torrent, trackers=(url,)))
        with pytest.raises(ResolveError) as caught:
            await handle.metadata()
        assert caught.value.verdict is Verdict.NO_PEERS
        assert len(tracker.asked) == asked


async def test_a_dead_tracker_and_a_failing_one_are_counted_and_named(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        tracker = HttpTracker()
        url = await http_tracker(world, tracker)
        torrent, _ = make_torrent("t", FILES)
        session = await world.session(dht=False, patience_s=100.0)
        handle = await session.add(link_of(torrent, trackers=(url, "udp://81.9.9.9:1")))
        with pytest.raises(ResolveError) as caught:
            await handle.metadata()
        assert caught.value.verdict is Verdict.NO_PEERS
        assert "1 of 2 trackers answered" in str(caught.value)


async def test_neighbours_find_each_other_without_anybody_else(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        torrent, data = make_torrent("t", FILES)
        lan = [world.internet.host(f"192.168.1.{n}") for n in (2, 3)]
        await world.seeder(torrent, data, host=lan[0], dht=False)
        session = await world.session(host=lan[1], dht=False)
        handle = await session.add(link_of(torrent))
        with trio.fail_after(30):
            await handle.finished()
        assert handle.metadata_via in ("lsd", "incoming")  # each hears the other; who dials first is chance
        deaf = await world.session(host=world.internet.host("192.168.1.9"), dht=False, lsd=False, patience_s=400.0)
        handle = await deaf.add(link_of(torrent))
        with pytest.raises(ResolveError):
            await handle.metadata()


async def test_a_url_of_the_link_gives_the_metadata_and_its_trackers_the_peers(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        tracker, web = HttpTracker(), Web()
        url = await http_tracker(world, tracker)
        torrent, data = make_torrent("t", FILES, trackers=[url])
        other, _ = make_torrent("other", FILES)
        web.answers |= {
            "/t.torrent": ok(torrent.to_bytes()),
            "/other": ok(other.to_bytes()),
            "/": redirect("/t.torrent"),
        }
        site = (await http_tracker(world, web)).removesuffix("/announce")
        await world.seeder(torrent, data, dht=False)
        await trio.sleep(1)
        session = await world.session(dht=False)
        handle = await session.add(link_of(torrent, sources=(f"{site}/other", f"{site}/none", f"{site}/")))
        with trio.fail_after(30):
            await handle.finished()
        assert handle.metadata_via == "url"
        assert dict(handle.status().counts.found) == {"tracker": 1}


async def test_a_url_of_the_link_does_not_lead_inside(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        torrent, _ = make_torrent("t", FILES)
        inside = Web()
        host = world.internet.host("81.200.1.1", "10.0.0.1", "127.0.0.1")
        for address in host.addresses:
            world.nursery.start_soon(inside.serve, await host.listen(Endpoint(address, 80)))
        world.internet.names["inside.example"] = ["10.0.0.1"]
        session = await world.session(host=host, dht=False, patience_s=200.0)
        urls = ("http://inside.example/x", "http://10.0.0.1/reboot?now=1", "http://169.254.169.254/latest")
        handle = await session.add(link_of(torrent, sources=urls, trackers=("http://inside.example/announce",)))
        with pytest.raises(ResolveError):
            await handle.metadata()
        assert inside.asked == []


# the private law (BEP 27)


class Listener:
    """Hears what a host of its own says of a torrent to the DHT and the local network."""

    def __init__(self, world: World, host: Host, swarm_id: bytes) -> None:
        self.world, self.host, self.swarm_id = world, host, swarm_id
        self.told: list[tuple[float, bytes]] = []
        udp = host.udp

        async def overheard(at: Endpoint):  # what is sent over the sockets that it opens from now on
            socket = await udp(at)
            send = socket.send

            def sent(data: bytes, to: Endpoint) -> bool:
                if swarm_id in bytes(data):
                    self.told.append((trio.current_time(), bytes(data)))
                return send(data, to)

            socket.send = sent
            return socket

        host.udp = overheard  # type: ignore[method-assign]

    def local(self) -> list[float]:
        sockets = self.world.internet.groups.get(GROUP_V4, [])
        return [
            at
            for socket in sockets
            if socket.endpoint.host in self.host.addresses
            for at, data in socket.sent
            if self.swarm_id.hex().encode() in data
        ]


async def test_of_a_private_torrent_nobody_but_its_tracker_hears(autojump_clock: object) -> None:
    async with a_world(dht_nodes=3) as world:
        tracker = HttpTracker()
        url = await http_tracker(world, tracker)
        torrent, data = make_torrent("t", FILES, trackers=[url], private=True)
        swarm_id = torrent.info.info_hash.swarm_ids[0]
        host = world.host()
        listener = Listener(world, host, swarm_id)
        await world.seeder(torrent, data)
        await trio.sleep(1)
        session = await world.session(host=host)
        assert await downloaded(session, torrent) == {"tracker": 1}
        await trio.sleep(400)
        assert listener.told == []
        assert listener.local() == []
        assert tracker.events.count("completed") == 1


async def test_from_the_second_the_flag_is_known_dht_pex_and_lsd_are_silent(autojump_clock: object) -> None:
    async with a_world(dht_nodes=3) as world:
        tracker = HttpTracker()
        url = await http_tracker(world, tracker)
        torrent, data = make_torrent("t", FILES, trackers=[url], private=True)
        host = world.host()
        listener = Listener(world, host, torrent.info.info_hash.swarm_ids[0])
        session = await world.session(host=host)
        handle = await session.add(link_of(torrent, trackers=(url,)))
        await trio.sleep(20)
        assert listener.told
        assert listener.local()
        heard: list[object] = []
        await world.seeder(torrent, data)
        peer = await world.peer(pex_peer(torrent, 3, heard=heard))
        tracker.swarms.setdefault(torrent.info.info_hash.swarm_ids[0], {})[peer] = None
        with trio.fail_after(3000):
            await handle.metadata()
        known = trio.current_time()
        await trio.sleep(2)
        handle.runner.found([peer], "tracker")
        await trio.sleep(400)
        assert [at for at, data in listener.told if at > known + 1.0 and data[:1] == b"d"] == []
        assert [at for at in listener.local() if at > known + 1.0] == []
        assert any(isinstance(event, HandshakeReceived) for event in heard)
        assert not any(isinstance(event, PexReceived | Port) for event in heard)
        assert not any(event.remote.ut_pex for event in heard if isinstance(event, ExtendedReceived))
        assert not any(event.dht for event in heard if isinstance(event, HandshakeReceived))
        assert handle.status().counts.found.get("pex", 0) == 0


# too many, or one too often


def pex_peer(torrent: Torrent, count: int, *, heard: list[object] | None = None, victim: str | None = None):
    """A peer without pieces or metadata that names `count` others, or as many ports of one victim."""

    async def behave(stream: Stream) -> None:
        mine = ExtendedHandshake(ut_metadata=UT_METADATA_ID, ut_pex=UT_PEX_ID)
        connection = PeerConnection(
            peer_id=b"-XX0000-pexpexpexpex", info_hash=None, extended=mine, now=trio.current_time()
        )
        while came := await stream.receive_into(connection.buffer()):
            for event in connection.received(came, trio.current_time()):
                if heard is not None:
                    heard.append(event)
                if isinstance(event, HandshakeReceived):
                    connection.accept(torrent.info.info_hash.swarm_ids[0])
                    connection.bitfield(None)
                elif isinstance(event, ExtendedReceived) and connection.remote.ut_pex:
                    peers = [
                        Endpoint(victim, 1000 + n) if victim else Endpoint(f"90.{n >> 8}.{n & 255}.1", 6881)
                        for n in range(count)
                    ]
                    connection.pex(PexMessage(tuple(PexPeer(peer, 0) for peer in peers), ()).encode())
            if out := connection.outgoing():
                await stream.send_all(out)

    return behave


async def test_who_names_ten_thousand_peers_is_believed_a_few(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        torrent, _ = make_torrent("t", FILES)
        crowd = [Endpoint(f"91.{n >> 8}.{n & 255}.1", 6881) for n in range(10_000)]
        url = await http_tracker(world, HttpTracker(*crowd))
        one = await world.peer(pex_peer(torrent, 9_000))  # a longer message ends the connection
        host = world.host()
        session = await world.session(host=host, dht=False, patience_s=0.0)
        handle = await session.add(link_of(torrent, one, trackers=(url,)))
        second_before = 0
        for _ in range(60):
            await trio.sleep(1)
            dialled = sum(count for to, count in host.dialled.items() if to.port == 6881)
            assert dialled - second_before <= 30
            second_before = dialled
        found = handle.status().counts.found
        assert 0 < found["pex"] <= 200
        assert 0 < found["tracker"] <= 1000
        assert len(handle.runner.swarm.candidates) <= 3200


@pytest.mark.parametrize("most", [60, 5000])
async def test_many_torrents_dial_no_faster_than_one_and_leave_each_other_room(
    autojump_clock: object, most: int
) -> None:
    async with a_world(dht_nodes=0) as world:
        crowd = [Endpoint(f"91.{n >> 8}.{n & 255}.1", 6881) for n in range(3000)]
        url = await http_tracker(world, HttpTracker(*crowd))
        host = world.host()
        session = await world.session(host=host, dht=False, patience_s=0.0, max_connections=most)
        handles = [await session.add(link_of(make_torrent(f"t{n}", FILES)[0], trackers=(url,))) for n in range(8)]
        connections = handles[0].runner.swarm.crowd
        before = 0
        for second in range(60):
            await trio.sleep(1)
            dialled = sum(handle.status().counts.dialled for handle in handles)
            assert second < 30 or dialled - before <= 31, second  # at both ends of a second one may be
            before = dialled
            assert connections.count <= most
        assert all(handle.status().counts.dialled > 0 for handle in handles)
        for handle in handles:
            await handle.remove()
        assert connections.count == 0


async def test_a_victim_that_is_named_a_thousand_times_is_dialled_thrice(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        torrent, _ = make_torrent("t", FILES)
        victim = world.host()
        address = victim.addresses[0]
        url = await http_tracker(world, HttpTracker(*(Endpoint(address, 1000 + n) for n in range(1000))))
        one = await world.peer(pex_peer(torrent, 1000, victim=address))
        host = world.host()
        session = await world.session(host=host, dht=False, patience_s=0.0)
        await session.add(link_of(torrent, one, trackers=(url,)))
        await trio.sleep(1200)
        dialled = {to: count for to, count in host.dialled.items() if to.host == address}
        assert 0 < sum(dialled.values()) <= 3
        assert len(dialled) <= 3


async def test_a_neighbour_that_shouts_does_no_harm(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        torrent, _ = make_torrent("t", FILES)
        host, loud = world.internet.host("192.168.1.2"), world.internet.host("192.168.1.3")
        session = await world.session(host=host, dht=False, patience_s=0.0)
        handle = await session.add(link_of(torrent))
        socket = await loud.multicast(GROUP_V4, "0.0.0.0")
        rng = random.Random(1)
        swarm_id = torrent.info.info_hash.swarm_ids[0]
        for n in range(2000):
            (packet,) = build(GROUP_V4, 1 + n, [swarm_id], "c")
            socket.send(packet, GROUP_V4)
            socket.send(rng.randbytes(rng.randrange(1500)), GROUP_V4)
            await trio.sleep(0.01)
        assert handle.status().counts.found.get("lsd", 0) <= 3
