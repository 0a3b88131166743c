"""What a strange peer of libtorrent's own tests (simulation/test_peer_connection.cpp, 21 cases) meets here.

libtorrent ends most of these connections by a time-out; where BEP 3, 6 or 52 makes it a breach, it ends at once here.
"""

from __future__ import annotations

import random
import struct

import pytest

from tests.unit.wire.peer.joined import feed, sent
from tests.unit.wire.swarm.test_rules import OURS, THEIRS, Table, push
from tests.unit.wire.swarm.test_trees import info_of
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import Handshake
from wire.swarm.rules import Settings, Swarm

ALL, NONE = m.frame(m.HAVE_ALL), m.frame(m.HAVE_NONE)
ONE, FULL = m.frame(m.BITFIELD, b"\x40"), m.frame(m.BITFIELD, b"\xf0")
CONTRADICTS = "after it said something else"
HASHES = bytes(32) + struct.pack(">4I", 0, 0, 2, 0)
THERE = Endpoint("80.0.0.1", 6881)

SAID = {
    "alternate_have_all_have_none": (False, ALL + NONE + ALL + NONE, CONTRADICTS),
    "alternate_have_all_have_none_seed": (True, ALL + NONE + ALL + NONE, CONTRADICTS),
    "bitfield_and_have_none": (False, ONE + NONE, CONTRADICTS),
    "bitfield_and_have_all": (False, ONE + ALL, CONTRADICTS),
    "full_bitfield_and_have_all": (False, FULL + ALL, CONTRADICTS),
    "full_bitfield_and_have_none": (False, FULL + NONE, CONTRADICTS),
    "large_message": (False, struct.pack(">IB", (1 << 20) + 1, m.PIECE) + bytes(1000), "a block of"),
    "have_all_invalid_msg": (False, ALL + m.frame(m.CHOKE, b"x"), "2 bytes"),
    "invalid_message": (False, m.frame(m.CHOKE, b"x"), "2 bytes"),
    "short_bitfield": (False, m.frame(m.BITFIELD, b""), "id 5 of 1 bytes"),
    "long_bitfield": (False, m.frame(m.BITFIELD, b"\xff\xf8"), "id 5 of 3 bytes"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_ends_the_connection_at_once(case: str) -> None:
    seeds, said, reason = SAID[case]
    table = Table(have=Bitfield.full(4) if seeds else None)
    guest = table.guest()
    guest.wire._send(said)
    guest.pump()
    assert guest.gone
    assert reason in table.drops()[-1].reason
    assert not table.guest("80.0.0.2", peer_id=b"-XX0100-another-one.").gone, "and others are none the worse"


def test_invalid_request() -> None:
    """For a piece that we have not: refused (BEP 6), as what we have lost a moment ago would be."""
    table = Table()
    guest = table.guest()
    guest.wire.interested()
    guest.wire._send(m.frame(m.REQUEST, struct.pack(">III", 1, 0, 16384)))
    guest.pump()
    assert not guest.gone
    assert m.Reject(1, 0, 16384) in guest.heard


def test_disconnect_unknown_info_hash() -> None:
    table = Table()
    theirs = PeerConnection(peer_id=OURS, info_hash=None, extended=ExtendedHandshake(), now=table.now)
    dials = PeerConnection(peer_id=THEIRS, info_hash=b"0" * 20, extended=ExtendedHandshake(), now=table.now)
    events = push(dials, theirs, table.now)
    assert table.swarm.accept(Endpoint("80.0.0.1", 50000), theirs, events, table.now) is None
    assert theirs.outgoing_bytes == 0, "and it is not told what there would be"


CLAIMS = {
    "v1_only_false_v2_claim_survives_metadata": ("1", True, None, False),
    "v1_only_false_v2_claim_rejects_hash_request": ("1", True, m.HASH_REQUEST, False),
    "v1_only_false_v2_claim_rejects_unsolicited_hashes": ("1", True, m.HASHES, True),
    "v1_only_false_v2_claim_rejects_hash_reject": ("1", True, m.HASH_REJECT, False),
    "v1_only_honest_claim_survives_metadata": ("1", False, None, False),
    "v1_only_honest_claim_rejects_hash_request": ("1", False, m.HASH_REQUEST, False),
    "hybrid_honest_v2_claim_survives_metadata": ("hybrid", True, None, False),
    "hybrid_honest_v2_claim_hash_request_not_rejected": ("hybrid", True, m.HASH_REQUEST, False),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_claim_of_version_2_before_the_metadata_is_known(case: str) -> None:
    """libtorrent fell over a null pointer here (its issue 8692). A request is refused, unasked hashes end it."""
    version, v2, kind, ends = CLAIMS[case]
    info = info_of(version)
    swarm = Swarm(info.info_hash, peer_id=OURS, rng=random.Random(1), now=0.0, settings=Settings(), info=None)
    connection = PeerConnection(peer_id=OURS, info_hash=None, extended=swarm.handshake(THERE), now=0.0)
    name = info.info_hash.swarm_ids[0]
    events = feed(connection, Handshake(name, THEIRS, extended=True, fast=True, dht=False, v2=v2).encode())
    peer = swarm.accept(THERE, connection, events, 0.0)
    assert peer is not None
    size = b"%d" % len(info.raw)
    offer = m.frame(m.EXTENDED, b"\0d1:md11:ut_metadatai2ee13:metadata_sizei%see" % size)
    answer = m.frame(m.EXTENDED, b"\1d8:msg_typei1e5:piecei0e10:total_sizei%see" % size + info.raw)
    follows = b"" if kind is None else m.frame(kind, HASHES + bytes(64) * (kind == m.HASHES))
    for said in (offer, answer, follows):
        swarm.receive(peer, feed(connection, said), 0.0)
    assert swarm.info == info
    assert peer.gone == ends
    assert (m.frame(m.HASH_REJECT, HASHES) in sent(connection)) == (kind == m.HASH_REQUEST)
