"""Everything through a SOCKS5 proxy, or nothing at all: what goes, what does not, what is said when it is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from magnet import Config, Session
from magnet.doctor import examine
from magnet.findings import Finding
from tests.shell.kit import ROUTER, Stores, World, a_world, link_of, make_torrent
from tests.shell.socks_server import SocksServer, exactly
from tests.shell.test_web_seeds import Mirror
from tests.shell.web import HttpTracker, UdpTracker
from tests.sim.net import Host
from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.metainfo import Torrent
from wire.net import Buffer, Datagrams, Listener, Stream
from wire.proxied import ProxiedNetwork
from wire.socks import Proxy, ProxyError

AT = Endpoint("80.7.7.7", 1080)
FILES = {"a.bin": 300_000}


class Watched:
    """A machine that notes everything it does in the outer world but for talking to the proxy."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.leaks: list[str] = []

    async def connect(self, to: Endpoint) -> Stream:
        if to != AT:
            self.leaks.append(f"connect {to}")
        return await self.host.connect(to)

    async def udp(self, at: Endpoint) -> Datagrams:
        return _Watched(await self.host.udp(at), self.leaks)  # type: ignore[return-value]

    async def multicast(self, group: Endpoint, at: str) -> Datagrams:
        self.leaks.append(f"multicast {group}")
        return await self.host.multicast(group, at)

    def global_ipv6(self) -> str | None:
        return self.host.global_ipv6()

    async def listen(self, at: Endpoint) -> Listener:
        self.leaks.append(f"listen {at}")
        return await self.host.listen(at)

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        if host != AT.host:
            self.leaks.append(f"resolve {host}")
        return await self.host.resolve(host, port)


class _Watched:
    def __init__(self, inner: Datagrams, leaks: list[str]) -> None:
        self.inner, self.leaks = inner, leaks
        self.endpoint, self.receive, self.close = inner.endpoint, inner.receive, inner.close

    def send(self, data: Buffer, to: Endpoint) -> bool:
        if to.host != AT.host:
            self.leaks.append(f"send {to}")
        return self.inner.send(data, to)

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        return [to for data, to in batch if not self.send(data, to)]


class Place:
    """A world with a proxy in it, and a machine that knows no other way."""

    def __init__(self, world: World, server: SocksServer, host: Host) -> None:
        self.world, self.server, self.host = world, server, host
        self.machine = Watched(world.host())
        self.scope: trio.CancelScope | None = None

    async def up(self) -> None:
        """The proxy serves, until `down`."""
        listener = await self.host.listen(AT)
        self.scope = trio.CancelScope()

        async def serve() -> None:
            assert self.scope is not None
            with self.scope:
                await self.server.serve(listener)

        self.world.nursery.start_soon(serve)

    def down(self) -> None:
        assert self.scope is not None
        self.scope.cancel()

    @asynccontextmanager
    async def session(self, *, proxy: Proxy | None = None, **config: object) -> AsyncIterator[Session]:
        settings = self.world.config(proxy=proxy or Proxy(*AT), bootstrap=(("router.example", 6881),), **config)
        stores = self.stores = Stores()
        async with Session(settings, network=self.machine, store_factory=stores) as session:  # type: ignore[arg-type]
            yield session


@asynccontextmanager
async def a_place(
    *, dht_nodes: int = 4, login: tuple[str, str] | None = None, udp: bool = True
) -> AsyncIterator[Place]:
    async with a_world(dht_nodes=dht_nodes) as world:
        host = world.internet.host(AT.host)
        world.internet.names["router.example"] = [ROUTER]
        place = Place(world, SocksServer(host, AT.host, login=login, udp=udp), host)
        await place.up()
        yield place


