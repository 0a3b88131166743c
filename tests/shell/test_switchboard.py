"""Calls over real loopback sockets: each end of a call, turns at one address, and links that take the short road."""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import trio

import magnet
import wire.switchboard
from magnet.errands import Errands
from magnet.nursery import open_plain_nursery
from magnet.resolver import resolve_one, resolving
from tests.shell.kit import link_of, make_torrent
from tests.unit.wire.peer.test_errand import Seed
from wire.blocklist import BlockList
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.filtered import FilteredNetwork
from wire.metainfo import Torrent
from wire.switchboard import Call, CallError, Switchboard, Talk, switchboard_of
from wire.trio_net import TrioNetwork

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="the switchboard stands on Linux's epoll")

HERE = "127.0.0.1"


@pytest.fixture(autouse=True)
def _a_slow_machine_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_OPEN_S", "_MOVE_S", "_WHOLE_S", "TURN_S"):
        monkeypatch.setattr(wire.switchboard, limit, 60.0)


class Echo:
    """Says a word, and is done when it has come back; `word` may be refused."""

    def __init__(self, word: bytes = b"hello", *, refused: bool = False) -> None:
        self.word, self.refused = word, refused
        self.heard = b""

    @property
    def done(self) -> bool:
        return len(self.heard) >= len(self.word)

    def opening(self) -> bytes:
        return self.word[:1]

    def receive(self, data: memoryview) -> bytes:
        if self.refused:
            raise ProtocolError("not that word")
        self.heard += data
        return self.word[len(self.heard) : len(self.heard) + 1]


@asynccontextmanager
async def a_board(network: TrioNetwork | FilteredNetwork | None = None) -> AsyncIterator[Switchboard]:
    board = switchboard_of(network or TrioNetwork())
    assert board is not None
    async with open_plain_nursery() as nursery:
        nursery.start_soon(board.run)
        yield board
        assert not board._calls
        assert not board._by_number
        assert not board._inside
        assert not board._waiting


async def talk_to(board: Switchboard, to: Endpoint, talk: Talk) -> None:
    """Makes a call, and waits for its end."""
    call = board.place(to, talk)
    if not call.is_over:
        over = trio.Event()
        call.ended = over.set
        try:
            await over.wait()
        finally:
            board.break_off(call)
    if call.error is not None:
        raise call.error


class Door:
    """Listens on loopback; whoever is let in is echoed, where `echoes`."""

    def __init__(self, *, echoes: bool = True) -> None:
        self.listener = socket.create_server((HERE, 0))
        self.listener.setblocking(False)
        self.endpoint = Endpoint(HERE, self.listener.getsockname()[1])
        self.echoes = echoes
        self.open = trio.Event()
        self.let_in: list[socket.socket] = []

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(self.listener)
                one, _ = self.listener.accept()
                one.setblocking(False)
                self.let_in.append(one)
                if self.echoes:
                    nursery.start_soon(self._echo, one)

    async def _echo(self, one: socket.socket) -> None:
        await self.open.wait()
        with suppress(ConnectionError):
            while True:
                await trio.lowlevel.wait_readable(one)
                data = one.recv(100)
                if not data:
                    return
                one.send(data)

    def close(self) -> None:
        for one in (self.listener, *self.let_in):
            one.close()


AnyDoor = TypeVar("AnyDoor", bound=Door)


@asynccontextmanager
async def serving(door: AnyDoor) -> AsyncIterator[AnyDoor]:
    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(door.serve)
            yield door
    finally:
        door.close()


def a_door(*, echoes: bool = True, is_open: bool = True) -> AbstractAsyncContextManager[Door]:
    door = Door(echoes=echoes)
    if is_open:
        door.open.set()
    return serving(door)


async def test_many_calls_end_each_with_its_own_words() -> None:
    talks = [Echo(f"word {number}".encode()) for number in range(40)]
    async with a_door() as door, a_board() as board, trio.open_nursery() as nursery:
        for talk in talks:
            nursery.start_soon(talk_to, board, door.endpoint, talk)
    assert [talk.heard for talk in talks] == [talk.word for talk in talks]


