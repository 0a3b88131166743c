"""How long does a link alone take to become metadata, on a DHT of sixty libtorrent nodes on loopback?

    python benchmarks/resolve.py [--pairs N]          as rows: python benchmarks/run_all.py resolve

Warm: in one session that has joined, from `add` to the verified info dictionary, beside a session of libtorrent in the
same network whose DHT knows its nodes, from adding the link to its metadata. Where libtorrent's first search misses,
its next comes seconds later: then its turn is taken again with another link, so that ours is measured by its best; how
often that was needed is told. `resolve-warm`: both dial as they do by default, which is not the same: ours says the
encrypted handshake first, libtorrent the plain one to who it does not know yet (its log says so). `resolve-warm-plain`
and `resolve-warm-encrypted`: both do the one, and both the other, which costs a round trip and its arithmetic. Cold: a
whole `magnet resolve` process with an empty state folder and one bootstrap node, from its start to its end, and the
same of aria2c. Every turn has a torrent and a libtorrent seeder of its own. Needs libtorrent's wheel, aria2c and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.pairs import PAIRS, Row, Turn, run, table
from tests.interop.conftest import DHT_NODES, LibtorrentDht
from tests.interop.harness import Program, free_port, libtorrent, magnet, need_client, seeder, torrent_of

HIT_MS = 500.0
"""A search of libtorrent that hits takes a few ms; its next one is seconds later."""
TRIES = 6
WARM_PAIRS = 11
"""A turn takes milliseconds, in which anything disturbs."""
HOW: dict[str, tuple[Literal["prefer", "off"], int]] = {
    "default": ("prefer", 1),
    "plain": ("off", 2),
    "encrypted": ("prefer", 0),
}
"""How both dial: our `encryption`, and libtorrent's `out_enc_policy`."""


def resolve_ours(listen: str, bootstrap: str, how: str) -> int:
    """One session of ours as a child: a link comes on a line, the ms it took go back."""
    import trio

    import magnet as library
    from kademlia_bt.commands.console import run_async
    from wire.compact import Endpoint, parse_host_port

    host, port = parse_host_port(listen)

    async def main() -> int:
        config = library.Config(
            listen=(Endpoint(host, port),),
            bootstrap=(parse_host_port(bootstrap),),
            lsd=False,
            encryption=HOW[how][0],
            state_dir=None,
        )
        async with library.Session(config) as session:
            assert session.node is not None
            await session.node.wait_joined()
            tell("joined")
            while link := (await trio.to_thread.run_sync(sys.stdin.readline)).strip():
                begun = time.perf_counter()
                handle = await session.add(link, metadata_only=True)
                await handle.metadata()
                tell("resolved", ms=(time.perf_counter() - begun) * 1000)
                await handle.remove()
        return 0

    return run_async(main)


def resolve_libtorrent(listen: str, bootstrap: str, how: str) -> int:
    """The same of libtorrent."""
    import libtorrent as lt

    from tests.interop.libtorrent_child import joined, parameters, session

    node = session(listen, bootstrap)
    node.apply_settings({"out_enc_policy": HOW[how][1]})
    joined(node)
    tell("joined")
    while link := sys.stdin.readline().strip():
        begun = time.perf_counter()
        handle = node.add_torrent(parameters(link, "/nowhere"))
        found = False
        while not found:
            node.wait_for_alert(1000)
            found = any(isinstance(alert, lt.metadata_received_alert) for alert in node.pop_alerts())
        tell("resolved", ms=(time.perf_counter() - begun) * 1000)
        node.remove_torrent(handle)
    return 0


def tell(event: str, **fields: float) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Links:
    """New torrents, seeded and known to the DHT."""

    def __init__(self, stack: ExitStack, dht: LibtorrentDht, folder: Path) -> None:
        self._stack, self._dht, self._folder = stack, dht, folder
        self._made = 0

    def new(self) -> str:
        self._made += 1
        root, torrent, info_hash = torrent_of(self._folder / str(self._made), {"file": 50_000}, seed=self._made)
        program, listen = seeder(torrent, root)
        self._stack.enter_context(program)
        self._dht.announce(info_hash, listen)
        return f"magnet:?xt=urn:btih:{info_hash}"


