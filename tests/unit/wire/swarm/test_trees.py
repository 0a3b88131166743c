"""Version 2 in the brain of a torrent (BEP 52): by what name it is asked for, and who may say what about trees."""

from __future__ import annotations

import hashlib
import random

import pytest

from wire.bencode import encode
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.ids import ID_BYTES, InfoHash
from wire.metainfo import Info
from wire.metainfo.merkle import BLOCK_BYTES, root_of_layer
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.peer.hashes import HashAsk
from wire.swarm import trees
from wire.swarm.peer import Peer
from wire.swarm.rules import PeerDropped, Settings, Swarm
from wire.swarm.values import LayerComplete

PIECES = 5
LAYER = b"".join(hashlib.sha256(b"%d" % at).digest() for at in range(PIECES))
ROOT = root_of_layer(LAYER, BLOCK_BYTES)
OURS, THEIRS = b"-KB0100-usususususus", b"-XX0100-themthemthem"
THERE = Endpoint("80.0.0.1", 6881)


def info_of(version: str, *, layers: bool = False) -> Info:
    size = PIECES * BLOCK_BYTES
    items: dict[str, object] = {"name": b"f", "piece length": BLOCK_BYTES}
    if version != "1":
        items |= {"file tree": {"f": {"": {"length": size, "pieces root": ROOT}}}, "meta version": 2}
    if version != "2":
        items |= {"length": size, "pieces": b"p" * 20 * PIECES}
    info = Info.from_bytes(encode(items))  # type: ignore[arg-type]
    if layers:
        info.layers.add(ROOT, LAYER)
    return info


def swarm_of(info: Info, *, knows: bool = True, info_hash: InfoHash | None = None) -> Swarm:
    return Swarm(
        info_hash or info.info_hash,
        peer_id=OURS,
        rng=random.Random(1),
        now=0.0,
        settings=Settings(),
        info=info if knows else None,
    )


def accepted(swarm: Swarm, named: bytes, *, v2: bool = False) -> tuple[Peer | None, bytes]:
    """What becomes of a connection that came in with this handshake, and what is said to it."""
    connection = PeerConnection(peer_id=OURS, info_hash=None, extended=ExtendedHandshake(), now=0.0)
    said = Handshake(named, THEIRS, extended=False, fast=True, dht=False, v2=v2).encode()
    connection.buffer()[: len(said)] = said
    peer = swarm.accept(THERE, connection, connection.received(len(said), 0.0), 0.0)
    return peer, b"".join(bytes(part) for part in connection.outgoing())


def test_a_v1_name_with_the_upgrade_bit_is_answered_with_the_v2_name() -> None:
    info = info_of("hybrid")
    v1, v2 = info.info_hash.swarm_ids
    for named, bit, answer in ((v1, True, v2), (v1, False, v1), (v2, False, v2), (v2, True, v2)):
        peer, said = accepted(swarm_of(info), named, v2=bit)
        assert peer is not None
        assert Handshake.parse(said[:68]).info_hash == answer


@pytest.mark.parametrize("knows", [True, False])
def test_the_upgrade_bit_on_a_torrent_of_version_1_changes_nothing(knows: bool) -> None:
    """What made libtorrent fall over a null pointer (its issue 8692): also for a link that has no metadata yet."""
    info = info_of("1")
    swarm = swarm_of(info, knows=knows)
    peer, said = accepted(swarm, info.info_hash.swarm_ids[0], v2=True)
    assert peer is not None
    answer = Handshake.parse(said[:68])
    assert (answer.info_hash, answer.v2) == (info.info_hash.v1, False)
    swarm.receive(peer, [m.HashRequest(HashAsk(ROOT, 0, 0, 2, 2))], 0.0)
    assert not peer.gone
    assert bytes(peer.connection.outgoing()[0])[4] == m.HASH_REJECT
    if not knows:
        swarm.provide(info, "peer", 0.0)
        assert not peer.gone


