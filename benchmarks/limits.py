"""How near is a download to what this machine can do at all? Beside a bare program that speaks no protocol.

    python benchmarks/run_all.py limits

The bare program does what nobody who downloads to disk can leave out, one after another, on the same core, in the same
run: it drains the bytes from a loopback socket (sent from the other core), hashes them in pieces of 1 MiB, and writes
them to a file. Its rate is that of the three together; each alone is told as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.download import MIB, OUR_CORE, SEEDER_CORE, TURN_S, Scene, listening
from benchmarks.pairs import Row, Turn, Watched, on_core
from benchmarks.warmth import warm_memory
from tests.interop.harness import Program

SIZE = 1024 * MIB
BUFFER = 64 * MIB
"""More than the caches of a core hold, as what comes from a socket is more than they hold."""


@contextmanager
def setting(root: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
    """A seeder for ours; the bare program brings its own sender."""
    scene = Scene(root, SIZE)

    def bare() -> Turn:
        scene.got.mkdir()
        warm_memory()
        words = [sys.executable, __file__, "--bare", str(scene.got / "big.bin")]
        with Watched(Program([*on_core(OUR_CORE), *words])) as child:
            done = child.program.wait_event("done", timeout_s=TURN_S)
            stages = {f"{name} MB/s": SIZE / seconds / 1e6 for name, seconds in done["seconds"].items()}
            took = child.turn(SIZE / sum(done["seconds"].values()) / 1e6, **stages)
        shutil.rmtree(scene.got)
        os.sync()
        return took

    with scene.seeded() as seeder:
        at = listening(seeder)
        yield lambda: scene.by_us(at), bare


ROWS = [
    Row(
        "limits",
        "download 1 GiB beside the same core's socket, SHA-1 and disk, one after another, without a protocol",
        "MB/s",
        setting,
        other="the machine",
    )
]


def bare(file: Path) -> None:
    """The three stages, each timed alone."""
    buffer = memoryview(bytearray(os.urandom(MIB) * (BUFFER // MIB)))
    pieces = [buffer[at : at + MIB] for at in range(0, BUFFER, MIB)]
    rounds = SIZE // BUFFER
    seconds = {"socket": drained(buffer)}
    begun = time.perf_counter()
    for _ in range(rounds):
        for piece in pieces:
            hashlib.sha1(piece).digest()
    seconds["SHA-1"] = time.perf_counter() - begun
    begun = time.perf_counter()
    target = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    for turn in range(rounds):
        for number, piece in enumerate(pieces):
            os.pwrite(target, piece, turn * BUFFER + number * MIB)
    seconds["disk"] = time.perf_counter() - begun
    os.close(target)
    print(json.dumps({"event": "done", "seconds": seconds}), flush=True)


def drained(buffer: memoryview) -> float:
    """Seconds to read SIZE bytes that a child on the other core sends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = os.fork()
        if not sender:
            os.sched_setaffinity(0, {SEEDER_CORE})
            with socket.create_connection(server.getsockname()) as out:
                for _ in range(SIZE // BUFFER):
                    out.sendall(buffer)
            os._exit(0)
        connection, _ = server.accept()
    with connection:
        begun = time.perf_counter()
        left, at = SIZE, 0
        while left:
            count = connection.recv_into(buffer[at : at + 2 * MIB])
            left -= count
            at = (at + count) % (BUFFER - 2 * MIB)
        seconds = time.perf_counter() - begun
    os.waitpid(sender, 0)
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bare", type=Path, required=True)
    options = parser.parse_args()
    bare(options.bare)
