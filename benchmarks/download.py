"""How fast is a download of ours beside libtorrent's own? From libtorrent seeders on one core, on a core of its own.

    python benchmarks/run_all.py download
    python benchmarks/download.py [--size MIB] [--piece KIB] [--seeders N] [--hybrid] [--pairs N] [--directory DIR]

A turn is timed from the line that says `started` to the one that says that all is there: for ours every piece is then
hashed and handed to the file system; libtorrent says so when all is hashed, while its last pieces are still being
written, which is in its favour. Every turn's file is compared with what was seeded. Needs libtorrent's wheel, Linux,
two cores and twice the size free in DIR.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import pairs
from benchmarks.pairs import Row, Setting, Turn, Watched, on_core
from benchmarks.warmth import warm_memory
from tests.interop.harness import Program, free_port, libtorrent, magnet, make_torrent, make_tree

TURN_S = 200.0
"""The longest that one turn may take."""
SEEDER_CORE, OUR_CORE = 0, 1
MIB = 1 << 20


def peers(command: str, torrent: Path, folder: Path, count: int, *options: str, net: int, core: int) -> Program:
    """Many libtorrent sessions in one process (libtorrent_peers.py)."""
    script = Path(__file__).with_name("libtorrent_peers.py")
    words = [command, str(torrent), str(folder), str(count), "--net", str(net), *options]
    return Program([*on_core(core), sys.executable, str(script), *words])


def turn(program: Program, size_bytes: int, end: str) -> Turn:
    """Waits for a downloader, timed until its line `end`; MB/s."""
    with Watched(program) as watched:
        program.wait_event("started", timeout_s=TURN_S)
        begun = watched.begin()
        program.wait_event(end, timeout_s=TURN_S)
        seconds = watched.elapsed(begun)
        program.wait_event("done", timeout_s=TURN_S)
        return watched.turn(size_bytes / seconds / 1e6)


class Scene:
    """What is to be fetched: `seeds` holds it, `torrent` names it; each copy is compared and thrown away.

    One file of `size` bytes, or a folder of `files` that make as much together.
    """

    def __init__(self, root: Path, size: int, piece_bytes: int = MIB, version: str = "v1", files: int = 1) -> None:
        self.root, self.size = root, size
        self.got = root / "got"
        self.seeds, self.torrent = root / "seeds", root / "big.torrent"
        self.names = [f"many/{number:05}" for number in range(files)] if files > 1 else ["big.bin"]
        top = make_tree(self.seeds, dict.fromkeys(self.names, size // files)) / self.names[0].partition("/")[0]
        make_torrent(top, self.torrent, piece_bytes=piece_bytes, version=version)

    def seeded(self, count: int = 1, *, its: Sequence[str] = ()) -> Program:
        """libtorrent seeders on their core; `its`: more options, for one seeder."""
        if count == 1:
            at = f"127.0.0.1:{free_port()}"
            prefix = on_core(SEEDER_CORE)
            return libtorrent("seed", self.torrent, self.seeds, "--listen", at, *its, prefix=prefix)
        return peers("seed", self.torrent, self.seeds, count, net=61, core=SEEDER_CORE)

    def seeded_by_us(self, *, prefix: Sequence[str] = ()) -> Program:
        """A seeder of ours."""
        at = f"127.0.0.1:{free_port()}"
        words = ["seed", self.torrent, "--data", self.seeds, "--listen", at, "--no-dht", "--json"]
        return magnet(*words, state=self.root / "state", prefix=prefix)

    def by_us(self, peers: Sequence[str], options: Sequence[str] = ()) -> Turn:
        """One download of ours."""
        warm_memory()
        words = ["get", self.torrent, "-o", self.got, *_dialling(peers), "--no-dht", "--json", *options]
        return self._fetched(magnet(*words, state=self.root / "state", prefix=on_core(OUR_CORE)), "done")

    def by_them(self, peers: Sequence[str], options: Sequence[str] = ()) -> Turn:
        """One download of libtorrent's."""
        warm_memory()
        words = ["get", self.torrent, self.got, *_dialling(peers), *options]
        return self._fetched(libtorrent(*words, prefix=on_core(OUR_CORE)), "verified")

    def _fetched(self, program: Program, end: str) -> Turn:
        took = turn(program, self.size, end)
        wrong = filecmp.cmpfiles(self.seeds, self.got, self.names, shallow=False)[1:]
        assert wrong == ([], []), "it got other bytes than were seeded"
        shutil.rmtree(self.root / "state", ignore_errors=True)
        shutil.rmtree(self.got)
        os.sync()  # the next turn does not pay for this one's writing
        return took


def _dialling(peers: Sequence[str]) -> list[str]:
    return ["--listen", f"127.0.0.1:{free_port()}", *(word for peer in peers for word in ("--peer", peer))]


def listening(seeder: Program) -> list[str]:
    """Where a seeder, or each of many, listens; waits until it does."""
    event = seeder.wait_event("seeding", timeout_s=60)
    at = event["listen"] if "listen" in event else event["address"]
    return at if isinstance(at, list) else [at]


def downloads(
    size: int,
    *,
    piece_bytes: int = MIB,
    seeders: int = 1,
    version: str = "v1",
    its: Sequence[str] = (),
    ours: Sequence[str] = (),
) -> Setting:
    """A file of `size` bytes from libtorrent seeders. `its` and `ours` are more options for each side's programs."""

    @contextmanager
    def setting(root: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        scene = Scene(root, size, piece_bytes, version)
        with scene.seeded(seeders, its=its) as seeder:
            at = listening(seeder)
            yield lambda: scene.by_us(at, ours), lambda: scene.by_them(at, its)

    return setting


ROWS = [
    Row("download", "download 1 GiB over one TCP connection, hashed, on disk", "MB/s",
        downloads(1024 * MIB), ("ratio >= 1.3",)),
    Row("download-20-seeders", "download 1 GiB from 20 seeders at once", "MB/s",
        downloads(1024 * MIB, seeders=20), ("ratio >= 1.0",)),
    Row("download-16k-pieces", "download 1 GiB in 65,536 pieces of 16 KiB", "MB/s",
        downloads(1024 * MIB, piece_bytes=16 << 10), ("ratio >= 1.0",)),
    Row("download-16m-pieces", "download 1 GiB in pieces of 16 MiB", "MB/s",
        downloads(1024 * MIB, piece_bytes=16 * MIB), ("ratio >= 1.0",)),
    Row("download-hybrid", "download 1 GiB, hybrid: SHA-1 and SHA-256", "MB/s",
        downloads(1024 * MIB, version="hybrid"), ("ratio >= 1.2",)),
    Row("download-v2", "download 1 GiB, version 2 alone: SHA-256", "MB/s",
        downloads(1024 * MIB, version="v2"), ("ratio >= 0.8",)),
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="size of the file (default 1024)")
    parser.add_argument("--piece", type=int, default=1024, metavar="KIB", help="piece length (default 1024)")
    parser.add_argument("--seeders", type=int, default=1)
    parser.add_argument("--hybrid", action="store_true")
    parser.add_argument("--pairs", type=int, default=pairs.PAIRS, help="counted turns of each (default 5)")
    parser.add_argument("--directory", type=Path, help="where the files go (default: the temporary folder)")
    options = parser.parse_args()
    setting = downloads(
        options.size * MIB,
        piece_bytes=options.piece << 10,
        seeders=options.seeders,
        version="hybrid" if options.hybrid else "v1",
    )
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        result = pairs.run(
            Row("download", f"download {options.size} MiB", "MB/s", setting), Path(folder), options.pairs
        )
    print(pairs.table([result], markdown=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