@contextmanager
def network(folder: Path) -> Iterator[tuple[ExitStack, LibtorrentDht, Links]]:
    """The DHT, and torrents in it."""
    with ExitStack() as stack:
        nodes = stack.enter_context(libtorrent("dht", str(DHT_NODES), str(free_port("127.1.0.1"))))
        dht = LibtorrentDht(nodes, nodes.wait_event("ready", timeout_s=60)["bootstrap"])
        yield stack, dht, Links(stack, dht, folder)


@contextmanager
def warm(folder: Path, how: str) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
    """Both sessions, joined."""
    with network(folder) as (stack, dht, links):
        sessions = {}
        for who, host in (("ours", "127.62.0.1"), ("libtorrent", "127.63.0.1")):
            at = f"{host}:{free_port(host)}"
            child = Program([sys.executable, __file__, "--child", who, at, dht.bootstrap, how])
            sessions[who] = stack.enter_context(child)
            child.wait_event("joined", timeout_s=60)

        def ask(who: str) -> float:
            found: Any = sessions[who].ask(links.new(), "resolved", timeout_s=90)["ms"]
            return float(found)

        def theirs() -> Turn:
            for missed in range(TRIES):
                if (took := ask("libtorrent")) < HIT_MS:
                    return Turn(took, extra={"searches that missed": missed})
            return Turn(took, extra={"searches that missed": TRIES})

        yield (lambda: Turn(ask("ours"))), theirs


@contextmanager
def cold(folder: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
    """A process for each turn."""
    with network(folder) as (_, dht, links):

        def ours() -> Turn:
            link, here = links.new(), folder / os.urandom(4).hex()
            options = ("--bootstrap", dht.bootstrap, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20")
            begun = time.perf_counter()
            with magnet("resolve", link, "-o", here / "out", *options, state=here / "state") as program:
                program.finish(0)
                return Turn((time.perf_counter() - begun) * 1000)

        def theirs() -> Turn:
            link, here, port = links.new(), folder / os.urandom(4).hex(), free_port()
            here.mkdir()
            options = ["--no-conf", "--bt-metadata-only=true", "--bt-save-metadata=true", "--seed-time=0"]
            options += [f"--dir={here}", "--interface=127.0.0.1", "--bt-enable-lpd=false", "--quiet=true"]
            options += [f"--dht-entry-point={dht.bootstrap}", f"--dht-file-path={here / 'dht'}"]
            options += [f"--listen-port={port}", f"--dht-listen-port={port}"]
            begun = time.perf_counter()
            with Program([need_client("aria2c"), *options, link]) as program:
                program.finish(0, timeout_s=90)
                took = (time.perf_counter() - begun) * 1000
            if not list(here.glob("*.torrent")):
                raise SystemExit("aria2c ended without the metadata")
            return Turn(took)

        yield ours, theirs


ROWS = [
    *(
        Row(
            name,
            f"a link to its metadata on a DHT of 60 nodes, in a session that has joined{words}",
            "ms",
            partial(warm, how=how),
            ("ratio <= 2.0",),
            other="libtorrent, its first search a hit",
            smaller_is_better=True,
            pairs=WARM_PAIRS,
        )
        for name, how, words in (
            ("resolve-warm", "default", ""),
            ("resolve-warm-plain", "plain", "; both dial in plain text"),
            ("resolve-warm-encrypted", "encrypted", "; both dial encrypted"),
        )
    ),
    Row(
        "resolve-cold",
        "`magnet resolve LINK` from the start of the process to its end, one node of the 60 known",
        "ms",
        cold,
        ("ours <= 500",),
        other="aria2c",
        smaller_is_better=True,
        digits=0,
        pairs=PAIRS,
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, help=f"counted turns of each (default {PAIRS})")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        who, listen, bootstrap, how = options.child
        return (resolve_ours if who == "ours" else resolve_libtorrent)(listen, bootstrap, how)
    results = []
    for row in ROWS:
        print(f"{row.name}: {row.question}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            results.append(run(row, Path(folder), options.pairs))
    print(table(results, markdown=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
