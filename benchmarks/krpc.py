"""How many DHT questions a second does our node answer on one core, beside libtorrent's?

    python benchmarks/krpc.py [--pairs N] [--seconds S] [--in-flight N]

Both nodes live in one loopback DHT of 60 libtorrent nodes, so that their tables are full and an answer carries 8
nodes. They take turns in one run, each pinned to one core; the load (krpc_load.c, compiled here with cc) and the
other nodes have the other. Printed for ping, find_node and get_peers: answers a second of each turn, the median
latency, and the ratio ours / libtorrent: the median of the pairs and their spread. Needs libtorrent's wheel,
Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.interop.harness import Program, free_port, kademlia_bt, libtorrent

KINDS = ("ping", "find_node", "get_peers")
OTHERS = 60
WARM_S = 1.0


def pinned(core: int) -> list[str]:
    """A prefix that keeps a child on one core."""
    return ["taskset", "--cpu-list", str(core)]


def serve_libtorrent(listen: str, others: str) -> int:
    """A libtorrent node that knows all others of the network at once: the child process that is measured."""
    import libtorrent as lt

    from tests.interop.libtorrent_child import commands, say, session

    lines = commands()
    host, _, port = others.rpartition(":")
    node = session(listen, others, is_dht_node=True)
    for index in range(OTHERS):
        node.add_dht_node((host.replace(".0.1", f".{index}.1"), int(port)))
    while True:
        node.post_dht_stats()
        time.sleep(0.5)
        for alert in node.pop_alerts():
            if isinstance(alert, lt.dht_stats_alert):
                known = sum(bucket["num_nodes"] for bucket in alert.routing_table)
                if known >= OTHERS // 3:
                    say("joined", nodes=known)
                    return wait_for_end(lines)


def wait_for_end(lines: Any) -> int:
    """Stays until stdin closes, which ends the process."""
    while True:
        lines.get()


def compile_load(folder: Path) -> Path:
    """The load generator as a program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("no C compiler found: install gcc or clang (Debian: apt install gcc)")
    program = folder / "krpc_load"
    source = Path(__file__).with_name("krpc_load.c")
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return program


def turn(load: Path, at: str, kind: str, seconds: float, in_flight: int, core: int) -> dict[str, Any]:
    """One load on one node."""
    host, _, port = at.rpartition(":")
    command = [*pinned(core), str(load), host, port, kind, str(seconds), str(in_flight)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} (from {min(values):.2f} to {max(values):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3, help="counted turns of each (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn (default 3)")
    parser.add_argument("--in-flight", type=int, default=32, help="questions under way at once (default 32)")
    parser.add_argument("--node-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--serve-libtorrent", nargs=2, metavar=("LISTEN", "OTHERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_libtorrent:
        return serve_libtorrent(*options.serve_libtorrent)
    if not {options.node_core, options.load_core} <= os.sched_getaffinity(0):
        parser.error("this process may not use those cores: see --node-core and --load-core")

    with ExitStack() as stack:
        load = compile_load(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        port = free_port("127.51.0.1")
        others = stack.enter_context(
            libtorrent("dht", str(OTHERS), str(port), "--net", "51", prefix=pinned(options.load_core))
        )
        entry = others.wait_event("ready", timeout_s=60)["bootstrap"]
        where = {"ours": f"127.52.0.1:{port}", "libtorrent": f"127.53.0.1:{port}"}
        ours = stack.enter_context(
            kademlia_bt(
                *("run", "--listen", where["ours"], "--bootstrap", entry),
                *("--per-ip-limit", "0", "--upload-limit", "0", "--json"),
                prefix=pinned(options.node_core),
            )
        )
        ours.wait_event("joined", timeout_s=30)
        theirs = Program(
            [*pinned(options.node_core), sys.executable, __file__, "--serve-libtorrent", where["libtorrent"], entry]
        )
        stack.enter_context(theirs).wait_event("joined", timeout_s=60)

        worst = float("inf")
        for kind in KINDS:
            ratios: list[float] = []
            for pair in range(options.pairs + 1):
                results = {}
                for name in ("ours", "libtorrent"):
                    seconds = options.seconds if pair else WARM_S
                    results[name] = turn(load, where[name], kind, seconds, options.in_flight, options.load_core)
                if not pair:
                    continue  # the first turn of each warms up
                ratios.append(results["ours"]["per_s"] / results["libtorrent"]["per_s"])
                shown = ", ".join(
                    f"{name} {r['per_s']:.0f}/s (median {r['median_us']} us, {r['bytes']:.0f} B, {r['lost']} lost)"
                    for name, r in results.items()
                )
                print(f"{kind}: {shown}", flush=True)
            worst = min(worst, statistics.median(ratios))
            print(f"{kind}: ours / libtorrent = {spread(ratios)}", flush=True)
        print(f"the lowest of the three ratios: {worst:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
