"""How much memory do we take beside libtorrent? The most that was resident, in MB of 10^6 bytes.

    python benchmarks/run_all.py memory

libtorrent may map the files that it reads, which counts as resident though the system could take it back at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.download import MIB, Scene, downloads, listening
from benchmarks.pairs import Row, Setting, Turn, Watched
from tests.interop.harness import Program, free_port, libtorrent
from wire.metainfo import Torrent
from wire.peer.handshake import Handshake
from wire.peer.messages import INTERESTED, frame

SETTLE_S = 3.0
"""How long what was opened stays, so that all of it is seen."""


def as_memory(turn: Turn) -> Turn:
    """The same turn, its peak being the value."""
    return Turn((turn.peak_bytes or 0) / 1e6, turn.cpu_s, turn.peak_bytes, turn.private_bytes)


def of_download(size: int) -> Setting:
    """A whole download."""

    @contextmanager
    def setting(root: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        with downloads(size)(root) as (ours, theirs):
            assert theirs is not None
            yield lambda: as_memory(ours()), lambda: as_memory(theirs())

    return setting


def of_seeder(size: int, *, piece_bytes: int = MIB, connections: int = 0) -> Setting:
    """A seeder that has checked its data, with so many silent peers."""

    @contextmanager
    def setting(root: Path) -> Iterator[tuple[Callable[[], Turn], Callable[[], Turn]]]:
        scene = Scene(root, size, piece_bytes)
        info_hash = Torrent.from_bytes(scene.torrent.read_bytes()).info_hash_v1
        assert info_hash is not None

        def stays(program: Program) -> Turn:
            with ExitStack() as stack:
                watched = stack.enter_context(Watched(program))
                host, _, port = listening(program)[0].rpartition(":")
                watched.begin()
                for number in range(connections):
                    peer = socket.create_connection(
                        (host, int(port)), 10, (f"127.0.{70 + number // 200}.{number % 200 + 1}", 0)
                    )
                    stack.enter_context(peer)
                    identity = b"-XX0001-" + number.to_bytes(12, "big")
                    peer.sendall(Handshake(info_hash, identity, extended=False, fast=True, dht=False).encode())
                    peer.sendall(frame(INTERESTED))
                    peer.recv(68)
                time.sleep(SETTLE_S)
                return as_memory(watched.turn(0.0))

        def by_us() -> Turn:
            return stays(scene.seeded_by_us())

        def by_them() -> Turn:
            return stays(libtorrent("seed", scene.torrent, scene.seeds, "--listen", f"127.0.0.1:{free_port()}"))

        yield by_us, by_them

    return setting


def _row(name: str, question: str, setting: Setting, *must: str) -> Row:
    return Row(name, question, "MB", setting, must, smaller_is_better=True, digits=0, pairs=3)


ROWS = [
    _row("memory-idle", "memory of an idle session with one small torrent", of_seeder(MIB), "ours <= 60"),
    _row("memory-download", "memory of a download of 1 GiB", of_download(1024 * MIB), "ratio <= 1.5"),
    _row("memory-100k-pieces", "memory of a seeder of 100,000 pieces",
         of_seeder(100_000 * (16 << 10), piece_bytes=16 << 10), "ratio <= 1.5"),
    _row("memory-200-peers", "memory of a seeder with 200 connections",
         of_seeder(64 * MIB, connections=200), "ratio <= 1.5"),
]  # fmt: skip
