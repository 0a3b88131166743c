"""How many find_node questions a second does the bootstrap router answer on one core, beside libtorrent's DHT node,
and how much memory do a million nodes take?

    python benchmarks/router.py [--pairs N] [--nodes N]          as a row: python benchmarks/run_all.py router

The router's ring holds a crowd of loopback (crowd.py), libtorrent's node another that fills its table. Both take turns
in one run, each pinned to one core, and are asked from a new address each time, as a router is. Libtorrent has no
router: its node is what one would run instead. Then a ring with all its tables is filled in a process of its own, and
its memory is printed. Needs libtorrent's wheel, Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.crowd import SIZE, address
from benchmarks.krpc import LOAD_CORE, OUR_NET, compile_load, full_nodes, pinned
from benchmarks.pairs import Row, Turn, Watched, run, table
from kademlia_bt.router.state import RouterState, save
from tests.interop.harness import free_port
from wire.compact import IPV4, Endpoint

IN_FLIGHT = 32
TURN_S = 3.0

MEMORY = """
import random, sys
from kademlia_bt.router.core import Router, RouterConfig
from kademlia_bt.router.ring_keeper import source_of
from wire.compact import IPV4

def rss():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024

rng = random.Random(1)
before = rss()
router = Router(RouterConfig(), rng, 0.0)
face = router.add_face(IPV4, None, 0.0)
keeper, count = face.keeper, int(sys.argv[1])
while len(keeper.ring) < count:
    keeper.ring.add(rng.randbytes(20), rng.randbytes(6))
for n in range(1_500_000):  # askers of a quarter of an hour; so many wait that most of these are left out
    address = rng.randbytes(6)
    place = keeper.place(source_of(address))
    keeper.take_up(address, place, n / 2000, again=keeper.askers.note_at(place, n / 2000))
print(len(keeper.ring), keeper.waiting, round(before), round(rss()))
"""


def turn(load: Path, node: Watched, at: str) -> Turn:
    """One load on one node, each question from an address that did not ask before."""
    host, _, port = at.rpartition(":")
    command = [str(load), host, port, "find_node", str(TURN_S), str(IN_FLIGHT), "strangers"]
    node.begin()
    done = subprocess.run([*pinned(LOAD_CORE), *command], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    extra = {"median us": found["median_us"], "p99 us": found["p99_us"], "bytes an answer": found["bytes"]}
    return replace(node.turn(found["per_s"]), extra=extra)


@contextmanager
def setting(folder: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
    """The crowds, our router and libtorrent's node."""
    load = compile_load(folder)
    port = str(free_port(f"127.{OUR_NET}.0.1"))
    ring = b"".join(bytes(20) + Endpoint(*address(OUR_NET, index, port)).compact() for index in range(SIZE))
    save(folder / "router-0.state", RouterState(nodes={IPV4: ring}))
    ours_at, theirs_at = f"127.57.0.1:{port}", f"127.58.0.1:{port}"
    limits = ("--per-ip-limit", "0", "--upload-limit", "0", "--json")
    words = ("bootstrap", "--listen", ours_at, "--state", str(folder), *limits)
    with full_nodes(words, ours_at, theirs_at, port) as (ours, theirs):
        yield partial(turn, load, ours, ours_at), partial(turn, load, theirs, theirs_at)


ROWS = [
    Row(
        "router",
        "bootstrap router: `find_node` answered a second on one core, each from an address that is new",
        "/s",
        setting,
        ("ratio >= 1.0",),
        other="libtorrent's DHT node",
        digits=0,
    )
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, help="counted turns of each (default 5)")
    parser.add_argument("--nodes", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(table([run(ROWS[0], Path(folder), options.pairs)], markdown=False))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(options.nodes)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    nodes, waiting, before, after = map(int, done.stdout.split())
    print(f"memory: {nodes} nodes and {waiting} that wait: {after} MB in all, {before} MB before the first")
    return 0


if __name__ == "__main__":
    sys.exit(main())
