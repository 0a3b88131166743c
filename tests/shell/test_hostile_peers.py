"""What one peer can cost: real processes, real sockets, peers that send the worst and do not read what comes back.

Each kind of peer comes several times at once, each from an address of its own. What was resident at the most beyond
what it was before them, divided by their number, stays under 2 MiB; what all kinds together left behind, modules that
were loaded for the first of them too, under twice that. After each kind an honest peer is still answered.
`HOSTILE_S=5 pytest -s tests/shell/test_hostile_peers.py` lets them push for longer, and shows the numbers.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.interop.harness import Program
from tests.shell.kit import make_torrent
from wire.bencode import encode
from wire.metainfo import Torrent
from wire.peer.messages import INTERESTED, frame

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc, and the whole of 127.0.0.0/8 without being asked"
)

PEERS = 8
MAX_BYTES_EACH = 2 << 20
SENT_S = float(os.environ.get("HOSTILE_S", "0.4"))
"""How long a kind of peers pushes at the most: what is not taken by then, is not taken."""
PIECE = 16384

Kind = Callable[[Torrent], Iterator[bytes]]


def extended(number: int, items: object, data: bytes = b"") -> bytes:
    return frame(20, bytes([number]) + encode(items) + data)  # type: ignore[arg-type]


def hello(**more: object) -> bytes:
    named = {b"ut_metadata": 1, b"ut_pex": 2, b"lt_donthave": 3, b"ut_holepunch": 4}
    return extended(0, {b"m": named, **{name.encode(): value for name, value in more.items()}})


def a_million_requests(torrent: Torrent) -> Iterator[bytes]:
    yield frame(INTERESTED)
    count = torrent.info.piece_count
    for start in range(0, 1_000_000, 10_000):
        yield b"".join(frame(6, struct.pack(">III", at % count, 0, PIECE)) for at in range(start, start + 10_000))


def requests_of_nothing(torrent: Torrent) -> Iterator[bytes]:
    for _ in range(300):
        yield frame(6, struct.pack(">III", 2**32 - 1, 2**32 - 1, 2**31)) * 1000


def bitfields(torrent: Torrent) -> Iterator[bytes]:
    field = frame(5, b"\xff" * (torrent.info.piece_count // 8) + b"\0" * (torrent.info.piece_count % 8 > 0))
    for _ in range(2000):
        yield field


def a_bitfield_of_300_kib(torrent: Torrent) -> Iterator[bytes]:
    yield frame(5, b"\xff" * (300 << 10))


def haves(torrent: Torrent) -> Iterator[bytes]:
    for _ in range(200):
        yield b"".join(frame(4, struct.pack(">I", index)) for index in range(torrent.info.piece_count))


def have_all_and_none(torrent: Torrent) -> Iterator[bytes]:
    for _ in range(300):
        yield (frame(14) + frame(15)) * 1000


def unasked_pieces(torrent: Torrent) -> Iterator[bytes]:
    yield frame(14) + frame(1)
    block = bytes(PIECE)
    for index in range(1500):
        yield frame(7, struct.pack(">II", index % torrent.info.piece_count, 0) + block)


def a_frame_of_4_gb(torrent: Torrent) -> Iterator[bytes]:
    yield b"\xff\xff\xff\xff\x05" + bytes(1 << 20)


def a_frame_that_drips(torrent: Torrent) -> Iterator[bytes]:
    yield struct.pack(">IB", 16393, 7) + bytes(16000)


def allowed_and_suggested(torrent: Torrent) -> Iterator[bytes]:
    for _ in range(300):
        yield b"".join(
            frame(kind, struct.pack(">I", index)) for index in range(torrent.info.piece_count) for kind in (17, 13)
        )


def rejects(torrent: Torrent) -> Iterator[bytes]:
    for _ in range(300):
        yield frame(16, struct.pack(">III", 0, 0, PIECE)) * 1000


def handshakes_again_and_again(torrent: Torrent) -> Iterator[bytes]:
    for number in range(500):
        names = {b"ext %d %d" % (number, at): at + 1 for at in range(200)}
        yield extended(0, {b"m": names, b"v": b"v" * 60000, b"reqq": 2**30, b"metadata_size": 2**31 - 1})


def peer_exchange_at_the_cap(torrent: Torrent) -> Iterator[bytes]:
    chance = random.Random(7)
    for _ in range(100):
        yield extended(2, {b"added": chance.randbytes(6 * 5000), b"added.f": bytes(5000), b"dropped": b""})


def metadata_asked(torrent: Torrent) -> Iterator[bytes]:
    ask = extended(1, {b"msg_type": 0, b"piece": 0})
    for _ in range(300):
        yield ask * 300


def metadata_unasked(torrent: Torrent) -> Iterator[bytes]:
    for piece in range(1000):
        yield extended(1, {b"msg_type": 1, b"piece": piece, b"total_size": 16 << 20}, bytes(PIECE))


def hashes_asked(torrent: Torrent) -> Iterator[bytes]:
    for _ in range(300):
        yield frame(21, bytes(32) + struct.pack(">4I", 0, 0, 512, 4)) * 300


def hole_punches(torrent: Torrent) -> Iterator[bytes]:
    word = frame(20, b"\x04" + bytes([0, 0, 127, 0, 0, 9, 0, 80]))
    for _ in range(300):
        yield word * 500


def unknown_messages(torrent: Torrent) -> Iterator[bytes]:
    for kind in range(300):
        yield frame(100 + kind % 100, bytes(15000)) + frame(20, b"\x7f" + bytes(15000))


KINDS: list[Kind] = [
    a_million_requests, requests_of_nothing, bitfields, a_bitfield_of_300_kib, haves, have_all_and_none, unasked_pieces,
    a_frame_of_4_gb, a_frame_that_drips, allowed_and_suggested, rejects, handshakes_again_and_again,
    peer_exchange_at_the_cap, metadata_asked, metadata_unasked, hashes_asked, hole_punches, unknown_messages,
]  # fmt: skip


class Victim:
    """A session of ours in a process of its own."""

    def __init__(self, program: Program, at: tuple[str, int], torrent: Torrent) -> None:
        self.program, self.at, self.torrent = program, at, torrent

    def memory(self, name: str) -> int:
        """Bytes: `VmRSS` now, `VmHWM` at the most since the last `forget_peak`."""
        lines = Path(f"/proc/{self.program.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.program.pid}/clear_refs").write_text("5")

    def dial(self, host: str) -> socket.socket:
        peer = socket.create_connection(self.at, 60, (host, 0))
        info_hash = self.torrent.info_hash_v1
        assert info_hash is not None
        reserved = bytes.fromhex("0000000000100005")
        peer.sendall(b"\x13BitTorrent protocol" + reserved + info_hash + host.encode().rjust(20, b"-"))
        peer.sendall(hello(metadata_size=len(self.torrent.info.raw), reqq=2**20))
        return peer

    def answers(self) -> bool:
        """An honest peer shakes hands, soon."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(ConnectionError), self.dial("127.0.99.1") as peer:  # the torrent may not be added yet
                said = peer.recv(68, socket.MSG_WAITALL)
                if len(said) == 68:
                    return said[28:48] == self.torrent.info_hash_v1
        return False


