"""Bytes that nobody sane sends, into handshakes, messages, extension messages, MSE and uTP.

Only the error of the peer's fault may come, with bounded memory.

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
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.peer.holepunch import HolepunchKind, HolepunchMessage
from wire.peer.mse import Acceptor, Dialler, Methods
from wire.peer.pex import PexMessage, PexPeer
from wire.peer.receive_buffer import LARGE_BYTES
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
    answer = pack(Kind.STATE, syn.connection_id, 0, 0, 1 << 20, 7000, syn.seq)
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
            syn = parse(mux.outgoing(now)[-1][0])
            mux.receive(pack(Kind.STATE, syn.connection_id, 0, 0, 1 << 20, seq, syn.seq), PEER, now)
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


def spoken() -> list[bytes]:
    """What an honest peer says after its handshake, message by message."""
    extended = ExtendedHandshake(
        ut_metadata=2, ut_pex=3, lt_donthave=7, ut_holepunch=9, metadata_size=40_000, reqq=500, v="fuzz 1", p=6881,
        yourip="192.0.2.9", ipv6="2001:db8::9",
    ).encode()  # fmt: skip
    pex = PexMessage((PexPeer(PEER, 8), PexPeer(Endpoint("2001:db8::1", 6881), 0)), (Endpoint("10.0.0.8", 9),)).encode()
    punch = HolepunchMessage(HolepunchKind.CONNECT, PEER).encode()
    say = m.frame
    return [
        say(m.BITFIELD, b"\xf0\0"),
        say(m.EXTENDED, b"\0" + extended),
        say(m.EXTENDED, b"\1d8:msg_typei1e5:piecei0e10:total_sizei40000ee" + bytes(16384)),
        say(m.EXTENDED, b"\1d8:msg_typei0e5:piecei2ee"),
        say(m.EXTENDED, b"\2" + pex),
        say(m.EXTENDED, b"\3\0\0\0\1"),
        say(m.EXTENDED, b"\4" + punch),
        say(m.UNCHOKE) + say(m.INTERESTED) + say(m.CHOKE) + say(m.NOT_INTERESTED) + bytes(4),
        m.index_frame(m.HAVE, 3) + m.index_frame(m.SUGGEST, 4) + m.index_frame(m.ALLOWED_FAST, 5),
        m.blocks_frames(m.REQUEST, [(0, 0, 16384), (1, 0, 5)]) + m.blocks_frames(m.CANCEL, [(0, 0, 16384)]),
        m.blocks_frames(m.REJECT, [(2, 0, 16384)]) + say(m.PORT, b"\x1a\xe1"),
        m.piece_header(1, 0, 16384) + bytes(16384),
    ]


SAID = spoken()
EXTENDED_ONLY = SAID[1:7]
GREETING = Handshake(HASH, b"-XX0000-abcdefghijkl", extended=True, fast=True, dht=True).encode()


@pytest.mark.parametrize("kind", ["handshake", "messages", "extension messages"])
def test_a_peer_connection_survives_anything(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(kind)
    slowest = Slowest()
    broken = 0
    longest = 0
    count = INPUTS or 1500
    ours = ExtendedHandshake(ut_metadata=1, ut_pex=2, lt_donthave=3, ut_holepunch=4)
    for number in range(count):
        dialled = number % 2 == 0
        connection = PeerConnection(
            peer_id=b"-KB0100-ourselves...", info_hash=HASH if dialled else None, extended=ours, now=0.0,
            piece_count=rng.choice((None, 12, 12)),
        )  # fmt: skip
        if kind == "handshake":
            stream = mutated(GREETING, rng) if number % 3 else rng.randbytes(rng.randrange(2000))
        else:
            parts = EXTENDED_ONLY if kind == "extension messages" else SAID
            said = b"".join(rng.choices(parts, k=rng.randrange(1, 5)))
            if kind == "extension messages" and number % 3 == 0:
                size = rng.randrange(1, 300)
                said = m.frame(m.EXTENDED, bytes((rng.randrange(6),)) + rng.randbytes(size))
            stream = GREETING + (mutated(said, rng) if number % 3 else said if number % 6 else rng.randbytes(2000))
        try:
            while stream:
                size = rng.randint(1, len(stream)) if number % 2 else len(stream)
                space = connection.buffer()
                size = min(size, len(space))
                space[:size] = stream[:size]
                stream = stream[size:]

                def step(connection: PeerConnection = connection, size: int = size) -> None:
                    came = connection.received(size, 0.0)
                    if came and isinstance(came[0], m.HandshakeReceived) and not connection.open:
                        connection.accept(connection.info_hash or b"")

                slowest(step)
                assert len(connection._buffer.data) <= 2 * LARGE_BYTES
                connection.outgoing()
        except ProtocolError as error:
            longest = max(longest, len(str(error)))
            broken += 1
    assert longest < 300
    assert broken > count // 10
    if INPUTS:
        with capsys.disabled():
            print(f"\n{kind}: {count} streams, the slowest read took {slowest.seconds * 1e3:.2f} ms")
        assert slowest.seconds < 0.005


@pytest.mark.parametrize("seed", range(3))
def test_messages_are_the_same_at_all_split_points(seed: int) -> None:
    """A stream cut once, at each of its bytes: the events are those of the whole (hardening A6)."""
    rng = random.Random(seed)
    said = b"".join(part for part in rng.sample(SAID[1:], len(SAID) - 1) if len(part) < 5000)
    stream = GREETING + said

    def heard(cut: int) -> list[m.Event]:
        connection = PeerConnection(
            peer_id=b"-KB0100-ourselves...", info_hash=HASH, extended=ExtendedHandshake(1, 2, 3, 4), now=0.0,
            piece_count=12,
        )  # fmt: skip
        events: list[m.Event] = []
        for part in (stream[:cut], stream[cut:]):
            at = 0
            while at < len(part):
                space = connection.buffer()
                size = min(len(space), len(part) - at)
                space[:size] = part[at : at + size]
                at += size
                events += connection.received(size, 0.0)
        return events

    whole = heard(0)
    assert len(whole) > 10
    for cut in range(1, len(stream)):
        assert heard(cut) == whole, cut
