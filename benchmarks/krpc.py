"""How many DHT questions a second does our node answer on one core, beside libtorrent's?

    python benchmarks/krpc.py [--pairs N]          as rows: python benchmarks/run_all.py answers

Each node knows a whole crowd (crowd.py): its table is as full as in a network of ten million, which is shown, and each
of its answers names 8 nodes. They take turns in one run, both on core 0; the load (krpc_load.c, compiled here with cc,
32 questions in flight) and the crowds have core 1. `answers-mixed` announces too, with the tokens that the node gave;
that both refuse another token is seen before. A turn counts answers a second, the CPU seconds and
memory of the node, and the latency. Needs libtorrent's wheel, Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.crowd import CAPACITY, DEPTH, SIZE, address
from benchmarks.pairs import Row, Setting, Turn, Watched, run, table
from kademlia_bt.dht.node_id import random_id_sharing
from tests.interop.harness import Program, free_port, kademlia_bt
from tests.interop.libtorrent_child import commands, say, session
from wire.bencode import decode, encode

IN_FLIGHT = 32
TURN_S = 2.0
NODE_CORE, LOAD_CORE = 0, 1
OUR_NET, THEIR_NET = "51", "54"
"""Where the crowds of both nodes begin: each takes two /16."""


def pinned(core: int) -> list[str]:
    """A prefix that keeps a child on one core."""
    return ["taskset", "--cpu-list", str(core)]


def serve_libtorrent(listen: str, net: str, port: str) -> int:
    """A libtorrent node, the child process that is measured; a line `meet` tells it of the whole crowd at once."""
    lines = commands()
    node = session(listen, f"127.{net}.0.1:{port}", is_dht_node=True)
    say("joined")
    while lines.get() == "meet":
        for index in range(SIZE):
            node.add_dht_node(address(net, index, port))
        say("met")
    return 0


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


@contextmanager
def asking(at: str) -> Iterator[Callable[[bytes, dict[bytes, Any]], Any]]:
    """Asks a node one thing at a time, from an address of loopback: gives what it answers, whole."""
    host, _, port = at.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(2)
        wire.connect((host, int(port)))

        def ask(method: bytes, arguments: dict[bytes, Any]) -> Any:
            question = {b"t": b"ask", b"y": b"q", b"q": method, b"a": {b"id": bytes(20), **arguments}}
            wire.send(encode(question))
            while True:
                answer: Any = decode(wire.recv(2048))
                if answer[b"t"] == b"ask":
                    return answer

        yield ask


def known(at: str) -> int:
    """How many nodes a node names, asked for places all over the key space, more of them near itself."""
    chance, found = random.Random(1), set[bytes]()
    with asking(at) as ask:
        own = ask(b"ping", {})[b"r"][b"id"]
        near = [random_id_sharing(own, bits, chance) for bits in range(4, DEPTH + 2) for _ in range(8)]
        for target in [bytes((first,)) + chance.randbytes(19) for first in range(256) for _ in range(4)] + near:
            nodes = ask(b"find_node", {b"target": target})[b"r"][b"nodes"]
            found |= {nodes[at : at + 26] for at in range(0, len(nodes), 26)}
    return len(found)


def checks_tokens(at: str) -> bool:
    """Whether a node takes the token that it gave, and refuses one that it did not give."""
    torrent = b"checks of its tokens"
    with asking(at) as ask:
        token = ask(b"get_peers", {b"info_hash": torrent})[b"r"][b"token"]
        announce = {b"info_hash": torrent, b"port": 6881}
        right = ask(b"announce_peer", {**announce, b"token": token})
        wrong = ask(b"announce_peer", {**announce, b"token": bytes(byte ^ 1 for byte in token)})
    return bool(right[b"y"] == b"r" and wrong[b"y"] == b"e")


@contextmanager
def full_nodes(ours: Sequence[str], ours_at: str, theirs_at: str, port: str) -> Iterator[tuple[Watched, Watched]]:
    """Our node, started by those words, and libtorrent's, each on core 0 and with a crowd of its own."""
    crowd = [*pinned(LOAD_CORE), sys.executable, str(Path(__file__).with_name("crowd.py"))]
    with ExitStack() as stack:
        crowds = [
            stack.enter_context(Program([*crowd, net, port, at]))
            for net, at in ((OUR_NET, ours_at), (THEIR_NET, theirs_at))
        ]
        for one in crowds:
            one.wait_event("ready")
        first = Watched(kademlia_bt(*ours, prefix=pinned(NODE_CORE)))
        stack.enter_context(first).program.wait_event("joined")
        serve = [sys.executable, __file__, "--serve-libtorrent", theirs_at, THEIR_NET, port]
        second = Watched(Program([*pinned(NODE_CORE), *serve]))
        stack.enter_context(second).program.wait_event("joined")
        crowds[1].wait_event("made")
        second.program.ask("meet", "met")
        for one in crowds:
            one.wait_event("settled", timeout_s=60)
        yield first, second


def answering(kind: str) -> Setting:
    """The setting of a row: both nodes with full tables."""

    @contextmanager
    def setting(folder: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        load = compile_load(folder)
        port = str(free_port(f"127.{OUR_NET}.0.1"))
        ours_at, theirs_at = f"127.57.0.1:{port}", f"127.58.0.1:{port}"
        entry = f"127.{OUR_NET}.0.1:{port}"
        limits = ("--per-ip-limit", "0", "--upload-limit", "0", "--json")
        words = ("run", "--listen", ours_at, "--bootstrap", entry, *limits)
        with full_nodes(words, ours_at, theirs_at, port) as (ours, theirs):
            held = [known(ours_at), known(theirs_at)]
            print(f"  tables: {held[0]} nodes ours, {held[1]} libtorrent's; full are {CAPACITY}", flush=True)
            if min(held) < CAPACITY * 9 // 10:
                raise SystemExit("a table is not full: the machine was too busy while it was filled")
            if not (checks_tokens(ours_at) and checks_tokens(theirs_at)):
                raise SystemExit("a token was taken that was not given, or refused though it was")
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
    parser.add_argument("--serve-libtorrent", nargs=3, metavar=("LISTEN", "NET", "PORT"), help=argparse.SUPPRESS)
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
