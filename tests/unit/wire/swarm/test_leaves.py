"""Hashes of single blocks in the brain of a torrent (BEP 52): handed out at a measure, and used to name a liar."""

from __future__ import annotations

import random

import pytest

from wire.bencode import encode
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.metainfo import Info
from wire.metainfo.merkle import BLOCK_BYTES, height_of, leaves_of, root_of, root_of_layer
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.peer.hashes import HashAsk
from wire.swarm import leaves
from wire.swarm.peer import Peer
from wire.swarm.rules import PeerDropped, Settings, Swarm

PER_PIECE = 4
PIECE = PER_PIECE * BLOCK_BYTES
SIZE = 2 * PIECE + 100
DATA = random.Random(1).randbytes(SIZE)
LEAVES = leaves_of(DATA)
PIECES = [LEAVES[at : at + PER_PIECE] for at in range(0, len(LEAVES), PER_PIECE)]
LAYER = b"".join(root_of(piece, 2) for piece in PIECES)
ROOT = root_of_layer(LAYER, PIECE)
OURS = b"-KB0100-usususususus"


def info_of(version: str) -> Info:
    items: dict[str, object] = {
        "name": b"f",
        "piece length": PIECE,
        "file tree": {"f": {"": {"length": SIZE, "pieces root": ROOT}}},
        "meta version": 2,
    }
    if version == "hybrid":
        items |= {"length": SIZE, "pieces": b"p" * 20 * len(PIECES)}
    info = Info.from_bytes(encode(items))  # type: ignore[arg-type]
    info.layers.add(ROOT, LAYER)
    return info


class Table:
    """A brain with some pieces, and peers, connected by the v2 name, that have all, or, where it has all, none."""

    def __init__(self, have: list[int], *, peers: int = 1, version: str = "2") -> None:
        self.info = info_of(version)
        self.swarm = Swarm(
            self.info.info_hash, peer_id=OURS, rng=random.Random(1), now=0.0, settings=Settings(), info=self.info
        )
        self.swarm.begin(Bitfield.of(len(PIECES), have), None, 0.0)
        self.all = len(have) == len(PIECES)
        self.peers = [self.joined(number) for number in range(peers)]
        for peer in self.peers:
            peer.connection.outgoing()

    def joined(self, number: int) -> Peer:
        connection = PeerConnection(peer_id=OURS, info_hash=None, extended=ExtendedHandshake(), now=0.0)
        v2 = self.info.info_hash.v2
        assert v2 is not None
        said = Handshake(v2[:20], b"-XX0100-%012d" % number, extended=False, fast=True, dht=False).encode()
        said += m.frame(m.HAVE_NONE if self.all else m.HAVE_ALL)
        connection.buffer()[: len(said)] = said
        endpoint = Endpoint(f"80.0.{number}.1", 6881)
        peer = self.swarm.accept(endpoint, connection, connection.received(len(said), 0.0), 0.0)
        assert peer is not None
        return peer

    def said(self, number: int = 0) -> list[tuple[int, bytes]]:
        """Messages about hashes that went to a peer since."""
        stream = b"".join(bytes(part) for part in self.peers[number].connection.outgoing())
        found = []
        while stream:
            length = int.from_bytes(stream[:4], "big")
            if length and stream[4] in (m.HASH_REQUEST, m.HASHES, m.HASH_REJECT):
                found.append((stream[4], stream[5 : 4 + length]))
            stream = stream[4 + length :]
        return found

    def hears(self, number: int, *events: m.Event, now: float = 1.0) -> None:
        self.swarm.receive(self.peers[number], events, now)

    @property
    def bans(self) -> list[PeerDropped]:
        return [event for event in self.swarm.events() if isinstance(event, PeerDropped) and event.banned]


def ask_for(piece: int, length: int = PER_PIECE, proof: int = 1) -> HashAsk:
    return HashAsk(ROOT, 0, piece * PER_PIECE, length, proof)


def test_leaves_are_given_once_the_piece_was_hashed() -> None:
    table = Table([0, 1, 2])
    table.hears(0, m.HashRequest(ask_for(1)), m.HashRequest(ask_for(1)))
    assert table.said() == []
    assert table.swarm.leaf_job(1.0) == 1
    assert table.swarm.leaf_job(1.0) is None, "one at a time"
    table.swarm.leaves_hashed(1, b"".join(PIECES[1]))
    answer = (m.HASHES, ask_for(1).encode() + b"".join(PIECES[1]))
    assert table.said() == [answer] * 2
    table.hears(0, m.HashRequest(ask_for(1)))
    assert table.said() == [answer], "kept for the next who asks"
    assert table.swarm.leaf_job(1.0) is None


@pytest.mark.parametrize(
    "ask",
    [
        ask_for(1),  # a piece that is not there
        ask_for(0, 8),  # the same, beside one that is
        ask_for(0)._replace(index=2),
        ask_for(0)._replace(root=b"?" * 32),
        ask_for(0)._replace(length=3),
        ask_for(0, 1024),
        ask_for(0, proof=9),
        ask_for(4),
    ],
)
def test_what_cannot_be_answered_is_refused_at_once(ask: HashAsk) -> None:
    table = Table([0])
    table.hears(0, m.HashRequest(ask))
    assert table.said() == [(m.HASH_REJECT, ask.encode())]
    assert table.swarm.leaf_job(1.0) is None
    assert not table.peers[0].gone


def test_a_piece_that_cannot_be_read_is_refused_and_not_tried_again() -> None:
    table = Table([0, 1, 2])
    table.hears(0, m.HashRequest(ask_for(1)))
    assert table.swarm.leaf_job(1.0) == 1
    table.swarm.leaves_hashed(1, None)
    table.hears(0, m.HashRequest(ask_for(1)))
    assert table.said() == [(m.HASH_REJECT, ask_for(1).encode())] * 2
    assert table.swarm.leaf_job(1.0) is None


