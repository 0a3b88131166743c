"""Whatever sources do: each piece is in one state, each block is free, asked or given, and all comes in the end."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.examples import examples
from wire.compact import Endpoint
from wire.peer.messages import BLOCK_BYTES as B
from wire.swarm.picker import Picker
from wire.swarm.requests import MAX_URGENT_EXTRA, PieceJob
from wire.swarm.source import Source
from wire.swarm.urgent import Urgent


def right(index: int, begin: int, length: int) -> bytes:
    return bytes([index * 7 + begin // B & 255]) * length


class Ledger(RuleBasedStateMachine):
    @initialize(pieces=st.integers(1, 9), blocks=st.integers(1, 4), last=st.integers(1, 4 * B), seed=st.integers(0, 99))
    def begin(self, pieces: int, blocks: int, last: int, seed: int) -> None:
        self.length = blocks * B
        self.sizes = [self.length] * (pieces - 1) + [min(last, self.length)]
        self.rng = random.Random(seed)
        self.picker = Picker(pieces, self.rng)
        self.ledger = Urgent(self.picker, lambda i: self.sizes[i], self.length, max_open_bytes=3 * self.length)
        self.sources: list[Source] = []
        self.joined: dict[Source, None] = {}  # in their order: a set's would be another in each process
        self.liars: set[Source] = set()
        self.jobs: list[PieceJob] = []
        self.now = 0.0
        self.counted = 0
        self.sought = False

    def pick(self, data: st.DataObject, among: list[Source]) -> Source:
        return among[data.draw(st.integers(0, len(among) - 1))]

    @rule(some=st.integers(0), lies=st.booleans(), depth=st.integers(1, 12))
    def join(self, some: int, lies: bool, depth: int) -> None:
        if len(self.sources) >= 6:
            return
        source = Source(Endpoint(f"80.0.0.{len(self.sources)}", 1), self.now)
        source.has = some & self.picker.full if some % 3 else self.picker.full
        source.depth = source.limit = depth
        source.answers_cancels = bool(depth % 2)
        self.picker.joined(source.has)
        self.ledger.join(source)
        self.sources.append(source)
        self.joined[source] = None
        if lies and len(self.liars) < 3:
            self.liars.add(source)

    @precondition(lambda self: self.sources)
    @rule(data=st.data(), back=st.booleans())
    def choke_or_unchoke(self, data: st.DataObject, back: bool) -> None:
        source = self.pick(data, self.sources)
        if back:
            self.ledger.join(source)
            self.joined[source] = None
        else:
            self.ledger.leave(source)
            self.joined.pop(source, None)

    @precondition(lambda self: self.joined)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        source = self.pick(data, [s for s in self.sources if s in self.joined])
        before = set(source.asked)
        for index, begin, length in self.ledger.fill(source, self.now):
            assert source.has & self.picker.bit(index)
            assert begin % B == 0
            assert 0 < length <= B
            assert begin + length <= self.sizes[index]
            assert index << 32 | begin not in before
        assert len(source.asked) <= max(source.depth, len(before))

    @rule(data=st.data(), most=st.integers(1, 12), whole=st.booleans())
    def web_seed(self, data: st.DataObject, most: int, whole: bool) -> None:
        web = next((s for s in self.sources if s.endpoint is None), None)
        if web is None:
            web = Source(None, self.now)
            web.has = self.picker.full
            self.sources.append(web)
        self.ledger.join(web)
        self.joined[web] = None
        index = data.draw(st.integers(0, len(self.sizes) - 1))
        if whole and len(self.ledger._open) + len(self.ledger._storing) < self.ledger._max_open:
            claimed = self.ledger.claim(web, index, self.now)
            assert claimed <= (index in self.ledger._open)
        else:
            before = len(web.asked)
            runs = self.ledger.fill_run(web, most, self.now)
            asked = [(index, at) for index, begin, length in runs for at in range(begin, begin + length, B)]
            assert len(asked) == len(set(asked)) == len(web.asked) - before <= most
            assert all(index << 32 | at in web.asked for index, at in asked)

    @precondition(lambda self: any(s.asked or s.late for s in self.sources))
    @rule(data=st.data(), count=st.integers(1, 6), late=st.booleans())
    def give(self, data: st.DataObject, count: int, late: bool) -> None:
        source = self.pick(data, [s for s in self.sources if s.asked or s.late])
        for key in list(source.late if late and source.late else source.asked)[:count]:
            index, begin = key >> 32, key & 0xFFFFFFFF
            length = min(B, self.sizes[index] - begin)
            block = right(index, begin, length)
            if source in self.liars:
                block = bytes(byte ^ 255 for byte in block)
            self.ledger.take(source, index, begin, memoryview(block), self.now)
        for other, (index, begin, _) in self.ledger.cancels():
            assert index << 32 | begin not in other.asked
        self.jobs += self.ledger.jobs()

    @precondition(lambda self: any(s.asked for s in self.sources))
    @rule(data=st.data(), most=st.integers(1, 5))
    def fill_room(self, data: st.DataObject, most: int) -> None:
        source = self.pick(data, [s for s in self.sources if s.asked])
        keys = list(source.asked)
        key = keys[data.draw(st.integers(0, len(keys) - 1))]
        index, begin = key >> 32, key & 0xFFFFFFFF
        view = self.ledger.room(source, index, begin, most)
        if view is None:
            return
        size = self.sizes[index]
        assert 0 < len(view) <= min(most * B, size - begin)
        assert len(view) % B == 0 or begin + len(view) == size
        data_ = b"".join(right(index, at, min(B, size - at)) for at in range(begin, begin + len(view), B))
        view[:] = bytes(byte ^ 255 for byte in data_) if source in self.liars else data_
        before = source.meter.total
        self.ledger.filled(source, index, begin, len(view), self.now)
        assert source.meter.total == before + len(view)
        assert not any(index << 32 | at in source.asked for at in range(begin, begin + len(view), B))
        self.jobs += self.ledger.jobs()

    @precondition(lambda self: any(s.asked for s in self.sources))
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        source = self.pick(data, [s for s in self.sources if s.asked])
        key = next(iter(source.asked))
        was_late = source.answers_cancels and key in source.late
        assert self.ledger.reject(source, key >> 32, key & 0xFFFFFFFF) is not was_late
        assert (key in source.asked) is was_late

    @precondition(lambda self: self.joined)
    @rule(data=st.data(), in_s=st.floats(0.0, 3.0))
    def seek(self, data: st.DataObject, in_s: float) -> None:
        index = data.draw(st.integers(0, len(self.sizes) - 1))
        if self.picker.bit(index) & self.picker.left:
            self.ledger.deadlines.set({index: self.now + in_s}, self.now)
            self.ledger.make_way(self.now)
            for source, blocks in self.ledger.divide(self.now).items():
                assert source in self.joined
                assert len(source.asked) <= source.depth
                assert all(source.has & self.picker.bit(index) for index, _, _ in blocks)
            self.sought = True

    @rule(seconds=st.floats(0.1, 70.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for source in self.sources:
            source.measure(self.now)
            self.ledger.overdue(source, self.now)

    def is_right(self, job: PieceJob) -> bool:
        size = self.sizes[job.index]
        return bytes(job.data) == b"".join(right(job.index, at, min(B, size - at)) for at in range(0, size, B))

    @precondition(lambda self: self.jobs)
    @rule()
    def store(self) -> None:
        job = self.jobs.pop(0)
        for liar in self.ledger.stored(job.index, self.is_right(job)):
            assert liar in self.liars, "an honest source was blamed"
            self.ledger.leave(liar)

    @invariant()
    def each_piece_is_in_one_state(self) -> None:
        picker, ledger = self.picker, self.ledger
        assert picker.missing & picker.open == picker.missing & picker.done == picker.open & picker.done == 0
        assert picker.missing | picker.open | picker.done == picker.full
        assert set(picker.indices(picker.open)) == set(ledger._open) | set(ledger._storing)
        assert not set(ledger._open) & set(ledger._storing)
        assert len(ledger._open) + len(ledger._storing) <= ledger._max_open + (MAX_URGENT_EXTRA if self.sought else 0)
        assert {job.index for job in self.jobs} == set(ledger._storing)

    @invariant()
    def each_block_is_in_one_state(self) -> None:
        for index, piece in self.ledger._open.items():
            assert piece.left == sum(giver is None for giver in piece.given) > 0
            assert len(set(piece.free)) == len(piece.free)
            for number, giver in enumerate(piece.given):
                askers = [s for s in self.sources if index << 32 | number * B in s.asked]
                assert (giver is not None) + (number in piece.free) + bool(askers) == 1
                assert set(askers) <= self.joined.keys()
                assert not piece.alone or set(askers) <= {piece.owner}, "asked for what it may not give"
                if number in piece.doubled:
                    assert set(piece.doubled[number]) == set(askers)
                else:
                    assert len(askers) <= 1
            if piece.alone:
                givers = {giver for giver in piece.given if giver is not None}
                assert len(givers) <= 1
            if piece.free and not piece.loose and not piece.orphan:
                assert piece.owner is not None
                assert piece in piece.owner.own, "blocks that nobody will ask for"

    @invariant()
    def whoever_is_honest_can_finish_it(self) -> None:
        self.counted += 1
        if self.counted % 25:
            return
        honest = Source(Endpoint("80.0.1.1", 1), self.now)
        honest.has = self.picker.full
        for source in list(self.joined):
            self.ledger.leave(source)
        self.joined.clear()
        self.ledger.join(honest)
        for _ in range(500):
            while self.jobs:
                self.store()
            if not self.picker.left:
                break
            self.now += 0.1
            for index, begin, length in self.ledger.fill(honest, self.now):
                self.ledger.take(honest, index, begin, memoryview(right(index, begin, length)), self.now)
            self.jobs += self.ledger.jobs()
        assert not self.picker.left
        self.ledger.leave(honest)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=examples(60), stateful_step_count=60)