@pytest.mark.parametrize("login", [None, ("me", "pa:ss@")])
async def test_dht_peers_and_all_of_a_download_go_through_it_alone(
    autojump_clock: object, login: tuple[str, str] | None
) -> None:
    async with a_place(login=login) as place:
        torrent, data = make_torrent("t", FILES)
        await place.world.seeder(torrent, data)
        await trio.sleep(5)
        proxy = Proxy(AT.host, AT.port, *login) if login else None
        async with place.session(proxy=proxy) as session:
            handle = await session.add(link_of(torrent))
            with trio.fail_after(60):
                await handle.finished()
            assert handle.status().counts.found["dht"] == 1
            assert bytes(place.stores.last.data) == data
        assert place.machine.leaks == []
        assert ("router.example", 6881) in place.server.sent, "names are told as names"


async def test_trackers_web_seeds_and_their_names_go_through_it_alone(autojump_clock: object) -> None:
    async with a_place(dht_nodes=0) as place:
        world = place.world
        torrent, data = make_torrent("t", FILES)
        web, udp, mirror = HttpTracker(), UdpTracker(), Mirror(torrent, data)
        for address, name, server in (("80.6.0.1", "http.example", web), ("80.6.0.2", "mirror.example", mirror)):
            host = world.internet.host(address)
            world.internet.names[name] = [address]
            world.nursery.start_soon(server.serve, await host.listen(Endpoint(address, 80)))
        host = world.internet.host("80.6.0.3")
        world.internet.names["udp.example"] = ["80.6.0.3"]
        world.nursery.start_soon(udp.serve, await host.udp(Endpoint("80.6.0.3", 6969)))
        trackers = ("http://http.example/announce", "udp://udp.example:6969/announce")
        async with place.session(dht=False, trackers=trackers) as session:
            handle = await session.add(Torrent.of(torrent.info, web_seeds=["http://mirror.example/"]))
            with trio.fail_after(60):
                await handle.finished()
            await trio.sleep(5)
            assert handle.status().counts.trackers_answered == 2
        assert web.events[0] == "started"
        assert web.events[-1] == "stopped"
        assert udp.events == [2, 3] or udp.events == [2, 1, 3], "said through the proxy too"
        assert mirror.asked
        assert place.machine.leaks == []
        asked = {host for host, _ in place.server.asked} - {AT.host}  # where the trackers saw us
        assert asked == {"http.example", "mirror.example"}


async def test_when_it_dies_everything_stops_with_one_line_and_goes_on_when_it_is_back(autojump_clock: object) -> None:
    async with a_place(dht_nodes=0) as place:
        torrent, data = make_torrent("t", {"big": 3_000_000})
        peer = await place.world.seeder(torrent, data, dht=False)
        async with place.session(dht=False, peers=((peer.host, peer.port),), down_limit=300_000) as session:
            handle = await session.add(torrent)
            await trio.sleep(3)
            assert handle.status().peers == 1
            assert session.trouble is None
            place.down()
            await trio.sleep(30)
            status = handle.status()
            assert status.peers == 0
            assert status.trouble == session.trouble
            assert str(session.trouble).startswith("the proxy 80.7.7.7:1080 ")
            assert "\n" not in str(session.trouble)
            assert (status.counts.refused, status.counts.timed_out) == (0, 0), "the peer has no part in it"
            before = status.downloaded
            await trio.sleep(30)
            assert handle.status().downloaded == before
            await place.up()
            with trio.fail_after(120):
                await handle.finished()
            assert session.trouble is None
            assert bytes(place.stores.last.data) == data
        assert place.machine.leaks == []


async def test_the_dht_comes_back_with_it(autojump_clock: object) -> None:
    async with a_place() as place:
        torrent, data = make_torrent("t", FILES)
        await place.world.seeder(torrent, data)
        async with place.session() as session:
            assert session.node is not None
            with trio.fail_after(20):
                await session.node.wait_joined()
            place.down()
            await trio.sleep(20)
            assert session.trouble is not None
            await place.up()
            await trio.sleep(10)
            handle = await session.add(link_of(torrent))
            with trio.fail_after(120):
                await handle.finished()
        assert place.machine.leaks == []


