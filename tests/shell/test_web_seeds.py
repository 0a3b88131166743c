"""Whole sessions and web servers on the virtual internet: what they give, how they fail, and where they lead nobody."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio

from magnet import Session
from magnet.torrent import TorrentHandle
from magnet.verdict import DownloadError, Verdict
from tests.shell.kit import PIECE, World, a_world, make_torrent
from tests.shell.web import Web, redirect, status
from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.metainfo import Torrent
from wire.net import Stream
from wire.swarm import webrun

FILES = {"a.bin": 300_000, "b/c.bin": 1, "b/d.bin": 200_000}


class Mirror(Web):
    """Serves the files of a torrent with ranges and keeps connections; `spoil` may change what it says."""

    def __init__(self, torrent: Torrent, data: bytes) -> None:
        super().__init__()
        self.connections = 0
        self.ranges = True
        self.spoil: Callable[[str, bytes], bytes] = lambda _, answer: answer
        self.pause_s = 0.0
        self.deaf = False
        """What comes with a request is forgotten, as if nobody ever sent two at once."""
        self.open = 0
        self.most_open = 0
        self.most_ahead = 0
        self.parts = {
            "/" + "/".join(file.path): data[file.offset : file.offset + file.size] for file in torrent.info.files
        }

    async def _serve_one(self, stream: Stream) -> None:
        self.connections += 1
        try:
            buffer, said = memoryview(bytearray(4096)), b""
            while True:
                while b"\r\n\r\n" not in said:
                    if not (count := await stream.receive_into(buffer)):
                        return
                    said += buffer[:count]
                head, _, said = said.partition(b"\r\n\r\n")
                self.most_ahead = max(self.most_ahead, said.count(b"\r\n\r\n"))
                said = said.rpartition(b"\r\n\r\n")[2] if self.deaf else said
                target = head.split(b" ")[1].decode()
                self.asked.append(target)
                self.heads.append(head)
                if target in self.answers:
                    await self.answers[target](stream, target)
                    return
                self.open += 1
                self.most_open = max(self.open, self.most_open)
                await trio.sleep(self.pause_s)
                self.open -= 1
                await stream.send_all([self.spoil(target, self.answer(target, head))])
        except NetworkError:
            pass  # he left
        finally:
            stream.close()

    def answer(self, target: str, head: bytes) -> bytes:
        part = self.parts.get(target)
        if part is None:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        wanted = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"range:")), None)
        if wanted is None or not self.ranges:
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(part) + part
        first, last = (int(n) for n in wanted.partition(b"=")[2].split(b"-"))
        line = b"Content-Range: bytes %d-%d/%d" % (first, last, len(part))
        body = part[first : last + 1]
        return b"HTTP/1.1 206 Partial Content\r\n%b\r\nContent-Length: %d\r\n\r\n" % (line, len(body)) + body


class Place:
    """A downloader, a torrent, and its mirror at http://80.9.9.9/."""

    def __init__(self, world: World, torrent: Torrent, data: bytes, mirror: Mirror) -> None:
        self.world, self.torrent, self.data, self.mirror = world, torrent, data, mirror

    async def add(self, *urls: str, **config: object) -> tuple[Session, TorrentHandle]:
        session = await self.world.session(dht=False, lsd=False, **config)
        torrent = Torrent.of(self.torrent.info, web_seeds=urls or ["http://80.9.9.9/"])
        return session, await session.add(torrent)

    def got(self, session: Session) -> bool:
        return bytes(self.world.stores[session].last.data) == self.data


async def a_place(world: World, files: dict[str, int] = FILES, name: str = "t") -> Place:
    torrent, data = make_torrent(name, files)
    mirror = Mirror(torrent, data)
    host = world.internet.host("80.9.9.9")
    world.nursery.start_soon(mirror.serve, await host.listen(Endpoint("80.9.9.9", 80)))
    return Place(world, torrent, data, mirror)


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_web_seed_alone_finishes_it(autojump_clock: object, ranges: bool) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world)
        place.mirror.ranges = ranges
        session, handle = await place.add()
        with trio.fail_after(60):
            await handle.finished()
        assert place.got(session)
        status = handle.status()
        assert status.wasted == 0
        assert (status.peers, status.web_seeds, status.downloaded) == (0, 1, len(place.data))
        assert place.mirror.connections <= (2 if ranges else 20)
        assert not any(b"Accept-Encoding: gzip" in head for head in place.mirror.heads)


@pytest.mark.parametrize("deaf", [False, True])
async def test_many_small_files_are_asked_for_together(autojump_clock: object, deaf: bool) -> None:
    """Unless the server forgets what it has read beyond a request: then one by one, after a silence."""
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world, {f"{number:03}": 1000 for number in range(300)})
        place.mirror.deaf = deaf
        session, handle = await place.add()
        with trio.fail_after(200):
            await handle.finished()
        assert place.got(session)
        assert handle.status().wasted == 0
        assert place.mirror.most_ahead >= 30
        if not deaf:
            assert handle.status().elapsed_s < 12
            assert place.mirror.connections <= 2


async def test_what_others_fetch_is_not_asked_for_and_no_more_at_once_than_two(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world, {"big": 6_000_000}, "big")
        place.mirror.pause_s = 0.05
        peer = await world.seeder(place.torrent, place.data, dht=False, lsd=False)
        session, handle = await place.add(peers=((peer.host, peer.port),))
        with trio.fail_after(60):
            await handle.finished()
        assert place.got(session)
        assert place.mirror.asked, "the server gave some of it"
        assert handle.status().counts.connected == 1
        assert place.mirror.most_open <= 2
        assert handle.status().wasted < 0.05 * len(place.data)


