"""Real trackers, and peers that real clients hand over: opentracker, bittorrent-tracker, libtorrent, transmission."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio

from magnet import Config, MagnetLink, Session
from magnet.nursery import open_plain_nursery
from tests.interop.harness import (
    PIECE,
    Program,
    assert_same_tree,
    free_port,
    libtorrent,
    magnet,
    make_torrent,
    make_tree,
    need_client,
    need_libtorrent,
    torrent_of,
)
from tests.interop.namespaces import Machine, two_machines
from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.ids import make_peer_id
from wire.tracker.client import TrackerClient
from wire.tracker.values import Announce, AnnounceEvent
from wire.trio_net import TrioNetwork
from wire.udp import UdpPump

pytestmark = pytest.mark.interop

FILES = {"a.bin": 700_000, "b/c.bin": 123_456}


@contextmanager
def opentracker(info_hash: str) -> Iterator[int]:
    """An opentracker on loopback that serves one torrent (Debian's serves what its whitelist names); its port."""
    program = need_client("opentracker")
    port = free_port()
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # it gives up root's rights before it reads
        (Path(folder) / "whitelist").write_text(info_hash + "\n")
        command = [program, "-i", "127.0.0.1", "-p", str(port), "-P", str(port), "-d", folder, "-w", "whitelist"]
        with Program(command) as running:
            _answering(port, running)
            yield port


@contextmanager
def bittorrent_tracker() -> Iterator[int]:
    """The tracker that WebTorrent's people wrote, on loopback; its port."""
    program = need_client("bittorrent-tracker")
    port = free_port()
    options = ["--http", "--udp", "--port", str(port), "--http-hostname", "127.0.0.1", "--udp-hostname", "127.0.0.1"]
    with Program([program, *options]) as running:
        running.wait_line(lambda line: line.startswith("HTTP tracker"))
        _answering(port, running)
        yield port


def _answering(port: int, running: Program) -> None:
    async def wait() -> None:
        with trio.fail_after(60):
            while running.running:
                try:
                    stream = await TrioNetwork().connect(Endpoint("127.0.0.1", port))
                except NetworkError:  # refused until it listens
                    await trio.sleep(0.05)
                else:
                    stream.close()
                    return
        raise AssertionError(running.story())

    trio.run(wait)


@contextmanager
def tracker(kind: str, info_hash: str) -> Iterator[int]:
    with opentracker(info_hash) if kind == "opentracker" else bittorrent_tracker() as port:
        yield port


KINDS = pytest.mark.parametrize("kind", ["opentracker", "bittorrent-tracker"])
SCHEMES = pytest.mark.parametrize("scheme", ["http", "udp"])


@KINDS
@SCHEMES
def test_a_seeder_and_a_downloader_find_each_other_by_a_tracker_alone(tmp_path: Path, kind: str, scheme: str) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, FILES)
    with tracker(kind, info_hash) as port:
        url = f"{scheme}://127.0.0.1:{port}/announce"
        options = ("--no-dht", "--no-lsd", "--listen", "127.0.0.1:0", "--json", "--timeout", "30")
        with magnet("seed", torrent, "--data", root.parent, *options, "--tracker", url, state=tmp_path / "s1") as seed:
            seed.wait_event("seeding")
            link = f"magnet:?xt=urn:btih:{info_hash}&tr={url}"
            with magnet("get", link, "-o", tmp_path / "got", *options, state=tmp_path / "s2") as get:
                get.finish(0)
            assert get.events("metadata")[0]["source"] in ("tracker", "peer")  # who dials first is chance
            assert len(_peers_at(url, info_hash)) == 1, "who has left is not named any more"
            seed.interrupt()
            seed.finish(0)
        assert _peers_at(url, info_hash) == []
    assert_same_tree(root, tmp_path / "got" / "things")


def _peers_at(url: str, info_hash: str) -> list[Endpoint]:
    """Whom the tracker names to a stranger; he leaves at once."""

    async def ask() -> list[Endpoint]:
        network = TrioNetwork()
        socket = await network.udp(Endpoint("127.0.0.1", 0))
        pump = UdpPump(socket)
        rng = random.Random(url)
        client = TrackerClient(network, [pump], rng, near=True)
        said = {"info_hash": bytes.fromhex(info_hash), "peer_id": make_peer_id(rng), "port": 9}
        with closing(socket):
            async with open_plain_nursery() as nursery:
                nursery.start_soon(pump.run)
                hello = Announce(**said, uploaded=0, downloaded=0, left=1, event=AnnounceEvent.STARTED)
                with trio.fail_after(60):
                    answer = await client.announce(url, hello)
                    row = await client.scrape(url, bytes.fromhex(info_hash))
                    assert row.leechers >= 1
                    bye = Announce(**said, uploaded=0, downloaded=0, left=1, event=AnnounceEvent.STOPPED)
                    await client.announce(url, bye)
        return [peer for peer in answer.reply.peers if peer.port != 9]

    return trio.run(ask)


