"""Whom of many a seed makes wait, and what ends that: told to a whole brain."""

from __future__ import annotations

from tests.reading import shipped
from tests.unit.wire.swarm.test_by_the_letter import peer_number
from tests.unit.wire.swarm.test_rules import Table, finish_jobs
from wire.bitfield import Bitfield
from wire.peer import messages as m
from wire.peer.messages import BLOCK_BYTES as B
from wire.swarm.giving import MAX_QUEUE
from wire.swarm.peer import Peer
from wire.swarm.thrift import CROWD, PATIENCE_S

ASKED = [(2, 0, B), (2, B, B)]


def crowd(table: Table) -> list[Peer]:
    """Peers that are interested and unchoked; what they say from here on is said by `say`."""
    peers = []
    for number in range(CROWD):
        guest = peer_number(table, number)
        guest.wire.interested()
        guest.pump()
        assert guest.peer is not None
        assert not guest.peer.connection.am_choking
        peers.append(guest.peer)
    table.guests.clear()  # nothing is taken from their queues unless it is told to
    return peers


def ask(table: Table, *peers: Peer) -> None:
    for peer in peers:
        table.swarm.receive(peer, [m.Request(*block) for block in ASKED], table.now)


def a_crowd_that_wants_one_piece() -> tuple[Table, Peer, Peer]:
    table = Table(have=Bitfield.full(4))
    one, other, *_ = crowd(table)
    ask(table, one, other)
    assert list(one.queue) == ASKED
    assert list(other.waiting) == ASKED
    table.pass_time(0.5)
    assert not other.queue
    return table, one, other


def test_the_piece_of_one_who_takes_it_back_is_for_the_next() -> None:
    table, one, other = a_crowd_that_wants_one_piece()
    table.swarm.receive(one, [m.Cancel(*ASKED[0])], table.now)
    table.pass_time(1.0)
    assert not other.queue
    table.swarm.receive(one, [m.Cancel(*ASKED[1])], table.now)
    table.pass_time(1.0)
    assert list(other.queue) == ASKED


def test_the_piece_of_one_who_is_choked_is_for_the_next() -> None:
    table, one, other = a_crowd_that_wants_one_piece()
    table.swarm.receive(one, [m.NotInterested()], table.now)
    table.pass_time(1.0)
    assert list(other.queue) == ASKED


def test_the_piece_of_one_who_is_gone_is_for_the_next() -> None:
    table, one, other = a_crowd_that_wants_one_piece()
    table.swarm.lost(one, "went", table.now)
    table.pass_time(1.0)
    assert list(other.queue) == ASKED


def test_who_was_given_a_piece_late_has_time_to_pass_it_on_from_then() -> None:
    table, one, other = a_crowd_that_wants_one_piece()
    other.fed_at = table.now + 60.0  # by others
    table.pass_time(PATIENCE_S + 2.0)
    assert not other.queue
    batch = table.swarm.uploads(one, 1 << 20)
    table.swarm.uploaded(one, batch, shipped(batch, [bytes(B)] * len(batch)))
    table.pass_time(PATIENCE_S - 2.0)
    assert not other.queue
    table.pass_time(4.0)
    assert list(other.queue) == ASKED


def test_nobody_waits_for_a_seed_that_lost_a_piece() -> None:
    table, _, other = a_crowd_that_wants_one_piece()
    table.swarm.piece_lost(0, table.now)
    assert list(other.queue) == ASKED
    table.pass_time(1.0)
    assert list(other.queue) == ASKED, "nor is it put off again"


def test_nobody_waits_for_who_has_a_part_or_got_it_from_the_swarm() -> None:
    table = Table(have=Bitfield.of(4, [0, 2]))
    peers = crowd(table)
    ask(table, *peers)
    assert all(list(peer.queue) == ASKED for peer in peers)
    table = Table()
    seed = table.guest(dialled=True)
    seed.offer()
    while table.swarm.stats().wanted_left_bytes:
        seed.serve()
        assert finish_jobs(table)
        seed.pump()
    peers = crowd(table)
    ask(table, *peers)
    assert all(list(peer.queue) == ASKED for peer in peers)


def asker(**settings: object) -> tuple[Table, Peer]:
    """A seed, and a peer that wants its pieces; what that one is sent is not taken from it."""
    table = Table(have=Bitfield.full(4), **settings)  # type: ignore[arg-type]
    guest = table.guest()
    guest.wire.interested()
    guest.pump()
    table.guests.clear()
    assert guest.peer is not None
    guest.peer.connection.outgoing()
    return table, guest.peer


def test_requests_that_come_at_once_are_judged_each() -> None:
    table, peer = asker()
    good = [m.Request(2, B, B), m.Request(0, 0, B), m.Request(0, B, B), m.Request(2, 0, 5)]
    table.swarm.receive(peer, good, table.now)
    assert list(peer.queue) == good
    table.swarm.receive(peer, [m.Request(1, 0, B), m.Cancel(1, 0, B), m.Request(1, B, B)], table.now)
    assert list(peer.queue) == [*good, (1, B, B)], "in the order in which they came"
    table.swarm.receive(peer, [m.Request(1, 0, B), m.Request(1, B, B + 1), m.Request(0, 0, B)], table.now)
    assert peer.gone
    assert "asks for bytes" in table.drops()[0].reason


def test_of_more_requests_than_may_wait_the_rest_is_rejected() -> None:
    table, peer = asker()
    asked = [m.Request(number % 2, number // 2, 1) for number in range(MAX_QUEUE + 3)]
    table.swarm.receive(peer, asked[: MAX_QUEUE - 4], table.now)
    peer.connection.outgoing()
    table.swarm.receive(peer, asked[MAX_QUEUE - 4 :], table.now)
    assert list(peer.queue) == asked[:MAX_QUEUE]
    assert b"".join(peer.connection.outgoing()) == m.blocks_frames(m.REJECT, asked[MAX_QUEUE:])


def test_one_request_too_many_is_rejected_from_the_middle_of_a_piece_on() -> None:
    table, peer = asker()
    asked = [m.Request(1, begin, 1) for begin in range(MAX_QUEUE + 3)]
    table.swarm.receive(peer, asked, table.now)
    assert list(peer.queue) == asked[:MAX_QUEUE]
    assert peer.refused == 3


def test_requests_of_a_choked_peer_are_refused_but_for_what_it_is_granted() -> None:
    table, peer = asker(upload_slots=0)
    assert peer.connection.am_choking
    peer.granted, peer.grant = frozenset({1}), B
    asked = [m.Request(1, 0, B), m.Request(1, B, B), m.Request(2, 0, B)]
    table.swarm.receive(peer, asked, table.now)
    assert list(peer.queue) == asked[:1]
    assert b"".join(peer.connection.outgoing()) == m.blocks_frames(m.REJECT, asked[1:])