async def test_a_busy_server_is_left_alone_for_as_long_as_it_says(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world)
        place.mirror.answers["/t/a.bin"] = status("503 Busy", "Retry-After: 120")
        session, handle = await place.add()
        await trio.sleep(100)
        assert len(place.mirror.asked) <= 2
        assert handle.status().counts.web_seeds_failed == 1
        place.mirror.answers.clear()
        with trio.fail_after(60):
            await handle.finished()
        assert place.got(session)


async def test_a_server_that_lies_is_asked_no_more_and_says_so(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world)
        place.mirror.spoil = lambda _, answer: answer[:-1] + bytes([answer[-1] ^ 1])
        _, handle = await place.add(patience_s=60.0)
        with pytest.raises(DownloadError, match=r"1 of 1 web seed failed.*wrong data") as caught:
            await handle.finished()
        assert caught.value.verdict is Verdict.STALLED
        assert len(place.mirror.asked) <= 6
        assert place.world.stores


async def test_a_liar_that_sends_whole_files_spoils_few_pieces(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world, {"big": 4_000_000}, "big")
        place.mirror.ranges = False
        place.mirror.spoil = lambda _, answer: answer[:1000] + bytes(len(answer) - 1000)
        _, handle = await place.add(patience_s=60.0)
        with pytest.raises(DownloadError, match=r"wrong data"):
            await handle.finished()
        assert 0 < handle.status().wasted <= 4 * PIECE, "what comes before the first is judged"
        assert len(place.mirror.asked) == 1


async def test_a_file_that_is_missing_there_comes_from_another(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world)
        part = place.mirror.parts.pop("/t/a.bin")
        _, handle = await place.add("http://80.9.9.9/")
        await trio.sleep(60)
        assert 0 < handle.status().pieces_done < handle.status().pieces_total
        place.mirror.parts |= {"/all" + path: data for path, data in [*place.mirror.parts.items(), ("/t/a.bin", part)]}
        session, handle = await place.add("http://80.9.9.9/", "http://80.9.9.9/all/")
        with trio.fail_after(60):
            await handle.finished()
        assert place.got(session)


@pytest.mark.parametrize("kind", ["endless head", "slow body", "no answer"])
async def test_who_drips_is_given_up_in_time(autojump_clock: object, kind: str) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world)

        async def drip(stream: Stream, target: str) -> None:
            if kind == "slow body":
                await stream.send_all([b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"])
            elif kind == "endless head":
                await stream.send_all([b"HTTP/1.1 200 OK\r\n"])
            while True:
                await trio.sleep(1)
                if kind != "no answer":
                    await stream.send_all([b"x" if kind == "slow body" else b"X: y\r\n"])

        place.mirror.answers |= dict.fromkeys(place.mirror.parts, drip)
        _, handle = await place.add()
        await trio.sleep(webrun.SILENCE_S + 5)
        assert handle.status().counts.web_seeds_failed == 1
        assert handle.runner.swarm.web.seeds[0].source.asked == {}


async def test_a_server_far_away_leads_nobody_into_a_network_nearby(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world)
        near = Web()
        lan = world.internet.host("10.0.0.9", "169.254.169.254")
        for address in lan.addresses:
            world.nursery.start_soon(near.serve, await lan.listen(Endpoint(address, 80)))
        world.internet.names["evil.example"] = ["10.0.0.9"]
        place.mirror.answers["/t/a.bin"] = redirect("http://10.0.0.9/secret")
        place.mirror.answers["/t/b/d.bin"] = redirect("http://169.254.169.254/latest/meta-data")
        urls = ["http://80.9.9.9/", "http://evil.example/", "http://10.0.0.9/x?do=it", "http://169.254.169.254/"]
        _, handle = await place.add(*urls)
        await trio.sleep(200)
        assert near.asked == []
        assert handle.status().counts.web_seeds_failed == 4


async def test_redirects_are_followed_once_a_file(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world, {"big": 4_000_000}, "big")
        place.mirror.answers["/moved/big"] = redirect("/big")
        session, handle = await place.add("http://80.9.9.9/moved/")
        with trio.fail_after(60):
            await handle.finished()
        assert place.got(session)
        assert place.mirror.asked.count("/moved/big") <= 2 < place.mirror.asked.count("/big")


async def test_the_limit_of_the_session_holds(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world, {"big": 2_000_000}, "big")
        _, handle = await place.add(down_limit=100_000)
        began = trio.current_time()
        await trio.sleep(5)
        assert 50_000 < handle.status().down_rate < 200_000, "measured, though there is no peer"
        with trio.fail_after(60):
            await handle.finished()
        # A second's worth goes at once, and the last part that is read, of 256 KiB, is paid for later.
        assert (2_000_000 - 100_000 - (256 << 10)) / 100_000 <= trio.current_time() - began <= 25


async def test_no_web_seeds_means_none_and_a_seed_asks_for_nothing(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world)
        await place.add(web_seeds=False)
        await trio.sleep(30)
        assert place.mirror.asked == []


async def test_ftp_and_such_are_passed_over(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world)
        session, handle = await place.add("ftp://80.9.9.9/", "file:///etc/passwd", "http://[::", "http://80.9.9.9/")
        with trio.fail_after(60):
            await handle.finished()
        assert place.got(session)


async def test_removed_in_the_middle_nothing_is_left(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        place = await a_place(world, {"big": 3_000_000}, "big")
        place.mirror.pause_s = 0.2
        _, handle = await place.add()
        for _ in range(random.Random(3).randrange(3, 9)):
            await trio.sleep(0.1)
        await handle.remove()
        asked = len(place.mirror.asked)
        await trio.sleep(5)
        assert len(place.mirror.asked) == asked
