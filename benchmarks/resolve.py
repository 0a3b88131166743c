"""How long does a link alone take to become metadata, on a DHT of sixty libtorrent nodes on loopback?

    python benchmarks/resolve.py [--runs N]

Warm: in one session that has joined, from `add` to the verified info dictionary. Cold: a whole `magnet resolve`
process with an empty state folder and one bootstrap node, from its start to the written .torrent. Beside them what
libtorrent takes: warm, in a session whose DHT has joined, from adding the link to its metadata alert. Every run has a
torrent and a libtorrent seeder of its own. Printed are milliseconds: the median and the spread. Needs libtorrent's
wheel.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import magnet as library
from tests.interop.conftest import DHT_NODES, LibtorrentDht
from tests.interop.harness import free_port, libtorrent, magnet, seeder, torrent_of
from wire.compact import Endpoint, parse_host_port


def spread(name: str, seconds: Sequence[float]) -> str:
    ms = [value * 1000 for value in seconds]
    return f"{name:>18}: {statistics.median(ms):7.1f} ms (from {min(ms):.1f} to {max(ms):.1f})"


async def warm(dht: LibtorrentDht, links: Sequence[str], folder: Path) -> list[float]:
    """Seconds from `add` to metadata, link after link."""
    config = library.Config(
        listen=(Endpoint("127.0.0.1", free_port()),), bootstrap=(parse_host_port(dht.bootstrap),), state_dir=folder
    )
    times = []
    async with library.Session(config) as session:
        await session.node.wait_joined()
        for link in links:
            begun = time.perf_counter()
            handle = await session.add(link, metadata_only=True)
            await handle.metadata()
            times.append(time.perf_counter() - begun)
            await handle.remove()
    return times


def cold(dht: LibtorrentDht, links: Sequence[str], folder: Path) -> list[float]:
    """Seconds of whole processes."""
    times = []
    for run, link in enumerate(links):
        options = ("--bootstrap", dht.bootstrap, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20")
        begun = time.perf_counter()
        with magnet("resolve", link, "-o", folder / "out", *options, state=folder / f"state{run}") as program:
            program.finish(0)
            times.append(time.perf_counter() - begun)
    return times


def theirs(dht: LibtorrentDht, links: Sequence[str], folder: Path) -> list[float]:
    """Seconds that libtorrent says it took for the metadata, its DHT having joined for five seconds before."""
    import libtorrent as lt

    host, port = parse_host_port(dht.bootstrap)
    session = lt.session(
        {
            "listen_interfaces": f"127.0.0.1:{free_port()}",
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "dht_bootstrap_nodes": f"{host}:{port}",
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_ignore_dark_internet": False,
            "dht_prefer_verified_node_ids": False,
            "dht_enforce_node_id": False,
            "allow_multiple_connections_per_ip": True,
        }
    )
    time.sleep(5)
    times = []
    for link in links:
        params = lt.parse_magnet_uri(link)
        params.save_path = str(folder)
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)  # else it waits in a queue
        begun = time.perf_counter()
        handle = session.add_torrent(params)
        while not handle.status().has_metadata and time.perf_counter() - begun < 60:
            session.wait_for_alert(1)
            session.pop_alerts()
        times.append(time.perf_counter() - begun)
        session.remove_torrent(handle)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="links of each kind (default 5)")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port("127.1.0.1")
        nodes = stack.enter_context(libtorrent("dht", str(DHT_NODES), str(port)))
        dht = LibtorrentDht(nodes, nodes.wait_event("ready", timeout_s=60)["bootstrap"])
        links = []
        for run in range(3 * arguments.runs):
            root, torrent, info_hash = torrent_of(folder / f"made{run}", {"file": 50_000}, seed=run)
            program, listen = seeder(torrent, root)
            stack.enter_context(program)
            dht.announce(info_hash, listen)
            links.append(f"magnet:?xt=urn:btih:{info_hash}")
        runs = arguments.runs
        print(spread("warm, ours", trio.run(warm, dht, links[:runs], folder / "warm")))
        print(spread("warm, libtorrent", theirs(dht, links[runs : 2 * runs], folder / "lt")))
        print(spread("cold, ours", cold(dht, links[2 * runs :], folder / "cold")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
