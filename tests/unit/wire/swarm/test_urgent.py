"""A reader's place is reached at once: who gives which block, and what is taken back for it, once."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest

from tests.unit.wire.swarm.test_rules import Table, info_dict
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.metainfo import Info
from wire.peer import messages as m
from wire.peer.messages import BLOCK_BYTES as B
from wire.peer.messages import Landed
from wire.swarm.picker import Picker
from wire.swarm.requests import MAX_UNPROVEN
from wire.swarm.source import FIRST_DEPTH, Source
from wire.swarm.urgent import Urgent


def desk(pieces: int = 40, blocks: int = 2) -> tuple[Picker, Urgent]:
    picker = Picker(pieces, random.Random(1))
    return picker, Urgent(picker, lambda index: blocks * B, blocks * B)


def source(ledger: Urgent, number: int, *, rate: float = 0.0, depth: int = 100) -> Source:
    one = Source(Endpoint(f"80.0.0.{number}", 1), 0.0)
    one.has, one.depth, one.growing, one.proven, one.answers_cancels = (1 << 40) - 1, depth, False, True, True
    one.meter.rate = rate * B
    ledger.join(one)
    return one


def key(index: int, number: int = 0) -> int:
    return index << 32 | number * B


def test_a_needed_piece_comes_from_all_at_once_as_fast_as_each_is() -> None:
    picker, ledger = desk(blocks=60)
    sources = [source(ledger, number, rate=rate) for number, rate in enumerate((10.0, 20.0, 30.0))]
    ledger.deadlines.set({7: 0.0}, 0.0)
    asks = ledger.divide(0.0)
    assert [len(asks[one]) for one in sources] == [pytest.approx(share, abs=1) for share in (10, 20, 30)]
    assert sorted(block for blocks in asks.values() for block in blocks) == [(7, n * B, B) for n in range(60)]
    assert all(len(one.asked) == len(asks[one]) for one in sources)
    assert ledger.divide(0.0) == {}, "it was asked for"
    assert picker.open == picker.bit(7)


def test_who_owes_much_who_is_snubbed_and_who_has_it_not_is_not_asked() -> None:
    picker, ledger = desk(blocks=8)
    owes, idle, snubbed, lacks = (source(ledger, number, rate=10.0) for number in range(4))
    ledger.fill(owes, 0.0)
    snubbed.snubbed = True
    lacks.has &= ~picker.bit(39)
    ledger.deadlines.set({39: 0.5}, 0.0)
    assert set(ledger.divide(0.0)) == {idle}


def test_what_is_needed_later_waits_for_its_turn() -> None:
    _, ledger = desk()
    source(ledger, 1)
    ledger.deadlines.set({3: 5.0}, 0.0)
    assert ledger.divide(0.0) == {}


def test_nobody_is_asked_beyond_his_depth() -> None:
    _, ledger = desk(blocks=60)
    slow, quick = source(ledger, 1, rate=1.0, depth=4), source(ledger, 2, rate=100.0, depth=6)
    ledger.deadlines.set({3: 0.0}, 0.0)
    ledger.divide(0.0)
    assert len(quick.asked) == 6
    assert len(slow.asked) == 4


def holding(ledger: Urgent, at: int, *, sought: bool) -> tuple[Source, Source, Source]:
    """Somebody waits for a piece of eight blocks. Five were asked of who gives ten a second, three of who gives one;
    the third gives ten too, and comes too late."""
    holders = source(ledger, 1, rate=10.0, depth=5), source(ledger, 2, rate=1.0, depth=3)
    if not sought:
        ledger.deadlines.set({at: 1.0}, 0.0)
    ledger.deadlines.set({at: 1.0}, 1.0)
    ledger.divide(1.0)
    assert [len(one.asked) for one in holders] == [5, 3]
    return *holders, source(ledger, 3, rate=10.0, depth=20)


def test_who_reads_on_is_helped_where_somebody_is_much_slower_than_another() -> None:
    _, ledger = desk(blocks=8)
    _, slow, quick = holding(ledger, 7, sought=False)
    asks = ledger.fill(quick, 1.0)
    assert asks[:3] == [(7, key & 0xFFFFFFFF, B) for key in slow.asked]
    assert {index for index, _, _ in asks[3:]}.isdisjoint({7}), "the other one is as quick"


def test_a_seek_is_asked_of_another_too_whoever_has_it_in_hand_the_slowest_first_and_once() -> None:
    _, ledger = desk(blocks=8)
    brisk, slow, quick = holding(ledger, 7, sought=True)
    quick.depth = 7
    assert ledger.fill(quick, 1.0) == [(7, key & 0xFFFFFFFF, B) for key in [*slow.asked, *list(brisk.asked)[:4]]]
    late = source(ledger, 4, rate=10.0)
    assert [ask[:2] for ask in ledger.fill(late, 1.0) if ask[0] == 7] == [(7, list(brisk.asked)[4] & 0xFFFFFFFF)]


def test_what_came_is_cancelled_with_who_was_asked_too() -> None:
    _, ledger = desk(blocks=8)
    _, slow, quick = holding(ledger, 7, sought=True)
    ledger.fill(quick, 1.0)
    block = next(iter(slow.asked))
    ledger.take(quick, 7, block & 0xFFFFFFFF, memoryview(bytes(B)), 1.1)
    assert ledger.cancels() == [(slow, (7, block & 0xFFFFFFFF, B))]
    assert block not in slow.asked


def test_who_is_snubbed_is_asked_for_nothing_twice() -> None:
    _, ledger = desk(blocks=8)
    *_, quick = holding(ledger, 7, sought=True)
    quick.snubbed = True
    assert {index for index, _, _ in ledger.fill(quick, 1.0)}.isdisjoint({7})


def test_who_reads_is_asked_a_tenth_of_a_second_ahead_once_it_is_known_how_far_he_is() -> None:
    """It answers a request after 20 ms where none is before it, and gives 100 blocks a second."""
    one = Source(Endpoint("80.0.0.1", 1), 0.0)
    one.depth, one.growing = 200, False
    depths = []
    for second in range(1, 9):
        one.meter.total += 100 * B
        one.answered(second, max(0.02, one.depth / 100))
        one.asked = dict.fromkeys(range(one.depth), 0.0)
        one.measure(float(second), lean=True)
        depths.append(one.depth)
    assert depths[:4] == [104, 56, 32, 20]
    assert depths[-1] < 30


def test_who_is_far_is_asked_for_enough_all_the_same() -> None:
    """Half a second there and back. Asked for half as much, nothing came sooner: it was no queue of his own."""
    one = Source(Endpoint("80.0.0.1", 1), 0.0)
    one.depth, one.growing = 100, False
    for second in range(1, 9):
        one.meter.total += min(100, 2 * one.depth) * B
        one.answered(second, max(0.5, one.depth / 100))
        one.asked = dict.fromkeys(range(one.depth), 0.0)
        one.measure(float(second), lean=True)
    assert one.round_trip_s == 0.5
    assert one.depth > 80


def test_whether_blocks_come_sooner_is_told_once_what_was_asked_before_has_come() -> None:
    one = Source(Endpoint("80.0.0.1", 1), 0.0)
    one.answered(1, 0.4)
    depths = []
    for second, owed in enumerate((200, 90, 20, 20), 1):
        one.meter.total += 100 * B
        one.asked = dict.fromkeys(range(owed), 0.0)
        one.measure(float(second), lean=True)
        depths.append(one.depth)
    assert depths == [24, 24, 24, 74], "a half of 0.4 s; then all of it, and half as much, and a tenth of a second"


def test_where_the_rate_falls_by_half_the_way_is_measured_anew() -> None:
    one = Source(Endpoint("80.0.0.1", 1), 0.0)
    one.answered(1, 0.01)
    for second in range(1, 30):
        one.meter.total += (100 if second < 10 else 30) * B
        one.measure(float(second), lean=True)
        if second == 9:
            assert one.round_trip_s == 0.01
            assert one.depth < 20
    assert one.round_trip_s == float("inf")
    assert one.depth > 60, "as nobody was waiting"


def test_the_way_is_measured_by_blocks_that_land_too() -> None:
    _, ledger = desk()
    one = source(ledger, 1, depth=4)
    first = ledger.fill(one, 0.0)
    landing = ledger.landing(one, 0, 2)
    assert landing is not None
    ledger.landed(one, Landed(landing.blocks, landing.views), 0.25)
    assert one.round_trip_s == 0.25
    ledger.take(one, *first[2][:2], memoryview(bytes(B)), 0.125)
    assert one.round_trip_s == 0.125


def test_a_late_answer_to_an_earlier_request_tells_nothing_of_the_way() -> None:
    one = Source(Endpoint("80.0.0.1", 1), 0.0)
    one.late[5] = 1
    one.answered(5, 0.001)
    assert one.round_trip_s == float("inf")
    one.answered(6, 0.2)
    assert one.round_trip_s == 0.2


def test_who_is_asked_first_while_somebody_reads_is_not_asked_for_more_and_more() -> None:
    _, ledger = desk()
    one = source(ledger, 1)
    one.growing, one.depth = True, 300
    ledger.deadlines.set({3: 30.0}, 0.0)
    ledger.make_way(0.0)
    assert one.depth == FIRST_DEPTH
    for block in ledger.fill(one, 0.0):
        ledger.take(one, *block[:2], memoryview(bytes(B)), 0.1)
    assert one.depth == FIRST_DEPTH


def test_each_request_has_one_answer_though_it_was_taken_back_and_made_again() -> None:
    """BEP 6. The reject of the first is none of the second, whose data is on its way."""
    picker, ledger = desk()
    one = source(ledger, 1, depth=4)
    again = ledger.fill(one, 0.0)[0]
    for index in (39, again[0], 38, again[0]):
        ledger.deadlines.set({index: 0.0}, 0.0)
        ledger.make_way(0.0)
        ledger.divide(0.0)
        ledger.deadlines.clear(index)
    where = key(again[0], again[1] // B)
    assert where in one.asked
    assert one.late[where] == 2
    assert not ledger.reject(one, *again[:2])
    assert not ledger.reject(one, *again[:2])
    assert where in one.asked, "two requests were taken back and refused; the third is to be answered"
    assert where not in one.late
    ledger.take(one, *again[:2], memoryview(bytes(B)), 0.0)
    assert where not in one.asked
    assert (ledger.wasted_bytes, one.unasked, one.stray_rejects) == (0, 0, 0)
    assert picker.open & picker.bit(again[0])


def test_data_that_crossed_its_cancel_counts_for_the_request_made_again() -> None:
    _, ledger = desk()
    one = source(ledger, 1, depth=4)
    block = ledger.fill(one, 0.0)[0]
    ledger.deadlines.set({39: 0.0}, 0.0)
    ledger.make_way(0.0)
    ledger.deadlines.clear(39)
    ledger.fill(one, 0.0)
    ledger.deadlines.set({block[0]: 0.0}, 0.0)
    ledger.make_way(0.0)
    ledger.divide(0.0)
    assert key(block[0], block[1] // B) in one.asked
    ledger.take(one, *block[:2], memoryview(bytes(B)), 0.0)
    ledger.take(one, *block[:2], memoryview(bytes(B)), 0.0)
    assert one.unasked == 0, "both were asked for"
    assert ledger.wasted_bytes == B


def test_a_seek_takes_back_once_whatever_the_number_of_pieces_that_are_needed() -> None:
    data = bytes(400 * B)
    hashes = b"".join(hashlib.sha1(data[at : at + 2 * B]).digest() for at in range(0, len(data), 2 * B))
    info = Info.from_bytes(info_dict(length=len(data), pieces=hashes))
    table = Table(info)
    guest = table.guest()
    guest.wire.bitfield(Bitfield.full(info.piece_count))
    guest.wire.unchoke()
    guest.pump()
    before = {(ask.index, ask.begin) for ask in guest.asked()}
    assert before
    guest.heard.clear()
    at = next(index for index in range(190) if not {(index + more, 0) for more in range(9)} & before)
    table.swarm.set_deadlines({at + more: table.now + 0.25 * more for more in range(9)}, table.now)
    guest.pump()
    cancels = [(event.index, event.begin) for event in guest.heard if isinstance(event, m.Cancel)]
    asked = [(ask.index, ask.begin) for ask in guest.asked()]
    assert sorted(cancels) == sorted(before)
    assert Counter(asked).most_common(1)[0][1] == 1, "nothing was asked for twice"
    assert asked == [(at + more, begin) for more in range(MAX_UNPROVEN) for begin in (0, B)], "a stranger's share"
    table.swarm.set_deadlines(dict.fromkeys(range(at, at + 9)), table.now)
    assert not table.swarm._begun()._requests.deadlines.pieces


@pytest.mark.parametrize("sought", [False, True])
def test_a_suspected_piece_that_a_reader_waits_for_goes_to_one_who_takes_over_all_of_it(sought: bool) -> None:
    picker, ledger = desk(pieces=1)
    first, second, third = (source(ledger, number, rate=10.0) for number in range(3))
    for one, number in ((first, 0), (second, 1)):
        one.depth = 1
        assert ledger.fill(one, 0.0) == [(0, number * B, B)]
    for one, number in ((first, 0), (second, 1)):
        ledger.take(one, 0, number * B, memoryview(bytes(B)), 0.0)
    assert [job.index for job in ledger.jobs()] == [0]
    assert ledger.stored(0, False) == [], "one of two"
    assert ledger.fill(first, 1.0) == [(0, 0, B)]
    ledger.deadlines.set({0: 1.0}, 1.0)
    ledger.leave(first)
    if sought:
        assert ledger.divide(1.0) == {}, "it is not to be divided"
    assert sorted(ledger.fill(third, 1.0)) == [(0, 0, B), (0, B, B)]
    assert ledger.fill(second, 1.0) == []
    for number in range(2):
        ledger.take(third, 0, number * B, memoryview(bytes(B)), 2.0)
    assert [job.index for job in ledger.jobs()] == [0]
    ledger.stored(0, True)
    assert not picker.left
