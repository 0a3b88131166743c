"""The ledger of blocks: asked, given, taken back, stolen, blamed."""

from __future__ import annotations

import random

import pytest

from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.peer.messages import BLOCK_BYTES as B
from wire.peer.messages import Landed
from wire.swarm import ledger as r
from wire.swarm.picker import Picker
from wire.swarm.pieces import BlockId
from wire.swarm.requests import MAX_UNPROVEN, SEEK_EVERY_S, STEAL_ETA_S, PieceJob, Requests
from wire.swarm.source import MAX_DEPTH, QUEUE_S, Source


class Desk:
    """A ledger over pieces of four blocks, the last one shorter, with sources that have everything."""

    def __init__(self, pieces: int = 4, blocks: int = 4, last: int = B + 100, **options: int) -> None:
        self.piece_length = blocks * B
        self.sizes = [self.piece_length] * (pieces - 1) + [last]
        self.picker = Picker(pieces, random.Random(1))
        self.ledger = Requests(self.picker, lambda index: self.sizes[index], self.piece_length, **options)
        self.now = 0.0

    def source(self, number: int = 1, depth: int = 1000, has: int | None = None) -> Source:
        source = Source(Endpoint(f"80.0.0.{number}", 1), self.now)
        source.has = self.picker.full if has is None else has
        source.depth = source.limit = depth
        source.growing = False
        source.proven = True
        self.ledger.join(source)
        return source

    def fill(self, source: Source) -> list[BlockId]:
        return self.ledger.fill(source, self.now)

    def give(self, source: Source, block: BlockId, byte: int = 0) -> None:
        index, begin, length = block
        self.ledger.take(source, index, begin, memoryview(bytes([byte]) * length), self.now)

    def give_all(self, source: Source, blocks: list[BlockId], byte: int = 0) -> list[PieceJob]:
        for block in blocks:
            self.give(source, block, byte)
        return self.ledger.jobs()


def test_one_source_is_asked_for_everything_once_and_in_order() -> None:
    desk = Desk()
    source = desk.source()
    blocks = desk.fill(source)
    assert len(blocks) == len(set(blocks)) == 3 * 4 + 2
    assert sum(length for _, _, length in blocks) == sum(desk.sizes)
    by_piece = [[begin for index, begin, _ in blocks if index == piece] for piece in range(4)]
    assert all(begins == sorted(begins) for begins in by_piece)
    jobs = desk.give_all(source, blocks, 7)
    assert sorted(job.index for job in jobs) == [0, 1, 2, 3]
    assert all(bytes(job.data) == b"\7" * desk.sizes[job.index] for job in jobs)
    assert desk.ledger.unwritten_bytes == sum(desk.sizes)
    for job in jobs:
        assert desk.ledger.stored(job.index, True) == []
    assert desk.picker.done == desk.picker.full
    assert desk.ledger.unwritten_bytes == desk.ledger.wasted_bytes == 0
    assert desk.fill(source) == []


def test_sources_work_on_pieces_of_their_own() -> None:
    desk = Desk()
    one, other = desk.source(1, depth=4), desk.source(2, depth=4)
    assert len({index for index, _, _ in desk.fill(one)}) == 1
    assert len({index for index, _, _ in desk.fill(other)}) == 1
    assert not {i for i, _ in ((k >> 32, 0) for k in one.asked)} & {k >> 32 for k in other.asked}


def test_requests_go_out_in_batches() -> None:
    desk = Desk(pieces=100)
    source = desk.source(depth=100)
    blocks = desk.fill(source)
    assert len(blocks) == 100
    for block in blocks[:24]:
        desk.give(source, block)
        assert desk.fill(source) == []
    desk.give(source, blocks[24])
    assert len(desk.fill(source)) == 25


