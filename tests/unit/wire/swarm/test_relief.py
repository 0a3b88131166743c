"""A source with nothing to do takes over from the longest queue, and no block is sent twice for that."""

from __future__ import annotations

from tests.unit.wire.swarm.test_requests import B, Desk
from wire.swarm.ledger import RECALL_S
from wire.swarm.pieces import BlockId
from wire.swarm.source import RELIEF_AGE_S, Source


def slow_and_idle(*, answers: bool) -> tuple[Desk, Source, Source, list[BlockId]]:
    """The slow one was asked for its three pieces and more is missing that nobody can be asked for: no end game."""
    desk = Desk(pieces=5)
    three = desk.picker.bit(0) | desk.picker.bit(1) | desk.picker.bit(2)
    slow, idle = desk.source(1, has=three), desk.source(2, has=three)
    desk.picker.joined(desk.picker.full)  # somebody who chokes us
    slow.answers_cancels = answers
    blocks = desk.fill(slow)
    slow.meter.rate = B  # a block a second: twelve seconds
    return desk, slow, idle, blocks


def test_what_a_peer_that_answers_cancels_has_in_its_queue_is_asked_for_when_it_says_no() -> None:
    desk, slow, idle, blocks = slow_and_idle(answers=True)
    desk.now = RELIEF_AGE_S / 2
    assert desk.fill(idle) == []
    assert desk.ledger.cancels() == [], "a queue that was just filled may be a quick one"
    desk.now = 2 * RELIEF_AGE_S
    assert desk.fill(idle) == []
    cancelled = [block for source, block in desk.ledger.cancels() if source is slow]
    assert cancelled == blocks[6:], "the far half"
    assert len(slow.asked) == 12
    for block in cancelled[:5]:
        assert slow.recalled[block[0] << 32 | block[1]] is idle
        assert desk.ledger.reject(slow, *block[:2])
    assert set(desk.fill(idle)) == set(cancelled[:5])
    desk.give(slow, cancelled[5])  # it had sent it already
    desk.give_all(idle, cancelled[:5])
    assert desk.ledger.wasted_bytes == 0
    assert not slow.recalled


def test_who_answers_no_cancels_is_not_waited_for() -> None:
    desk, slow, idle, blocks = slow_and_idle(answers=False)
    desk.now = 2 * RELIEF_AGE_S
    assert desk.fill(idle) == blocks[6:]
    assert len(slow.asked) == 6


def test_who_should_answer_cancels_and_does_not_is_found_out() -> None:
    desk, slow, idle, _ = slow_and_idle(answers=True)
    desk.now = 2 * RELIEF_AGE_S
    desk.fill(idle)
    desk.now += RECALL_S
    desk.ledger.overdue(slow, desk.now)
    assert len(slow.recalled) == 6
    desk.now += 0.1
    desk.ledger.overdue(slow, desk.now)
    assert (len(slow.asked), len(slow.recalled), slow.answers_cancels) == (6, 0, False)
    assert len(desk.fill(idle)) == 6


def test_a_quick_queue_is_left_alone() -> None:
    desk, slow, idle, _ = slow_and_idle(answers=True)
    slow.meter.rate = 100 * B
    desk.now = 2 * RELIEF_AGE_S
    assert desk.fill(idle) == []
    assert desk.ledger.cancels() == []
