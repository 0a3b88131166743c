"""A port mapped at gateways of all kinds, renewed, and taken back; and gateways that refuse, lie or are not there."""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from magnet.config import Config
from magnet.mapping import mapper_for
from magnet.nursery import open_plain_nursery
from tests.sim.net import Host, Internet
from wire.compact import Endpoint
from wire.errors import NetworkError, ProtocolError
from wire.portmap import mapper, pcp
from wire.portmap.mapper import PortMapper
from wire.portmap.upnp_words import Answer, Errand, Verb
from wire.socks import Proxy
from wire.trio_net import TrioNetwork

GATEWAY = "192.168.1.1"
PORT = 6881


class Gateway:
    """Speaks what it is told to; `open` holds the mappings and when they end."""

    def __init__(self, host: Host, *, pcp: bool = False, nat_pmp: bool = False, upnp: bool = False) -> None:
        self.host, self.pcp, self.nat_pmp, self.upnp = host, pcp, nat_pmp, upnp
        self.open: dict[tuple[int, int], float] = {}
        self.lease_s = 3600
        self.refusal = 0
        self.shifted = 0
        self.asked: list[str] = []
        self.location = f"http://{GATEWAY}:5000/root.xml"
        self.errands: list[Errand] = []

    def note(self, protocol: int, port: int, lease_s: float) -> None:
        if lease_s:
            self.open[protocol, port] = trio.current_time() + lease_s
        else:
            self.open.pop((protocol, port), None)

    async def mappings(self) -> None:
        socket = await self.host.udp(Endpoint(GATEWAY, pcp.PORT))
        while True:
            for data, sender in await socket.receive():
                if data[0] == 2 and self.pcp:
                    self.asked.append("pcp")
                    (lease_s,) = struct.unpack_from(">I", data, 4)
                    protocol, port = struct.unpack_from(">B3xH", data, 36)
                    lease_s = min(lease_s, self.lease_s)
                    if not self.refusal:
                        self.note(protocol, port, lease_s)
                    body = data[24:36] + struct.pack(">B3xHH", protocol, port, port + self.shifted)
                    outside = b"\0" * 10 + b"\xff\xff" + bytes([80, 9, 9, 9])
                    socket.send(
                        struct.pack(">BBBBII12x", 2, 0x81, 0, self.refusal, lease_s, 1) + body + outside, sender
                    )
                elif data[0] == 2 and self.nat_pmp:
                    socket.send(b"\0\x81\0\1" + bytes(4), sender)
                elif data[0] == 0 and self.nat_pmp:
                    self.asked.append("nat-pmp")
                    if data[1] == 0:
                        socket.send(b"\0\x80\0\0" + bytes(4) + bytes([80, 9, 9, 9]), sender)
                        continue
                    port, _, lease_s = struct.unpack_from(">HHI", data, 4)
                    self.note(17 if data[1] == 1 else 6, port, lease_s)
                    head = struct.pack(">BBHI", 0, data[1] | 0x80, self.refusal, 1)
                    socket.send(head + struct.pack(">HHI", port, port, lease_s), sender)

    async def errand(self, errand: Errand) -> Answer:
        """What its process would bring back."""
        await trio.sleep(0.3)
        self.errands.append(errand)
        if not self.upnp:
            raise ProtocolError("no gateway answers")
        if self.refusal:
            raise ProtocolError(f"it says {self.refusal} No")
        if errand.location not in (None, self.location):
            raise NetworkError("it cannot be asked")
        assert errand.own == "192.168.1.2"
        for protocol in (6, 17):
            self.note(protocol, errand.port, errand.lease_s if errand.verb is Verb.MAP else 0)
        return Answer(self.location, "80.9.9.9")


@asynccontextmanager
async def a_network(**kinds: bool) -> AsyncIterator[tuple[Gateway, PortMapper]]:
    internet = Internet(random.Random(1), delay_s=0.002)
    host = internet.host("192.168.1.2")
    gateway = Gateway(internet.host(GATEWAY), **kinds)
    async with open_plain_nursery() as nursery:
        nursery.start_soon(gateway.mappings)
        one = PortMapper(host, PORT, random.Random(2), own="192.168.1.2", gateway=GATEWAY, upnp=gateway.errand)
        yield gateway, one


BOTH = {(6, PORT), (17, PORT)}


@asynccontextmanager
async def running(port_mapper: PortMapper) -> AsyncIterator[trio.CancelScope]:
    async with open_plain_nursery() as nursery:
        nursery.start_soon(port_mapper.run)
        with trio.fail_after(60):
            await port_mapper.news.wait()
        yield nursery.cancel_scope
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("kind", "way"), [("pcp", "PCP"), ("nat_pmp", "NAT-PMP"), ("upnp", "UPnP")])
async def test_mapped_renewed_and_taken_back(autojump_clock: object, kind: str, way: str) -> None:
    async with a_network(**{kind: True}) as (gateway, one):
        async with running(one):
            assert one.mapping == mapper.Mapping(way, PORT, "80.9.9.9")
            assert set(gateway.open) == BOTH
            first = dict(gateway.open)
            await trio.sleep(mapper.LEASE_S * 3)
            assert all(gateway.open[key] > first[key] for key in first), "renewed"
            assert min(gateway.open.values()) > trio.current_time()
            assert len(gateway.asked) < 60
        assert gateway.open == {}, "taken back"
        assert one.mapping is None


