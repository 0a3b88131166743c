"""How fast are encrypted (MSE with RC4) and uTP downloads of ours beside libtorrent's own, from a libtorrent seeder?

    python benchmarks/run_all.py wires
    python benchmarks/wires.py [--size MIB] [--pairs N] [--wire tcp|rc4|utp|own-utp]...

As in benchmarks/download.py, over one kind of connection. `own-utp` is uTP between two of ours beside libtorrent to
libtorrent: each pair has a seeder of its own kind.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import pairs
from benchmarks.download import MIB, SEEDER_CORE, Scene, downloads, listening
from benchmarks.pairs import Row, Setting, Turn, on_core
from tests.interop.harness import free_port, magnet

OUR_UTP = ("--transport", "utp", "--encryption", "off")
OUR_RC4 = ("--transport", "tcp", "--encryption", "require")


def between_two(size: int) -> Setting:
    """uTP from our seeder to us, beside libtorrent from libtorrent."""

    @contextmanager
    def setting(root: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        scene = Scene(root, size)
        words = ["seed", scene.torrent, "--data", scene.seeds, "--listen", f"127.0.0.1:{free_port()}"]
        our_seeder = magnet(*words, "--no-dht", "--json", *OUR_UTP, state=root / "seeding", prefix=on_core(SEEDER_CORE))
        with our_seeder, scene.seeded(its=("--utp",)) as its_seeder:
            ours, its = listening(our_seeder), listening(its_seeder)
            yield lambda: scene.by_us(ours, OUR_UTP), lambda: scene.by_them(its, ("--utp",))

    return setting


ROWS = [
    Row("wire-rc4", "download 512 MiB over MSE with RC4", "MB/s",
        downloads(512 * MIB, its=("--encrypt", "rc4"), ours=OUR_RC4), ("ratio >= 1.0",)),
    Row("wire-utp", "download 256 MiB over uTP from a libtorrent seeder", "MB/s",
        downloads(256 * MIB, its=("--utp",), ours=OUR_UTP), ("ratio >= 1.5",)),
    Row("wire-utp-between-two", "download 256 MiB over uTP, each from a seeder of its own kind", "MB/s",
        between_two(256 * MIB), ("ratio >= 4",), other="libtorrent to libtorrent"),
]  # fmt: skip


def main() -> int:
    settings: dict[str, Callable[[int], Setting]] = {
        "tcp": lambda size: downloads(size, ours=("--transport", "tcp", "--encryption", "off")),
        "rc4": lambda size: downloads(size, its=("--encrypt", "rc4"), ours=OUR_RC4),
        "utp": lambda size: downloads(size, its=("--utp",), ours=OUR_UTP),
        "own-utp": between_two,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, metavar="MIB")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--wire", action="append", choices=list(settings))
    options = parser.parse_args()
    results = []
    for wire in options.wire or settings:
        with tempfile.TemporaryDirectory() as folder:
            row = Row(f"wire-{wire}", f"download {options.size} MiB", "MB/s", settings[wire](options.size * MIB))
            results.append(pairs.run(row, Path(folder), options.pairs))
    print(pairs.table(results, markdown=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
