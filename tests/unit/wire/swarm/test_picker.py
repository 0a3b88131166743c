"""Rarest first, over sets kept as integers."""

from __future__ import annotations

import random

import pytest

from tests.processor_time import works_at_most
from wire.bitfield import Bitfield
from wire.errors import MisuseError
from wire.swarm.picker import Picker
from wire.swarm.values import Priority


def picker(count: int = 20) -> Picker:
    return Picker(count, random.Random(1))


def of(p: Picker, *indices: int) -> int:
    return sum(p.bit(index) for index in indices)


def test_a_set_is_laid_out_like_a_bitfield() -> None:
    p = picker(20)
    pieces = p.set_of(Bitfield.of(20, [0, 7, 19]))
    assert pieces == of(p, 0, 7, 19)
    assert p.indices(pieces) == [0, 7, 19]
    assert p.first(pieces) == 0
    assert p.set_of(Bitfield.full(20)) == p.full
    assert p.span(range(3, 6)) == of(p, 3, 4, 5)
    assert p.span(range(0)) == 0


def test_a_run_begins_where_the_most_pieces_follow() -> None:
    p = picker(200)
    among = p.span(range(3, 5)) | p.span(range(10, 12)) | of(p, 30) | p.span(range(50, 120)) | p.span(range(130, 140))
    assert {Picker(200, random.Random(n)).pick(among, in_runs=True) for n in range(40)} <= set(range(50, 57))
    p.prefer(of(p, 30), Priority.HIGH)
    assert p.pick(among, in_runs=True) == 30, "what is wanted more comes first all the same"


def test_the_rarest_piece_that_the_peer_has_is_next() -> None:
    p = picker()
    for _ in range(3):
        p.joined(p.full)
    p.joined(of(p, 0, 1, 2))
    p.joined(of(p, 0, 1))
    p.joined(of(p, 0))
    assert [p.availability(index) for index in (0, 1, 2, 3)] == [6, 5, 4, 3]
    assert p.pick(of(p, 0, 1, 2)) == 2
    assert p.pick(of(p, 0, 1, 2)) == 1
    assert p.pick(of(p, 0, 1, 2)) == 0
    assert p.pick(of(p, 0, 1, 2)) is None


def test_small_pieces_are_opened_with_their_neighbours() -> None:
    p = picker(100)
    first = p.pick_near(p.full, 8, 8)
    assert len(first) in (8, 4)  # the last stretch has but four
    assert first[0] % 8 == 0
    assert first == list(range(first[0], first[0] + len(first)))
    assert p.open == of(p, *first)
    assert p.missing == p.full & ~p.open
    p = picker(100)
    p.joined(p.full)
    p.joined(p.full & ~p.span(range(40, 60)))
    p.joined(p.full & ~of(p, 44, 46))
    assert p.pick_near(p.full, 8, 8) == [44, 46], "none is opened that is not as rare"
    p.prefer(of(p, 99, 98, 5), Priority.HIGH)
    assert p.pick_near(of(p, 5, 99, 98, 97), 8, 1) in ([5], [98]), "the most wanted, and no more than may be"
    p.sequential = True
    p.prefer(p.full, Priority.NORMAL)
    assert p.pick_near(p.full & ~of(p, 1), 8, 4) == [0, 2, 3, 4]
    assert p.pick_near(p.full & ~of(p, 1), 8, 3)[0] in (5, 6)
    assert p.pick_near(0, 8, 8) == []


def test_among_equals_chance_decides() -> None:
    picks = {Picker(1000, random.Random(seed)).pick((1 << 1000) - 1) for seed in range(20)}
    assert len(picks) > 10


def test_counts_follow_peers_that_come_gain_and_go() -> None:
    p = picker(4)
    has = 0
    p.joined(has)
    for index in (2, 0, 1):
        has = p.gained(has, index)
    assert [p.availability(index) for index in range(4)] == [1, 1, 1, 0]
    assert p.gained(has, 1) == has
    has = p.gained(has, 3)
    assert has == p.full
    assert [p.availability(index) for index in range(4)] == [1, 1, 1, 1]
    p.left_with(has)
    assert [p.availability(index) for index in range(4)] == [0, 0, 0, 0]


def test_a_piece_goes_from_missing_over_open_to_done_or_back() -> None:
    p = picker(2)
    p.restrict(of(p, 1))
    assert p.pick(p.full) == 1
    assert (p.missing, p.open, p.left) == (0, of(p, 1), of(p, 1))
    p.reopen(1)
    assert p.missing == of(p, 1)
    p.open_one(1)
    p.complete(p.bit(1))
    assert (p.left, p.done) == (0, of(p, 1))
    for move, what in ((p.complete, p.bit(1)), (p.reopen, 1), (p.open_one, 1)):
        with pytest.raises(MisuseError):
            move(what)


def test_what_is_not_wanted_any_more_is_not_picked_again() -> None:
    p = picker(3)
    assert p.pick(of(p, 1)) == 1
    p.restrict(of(p, 0))
    assert p.open == of(p, 1)
    p.reopen(1)
    assert p.missing == of(p, 0)


def test_a_torrent_without_pieces_is_done() -> None:
    p = picker(0)
    p.joined(0)
    assert p.full == p.left == 0
    assert p.pick(0) is None


def test_a_hundred_thousand_pieces_and_two_hundred_peers_cost_little() -> None:
    p = picker(100_000)
    rng = random.Random(4)
    with works_at_most(1.0):
        for _ in range(200):
            p.joined(rng.getrandbits(100_000))
        for _ in range(1000):
            assert p.pick(p.full) is not None
