"""How many find_node questions a second does the bootstrap router answer on one core, beside libtorrent's DHT node,
and how much memory do a million nodes take?

    python benchmarks/router.py [--pairs N] [--seconds S] [--nodes N]

The router's ring holds 60 libtorrent nodes of loopback; libtorrent's node is one of the same network. Both take turns
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
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.krpc import OTHERS, WARM_S, compile_load, pinned, spread
from kademlia_bt.router.state import RouterState, save
from tests.interop.harness import Program, free_port, kademlia_bt, libtorrent
from wire.compact import IPV4, Endpoint

IN_FLIGHT = 32

MEMORY = """
import random, sys
from kademlia_bt.router.core import Router, RouterConfig
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
    keeper.take_up(address, n / 2000, again=keeper.asked_lately(address, n / 2000))
print(len(keeper.ring), keeper.waiting, round(before), round(rss()))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--node-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        load = compile_load(folder)
        port = free_port("127.51.0.1")
        others = stack.enter_context(
            libtorrent("dht", str(OTHERS), str(port), "--net", "51", prefix=pinned(options.load_core))
        )
        entry = others.wait_event("ready", timeout_s=60)["bootstrap"]
        ring = b"".join(bytes(20) + Endpoint(f"127.51.{n}.1", port).compact() for n in range(OTHERS))
        save(folder / "router-0.state", RouterState(nodes={IPV4: ring}))
        where = {"router": f"127.52.0.1:{port}", "libtorrent": f"127.53.0.1:{port}"}
        ours = stack.enter_context(
            kademlia_bt(
                *("bootstrap", "--listen", where["router"], "--state", str(folder), "--json"),
                *("--per-ip-limit", "0", "--upload-limit", "0"),
                prefix=pinned(options.node_core),
            )
        )
        ours.wait_event("joined", timeout_s=30)
        serve = [str(Path(__file__).with_name("krpc.py")), "--serve-libtorrent", where["libtorrent"], entry]
        theirs = Program([*pinned(options.node_core), sys.executable, *serve])
        stack.enter_context(theirs).wait_event("joined", timeout_s=60)
        ratios = []
        for pair in range(options.pairs + 1):
            results = {}
            for name in ("router", "libtorrent"):
                host, _, at = where[name].rpartition(":")
                seconds = str(options.seconds if pair else WARM_S)
                command = [str(load), host, at, "find_node", seconds, str(IN_FLIGHT), "strangers"]
                done = subprocess.run(
                    [*pinned(options.load_core), *command], capture_output=True, text=True, check=True
                )
                results[name] = json.loads(done.stdout)
            if not pair:
                continue
            ratios.append(results["router"]["per_s"] / results["libtorrent"]["per_s"])
            shown = ", ".join(
                f"{name} {r['per_s']:.0f}/s (median {r['median_us']} us, p99 {r['p99_us']} us, {r['bytes']:.0f} B, "
                f"{r['lost']} lost)"
                for name, r in results.items()
            )
            print(f"find_node: {shown}", flush=True)
        print(f"find_node: router / libtorrent = {spread(ratios)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(options.nodes)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    nodes, waiting, before, after = map(int, done.stdout.split())
    print(f"memory: {nodes} nodes and {waiting} that wait: {after} MB in all, {before} MB before the first")
    return 0


if __name__ == "__main__":
    sys.exit(main())
