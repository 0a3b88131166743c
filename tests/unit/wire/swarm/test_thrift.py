"""What a seed puts off in a crowd, and when it does not."""

from __future__ import annotations

import random

from wire.compact import Endpoint
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.swarm.peer import Peer
from wire.swarm.picker import Picker
from wire.swarm.thrift import (
    CHOKED_S,
    CROWD,
    CROWD_ENDS,
    FREELY,
    GRACE_FIRSTS,
    HASTE_S,
    HASTE_TIMES,
    MAX_KEEPERS,
    MIN_FIRSTS,
    PATIENCE_S,
    PATIENCE_TIMES,
    SHARE,
    UNHEARD_S,
    Thrift,
)

PIECE = 1 << 18
PIECES = 100


def make_peers(count: int) -> list[Peer]:
    peers = []
    for number in range(count):
        endpoint = Endpoint(f"80.0.{number}.1", 6881)
        connection = PeerConnection(
            peer_id=bytes(20), info_hash=bytes(20), extended=ExtendedHandshake(), now=0.0, piece_count=PIECES
        )
        connection.am_choking = False
        peer = Peer(number, endpoint, connection, 0.0, dialled=True)
        peer.spread = 1.0
        peers.append(peer)
    return peers


class Desk:
    """A thrift in a crowd, and what the peers say they have got."""

    def __init__(self, leechers: int = 10) -> None:
        self.picker = Picker(PIECES, random.Random(1))
        self.thrift = Thrift(self.picker, PIECE)
        self.peers = make_peers(6)
        if leechers:
            assert self.thrift.count(leechers, 0, 0.0) == (leechers >= CROWD)

    def got(self, peer: Peer, index: int, at: float, *, passed_on: bool = False) -> None:
        peer.source.has = self.picker.gained(peer.source.has, index)
        self.thrift.appeared(peer, index, at, passed_on=passed_on)


def test_a_piece_is_for_the_first_who_asks_until_it_is_gone_and_then_for_those_who_have_it_to_give() -> None:
    desk = Desk()
    thrift, (one, other, *_) = desk.thrift, desk.peers
    assert thrift.is_first(one, 5)
    assert thrift.is_first(one, 5)
    assert not thrift.is_first(other, 5)
    thrift.let_go(one)
    assert thrift.is_first(other, 5)
    desk.got(other, 5, 1.0)
    assert not thrift.is_first(other, 5)
    assert not thrift.is_first(one, 5)
    thrift.left(other)
    desk.picker.left_with(other.source.has)
    assert thrift.is_first(one, 5), "what only that one had is gone with it"


def test_nobody_is_the_first_for_more_than_its_part_until_it_has_passed_that_on() -> None:
    desk = Desk()
    thrift, (one, other, *_) = desk.thrift, desk.peers
    part = PIECES // 10
    firsts = [index for index in range(PIECES) if thrift.is_first(one, index)]
    assert firsts == list(range(part))
    for index in firsts:
        desk.got(one, index, 1.0)
    assert not thrift.is_first(one, 50), "it has them all, and nobody has them of it"
    assert thrift.is_first(other, 50)
    assert sum(thrift.is_first(one, index, freely=True) for index in range(60, 90)) == part * (FREELY - 1)
    for index in (*firsts[:2], *range(60, 60 + part)):
        desk.got(other, index, 2.0, passed_on=True)
    assert sum(thrift.is_first(one, index) for index in range(90, PIECES)) == 2


def test_who_passed_nothing_on_yet_is_the_first_for_little() -> None:
    desk = Desk()
    newcomer = desk.peers[0]
    newcomer.spread = 0.0
    assert sum(desk.thrift.is_first(newcomer, index) for index in range(PIECES)) == MIN_FIRSTS


def test_who_kept_a_piece_to_itself_is_the_first_for_no_more_for_a_while() -> None:
    desk = Desk()
    thrift, (mean, other, *_) = desk.thrift, desk.peers
    assert thrift.is_first(mean, 5)
    desk.got(mean, 5, 0.0)
    thrift.tick(0, PATIENCE_S)
    assert thrift.is_first(other, 5)
    desk.got(other, 5, PATIENCE_S + 1.0)  # from us
    assert not thrift.is_first(mean, 6, freely=True)
    thrift.tick(0, 3 * PATIENCE_S)
    assert thrift.is_first(mean, 7), "it is forgotten in time"


