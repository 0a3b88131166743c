"""How fast are encrypted (MSE with RC4) and uTP downloads of ours beside libtorrent's own, from a libtorrent seeder?

    python benchmarks/wires.py [--size MIB] [--pairs N] [--wire tcp|rc4|utp]...

Both downloaders are child processes pinned to one core, the seeder to another, and take turns in one run; the first
turn of each is a warm-up. A turn lasts from the line `started` to the line `done`: every piece hashed and handed to
the file system. Printed are MB/s (10^6 bytes) and the ratio ours / libtorrent, median of the pairs. Needs libtorrent's
wheel and Linux with two cores.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.download import pinned, spread, turn
from tests.interop.harness import free_port, libtorrent, magnet, make_torrent, make_tree

WIRES: dict[str, tuple[list[str], list[str]]] = {
    # name: what libtorrent is told (as seeder and as downloader), what we are told
    "tcp": ([], ["--transport", "tcp", "--encryption", "off"]),
    "rc4": (["--encrypt", "rc4"], ["--transport", "tcp", "--encryption", "require"]),
    "utp": (["--utp"], ["--transport", "utp", "--encryption", "off"]),
}


def measure(wire: str, size: int, pairs: int, root: Path) -> None:
    """Prints the turns and the ratio of one kind of connection."""
    its, ours = WIRES[wire]
    file, torrent = root / "seeds" / "big.bin", root / "big.torrent"
    at = f"127.0.0.1:{free_port()}"
    speeds: dict[str, list[float]] = {"kademlia-bt": [], "libtorrent": []}
    with libtorrent("seed", torrent, root / "seeds", "--listen", at, *its, prefix=pinned(0)) as seeder:
        seeder.wait_event("seeding")
        for number in range(pairs + 1):
            for name, counted in speeds.items():
                got, here = root / "got", f"127.0.0.1:{free_port()}"
                if name == "libtorrent":
                    program = libtorrent("get", torrent, got, "--listen", here, "--peer", at, *its, prefix=pinned(1))
                else:
                    program = magnet(
                        "get", torrent, "-o", got, "--listen", here, "--peer", at, "--no-dht", "--json", *ours,
                        state=root / "state", prefix=pinned(1),
                    )  # fmt: skip
                speed = turn(program, size, "verified" if name == "libtorrent" else "done")
                assert filecmp.cmp(file, got / "big.bin", shallow=False), f"{name} got other bytes than were seeded"
                shutil.rmtree(got)
                shutil.rmtree(root / "state", ignore_errors=True)
                print(f"  {wire} {name:12} {speed:7.1f} MB/s{'' if number else '  (warm-up)'}", flush=True)
                if number:
                    counted.append(speed)
    ratios = [one / other for one, other in zip(*speeds.values(), strict=True)]
    print(f"{wire}: ours {spread(speeds['kademlia-bt'], 1)}, libtorrent {spread(speeds['libtorrent'], 1)} MB/s; "
          f"ratio {spread(ratios)}")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, metavar="MIB")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--wire", action="append", choices=list(WIRES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tree(root / "seeds", {"big.bin": options.size << 20})
        make_torrent(root / "seeds" / "big.bin", root / "big.torrent", piece_bytes=1 << 20)
        for wire in options.wire or WIRES:
            measure(wire, options.size << 20, options.pairs, root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
