"""How many DHT questions a second does our node answer on one core, beside libtorrent's?

    python benchmarks/krpc.py [--pairs N]          as rows: python benchmarks/run_all.py answers

Both nodes live in one loopback DHT of 60 libtorrent nodes, and each of their answers names 8 of these. They take turns
in one run, both on core 0; the load (krpc_load.c, compiled here with cc, 32 questions in flight) and the other nodes
have core 1. `answers-mixed` announces too, with the tokens that the node gave. A turn counts answers a second, the CPU
seconds and memory of the node, and the latency. Needs libtorrent's wheel, Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.pairs import Row, Setting, Turn, Watched, run, table
from tests.interop.harness import Program, free_port, kademlia_bt, libtorrent

OTHERS = 60
IN_FLIGHT = 32
WARM_S = 1.0
TURN_S = 2.0
FILLING_S = 15.0
NODE_CORE, LOAD_CORE = 0, 1


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


def turn(load: Path, node: Watched, at: str, kind: str, seconds: float) -> Turn:
    """One load on one node."""
    host, _, port = at.rpartition(":")
    command = [*pinned(LOAD_CORE), str(load), host, port, kind, str(seconds), str(IN_FLIGHT)]
    node.begin()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["refused"] or found["lost"] * 100 > found["answers"]:
        raise SystemExit(f"{at} refused {found['refused']} questions and left {found['lost']} of {kind} unanswered")
    counted = node.turn(found["per_s"])
    us = {"us CPU an answer": round((counted.cpu_s or 0.0) / found["answers"] * 1e6, 2)}
    extra = {"median us": found["median_us"], "p99 us": found["p99_us"], **us}
    return replace(counted, extra=extra)


def known(at: str) -> int:
    """How many nodes a node names, asked for places all over the key space: what its table holds."""
    host, _, port = at.rpartition(":")
    found: set[bytes] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(2)
        asking.connect((host, int(port)))
        for first in range(256):
            asking.send(b"d1:ad2:id20:%b6:target20:%be1:q9:find_node1:t1:x1:y1:qe" % (bytes(20), bytes((first,)) * 20))
            answer = asking.recv(2048)
            at_nodes = answer.find(b"5:nodes208:") + 11
            if at_nodes > 11:
                found |= {answer[at_nodes + 26 * n : at_nodes + 26 * n + 26] for n in range(8)}
    return len(found)


def answering(kind: str) -> Setting:
    """The setting of a row: both nodes in one network, with tables that are as full."""

    @contextmanager
    def setting(folder: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        with ExitStack() as stack:
            load = compile_load(folder)
            port = free_port("127.51.0.1")
            others = stack.enter_context(
                libtorrent("dht", str(OTHERS), str(port), "--net", "51", prefix=pinned(LOAD_CORE))
            )
            entry = others.wait_event("ready", timeout_s=60)["bootstrap"]
            ours_at, theirs_at = f"127.52.0.1:{port}", f"127.53.0.1:{port}"
            limits = ("--per-ip-limit", "0", "--upload-limit", "0", "--json")
            ours = Watched(
                kademlia_bt("run", "--listen", ours_at, "--bootstrap", entry, *limits, prefix=pinned(NODE_CORE))
            )
            stack.enter_context(ours).program.wait_event("joined", timeout_s=30)
            serve = [sys.executable, __file__, "--serve-libtorrent", theirs_at, entry]
            theirs = Watched(Program([*pinned(NODE_CORE), *serve]))
            stack.enter_context(theirs).program.wait_event("joined", timeout_s=60)
            until = time.monotonic() + FILLING_S
            while time.monotonic() < until and min(known(ours_at), known(theirs_at)) < OTHERS * 2 // 5:
                time.sleep(1)
            print(f"  tables: {known(ours_at)} nodes ours, {known(theirs_at)} libtorrent's", flush=True)
            yield partial(turn, load, ours, ours_at, kind, TURN_S), partial(turn, load, theirs, theirs_at, kind, TURN_S)

    return setting


ROWS = [
    Row(
        f"answers-{kind}",
        f"DHT: {words} answered a second on one core, 32 in flight",
        "/s",
        answering(kind),
        ("ratio >= 1.0", "p99 us <= 1.0"),
        digits=0,
    )
    for kind, words in (
        ("ping", "`ping`"),
        ("find_node", "`find_node`"),
        ("get_peers", "`get_peers`, with tokens,"),
        ("mixed", "questions of all kinds, with `announce_peer`,"),
    )
]


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} (from {min(values):.2f} to {max(values):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, help="counted turns of each (default 5)")
    parser.add_argument("--serve-libtorrent", nargs=2, metavar=("LISTEN", "OTHERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_libtorrent:
        return serve_libtorrent(*options.serve_libtorrent)
    results = []
    for row in ROWS:
        print(f"{row.name}: {row.question}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            results.append(run(row, Path(folder), options.pairs))
    print(table(results, markdown=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
