"""What to ask of whom next: own pieces first, the urgent before all, the end game last (BEP 3). No connections here.

A source works through pieces of its own, so that most pieces come from one peer and a wrong one has a name to it
(`blame`). What was asked and what came is kept in `ledger`; how a reader's place is reached at once, in `urgent`.
"""

from __future__ import annotations

from collections.abc import Iterable

from wire.peer.messages import BLOCK_BYTES
from wire.swarm.ledger import Ledger, block_key
from wire.swarm.pieces import BlockId, OpenPiece, PieceJob
from wire.swarm.source import Source

__all__ = ["PieceJob", "Requests"]

MAX_UNPROVEN = 3
"""Pieces at work or unjudged of a peer whose data was not found right yet: so many a liar can spoil."""
MAX_URGENT_EXTRA = 8
"""Pieces that somebody waits for may be opened beyond the bound of all buffers."""
RELIEF_WAIT_S = 0.5
"""A queue that takes so long is too long while somebody else is idle; half of that is left to it."""
RELIEF_EVERY_S = 0.25
"""An idle source looks for others' work so often: it looks through queues."""
RELIEF_LOOKS = 4
"""Queues looked through, the longest first."""
STEAL_BELOW = 4
"""Who has so many blocks outstanding has work of his own still."""
HASTE_S = 0.5
"""Who gives a block of a piece that is waited for so much sooner is asked for it too."""
SEEK_EVERY_S = 0.1
"""Who found nothing to double looks again so often: it looks through all queues."""
STEAL_ETA_S = 0.5
"""Who is done sooner than this keeps his blocks in the end game."""


