"""Bytes that nobody sane sends, into MSE and uTP: only the error of the peer's fault, bounded memory.

A short run each time; `HOSTILE_INPUTS=100000 pytest tests/props/test_hostile_wires.py -s` makes the long one and
tells the slowest input of each kind.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.peer.mse import Acceptor, Dialler, Methods
from wire.utp.connection import UtpConnection
from wire.utp.inbound import RECEIVE_BUFFER_BYTES
from wire.utp.mux import MAX_CONNECTIONS, MAX_HALF_OPEN, UtpMux
from wire.utp.outbound import SEND_BUFFER_BYTES
from wire.utp.packet import Kind, pack, parse

INPUTS = int(os.environ.get("HOSTILE_INPUTS", "0"))
HASH = bytes(range(20))
BOTH = Methods.PLAIN | Methods.RC4
HEAD = b"\x13BitTorrent protocol" + bytes(8) + HASH + b"-XX0000-abcdefghijkl"
PEER = Endpoint("10.0.0.9", 999)


def mutated(data: bytes, rng: random.Random, *, spare: int = 0) -> bytes:
    """`data` with some of its bytes changed, cut out, doubled or added, from `spare` on."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(spare, max(spare + 1, len(out)))
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + rng.randrange(1, 40)]
        elif kind == 2:
            out[at:at] = out[at : at + rng.randrange(1, 40)]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randrange(1, 700))
        elif at < len(out):
            out[at : at + 4] = b"\xff\xff\xff\xff"
    return bytes(out)


class Slowest:
    """Keeps the slowest call, in seconds of processor time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, action: Callable[[], object]) -> None:
        begun = time.process_time()
        try:
            action()
        finally:
            self.seconds = max(self.seconds, time.process_time() - begun)


@pytest.mark.parametrize("role", ["dialler", "acceptor"])
def test_the_encrypted_handshake_survives_anything(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(role)
    slowest = Slowest()
    broken = 0
    for number in range(INPUTS // 2 or 400):
        seed = number % 50
        dialler = Dialler(HASH, BOTH, HEAD, random.Random(seed))
        acceptor = Acceptor([HASH, bytes(20)], BOTH, Methods.RC4, random.Random(-seed - 1))
        # What the honest other side would say from here on, and what becomes of it.
        first = dialler.outgoing()
        acceptor.receive(first)
        key = acceptor.outgoing()
        dialler.receive(key)
        second = dialler.outgoing()
        if role == "acceptor":
            side: Dialler | Acceptor = acceptor
            stream = mutated(second, rng) if number % 3 else rng.randbytes(rng.randrange(2000))
        else:
            acceptor.receive(second)
            side, answer = dialler, acceptor.outgoing()
            stream = mutated(answer, rng) if number % 3 else rng.randbytes(rng.randrange(2000))
        try:
            while stream and side.secured is None:
                size = rng.randint(1, len(stream))
                slowest(lambda part=stream[:size], side=side: side.receive(part))
                stream = stream[size:]
                assert len(side._inbox) <= 96 + 512 + 70_000
        except ProtocolError:
            broken += 1
    assert broken > (INPUTS // 2 or 400) // 10
    if INPUTS:
        with capsys.disabled():
            print(f"\nMSE {role}: {INPUTS // 2} streams, the slowest part took {slowest.seconds * 1e3:.2f} ms")
        assert slowest.seconds < 0.005


@pytest.mark.parametrize("key", ["random", "mutated", "short", "long"])
def test_public_keys_of_any_kind(key: str) -> None:
    rng = random.Random(key)
    for _ in range(INPUTS // 100 or 40):
        side = Acceptor([HASH], BOTH, Methods.RC4, rng)
        data = rng.randbytes({"short": 50, "long": 3000}.get(key, 96))
        try:
            side.receive(mutated(data, rng) if key == "mutated" else data)
            side.receive(rng.randbytes(700))
        except ProtocolError:
            continue
        assert side.secured is None


def test_utp_survives_anything(capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(4)
    mux = UtpMux(rng, 0.0)
    connection = mux.dial(PEER, 0.0)
    syn = parse(mux.outgoing(0.0)[0][0])
    answer = pack(Kind.STATE, syn.connection_id, 0, 0, 1 << 20, 7000, 1)
    mux.receive(answer, PEER, 0.0)
    assert connection.connected
    slowest = Slowest()
    accepted: list[UtpConnection] = []
    now = 0.0
    seq = 7000
    for number in range(INPUTS or 15_000):
        now += rng.random() / 100
        if connection.ended is not None:
            connection = mux.dial(PEER, now)
            mux.outgoing(now)
            mux.receive(pack(Kind.STATE, connection.receive_id, 0, 0, 1 << 20, seq, 1), PEER, now)
        kind = rng.choice(list(Kind)) if number % 50 == 0 else rng.choice((Kind.DATA, Kind.STATE, Kind.SYN, Kind.DATA))
        packet = pack(
            kind,
            connection.receive_id if kind is not Kind.SYN else rng.getrandbits(16),
            int(now * 1e6),
            rng.getrandbits(32),
            rng.choice((0, 1, 1400, 1 << 20, 0xFFFFFFFF)),
            (connection._inbound.ack + rng.randint(-3, 30)) & 0xFFFF,
            (connection._outbound.seq + rng.randint(-20, 3)) & 0xFFFF,
            rng.randbytes(rng.choice((0, 1, 100, 1400))),
            sack=rng.randbytes(rng.choice((0, 0, 4, 5, 128))),
        )
        if number % 2:
            packet = mutated(packet, rng)
        if number % 7 == 0:
            connection.write(bytes(rng.randrange(5000)))
            mux.touch(connection)

        def step(packet: bytes = packet, now: float = now) -> None:
            mux.receive(packet, PEER, now)
            mux.tick(now)
            mux.outgoing(now)

        slowest(step)
        accepted += mux.accepted()
        assert len(mux) <= MAX_CONNECTIONS + MAX_HALF_OPEN
        if number % 100 == 0:
            room = memoryview(bytearray(1 << 16))
            for one in (connection, *accepted):
                assert one.held_bytes <= 2 * RECEIVE_BUFFER_BYTES + 2 * SEND_BUFFER_BYTES
                one.read_into(room)
        for one in accepted:
            one.abort()
            mux.touch(one)
        accepted.clear()
    if INPUTS:
        with capsys.disabled():
            print(f"\nuTP: {INPUTS} packets, the slowest took {slowest.seconds * 1e3:.2f} ms")
        assert slowest.seconds < 0.005