def test_where_few_pieces_are_left_that_nobody_has_each_may_be_the_first_for_some_all_the_same() -> None:
    desk = Desk(leechers=200)
    assert sum(desk.thrift.is_first(desk.peers[0], index) for index in range(PIECES)) == MIN_FIRSTS


def test_a_crowd_waits_from_its_first_moment_and_few_never_do() -> None:
    thrift = Desk(leechers=0).thrift
    assert not thrift.count(CROWD - 1, 0, 0.0)
    assert not thrift.active
    assert thrift.count(CROWD, 0, 2.0)
    assert thrift.active
    assert not thrift.count(CROWD + 1, 0, 2.5), "it is told once"
    thrift.count(CROWD_ENDS, 0, 4.0)
    assert thrift.active
    thrift.count(CROWD_ENDS - 1, 0, 4.0)
    assert not thrift.active


def test_what_was_given_before_there_was_a_crowd_is_not_given_twice() -> None:
    desk = Desk(leechers=0)
    thrift, (one, other, *_) = desk.thrift, desk.peers
    assert all(thrift.is_first(one, index) for index in range(50)), "alone it gets what it wants"
    thrift.count(CROWD, 0, 1.0)
    assert thrift.is_first(one, 5)
    assert not thrift.is_first(other, 5)


def test_there_is_a_part_to_spare_of_what_a_member_gives() -> None:
    desk = Desk()
    thrift = desk.thrift
    given = 0
    for second in range(1, 30):
        given += 1_000_000
        for _ in range(40):
            thrift.appeared(desk.peers[0], 7, float(second), passed_on=True)
        assert not thrift.tick(given, float(second))
    assert thrift.active
    assert thrift.spare == SHARE * (29 * 40 * PIECE - given) / 10


def test_a_piece_that_its_first_taker_keeps_to_itself_is_for_the_next_and_counts_as_spared() -> None:
    desk = Desk()
    thrift, (mean, other, third, *_) = desk.thrift, desk.peers
    assert thrift.is_first(mean, 5)
    desk.got(mean, 5, 0.5)
    thrift.tick(0, PATIENCE_S + 0.4)
    assert not thrift.is_first(other, 5)
    thrift.tick(0, PATIENCE_S + 0.5)
    before = thrift.spare
    assert thrift.is_first(other, 5)
    assert thrift.spare == before - PIECE
    assert not thrift.is_first(third, 5)
    desk.got(other, 5, PATIENCE_S + 1.0)  # from us, and it passes nothing on either
    thrift.tick(0, 2 * PATIENCE_S + 0.9)
    assert not thrift.is_first(third, 5)
    thrift.tick(0, 2 * PATIENCE_S + 1.0)
    assert thrift.is_first(third, 5)


def test_a_piece_that_was_passed_on_is_out_however_few_have_it() -> None:
    desk = Desk()
    thrift, (one, other, third, *_) = desk.thrift, desk.peers
    desk.got(one, 5, 0.0)
    desk.got(other, 5, 1.0, passed_on=True)
    desk.got(desk.peers[3], 5, 2.0, passed_on=True)
    thrift.tick(0, 10 * PATIENCE_S)
    assert not thrift.is_first(third, 5)
    assert thrift.is_first(one, 6), "it owes nothing"


def test_who_is_known_to_keep_pieces_is_not_waited_for_long() -> None:
    desk = Desk()
    thrift, (mean, other, third, *_) = desk.thrift, desk.peers
    for index in (5, 6):
        desk.got(mean, index, 0.0)
    thrift.tick(0, HASTE_S)
    assert not thrift.is_first(third, 5)
    assert not thrift.owes(mean)
    desk.got(other, 5, HASTE_S)  # from us
    assert thrift.owes(mean)
    assert thrift.is_first(third, 6)
    assert not thrift.is_first(third, 5), "whose that is now is not known so"
    thrift.tick(0, HASTE_S + 0.1)
    desk.got(mean, 7, HASTE_S + 0.1)
    assert not thrift.is_first(third, 7), "nor can it pass anything on in no time"


