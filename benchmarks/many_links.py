"""How many links a second does one session resolve, of a thousand, beside one session of libtorrent?

    python benchmarks/many_links.py [--pairs N]          as a row: python benchmarks/run_all.py many-links

Fifty libtorrent seeders on 127.60.N.1 have twenty torrents each, and each link names its seeder (`x.pe`): what is
measured is connecting, the handshakes and the metadata, not the DHT, which is off on both sides. A turn is a child
process with a fresh session that keeps nothing on disk, on core 0; the seeders, one process, have core 1. The clock
runs from the first link handed in to the last verified metadata; CPU seconds and memory are of the whole child.
libtorrent is given all links at once and may begin as many connections a second as it likes (as it comes, it begins
30).

libtorrent listens with a queue of five connections that nobody took yet; of twenty that come at once some must be sent
again by TCP, a second later. So there are two rows: seeders as they come, and seeders with room for all.
Needs libtorrent's wheel and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.pairs import Row, Turn, Watched, on_core, run, table
from tests.interop.harness import Program, free_port

SEEDERS, EACH = 50, 20
NET = 60
QUEUE, ROOMY = 5, 1000
"""Connections that may wait to be taken by a seeder: what libtorrent has as it comes, and more than ever come."""
JOBS = 100
"""Of ours, links at a time."""
PIECE = 16_384
PIECES = 200
"""Each info dictionary has 4 kB of hashes, as that of a torrent of some hundred megabytes has."""
TURN_S = 60.0
OUR_CORE, SEEDER_CORE = 0, 1


def seed(folder: str, port: str, queue: str) -> int:
    """All seeders, as one child process; prints the links. `queue`: connections that may wait to be taken."""
    import libtorrent as lt

    from tests.interop.libtorrent_child import commands, say, session
    from wire import bencode
    from wire.bencode import Encodable

    lines = commands()
    sessions, links = [], []
    for number in range(SEEDERS):
        host = f"127.{NET}.{number}.1"
        sessions.append(session(f"{host}:{port}", None, queue=int(queue)))
        for index in range(EACH):
            name = f"{number}-{index}"
            info: dict[bytes, Encodable] = {
                b"length": PIECE * PIECES,
                b"name": name.encode(),
                b"piece length": PIECE,
                b"pieces": os.urandom(20 * PIECES),
            }
            torrent = lt.add_torrent_params()
            torrent.ti = lt.torrent_info(bencode.encode({b"info": info}))
            torrent.save_path = folder
            torrent.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
            torrent.flags |= lt.torrent_flags.seed_mode
            with (Path(folder) / name).open("wb") as file:
                file.truncate(PIECE * PIECES)  # never read: nobody asks for a piece
            sessions[-1].add_torrent(torrent)
            links.append(f"magnet:?xt=urn:btih:{torrent.ti.info_hashes().v1}&x.pe={host}:{port}")
    (Path(folder) / "links").write_text("\n".join(links))
    say("seeding")
    while True:
        lines.get()


def resolve_ours(links: Sequence[str], listen: str) -> None:
    """One session of ours."""
    import magnet
    from kademlia_bt.commands.console import run_async
    from magnet.resolver import resolving
    from wire.compact import Endpoint

    host, _, port = listen.rpartition(":")

    async def main() -> int:
        config = magnet.Config(
            listen=(Endpoint(host, int(port)),),
            dht=False,
            lsd=False,
            port_mapping=False,
            encryption="off",  # as libtorrent's session has it, and so the next
            transport="tcp",
            state_dir=None,
        )
        async with magnet.Session(config) as session:
            begun = time.perf_counter()
            count = 0
            async with resolving(session, links, jobs=JOBS) as results:
                async for result in results:
                    count += result.torrent is not None
            tell(count, time.perf_counter() - begun)
        return 0

    run_async(main)  # as `magnet resolve` does


def resolve_libtorrent(links: Sequence[str], listen: str) -> None:
    """One session of libtorrent."""
    import libtorrent as lt

    from tests.interop.libtorrent_child import session

    node = session(listen, None)
    pack: Any = {"connection_speed": 10_000}
    node.apply_settings(pack)
    begun = time.perf_counter()
    for link in links:
        wanted = lt.parse_magnet_uri(link)
        wanted.save_path = "/nowhere"
        wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        wanted.flags |= lt.torrent_flags.upload_mode  # the metadata alone
        node.async_add_torrent(wanted)
    count = 0
    while count < len(links) and time.perf_counter() - begun < TURN_S:
        node.wait_for_alert(20)
        for alert in node.pop_alerts():
            if isinstance(alert, lt.metadata_received_alert):
                count += 1
                node.remove_torrent(alert.handle)
    tell(count, time.perf_counter() - begun)


def tell(count: int, seconds: float) -> None:
    print(json.dumps({"event": "resolved", "count": count, "seconds": seconds}), flush=True)


def turn(who: str, links: Path) -> Turn:
    """One child."""
    listen = f"127.{NET + 1}.0.1:{free_port(f'127.{NET + 1}.0.1')}"
    command = [*on_core(OUR_CORE), sys.executable, __file__, "--resolve", who, str(links), listen]
    with Watched(Program(command)) as child:
        done = child.program.wait_event("resolved", timeout_s=TURN_S + 30)
        if done["count"] != SEEDERS * EACH:
            raise SystemExit(f"{who} resolved {done['count']} of {SEEDERS * EACH} links")
        return child.turn(done["count"] / done["seconds"])


@contextmanager
def setting(folder: Path, queue: int) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
    """The seeders."""
    port = free_port(f"127.{NET}.0.1")
    command = [*on_core(SEEDER_CORE), sys.executable, __file__, "--seed", str(folder), str(port), str(queue)]
    with Program(command) as seeders:
        seeders.wait_event("seeding", timeout_s=60)
        yield partial(turn, "ours", folder / "links"), partial(turn, "libtorrent", folder / "links")


ROWS = [
    Row(
        "many-links",
        f"{SEEDERS * EACH:,} links resolved in one session, from {SEEDERS} seeders of {EACH} that they name",
        "links/s",
        partial(setting, queue=QUEUE),
        ("ratio >= 1.0",),
        digits=0,
    ),
    Row(
        "many-links-roomy",
        "the same, where each seeder has room for all who connect at once",
        "links/s",
        partial(setting, queue=ROOMY),
        ("ratio >= 1.0",),
        digits=0,
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, help="counted turns of each (default 5)")
    parser.add_argument("--seed", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--resolve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seed:
        return seed(*options.seed)
    if options.resolve:
        who, links, listen = options.resolve
        resolve = resolve_ours if who == "ours" else resolve_libtorrent
        resolve(Path(links).read_text().split(), listen)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        print(table([run(row, Path(folder), options.pairs) for row in ROWS], markdown=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
