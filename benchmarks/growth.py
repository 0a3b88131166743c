"""How does the cost of a unit of work grow with how much of it there is? Ours alone; no worse than linear is wanted.

    python benchmarks/run_all.py grow
    python benchmarks/growth.py        # draws docs/growth.svg anew from the results that are kept

- `grow-peers`: a download of 256 MiB from 1 to 200 libtorrent seeders, 16 MiB/s in all; CPU a block of 16 KiB.
  Linear in the number of peers would be 200 times as much at the end; asked is a fortieth of that.
- `grow-pieces`: a download of 1,000 to 100,000 pieces of 16 KiB from one seeder; CPU a piece.
- `grow-torrents`: 1 to 1,000 links in one session, all at once, each resolved and downloaded (64 KiB); CPU a torrent.
- `grow-nodes`: a lookup in simulated networks of 100 to 10,000 nodes (`simulate.py`); datagrams a lookup.

CPU seconds (user and system) are of our whole process, from the start of the work on, not of the imports before it. The
seeders have the other core. Drawing needs matplotlib (`pip install -e .[docs]`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import pairs, simulate
from benchmarks.download import MIB, OUR_CORE, SEEDER_CORE, Scene, listening, peers
from benchmarks.pairs import Growth, Watched, on_core
from kademlia_bt.testing import World
from tests.interop.harness import Program, free_port, make_tree

BLOCK = 16 << 10
NET = 63
PEERS_BYTES, PEERS_BYTES_S = 256 * MIB, 16 * MIB
"""Slow enough that all peers are there for most of it: we dial no more than 30 a second."""
SMALL_BYTES = 4 * BLOCK
"""Each of many torrents: enough that it is downloaded, little enough that its bytes cost next to nothing."""
TURN_S = 120.0
SEARCHES = 100
CHART = Path(__file__).parents[1] / "docs" / "growth.svg"


def by_peers(count: int, folder: Path) -> float:
    """Microseconds of CPU a block, from so many seeders that give at one rate together."""
    folder.mkdir()
    scene = Scene(folder, PEERS_BYTES)
    rate = PEERS_BYTES_S // count
    seeders = peers("seed", scene.torrent, scene.seeds, count, "--rate", str(rate), net=NET, core=SEEDER_CORE)
    with seeders as program:
        return cpu_us(scene.by_us(listening(program)).cpu_s, PEERS_BYTES // BLOCK)


def by_pieces(count: int, folder: Path) -> float:
    """Microseconds of CPU a piece, of so many."""
    folder.mkdir()
    scene = Scene(folder, count * BLOCK, BLOCK)
    with scene.seeded() as seeder:
        return cpu_us(scene.by_us(listening(seeder)).cpu_s, count)


def by_torrents(count: int, folder: Path) -> float:
    """Microseconds of CPU a torrent, of so many in one session."""
    make_tree(folder, {f"{number}.bin": SMALL_BYTES for number in range(count)})
    host = f"127.{NET}.0.1"
    seeds = [*on_core(SEEDER_CORE), sys.executable, __file__, "--seed", str(folder), f"{host}:{free_port(host)}"]
    own = f"127.{NET}.1.1"
    gets = [*on_core(OUR_CORE), sys.executable, __file__, "--get", str(folder), f"{own}:{free_port(own)}"]
    with Program(seeds) as seeder:
        seeder.wait_event("seeding", timeout_s=TURN_S)
        with Watched(Program(gets)) as session:
            done = session.program.wait_event("done", timeout_s=TURN_S)
    return cpu_us(done["cpu_s"], count)


def by_nodes(count: int, _folder: Path) -> float:
    """Datagrams a lookup in a network of so many nodes."""
    world = World(count)
    world.populate(count)
    return statistics.fmean(each.messages for each in simulate.many(world, SEARCHES))


def cpu_us(seconds: float | None, units: int) -> float:
    """Of each unit."""
    assert seconds is not None
    return seconds / units * 1e6


ROWS = [
    Growth("grow-peers", "download 256 MiB at 16 MiB/s from so many seeders at once", "peers", "us of CPU a block",
           (1, 5, 20, 50, 100, 200), by_peers, repeats=1, most=5.0),
    Growth("grow-pieces", "download so many pieces of 16 KiB", "pieces", "us of CPU a piece",
           (1_000, 3_000, 10_000, 30_000, 100_000), by_pieces),
    Growth("grow-torrents", "resolve and download so many small torrents in one session", "torrents",
           "us of CPU a torrent", (1, 10, 100, 300, 1_000), by_torrents),
    Growth("grow-nodes", "look a peer up in a network of so many nodes", "nodes", "datagrams a lookup",
           (100, 300, 1_000, 3_000, 10_000), by_nodes, repeats=1),
]  # fmt: skip


# --- children of `by_torrents`


def seed(folder: Path, listen: str) -> None:
    """One libtorrent session that has every file of the folder as a torrent of its own; writes the links."""
    import libtorrent as lt

    from tests.interop.libtorrent_child import commands, say, session

    lines = commands()
    node = session(listen, None)
    links = []
    for file in sorted(folder.glob("*.bin")):
        storage = lt.file_storage()
        storage.add_file(file.name, file.stat().st_size)
        made = lt.create_torrent(storage, piece_size=BLOCK, flags=lt.create_torrent.v1_only)
        lt.set_piece_hashes(made, str(folder))
        torrent = lt.add_torrent_params()
        torrent.ti = lt.torrent_info(made.generate())
        torrent.save_path = str(folder)
        torrent.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        torrent.flags |= lt.torrent_flags.seed_mode
        node.add_torrent(torrent)
        links.append(f"magnet:?xt=urn:btih:{torrent.ti.info_hashes().v1}&x.pe={listen}")
    (folder / "links").write_text("\n".join(links))
    say("seeding")
    while True:
        lines.get()


def get(folder: Path, listen: str) -> None:
    """One session of ours that takes all links at once."""
    import trio

    import magnet
    from kademlia_bt.commands.console import run_async
    from wire.compact import Endpoint

    host, _, port = listen.rpartition(":")
    links = (folder / "links").read_text().split()

    async def main() -> int:
        config = magnet.Config(
            listen=(Endpoint(host, int(port)),),
            dht=False,
            lsd=False,
            port_mapping=False,
            encryption="off",
            transport="tcp",
            state_dir=None,
        )
        async with magnet.Session(config) as session:
            begun = time.process_time()
            async with trio.open_nursery() as nursery:
                for link in links:
                    handle = await session.add(link, directory=folder / "got")
                    nursery.start_soon(handle.finished)
            print(json.dumps({"event": "done", "cpu_s": time.process_time() - begun}), flush=True)
        return 0

    run_async(main)


# --- the picture


def draw(results: list[dict[str, Any]]) -> None:
    """Writes docs/growth.svg, a plot for each result."""
    import matplotlib as mpl

    simulate.quiet_style(mpl)
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(8, 5.8), layout="constrained")
    for axis, result in zip(axes.flat, results, strict=False):
        points = result["points"]
        sizes = [point["size"] for point in points]
        axis.fill_between(sizes, [p["min"] for p in points], [p["max"] for p in points], alpha=0.2, linewidth=0)
        axis.plot(sizes, [point["median"] for point in points], "o-")
        axis.set(
            xscale="log", title=textwrap.fill(result["question"], 42), xlabel=result["size"], ylabel=result["unit"]
        )
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.set_ylim(0, max(p["max"] for p in points) * 1.15)
    figure.savefig(CHART, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--get", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seed:
        seed(Path(options.seed[0]), options.seed[1])
    elif options.get:
        get(Path(options.get[0]), options.get[1])
    else:
        draw([json.loads((pairs.RESULTS / f"{row.name}.json").read_text(encoding="utf-8")) for row in ROWS])
    return 0


if __name__ == "__main__":
    sys.exit(main())