def test_what_a_source_leaves_another_takes_up() -> None:
    desk = Desk(pieces=2, last=4 * B)
    one = desk.source(1, depth=6)
    blocks = desk.fill(one)
    for block in blocks[:2]:
        desk.give(one, block)
    desk.ledger.leave(one)
    other = desk.source(2)
    more = desk.fill(other)
    assert len(more) == 6
    assert set(more).isdisjoint(blocks[:2])
    assert len(desk.give_all(other, more)) == 2


def test_a_rejected_block_is_asked_of_another() -> None:
    desk = Desk(pieces=1, last=4 * B)
    one = desk.source(1)
    blocks = desk.fill(one)
    assert desk.ledger.reject(one, *blocks[2][:2])
    other = desk.source(2)
    assert blocks[2] in desk.fill(other)
    assert not desk.ledger.reject(other, 0, 0) or (0 << 32) not in one.asked


def test_a_silent_source_is_snubbed_its_blocks_are_free_and_welcome_if_late() -> None:
    desk = Desk(pieces=1, last=4 * B)
    source = desk.source()
    blocks = desk.fill(source)
    desk.now = r.SNUB_S - 0.1
    assert desk.ledger.overdue(source, desk.now) is None
    desk.now = r.SNUB_S
    assert sorted(desk.ledger.overdue(source, desk.now) or []) == blocks
    assert (source.snubbed, source.depth, source.timeouts) == (True, 1, 1)
    desk.give(source, blocks[0])
    assert not source.snubbed
    assert source.timeouts == 0
    assert desk.ledger.wasted_bytes == 0
    other = desk.source(2)
    assert sorted(desk.fill(other)) == blocks[1:]
    assert len(desk.give_all(other, blocks[1:])) == 1


def test_a_source_that_answers_some_and_never_others_is_found_out() -> None:
    desk = Desk(pieces=40)
    source = desk.source(depth=8)
    blocks = desk.fill(source)
    for step in range(1, 7):
        desk.now = 10.0 * step
        desk.give(source, blocks[step])
        overdue = desk.ledger.overdue(source, desk.now)
        assert (overdue is None) == (desk.now < r.REQUEST_TIMEOUT_S)
    assert blocks[0] in (overdue or [])


def test_in_the_end_game_the_idle_take_from_the_slowest_and_the_loser_is_told() -> None:
    desk = Desk(pieces=2, last=4 * B)
    slow, quick = desk.source(1, depth=8), desk.source(2, depth=8)
    blocks = desk.fill(slow)
    assert len(blocks) == 8
    desk.now = 5.0
    stolen = desk.fill(quick)
    assert stolen == blocks[4:], "the far half of the queue"
    for block in stolen:
        desk.give(quick, block)
    assert desk.ledger.cancels() == [(slow, block) for block in stolen]
    assert len(slow.asked) == 4
    desk.give(slow, stolen[0])  # it was on its way already
    assert desk.ledger.wasted_bytes == B
    assert slow.unasked == 0


def test_who_is_nearly_done_keeps_his_blocks() -> None:
    desk = Desk(pieces=1, last=4 * B)
    quick, idle = desk.source(1), desk.source(2)
    blocks = desk.fill(quick)
    quick.meter.rate = 4 * B / STEAL_ETA_S * 2
    assert desk.fill(idle) == []
    desk.now = 2.0  # it was expected long ago
    assert desk.fill(idle) == blocks[2:]


def test_who_found_nothing_to_double_looks_again_a_little_later() -> None:
    desk = Desk(pieces=1, last=4 * B)
    slow, idle = desk.source(1), desk.source(2)
    blocks = desk.fill(slow)
    assert desk.fill(idle) == []
    slow.meter.rate = 1.0
    desk.now = SEEK_EVERY_S / 2
    assert desk.fill(idle) == []
    desk.now = SEEK_EVERY_S
    assert desk.fill(idle) == blocks[2:]


