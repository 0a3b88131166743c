"""How streams come about over the virtual internet: TCP and uTP raced, encrypted and plain tried in turn, sessions."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from magnet.nursery import open_plain_nursery
from tests.shell.kit import a_world, link_of, make_torrent
from tests.sim.net import Host, Internet
from wire.compact import Endpoint
from wire.dialler import DialError, Dialler, Miss
from wire.errors import NetworkError, ProtocolError
from wire.net import Listener, Stream
from wire.peer.connection import opening
from wire.secure import SecureStream, accept_any
from wire.udp import UdpPump
from wire.utp.stream import UtpSocket, UtpStream

HASH = b"h" * 20
HELLO = opening(HASH, b"-XX0000-abcdefghijkl", dht=False)
PORT = 6881
TORRENT, DATA = make_torrent("wires", {"a.bin": 300_000})


class End:
    """A host with TCP and uTP on one port, and how it answers."""

    def __init__(self, host: Host, listener: Listener, utp: UtpSocket) -> None:
        self.host, self.listener, self.utp = host, listener, utp
        self.at = Endpoint(host.addresses[0], PORT)
        self.greeted: list[tuple[str, str]] = []
        """(transport, kind of handshake) of each stream that shook hands."""
        self.opened: list[str] = []

    def dialler(self, **settings: str) -> Dialler:
        return Dialler(self.host, rng=random.Random(3), utp=[self.utp], **settings)  # type: ignore[arg-type]

    async def answer(
        self, encryption: str, transports: str = "both", talk: Callable[[Stream], Awaitable[None]] | None = None
    ) -> None:
        async with trio.open_nursery() as nursery:
            if transports in ("both", "tcp"):
                nursery.start_soon(self._serve, nursery, self.listener, "tcp", encryption, talk)
            if transports in ("both", "utp"):
                nursery.start_soon(self._serve, nursery, self.utp, "utp", encryption, talk)

    async def _serve(self, nursery, listener, name, encryption, talk) -> None:  # type: ignore[no-untyped-def]
        while True:
            stream = await listener.accept()
            self.opened.append(name)
            nursery.start_soon(self._greet, stream, name, encryption, talk)

    async def _greet(self, stream, name, encryption, talk) -> None:  # type: ignore[no-untyped-def]
        try:
            said = await accept_any(stream, [HASH], encryption, random.Random(4))
            got = bytearray(len(HELLO))
            at = 0
            while at < len(got):
                count = await said.receive_into(memoryview(got)[at:])
                if not count:
                    return
                at += count
            assert got == HELLO
            await said.send_all([HELLO])
            assert isinstance(said, SecureStream)
            self.greeted.append((name, "encrypted" if said.encrypted else "not encrypted"))
            if talk is not None:
                await talk(said)
            else:
                await said.receive_into(memoryview(bytearray(10)))
        except (NetworkError, ProtocolError):
            pass
        finally:
            stream.close()


@asynccontextmanager
async def two_ends(**faults: float) -> AsyncIterator[tuple[End, End, trio.Nursery]]:
    internet = Internet(random.Random(1), **faults)  # type: ignore[arg-type]
    async with open_plain_nursery() as nursery:
        ends = []
        for address in ("80.1.0.1", "80.2.0.1"):
            host = internet.host(address)
            pump = UdpPump(await host.udp(Endpoint("0.0.0.0", PORT)))
            nursery.start_soon(pump.run)
            listener = await host.listen(Endpoint("0.0.0.0", PORT))
            ends.append(End(host, listener, UtpSocket(pump, random.Random(address))))
        yield ends[0], ends[1], nursery


async def hello(stream: Stream) -> bytes:
    got = bytearray(len(HELLO))
    at = 0
    while at < len(got):
        count = await stream.receive_into(memoryview(got)[at:])
        assert count
        at += count
    return bytes(got)


@pytest.mark.parametrize("theirs", ["prefer", "require", "off"])
@pytest.mark.parametrize("ours", ["prefer", "require", "off"])
@pytest.mark.parametrize("transport", ["tcp", "utp"])
async def test_every_pair_of_settings(autojump_clock: object, ours: str, theirs: str, transport: str) -> None:
    async with two_ends() as (near, far, nursery):
        nursery.start_soon(far.answer, theirs)
        dialler = near.dialler(encryption=ours, transport=transport)
        if {ours, theirs} == {"require", "off"}:
            with pytest.raises(DialError) as caught:
                await dialler.open(far.at, HELLO, 5, nursery)
            assert caught.value.miss is Miss.NO_HANDSHAKE
            return
        stream = await dialler.open(far.at, HELLO, 5, nursery)
        assert await hello(stream) == HELLO
        kind = "not encrypted" if "off" in (ours, theirs) else "encrypted"
        assert far.greeted == [(transport, kind)]
        stream.close()


@pytest.mark.parametrize("transport", ["tcp", "utp"])
async def test_what_is_said_in_both_directions_arrives(autojump_clock: object, transport: str) -> None:
    data = random.Random(5).randbytes(3_000_000)
    got = bytearray()
    done = trio.Event()

    async def talk(stream: Stream) -> None:
        room = memoryview(bytearray(50_000))
        while len(got) < len(data):
            count = await stream.receive_into(room)
            got.extend(room[:count])
        await stream.send_all([b"all of ", b"", bytearray(b"it")])
        await done.wait()

    async with two_ends(loss=0.01 if transport == "utp" else 0.0) as (near, far, nursery):
        nursery.start_soon(far.answer, "require", "both", talk)
        stream = await near.dialler(transport=transport).open(far.at, HELLO, 5, nursery)
        await hello(stream)
        await stream.send_all([data[at : at + 16384] for at in range(0, len(data), 16384)])
        answer = bytearray(9)
        count = await stream.receive_into(memoryview(answer))
        while count < 9:
            count += await stream.receive_into(memoryview(answer)[count:])
        done.set()
        assert got == data
        assert answer == b"all of it"


@pytest.mark.parametrize(
    ("transport", "encryption"), [("tcp", "off"), ("tcp", "require"), ("utp", "off"), ("utp", "require")]
)
async def test_what_a_stream_has_let_go_of_may_be_changed(
    autojump_clock: object, transport: str, encryption: str
) -> None:
    got, whole = bytearray(), trio.Event()
    data = bytes([1]) * 400_000 + bytes([2]) * 400_000

    async def listen(stream: Stream) -> None:
        room = memoryview(bytearray(50_000))
        while len(got) < len(data):
            count = await stream.receive_into(room)
            got.extend(room[:count])
        whole.set()

    async with two_ends(loss=0.01 if transport == "utp" else 0.0) as (near, far, nursery):
        nursery.start_soon(far.answer, encryption, "both", listen)
        stream = await near.dialler(encryption=encryption, transport=transport).open(far.at, HELLO, 5, nursery)
        await hello(stream)
        assert isinstance(stream, SecureStream)
        assert stream.lets_go == (transport == "tcp" or encryption == "require")
        memory = bytearray()
        for value in (1, 2):
            if not memory or not stream.lets_go:
                memory = bytearray(400_000)
            memory[:] = bytes([value]) * 400_000
            await stream.send_all([memory])
        await whole.wait()
        assert got == data


async def test_what_worked_is_tried_first_the_next_time(autojump_clock: object) -> None:
    async with two_ends() as (near, far, nursery):
        nursery.start_soon(far.answer, "off", "tcp")
        dialler = near.dialler(transport="tcp")
        for streams in (2, 3):  # at first the encrypted handshake is tried in vain, then no more
            stream = await dialler.open(far.at, HELLO, 5, nursery)
            await hello(stream)
            stream.close()
            assert len(far.opened) == streams


async def test_a_key_pair_is_ready_and_used_once(autojump_clock: object) -> None:
    async with two_ends() as (near, far, nursery):
        nursery.start_soon(far.answer, "require")
        dialler = near.dialler(encryption="require", transport="tcp")
        nursery.start_soon(dialler.run)
        await trio.testing.wait_all_tasks_blocked()
        used = []
        for _ in range(2):
            used.append(dialler._spare)
            stream = await dialler.open(far.at, HELLO, 5, nursery)
            assert await hello(stream) == HELLO
            stream.close()
            await trio.sleep(1)
        used.append(dialler._spare)
        assert None not in used
        assert len(set(used)) == 3


async def test_a_second_way_does_not_begin_once_the_first_has_won(autojump_clock: object) -> None:
    async with two_ends() as (near, far, nursery):
        nursery.start_soon(far.answer, "prefer")
        async with trio.open_nursery() as dials:
            stream = await near.dialler().open(far.at, HELLO, 5, dials)
        await trio.sleep(5)
        assert far.opened == ["tcp"]
        assert await hello(stream) == HELLO  # the end of the second way has not touched it
        stream.close()


async def test_tcp_is_preferred_where_both_answer(autojump_clock: object) -> None:
    async with two_ends() as (near, far, nursery):
        nursery.start_soon(far.answer, "prefer")
        stream = await near.dialler().open(far.at, HELLO, 5, nursery)
        await trio.sleep(5)
        assert far.greeted == [("tcp", "encrypted")]
        stream.close()


@pytest.mark.parametrize("fault", ["closed", "silent", "mute"])
async def test_utp_wins_where_tcp_is_closed_silent_or_says_nothing(autojump_clock: object, fault: str) -> None:
    async with two_ends() as (near, far, nursery):
        nursery.start_soon(far.answer, "prefer", "utp")
        if fault == "closed":
            far.listener.close()
        elif fault == "silent":
            listen = near.host.connect

            async def connect(to: Endpoint) -> Stream:
                await trio.sleep_forever()
                return await listen(to)

            near.host.connect = connect  # type: ignore[method-assign, assignment]
        begun = trio.current_time()
        dialler = near.dialler()
        stream = await dialler.open(far.at, HELLO, 6, nursery)
        assert await hello(stream) == HELLO
        assert trio.current_time() - begun < 0.6
        assert far.greeted == [("utp", "encrypted")]
        stream.close()
        begun = trio.current_time()
        (await dialler.open(far.at, HELLO, 6, nursery)).close()  # and is tried first from now on
        assert trio.current_time() - begun < 0.2


class Counted:
    """The network of a host, counting the connections that wait for their handshake."""

    def __init__(self, host: Host) -> None:
        self.host, self.now, self.most = host, 0, 0

    async def connect(self, to: Endpoint) -> Stream:
        self.now += 1
        self.most = max(self.most, self.now)
        return await self.host.connect(to)


async def test_one_address_is_not_crowded(autojump_clock: object) -> None:
    """Twenty torrents of one seeder: no more connections wait for it than its listener keeps."""
    async with two_ends() as (near, far, nursery):
        counted = Counted(near.host)
        dialler = Dialler(counted, rng=random.Random(3), transport="tcp", encryption="off")  # type: ignore[arg-type]
        nursery.start_soon(far.answer, "off", "tcp")

        async def dial() -> None:
            stream = await dialler.open(far.at, HELLO, 5, nursery)
            counted.now -= 1
            stream.close()

        async with trio.open_nursery() as dials:
            for _ in range(20):
                dials.start_soon(dial)
        assert counted.most == 5
        assert len(far.greeted) == 20
        assert dialler._doors == {}


async def test_a_silent_address_holds_nobody_up_for_long(autojump_clock: object) -> None:
    async with two_ends() as (near, _, nursery):
        dialler = near.dialler(transport="tcp", encryption="off")
        begun = trio.current_time()

        async def dial() -> None:
            with pytest.raises(DialError):
                await dialler.open(Endpoint("80.9.9.9", PORT), HELLO, 6, nursery)

        async with trio.open_nursery() as dials:
            for _ in range(20):
                dials.start_soon(dial)
        assert trio.current_time() - begun == pytest.approx(7.0)
        with trio.move_on_after(0.5):  # cancelled while they wait, and while they dial
            async with trio.open_nursery() as dials:
                for _ in range(20):
                    dials.start_soon(dial)
        assert dialler._doors == {}


async def test_nobody_there_is_told_apart_from_nobody_listening(autojump_clock: object) -> None:
    async with two_ends() as (near, far, nursery):
        nowhere = Endpoint("80.9.9.9", PORT)
        begun = trio.current_time()
        with pytest.raises(DialError) as caught:
            await near.dialler().open(nowhere, HELLO, 6, nursery)
        assert caught.value.miss is Miss.SILENT
        assert trio.current_time() - begun <= 6.001
        begun = trio.current_time()
        with pytest.raises(DialError) as caught:
            await near.dialler().open(Endpoint(far.at.host, 7777), HELLO, 6, nursery)
        assert caught.value.miss is Miss.REFUSED
        assert trio.current_time() - begun < 4.5


async def test_a_dial_that_is_cancelled_leaves_nothing_open(autojump_clock: object) -> None:
    async with two_ends() as (near, far, nursery):
        nursery.start_soon(far.answer, "prefer")
        for tenths in range(12):
            with trio.move_on_after(tenths / 50):
                (await near.dialler().open(far.at, HELLO, 6, nursery)).close()
        await trio.sleep(60)
        assert not near.host.streams
        assert not near.utp._streams
        assert len(near.utp._mux) == 0


async def test_the_end_of_a_utp_stream_is_told(autojump_clock: object) -> None:
    async with two_ends() as (near, far, nursery):
        taken: list[Stream] = []

        async def take() -> None:
            taken.append(await far.utp.accept())

        nursery.start_soon(take)
        stream = await near.utp.connect(far.at)
        assert isinstance(stream, UtpStream)
        await stream.send_all([b"last words"])
        stream.close()
        stream.close()
        with pytest.raises(NetworkError, match="closed"):
            await stream.send_all([b"more"])
        with pytest.raises(NetworkError, match="closed"):
            await stream.receive_into(memoryview(bytearray(9)))
        await trio.sleep(1)
        room = memoryview(bytearray(100))
        assert await taken[0].receive_into(room) == 10
        assert await taken[0].receive_into(room) == 0
        far.utp.close()
        with pytest.raises(NetworkError, match="closed"):
            await far.utp.accept()


async def test_a_peer_that_stops_reading_stops_the_writer_and_breaks_it_when_it_goes(autojump_clock: object) -> None:
    async with two_ends() as (near, far, nursery):
        taken: list[Stream] = []

        async def take() -> None:
            taken.append(await far.utp.accept())

        nursery.start_soon(take)
        stream = await near.utp.connect(far.at)
        sent = 0
        with trio.move_on_after(120):  # two minutes of a full window are no reason to give up
            while True:
                await stream.send_all([bytes(65536)])
                sent += 65536
        assert 1 << 20 <= sent <= 5 << 18  # our own buffer, and the little that a stranger gives before he has read
        got = 0
        room = memoryview(bytearray(1 << 20))
        with trio.fail_after(60):
            while got < sent:
                got += await taken[0].receive_into(room)
        far.host.unplug()

        async def go_on() -> None:
            while True:
                await stream.send_all([bytes(65536)])

        with trio.fail_after(200), pytest.raises(NetworkError, match="does not answer"):
            await go_on()


@pytest.mark.parametrize(
    ("seeding", "leeching"),
    [
        ({"transport": "utp"}, {}),
        ({}, {"transport": "utp"}),
        ({"transport": "utp", "encryption": "require"}, {"transport": "utp", "encryption": "require"}),
        ({"encryption": "require"}, {}),
        ({"encryption": "off"}, {}),
        ({}, {"encryption": "off", "transport": "tcp"}),
    ],
)
@pytest.mark.parametrize("dht", [True, False])
async def test_whole_sessions_by_every_wire(autojump_clock: object, seeding, leeching, dht) -> None:  # type: ignore[no-untyped-def]
    async with a_world(dht_nodes=4 if dht else 0) as world:
        world.internet.loss = 0.02
        peer = await world.seeder(TORRENT, DATA, dht=dht, **seeding)
        session = await world.session(dht=dht, **leeching)
        handle = await session.add(link_of(TORRENT, *(() if dht else (peer,))))
        with trio.fail_after(300):
            await handle.finished()
        assert bytes(world.stores[session].last.data) == DATA


async def test_a_session_with_utp_alone_has_no_tcp_port_open(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        session = await world.session(dht=False, transport="utp")
        assert session.endpoints[0].port
        assert not world.hosts[session].listeners
        assert world.hosts[session].udp_sockets
        other = await world.session(dht=False, transport="tcp", use_trackers=False)
        assert world.hosts[other].listeners
        assert not world.hosts[other].udp_sockets
