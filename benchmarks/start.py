"""How long does `magnet` take for an answer that needs no network, from the start of the process?

    python benchmarks/start.py [--pairs N]          as rows: python benchmarks/run_all.py start

`magnet --help`, `magnet get --help` and `magnet info FILE` beside `aria2c -S FILE`, which shows a torrent's files: a
program in C++ whose time is the least there can be. A turn is one process, from its start to its end, by the clock.
Nothing is pinned: nobody's shell does that. Needs aria2.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.pairs import Row, Setting, Turn, run, table
from wire.metainfo.create import create

PAIRS = 15
FILES = 20


def once(command: list[str]) -> Turn:
    """One process."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).resolve().parents[1])
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return Turn(took * 1000, used.ru_utime + used.ru_stime, used.ru_maxrss << 10)


def starting(*words: str) -> Setting:
    """The setting of a row; FILE among the words stands for a torrent of some files."""

    @contextmanager
    def setting(folder: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        payload = folder / "payload"
        payload.mkdir()
        for number in range(FILES):
            (payload / f"{number}.bin").write_bytes(os.urandom(50_000))
        torrent = folder / "payload.torrent"
        torrent.write_bytes(create(payload).to_bytes())
        ours = [sys.executable, "-m", "magnet", *(str(torrent) if word == "FILE" else word for word in words)]
        yield partial(once, ours), partial(once, ["aria2c", "-S", str(torrent)])

    return setting


ROWS = [
    Row(
        f"start-{name}",
        f"`magnet {' '.join(words)}` from the start of the process to its end",
        "ms",
        starting(*words),
        ("ours <= 250",),
        other="aria2c -S",
        smaller_is_better=True,
        digits=0,
        pairs=PAIRS,
    )
    for name, words in (("help", ("--help",)), ("get-help", ("get", "--help")), ("info", ("info", "FILE")))
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, help=f"counted turns of each (default {PAIRS})")
    options = parser.parse_args()
    results = []
    for row in ROWS:
        print(f"{row.name}: {row.question}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            results.append(run(row, Path(folder), options.pairs))
    print(table(results, markdown=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