def test_blocks_that_were_not_asked_for_are_waste_and_then_a_breach() -> None:
    desk = Desk()
    source = desk.source()
    for _ in range(r.MAX_UNASKED):
        desk.give(source, (0, 0, B))
    assert desk.ledger.wasted_bytes == r.MAX_UNASKED * B
    with pytest.raises(ProtocolError):
        desk.give(source, (0, 0, B))


@pytest.mark.parametrize("length", [0, 1, B - 1, B])
def test_a_block_of_another_length_is_a_breach(length: int) -> None:
    desk = Desk(pieces=1, last=100)
    source = desk.source()
    assert desk.fill(source) == [(0, 0, 100)]
    if length == B:
        desk = Desk(pieces=1, last=B)
        source = desk.source()
        desk.fill(source)
        length = B - 2
    with pytest.raises(ProtocolError):
        desk.give(source, (0, 0, length))


def test_a_block_longer_than_its_piece_cannot_overflow_it() -> None:
    desk = Desk(pieces=1, last=100)
    source = desk.source()
    desk.fill(source)
    with pytest.raises(ProtocolError):
        desk.give(source, (0, 0, B))


def test_who_gave_a_wrong_piece_alone_is_named_at_once() -> None:
    desk = Desk(pieces=1, last=4 * B)
    source = desk.source()
    desk.give_all(source, desk.fill(source))
    assert desk.ledger.stored(0, False) == [source]
    assert desk.picker.missing == desk.picker.full
    assert desk.ledger.wasted_bytes == 4 * B


def test_of_several_who_gave_a_wrong_piece_the_liar_is_found_by_fetching_it_from_one() -> None:
    desk = Desk(pieces=1, last=4 * B)
    liar, honest = desk.source(1, depth=2), desk.source(2, depth=2)
    lies, truth = desk.fill(liar), desk.fill(honest)
    assert len(lies) == len(truth) == 2
    desk.give_all(liar, lies, 1)
    assert len(desk.give_all(honest, truth, 0)) == 1
    assert desk.ledger.stored(0, False) == []
    # Now one has it alone: the other gets nothing of it, not in the end game either.
    honest.depth = liar.depth = 4
    again = desk.fill(honest)
    assert len(again) == 4
    desk.now = 30.0
    assert desk.fill(liar) == []
    desk.give_all(honest, again, 0)
    assert desk.ledger.stored(0, True) == [liar]


def test_a_piece_fetched_alone_begins_anew_with_another_source() -> None:
    desk = Desk(pieces=1, last=4 * B)
    liar, honest = desk.source(1, depth=2), desk.source(2, depth=2)
    desk.give_all(liar, desk.fill(liar), 1)
    desk.give_all(honest, desk.fill(honest), 0)
    desk.ledger.stored(0, False)
    liar.depth = honest.depth = 4
    for block in desk.fill(liar)[:3]:
        desk.give(liar, block, 1)
    desk.ledger.leave(liar)
    again = desk.fill(honest)
    assert len(again) == 4
    desk.give(liar, (0, 3 * B, B), 1)  # late, and from the wrong one
    (job,) = desk.give_all(honest, again, 0)
    assert bytes(job.data) == bytes(4 * B)


def test_memory_is_bounded_and_a_stranded_piece_gives_way() -> None:
    desk = Desk(pieces=10, max_open_bytes=3 * 4 * B)
    halves = [desk.source(n, depth=4, has=desk.picker.bit(n)) for n in range(3)]
    for half in halves:
        desk.give(half, desk.fill(half)[0])
        desk.ledger.leave(half)
    assert len(desk.picker.indices(desk.picker.open)) == 3
    other = desk.source(9, depth=4, has=desk.picker.bit(5))
    assert [index for index, _, _ in desk.fill(other)] == [5] * 4
    assert len(desk.picker.indices(desk.picker.open)) == 3
    assert desk.ledger.wasted_bytes == B


