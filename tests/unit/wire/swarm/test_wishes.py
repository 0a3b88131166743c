"""What goes before what: priorities, order, deadlines; gifts, suggestions and lies (BEP 6, 54)."""

from __future__ import annotations

import random

from tests.unit.wire.swarm.test_choker import contender
from wire.compact import Endpoint
from wire.peer.messages import BLOCK_BYTES as B
from wire.swarm.choker import MIN_SLOTS, SLOT_STEP_BYTES_S, Choker
from wire.swarm.deadlines import FORESEEN_S, Deadlines
from wire.swarm.meter import Span
from wire.swarm.picker import Picker
from wire.swarm.requests import MAX_UNPROVEN
from wire.swarm.source import Source
from wire.swarm.urgent import Urgent
from wire.swarm.values import Priority


def desk(pieces: int = 20) -> tuple[Picker, Urgent]:
    picker = Picker(pieces, random.Random(1))
    return picker, Urgent(picker, lambda index: 2 * B, 2 * B)


def source(picker: Picker, ledger: Urgent, number: int = 1, *, depth: int = 6, proven: bool = True) -> Source:
    one = Source(Endpoint(f"80.0.0.{number}", 1), 0.0)
    one.has, one.depth, one.growing, one.proven = picker.full, depth, False, proven
    ledger.join(one)
    return one


def asked(ledger: Urgent, one: Source, now: float = 0.0) -> list[int]:
    return list(dict.fromkeys(index for index, _, _ in ledger.fill(one, now)))


def test_the_most_wanted_come_first_and_the_skipped_never() -> None:
    picker, _ = desk(8)
    picker.prefer(picker.bit(3), Priority.HIGH)
    picker.prefer(picker.bit(5) | picker.bit(6), Priority.LOW)
    picker.prefer(picker.bit(0), Priority.SKIP)
    order = [picker.pick(picker.full) for _ in range(8)]
    assert order[0] == 3
    assert set(order[1:5]) == {1, 2, 4, 7}
    assert set(order[5:7]) == {5, 6}
    assert order[7] is None


def test_in_order() -> None:
    picker, ledger = desk()
    picker.sequential = True
    assert asked(ledger, source(picker, ledger)) == [0, 1, 2]


def test_what_is_needed_soon_is_asked_first_and_others_make_way() -> None:
    picker, ledger = desk()
    one = source(picker, ledger)
    before = asked(ledger, one)
    wanted = next(index for index in range(20) if index not in before)
    ledger.deadlines.set({wanted: 0.1}, 0.0)
    assert asked(ledger, one) == []  # its queue is full
    ledger.make_way(0.0)
    assert len(ledger.cancels()) == 6
    assert asked(ledger, one)[0] == wanted
    ledger.make_way(0.0)
    assert ledger.cancels() == []  # it is asked for: nothing more is taken back


def test_who_is_slow_with_what_is_needed_is_helped() -> None:
    picker, ledger = desk()
    slow, fast = source(picker, ledger, 1, depth=2), source(picker, ledger, 2, depth=2)
    ledger.deadlines.set({7: 0.5}, 0.0)
    assert asked(ledger, slow) == [7]
    fast.meter.total = 1 << 20
    fast.meter.measure(1.0)
    assert ledger.fill(fast, 0.4)[0][0] != 7, "its time has not come"
    ledger.release(fast)
    assert ledger.fill(fast, 2.0) == [(7, 0, B), (7, B, B)]


def test_deadlines_are_in_order_and_can_be_taken_back() -> None:
    picker, _ = desk()
    lines = Deadlines(picker)
    lines.set({4: 9.0, 2: 3.0}, 0.0)
    lines.set({9: 3.5}, 0.0)
    assert lines.order() == [2, 9, 4]
    assert lines.near(2.4) == [2]
    assert lines.awaited(2.9) is None
    assert lines.awaited(3.0) == 2
    lines.clear(2)
    assert lines.order() == [9, 4]
    lines.clear(9)
    lines.clear(4)
    assert not lines.pieces