async def test_no_more_than_five_wait_at_one_address() -> None:
    talks = [Echo() for _ in range(12)]
    async with a_door(is_open=False) as door, a_board() as board, trio.open_nursery() as nursery:
        for talk in talks:
            nursery.start_soon(talk_to, board, door.endpoint, talk)
        while len(door.let_in) < 5:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert len(door.let_in) == 5 == board._inside[door.endpoint]
        door.open.set()
    assert all(talk.done for talk in talks)


async def test_a_refused_call_says_so_and_makes_room() -> None:
    async with a_door() as door:
        endpoint = door.endpoint
    async with a_board() as board, trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(CallError, match="Connection refused") as caught:
                await talk_to(board, endpoint, Echo())
            assert not caught.value.connected

        for _ in range(1200):  # more than Python may call itself in a row
            nursery.start_soon(refused)


async def test_a_breach_of_the_rules_comes_to_the_caller() -> None:
    async with a_door() as door, a_board() as board:
        with pytest.raises(ProtocolError, match="not that word"):
            await talk_to(board, door.endpoint, Echo(refused=True))


async def test_who_hangs_up_ends_the_call() -> None:
    async with a_door(echoes=False) as door, a_board() as board, trio.open_nursery() as nursery:

        async def hung_up_on() -> None:
            with pytest.raises(CallError, match="closed the connection") as caught:
                await talk_to(board, door.endpoint, Echo())
            assert caught.value.connected
            assert not caught.value.silent

        nursery.start_soon(hung_up_on)
        while not door.let_in:
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.wait_readable(door.let_in[0])
        door.let_in[0].recv(10)
        door.let_in[0].close()


async def test_who_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.switchboard, "_OPEN_S", 0.0)
    monkeypatch.setattr(wire.switchboard, "_SWEEP_S", 0.0)
    async with a_door(echoes=False) as door, a_board() as board:
        with pytest.raises(CallError, match="does not answer") as caught:
            await talk_to(board, door.endpoint, Echo())
        assert caught.value.silent


async def test_who_waits_for_one_that_is_silent_is_told_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.switchboard, "_OPEN_S", 0.0)
    monkeypatch.setattr(wire.switchboard, "_SWEEP_S", 0.0)
    silent = []

    async def call(board: Switchboard, endpoint: Endpoint) -> None:
        with pytest.raises(CallError, match="does not answer") as caught:
            await talk_to(board, endpoint, Echo())
        silent.append(caught.value.silent)

    async with a_door(echoes=False) as door, a_board() as board:
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(call, board, door.endpoint)
        assert sorted(silent) == [False] * 4 + [True] * 5
        assert not board._inside


async def test_a_caller_may_leave_and_the_board_may_close() -> None:
    async with a_door(is_open=False) as door, a_board() as board:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(talk_to, board, door.endpoint, Echo())
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert not board._calls
        assert not board._inside
        door.open.set()
        await talk_to(board, door.endpoint, Echo())
    with pytest.raises(CallError, match="not to be called"):
        await talk_to(board, door.endpoint, Echo())


async def test_a_board_that_closes_breaks_its_calls_off() -> None:
    broken = []

    async def call(board: Switchboard, endpoint: Endpoint) -> None:
        try:
            await talk_to(board, endpoint, Echo())
        except CallError as error:
            broken.append(str(error))

    async with a_door(is_open=False) as door, open_plain_nursery() as callers:
        async with open_plain_nursery() as nursery:
            board = switchboard_of(TrioNetwork())
            assert board is not None
            nursery.start_soon(board.run)
            for _ in range(7):
                callers.start_soon(call, board, door.endpoint)
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert broken == ["the program ends"] * 7


async def test_who_is_told_of_an_end_may_place_the_next_call_and_break_others_off() -> None:
    told: list[str] = []
    async with a_door(is_open=False) as door, a_door(is_open=False) as mute, a_board() as board:
        calls: dict[int, Call] = {}

        def ended(number: int) -> None:
            told.append(f"{number}: {calls[number].error}")
            if number < 10:
                board.break_off(calls[number + 10])
                place(number + 20, door)

        def place(number: int, to: Door) -> None:
            call = calls[number] = board.place(to.endpoint, Echo())
            assert not call.is_over
            call.ended = partial(ended, number)

        for number in range(6):  # five are inside, and one waits for its turn
            place(number, door)
            place(number + 10, mute)
        door.open.set()
        while len(told) < 12:
            await trio.lowlevel.checkpoint()
        assert sorted(told) == sorted(f"{number}: None" for number in (*range(6), *range(20, 26)))
        for call in calls.values():  # all are over: nothing happens
            board.break_off(call)


