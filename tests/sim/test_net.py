"""The virtual internet behaves like one: order, loss, delay, NAT, refusal, silence, resets."""

from __future__ import annotations

import random

import pytest
import trio

from tests.sim.net import Internet
from wire.compact import Endpoint
from wire.errors import NetworkError


async def test_a_datagram_arrives_after_the_delay_with_its_source(autojump_clock: trio.testing.MockClock) -> None:
    internet = Internet(random.Random(1), delay_s=0.5)
    alice, bob = internet.host("80.1.0.1"), internet.host("80.2.0.1", "2a01::2")
    a = await alice.udp(Endpoint("0.0.0.0", 0))
    b = await bob.udp(Endpoint("0.0.0.0", 6881))
    start = trio.current_time()
    assert a.send(memoryview(b"hello"), Endpoint("80.2.0.1", 6881))
    assert await b.receive() == [(b"hello", Endpoint("80.1.0.1", a.endpoint.port))]
    assert trio.current_time() - start == pytest.approx(0.5)
    assert not a.send(b"x", Endpoint("2a01::2", 6881))  # an IPv4 socket reaches no IPv6 address


async def test_loss_duplicates_and_reordering(autojump_clock: trio.testing.MockClock) -> None:
    internet = Internet(random.Random(1), delay_s=0.1, jitter_s=1.0, loss=0.3, duplicate=0.1)
    a = await internet.host("80.1.0.1").udp(Endpoint("80.1.0.1", 1))
    b = await internet.host("80.2.0.1").udp(Endpoint("80.2.0.1", 2))
    for i in range(1000):
        a.send(i.to_bytes(2, "big"), b.endpoint)
    got: list[bytes] = []
    with trio.move_on_after(5):
        while True:
            got += [data for data, _ in await b.receive()]
    assert 620 < len(set(got)) < 800
    assert len(got) > len(set(got))
    assert got != sorted(got)


async def test_a_nat_lets_only_answers_in(autojump_clock: trio.testing.MockClock) -> None:
    internet = Internet(random.Random(1))
    inside = internet.host("80.1.0.1", nat=True)
    a = await inside.udp(Endpoint("0.0.0.0", 7))
    b = await internet.host("80.2.0.1").udp(Endpoint("0.0.0.0", 7))
    b.send(b"unasked", Endpoint("80.1.0.1", 7))
    with trio.move_on_after(1) as waiting:
        await a.receive()
    assert waiting.cancelled_caught
    a.send(b"question", Endpoint("80.2.0.1", 7))
    await b.receive()
    b.send(b"answer", Endpoint("80.1.0.1", 7))
    assert (await a.receive())[0][0] == b"answer"


async def test_closing_a_socket_wakes_its_reader(autojump_clock: trio.testing.MockClock) -> None:
    internet = Internet(random.Random(1))
    a = await internet.host("80.1.0.1").udp(Endpoint("0.0.0.0", 7))
    with pytest.RaisesGroup(NetworkError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.receive)
            await trio.sleep(1)
            a.close()


@pytest.mark.parametrize("fragment", [False, True])
async def test_a_stream_carries_its_bytes_in_order_and_ends(
    autojump_clock: trio.testing.MockClock, fragment: bool
) -> None:
    internet = Internet(random.Random(1), fragment=fragment, rate_bytes_s=1e6, window_bytes=65536)
    alice, bob = internet.host("80.1.0.1"), internet.host("80.2.0.1")
    listener = await bob.listen(Endpoint("0.0.0.0", 6881))
    blob = random.Random(2).randbytes(300_000)
    got = bytearray()

    async def serve() -> None:
        stream = await listener.accept()
        await stream.send_all([blob[:100_000], memoryview(blob)[100_000:]])
        stream.close()

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        stream = await alice.connect(Endpoint("80.2.0.1", 6881))
        buffer = bytearray(65536)
        while count := await stream.receive_into(memoryview(buffer)):
            got += buffer[:count]
    assert bytes(got) == blob
    assert 0.3 < trio.current_time() - start < 0.6


async def test_refused_silent_and_broken(autojump_clock: trio.testing.MockClock) -> None:
    internet = Internet(random.Random(1))
    alice, bob = internet.host("80.1.0.1"), internet.host("80.2.0.1")
    with pytest.raises(NetworkError, match="refused"):
        await alice.connect(Endpoint("80.2.0.1", 1))
    with trio.move_on_after(100) as silence:
        await alice.connect(Endpoint("80.3.0.1", 1))
    assert silence.cancelled_caught
    listener = await bob.listen(Endpoint("0.0.0.0", 1))
    stream = await alice.connect(Endpoint("80.2.0.1", 1))
    await listener.accept()
    bob.unplug()
    with pytest.raises(NetworkError, match="reset"):
        await stream.receive_into(memoryview(bytearray(1)))
    with pytest.raises(NetworkError):
        await stream.send_all([b"x"])


async def test_ports_are_exclusive_and_names_resolve(autojump_clock: trio.testing.MockClock) -> None:
    internet = Internet(random.Random(1))
    host = internet.host("80.1.0.1")
    internet.names["router.example"] = ["80.1.0.1", "2a01::1"]
    await host.udp(Endpoint("0.0.0.0", 5))
    with pytest.raises(NetworkError, match="in use"):
        await host.udp(Endpoint("80.1.0.1", 5))
    with pytest.raises(NetworkError, match="assign"):
        await host.udp(Endpoint("80.9.0.1", 5))
    assert await host.resolve("router.example", 5) == [Endpoint("80.1.0.1", 5), Endpoint("2a01::1", 5)]
    assert await host.resolve("1.2.3.4", 5) == [Endpoint("1.2.3.4", 5)]
    with pytest.raises(NetworkError, match="not known"):
        await host.resolve("nobody.example", 5)