def test_where_somebody_goes_is_before_where_others_wait() -> None:
    picker, _ = desk()
    lines = Deadlines(picker)
    assert not lines.streams
    lines.set({4: 1.0, 5: 1.25, 19: 1.0 + FORESEEN_S}, 1.0)
    assert lines.streams
    lines.set({12: 3.0, 13: 3.25}, 3.0)
    assert lines.order() == [12, 4, 5, 13, 19]
    lines.set({5: 2.0, 6: 3.5}, 3.1)  # the first reader came to what he was expected to read
    assert lines.order() == [12, 4, 5, 13, 6, 19]
    lines.clear(12)
    assert lines.order() == [4, 5, 13, 6, 19]
    lines.set({19: 0.9}, 0.9)
    assert lines.order()[0] == 19
    assert lines.awaited(1.0) == 19, "foreseen, but for later"


def test_a_stranger_is_asked_for_few_pieces_until_one_was_right() -> None:
    picker, ledger = desk()
    one = source(picker, ledger, depth=100, proven=False)
    first = ledger.fill(one, 0.0)
    assert len({index for index, _, _ in first}) == MAX_UNPROVEN
    for index, begin, length in first:
        ledger.take(one, index, begin, memoryview(bytes(length)), 0.0)
    assert ledger.fill(one, 0.0) == []
    ledger.stored(ledger.jobs()[0].index, True)
    assert len(ledger.fill(one, 0.0)) > 2 * MAX_UNPROVEN


def test_what_a_liar_gave_is_asked_again() -> None:
    picker, ledger = desk(1)
    liar, honest = source(picker, ledger, 1, depth=1), source(picker, ledger, 2)
    (block,) = ledger.fill(liar, 0.0)
    ledger.take(liar, *block[:2], memoryview(bytes(B)), 0.0)
    ledger.leave(liar)
    ledger.disown(liar)
    assert len(ledger.fill(honest, 0.0)) == 2
    assert ledger.wasted_bytes == B


def test_a_choking_peer_is_asked_for_what_it_allows() -> None:
    picker, ledger = desk()
    one = source(picker, ledger)
    one.choked = True
    assert asked(ledger, one) == []
    one.allowed = picker.bit(4)
    assert asked(ledger, one) == [4]


def test_a_suggested_piece_goes_before_any_other() -> None:
    picker, ledger = desk()
    one = source(picker, ledger, depth=2)
    one.suggested = picker.bit(11)
    assert asked(ledger, one) == [11]


def test_a_suggestion_comes_after_what_its_owner_wishes() -> None:
    picker, ledger = desk()
    one = source(picker, ledger, depth=2)
    one.suggested = picker.bit(11) | picker.bit(3)
    picker.prefer(picker.bit(3) | picker.bit(5), Priority.HIGH)
    assert asked(ledger, one) == [3]
    picker, ledger = desk()
    one = source(picker, ledger, depth=2)
    one.suggested = picker.bit(11)
    picker.sequential = True
    assert asked(ledger, one) == [0]


def test_rates_for_tit_for_tat_look_back_over_two_rounds() -> None:
    span = Span(0, 0.0, 2)
    assert span.mark(1000, 10.0) == 100.0
    assert span.mark(1000, 20.0) == 50.0
    assert span.mark(1000, 30.0) == 0.0


def test_slots_follow_what_is_taken() -> None:
    choker = Choker(random.Random(1), None)
    quick = [contender(key, takes=10 * SLOT_STEP_BYTES_S, unchoked_at=0.0) for key in range(30)]
    choker.choose(quick, 0.0, seeding=True)
    assert choker.slots == 12
    choker.choose([peer._replace(takes=1.0) for peer in quick], 10.0, seeding=True)
    assert choker.slots == MIN_SLOTS


def test_a_seed_serves_first_who_passes_on() -> None:
    choker = Choker(random.Random(1), 3)
    peers = [contender(key, spreads=float(key)) for key in range(8)]
    assert {7, 6} < choker.choose(peers, 0.0, seeding=True)


def test_who_serves_nobody_serves_nobody() -> None:
    assert Choker(random.Random(1), 0).choose([contender(1)], 0.0, seeding=True) == set()
