"""A session that restores itself: what is listed, what comes back, and files that are damaged or held by another."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from magnet.inbox import Inbox
from magnet.roster import Listed, Roster, read_list, write_list
from tests.shell.kit import a_world, link_of, make_torrent
from wire.errors import MisuseError, ProtocolError

ONE, ONE_DATA = make_torrent("one", {"one": 100_000})
TWO, TWO_DATA = make_torrent("two", {"two": 50_000})
THREE, _ = make_torrent("three", {"three": 50_000})
ENTRIES = [Listed("magnet:?xt=urn:btih:" + "ab" * 20, "/d", ("*.mkv",), True), Listed("x", "é")]


async def test_many_torrents_come_back_in_a_new_session(autojump_clock, tmp_path: Path):
    async with a_world(dht_nodes=0) as world:
        peers = [await world.seeder(ONE, ONE_DATA, dht=False), await world.seeder(TWO, TWO_DATA, dht=False)]
        session = world.new_session(dht=False)
        async with session, Roster(session, tmp_path) as roster:
            await roster.add(link_of(ONE, peers[0]), directory=tmp_path / "a", only=["o*"])
            gone = await roster.add(link_of(THREE), directory=tmp_path)
            await roster.add(link_of(TWO, peers[1]), directory="b")
            await roster.remove(gone)
        session = world.new_session(dht=False)
        async with session, Roster(session, tmp_path) as roster:
            handles = await roster.restore()
            assert [handle.info_hash for handle in handles] == [ONE.info.info_hash, TWO.info.info_hash]
            for handle in handles:
                await handle.finished()
            assert handles[0].path == tmp_path / "a" / "one"
            assert handles[1].path == Path("b/two").absolute()
            assert {bytes(store.data) for store in world.stores[session].made} == {ONE_DATA, TWO_DATA}
            assert await roster.restore() == []
            assert len(roster.listed) == 2


async def test_one_keeper_at_a_time(autojump_clock, tmp_path: Path):
    async with a_world(dht_nodes=0) as world:
        session = await world.session(dht=False)
        async with Roster(session, tmp_path):
            with pytest.raises(MisuseError, match="another process"):
                async with Roster(session, tmp_path):
                    pass
        async with Roster(session, tmp_path):
            pass


async def test_a_damaged_list_is_set_aside(autojump_clock, tmp_path: Path):
    (tmp_path / "session").write_bytes(b"damaged")
    async with a_world(dht_nodes=0) as world, Roster(await world.session(dht=False), tmp_path) as roster:
        assert roster.listed == ()
    assert (tmp_path / "session.damaged").read_bytes() == b"damaged"


def test_cut_or_changed_at_any_byte_it_is_no_list():
    data = write_list(ENTRIES)
    assert read_list(data) == ENTRIES
    for at in range(len(data)):
        for broken in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            with pytest.raises(ProtocolError):
                read_list(broken)


async def test_a_request_is_followed_once_and_what_is_none_is_thrown_away(tmp_path: Path):
    inbox, folder = Inbox(tmp_path), tmp_path / "session.inbox"
    answers = []

    async def ask() -> None:
        answers.append(await inbox.ask("add", ENTRIES))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        (request,) = await inbox.next()
        assert (request.kind, list(request.entries)) == ("add", ENTRIES)
        request.followed()
    assert answers == [True]
    for name, data in {"a.add": write_list(ENTRIES)[:-1], "b.remove": b"", "c.exec": write_list(ENTRIES)}.items():
        (folder / name).write_bytes(data)
    (folder / "d.remove").write_bytes(write_list(ENTRIES[:1]))
    (request,) = await inbox.next()
    assert (request.kind, list(request.entries)) == ("remove", ENTRIES[:1])
    assert [path.name for path in folder.iterdir()] == ["d.remove"]


async def test_a_request_that_nobody_follows_is_taken_back(autojump_clock, tmp_path: Path):
    assert not await Inbox(tmp_path).ask("add", ENTRIES)
    assert list((tmp_path / "session.inbox").iterdir()) == []
