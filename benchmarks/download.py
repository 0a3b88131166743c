"""How fast is a download of ours beside libtorrent's own? One file from one libtorrent seeder over one TCP connection.

    python benchmarks/download.py [--size MIB] [--pairs N] [--piece KIB] [--directory DIR]

Both downloaders are child processes pinned to one core, the seeder to another; they take turns in one run, since
only figures of one run on one machine may be compared. The first turn of each is a warm-up and not counted. A turn
is timed from the line that says `started` to the one that says that all is there: for ours every piece is then hashed
and handed to the file system; libtorrent says so when all is hashed, while its last pieces are still being written,
which is in its favour. Printed are MB/s (10^6 bytes) of each turn, and the ratio ours / libtorrent: the median of the
pairs and their spread. Needs libtorrent's wheel, Linux, taskset and twice the size free in DIR.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.interop.harness import Program, free_port, libtorrent, magnet, make_torrent, make_tree

TURN_S = 600.0
"""The longest that one turn may take."""


def pinned(core: int) -> list[str]:
    """A prefix that keeps a child on one core."""
    return ["taskset", "--cpu-list", str(core)]


def turn(program: Program, size_bytes: int, end: str) -> float:
    """Waits for a downloader, timed until its line `end`; returns its MB/s."""
    with program:
        program.wait_event("started", timeout_s=TURN_S)
        begun = time.perf_counter()
        program.wait_event(end, timeout_s=TURN_S)
        seconds = time.perf_counter() - begun
        program.wait_event("done", timeout_s=TURN_S)
        return size_bytes / seconds / 1e6


def spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} (from {min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="size of the file (default 1024)")
    parser.add_argument("--pairs", type=int, default=3, help="counted turns of each (default 3)")
    parser.add_argument("--piece", type=int, default=1024, metavar="KIB", help="piece length (default 1024)")
    parser.add_argument("--seeder-core", type=int, default=0)
    parser.add_argument("--downloader-core", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the files go (default: the temporary folder)")
    options = parser.parse_args()
    if not {options.seeder_core, options.downloader_core} <= os.sched_getaffinity(0):
        print("this machine has not both cores", file=sys.stderr)
        return 2
    size = options.size << 20
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        root = Path(folder)
        make_tree(root / "seeds", {"big.bin": size})
        file, torrent = root / "seeds" / "big.bin", root / "big.torrent"
        make_torrent(file, torrent, piece_bytes=options.piece << 10)
        at = f"127.0.0.1:{free_port()}"
        with libtorrent("seed", torrent, root / "seeds", "--listen", at, prefix=pinned(options.seeder_core)) as seeder:
            seeder.wait_event("seeding")
            ours, theirs = [], []
            print(f"{options.size} MiB, pieces of {options.piece} KiB, from one libtorrent seeder on core "
                  f"{options.seeder_core}, downloader on core {options.downloader_core}", flush=True)  # fmt: skip
            for number in range(options.pairs + 1):
                for name, speeds in (("kademlia-bt", ours), ("libtorrent", theirs)):
                    got = root / "got"
                    here = f"127.0.0.1:{free_port()}"
                    prefix = pinned(options.downloader_core)
                    if name == "libtorrent":
                        program = libtorrent("get", torrent, got, "--listen", here, "--peer", at, prefix=prefix)
                    else:
                        program = magnet(
                            "get", torrent, "-o", got, "--listen", here, "--peer", at, "--no-dht", "--json",
                            state=root / "state", prefix=prefix,
                        )  # fmt: skip
                    speed = turn(program, size, "verified" if name == "libtorrent" else "done")
                    if not filecmp.cmp(file, got / "big.bin", shallow=False):
                        print(f"{name} got other bytes than were seeded", file=sys.stderr)
                        return 1
                    shutil.rmtree(got)
                    shutil.rmtree(root / "state", ignore_errors=True)
                    os.sync()  # the next turn does not pay for this one's writing
                    counted = "" if number else "  (warm-up, not counted)"
                    print(f"  {name:12} {speed:7.1f} MB/s{counted}", flush=True)
                    if number:
                        speeds.append(speed)
    print(f"kademlia-bt: {spread(ours, 1)} MB/s; libtorrent: {spread(theirs, 1)} MB/s")
    print(f"ratio: {spread([one / other for one, other in zip(ours, theirs, strict=True)])} over {options.pairs} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