def test_what_can_be_gone_on_with_comes_before_what_must_be_given_up_for_it() -> None:
    desk = Desk(pieces=10, max_open_bytes=2 * 4 * B)
    stranded = desk.source(1, depth=1, has=desk.picker.bit(0))
    desk.give(stranded, desk.fill(stranded)[0])
    desk.ledger.leave(stranded)
    slow = desk.source(2, depth=1, has=desk.picker.bit(1))
    assert desk.fill(slow) == [(1, 0, B)]
    other = desk.source(3, depth=3, has=desk.picker.full & ~desk.picker.bit(0))
    assert [index for index, _, _ in desk.fill(other)] == [1] * 3
    assert desk.ledger.wasted_bytes == 0


def test_small_pieces_are_asked_for_with_their_neighbours() -> None:
    desk = Desk(pieces=1024, blocks=1, last=100)
    stretch = r.STRETCH_BYTES // B
    source = desk.source(depth=stretch + 10)
    indices = [index for index, _, _ in desk.fill(source)]
    assert len(set(indices)) == len(indices) == stretch + 10
    assert indices[:stretch] == list(range(indices[0], indices[0] + stretch))
    assert indices[0] % stretch == 0
    assert indices[stretch:] == list(range(indices[stretch], indices[stretch] + 10)), "no more than it is asked for"
    assert desk.picker.open.bit_count() == stretch + 10
    jobs = desk.give_all(source, [(index, 0, desk.sizes[index]) for index in indices])
    assert desk.ledger.all_stored([job.index for job in jobs]) == []
    assert desk.picker.done == desk.picker.joint(indices)
    new = desk.source(2, depth=100)
    new.proven = False
    assert len(desk.fill(new)) == MAX_UNPROVEN


def test_sources_share_what_may_be_open_until_their_rates_are_known() -> None:
    desk = Desk(pieces=2000, max_open_bytes=1000 * 4 * B)
    sources = [desk.source(number, depth=MAX_DEPTH) for number in range(10)]
    for source in sources:
        source.restart()
        for _ in range(8):
            desk.fill(source)
            landed(desk, source, most=32)
            desk.ledger.all_stored([job.index for job in desk.ledger.jobs()])
        assert source.depth == 200, "of 1,000 pieces that may be open half the blocks, to ten"
    for source in sources:
        source.meter.rate = 400.0 * B
    assert desk.ledger.queue_s() == 0.5
    for source in sources[1:]:
        desk.ledger.leave(source)
    assert sources[0].share == 2000
    assert desk.ledger.queue_s() == QUEUE_S


def test_the_depth_doubles_while_the_rate_follows_and_then_fits_it() -> None:
    source = Source(Endpoint("80.0.0.1", 1), 0.0)
    source.limit = MAX_DEPTH
    now = 0.0
    for rate in (50, 100, 200, 400):
        source.meter.total += rate * B
        source.depth += 50  # as the ledger does for each block
        before = source.depth
        now += 1.0
        source.measure(now)
        assert source.depth == before
    for _ in range(10):
        source.meter.total += 400 * B
        now += 1.0
        source.measure(now)
    assert 700 < source.depth < 900
    source.meter.total += 10**10
    source.measure(now + 1.0)
    assert source.depth == MAX_DEPTH
    source.restart()
    assert source.growing
    assert source.depth < 100


def landed(desk: Desk, source: Source, most: int = 100, byte: int = 5) -> int:
    """The next blocks come straight to where they belong; how many did."""
    landing = desk.ledger.landing(source, 0, most)
    if landing is None:
        return 0
    for view in landing.views:
        view[:] = bytes([byte]) * B
    desk.ledger.landed(source, Landed(landing.blocks, landing.views), desk.now)
    return len(landing.blocks)


def test_blocks_that_land_make_pieces_whole() -> None:
    desk = Desk(last=4 * B)
    source = desk.source()
    asked = desk.fill(source)
    assert landed(desk, source, most=6) == 6
    assert [job.data[0] for job in desk.ledger.jobs()] == [5]
    assert landed(desk, source) == len(asked) - 6
    jobs = desk.ledger.jobs()
    assert len(jobs) == 3
    assert all(bytes(job.data) == bytes([5]) * 4 * B for job in jobs)
    assert source.meter.total == len(asked) * B
    assert not source.asked