async def test_a_proxy_without_datagrams_still_carries_streams_and_says_so(autojump_clock: object) -> None:
    async with a_place(udp=False) as place:
        torrent, data = make_torrent("t", FILES)
        peer = await place.world.seeder(torrent, data)
        async with place.session(peers=((peer.host, peer.port),)) as session:
            assert "no DHT" in str(session.trouble)
            handle = await session.add(torrent)
            with trio.fail_after(60):
                await handle.finished()
        assert place.machine.leaks == []


async def refused(proxy: Proxy, place: Place) -> str:
    with pytest.raises(NetworkError) as caught:
        async with place.session(proxy=proxy):
            pass
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ProxyError)
    return str(caught.value)


async def test_what_is_said_of_a_proxy_that_does_not_serve_us(autojump_clock: object) -> None:
    async with a_place(dht_nodes=0, login=("me", "right")) as place:
        assert "does not accept the user or the password" in await refused(Proxy(*AT, "me", "wrong"), place)
        assert "asks for a user and a password" in await refused(Proxy(*AT), place)
        place.down()
        await trio.sleep(1)
        assert "cannot be reached" in await refused(Proxy(*AT), place)
        for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x04\x5a" + bytes(6), b""):
            listener = await place.host.listen(AT)
            place.world.nursery.start_soon(_say, listener, answer)
            text = await refused(Proxy(*AT), place)
            assert "no SOCKS5 proxy" in text if answer else "hung up" in text
            listener.close()
        listener = await place.host.listen(AT)
        place.world.nursery.start_soon(_say, listener, None)
        assert "does not answer" in await refused(Proxy(*AT), place)
        assert place.machine.leaks == []


async def _say(listener: Listener, answer: bytes | None) -> None:
    stream = await listener.accept()
    try:
        await exactly(stream, 3)
        if answer is None:
            await trio.sleep_forever()
        await stream.send_all([answer or b""])
        await trio.sleep(1)
    finally:
        stream.close()


async def test_what_the_proxy_cannot_reach_is_the_peers_failure_not_its_own(autojump_clock: object) -> None:
    async with a_place(dht_nodes=0) as place:
        network = ProxiedNetwork(place.machine, Proxy(*AT))  # type: ignore[arg-type]
        with pytest.raises(NetworkError, match="connection was refused") as caught:
            await network.connect(Endpoint(AT.host, 4))
        assert not isinstance(caught.value, ProxyError)
        assert network.trouble is None
        (one,) = await network.resolve("a.example", 1)
        assert await network.resolve("A.example.", 2) == [Endpoint(one.host, 2)]
        for number in range(1000):
            await network.resolve(f"n{number}.example", 1)
        assert len(network._names) <= 250
        for wrong in ("", "a b", "ü.example", "x" * 300):
            with pytest.raises(NetworkError):
                await network.resolve(wrong, 1)


def test_the_settings_take_a_proxy() -> None:
    assert Config(proxy=Proxy("127.0.0.1")).proxy == Proxy("127.0.0.1", 1080)


@pytest.mark.parametrize("udp", [True, False])
async def test_the_doctor_looks_through_it_alone(autojump_clock: object, udp: bool) -> None:
    async with a_place(udp=udp) as place:
        found: dict[str, Finding] = {}

        async def visit() -> None:
            found.clear()
            config = Config(proxy=Proxy(*AT), bootstrap=(("router.example", 6881),), state_dir=None)
            await examine(config, lambda one: found.setdefault(one.name, one), network=place.machine)  # type: ignore[arg-type,func-returns-value]

        await visit()
        assert found["proxy"].state == "ok"
        assert found["udp"].state == found["dht"].state == ("ok" if udp else "broken")
        assert "around a proxy" in found["port mapping"].text
        if udp:
            assert found["IPv4 address"].facts["address"] == AT.host, "it is the proxy that they see"
            assert "IPv4 NAT" not in found
        place.down()
        await trio.sleep(1)
        await visit()
        assert found["proxy"].state == "broken"
        assert list(found)[-1] == "proxy", "and nothing goes around it"
        assert place.machine.leaks == []


async def test_nobody_is_told_an_address_behind_it(autojump_clock: object) -> None:
    async with a_place() as place, place.session() as session:
        assert session.endpoints
        assert session.dialable == ()
