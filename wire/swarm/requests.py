"""The ledger of blocks: what was asked of whom, what came, what is asked again (BEP 3). No connections here.

Each block of an open piece is in exactly one state: free, asked (of one source, in the end game of more), or
given. A source works through pieces of its own, so that most pieces come from one peer and a wrong one has a
name to it (`blame`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wire.errors import ProtocolError
from wire.peer.messages import BLOCK_BYTES
from wire.swarm.blame import Blame
from wire.swarm.deadlines import Deadlines
from wire.swarm.picker import Picker
from wire.swarm.pieces import BlockId, OpenPiece, PieceJob
from wire.swarm.source import Source

__all__ = ["PieceJob", "Requests"]

MAX_OPEN_BYTES = 128 << 20
"""Buffers of all pieces that are being fetched or stored: about what libtorrent lets wait for its disk."""
MIN_OPEN_PIECES = 2
"""However large the pieces are: one arrives while one is stored."""
MAX_POOL_BYTES = 32 << 20
SNUB_S = 20.0
"""No block for so long while some are due: the peer is asked for one at a time and others get the rest."""
REQUEST_TIMEOUT_S = 60.0
MAX_LATE = 4096
"""Blocks taken back that may still come, remembered for each source."""
MAX_UNASKED = 256
"""Blocks that were never asked for, before the peer is dropped: cancels cross blocks on their way, lies do not stop."""
MAX_UNPROVEN = 3
"""Pieces at work or unjudged of a peer whose data was not found right yet: so many a liar can spoil."""
MAX_URGENT_EXTRA = 8
"""Pieces that somebody waits for may be opened beyond the bound of all buffers."""
RESCUES = 4
"""Pieces looked at once a second, of those that somebody waits for."""
STEAL_BELOW = 4
"""Who has so many blocks outstanding has work of his own still."""
STEAL_ETA_S = 0.5
"""Who is done sooner than this keeps his blocks in the end game."""


def _key(index: int, begin: int) -> int:
    return index << 32 | begin


class Requests:
    """The blocks of one torrent. `piece_size` tells a piece's bytes; `picker` says which piece is next."""

    def __init__(
        self,
        picker: Picker,
        piece_size: Callable[[int], int],
        piece_length: int,
        *,
        max_open_bytes: int = MAX_OPEN_BYTES,
    ) -> None:
        self._picker = picker
        self._piece_size = piece_size
        self._piece_length = piece_length
        self._max_open = max(MIN_OPEN_PIECES, max_open_bytes // piece_length)
        self._max_pool = max(1, MAX_POOL_BYTES // piece_length)
        self._open: dict[int, OpenPiece] = {}
        self._storing: dict[int, OpenPiece] = {}
        self._loose = 0
        """The set of open pieces with free blocks that anybody may take."""
        self._orphans = 0
        """The set of open pieces with free blocks that are nobody's own."""
        self._pool: list[bytearray] = []
        self._sources: dict[Source, None] = {}
        self._blame = Blame()
        self.deadlines = Deadlines(picker)
        self._jobs: list[PieceJob] = []
        self._cancels: list[tuple[Source, BlockId]] = []
        self.wasted_bytes = 0
        self.unwritten_bytes = 0
        """Whole pieces that are not stored yet."""

    # --- sources

    def join(self, source: Source) -> None:
        """A source may be asked from now on."""
        self._sources[source] = None

    def __contains__(self, source: Source) -> bool:
        return source in self._sources

    def leave(self, source: Source) -> None:
        """It may not any more: choked, closed. Its blocks are free again."""
        self._sources.pop(source, None)
        self.release(source)

    def release(self, source: Source) -> list[BlockId]:
        """Takes back all that was asked of it, and the pieces that are its own. Returns what should be cancelled."""
        taken = list(source.asked)
        source.asked.clear()
        cancelled = []
        for key in taken:
            index, begin = key >> 32, key & 0xFFFFFFFF
            source.late[key] = None
            piece = self._open.get(index)
            if piece is not None:
                self._give_back(piece, begin // BLOCK_BYTES, source)
                cancelled.append(piece.block(begin // BLOCK_BYTES))
        self._forget_late(source)
        for piece in self._open.values():
            if piece.owner is source:
                piece.owner = None
                self._mark(piece)
        source.own.clear()
        return cancelled

    def _forget_late(self, source: Source) -> None:
        while len(source.late) > MAX_LATE:
            del source.late[next(iter(source.late))]

    def reject(self, source: Source, index: int, begin: int) -> bool:
        """The source will not give this block (BEP 6); False where it was not asked for it."""
        key = _key(index, begin)
        if source.asked.pop(key, None) is None:
            return source.late.pop(key, 0) is None
        piece = self._open.get(index)
        if piece is not None:
            self._give_back(piece, begin // BLOCK_BYTES, source)
        return True

    def disown(self, source: Source) -> None:
        """The source lied: what it gave of pieces that are not whole yet is not believed."""
        for piece in self._open.values():
            for number, giver in enumerate(piece.given):
                if giver is source:
                    piece.given[number] = None
                    piece.free.append(number)
                    piece.left += 1
                    self.wasted_bytes += piece.block(number)[2]
            self._mark(piece)

    def withdraw(self, source: Source, index: int) -> list[BlockId]:
        """Takes back what was asked of a source in one piece, which it has no more; returns what to cancel."""
        blocks = []
        for key in [key for key in source.asked if key >> 32 == index]:
            piece = self._open.get(index)
            del source.asked[key]
            source.late[key] = None
            if piece is not None:
                number = (key & 0xFFFFFFFF) // BLOCK_BYTES
                self._give_back(piece, number, source)
                blocks.append(piece.block(number))
        piece = self._open.get(index)
        if piece is not None and piece.owner is source:
            piece.owner = None
            self._mark(piece)
        self._forget_late(source)
        return blocks

    def _give_back(self, piece: OpenPiece, number: int, source: Source) -> None:
        if piece.given[number] is not None:
            return
        others = piece.doubled.get(number)
        if others is not None:
            others.remove(source)
            if others:
                return
            del piece.doubled[number]
        piece.free.append(number)
        self._mark(piece)

    def _mark(self, piece: OpenPiece) -> None:
        bit = self._picker.bit(piece.index)
        if piece.free and not (piece.alone and piece.owner is not None):
            self._loose |= bit
        else:
            self._loose &= ~bit
        if piece.free and piece.owner is None:
            self._orphans |= bit
        else:
            self._orphans &= ~bit

    def overdue(self, source: Source, now: float) -> list[BlockId] | None:
        """Takes back what a source owes for too long; returns what to cancel, None where it is in time."""
        if not source.asked:
            return None
        oldest = next(iter(source.asked.values()))
        silent = now - max(oldest, source.last_block_at)
        if silent < SNUB_S and now - oldest < REQUEST_TIMEOUT_S:
            return None
        if source.snubbed and now - oldest < REQUEST_TIMEOUT_S:
            return None
        source.snubbed = True
        source.growing = False
        source.depth = 1
        source.timeouts += 1
        return self.release(source)

    # --- asking

    def fill(self, source: Source, now: float) -> list[BlockId]:
        """What to ask of a source now, so that it has work and no more than its depth. Counted as asked."""
        asked = source.asked
        room = source.depth - len(asked)
        if room <= 0 or (asked and room < min(32, source.depth >> 2)):
            return []  # few at a time would cost a message each
        batch: list[BlockId] = []
        while room > 0:
            piece = self._next_piece(source)
            if piece is None:
                break
            free = piece.free
            numbers = free[-room:]
            del free[-room:]
            room -= len(numbers)
            base = piece.index << 32
            batch_before = len(batch)
            batch.extend([piece.block(number) for number in reversed(numbers)])
            for _, begin, _ in batch[batch_before:]:
                asked[base | begin] = now
            if not free:
                self._mark(piece)
        if not batch and len(asked) < STEAL_BELOW:
            batch = self._steal(source, room, now)
        return batch

    def _next_piece(self, source: Source) -> OpenPiece | None:
        picker = self._picker
        askable = source.askable
        if not source.proven and len(unjudged := self._unjudged(source)) >= MAX_UNPROVEN:
            askable &= self._set_of(unjudged)
        if self.deadlines.pieces & askable & (picker.missing | self._loose):
            piece = self._urgent_piece(askable)
            if piece is not None:
                return piece
        own = source.own
        while own:
            piece = own[-1]
            if piece.free and piece.owner is source and self._open.get(piece.index) is piece:
                return piece
            own.pop()
        orphans = self._orphans & askable
        if orphans:
            return self._adopt(source, self._open[picker.first(orphans)])
        missing = picker.missing & askable
        if missing and (len(self._open) + len(self._storing) < self._max_open or self._evict(askable)):
            index = picker.pick(missing & source.suggested or missing)
            if index is not None:
                return self._adopt(source, self._opened(index))
        loose = self._loose & askable
        if loose:
            return self._open[picker.first(loose)]
        return None

    def _opened(self, index: int) -> OpenPiece:
        piece = self._open[index] = OpenPiece(index, self._piece_size(index), alone=index in self._blame)
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

    def _urgent_piece(self, askable: int) -> OpenPiece | None:
        """The soonest needed piece with blocks to ask for; anybody may take of it."""
        picker = self._picker
        for index in self.deadlines.order():
            bit = picker.bit(index)
            if not bit & askable:
                continue
            if bit & self._loose:
                return self._open[index]
            if bit & picker.missing and len(self._open) + len(self._storing) < self._max_open + MAX_URGENT_EXTRA:
                picker.open_one(index)
                piece = self._opened(index)
                self._mark(piece)
                if not piece.alone:
                    return piece
        return None

    def make_way(self, now: float) -> None:
        """Takes back what was asked for that is not needed soon, from those who can give what is; see `cancels`."""
        picker = self._picker
        near = self._set_of(self.deadlines.near(now))
        unasked = near & (picker.missing | self._loose)
        for source in self._sources:
            if not source.askable & near or source.endpoint is None:
                continue
            asked = list(source.asked)
            if not source.askable & unasked:  # what is needed stands in the queue: only what stands before it goes
                while asked and not picker.bit(asked[-1] >> 32) & near:
                    asked.pop()
            for key in [key for key in asked if not picker.bit(key >> 32) & near]:
                piece = self._open.get(key >> 32)
                del source.asked[key]
                source.late[key] = None
                if piece is not None:
                    number = (key & 0xFFFFFFFF) // BLOCK_BYTES
                    self._give_back(piece, number, source)
                    self._cancels.append((source, piece.block(number)))
            self._forget_late(source)

    def rescue(self, now: float) -> list[tuple[Source, list[BlockId]]]:
        """Once a second: what is needed now and others are slow to give, is asked of the fastest source too."""
        picker = self._picker
        asks: list[tuple[Source, list[BlockId]]] = []
        for index in self.deadlines.near(now)[:RESCUES]:
            piece = self._open.get(index)
            bit = picker.bit(index)
            if piece is None or piece.alone:
                continue
            able = [s for s in self._sources if s.askable & bit and not s.snubbed and s.endpoint is not None]
            fastest = max(able, key=lambda s: s.meter.rate, default=None)
            if fastest is None:
                continue
            blocks = []
            for number, giver in enumerate(piece.given):
                block = piece.block(number)
                key = _key(index, block[1])
                if giver is not None or key in fastest.asked or number in piece.doubled:
                    continue
                askers = [other for other in self._sources if key in other.asked]
                if askers and now - askers[0].asked[key] > 1.0:
                    piece.doubled[number] = [*askers, fastest]
                    fastest.asked[key] = now
                    blocks.append(block)
            if blocks:
                asks.append((fastest, blocks))
        return asks

    def _adopt(self, source: Source, piece: OpenPiece) -> OpenPiece:
        if piece.alone and piece.left < len(piece.given):
            piece.reset()  # the former owner's blocks must not mix with ours
        piece.owner = source
        source.own.append(piece)
        self._mark(piece)
        return piece

    def _evict(self, unless: int) -> bool:
        """Gives up a piece that nobody works on and that this source cannot go on with; for the sake of a new one."""
        picker = self._picker
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

    def _steal(self, source: Source, room: int, now: float) -> list[BlockId]:
        """The end game: asks again for what others were asked for, from the far end of the slowest one's queue."""
        picker = self._picker
        if source.snubbed or not picker.open & source.askable or picker.missing & picker.with_anybody:
            return []  # before the end, doubled requests only take the line from others
        best: tuple[float, Source] | None = None
        for other in self._sources:
            if other is source or not other.asked:
                continue
            silent = now - max(other.last_block_at, next(iter(other.asked.values())))
            rate = other.meter.rate / BLOCK_BYTES
            eta_s = len(other.asked) / rate if rate > 0.0 else float("inf")
            eta_s = max(eta_s, silent)
            if eta_s >= STEAL_ETA_S and (best is None or eta_s > best[0]):
                best = (eta_s, other)
        if best is None:
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
        batch.reverse()
        for index, begin, _ in batch:
            source.asked[_key(index, begin)] = now
        return batch

    # --- what comes

    def take(self, source: Source, index: int, begin: int, data: memoryview, now: float) -> None:
        """A block came. Raises ProtocolError where the peer sends what was never asked for, time and again."""
        key = index << 32 | begin
        length = len(data)
        meter = source.meter
        meter.total += length
        if source.asked.pop(key, None) is None and not self._take_late(source, key):
            source.unasked += 1
            self.wasted_bytes += length
            if source.unasked > MAX_UNASKED:
                raise ProtocolError("sends blocks that were not asked for")
            return
        source.last_block_at = now
        source.timeouts = 0
        if source.snubbed:
            source.snubbed = False
            source.growing = True
        if source.growing and source.depth < source.limit:
            source.depth += 1
        piece = self._open.get(index)
        if piece is None or piece.given[begin >> 14] is not None or (piece.alone and piece.owner is not source):
            self.wasted_bytes += length
            return
        rest = piece.size - begin
        if length != (rest if rest < BLOCK_BYTES else BLOCK_BYTES):
            raise ProtocolError(f"a block of {length} bytes where {piece.block(begin >> 14)[2]} were asked for")
        view = piece.view
        if view is None:
            view = self._buffer(piece)
        view[begin : begin + length] = data
        piece.given[begin >> 14] = source
        piece.left -= 1
        if piece.doubled:
            self._undouble(piece, begin >> 14, source)
        if not piece.left:
            self._whole(piece)

    def _take_late(self, source: Source, key: int) -> bool:
        """Whether the block was once asked of this source; then nobody else needs to send it."""
        if key not in source.late:
            return False
        del source.late[key]
        piece = self._open.get(key >> 32)
        if piece is None or (piece.alone and piece.owner is not source):
            return True
        number = (key & 0xFFFFFFFF) // BLOCK_BYTES
        if number in piece.free:
            piece.free.remove(number)
            self._mark(piece)
        elif number not in piece.doubled:
            piece.doubled[number] = [other for other in self._sources if key in other.asked]
        return True

    def _undouble(self, piece: OpenPiece, number: int, source: Source) -> None:
        """A block came that several were asked for: the others are told to keep theirs."""
        block = piece.block(number)
        key = _key(block[0], block[1])
        for other in piece.doubled.pop(number, ()):
            if other is not source and other.asked.pop(key, None) is not None:
                other.late[key] = None
                self._cancels.append((other, block))

    def _buffer(self, piece: OpenPiece) -> memoryview:
        buffer = self._pool.pop() if self._pool else bytearray(self._piece_length)
        piece.buffer = buffer
        piece.view = memoryview(buffer)[: piece.size]
        return piece.view

    def _recycle(self, piece: OpenPiece) -> None:
        if piece.buffer is not None and len(self._pool) < self._max_pool:
            self._pool.append(piece.buffer)
        piece.buffer = piece.view = None

    def _close(self, piece: OpenPiece) -> None:
        del self._open[piece.index]
        bit = self._picker.bit(piece.index)
        self._loose &= ~bit
        self._orphans &= ~bit

    def _whole(self, piece: OpenPiece) -> None:
        self._close(piece)
        self._storing[piece.index] = piece
        self.unwritten_bytes += piece.size
        assert piece.view is not None
        self._jobs.append(PieceJob(piece.index, piece.view))

    def jobs(self) -> list[PieceJob]:
        """Pieces that became whole since the last call."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def cancels(self) -> list[tuple[Source, BlockId]]:
        """Requests to be taken back since the last call: another source was faster."""
        cancels, self._cancels = self._cancels, []
        return cancels

    # --- what became of a piece

    def abandon(self, index: int) -> None:
        """A piece of `jobs` could not be stored, for no fault of its data: it is missing again."""
        piece = self._storing.pop(index)
        self.unwritten_bytes -= piece.size
        self._picker.reopen(index)
        self._recycle(piece)

    def stored(self, index: int, ok: bool) -> list[Source]:
        """A piece of `jobs` is stored, or was wrong. Names those who are now known to have lied about it."""
        piece = self._storing.pop(index)
        self.unwritten_bytes -= piece.size
        liars = self._blame.right(piece) if ok else self._blame.wrong(piece)
        if ok:
            self._picker.complete(index)
            self.deadlines.clear(index)
        else:
            self._picker.reopen(index)
            self.wasted_bytes += piece.size
        self._recycle(piece)
        return liars
