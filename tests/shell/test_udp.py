"""The pump of the shared socket: who gets a datagram, when timers tick, what is sent when."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.sim.net import Host, Internet
from wire.compact import Address, Endpoint
from wire.errors import NetworkError
from wire.net import Buffer, Datagrams
from wire.trio_net import TrioNetwork
from wire.trio_udp import TrioDatagrams
from wire.udp import AnsweringTenant, News, UdpPump


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


class Batches:
    """Datagrams that come several at a time."""

    endpoint = Endpoint("80.1.0.1", 7)

    def __init__(self, *batches: list[bytes]) -> None:
        self.batches = list(batches)
        self.sent: list[tuple[Buffer, Endpoint]] = []

    def expect_bulk(self) -> None:
        pass

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        await trio.lowlevel.checkpoint()
        if not self.batches:
            await trio.sleep_forever()
        return [(data, Endpoint("80.2.0.1", 9)) for data in self.batches.pop(0)]

    def send_many(self, batch: list[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        self.sent += batch
        return []


@pytest.mark.parametrize("kind", [News.SOME, News.PRESSING])
async def test_who_is_told_goes_before_the_rest_of_a_batch(autojump_clock: trio.testing.MockClock, kind: News) -> None:
    """Of a batch, what a datagram told somebody is acted on before the next is read, and before anything is sent."""
    krpc, utp = Recorder(b"d"), Recorder(b"\x21")
    krpc.echo = True
    datagrams = Batches([b"d1", b"\x21", b"d2", b"d3", b"d4"], [b"d5", b"d6"])
    news = {b"d2", b"d4", b"d5"}
    done: list[tuple[bytes, list[bytes], int]] = []

    def told() -> News:
        data = krpc.heard[-1][0]
        if data not in news:
            return News.NONE
        news.discard(data)
        nursery.start_soon(act, data)
        return kind

    async def act(data: bytes) -> None:
        done.append((data, [heard for heard, _, _ in krpc.heard], len(datagrams.sent)))

    pump = UdpPump(datagrams, told=told)  # type: ignore[arg-type]
    pump.add(krpc)
    pump.add(utp, bulk=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert done[0] == (b"d2", [b"d1", b"d2"], 0)
    # A batch stands back once; what comes later in it is told at its end.
    assert done[1] == (b"d4", [b"d1", b"d2", b"d3", b"d4"], 0)
    assert done[2][:2] == (b"d5", [b"d1", b"d2", b"d3", b"d4", b"d5"])
    assert [data for data, _ in datagrams.sent] == [b"d%d" % number for number in range(1, 7)]


async def test_who_speaks_himself_ends_the_standing_back(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that is dialled by uTP answers over the same socket."""
    krpc, utp = Recorder(b"d"), Recorder(b"\x21")
    pump = UdpPump(Batches([b"d1", b"\x21"]), told=lambda: News.PRESSING)  # type: ignore[arg-type]
    pump.add(krpc)
    pump.add(utp, bulk=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.sleep(0.004)  # an encrypted handshake with who is near takes two to three
        assert not utp.heard
        pump.wake()
        await trio.sleep(0.0005)
        assert utp.heard
        nursery.cancel_scope.cancel()


class Gate(Batches):
    """The first batch comes when it is let in."""

    def __init__(self, *batches: list[bytes]) -> None:
        super().__init__(*batches)
        self.opened = trio.Event()

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        await self.opened.wait()
        return await super().receive()


async def test_who_asks_makes_ready_before_answers_are_heard(autojump_clock: trio.testing.MockClock) -> None:
    heard_first: set[bool] = set()
    for _ in range(30):  # trio takes the tasks of a turn in any order
        krpc, utp, gate = Recorder(b"d"), Recorder(b"\x21"), Gate([b"d1"], [b"d2"])
        pump = UdpPump(gate)  # type: ignore[arg-type]
        pump.add(krpc)
        pump.add(utp, bulk=True)

        async def make_ready(krpc: Recorder = krpc) -> None:
            await trio.lowlevel.checkpoint()  # as long as the pump's own way from the socket to here
            heard_first.add(bool(krpc.heard))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            await trio.testing.wait_all_tasks_blocked()
            pump.go_after(News.NONE)
            nursery.start_soon(make_ready)
            gate.opened.set()
            await trio.testing.wait_all_tasks_blocked()
            assert len(krpc.heard) == 2
            nursery.cancel_scope.cancel()
    assert heard_first == {False}


async def test_who_knows_with_whom_to_speak_as_he_asks_has_answers_wait(autojump_clock: trio.testing.MockClock) -> None:
    krpc, utp = Recorder(b"d"), Recorder(b"\x21")
    pump = UdpPump(Batches([b"d1"], [b"d2"]))  # type: ignore[arg-type]
    pump.add(krpc)
    pump.add(utp, bulk=True)
    pump.go_after(News.PRESSING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.sleep(0.004)
        assert not krpc.heard
        await trio.sleep(0.002)
        assert len(krpc.heard) == 2
        assert pump._after is None  # once
        nursery.cancel_scope.cancel()


async def test_standing_back_takes_a_tenth_of_the_time_at_most(autojump_clock: trio.testing.MockClock) -> None:
    krpc, utp = Recorder(b"d"), Recorder(b"\x21")
    datagrams = Batches(*[[b"d"]] * 400)
    pump = UdpPump(datagrams, told=lambda: News.PRESSING)  # type: ignore[arg-type]
    pump.add(krpc)
    pump.add(utp, bulk=True)
    receive = datagrams.receive

    async def slowly() -> list[tuple[bytes, Endpoint]]:
        await trio.sleep(0.001)
        return await receive()

    datagrams.receive = slowly  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.sleep(0.4)
        nursery.cancel_scope.cancel()
    assert 350 <= len(krpc.heard) < 400


async def test_only_pressing_news_have_datagrams_wait(autojump_clock: trio.testing.MockClock) -> None:
    krpc, utp = Recorder(b"d"), Recorder(b"\x21")
    pump = UdpPump(Batches([b"d1", b"d2"], [b"d3"]), told=lambda: News.SOME)  # type: ignore[arg-type]
    pump.add(krpc)
    pump.add(utp, bulk=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.sleep(0.0001)
        assert [at for _, _, at in krpc.heard] == [trio.current_time() - 0.0001] * 3
        nursery.cancel_scope.cancel()


async def test_closing_ends_run(autojump_clock: trio.testing.MockClock, internet: Internet) -> None:
    pump = UdpPump(await internet.host("80.1.0.1").udp(Endpoint("0.0.0.0", 7)))
    with pytest.RaisesGroup(NetworkError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            await trio.sleep(1)
            pump.close()


class Oracle(Recorder):
    """A tenant that gives its answers back: what it heard, in capitals."""

    def answer(self, data: bytes, source: Address, now: float) -> Buffer | None:
        self.heard.append((data, Endpoint(*source), now))
        return None if data == b"d silence" else bytes(70_000) if data == b"d much" else data.upper()


@asynccontextmanager
async def answering(*tenants: Recorder, host: str = "127.0.0.1") -> AsyncIterator[tuple[UdpPump, Datagrams]]:
    """A pump over a real socket, and a real socket to ask from."""
    pump = UdpPump(await TrioNetwork().udp(Endpoint(host, 0)))
    for tenant in tenants:
        pump.add(tenant)
    asking = await TrioNetwork().udp(Endpoint(host, 0))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            with trio.fail_after(60):
                yield pump, asking
            nursery.cancel_scope.cancel()
    finally:
        pump.close()
        asking.close()


async def heard(asking: Datagrams, count: int) -> list[bytes]:
    came: list[bytes] = []
    while len(came) < count:
        came += [data for data, _ in await asking.receive()]
    return came


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_answers_go_back_one_by_one(host: str) -> None:
    krpc = Oracle(b"d")
    assert isinstance(krpc, AnsweringTenant)
    try:
        (await TrioNetwork().udp(Endpoint(host, 0))).close()
    except NetworkError:
        pytest.skip(f"no {host} here")
    async with answering(krpc, host=host) as (pump, asking):
        for data in (b"d one", b"", b"x is nobody's", b"d silence", b"d much", b"d two"):
            assert asking.send(data, pump.endpoint)
        assert await heard(asking, 2) == [b"D ONE", b"D TWO"]
        assert [data for data, _, _ in krpc.heard] == [b"d one", b"d silence", b"d much", b"d two"]
        assert {source for _, source, _ in krpc.heard} == {asking.endpoint}
        assert pump.unclaimed == 2
        assert (pump.unsent, list(pump.unsent_to)) == (1, [asking.endpoint])


async def test_what_answers_bring_about_goes_out_too() -> None:
    krpc = Oracle(b"d")
    settled: list[int] = []
    async with answering(krpc) as (pump, asking):
        pump._settled = lambda: settled.append(len(krpc.heard))
        krpc.outbox = [(b"a question of its own", asking.endpoint)]
        asking.send(b"d", pump.endpoint)
        assert sorted(await heard(asking, 2)) == [b"D", b"a question of its own"]
        assert settled[-1] == 1


async def test_a_tenant_that_only_listens_gets_its_datagrams_from_then_on() -> None:
    krpc, utp = Oracle(b"d"), Recorder(b"\x01")
    async with answering(krpc) as (pump, asking):
        asking.send(b"d before", pump.endpoint)
        assert await heard(asking, 1) == [b"D BEFORE"]
        pump.add(utp, bulk=True)
        utp.echo = krpc.echo = True
        for data in (b"\x01 between", b"d after"):  # the first finds the pump waiting as it did before
            asking.send(data, pump.endpoint)
            assert await heard(asking, 1) == [data]
        assert [data for data, _, _ in utp.heard] == [b"\x01 between"]


class Slow(Oracle):
    """An oracle that thinks for a millisecond."""

    def answer(self, data: bytes, source: Address, now: float) -> Buffer | None:
        time.sleep(0.001)
        return super().answer(data, source, now)


async def test_a_flood_of_questions_leaves_the_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.trio_udp._SERVED_ROUNDS", 1)  # so that a flood fits into any system's buffer
    krpc = Slow(b"d")
    async with answering(krpc) as (pump, asking):
        for _ in range(250):
            asking.send(b"d silence", pump.endpoint)
        while len(krpc.heard) < 250:
            before = len(krpc.heard)
            await trio.lowlevel.checkpoint()
            assert len(krpc.heard) - before <= 70  # two turns of the pump at most, each of two batches


async def test_what_was_read_before_an_error_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    krpc = Oracle(b"d")
    asker = ("127.0.0.1", 6881)
    arriving = iter([(b"d one", asker), (b"d two", asker), ConnectionRefusedError(), (b"d three", asker)])
    sent: list[tuple[bytes, tuple[str, int]]] = []

    class Troubled:
        """A socket that fails at the third of what it reads and at the second of what it sends."""

        def recvfrom(self, _: int) -> tuple[bytes, tuple[str, int]]:
            match next(arriving, None):
                case None:
                    raise BlockingIOError
                case OSError() as error:
                    raise error
                case datagram:
                    return datagram

        def sendto(self, data: bytes, to: tuple[str, int]) -> int:
            if data == b"D TWO":
                raise PermissionError
            sent.append((data, to))
            return len(data)

        def fileno(self) -> int:
            return 7

    datagrams = await TrioNetwork().udp(Endpoint("127.0.0.1", 0))
    assert isinstance(datagrams, TrioDatagrams)
    with monkeypatch.context() as patched:
        patched.setattr(datagrams, "_socket", Troubled())
        unsent: list[Endpoint] = []
        assert not datagrams.serve([krpc.answer] * 257, 1.0, unsent)
    datagrams.close()
    assert [data for data, _, _ in krpc.heard] == [b"d one", b"d two", b"d three"]
    assert sent == [(b"D ONE", asker), (b"D THREE", asker)]
    assert unsent == [Endpoint(*asker)]


async def test_closing_ends_who_answers() -> None:
    pump = UdpPump(await TrioNetwork().udp(Endpoint("127.0.0.1", 0)))
    pump.add(Oracle(b"d"))
    with pytest.RaisesGroup(NetworkError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            await trio.testing.wait_all_tasks_blocked()
            pump.close()