def test_a_short_block_does_not_land() -> None:
    desk = Desk(pieces=1, blocks=2, last=B + 100)
    source = desk.source()
    desk.fill(source)
    assert landed(desk, source) == 1
    assert landed(desk, source) == 0
    desk.give(source, (0, B, 100))
    assert [len(job.data) for job in desk.ledger.jobs()] == [B + 100]


def test_what_two_were_asked_for_lands_with_neither() -> None:
    desk = Desk(pieces=1, last=4 * B)
    slow, fast = desk.source(1), desk.source(2)
    desk.fill(slow)
    desk.now += STEAL_ETA_S + 1
    stolen = desk.fill(fast)
    assert stolen
    assert desk.ledger.landing(fast, 0, 10) is None
    assert landed(desk, slow) == 4 - len(stolen)


def test_what_was_taken_back_meanwhile_counts_as_late() -> None:
    desk = Desk(pieces=1, last=4 * B)
    source = desk.source()
    desk.fill(source)
    landing = desk.ledger.landing(source, 0, 4)
    assert landing is not None
    desk.ledger.withdraw(source, 0)
    for view in landing.views:
        view[:] = bytes([6]) * B
    desk.ledger.landed(source, Landed(landing.blocks, landing.views), desk.now)
    (job,) = desk.ledger.jobs()
    assert bytes(job.data) == bytes([6]) * 4 * B
    assert source.unasked == 0


def suspected(desk: Desk) -> tuple[Source, Source]:
    """Two sources that gave a wrong piece together: it is to be fetched of one alone."""
    one, other = desk.source(1), desk.source(2)
    blocks = desk.fill(one)
    for block in blocks[:-1]:
        desk.give(one, block)
    desk.ledger.reject(one, *blocks[-1][:2])
    assert desk.fill(other) == blocks[-1:]
    desk.give(other, blocks[-1], 1)
    assert desk.ledger.stored(desk.ledger.jobs()[0].index, False) == []
    return one, other


@pytest.mark.parametrize("how", ["all of it at once", "a block at a time"])
def test_what_the_one_source_of_a_suspected_piece_rejects_is_asked_of_another(how: str) -> None:
    desk = Desk(pieces=1, last=4 * B)
    one, other = suspected(desk)
    one.depth = 4 if how == "all of it at once" else 1
    blocks = desk.fill(one)
    if how == "a block at a time":
        for _ in range(3):
            desk.give(one, blocks[-1])
            blocks += desk.fill(one)
    assert len(blocks) == 4
    assert desk.fill(other) == [], "it is to be fetched of one alone"
    assert desk.ledger.reject(one, *blocks[3][:2])
    assert [source for source, _ in desk.ledger.cancels()] == [one] * len(set(blocks[:3]) - given(desk, one))
    assert sorted(desk.fill(other)) == sorted(blocks)
    for block in blocks:
        desk.give(one, block)  # on its way already: not mixed with the other's
    assert len(desk.give_all(other, blocks)) == 1


def test_who_alone_has_a_suspected_piece_is_asked_again_for_what_it_rejected_and_that_alone() -> None:
    desk = Desk(pieces=1, last=4 * B)
    one, other = suspected(desk)
    desk.ledger.leave(other)
    blocks = desk.fill(one)
    for block in blocks[:3]:
        desk.give(one, block)
    assert desk.ledger.reject(one, *blocks[3][:2])
    assert desk.fill(one) == blocks[3:]
    assert len(desk.give_all(one, blocks[3:])) == 1


def given(desk: Desk, source: Source) -> set[BlockId]:
    return {
        piece.block(number)
        for piece in desk.ledger._open.values()
        for number, giver in enumerate(piece.given)
        if giver is source
    }
