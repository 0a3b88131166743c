"""Does a session stay as small as it was? Ten torrents and the DHT, for as long as you like: memory, files, tasks.

    python benchmarks/soak.py [MINUTES] [--every SECONDS]

One process shares ten torrents and keeps a DHT node. Another, a small DHT of eight nodes, opens a session every few
seconds that finds one of the torrents, downloads it and goes away. Both are watched: resident memory, open files,
trio's tasks. Loopback only. At the end: the slope of each over the second half, and whether files and tasks stayed.

What is resident is not what is in use: glibc keeps what was freed, for the next allocation, and how much that is goes
up and down by tens of megabytes with the order of frees. So once a minute it is told to give back what it can
(`malloc_trim`), and what is then resident is shown beside the rest: a leak would be seen there. In 7 minutes with 793
sessions the process of the DHT had 74 to 76 MB resident, up and down, and 50.9 MB in use at half time and at the end;
the one that shares had 49 MB, and 48.2 MB in use both times.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import itertools
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kademlia_bt.node import Node
from magnet import Config, Session
from magnet.link import MagnetLink
from wire.compact import Endpoint
from wire.metainfo import Torrent
from wire.metainfo.create import create

TORRENTS = 10
TORRENT_BYTES = 4 << 20
NODES = 8
SAMPLE_S = 10.0
TRIM_EVERY = 6
"""Samples."""
LOOPBACK = Endpoint("127.0.0.1", 0)


def sample() -> dict[str, float]:
    """This process, now."""
    fields = Path("/proc/self/statm").read_text().split()
    return {
        "at": time.monotonic(),
        "rss_mb": int(fields[1]) * 4096 / 1e6,
        "fds": len(list(Path("/proc/self/fd").iterdir())),
        "tasks": trio.lowlevel.current_statistics().tasks_living,
    }


def in_use_mb() -> float:
    """What is resident once all garbage is collected and what was freed is given back; then it is not given back again
    for a minute, so that what is resident otherwise is what it is in life."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return sample()["rss_mb"]


def settings(bootstrap: Endpoint) -> Config:
    return Config(
        listen=(LOOPBACK,), bootstrap=((bootstrap.host, bootstrap.port),), lsd=False, port_mapping=False, state_dir=None
    )


async def share(folder: Path, host: str, port: int) -> None:
    """The child: shares all torrents, prints a sample now and then."""
    async with Session(settings(Endpoint(host, port))) as session:
        for path in [folder / f"film {number}.torrent" for number in range(TORRENTS)]:
            handle = await session.add(path, directory=folder, seed=True)
            await handle.finished()
        print(json.dumps({"ready": True}), flush=True)
        for number in itertools.count():
            facts = sample()
            if number % TRIM_EVERY == 0:
                facts["in_use_mb"] = in_use_mb()
            print(json.dumps(facts), flush=True)
            await trio.sleep(SAMPLE_S)


async def fetch(torrents: list[Torrent], bootstrap: Endpoint, folder: Path, chance: random.Random) -> None:
    torrent = chance.choice(torrents)
    target = folder / "got"
    async with Session(settings(bootstrap)) as session:
        handle = await session.add(MagnetLink(info_hash=torrent.info.info_hash), directory=target)
        with trio.fail_after(60):
            await handle.finished()
    shutil.rmtree(target)


async def soak(minutes: float, every_s: float, folder: Path) -> None:
    """The parent: the DHT, and those who come and go."""
    torrents = []
    for number in range(TORRENTS):
        path = folder / f"film {number}.bin"
        path.write_bytes(random.Random(number).randbytes(TORRENT_BYTES))
        torrents.append(create(path, piece_length=65536))
        path.with_suffix(".torrent").write_bytes(torrents[-1].to_bytes())
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    visits = 0
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Node(listen=(LOOPBACK,), bootstrap=(), allow_local=True))
        at = first.endpoints[0]
        for _ in range(NODES - 1):
            await stack.enter_async_context(Node(listen=(LOOPBACK,), bootstrap=((at.host, at.port),), allow_local=True))
        nursery = await stack.enter_async_context(trio.open_nursery())
        words = [sys.executable, __file__, "--share", str(folder), at.host, str(at.port)]
        run = partial(trio.run_process, words, stdout=subprocess.PIPE, check=False)
        child = await nursery.start(run)
        ready = trio.Event()

        async def listen() -> None:
            rest = b""
            async for data in child.stdout:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    facts = json.loads(line)
                    if "ready" in facts:
                        ready.set()
                    else:
                        theirs.append(facts)

        nursery.start_soon(listen)
        await ready.wait()
        ends_at = trio.current_time() + minutes * 60
        chance = random.Random(1)
        sampled_at = -SAMPLE_S
        while trio.current_time() < ends_at:
            began = trio.current_time()
            await fetch(torrents, at, folder, chance)
            visits += 1
            if trio.current_time() - sampled_at >= SAMPLE_S:
                sampled_at = trio.current_time()
                ours.append(sample())
                if len(ours) % TRIM_EVERY == 1:
                    ours[-1]["in_use_mb"] = in_use_mb()
            await trio.sleep_until(began + every_s)
        child.terminate()
        nursery.cancel_scope.cancel()
    print(f"{visits} sessions came, downloaded {TORRENT_BYTES >> 20} MiB each, and went, in {minutes:g} minutes")
    for name, samples in (("the one that shares ten torrents", theirs), ("the DHT and its visitors", ours)):
        tell(name, samples)


def tell(name: str, samples: list[dict[str, float]]) -> None:
    late = samples[len(samples) // 2 :]
    slope = statistics.linear_regression([one["at"] / 3600 for one in late], [one["rss_mb"] for one in late]).slope
    print(f"{name}: {late[0]['rss_mb']:.1f} MB at half time, {late[-1]['rss_mb']:.1f} MB at the end: {slope:+.2f} MB/h")
    in_use = [one["in_use_mb"] for one in late if "in_use_mb" in one]
    if in_use:
        print(f"  in use: {in_use[0]:.1f} MB at half time, {in_use[-1]:.1f} MB in the last minute")
    for what in ("fds", "tasks"):
        seen = [one[what] for one in late]
        print(f"  {what}: {min(seen):g} to {max(seen):g}, at the end {seen[-1]:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=20.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds from one visit to the next")
    parser.add_argument("--share", nargs=3, metavar=("FOLDER", "HOST", "PORT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.share:
        trio.run(share, Path(asked.share[0]), asked.share[1], int(asked.share[2]))
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        trio.run(soak, asked.minutes, asked.every, Path(folder))


if __name__ == "__main__":
    main()