def attack(victim: Victim, kind: Kind) -> int:
    """Bytes that were resident at the most meanwhile."""
    victim.forget_peak()
    with ExitStack() as stack:
        network = 100 + KINDS.index(kind)  # of its own: who was banned before does not come again
        hosts = [f"127.0.{network}.{number + 1}" for number in range(PEERS)]
        peers = {stack.enter_context(victim.dial(host)): kind(victim.torrent) for host in hosts}
        rest: dict[socket.socket, memoryview] = {peer: memoryview(b"") for peer in peers}
        for peer in peers:
            peer.setblocking(False)
        until = time.monotonic() + SENT_S
        while rest and (left := until - time.monotonic()) > 0:
            _, writable, _ = select.select([], list(rest), [], left)
            for peer in writable:
                if not rest[peer]:
                    data = next(peers[peer], None)
                    if data is None:
                        del rest[peer]
                        continue
                    rest[peer] = memoryview(data)
                try:
                    rest[peer] = rest[peer][peer.send(rest[peer]) :]
                except BlockingIOError:
                    pass
                except OSError:  # he has had enough
                    del rest[peer]
        return victim.memory("VmHWM")


def started(*words: str | Path) -> tuple[Program, tuple[str, int]]:
    options = ("--no-dht", "--no-lsd", "--no-trackers", "--no-port-mapping", "--listen", "127.0.0.1:0", "-v")
    program = Program([sys.executable, "-m", "magnet", *map(str, words), *options])
    line = program.wait_line(lambda line: "listening on" in line, stderr=True)
    host, _, port = line.rpartition("listening on ")[2].partition(",")[0].rpartition(":")
    return program, (host, int(port))


@pytest.mark.parametrize("role", ["seed", "get", "get by link"])
def test_no_peer_costs_more_than_2_mib(tmp_path: Path, role: str) -> None:
    torrent, data = make_torrent("film", {"film": 8 << 20}, piece_length=PIECE)
    (tmp_path / "film").write_bytes(data)
    (tmp_path / "film.torrent").write_bytes(torrent.to_bytes())
    words: dict[str, tuple[str | Path, ...]] = {
        "seed": ("seed", tmp_path / "film.torrent", "--data", tmp_path),
        "get": ("get", tmp_path / "film.torrent", "-o", tmp_path / "got"),
        "get by link": ("get", f"magnet:?xt=urn:btih:{torrent.info_hash_v1.hex()}", "-o", tmp_path / "got"),  # type: ignore[union-attr]
    }
    program, at = started(*words[role], "--state", tmp_path / "state")
    costs = {}
    with program:
        victim = Victim(program, at, torrent)
        assert victim.answers()
        first = victim.memory("VmRSS")
        for kind in KINDS:
            before = victim.memory("VmRSS")
            costs[kind.__name__] = (attack(victim, kind) - before) // PEERS
            assert program.running, program.story()
            assert victim.answers(), f"deaf after {kind.__name__}"
        left = (victim.memory("VmRSS") - first) // PEERS
        assert "Traceback" not in "\n".join(program.err)
    for name, cost in costs.items():
        print(f"{role}: {name}: {cost / 1024:.0f} KiB a peer")
    assert max(costs.values()) <= MAX_BYTES_EACH, costs
    print(f"{role}: {left / 1024:.0f} KiB a peer were left behind")
    assert left <= 2 * MAX_BYTES_EACH
