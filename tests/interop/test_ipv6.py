"""Over IPv6 alone, with what nobody here wrote: trackers over HTTP and UDP, and local discovery."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import trio

from magnet.nursery import open_plain_nursery
from tests.interop.harness import (
    Program,
    assert_same_tree,
    free_port,
    kademlia_bt,
    libtorrent,
    magnet,
    need_client,
    need_libtorrent,
    torrent_of,
)
from tests.interop.namespaces import Machine, two_machines
from wire.compact import Endpoint
from wire.ids import make_peer_id
from wire.tracker.client import TrackerClient
from wire.tracker.values import Announce, AnnounceEvent
from wire.trio_net import TrioNetwork
from wire.udp import UdpPump

pytestmark = pytest.mark.interop

FILES = {"a.bin": 700_000, "b/c.bin": 123_456}
HERE = "::1"


@contextmanager
def tracker() -> Iterator[int]:
    """bittorrent-tracker on [::1] for HTTP and UDP; its port. Debian's opentracker is made for IPv4 alone."""
    program, port = need_client("bittorrent-tracker"), free_port(HERE)
    options = ["--http", "--udp", "--port", str(port), "--http-hostname", HERE, "--udp6-hostname", HERE]
    with Program([program, *options, "--udp-hostname", "127.0.0.1"]) as running:
        running.wait_line(lambda line: line.startswith("HTTP tracker"))
        yield port


def drop_ipv4(machine: Machine) -> None:
    """Takes away its address of that family."""
    address = ("address", "delete", f"{machine.address}/16", "dev", "wire")
    subprocess.run([*machine.prefix, "ip", *address], check=True, timeout=60)


def test_libtorrent_and_we_find_each_other_by_an_http_tracker(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, FILES)
    options = ("--no-dht", "--no-lsd", "--listen", f"[{HERE}]:0", "--json", "--timeout", "30")
    with tracker() as port:
        url = f"http://[{HERE}]:{port}/announce"
        link = f"magnet:?xt=urn:btih:{info_hash}&tr={url}"
        with magnet("seed", torrent, "--data", root.parent, *options, "--tracker", url, state=tmp_path / "s1") as seed:
            seed.wait_event("seeding")
            with magnet("get", link, "-o", tmp_path / "got", *options, state=tmp_path / "s2") as get:
                get.finish(0)
            (tmp_path / "theirs").mkdir()
            with libtorrent("get", link, tmp_path / "theirs", "--listen", f"[{HERE}]:{free_port(HERE)}") as theirs:
                theirs.wait_event("done")
    assert_same_tree(root, tmp_path / "got" / "things")
    assert_same_tree(root, tmp_path / "theirs" / "things")


async def test_a_udp_tracker_counts_us() -> None:
    """It hears us on its IPv6 socket, and names IPv4 peers alone over UDP: so nobody is found there."""
    rng = random.Random(1)
    said = {"info_hash": b"info-hash of a test!", "peer_id": make_peer_id(rng), "port": 9}
    hello = Announce(**said, uploaded=0, downloaded=0, left=0, event=AnnounceEvent.STARTED)  # type: ignore[arg-type]
    with tracker() as port:
        network = TrioNetwork()
        socket = await network.udp(Endpoint(HERE, 0))
        pump = UdpPump(socket)
        client = TrackerClient(network, [pump], rng, near=True)
        url = f"udp://[{HERE}]:{port}/announce"
        with closing(socket), trio.fail_after(60):
            async with open_plain_nursery() as nursery:
                nursery.start_soon(pump.run)
                answer = await client.announce(url, hello)
                row = await client.scrape(url, b"info-hash of a test!")
                nursery.cancel_scope.cancel()
    assert answer.reply.peers == ()
    assert row.seeders == 1