def test_a_piece_that_enough_have_is_out() -> None:
    desk = Desk()
    thrift, peers = desk.thrift, desk.peers
    for count, peer in enumerate(peers[: MAX_KEEPERS + 1]):
        at = 1.0 + 20.0 * count
        desk.got(peer, 5, at)  # all from us
        thrift.tick(0, at + 19.0)
        assert thrift.is_first(peers[-1], 5) == (count + 1 <= MAX_KEEPERS)


def test_where_a_piece_takes_long_to_be_passed_on_it_is_waited_for() -> None:
    desk = Desk()
    thrift, (one, other, third, *_) = desk.thrift, desk.peers
    for index in range(40):
        desk.got(one, index, 0.0)
    for index in range(40):
        desk.got(other, index, 20.0, passed_on=True)
    thrift.tick(0, 20.0)
    desk.got(one, 50, 20.0)
    thrift.tick(0, 20.0 + 0.9 * PATIENCE_TIMES * 20.0)
    assert not thrift.is_first(third, 50)
    thrift.tick(0, 20.0 + PATIENCE_TIMES * 20.0)
    assert thrift.is_first(third, 50)


def test_nor_is_anybody_hasty_with_who_keeps_pieces_where_they_take_long() -> None:
    desk = Desk()
    thrift, (one, other, third, *_) = desk.thrift, desk.peers
    for index in range(40):
        desk.got(one, index, 0.0)
    for index in range(40):
        desk.got(other, index, 2.0, passed_on=True)
    for index in (50, 51):
        desk.got(one, index, 2.0)
    desk.got(other, 50, 2.0)  # from us, so that the one owes a piece
    thrift.tick(0, 2.0 + 0.9 * HASTE_TIMES * 2.0)
    assert thrift.owes(one)
    assert not thrift.is_first(third, 51)
    thrift.tick(0, 2.0 + HASTE_TIMES * 2.0)
    assert thrift.is_first(third, 51)


def test_who_got_a_part_and_asks_for_no_more_of_it_is_not_waited_for() -> None:
    for choked, patience_s in ((False, PATIENCE_S), (True, CHOKED_S)):
        desk = Desk()
        thrift, (one, other, *_) = desk.thrift, desk.peers
        one.queue[(5, 0, 16384)] = None
        assert thrift.is_first(one, 5)
        one.connection.am_choking = choked
        thrift.tick(0, 100.0)
        assert not thrift.is_first(other, 5), "it stands in the queue still"
        one.queue.clear()
        thrift.gave(one, 5)
        thrift.tick(0, 100.0 + patience_s - 0.1)
        assert not thrift.is_first(other, 5)
        thrift.tick(0, 100.0 + patience_s)
        assert thrift.is_first(other, 5)


def test_an_idle_seed_whose_pieces_turn_up_nowhere_else_lets_nobody_wait() -> None:
    desk = Desk()
    thrift = desk.thrift
    assert not thrift.look(True, 0.1), "nobody has had the time to get anything"
    desk.got(desk.peers[0], 5, 0.2)
    assert not thrift.look(True, 0.2 + 0.99 * GRACE_FIRSTS * 0.2)
    assert not thrift.look(False, 0.2 + 1.01 * GRACE_FIRSTS * 0.2), "there is something to give"
    assert thrift.active
    assert thrift.look(True, 0.2 + 1.01 * GRACE_FIRSTS * 0.2)
    assert not thrift.active


def test_those_who_tell_a_seed_nothing_are_believed_to_have_nothing_of_each_other() -> None:
    thrift = Desk().thrift
    assert not thrift.look(True, 0.99 * UNHEARD_S)
    assert thrift.look(True, UNHEARD_S)


def test_a_piece_that_was_passed_on_ends_the_doubt() -> None:
    desk = Desk()
    thrift = desk.thrift
    desk.got(desk.peers[0], 5, 0.1)
    assert thrift.doubtful
    desk.got(desk.peers[1], 5, 0.2, passed_on=True)
    assert not thrift.doubtful
    assert not any(thrift.look(True, 0.3 + 0.1 * step) for step in range(50))


def test_who_feed_each_other_after_all_wait_from_then_on() -> None:
    desk = Desk()
    thrift = desk.thrift
    desk.got(desk.peers[0], 5, 0.0)
    assert thrift.look(True, 9.0)
    assert not thrift.tick(PIECE, 10.0)
    for index in range(2):
        desk.got(desk.peers[1], index, 11.0)
    assert thrift.tick(PIECE, 11.0)
    assert thrift.active