async def test_a_number_that_was_left_to_a_new_call_is_not_taken_for_the_old_one() -> None:
    full = socket.create_server((HERE, 0), backlog=0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    async with a_door(echoes=False) as door, a_board() as board:
        calls = [board.place(door.endpoint, Echo()) for _ in range(2)]
        later: list[Call] = []

        def ended(other: Call) -> None:
            board.break_off(other)
            for _ in calls:  # they get the numbers of both
                later.append(board.place(Endpoint(HERE, full.getsockname()[1]), Echo()))

        calls[0].ended, calls[1].ended = partial(ended, calls[1]), partial(ended, calls[0])
        while len(door.let_in) < 2:
            await trio.lowlevel.checkpoint()
        for one in door.let_in:  # both have something to read in one batch
            one.send(b"hello")
        numbers = {call.sock.fileno() for call in calls if call.sock is not None}
        while not later:
            await trio.lowlevel.checkpoint()
        assert {call.sock.fileno() for call in later if call.sock is not None} == numbers
        assert [call.is_over or call.opened for call in later] == [False, False]
        for call in later:
            board.break_off(call)
    for one in (full, *fillers):
        one.close()


async def test_a_board_that_closes_lets_who_is_told_break_others_off() -> None:
    told: list[str] = []
    async with a_door(is_open=False) as door:
        async with open_plain_nursery() as nursery:
            board = switchboard_of(TrioNetwork())
            assert board is not None
            nursery.start_soon(board.run)
            await trio.testing.wait_all_tasks_blocked()
            calls = [board.place(door.endpoint, Echo()) for _ in range(3)]

            def ended(mine: Call) -> None:
                told.append(str(mine.error))
                for other in calls:
                    board.break_off(other)

            for call in calls:
                call.ended = partial(ended, call)
        assert told == ["the program ends"]
        assert not board._calls


async def test_the_block_list_holds_for_calls() -> None:
    network = FilteredNetwork(TrioNetwork(), BlockList(["127.0.0.1"]))
    async with a_door() as door, a_board(network) as board:
        with pytest.raises(CallError, match="not to be called"):
            await talk_to(board, door.endpoint, Echo())
        assert network.refused == 1
        assert not door.let_in


# links


class SeedDoor(Door):
    """Gives the metadata of some torrents; how often each was asked for."""

    def __init__(self, *torrents: Torrent) -> None:
        super().__init__()
        self.torrents = torrents
        self.asked: list[bytes] = []

    async def _echo(self, one: socket.socket) -> None:
        seed: Seed | None = None
        while True:
            await trio.lowlevel.wait_readable(one)
            data = one.recv(4096)
            if not data:
                return
            if seed is None:
                name = data[28:48]
                self.asked.append(name)
                infos = [torrent.info for torrent in self.torrents]
                raws = [info.raw for info in infos if info.info_hash.v1 == name]
                if not raws:
                    one.close()
                    return
                seed = Seed(raws[0])
            one.send(seed.hear(data))


def a_seed(*torrents: Torrent) -> AbstractAsyncContextManager[SeedDoor]:
    return serving(SeedDoor(*torrents))


def settings(**more: object) -> magnet.Config:
    plain = {"dht": False, "lsd": False, "port_mapping": False, "state_dir": None, "encryption": "off"}
    return magnet.Config(listen=(Endpoint(HERE, 0),), **{**plain, **more})


async def test_links_that_name_a_peer_are_resolved_without_a_torrent_in_the_session(tmp_path: Path) -> None:
    torrents = [make_torrent(f"t{n}", {f"t{n}": 40_000 + n})[0] for n in range(30)]
    async with a_seed(*torrents) as seed, magnet.Session(settings(state_dir=tmp_path)) as session:
        links = [str(link_of(torrent, seed.endpoint)) for torrent in torrents]
        results = []
        async with resolving(session, links, jobs=10) as channel:
            async for result in channel:
                assert not session.torrents
                results.append(result)
        assert {result.torrent.info for result in results if result.torrent} == {torrent.info for torrent in torrents}
        assert {result.source for result in results} == set(links)
        assert {result.via for result in results} == {"peer"}
        assert len(seed.asked) == 30
        again = await resolve_one(session, links[0])  # and they are kept
        assert (again.via, again.torrent) == ("cache", torrents[0])
        assert len(seed.asked) == 30


async def test_where_the_short_road_ends_the_long_one_begins() -> None:
    torrent, _ = make_torrent("one", {"one": 40_000})
    other, _ = make_torrent("other", {"other": 40_000})
    async with a_seed(torrent) as seed, magnet.Session(settings()) as session, open_plain_nursery() as nursery:
        link = link_of(other, seed.endpoint)
        assert await session.fetch(link) is None
        nursery.start_soon(resolve_one, session, link)
        while not (session.torrents and session.torrents[0].status().counts.dialled):  # it is judged there
            await trio.lowlevel.checkpoint()
        assert len(seed.asked) >= 2


async def test_a_lying_peer_gives_nothing_and_another_is_asked() -> None:
    torrent, _ = make_torrent("one", {"one": 40_000})
    lie, _ = make_torrent("lie", {"lie": 40_000})
    async with a_seed(torrent) as honest, a_seed(lie) as liar, magnet.Session(settings()) as session:

        async def lying(one: socket.socket) -> None:
            await trio.lowlevel.wait_readable(one)
            hello = bytearray(one.recv(4096))
            seed = Seed(lie.info.raw)
            one.send(seed.hear(bytes(hello)))
            while True:
                await trio.lowlevel.wait_readable(one)
                if not (data := one.recv(4096)):
                    return
                one.send(seed.hear(data))

        liar._echo = lying  # type: ignore[method-assign]
        assert await session.fetch(link_of(torrent, liar.endpoint)) is None
        got = await session.fetch(link_of(torrent, liar.endpoint, honest.endpoint))
        assert got is not None
        assert got[0].info == torrent.info


async def test_a_peer_without_encryption_is_asked_in_plain_and_that_is_remembered() -> None:
    torrents = [make_torrent(f"t{n}", {f"t{n}": 40_000 + n})[0] for n in range(2)]
    async with a_seed(*torrents) as seed, magnet.Session(settings(encryption="prefer")) as session:
        for torrent, connections in zip(torrents, (2, 3), strict=True):
            got = await session.fetch(link_of(torrent, seed.endpoint))
            assert got is not None
            assert got[0].info == torrent.info
            assert len(seed.asked) == connections
    async with a_seed(*torrents) as seed, magnet.Session(settings(encryption="require")) as session:
        assert await session.fetch(link_of(torrents[0], seed.endpoint)) is None


@pytest.mark.parametrize("more", [{"transport": "utp"}, {"down_limit": 10_000}, {"up_limit": 10_000}])
async def test_what_the_short_road_cannot_keep_to_goes_the_long_one(more: dict[str, object]) -> None:
    torrent, _ = make_torrent("one", {"one": 40_000})
    async with a_seed(torrent) as seed, magnet.Session(settings(**more)) as session:
        assert await session.fetch(link_of(torrent, seed.endpoint)) is None
        assert not seed.asked


async def test_a_link_without_peers_and_one_that_is_here_go_the_long_road() -> None:
    torrent, _ = make_torrent("one", {"one": 40_000})
    async with a_seed() as seed, magnet.Session(settings()) as session:
        link = link_of(torrent, seed.endpoint)
        assert await session.fetch(link_of(torrent)) is None
        handle = await session.add(link)
        assert await session.fetch(link) is None
        await handle.remove()


async def test_an_address_that_did_not_answer_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.switchboard, "_OPEN_S", 0.0)
    monkeypatch.setattr(wire.switchboard, "_SWEEP_S", 0.0)
    torrent, _ = make_torrent("one", {"one": 40_000})
    async with a_door(echoes=False) as door, magnet.Session(settings()) as session:
        assert await session.fetch(link_of(torrent, door.endpoint)) is None
        assert isinstance(session._errands, Errands)
        assert door.endpoint in session._errands._silent
        assert session._errands._board is not None
        calls: list[Endpoint] = []
        monkeypatch.setattr(session._errands._board, "place", lambda endpoint, talk: calls.append(endpoint))
        assert await session.fetch(link_of(torrent, door.endpoint)) is None
        assert not calls