def test_by_what_name_a_peer_is_asked() -> None:
    info = info_of("hybrid")
    v1, v2 = info.info_hash.swarm_ids
    swarm = swarm_of(info)
    others = [Endpoint(f"80.0.0.{host}", 6881) for host in (2, 3, 4)]
    for endpoint, name in zip(others, (None, v1, v2), strict=True):
        swarm.found(endpoint, "dht", 0.0, name)
    said = {}
    while (endpoint := swarm.next_dial(0.0)) is not None:
        said[endpoint] = Handshake.parse(swarm.opening(endpoint))
    assert [(said[endpoint].info_hash, said[endpoint].v2) for endpoint in others] == [
        (v1, True),
        (v1, True),
        (v2, False),
    ]


def test_who_hangs_up_on_one_name_is_asked_by_the_other() -> None:
    info = info_of("hybrid")
    v1, v2 = info.info_hash.swarm_ids
    swarm = swarm_of(info)
    swarm.found(THERE, "peer", 0.0)
    names = []
    now = 0.0
    for _ in range(3):
        assert swarm.next_dial(now) == THERE
        names.append(Handshake.parse(swarm.opening(THERE)).info_hash)
        swarm.dial_failed(THERE, now, timed_out=False, no_handshake=True)
        now += 10.0
    assert names == [v1, v2, v1]


def test_a_name_that_was_said_holds_though_more_is_learnt_meanwhile() -> None:
    """The dial was under way by a link's v2 hash when the metadata showed a hybrid."""
    info = info_of("hybrid")
    swarm = swarm_of(info, knows=False, info_hash=InfoHash(v2=info.info_hash.v2))
    swarm.found(THERE, "dht", 0.0)
    assert swarm.next_dial(0.0) == THERE
    swarm.provide(info, "peer", 0.0)
    peer = swarm.dial_opened(THERE, 0.0, greeted=True)
    assert peer is not None
    assert peer.connection.info_hash == info.info_hash.swarm_ids[1]


class Table:
    """A brain without layers, and one peer that is connected by the v2 name."""

    def __init__(self, info: Info) -> None:
        self.info = info
        self.swarm = swarm_of(info)
        self.swarm.begin(Bitfield(info.piece_count), None, 0.0)
        assert info.info_hash.v2 is not None
        peer, _ = accepted(self.swarm, info.info_hash.v2[:ID_BYTES])
        assert peer is not None
        self.peer = peer

    def says(self, *events: m.Event) -> None:
        self.swarm.receive(self.peer, events, 1.0)

    @property
    def drops(self) -> list[PeerDropped]:
        return [event for event in self.swarm.events() if isinstance(event, PeerDropped)]


ASK = HashAsk(ROOT, 0, 0, 8, 2)
WHOLE = tuple(LAYER[at : at + 32] for at in range(0, len(LAYER), 32)) + (bytes(32),) * 3


def test_a_layer_is_asked_for_and_taken() -> None:
    table = Table(info_of("2"))
    table.says(m.Hashes(ASK, WHOLE))
    assert any(isinstance(event, LayerComplete) for event in table.swarm.events())
    assert table.info.layers.complete
    assert not table.peer.gone


@pytest.mark.parametrize(
    ("message", "banned"),
    [
        (m.Hashes(ASK, (bytes(32), *WHOLE[1:])), True),
        (m.Hashes(ASK, WHOLE[:-1]), True),
        (m.Hashes(ASK._replace(index=8), WHOLE), False),
        (m.Hashes(ASK._replace(root=b"?" * 32), WHOLE), False),
    ],
)
def test_a_lie_is_banned_and_what_nobody_asked_for_is_a_breach(message: m.Hashes, banned: bool) -> None:
    table = Table(info_of("2"))
    table.says(message)
    assert table.peer.gone
    assert [drop.banned for drop in table.drops] == [banned]
    assert not len(table.info.layers)


def test_hashes_are_not_given_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "SPARE_HASHES", 10)
    table = Table(info_of("2", layers=True))
    table.peer.connection.outgoing()
    for _ in range(100):
        table.says(m.HashRequest(ASK))
    said = b"".join(bytes(part) for part in table.peer.connection.outgoing())
    kinds = []
    while said:
        length = int.from_bytes(said[:4], "big")
        kinds.append(said[4])
        said = said[4 + length :]
    assert kinds.count(m.HASHES) == 4
    assert kinds.count(m.HASH_REJECT) == 96
