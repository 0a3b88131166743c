"""Trackers over the virtual internet: whom we ask and when, what we tell them, and what they cannot make us do."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from magnet.nursery import open_plain_nursery
from tests.shell.web import HttpTracker, UdpTracker, Web, ok, redirect, without_end
from tests.sim.net import Host, Internet
from wire import bencode
from wire.compact import Endpoint
from wire.errors import MisuseError, NetworkError
from wire.net import Stream
from wire.tracker.announcer import Announcer, Progress
from wire.tracker.client import TrackerClient
from wire.tracker.urls import check_tracker_url, is_tracker_url
from wire.tracker.values import Announce, AnnounceEvent, TrackerError
from wire.udp import UdpPump

SWARM = bytes(range(20))
ME = b"-KB0100-abcdefghijkl"
OTHER = Endpoint("80.7.7.7", 7777)
OTHER_SIX = Endpoint("2a01:7::7", 7777)
SAID = Announce(SWARM, ME, 6881, 1, 2, 3, AnnounceEvent.STARTED, key=5)


class Place:
    """A client with its sockets, and trackers at names of their own."""

    def __init__(self, internet: Internet, host: Host, nursery: trio.Nursery) -> None:
        self.internet, self.host, self.nursery = internet, host, nursery
        self.client: TrackerClient
        self._trackers = 0

    async def http(self, tracker: Web, name: str = "t.example", *addresses: str) -> str:
        host = self._host(name, *addresses)
        for address in host.addresses:
            self.nursery.start_soon(tracker.serve, await host.listen(Endpoint(address, 80)))
        return f"http://{name}/announce"

    async def udp(self, tracker: UdpTracker, name: str = "u.example", *addresses: str) -> str:
        host = self._host(name, *addresses)
        for address in host.addresses:
            self.nursery.start_soon(tracker.serve, await host.udp(Endpoint(address, 6969)))
        return f"udp://{name}:6969/announce?key=x"

    def _host(self, name: str, *addresses: str) -> Host:
        self._trackers += 1
        host = self.internet.host(*(addresses or (f"80.5.{self._trackers}.1",)))
        self.internet.names[name] = list(host.addresses)
        return host

    def announcer(self, groups: Iterable[Iterable[Sequence[str]]], progress: Progress | None = None, **more: object):
        self.progress = progress or Progress(0, 0, 100, False)
        return Announcer(
            self.client,
            groups,
            swarm_id=SWARM,
            peer_id=ME,
            port=6881,
            progress=lambda: self.progress,
            rng=random.Random(3),
            **more,  # type: ignore[arg-type]
        )


@asynccontextmanager
async def a_place(*, near: bool = False, **faults: object) -> AsyncIterator[Place]:
    internet = Internet(random.Random(1), **faults)  # type: ignore[arg-type]
    async with open_plain_nursery() as nursery:
        host = internet.host("80.1.1.1", "127.0.0.1", "10.1.1.1", "2a01:1::1")
        place = Place(internet, host, nursery)
        pumps = [UdpPump(await host.udp(Endpoint(any_host, 6881))) for any_host in ("0.0.0.0", "::")]
        for pump in pumps:
            nursery.start_soon(pump.run)
        place.client = TrackerClient(host, pumps, random.Random(2), near=near)
        yield place


async def collect(announcer: Announcer, seconds: float, *, then: object = None) -> list[Endpoint]:
    found: list[Endpoint] = []

    async def listen() -> None:
        async for peer in announcer.found:
            found.append(peer.endpoint)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(announcer.run)
            if then is not None:
                nursery.start_soon(then)
    return found


# one tracker


async def test_http_over_both_families_with_one_key(autojump_clock: object) -> None:
    async with a_place() as place:
        tracker = HttpTracker(OTHER, OTHER_SIX, tracker_id=b"id7", external_ip=bytes((80, 1, 1, 1)), complete=4)
        url = await place.http(tracker, "t.example", "80.5.5.5", "2a01:5::5")
        answer = await place.client.announce(url, SAID)
        assert {OTHER, OTHER_SIX} <= set(answer.reply.peers)
        assert (answer.reply.tracker_id, answer.reply.external_ip, answer.reply.seeders) == (b"id7", "80.1.1.1", 4)
        assert not answer.is_near
        assert [said["key"] for said in tracker.said] == [b"00000005"] * 2
        assert set(tracker.swarms[SWARM]) == {Endpoint("80.1.1.1", 6881), Endpoint("2a01:1::1", 6881)}


async def test_udp_over_the_shared_socket_with_its_path_told(autojump_clock: object) -> None:
    async with a_place() as place:
        tracker = UdpTracker(OTHER, OTHER_SIX)
        url = await place.udp(tracker, "u.example", "80.5.5.5", "2a01:5::5")
        answer = await place.client.announce(url, SAID)
        assert {OTHER, OTHER_SIX} <= set(answer.reply.peers)
        assert tracker.options == [b"\x02\x0f/announce?key=x"] * 2
        assert tracker.connects == 2
        assert place.host.datagrams_to[Endpoint("80.5.5.5", 6969)] == 2
        await place.client.announce(url, SAID)
        assert tracker.connects == 2  # the connection is good for a minute
        assert (await place.client.scrape(url, SWARM)).leechers == 2


async def test_udp_is_asked_again_after_15_s_and_given_up_after_45(autojump_clock: object) -> None:
    async with a_place() as place:
        url = await place.udp(UdpTracker(OTHER, deaf=1))
        start = trio.current_time()
        assert (await place.client.announce(url, SAID)).reply.peers == (OTHER,)
        assert 15 < trio.current_time() - start < 16
        deaf = await place.udp(UdpTracker(deaf=1000), "deaf.example")
        start = trio.current_time()
        with pytest.raises(NetworkError, match="does not answer"):
            await place.client.announce(deaf, SAID)
        assert 44 < trio.current_time() - start < 46


async def test_a_udp_tracker_that_started_anew_is_connected_anew(autojump_clock: object) -> None:
    async with a_place() as place:
        url = await place.udp(UdpTracker(OTHER))
        await place.client.announce(url, SAID)
        place.client._ids.put(Endpoint("80.5.1.1", 6969), 78, trio.current_time())
        assert OTHER in (await place.client.announce(url, SAID)).reply.peers


async def test_a_refusal_is_told_in_the_trackers_words(autojump_clock: object) -> None:
    async with a_place() as place:
        url = await place.udp(UdpTracker(refuse="not\x1b[31m here"))
        with pytest.raises(TrackerError, match=r"^not \[31m here$"):
            await place.client.announce(url, SAID)
        web = Web()
        web.answers["/announce"] = ok(bencode.encode({b"failure reason": b"banned", b"retry in": b"never"}))
        with pytest.raises(TrackerError, match="banned") as caught:
            await place.client.announce(await place.http(web), SAID)
        assert caught.value.never
        with pytest.raises(NetworkError, match="404"):
            await place.client.announce((await place.http(Web(), "none.example")), SAID)


async def test_scrape_over_http(autojump_clock: object) -> None:
    async with a_place() as place:
        web = Web()
        row = {b"complete": 1, b"downloaded": 2, b"incomplete": 3}
        web.answers["/scrape"] = ok(bencode.encode({b"files": {SWARM: row}}))
        url = await place.http(web)
        assert (await place.client.scrape(url, SWARM)).completed == 2
        web.answers["/scrape"] = ok(bencode.encode({b"files": {}}))
        with pytest.raises(TrackerError, match="does not know"):
            await place.client.scrape(url, SWARM)
        with pytest.raises(MisuseError, match="no scrape"):
            await place.client.scrape("http://t.example/x", SWARM)


async def test_trackers_that_never_end_or_lead_inside_are_cut_off(autojump_clock: object) -> None:
    async with a_place() as place:
        web, inside = Web(), Web()
        place.nursery.start_soon(inside.serve, await place.host.listen(Endpoint("127.0.0.1", 80)))
        url = await place.http(web)
        for answer in (
            without_end(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 16)),
            without_end(b"HTTP/1.1 200 OK\r\n\r\n", b"d", 1.0),
            redirect("http://127.0.0.1/announce"),
            redirect("udp://127.0.0.1:80/announce"),
            redirect("file:///etc/passwd"),
        ):
            web.answers["/announce"] = answer
            start = trio.current_time()
            with pytest.raises(NetworkError):
                await place.client.announce(url, SAID)
            assert trio.current_time() - start < 31
        place.internet.names["inside.example"] = ["127.0.0.1", "10.1.1.1"]
        for url in ("http://inside.example/announce", "udp://inside.example:80", "http://127.0.0.1/admin?announce"):
            with pytest.raises(NetworkError, match="address of this network"):
                await place.client.announce(url, SAID)
        assert inside.asked == []


async def test_who_names_a_near_tracker_for_all_to_see_gets_it(autojump_clock: object) -> None:
    async with a_place() as place:
        tracker = HttpTracker(Endpoint("10.1.1.9", 1))
        place.nursery.start_soon(tracker.serve, await place.host.listen(Endpoint("127.0.0.1", 80)))
        answer = await place.client.announce("http://127.0.0.1/announce", SAID)
        assert answer.is_near
        place.internet.names["inside.example"] = ["127.0.0.1"]
        assert (await place.client.announce("http://inside.example/announce", SAID, near=True)).is_near


@pytest.mark.parametrize(
    "url",
    ["http://t.example/announce", "HTTPS://t.example:443/a?b", "udp://[::1]:6969", "udp://t.example:80/announce"],
)
def test_what_is_a_trackers_url(url: str) -> None:
    assert check_tracker_url(url) == url


@pytest.mark.parametrize(
    "url",
    ["", "t.example:80", "wss://t.example/", "udp://t.example", "udp://t.example:0", "http://", "http://x:99999/a",
     "http://t.еxample/", "file:///etc/passwd", "http://t.example/\x1b[31m", "udp://[::1:6969", "http://" + "x" * 9999],
)  # fmt: skip
def test_what_is_none(url: str) -> None:
    assert not is_tracker_url(url)
    with pytest.raises(MisuseError) as caught:
        check_tracker_url(url)
    assert str(caught.value).isprintable()


# many trackers


async def test_hello_again_and_goodbye(autojump_clock: object) -> None:
    async with a_place() as place:
        web, udp = HttpTracker(OTHER, interval_s=900, tracker_id=b"a b"), UdpTracker(interval_s=700)
        announcer = place.announcer([[[await place.http(web)]], [[await place.udp(udp)]]])
        found = await collect(announcer, 2000)
        assert OTHER in found
        assert web.events == ["started", "", "", "stopped"]
        assert "trackerid" not in web.said[0]
        assert web.said[1]["trackerid"] == b"a b"
        assert udp.events == [2, 0, 0, 3]
        assert web.swarms == {SWARM: {}} == udp.swarms
        assert (announcer.counts.asked, announcer.counts.answered) == (2, 2)


async def test_completed_is_told_once_and_only_where_it_was_downloaded(autojump_clock: object) -> None:
    async with a_place() as place:
        web = HttpTracker(interval_s=900)
        announcer = place.announcer([[[await place.http(web)]]])

        async def finish() -> None:
            await trio.sleep(10)
            place.progress = Progress(5, 100, 0, True)
            announcer.complete()

        await collect(announcer, 1000, then=finish)
        assert web.events == ["started", "completed", "", "stopped"]
        assert [said["left"] for said in web.said] == [b"100", b"0", b"0", b"0"]
        seed = HttpTracker()
        announcer = place.announcer([[[await place.http(seed, "s.example")]]], Progress(0, 0, 0, True))
        announcer.complete()
        await collect(announcer, 10)
        assert seed.events == ["started", "stopped"]


async def test_goodbye_comes_after_what_was_being_said(autojump_clock: object) -> None:
    async with a_place() as place:
        web = HttpTracker()
        announcer = place.announcer([[[await place.http(web)]]])
        announce = web.answers["/announce"]

        async def slowly(stream: Stream, target: str) -> None:
            if "event=completed" in target:
                await trio.sleep(1)  # read late, as a tracker may that hears two connections at once
            await announce(stream, target)

        async def finish() -> None:
            await trio.sleep(9.9)
            web.answers["/announce"] = slowly
            place.progress = Progress(5, 100, 0, True)
            announcer.complete()

        await collect(announcer, 10, then=finish)
        assert web.events == ["started", "completed", "stopped"]
        assert web.swarms == {SWARM: {}}


async def test_a_partial_seed_says_so(autojump_clock: object) -> None:
    async with a_place() as place:
        web = HttpTracker(interval_s=60)
        announcer = place.announcer([[[await place.http(web)]]], Progress(0, 50, 50, True))
        announcer.complete()
        await collect(announcer, 130)
        assert web.events == ["started", "paused", "paused", "stopped"]


async def test_the_next_tier_is_asked_where_the_first_is_dead_or_silent(autojump_clock: object) -> None:
    async with a_place() as place:
        last, good = HttpTracker(), HttpTracker(OTHER)
        tiers = [
            ["http://nowhere.example/announce", "wss://browser.example/"],
            [await place.udp(UdpTracker(deaf=1000))],
            [await place.http(good)],
            [await place.http(last, "last.example")],
        ]
        announcer = place.announcer([tiers])
        found = await collect(announcer, 10)
        assert found == [OTHER]
        assert good.events == ["started", "stopped"]
        assert last.events == []
        assert (announcer.counts.asked, announcer.counts.answered) == (3, 1)
        assert announcer.counts.reason


async def test_of_a_private_torrent_one_tracker_is_asked_at_a_time(autojump_clock: object) -> None:
    async with a_place() as place:
        silent, good = UdpTracker(deaf=1000), HttpTracker()
        announcer = place.announcer([[[await place.udp(silent)]], [[await place.http(good)]]], private=True)
        await collect(announcer, 40)
        assert good.events == []
        await collect(announcer, 60)
        assert good.events == ["started", "stopped"]


async def test_when_it_turns_out_to_be_private_all_but_one_tracker_are_left(autojump_clock: object) -> None:
    async with a_place() as place:
        trackers = [HttpTracker(OTHER, interval_s=60) for _ in range(3)]
        announcer = place.announcer([[[await place.http(t, f"t{n}.example")]] for n, t in enumerate(trackers)])

        async def learn() -> None:
            await trio.sleep(10)
            announcer.make_private()

        await collect(announcer, 100, then=learn)
        assert sorted(len(tracker.events) for tracker in trackers) == [2, 2, 5]
        assert all(tracker.events[:2] == ["started", "stopped"] for tracker in trackers)


async def test_two_hundred_dead_trackers_do_not_keep_a_live_one_waiting_nor_flood(autojump_clock: object) -> None:
    async with a_place() as place:
        good = HttpTracker(OTHER)
        dead = [[[f"udp://80.99.{n}.1:1/announce"]] for n in range(300)]
        announcer = place.announcer([*dead, [[await place.http(good)]]])
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announcer.run)
            peer = await announcer.found.receive()
            assert peer.endpoint == OTHER
            nursery.cancel_scope.cancel()
        assert trio.current_time() - start < 1000


async def test_never_means_never_and_later_means_later(autojump_clock: object) -> None:
    async with a_place() as place:
        never, later = Web(), Web()
        never.answers["/announce"] = ok(bencode.encode({b"failure reason": b"no", b"retry in": b"never"}))
        later.answers["/announce"] = ok(bencode.encode({b"failure reason": b"no", b"retry in": 20}))
        announcer = place.announcer([[[await place.http(never)]], [[await place.http(later, "l.example")]]])
        await collect(announcer, 3000)
        assert len(never.asked) == 1
        assert len(later.asked) == 3


async def test_goodbyes_do_not_take_long(autojump_clock: object) -> None:
    async with a_place() as place:
        web = HttpTracker()
        announcer = place.announcer([[[await place.http(web)]]])

        async def unplug() -> None:
            await trio.sleep(5)
            place.host.mute = True
            web.answers["/announce"] = without_end(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 1.0)

        start = trio.current_time()
        await collect(announcer, 10, then=unplug)
        assert trio.current_time() - start <= 13.1


async def test_nor_does_what_was_being_said(autojump_clock: object) -> None:
    async with a_place() as place:
        web = HttpTracker()
        announcer = place.announcer([[[await place.http(web)]]])

        async def fall_silent() -> None:
            await trio.sleep(9)
            web.answers["/announce"] = without_end(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 1.0)
            place.progress = Progress(5, 100, 0, True)
            announcer.complete()

        start = trio.current_time()
        await collect(announcer, 10, then=fall_silent)
        assert trio.current_time() - start <= 14.1