def test_those_who_ask_take_turns_and_wait_for_a_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "HASHED_BYTES_S", PIECE)
    monkeypatch.setattr(leaves, "HASHED_BURST_BYTES", PIECE)
    table = Table([0, 1, 2], peers=2)
    greedy = [ask_for(piece) for piece in (0, 1)] * leaves.MAX_WAITING
    table.hears(0, *map(m.HashRequest, greedy))
    table.hears(1, m.HashRequest(ask_for(2)))
    refused = [kind for kind, _ in table.said()]
    assert refused == [m.HASH_REJECT] * (len(greedy) - leaves.MAX_WAITING)
    assert table.swarm.leaf_job(1.0) == 0
    table.swarm.leaves_hashed(0, b"".join(PIECES[0]))
    assert table.swarm.leaf_job(1.0) is None
    table.swarm.tick(1.0)
    assert 1.0 < table.swarm.next_timer(1.0) < 1.1
    assert table.swarm.leaf_job(1.5) == 2, "the other's turn"
    table.swarm.leaves_hashed(2, b"".join(PIECES[2]))
    assert [kind for kind, _ in table.said(1)] == [m.HASHES]
    table.swarm.lost(table.peers[0], "gone", 1.5)
    assert table.swarm.leaf_job(9.0) is None, "nobody asks any more"


def test_leaves_are_not_given_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "SPARE_HASHES", 4)
    table = Table([0, 1, 2])
    for _ in range(50):
        table.hears(0, m.HashRequest(ask_for(0)))
        if (index := table.swarm.leaf_job(1.0)) is not None:
            table.swarm.leaves_hashed(index, b"".join(PIECES[index]))
    kinds = [kind for kind, _ in table.said()]
    assert kinds.count(m.HASHES) == (leaves.MAX_ROUNDS * (SIZE // BLOCK_BYTES) + 4) // PER_PIECE
    assert kinds.count(m.HASH_REJECT) == 50 - kinds.count(m.HASHES)


@pytest.mark.parametrize("version", ["2", "hybrid"])
@pytest.mark.parametrize("wrong", [[1], [1, 3]])
def test_the_leaves_of_a_wrong_piece_name_the_liars(version: str, wrong: list[int]) -> None:
    """Two give halves of a piece, a third knows its leaves: who lied is known before the piece came again."""
    table = Table([1, 2], peers=3, version=version)
    for number in (0, 1):
        table.hears(number, m.Unchoked())
    first, second = table.peers[0].source, table.peers[1].source
    givers = [first, first, second, second]
    key = next(iter({*first.asked, *second.asked}))
    assert key >> 32 == 0
    for number, giver in enumerate(givers):
        for source in (first, second):
            source.asked.pop(number * BLOCK_BYTES, None)
        giver.asked[number * BLOCK_BYTES] = 1.0
        data = DATA[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
        data = bytes(BLOCK_BYTES) if number in wrong else data
        table.hears(givers.index(giver) // 2, m.Block(0, number * BLOCK_BYTES, memoryview(data)))
    (job,) = table.swarm.piece_jobs()
    table.swarm.piece_stored(job.index, False, 2.0)
    assert table.bans == []
    assert table.said(0) == table.said(1) == [], "a suspect is asked last"
    ((kind, body),) = table.said(2)
    assert (kind, HashAsk.parse(body)) == (m.HASH_REQUEST, ask_for(0))
    table.hears(2, m.Hashes(ask_for(0), tuple(PIECES[0])), now=2.1)
    liars = dict.fromkeys(givers[number] for number in wrong)
    expected = [f"sent wrong data in block {number} of piece 0" for number in wrong[: len(liars)]]
    assert [ban.reason for ban in table.bans] == expected
    assert [peer.gone for peer in table.peers] == [first in liars, second in liars, False]


def test_who_lies_about_leaves_is_banned_and_the_next_is_asked() -> None:
    table = Table([1, 2], peers=3)
    assert table.swarm._trees.leaves is not None
    table.swarm._trees.leaves.suspect(0, (), 1.0)
    assert [kind for kind, _ in table.said(0)] == [m.HASH_REQUEST]
    table.hears(0, m.Hashes(ask_for(0), (bytes(32), *PIECES[0][1:])))
    assert [ban.endpoint for ban in table.bans] == [table.peers[0].endpoint]
    assert [kind for kind, _ in table.said(1)] == [m.HASH_REQUEST]
    table.hears(1, m.HashReject(ask_for(0)))
    assert [kind for kind, _ in table.said(2)] == [m.HASH_REQUEST]
    table.hears(2, m.Hashes(ask_for(0), tuple(PIECES[0])))
    table.hears(2, m.Hashes(ask_for(0), tuple(PIECES[0])))
    assert table.peers[2].gone, "not asked for"


def test_padding_that_is_not_zeros_names_its_sender_too() -> None:
    """A hybrid's padding is in no tree: it is looked at here."""
    from wire.metainfo.judge import block_digests

    info = info_of("2")
    last = memoryview(DATA[2 * PIECE :] + bytes(2 * BLOCK_BYTES))
    right = block_digests(info, 2, last)
    assert right == [*PIECES[2], bytes(32), bytes(32)]
    for at in (150, BLOCK_BYTES + 5, len(last) - 1):
        wrong = bytearray(last)
        wrong[at] = 1
        found = block_digests(info, 2, memoryview(wrong))
        assert [number for number in range(3) if found[number] != right[number]] == [at // BLOCK_BYTES]
    assert height_of(len(right)) == 2
