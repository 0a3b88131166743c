"""One conversation for an info dictionary, against a peer made of the real connection: whole, in bits, and lied to."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from wire.errors import ProtocolError
from wire.ids import InfoHash
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.errand import MAX_ERRAND_BYTES, MetadataErrand
from wire.peer.extended import METADATA_DATA, METADATA_REJECT, UT_METADATA_ID, ExtendedHandshake, MetadataMessage
from wire.peer.handshake import Handshake
from wire.peer.mse import Acceptor, Methods
from wire.peer.veiled import VeiledErrand

OURS, THEIRS = b"-KB0100-" + bytes(12), b"-XX0001-" + bytes(12)
RAW = random.Random(3).randbytes(16384 * 3 + 77)
SMALL = RAW[:1000]


def hash_of(raw: bytes) -> InfoHash:
    return InfoHash(v1=hashlib.sha1(raw).digest())


class Seed:
    """A peer that has the metadata: our own accepting connection, answering as a swarm would."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.connection = PeerConnection(peer_id=THEIRS, info_hash=None, extended=ExtendedHandshake(), now=0.0)
        self.asked: list[int] = []
        self.rejected: list[int] = []

    def hear(self, data: bytes) -> bytes:
        buffer = self.connection.buffer()
        buffer[: len(data)] = data
        events = list(self.connection.received(len(data), 0.0))
        for event in events:
            if isinstance(event, m.HandshakeReceived):
                ours = ExtendedHandshake(ut_metadata=9, metadata_size=len(self.raw))
                events += self.connection.accept(event.info_hash, ours)
                self.connection.bitfield(None)
                self.connection.unchoke()
            elif isinstance(event, m.MetadataRequest):
                self.asked.append(event.piece)
                block = self.raw[event.piece * 16384 : (event.piece + 1) * 16384]
                self.connection.metadata_data(event.piece, len(self.raw), block)
            elif isinstance(event, m.MetadataReject):
                self.rejected.append(event.piece)
        return b"".join(self.connection.outgoing())


def converse(talk: MetadataErrand | VeiledErrand, hear: Callable[[bytes], bytes], step: int) -> None:
    """Both speak until the talk is done; what the peer says comes in bits of `step` bytes."""
    said = talk.opening()
    for _ in range(20):
        heard = hear(said)
        said = b""
        for at in range(0, len(heard), step):
            if not talk.done:
                said += talk.receive(heard[at : at + step])
        if talk.done:
            return
    raise AssertionError("it does not end")


