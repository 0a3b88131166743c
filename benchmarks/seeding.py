"""How fast do we seed beside libtorrent, and for how many CPU seconds? To libtorrent leechers on the other core.

    python benchmarks/run_all.py seed

The leechers (libtorrent_peers.py) are the same for both: they know the seeder alone and do not hash. A turn lasts from
the moment in which the first of them dials to the one in which all have everything; CPU and memory are the seeder's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.download import MIB, OUR_CORE, SEEDER_CORE, TURN_S, Scene, listening, peers
from benchmarks.pairs import Row, Setting, Turn, Watched, on_core
from benchmarks.warmth import warm_memory
from tests.interop.harness import Program, free_port, libtorrent


def seeding(size: int, leechers: int) -> Setting:
    """`size` bytes to each of the leechers."""

    @contextmanager
    def setting(root: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        scene = Scene(root, size)

        def given(program: Program) -> Turn:
            got = root / "leechers"
            with Watched(program) as seeder:
                (at,) = listening(program)
                with peers("leech", scene.torrent, got, leechers, "--peer", at, net=62, core=SEEDER_CORE) as takers:
                    takers.wait_event("started", timeout_s=TURN_S)
                    takers.wait_event("dialled", timeout_s=TURN_S)
                    begun = seeder.begin()
                    takers.wait_event("done", timeout_s=TURN_S)
                    took = seeder.turn(leechers * size / seeder.elapsed(begun) / 1e6)
            shutil.rmtree(got)
            os.sync()
            return took

        def by_us() -> Turn:
            warm_memory()
            return given(scene.seeded_by_us(prefix=on_core(OUR_CORE)))

        def by_them() -> Turn:
            warm_memory()
            words: list[str | Path] = ["seed", scene.torrent, scene.seeds, "--listen", f"127.0.0.1:{free_port()}"]
            return given(libtorrent(*words, prefix=on_core(OUR_CORE)))

        yield by_us, by_them

    return setting


ROWS = [
    Row("seed", "seed 1 GiB to one libtorrent leecher", "MB/s",
        seeding(1024 * MIB, 1), ("ratio >= 1.05", "cpu <= 1.0")),
    Row("seed-to-20", "seed 1 GiB in all to 20 libtorrent leechers at once", "MB/s",
        seeding(51 * MIB, 20), ("ratio >= 1.05", "cpu <= 1.0")),
]  # fmt: skip