class Requests(Ledger):
    """Chooses the blocks that each source is asked for, and counts them as asked."""

    # --- asking

    def fill(self, source: Source, now: float) -> list[BlockId]:
        """What to ask of a source now, so that it has work and no more than its depth. Counted as asked."""
        asked = source.asked
        room = source.depth - len(asked)
        if room <= 0 or (asked and room < min(32, source.depth >> 2)):
            return []  # few at a time would cost a message each
        batch = self._hasten(source, room, now) if self.deadlines.pieces else []
        room -= len(batch)
        while room > 0:
            piece = self._begun_piece(source)
            if piece is None:
                if new := self._ask_new(source, room, batch, now):
                    room -= new
                    continue
                piece = self._loose_piece(source)
                if piece is None:
                    break
            room -= self._ask(source, piece, room, batch, now)
        if not batch and len(asked) < STEAL_BELOW:
            batch = self._relieve(source, room, now) or self._steal(source, room, now)
        return batch

    def _ask(self, source: Source, piece: OpenPiece, most: int, batch: list[BlockId], now: float) -> int:
        numbers = self._ask_for(source, piece, most, now)
        batch.extend([piece.block(number) for number in numbers])
        return len(numbers)

    def _ask_for(self, source: Source, piece: OpenPiece, most: int, now: float) -> list[int]:
        """Asks for so many blocks of a piece: their numbers."""
        free = piece.free
        numbers = free[: -most - 1 : -1]
        del free[-most:]
        base = piece.index << 32
        source.asked.update(dict.fromkeys([base | number << 14 for number in numbers], now))
        if not free:
            self._mark(piece)
        return numbers

    def _ask_new(self, source: Source, room: int, batch: list[BlockId], now: float) -> int:
        """Opens pieces that nobody fetches yet, small ones with their neighbours, and asks for their blocks."""
        picker = self._picker
        askable = self._believed(source)
        missing = picker.missing & askable
        if not missing or not (places := self._places_for_new(askable)):
            return 0
        blocks = self._blocks
        most = min(self._stretch, places, -(-room // blocks))
        if not source.proven:
            most = min(most, MAX_UNPROVEN - len(self._unjudged(source)))
        count = 0
        for index in picker.pick_near(picker.advised(missing, source.suggested), self._stretch, most):
            piece = self._opened(index)
            if blocks > 1 and len(piece.free) > room - count:
                count += self._ask(source, self._adopt(source, piece), room - count, batch, now)
                continue
            # All of it at once: it is never loose, nor an orphan, unless something comes back.
            piece.owner = source
            if blocks == 1:
                batch.append((index, 0, piece.size))
                source.asked[index << 32] = now
            else:
                for number in reversed(piece.free):
                    batch.append(piece.block(number))
                    source.asked[index << 32 | number * BLOCK_BYTES] = now
            count += len(piece.free)
            piece.free.clear()
        return count

    # --- web seeds (BEP 19)

    def fill_run(self, source: Source, most: int, now: float) -> list[BlockId]:
        """As `fill`, up to `most` blocks, of neighbouring pieces as far as there are such.

        Blocks that lie end to end in a piece are told as one.
        """
        runs: list[BlockId] = []
        while most > 0:
            piece = self._next_piece(source)
            if piece is None:
                break
            numbers = self._ask_for(source, piece, most, now)
            most -= len(numbers)
            runs += _runs(piece, numbers)
            source.suggested = self._picker.span(range(piece.index + 1, min(piece.index + 2, self._picker.piece_count)))
        if not runs and len(source.asked) < STEAL_BELOW:
            runs = self._steal(source, most, now)
        return runs

    def claim(self, source: Source, index: int, now: float) -> bool:
        """Asks for all that is left of one piece, if it is nobody else's."""
        bit = self._picker.bit(index)
        if bit & self._picker.missing:
            self._picker.open_one(index)
            piece = self._opened(index)
        elif bit & self._orphans:
            piece = self._open[index]
        else:
            return False
        self._ask(source, self._adopt(source, piece), len(piece.free), [], now)
        return True

    def is_unproven(self, source: Source) -> bool:
        """Whether so much of it waits for its judgement that a source without merits is asked for nothing more."""
        return len(self._unjudged(source)) >= MAX_UNPROVEN

    @property
    def orphans(self) -> int:
        """The set of open pieces with free blocks that are nobody's own."""
        return self._orphans

    def _next_piece(self, source: Source) -> OpenPiece | None:
        piece = self._begun_piece(source)
        if piece is None:
            picker = self._picker
            askable = self._believed(source)
            missing = picker.missing & askable
            if missing and self._places_for_new(askable):
                index = picker.pick(picker.advised(missing, source.suggested), in_runs=True)
                if index is not None:
                    return self._adopt(source, self._opened(index))
            piece = self._loose_piece(source)
        return piece

    def _begun_piece(self, source: Source) -> OpenPiece | None:
        """What somebody waits for, else what it has begun, else what somebody else has left."""
        picker = self._picker
        askable = self._believed(source)
        if self.deadlines.pieces & askable & self._unasked:
            piece = self._urgent_piece(askable)
            if piece is not None:
                return self._adopt(source, piece) if piece.alone else piece
        own = source.own
        while own:
            piece = own[-1]
            if piece.free and piece.owner is source and self._open.get(piece.index) is piece:
                return piece
            own.pop()
        orphans = self._orphans & askable
        if orphans:
            return self._adopt(source, self._open[picker.first(orphans)])
        return None

    def _loose_piece(self, source: Source) -> OpenPiece | None:
        loose = self._loose & self._believed(source)
        return self._open[self._picker.first(loose)] if loose else None

    def _places_for_new(self, askable: int) -> int:
        """How many pieces may be opened; one is given up for the sake of another where it must be."""
        free = self._max_open - len(self._open) - len(self._storing)
        if free <= 0 and not self._loose & askable:
            return int(self._evict(askable))
        return max(free, 0)

    def _believed(self, source: Source) -> int:
        """The pieces that a source may be asked for now: few at a time until something from it was right."""
        askable = source.askable
        if not source.proven and len(unjudged := self._unjudged(source)) >= MAX_UNPROVEN:
            askable &= self._set_of(unjudged)
        return askable

    def _opened(self, index: int) -> OpenPiece:
        piece = self._open[index] = OpenPiece(index, self._piece_size(index), alone=index in self.blame.suspects)
        return piece

    def _unjudged(self, source: Source) -> set[int]:
        """Pieces that it works at, or that wait for their judgement with data from here."""
        found = {key >> 32 for key in source.asked}
        found.update(piece.index for piece in source.own if self._open.get(piece.index) is piece)
        found.update(index for index, piece in self._storing.items() if source in piece.given)
        return found

    def _set_of(self, pieces: Iterable[int]) -> int:
        whole = 0
        for index in pieces:
            whole |= self._picker.bit(index)
        return whole

    # --- what somebody waits for

    @property
    def _unasked(self) -> int:
        """The set of pieces with blocks that are asked of nobody, and that another than now may be asked for."""
        return self._picker.missing | self._loose | self._orphans

    def _urgent_piece(self, askable: int) -> OpenPiece | None:
        """The soonest needed piece with blocks to ask for, if there is one; see `_open_urgent`."""
        picker = self._picker
        for index in self.deadlines.order():
            if picker.bit(index) & askable and (piece := self._open_urgent(index)) is not None:
                return piece
        return None

    def _open_urgent(self, index: int) -> OpenPiece | None:
        """A piece that is needed, if anybody may be asked for blocks of it; opened where it is not. What is `alone`
        must be adopted first: nobody else's blocks are taken.
        """
        picker, bit = self._picker, self._picker.bit(index)
        if bit & (self._loose | self._orphans):
            return self._open[index]
        if bit & picker.missing and len(self._open) + len(self._storing) < self._max_open + MAX_URGENT_EXTRA:
            picker.open_one(index)
            piece = self._opened(index)
            self._mark(piece)
            return piece
        return None

    def _hasten(self, source: Source, room: int, now: float) -> list[BlockId]:
        """Asks a second time for what is left of the piece that is waited for: what others would give later than this
        one; right after a seek all, the slowest one's first. Who is slow, or lets others wait for his turn, is outrun.
        """
        index = self.deadlines.awaited(now)
        piece = None if index is None else self._open.get(index)
        if piece is None or piece.free or piece.alone or source.snubbed:
            return []
        if not self._picker.bit(piece.index) & source.askable:
            return []
        soon_s = HASTE_S + (len(source.asked) + 1) / source.blocks_s if index != self.deadlines.sought else 0.0
        waits = [(other.promise_s(now), other) for other in self._sources if other is not source and other.asked]
        batch: list[BlockId] = []
        for _, other in sorted((wait for wait in waits if wait[0] > soon_s), key=lambda wait: -wait[0]):
            for key in other.asked:
                number = (key & 0xFFFFFFFF) // BLOCK_BYTES
                if key >> 32 != piece.index or number in piece.doubled or key in source.asked:
                    continue
                if len(batch) == room:
                    return batch
                piece.doubled[number] = [other, source]
                source.asked[key] = now
                batch.append(piece.block(number))
        return batch

    def _adopt(self, source: Source, piece: OpenPiece) -> OpenPiece:
        if piece.alone and any(giver not in (None, source) for giver in piece.given):
            self.wasted_bytes += (len(piece.given) - piece.left) * BLOCK_BYTES
            piece.reset()  # the former owner's blocks must not mix with ours
        piece.owner = source
        source.own.append(piece)
        self._mark(piece)
        return piece

    def _evict(self, unless: int) -> bool:
        """Gives up a piece that nobody works on and that this source cannot go on with; for the sake of a new one."""
        picker = self._picker
        if not picker.open & ~unless:
            return False
        idle = [
            piece
            for index, piece in self._open.items()
            if len(piece.free) == piece.left and not picker.bit(index) & unless
        ]
        if not idle:
            return False
        piece = max(idle, key=lambda piece: piece.left)
        self.wasted_bytes += (len(piece.given) - piece.left) * BLOCK_BYTES
        self._close(piece)
        self._recycle(piece)
        picker.reopen(piece.index)
        return True

    def _relieve(self, source: Source, room: int, now: float) -> list[BlockId]:
        """Takes the far end of a long queue back for a source that has nothing to do, so that it is not asked twice.

        Who answers a cancel (BEP 6) is waited for, so that no block comes twice; what others owe is asked for at once.
        """
        if source.asked or source.snubbed or now - source.relieved_at < RELIEF_EVERY_S:
            return []
        picker = self._picker
        able = self._believed(source) & picker.open
        if not able:
            return []
        source.relieved_at = now
        queues = [(other.wait_s(now), other) for other in self._sources if other.may_be_relieved(now)]
        queues = [queue for queue in queues if queue[0] > RELIEF_WAIT_S]
        queues.sort(key=lambda queue: -queue[0])
        for wait_s, other in queues[:RELIEF_LOOKS]:
            keys: list[int] = []
            surplus = len(other.asked) * (1.0 - RELIEF_WAIT_S / 2 / wait_s) - len(other.recalled)
            most = min(room, int(surplus), (len(other.asked) + 1) // 2)
            for key in reversed(other.asked):
                if len(keys) >= most:
                    break
                piece = self._open.get(key >> 32)
                if piece is None or piece.alone or key in other.recalled or not picker.bit(piece.index) & able:
                    continue
                if (key & 0xFFFFFFFF) // BLOCK_BYTES not in piece.doubled:
                    keys.append(key)
            if keys:
                return self._recall(other, keys[::-1], source, now)
        return []

    def _recall(self, of: Source, keys: list[int], to: Source, now: float) -> list[BlockId]:
        batch = []
        of.recalled_at = now
        for key in keys:
            block = self._open[key >> 32].block((key & 0xFFFFFFFF) // BLOCK_BYTES)
            self._cancels.append((of, block))
            if of.answers_cancels:
                of.recalled[key] = to
            else:
                of.take_back(key)
                to.asked[key] = now
                batch.append(block)
        self._forget_late(of)
        return batch

    def _steal(self, source: Source, room: int, now: float) -> list[BlockId]:
        """The end game: asks again for what others were asked for, from the far end of the slowest one's queue."""
        picker = self._picker
        if source.snubbed or now - source.sought_at < SEEK_EVERY_S:
            return []
        if not picker.open & source.askable or picker.missing & picker.with_anybody:
            return []  # before the end, doubled requests only take the line from others
        best: tuple[float, Source] | None = None
        for other in self._sources:
            if other is source or not other.asked:
                continue
            silent = now - max(other.last_block_at, next(iter(other.asked.values())))
            rate = max(other.meter.rate, other.meter.latest) / BLOCK_BYTES
            eta_s = max(silent, len(other.asked) / rate if rate > 0.0 else 0.0)
            if eta_s >= STEAL_ETA_S and (best is None or eta_s > best[0]):
                best = (eta_s, other)
        if best is None:
            source.sought_at = now
            return []
        victim = best[1]
        room = min(room, (len(victim.asked) + 1) // 2)
        batch: list[BlockId] = []
        for key in reversed(victim.asked):
            if len(batch) >= room:
                break
            index, begin = key >> 32, key & 0xFFFFFFFF
            piece = self._open.get(index)
            if piece is None or piece.alone or key in source.asked or not picker.bit(index) & source.askable:
                continue
            number = begin // BLOCK_BYTES
            askers = piece.doubled.setdefault(number, [victim])
            if len(askers) > 1 and any(not asker.snubbed for asker in askers if asker is not victim):
                continue  # two at work on a block are enough
            askers.append(source)
            batch.append(piece.block(number))
        if not batch:
            source.sought_at = now
        batch.reverse()
        for index, begin, _ in batch:
            source.asked[block_key(index, begin)] = now
        return batch


def _runs(piece: OpenPiece, numbers: list[int]) -> list[BlockId]:
    """Blocks of a piece in their order, those that lie end to end as one."""
    first, last = numbers[0], numbers[-1]
    if numbers != list(range(first, last + 1)):  # some were taken back and are free again
        return [piece.block(number) for number in numbers]
    begin = first * BLOCK_BYTES
    return [(piece.index, begin, min((last + 1) * BLOCK_BYTES, piece.size) - begin)]
