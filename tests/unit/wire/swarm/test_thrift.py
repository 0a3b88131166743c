"""What a seed puts off in a crowd, and when it does not."""

from __future__ import annotations

import random

from wire.compact import Endpoint
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.swarm.peer import Peer
from wire.swarm.picker import Picker
from wire.swarm.thrift import CHOKED_S, CROWD, PATIENCE_S, SHARE, START_S, Thrift

PIECE = 1 << 18


def make() -> tuple[Thrift, Picker, list[Peer]]:
    picker = Picker(100, random.Random(1))
    peers = []
    for number in range(3):
        endpoint = Endpoint(f"80.0.{number}.1", 6881)
        connection = PeerConnection(
            peer_id=bytes(20), info_hash=bytes(20), extended=ExtendedHandshake(), now=0.0, piece_count=100
        )
        connection.am_choking = False
        peers.append(Peer(number, endpoint, connection, 0.0, dialled=True))
    return Thrift(picker, PIECE), picker, peers


def test_a_piece_is_for_the_first_who_asks_until_it_is_gone_and_then_for_those_who_have_it_to_give() -> None:
    thrift, picker, (one, other, _) = make()
    assert thrift.is_first(one, 5)
    assert thrift.is_first(one, 5)
    assert not thrift.is_first(other, 5)
    thrift.let_go(one)
    assert thrift.is_first(other, 5)
    picker.joined(picker.bit(5))
    thrift.appeared(5, 1.0)
    assert not thrift.is_first(other, 5)
    assert not thrift.is_first(one, 5)


def test_a_piece_of_which_a_choked_peer_got_a_part_is_for_the_next() -> None:
    thrift, _, (one, other, third) = make()
    thrift.count(10, 0.0)
    assert thrift.is_first(one, 5)
    one.connection.am_choking = True
    one.queue[(5, 0, 16384)] = None
    for second in range(1, 4):
        thrift.tick(0.0, float(second))
        assert not thrift.is_first(other, 5), "what it was granted is on its way"
    one.queue.clear()
    assert not thrift.is_first(other, 5)
    assert thrift.is_first(one, 5), "it asks for the rest"
    thrift.tick(0.0, 3.0 + CHOKED_S)
    assert not thrift.is_first(other, 5)
    thrift.tick(0.0, 3.0 + 2.0 * CHOKED_S)
    assert thrift.is_first(other, 5)
    assert not thrift.is_first(third, 5)
    thrift.tick(0.0, 60.0)
    assert not thrift.is_first(third, 5), "that one is served, and has time"


def test_a_crowd_waits_from_its_first_moment_and_few_never_do() -> None:
    thrift, *_ = make()
    assert not thrift.count(CROWD - 1, 0.0)
    assert not thrift.active
    assert thrift.tick(1e6, 1.0) == float("inf")
    assert thrift.count(CROWD, 2.0)
    assert thrift.active
    assert not thrift.count(CROWD + 1, 2.5), "it is told once"
    assert thrift.tick(1e6, 3.0) == 0.0
    thrift.count(CROWD - 1, 4.0)
    assert not thrift.active


def gained(thrift: Thrift, pieces_s: int, gives: float) -> float:
    thrift.count(10, 0.0)
    allowed = 0.0
    for second in range(1, int(START_S) + 30):
        for _ in range(pieces_s):
            thrift.appeared(7, float(second), passed_on=True)
        allowed = thrift.tick(gives, float(second))
    return allowed


def test_a_swarm_that_feeds_itself_gets_half_of_what_a_member_gives() -> None:
    thrift, *_ = make()
    allowed = gained(thrift, 40, 1e6)
    assert thrift.active
    assert abs(allowed - SHARE * (40 * PIECE - 1e6) / 10) < 0.02 * allowed


def test_who_do_not_feed_each_other_do_not_wait() -> None:
    thrift, *_ = make()
    assert gained(thrift, 4, 4.0 * PIECE) == float("inf")
    assert not thrift.active


def test_a_piece_that_its_first_taker_keeps_to_itself_is_for_the_next() -> None:
    thrift, picker, (mean, other, third) = make()
    thrift.count(10, 0.0)
    assert thrift.is_first(mean, 5)
    picker.joined(picker.bit(5))
    thrift.appeared(5, 0.5)
    thrift.tick(0.0, PATIENCE_S - 1.0)
    assert not thrift.is_first(other, 5)
    thrift.tick(0.0, PATIENCE_S)
    assert thrift.is_first(other, 5)
    assert not thrift.is_first(third, 5)
    picker.joined(picker.bit(5))
    thrift.appeared(5, PATIENCE_S, passed_on=True)  # now it has spread
    thrift.tick(0.0, 10 * PATIENCE_S)
    assert not thrift.is_first(third, 5)


def test_an_idle_seed_whose_pieces_turn_up_nowhere_else_lets_nobody_wait() -> None:
    thrift, *_ = make()
    thrift.count(10, 0.0)
    assert not thrift.look(True, 0.1), "nobody has had the time to get anything"
    thrift.appeared(5, 0.2)
    assert not thrift.look(True, 0.3)
    assert not thrift.look(False, 0.85), "there was something to give"
    assert not thrift.look(True, 0.9)
    assert not thrift.look(True, 0.9 + 2.9 * 0.2)
    assert thrift.active
    assert thrift.look(True, 0.9 + 3.1 * 0.2)
    assert not thrift.active
    assert thrift.tick(1e6, 2.0) == float("inf")


def test_a_piece_that_was_passed_on_ends_the_doubt() -> None:
    thrift, *_ = make()
    thrift.count(10, 0.0)
    thrift.appeared(5, 0.1)
    assert thrift.doubtful
    thrift.appeared(5, 0.2, passed_on=True)
    assert not thrift.doubtful
    assert not any(thrift.look(True, 0.3 + 0.1 * step) for step in range(30))
    assert thrift.tick(1e6, 2.0) == 0.0