async def test_who_is_known_is_not_searched_for_and_who_moved_is(autojump_clock: object) -> None:
    async with a_network(upnp=True) as (gateway, one):
        async with running(one):
            first = gateway.location
            await trio.sleep(mapper.LEASE_S * 0.6)
            gateway.location = second = f"http://{GATEWAY}:5001/root.xml"
            await trio.sleep(mapper.LEASE_S * 0.5)
            assert set(gateway.open) == BOTH
            assert one.mapping is not None
        assert gateway.open == {}
    assert [errand.location for errand in gateway.errands] == [None, first, first, None, second]
    assert [errand.verb for errand in gateway.errands] == [Verb.MAP] * 4 + [Verb.UNMAP]


async def test_without_a_gateway_of_pcp_upnp_alone_is_asked(autojump_clock: object) -> None:
    async with a_network(pcp=True, upnp=True) as (gateway, _):
        one = PortMapper(gateway.host, PORT, random.Random(2), own="192.168.1.2", gateway=None, upnp=gateway.errand)
        async with running(one):
            assert one.mapping == mapper.Mapping("UPnP", PORT, "80.9.9.9")
        assert gateway.asked == []


@pytest.mark.parametrize("kind", ["pcp", "nat_pmp", "upnp"])
async def test_a_refusal_is_said_in_one_line(autojump_clock: object, kind: str) -> None:
    async with a_network(**{kind: True}) as (gateway, one):
        gateway.refusal = 2
        async with running(one):
            assert one.mapping is None
            assert ("it is not allowed" in str(one.trouble)) == (kind != "upnp")
            assert ("it says 2 No" in str(one.trouble)) == (kind == "upnp")
            assert "\n" not in str(one.trouble)
            gateway.refusal = 0
            await trio.sleep(mapper.LOOK_AGAIN_S + 60)
            assert one.mapping is not None, "asked again after a while"


async def test_another_port_than_ours_is_of_no_use(autojump_clock: object) -> None:
    async with a_network(pcp=True) as (gateway, one):
        gateway.shifted = 5
        async with running(one):
            await trio.sleep(1)
            assert one.mapping is None
            assert "it gives port 6886 in place of 6881" in str(one.trouble)
            assert gateway.open == {}


async def test_nobody_there(autojump_clock: object) -> None:
    async with a_network() as (gateway, one), running(one):
        assert one.mapping is None
        assert str(one.trouble).endswith("UPnP: no gateway answers")
        await trio.sleep(mapper.LOOK_AGAIN_S - 60)
        assert len(gateway.errands) == 1
        await trio.sleep(120)
        assert len(gateway.errands) == 2


async def test_a_lease_of_a_second_does_not_make_it_ask_each_second(autojump_clock: object) -> None:
    async with a_network(pcp=True) as (gateway, one):
        gateway.lease_s = 1
        async with running(one):
            before = len(gateway.asked)
            await trio.sleep(600)
            assert len(gateway.asked) - before <= 2 * 11


async def test_who_is_not_the_gateway_is_not_heard(autojump_clock: object) -> None:
    internet = Internet(random.Random(1), delay_s=0.002)
    host, stranger = internet.host("192.168.1.2"), internet.host("192.168.1.66")
    internet.host(GATEWAY)
    one = PortMapper(host, PORT, random.Random(2), own="192.168.1.2", gateway=GATEWAY, upnp=Gateway(host).errand)
    async with open_plain_nursery() as nursery:
        nursery.start_soon(one.run)
        socket = await stranger.udp(Endpoint("192.168.1.66", pcp.PORT))
        for _ in range(100):
            await trio.sleep(0.05)
            for port in range(49152, 49160):
                for action in (0x81, 0x82):
                    head = struct.pack(">BBHI", 0, action, 0, 1)
                    socket.send(head + struct.pack(">HHI", PORT, PORT, 3600), Endpoint("192.168.1.2", port))
        with trio.fail_after(60):
            await one.news.wait()
        assert one.mapping is None
        nursery.cancel_scope.cancel()


def test_where_nothing_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magnet.mapping.default_gateway", lambda: GATEWAY)
    monkeypatch.setattr("magnet.mapping.source_towards", lambda to: "192.168.1.2")
    network, rng = TrioNetwork(), random.Random(1)
    wide, loop = [Endpoint("0.0.0.0", 6881), Endpoint("::", 6881)], [Endpoint("127.0.0.1", 6881)]
    assert mapper_for(Config(), network, wide, rng) is not None
    assert mapper_for(Config(), network, loop, rng) is None
    assert mapper_for(Config(), network, [Endpoint("80.1.2.3", 6881)], rng) is None
    assert mapper_for(Config(port_mapping=False), network, wide, rng) is None
    assert mapper_for(Config(proxy=Proxy("80.1.1.1")), network, wide, rng) is None
    assert mapper_for(Config(bootstrap=(("127.0.0.1", 1),)), network, wide, rng) is None
    assert mapper_for(Config(bootstrap=(("10.1.1.1", 1),)), network, wide, rng) is None
    assert mapper_for(Config(), Internet(rng).host("192.168.1.2"), wide, rng) is None
    monkeypatch.setattr("magnet.mapping.source_towards", lambda to: "80.1.2.3")
    assert mapper_for(Config(), network, wide, rng) is None, "no NAT, no mapping"
