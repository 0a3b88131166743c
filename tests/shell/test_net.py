"""The real network, over loopback sockets: what every implementation of `Network` must do, and its errors."""

from __future__ import annotations

import random
import socket
import sys

import pytest
import trio

from wire.compact import IPV4, IPV6, Endpoint, Family
from wire.errors import NetworkError
from wire.net import ScatterStream
from wire.trio_net import TrioNetwork

LOOPBACK = {IPV4: "127.0.0.1", IPV6: "::1"}


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


families = pytest.mark.parametrize(
    "family",
    [
        pytest.param(IPV4, id="ipv4"),
        pytest.param(IPV6, id="ipv6", marks=pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 loopback here")),
    ],
)


@families
async def test_datagrams_come_whole_with_a_canonical_source(family: Family) -> None:
    network = TrioNetwork()
    a = await network.udp(Endpoint(LOOPBACK[family], 0))
    b = await network.udp(Endpoint(LOOPBACK[family], 0))
    try:
        payloads = [b"", b"x", bytes(1500), random.Random(1).randbytes(60000)]
        for payload in payloads:
            assert a.send(memoryview(payload), b.endpoint)
        got = []
        with trio.fail_after(60):
            while len(got) < len(payloads):
                got += await b.receive()
        assert [data for data, _ in got] == payloads
        assert {source for _, source in got} == {a.endpoint}
        assert all(type(source) is Endpoint for _, source in got)
        assert a.endpoint == Endpoint.of(*a.endpoint)
    finally:
        a.close()
        b.close()


async def _comes_from(network: TrioNetwork, to: str) -> str:
    listener = await network.listen(Endpoint(to, 0))
    try:
        with trio.fail_after(60):
            stream = await network.connect(listener.endpoint)
            accepted = await listener.accept()
        stream.close()
        accepted.close()
        return accepted.remote.host
    finally:
        listener.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the whole of 127.0.0.0/8")
async def test_streams_leave_from_where_the_program_listens() -> None:
    bound = TrioNetwork([Endpoint("::", 0), Endpoint("127.0.0.2", 0), Endpoint("127.0.0.3", 0)])
    assert await _comes_from(bound, "127.0.0.1") == "127.0.0.2"
    assert await _comes_from(TrioNetwork([Endpoint("0.0.0.0", 0)]), "127.0.0.1") == "127.0.0.1"


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 loopback here")
async def test_streams_of_both_families_are_bound() -> None:
    assert await _comes_from(TrioNetwork([Endpoint("::1", 0)]), "::1") == "::1"


async def test_a_flood_of_datagrams_leaves_the_others_their_turn() -> None:
    network = TrioNetwork()
    a, b = await network.udp(Endpoint("127.0.0.1", 0)), await network.udp(Endpoint("127.0.0.1", 0))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        received = 0
        with trio.fail_after(60):
            while received < 5000:
                for _ in range(40):  # more than one batch: the receiver is never dry
                    a.send(b"flood", b.endpoint)
                received += len(await b.receive())
        nursery.cancel_scope.cancel()
    a.close()
    b.close()
    assert turns > 10


async def test_an_unsendable_datagram_is_lost_and_no_error() -> None:
    sock = await TrioNetwork().udp(Endpoint("127.0.0.1", 0))
    assert not sock.send(bytes(70000), sock.endpoint)
    assert not sock.send(b"x", Endpoint("::1", 9))
    assert not sock.send(b"x", Endpoint("127.0.0.1", 0))
    sock.close()
    assert not sock.send(b"x", Endpoint("127.0.0.1", 9))
    with pytest.raises(NetworkError, match="closed"):
        await sock.receive()


async def test_an_unreachable_port_does_not_end_receiving() -> None:
    network = TrioNetwork()
    a, b = await network.udp(Endpoint("127.0.0.1", 0)), await network.udp(Endpoint("127.0.0.1", 0))
    gone = await network.udp(Endpoint("127.0.0.1", 0))
    gone.close()
    a.send(b"nobody", gone.endpoint)
    b.send(b"here", a.endpoint)
    with trio.fail_after(60):
        assert await a.receive() == [(b"here", b.endpoint)]
    a.close()
    b.close()


@pytest.mark.parametrize("what", ["udp", "listen"])
async def test_closing_wakes_who_waits(what: str) -> None:
    network = TrioNetwork()
    with pytest.RaisesGroup(NetworkError):
        async with trio.open_nursery() as nursery:
            if what == "udp":
                datagrams = await network.udp(Endpoint("127.0.0.1", 0))
                nursery.start_soon(datagrams.receive)
                close = datagrams.close
            else:
                listener = await network.listen(Endpoint("127.0.0.1", 0))
                nursery.start_soon(listener.accept)
                close = listener.close
            await trio.testing.wait_all_tasks_blocked()
            close()
            close()


@families
async def test_a_stream_carries_many_buffers_both_ways(family: Family) -> None:
    network = TrioNetwork()
    listener = await network.listen(Endpoint(LOOPBACK[family], 0))
    blob = random.Random(1).randbytes(3_000_000)
    got = bytearray()

    async def serve() -> None:
        stream = await listener.accept()
        view = memoryview(blob)
        await stream.send_all([view[at : at + 1000] for at in range(0, len(blob), 1000)] + [b""])
        stream.close()
        stream.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        stream = await network.connect(listener.endpoint)
        assert stream.remote == listener.endpoint
        buffer = memoryview(bytearray(1 << 20))
        with trio.fail_after(60):
            while count := await stream.receive_into(buffer):
                got += buffer[:count]
    stream.close()
    listener.close()
    assert got == blob
    with pytest.raises(NetworkError, match="closed"):
        await stream.receive_into(buffer)
    with pytest.raises(NetworkError, match="closed"):
        await stream.send_all([b"x"])


async def test_a_stream_puts_bytes_to_many_places_in_one_call() -> None:
    network = TrioNetwork()
    listener = await network.listen(Endpoint("127.0.0.1", 0))
    stream = await network.connect(listener.endpoint)
    other = await listener.accept()
    assert isinstance(stream, ScatterStream)
    if not stream.scatters:
        pytest.skip("this system has no recvmsg")
    buffers = [memoryview(bytearray(size)) for size in (3, 5, 100)]
    assert stream.receive_scattered(buffers) is None
    await other.send_all([b"abcdefghij"])
    with trio.fail_after(60):
        await stream.readable()
    assert stream.receive_scattered(buffers) == 10
    assert [bytes(buffer[:5]) for buffer in buffers] == [b"abc", b"defgh", b"ij\0\0\0"]
    other.close()
    with trio.fail_after(60):
        await stream.readable()
    assert stream.receive_scattered(buffers) == 0
    stream.close()
    listener.close()
    with pytest.raises(NetworkError, match="closed"):
        stream.receive_scattered(buffers)
    with pytest.raises(NetworkError, match="closed"):
        await stream.readable()


async def test_errors_say_what_and_where() -> None:
    network = TrioNetwork()
    listener = await network.listen(Endpoint("127.0.0.1", 0))
    with pytest.raises(NetworkError, match=f"{listener.endpoint}.*choose another"):
        await network.listen(listener.endpoint)
    listener.close()
    with pytest.raises(NetworkError, match=r"cannot connect to 127.0.0.1:.*refused"):
        await network.connect(listener.endpoint)
    with pytest.raises(NetworkError, match=r"no interface of this machine"):
        await network.udp(Endpoint("192.0.2.1", 0))
    for nonsense in ("no-such-host.invalid", "a\0b", "x" * 300, "..", ""):
        if nonsense:
            with pytest.raises(NetworkError, match="cannot resolve"):
                await network.resolve(nonsense, 1)


async def test_literals_resolve_to_themselves() -> None:
    network = TrioNetwork()
    assert await network.resolve("127.0.0.1", 5) == [Endpoint("127.0.0.1", 5)]
    assert await network.resolve("::1", 5) == [Endpoint("::1", 5)]
    assert Endpoint("127.0.0.1", 5) in await network.resolve("localhost", 5)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("segments", [False, True])
async def test_many_datagrams_at_once_arrive_one_by_one(host: str, bulk: bool, segments: bool) -> None:
    """Whether the kernel cuts them up and puts them together or not, and whatever their sizes."""
    network = TrioNetwork()
    try:
        near, far = await network.udp(Endpoint(host, 0)), await network.udp(Endpoint(host, 0))
    except NetworkError:
        pytest.skip("no such address here")
    if not segments:
        near._segments = False  # type: ignore[attr-defined] # as on a kernel without it
    if bulk:
        far.expect_bulk()
        far.expect_bulk()
    chance = random.Random(7)
    to = Endpoint(far.endpoint.host, far.endpoint.port)
    elsewhere = Endpoint(near.endpoint.host, near.endpoint.port)
    sizes = [1400] * 90 + [700] + [1400] * 3 + [1452, 20, 20, 20, 548, 548, 548, 548, 1, 1400, 1400]
    batch = [(chance.randbytes(size), to) for size in sizes]
    batch.insert(50, (b"for another", elsewhere))
    assert near.send_many(batch) == []
    got: list[bytes] = []
    with trio.fail_after(60):
        while len(got) < len(sizes):
            received = await far.receive()
            assert all(address == near.endpoint for _, address in received)
            got += [data for data, _ in received]
        assert [data for data, _ in await near.receive()] == [b"for another"]
    assert got == [data for data, address in batch if address is to]
    assert near.send_many([(bytes(70_000), to)]) == [to]  # more than a datagram holds
    near.close()
    assert near.send_many([(b"x" * 100, to)] * 5) == [to] * 5
    far.close()
