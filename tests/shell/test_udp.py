"""The pump of the shared socket: who gets a datagram, when timers tick, what is sent when."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.sim.net import Host, Internet
from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.net import Buffer
from wire.udp import UdpPump


class Recorder:
    """A tenant that writes down what it is told."""

    def __init__(self, first_bytes: bytes) -> None:
        self.first_bytes = first_bytes
        self.heard: list[tuple[bytes, Endpoint, float]] = []
        self.ticks: list[float] = []
        self.outbox: list[tuple[Buffer, Endpoint]] = []
        self.timer: float | None = None
        self.echo = False

    def claims(self, first_byte: int) -> bool:
        return first_byte in self.first_bytes

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        self.heard.append((data, address, now))
        if self.echo:
            self.outbox.append((data, address))

    def outgoing(self) -> list[tuple[Buffer, Endpoint]]:
        out, self.outbox = self.outbox, []
        return out

    def next_timer(self) -> float | None:
        return self.timer

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        self.timer = None


@asynccontextmanager
async def pumping(host: Host, *tenants: Recorder) -> AsyncIterator[UdpPump]:
    pump = UdpPump(await host.udp(Endpoint("0.0.0.0", 7)))
    for tenant in tenants:
        pump.add(tenant)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        yield pump
        nursery.cancel_scope.cancel()
    pump.close()


@pytest.fixture
def internet() -> Internet:
    return Internet(random.Random(1), delay_s=0.1)


async def test_each_tenant_gets_its_first_bytes(autojump_clock: trio.testing.MockClock, internet: Internet) -> None:
    krpc, utp, late = Recorder(b"d"), Recorder(b"\x01\x21"), Recorder(b"d\x41")
    other = await internet.host("80.2.0.1").udp(Endpoint("0.0.0.0", 9))
    async with pumping(internet.host("80.1.0.1"), krpc, utp, late) as pump:
        for data in (b"d1:xe", b"\x21abc", b"\x41", b"", b"zzz"):
            other.send(data, Endpoint("80.1.0.1", 7))
        await trio.sleep(1)
        assert [[data for data, _, _ in tenant.heard] for tenant in (krpc, utp, late)] == [
            [b"d1:xe"],
            [b"\x21abc"],
            [b"\x41"],
        ]
        assert pump.unclaimed == 2
        assert krpc.heard[0][1] == Endpoint("80.2.0.1", 9)


async def test_answers_leave_with_the_batch_that_asked(
    autojump_clock: trio.testing.MockClock, internet: Internet
) -> None:
    krpc = Recorder(b"d")
    krpc.echo = True
    other = await internet.host("80.2.0.1").udp(Endpoint("0.0.0.0", 9))
    async with pumping(internet.host("80.1.0.1"), krpc):
        start = trio.current_time()
        other.send(b"d!", Endpoint("80.1.0.1", 7))
        assert await other.receive() == [(b"d!", Endpoint("80.1.0.1", 7))]
        assert trio.current_time() - start == pytest.approx(0.2)


async def test_timers_tick_when_they_are_due(autojump_clock: trio.testing.MockClock, internet: Internet) -> None:
    one, two = Recorder(b"d"), Recorder(b"e")
    async with pumping(internet.host("80.1.0.1"), one, two) as pump:
        await trio.sleep(1)
        start = trio.current_time()
        one.timer, two.timer = start + 5, start + 2
        pump.wake()
        await trio.sleep(10)
        assert one.ticks == [pytest.approx(start + 5)]
        assert two.ticks == [pytest.approx(start + 2)]


async def test_a_datagram_that_sets_an_earlier_timer_wakes_the_sleeper(
    autojump_clock: trio.testing.MockClock, internet: Internet
) -> None:
    krpc = Recorder(b"d")
    other = await internet.host("80.2.0.1").udp(Endpoint("0.0.0.0", 9))
    hear = krpc.receive

    def receive(data: bytes, address: Endpoint, now: float) -> None:
        hear(data, address, now)
        krpc.timer = now + 0.5

    krpc.receive = receive  # type: ignore[method-assign]
    async with pumping(internet.host("80.1.0.1"), krpc):
        await trio.sleep(1)
        other.send(b"d", Endpoint("80.1.0.1", 7))
        await trio.sleep(3)
        assert krpc.ticks == [pytest.approx(krpc.heard[0][2] + 0.5)]


async def test_wake_sends_at_once_and_counts_what_is_not_taken(
    autojump_clock: trio.testing.MockClock, internet: Internet
) -> None:
    krpc = Recorder(b"d")
    other = await internet.host("80.2.0.1").udp(Endpoint("0.0.0.0", 9))
    async with pumping(internet.host("80.1.0.1"), krpc) as pump:
        krpc.outbox = [(b"d1", Endpoint("80.2.0.1", 9)), (b"d2", Endpoint("2a01::1", 9))]
        pump.wake()
        assert [data for data, _ in await other.receive()] == [b"d1"]
        assert pump.unsent == 1


async def test_settled_follows_each_batch_and_tick(autojump_clock: trio.testing.MockClock, internet: Internet) -> None:
    krpc = Recorder(b"d")
    other = await internet.host("80.2.0.1").udp(Endpoint("0.0.0.0", 9))
    seen: list[tuple[int, int]] = []
    pump = UdpPump(
        await internet.host("80.1.0.1").udp(Endpoint("0.0.0.0", 7)),
        settled=lambda: seen.append((len(krpc.heard), len(krpc.ticks))),
    )
    pump.add(krpc)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.sleep(1)
        krpc.timer = trio.current_time() + 1
        pump.wake()
        other.send(b"d", Endpoint("80.1.0.1", 7))
        other.send(b"d", Endpoint("80.1.0.1", 7))
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert (2, 0) in seen
    assert seen[-1] == (2, 1)


async def test_closing_ends_run(autojump_clock: trio.testing.MockClock, internet: Internet) -> None:
    pump = UdpPump(await internet.host("80.1.0.1").udp(Endpoint("0.0.0.0", 7)))
    with pytest.RaisesGroup(NetworkError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            await trio.sleep(1)
            pump.close()
