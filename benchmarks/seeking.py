"""How soon is a seek in a film answered that is still downloading, ours beside libtorrent's own deadlines?

    python benchmarks/seeking.py [--piece KIB] [--seeders N] [--rate BYTES] [--seeks N] [--ours]

Each of the libtorrent seeders gives RATE bytes a second. A reader goes to some place that is not there yet, waits for
its first byte, plays on for a second or so, and goes on to another. For each: the median, the ninth of ten and the
longest, beside the floor: a piece is only read once all of it is here and right (BEP 3), which takes its length divided
by all that the seeders give together. Needs libtorrent's wheel; keep the machine quiet meanwhile.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import libtorrent as lt
import trio

import magnet
from benchmarks.download import listening, peers
from tests.interop.harness import make_tree
from wire.compact import Endpoint
from wire.metainfo import Torrent, create

SIZE = 384 << 20
AHEAD_BYTES = 16 << 20
"""libtorrent is told of as much as our reader asks for ahead of itself."""
PACE_MS = 250
WARM_S = 4.0
SEED = 5

At = tuple[str, int]


def places(pieces: int, have: Callable[[int], bool]) -> Iterator[tuple[int, float]]:
    """For ever: a piece that is not there, nor the next, and how long to play on after it."""
    rng = random.Random(SEED)
    while True:
        piece = rng.randrange(pieces - 64)
        if not have(piece) and not have(piece + 1):
            yield piece, rng.uniform(0.5, 1.5)


async def ours(torrent: Torrent, folder: Path, at: Sequence[At], count: int) -> list[float]:
    """The seconds of each seek."""
    named = tuple(Endpoint(host, port) for host, port in at)
    listen = (Endpoint("127.0.0.1", 0),)
    config = magnet.Config(dht=False, lsd=False, state_dir=None, port_mapping=False, listen=listen, peers=named)
    took = []
    async with magnet.Session(config) as session:
        streams = await (await session.add(torrent, directory=folder)).streams()
        await trio.sleep(WARM_S)
        order = places(torrent.info.piece_count, streams.source.has)
        with streams.reader(streams.files[0], 0) as reader:
            for _ in range(count):
                piece, play_s = next(order)
                began = time.perf_counter()
                reader.seek(piece * torrent.info.piece_length + 1000)
                await reader.read(1)
                took.append(time.perf_counter() - began)
                with trio.move_on_after(play_s):
                    async for _ in reader:
                        await trio.sleep(0.02)
                    await trio.sleep_forever()
    return took


def theirs(torrent: Torrent, folder: Path, at: Sequence[At], count: int) -> list[float]:
    """The same by `set_piece_deadline`."""
    alerts = lt.alert.category_t.piece_progress_notification | lt.alert.category_t.status_notification
    session = lt.session({"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False,
                          "enable_upnp": False, "enable_natpmp": False, "alert_mask": int(alerts),
                          "enable_outgoing_utp": False, "out_enc_policy": 2})  # fmt: skip
    made = lt.add_torrent_params()
    made.ti = lt.torrent_info(lt.bdecode(torrent.to_bytes()))
    made.save_path = str(folder)
    handle = session.add_torrent(made)
    for peer in at:
        handle.connect_peer(peer)
    pieces = torrent.info.piece_count

    def play(piece: int, until: Callable[[], bool]) -> None:
        """Sets the deadlines from there on, as far as the reader would."""
        while not until():
            if handle.have_piece(piece):
                piece += 1
                last = piece + AHEAD_BYTES // torrent.info.piece_length - 1
                if last < pieces:
                    handle.set_piece_deadline(last, PACE_MS * (last - piece))
            time.sleep(0.002)

    time.sleep(WARM_S)
    order = places(pieces, handle.have_piece)
    took = []
    for _ in range(count):
        piece, play_s = next(order)
        began = time.perf_counter()
        handle.clear_piece_deadlines()
        for place in range(min(AHEAD_BYTES // torrent.info.piece_length, pieces - piece)):
            handle.set_piece_deadline(piece + place, PACE_MS * place)
        while not handle.have_piece(piece):
            time.sleep(0.002)
        took.append(time.perf_counter() - began)
        end = time.monotonic() + play_s
        play(piece, lambda end=end: time.monotonic() >= end)  # type: ignore[misc]
    return took


def told(name: str, took: Sequence[float]) -> str:
    ranked = sorted(took)
    ninth = ranked[int(len(ranked) * 0.9)]
    return f"{name:12} median {statistics.median(ranked):.2f} s, nine of ten in {ninth:.2f} s, worst {ranked[-1]:.2f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--piece", type=int, default=1024, metavar="KIB")
    parser.add_argument("--seeders", type=int, default=4)
    parser.add_argument("--rate", type=int, default=1_000_000, metavar="BYTES")
    parser.add_argument("--seeks", type=int, default=20)
    parser.add_argument("--ours", action="store_true", help="leave libtorrent's turn out")
    options = parser.parse_args()
    length = options.piece << 10
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        torrent = create(make_tree(root / "seeds", {"film.mp4": SIZE}) / "film.mp4", piece_length=length)
        (root / "t.torrent").write_bytes(torrent.to_bytes())
        words = ("--rate", str(options.rate))
        with peers("seed", root / "t.torrent", root / "seeds", options.seeders, *words, net=63, core=0) as seeders:
            hosts = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in listening(seeders))]
            floor = length / options.seeders / options.rate
            print(f"pieces of {options.piece} KiB, {options.seeders} seeders of {options.rate:,} bytes/s each")
            print(f"floor        {floor:.2f} s")
            print(told("ours", trio.run(ours, torrent, root / "ours", hosts, options.seeks)), flush=True)
            if not options.ours:
                print(told("libtorrent", theirs(torrent, root / "theirs", hosts, options.seeks)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
