"""How fast is a recheck beside libtorrent's? Whole processes, on all cores: `magnet check` and a libtorrent session.

    python benchmarks/run_all.py recheck

Timed from the start of the process to its end, imports included. The file lies in the page cache: it is read once
before each turn, as a virtual machine may give pages away that nobody touched for a while, and is on disk before the
first, as writing it back takes both cores.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.download import MIB, TURN_S, Scene
from benchmarks.pairs import Row, Setting, Turn, Watched
from tests.interop.harness import Program


def recheck(size: int) -> Setting:
    """A file of `size` bytes in pieces of 1 MiB, all of it right."""

    @contextmanager
    def setting(root: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        scene = Scene(root, size)
        os.sync()

        def timed(*words: str | Path) -> Turn:
            _warm(scene.seeds)
            begun = time.perf_counter()
            program = Program([sys.executable, *map(str, words)])
            with Watched(program) as watched:
                program.finish(0, timeout_s=TURN_S)
                seconds = watched.elapsed(begun)
                return watched.turn(size / seconds / 1e6, cores=round(watched.cpu_s / seconds, 2))

        yield (
            lambda: timed("-m", "magnet", "check", scene.torrent, "--data", scene.seeds),
            lambda: timed(__file__, scene.torrent, scene.seeds),
        )

    return setting


def _warm(folder: Path) -> None:
    buffer = bytearray(MIB)
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def check_with_libtorrent(torrent: str, folder: str) -> None:
    """A whole recheck by libtorrent: the child process that is measured."""
    import libtorrent as lt

    from tests.interop.libtorrent_child import parameters, session

    node = session("127.0.0.1:0", None)
    handle = node.add_torrent(parameters(torrent, folder))
    while not handle.status().is_seeding:
        node.wait_for_alert(5)
        node.pop_alerts()
    assert handle.status().state == lt.torrent_status.seeding


ROWS = [
    Row("recheck", "recheck 4 GiB in pieces of 1 MiB, all cores", "MB/s", recheck(4096 * MIB), ("ratio >= 1.0",)),
]

if __name__ == "__main__":
    check_with_libtorrent(*sys.argv[1:])
