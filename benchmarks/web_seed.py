"""How fast is a download from a web server alone (BEP 19) beside libtorrent's own? One nginx gives all of it.

    python benchmarks/run_all.py web-seed
    python benchmarks/web_seed.py [--size MIB] [--files N] [--pairs N]

As in benchmarks/download.py, but nobody seeds: the torrent names the server as its `url-list`. Needs nginx too.
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
from benchmarks.download import MIB, SEEDER_CORE, Scene
from benchmarks.pairs import Row, Setting, Turn, on_core
from tests.interop.test_web_seeds import nginx
from wire.metainfo import Torrent


def from_nginx(size: int, files: int = 1) -> Setting:
    """`size` bytes in one file, or in so many of equal size."""

    @contextmanager
    def setting(root: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        scene = Scene(root, size, files=files)
        with nginx(scene.seeds, on_core(SEEDER_CORE)) as (url, _):
            made = Torrent.of(Torrent.from_bytes(scene.torrent.read_bytes()).info, web_seeds=(url,))
            scene.torrent.write_bytes(made.to_bytes())
            yield lambda: scene.by_us(()), lambda: scene.by_them(())

    return setting


ROWS = [
    Row("web-seed", "download 256 MiB from one nginx, nobody else (BEP 19)", "MB/s",
        from_nginx(256 * MIB), ("ratio >= 1.0",)),
    Row("web-seed-small-files", "the same, 64 MiB in 2,048 files", "MB/s",
        from_nginx(64 * MIB, 2048), ("ratio >= 1.0",)),
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, metavar="MIB")
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=pairs.PAIRS)
    options = parser.parse_args()
    row = Row("web-seed", f"download {options.size} MiB", "MB/s", from_nginx(options.size * MIB, options.files))
    with tempfile.TemporaryDirectory() as folder:
        print(pairs.table([pairs.run(row, Path(folder), options.pairs)], markdown=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
