"""How many share a torrent: what trackers and the DHT say, who says nothing, and of whom nobody is asked."""

from __future__ import annotations

import json

import pytest
import trio

from magnet.census import DHT, Count
from magnet.files import show_info
from tests.shell.kit import a_world, link_of, make_torrent
from tests.shell.web import Web, ok
from wire import bencode
from wire.compact import Endpoint

FILES = {"a": 50_000}
TORRENT, DATA = make_torrent("t", FILES)
SWARM = TORRENT.info.info_hash.swarm_ids[0]


async def tracker(world, row: dict[bytes, int] | None) -> str:
    host, web = world.host(), Web()
    if row is not None:
        web.answers["/scrape"] = ok(bencode.encode({b"files": {SWARM: row}}))
    world.nursery.start_soon(web.serve, await host.listen(Endpoint(host.addresses[0], 80)))
    return f"http://{host.addresses[0]}/announce"


async def test_trackers_and_the_dht_are_asked_side_by_side(autojump_clock: object) -> None:
    async with a_world() as world:
        for _ in range(2):
            await world.seeder(TORRENT, DATA)
        await trio.sleep(10)  # they announce
        knows = await tracker(world, {b"complete": 7, b"downloaded": 100, b"incomplete": 3})
        knows_not = await tracker(world, None)
        nobody = "http://81.250.0.1/announce"
        session = await world.session()
        link = link_of(TORRENT, trackers=(knows, knows_not, nobody, "http://81.250.0.1/x"))
        counts = {count.source: count for count in await session.census(link)}
        assert list(counts) == [*link.trackers, DHT]
        assert counts[knows] == Count(knows, 7, 3, 100)
        assert counts[knows_not].seeds is None
        assert counts[nobody].reason is not None
        assert "BEP 48" in (counts["http://81.250.0.1/x"].reason or "")
        assert (counts[DHT].seeds, counts[DHT].leechers) == (2, 0)
        assert session.torrents == ()


async def test_who_is_silent_is_not_waited_for(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        host = world.host()
        await host.listen(Endpoint(host.addresses[0], 80))  # and takes nobody in
        url = f"http://{host.addresses[0]}/announce"
        session = await world.session(bootstrap=(("80.250.0.1", 6881),))
        before = trio.current_time()
        counts = await session.census(link_of(TORRENT, trackers=(url,)), within_s=5.0)
        assert trio.current_time() - before <= 5.0
        assert [count.reason for count in counts] == ["it did not answer within 5 s"] * 2


async def test_of_a_private_torrent_only_its_tracker_is_asked(autojump_clock: object) -> None:
    async with a_world() as world:
        private, _ = make_torrent("p", FILES, private=True, trackers=[await tracker(world, None)])
        session = await world.session()
        counts = await session.census(private)
        assert [count.source for count in counts] == [private.trackers[0][0]]


def test_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    counts = [Count("http://t.example/announce", 7, 3, 100), Count(DHT, reason="\x1b[2J")]
    show_info(TORRENT, None, json=False, counts=counts)
    shown = capsys.readouterr().out
    assert "swarm  7 seeds, 3 leechers, 100 downloads, by http://t.example/announce\n" in shown
    assert "\x1b" not in shown
    show_info(TORRENT, None, json=True, counts=counts)
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert event["swarm"][0] == {
        "source": "http://t.example/announce", "seeds": 7, "leechers": 3, "completed": 100, "reason": None,
    }  # fmt: skip
    show_info(TORRENT, None, json=True)
    assert "swarm" not in json.loads(capsys.readouterr().out)