@SCHEMES
def test_libtorrent_and_we_meet_at_opentracker_both_ways(tmp_path: Path, scheme: str) -> None:
    need_libtorrent()
    need_client("opentracker")
    root = make_tree(tmp_path / "seeds" / "things", FILES)
    torrent = tmp_path / "things.torrent"
    info_hash = make_torrent(root, torrent, piece_bytes=PIECE)
    with opentracker(info_hash) as port, ExitStack() as stack:
        url = f"{scheme}://127.0.0.1:{port}/announce"
        make_torrent(root, torrent, piece_bytes=PIECE, trackers=[url])
        ours = ("--no-dht", "--no-lsd", "--listen", "127.0.0.1:0", "--json", "--timeout", "40")
        theirs = stack.enter_context(
            libtorrent("seed", torrent, root.parent, "--listen", f"127.0.0.2:{free_port('127.0.0.2')}")
        )
        theirs.wait_event("seeding")
        link = f"magnet:?xt=urn:btih:{info_hash}&tr={url}"
        with magnet("get", link, "-o", tmp_path / "got", *ours, state=tmp_path / "s1") as get:
            get.finish(0)
        assert_same_tree(root, tmp_path / "got" / "things")
        theirs.kill()
        seed = stack.enter_context(magnet("seed", torrent, "--data", tmp_path / "got", *ours, state=tmp_path / "s2"))
        seed.wait_event("seeding")
        (tmp_path / "back").mkdir()
        back = stack.enter_context(
            libtorrent("get", link, tmp_path / "back", "--listen", f"127.0.0.3:{free_port('127.0.0.3')}")
        )
        back.wait_event("done")
    assert_same_tree(root, tmp_path / "back" / "things")


# peers that peers name (BEP 11)


def test_libtorrent_names_a_peer_to_us(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, {"big.bin": 6_000_000})
    first, second = (f"127.0.0.{n}:{free_port(f'127.0.0.{n}')}" for n in (4, 5))
    (tmp_path / "theirs").mkdir()

    async def ask() -> dict[str, int]:
        config = Config(
            listen=(Endpoint("127.0.0.1", 0),), peers=(("127.0.0.5", int(second.rpartition(":")[2])),), dht=False,
            lsd=False, state_dir=None, down_limit=20_000,
        )  # fmt: skip
        async with Session(config) as session:
            handle = await session.add(str(MagnetLink.parse(info_hash)), directory=tmp_path / "ours")
            with trio.move_on_after(90):
                while "pex" not in handle.status().counts.found:
                    await trio.sleep(0.1)
            return dict(handle.status().counts.found)

    with libtorrent("seed", torrent, root.parent, "--listen", first, "--rate", "50000") as seed:
        seed.wait_event("seeding")  # else it is dialled in vain, and again a minute later
        with libtorrent("get", torrent, tmp_path / "theirs", "--listen", second, "--peer", first) as middle:
            middle.wait_event("started")
            found = trio.run(ask)
            assert found["peer"] == 1
            assert 1 <= found["pex"] <= 2  # we may be named to ourselves, too


def test_we_name_a_peer_to_libtorrent(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, {"big.bin": 6_000_000})
    first, last = (f"127.0.0.{n}:{free_port(f'127.0.0.{n}')}" for n in (6, 7))
    (tmp_path / "theirs").mkdir()

    async def stand_between() -> None:
        host, _, port = first.rpartition(":")
        config = Config(
            listen=(Endpoint("127.0.0.1", 0),), peers=((host, int(port)),), dht=False, lsd=False, state_dir=None,
            down_limit=20_000, up_limit=20_000,
        )  # fmt: skip
        async with Session(config) as session:
            handle = await session.add(torrent, directory=tmp_path / "ours")
            with trio.fail_after(60):
                while not handle.status().seeds:
                    await trio.sleep(0.05)
            listen = f"127.0.0.1:{session.endpoints[0].port}"
            with libtorrent("get", torrent, tmp_path / "theirs", "--listen", last, "--peer", listen) as get:
                with trio.fail_after(90):
                    while True:
                        stats = await trio.to_thread.run_sync(lambda: get.ask("stats", "stats"))
                        if stats["peers"] >= 2 or get.events("done"):
                            return
                        await trio.sleep(0.2)

    with libtorrent("seed", torrent, root.parent, "--listen", first) as seed:
        seed.wait_event("seeding")
        trio.run(stand_between)


# the local network (BEP 14)


def _multicast_stays_here(*machines: Machine) -> None:
    for machine in machines:
        subprocess.run([*machine.prefix, "ip", "route", "add", "224.0.0.0/4", "dev", "wire"], check=True, timeout=60)


@pytest.mark.parametrize("we_seed", [False, True])
def test_libtorrent_and_we_find_each_other_in_the_local_network(tmp_path: Path, we_seed: bool) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, FILES)
    with two_machines() as (here, there), ExitStack() as stack:
        _multicast_stays_here(here, there)
        ours = ("--no-dht", "--no-trackers", "--listen", f"{here.address}:{free_port()}", "--json", "--timeout", "60")
        listen = ("--listen", f"{there.address}:{free_port()}", "--lsd")
        link = f"magnet:?xt=urn:btih:{info_hash}"
        got = tmp_path / "got"
        got.mkdir()
        if we_seed:
            seed = stack.enter_context(
                magnet("seed", torrent, "--data", root.parent, *ours, state=tmp_path / "s", prefix=here.prefix)
            )
            seed.wait_event("seeding")
            get = stack.enter_context(libtorrent("get", torrent, got, *listen, prefix=there.prefix))
            get.wait_event("done", timeout_s=70)
        else:
            theirs = stack.enter_context(libtorrent("seed", torrent, root.parent, *listen, prefix=there.prefix))
            theirs.wait_event("seeding")
            get = stack.enter_context(magnet("get", link, "-o", got, *ours, state=tmp_path / "s", prefix=here.prefix))
            get.finish(0, timeout_s=70)
            assert get.events("metadata")[0]["source"] in ("lsd", "peer")  # who dials first is chance
    assert_same_tree(root, got / "things")