@pytest.mark.parametrize("we_seed", [False, True])
def test_local_discovery(tmp_path: Path, we_seed: bool) -> None:
    """[ff15::efc0:988f]:6771 (BEP 14), in a network that has no IPv4."""
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, FILES)
    got = tmp_path / "got"
    got.mkdir()
    with two_machines(ipv6=True) as (here, there), ExitStack() as stack:
        for machine in (here, there):
            drop_ipv4(machine)
        host, other = here.addresses[-1], there.addresses[-1]
        ours = ("--no-dht", "--no-trackers", "--listen", f"[{host}]:{free_port()}", "--json", "--timeout", "60")
        listen = ("--listen", f"[{other}]:{free_port()}", "--lsd")
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
            link = f"magnet:?xt=urn:btih:{info_hash}"
            get = stack.enter_context(magnet("get", link, "-o", got, *ours, state=tmp_path / "s", prefix=here.prefix))
            get.finish(0, timeout_s=70)
    assert_same_tree(root, got / "things")


@pytest.mark.parametrize("we_seed", [False, True])
def test_the_dht(tmp_path: Path, we_seed: bool) -> None:
    """A node of ours alone brings libtorrent's and ours together (BEP 32), in a network that has no IPv4."""
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, FILES)
    got, link = tmp_path / "got", f"magnet:?xt=urn:btih:{info_hash}"
    got.mkdir()
    with two_machines(ipv6=True) as (here, there), ExitStack() as stack:
        for machine in (here, there):
            drop_ipv4(machine)
        host, other = here.addresses[-1], there.addresses[-1]
        router = f"[{host}]:{free_port()}"
        run = ("run", "--listen", router, "--bootstrap", router, "--json")
        stack.enter_context(kademlia_bt(*run, prefix=here.prefix)).wait_event("listening")
        ours = ("--listen", f"[{host}]:0", "--bootstrap", router, "--no-trackers", "--no-lsd", "--json")
        theirs = ("--listen", f"[{other}]:{free_port()}", "--dht", router)
        if we_seed:
            seed = magnet("seed", torrent, "--data", root.parent, *ours, state=tmp_path / "s", prefix=here.prefix)
            stack.enter_context(seed).wait_event("seeding")
            get = stack.enter_context(libtorrent("get", link, got, *theirs, prefix=there.prefix))
            get.wait_event("done", timeout_s=70)
        else:
            seed = libtorrent("seed", torrent, root.parent, *theirs, prefix=there.prefix)
            stack.enter_context(seed).wait_event("seeding")
            end = ("--timeout", "60")
            get = magnet("get", link, "-o", got, *end, *ours, state=tmp_path / "s", prefix=here.prefix)
            stack.enter_context(get).finish(0, timeout_s=70)
    assert_same_tree(root, got / "things")


def test_libtorrent_hands_over_a_peer(tmp_path: Path) -> None:
    """It seeds nothing: it names one of ours to another of ours, which was told of it alone (`added6`, BEP 11)."""
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, FILES)
    (tmp_path / "theirs").mkdir()
    with two_machines(ipv6=True) as (here, there), ExitStack() as stack:
        for machine in (here, there):
            drop_ipv4(machine)
        host, other = here.addresses[-1], there.addresses[-1]
        second = f"{host}1"
        more = ("address", "add", f"{second}/64", "dev", "wire", "nodad")
        subprocess.run([*here.prefix, "ip", *more], check=True, timeout=60)
        ours, theirs = f"[{host}]:{free_port()}", f"[{other}]:{(port := free_port())}"
        options = ("--no-dht", "--no-trackers", "--no-lsd", "--listen", ours, "--up-limit", "8K", "--json")
        seed = magnet("seed", torrent, "--data", root.parent, *options, state=tmp_path / "s", prefix=here.prefix)
        stack.enter_context(seed).wait_event("seeding")
        told = ("--listen", theirs, "--peer", ours)
        stack.enter_context(libtorrent("get", torrent, tmp_path / "theirs", *told, prefix=there.prefix))
        child = [str(Path(__file__).with_name("pex_child.py")), torrent, tmp_path / "other", second, other]
        with Program([*here.prefix, sys.executable, *map(str, child), str(port)]) as third:
            assert third.wait_event("found", timeout_s=140).get("pex"), third.story()
