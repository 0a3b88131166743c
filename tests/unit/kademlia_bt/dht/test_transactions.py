"""Open questions: matched by id and address, slow once, dead once, gone after; and the round trip time."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.transactions import DEAD_S, RoundTrip, Transactions
from wire.compact import Endpoint

THERE = Endpoint("1.2.3.4", 5)


def test_matched_once_and_only_from_where_it_was_asked() -> None:
    open_questions: Transactions[str] = Transactions(random.Random(1))
    pending = open_questions.begin(THERE, "ping", 0.0, 1.0)
    assert open_questions.match(pending.tid, Endpoint("1.2.3.4", 6)) is None
    assert open_questions.match(pending.tid, Endpoint("1.2.3.5", 5)) is None
    assert open_questions.match(bytes(4), THERE) is None
    assert open_questions.match(pending.tid, THERE) is pending
    assert open_questions.match(pending.tid, THERE) is None
    assert len(open_questions) == 0
    assert open_questions.next_timer() is None


def test_slow_then_dead() -> None:
    open_questions: Transactions[str] = Transactions(random.Random(1))
    first = open_questions.begin(THERE, "a", 0.0, 1.0)
    second = open_questions.begin(THERE, "b", 0.5, 2.0)
    assert open_questions.next_timer() == 1.0
    assert open_questions.expire(0.9) == []
    assert open_questions.expire(1.0) == [(first, False)]
    assert open_questions.next_timer() == 2.5
    assert open_questions.match(second.tid, THERE) is second
    assert open_questions.next_timer() == DEAD_S
    assert open_questions.expire(DEAD_S - 0.1) == []
    assert open_questions.expire(DEAD_S + 100) == [(first, True)]
    assert open_questions.match(first.tid, THERE) is None
    assert open_questions.next_timer() is None


def test_a_slow_question_may_still_be_answered() -> None:
    open_questions: Transactions[str] = Transactions(random.Random(1))
    pending = open_questions.begin(THERE, "a", 0.0, 1.0)
    open_questions.expire(5.0)
    assert open_questions.match(pending.tid, THERE) is pending
    assert open_questions.expire(100.0) == []


def test_ids_do_not_repeat_while_open() -> None:
    open_questions: Transactions[int] = Transactions(random.Random(1))
    tids = {open_questions.begin(THERE, index, 0.0, 1.0).tid for index in range(500)}
    assert len(tids) == 500
    assert {len(tid) for tid in tids} == {4}


def test_round_trip() -> None:
    trip = RoundTrip()
    assert (trip.mean_s, trip.slow_s) == (None, 1.0)
    for _ in range(100):
        trip.sample(0.1)
    assert trip.mean_s == pytest.approx(0.1)
    assert trip.slow_s == 0.25
    for _ in range(100):
        trip.sample(3.0)
    assert trip.slow_s == 1.5