@pytest.mark.parametrize("raw", [SMALL, RAW], ids=["one block", "four blocks"])
@pytest.mark.parametrize("step", [1 << 20, 1000, 7, 1])
def test_it_gets_the_info_dictionary_however_its_bytes_come(raw: bytes, step: int) -> None:
    errand, seed = MetadataErrand(hash_of(raw), OURS), Seed(raw)
    converse(errand, seed.hear, step)
    assert errand.raw == raw
    assert seed.asked == list(range(-(-len(raw) // 16384)))
    assert seed.connection.remote.ut_metadata == UT_METADATA_ID


def test_a_version_2_hash_is_asked_for_by_its_short_name() -> None:
    info_hash = InfoHash(v2=hashlib.sha256(SMALL).digest())
    errand = MetadataErrand(info_hash, OURS)
    converse(errand, Seed(SMALL).hear, 1 << 20)
    assert errand.raw == SMALL
    assert Handshake.parse(errand.opening()).info_hash == info_hash.swarm_ids[0]


@pytest.mark.parametrize("step", [1 << 20, 13])
@pytest.mark.parametrize("prefer", [Methods.PLAIN, Methods.RC4])
def test_behind_the_encrypted_handshake_it_is_the_same(prefer: Methods, step: int) -> None:
    info_hash = hash_of(RAW)
    machine = Acceptor([info_hash.swarm_ids[0]], Methods.RC4 | Methods.PLAIN, prefer, random.Random(1))
    seed = Seed(RAW)

    def hear(data: bytes) -> bytes:
        if machine.secured is None:
            secured = machine.receive(data)
            said = machine.outgoing()
            if secured is None:
                return said
            data = secured.received
        else:
            secured, said = machine.secured, b""
            if secured.inbound is not None:
                data = bytes(secured.inbound.apply(data))
        answer = seed.hear(data)
        if secured.outbound is not None:
            answer = bytes(secured.outbound.apply(answer))
        return said + answer

    errand = MetadataErrand(info_hash, OURS)
    talk = VeiledErrand(errand, info_hash.swarm_ids[0], Methods.RC4 | Methods.PLAIN, random.Random(2))
    converse(talk, hear, step)
    assert errand.raw == RAW


def shaken(raw: bytes = SMALL, *, fast: bool = True) -> tuple[MetadataErrand, bytes]:
    """An errand that has heard a handshake, and what it said to that."""
    errand = MetadataErrand(hash_of(raw), OURS)
    theirs = Handshake(hash_of(raw).swarm_ids[0], THEIRS, extended=True, fast=fast, dht=False)
    return errand, errand.receive(theirs.encode())


def offer(**said: int) -> bytes:
    return m.frame(m.EXTENDED, b"\0" + ExtendedHandshake(**{"ut_metadata": 9, **said}).encode())


def block(piece: int, data: bytes, size: int | None, kind: int = METADATA_DATA) -> bytes:
    header = MetadataMessage(kind, piece, size, b"").header()
    return m.frame(m.EXTENDED, bytes((UT_METADATA_ID,)) + header + data)


def test_it_says_have_none_to_those_who_understand_it() -> None:
    assert shaken()[1].endswith(m.frame(m.HAVE_NONE))
    assert m.frame(m.HAVE_NONE) not in shaken(fast=False)[1]


def test_what_else_the_peer_says_is_skipped_unread() -> None:
    errand, _ = shaken()
    noise = m.frame(m.BITFIELD, bytes(300_000 - 1)) + bytes(4) + m.frame(m.UNCHOKE) + m.frame(99, b"new")
    for at in range(0, len(noise), 65536):
        assert errand.receive(noise[at : at + 65536]) == b""
        assert len(errand._inbox) < 16
    pex = m.frame(m.EXTENDED, b"\2d5:added0:e")
    assert errand.receive(bytes(4) + pex + offer(metadata_size=1000))
    errand.receive(block(0, SMALL, 1000))
    assert errand.raw == SMALL


def test_who_asks_us_is_refused() -> None:
    errand, _ = shaken()
    errand.receive(offer(metadata_size=40_000))
    assert errand.receive(block(5, b"", None, kind=0)) == m.frame(
        m.EXTENDED, bytes((9,)) + MetadataMessage(METADATA_REJECT, 5, None, b"").header()
    )


def test_blocks_that_were_not_asked_for_or_came_already_change_nothing() -> None:
    errand, _ = shaken(RAW)
    errand.receive(block(0, RAW[:16384], len(RAW)))
    assert errand._got == 0
    errand.receive(offer(metadata_size=len(RAW)))
    errand.receive(block(3, RAW[3 * 16384 :], len(RAW)))
    errand.receive(block(0, RAW[:16384], len(RAW)) * 2)
    assert errand._got == 1


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\x13BitTorrent prot0col", "not a BitTorrent handshake"),
        (Handshake(bytes(20), THEIRS, True, True, False).encode(), "another info-hash"),
        (Handshake(hash_of(SMALL).swarm_ids[0], OURS, True, True, False).encode(), "our own id"),
        (Handshake(hash_of(SMALL).swarm_ids[0], THEIRS, False, True, False).encode(), "BEP 10"),
    ],
    ids=["no handshake", "another hash", "ourselves", "no extensions"],
)
def test_a_handshake_that_will_not_do_ends_it(said: bytes, why: str) -> None:
    errand = MetadataErrand(hash_of(SMALL), OURS)
    with pytest.raises(ProtocolError, match=why):
        errand.receive(said)
    assert not errand.shaken


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (offer(), "no metadata"),
        (offer(ut_metadata=0, metadata_size=1000), "no metadata"),
        (offer(metadata_size=MAX_ERRAND_BYTES + 1), "too many"),
        (offer(metadata_size=1000) + offer(metadata_size=1001), "two sizes"),
        (offer(metadata_size=1000) + block(0, SMALL, 1001), "then 1001"),
        (offer(metadata_size=1000) + block(0, SMALL[:-1], 1000), "999 bytes"),
        (offer(metadata_size=1000) + block(0, b"", None, kind=METADATA_REJECT), "refuses"),
        (m.frame(m.EXTENDED, b"\0no dictionary"), "bencode"),
        (m.frame(m.EXTENDED, bytes((UT_METADATA_ID,)) + b"i1e"), "dictionary"),
        ((m.MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"\4", "307201 bytes"),
        ((m.MAX_EXTENDED_BYTES + 1).to_bytes(4, "big") + bytes((m.EXTENDED,)), "65537 bytes"),
    ],
)
def test_what_breaks_the_rules_or_gives_nothing_ends_it(said: bytes, why: str) -> None:
    errand, _ = shaken()
    with pytest.raises(ProtocolError, match=why):
        errand.receive(said)
    assert errand.raw is None


def test_no_bytes_raise_anything_but_the_peers_fault() -> None:
    rng = random.Random(7)
    heard = offer(metadata_size=len(RAW)) + b"".join(
        block(piece, RAW[piece * 16384 : (piece + 1) * 16384], len(RAW)) for piece in range(4)
    )
    for _ in range(400):
        errand, _ = shaken(RAW)
        broken = bytearray(heard)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(200)] = rng.randrange(256)
        try:
            for at in range(0, len(broken), 5000):
                if not errand.done:
                    errand.receive(broken[at : at + 5000])
        except ProtocolError:
            continue
