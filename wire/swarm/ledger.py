"""The ledger of blocks: what was asked of whom, what came, what is owed too long (BEP 3). No connections here.

Each block of an open piece is in exactly one state: free, asked (of one source, in the end game of more), or
given. What to ask of whom next is decided in `requests`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from wire.errors import ProtocolError
from wire.peer.landing import Landing
from wire.peer.messages import BLOCK_BYTES, Landed
from wire.swarm.blame import Blame, Digests
from wire.swarm.deadlines import Deadlines
from wire.swarm.picker import Picker
from wire.swarm.pieces import BlockId, OpenPiece, PieceJob
from wire.swarm.source import FIRST_DEPTH, QUEUE_S, Source

__all__ = ["Ledger", "block_key"]

MAX_OPEN_BYTES = 128 << 20
"""Buffers of all pieces that are being fetched or stored: about what libtorrent lets wait for its disk."""
MIN_OPEN_PIECES = 2
"""However large the pieces are: one arrives while one is stored."""
MAX_POOL_BYTES = 32 << 20
ASKED = 0.5
"""Of what all buffers hold, so much is asked for; the rest is pieces that are begun, and those that are stored."""
STRETCH_BYTES = 1 << 20
"""Neighbouring pieces up to so much are asked for together, so that they come and are written together."""
SNUB_S = 20.0
"""No block for so long while some are due: the peer is asked for one at a time and others get the rest."""
REQUEST_TIMEOUT_S = 60.0
RECALL_S = 5.0
"""Who neither sends nor rejects what was cancelled for so long does neither (BEP 6)."""
MAX_LATE = 4096
"""Blocks taken back that may still come, remembered for each source."""
MAX_UNASKED = 256
"""Blocks that were never asked for, before the peer is dropped: cancels cross blocks on their way, lies do not stop."""

MAX_STRAY_REJECTS = 10_000
"""Of what was not asked for: a seek in a film takes thousands of requests back, and asks for some of them again."""


def block_key(index: int, begin: int) -> int:
    """One number for a block, as the ledger keeps it."""
    return index << 32 | begin


class Ledger:
    """The blocks of one torrent. `piece_size` tells a piece's bytes; `picker` knows the state of each piece; `digests`:
    see `Blame`."""

    def __init__(
        self,
        picker: Picker,
        piece_size: Callable[[int], int],
        piece_length: int,
        *,
        max_open_bytes: int = MAX_OPEN_BYTES,
        digests: Digests | None = None,
    ) -> None:
        self._picker = picker
        self._piece_size = piece_size
        self._piece_length = piece_length
        self._max_open = max(MIN_OPEN_PIECES, max_open_bytes // piece_length)
        self._blocks = -(-piece_length // BLOCK_BYTES)
        """Of a piece that is not shorter than the others."""
        self._stretch = max(1, STRETCH_BYTES // piece_length)
        """Neighbouring pieces that are opened together."""
        self._max_asked = ASKED * self._max_open * self._blocks
        """Blocks outstanding with all sources together."""
        self._max_pool = max(1, MAX_POOL_BYTES // piece_length)
        self._open: dict[int, OpenPiece] = {}
        self._storing: dict[int, OpenPiece] = {}
        self._loose = 0
        """The set of open pieces with free blocks that anybody may take."""
        self._orphans = 0
        """The set of open pieces with free blocks that are nobody's own."""
        self._pool: list[memoryview] = []
        """Buffers of a whole piece each."""
        self._sources: dict[Source, None] = {}
        self.blame = Blame() if digests is None else Blame(digests)
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
        self._share_out()

    def _share_out(self) -> None:
        share = FIRST_DEPTH
        if not self.deadlines.streams:
            share = max(share, int(self._max_asked / max(1, len(self._sources))))
        for source in self._sources:
            source.share = share
            if source.growing:
                source.depth = min(source.depth, share)

    def queue_s(self) -> float:
        """Seconds of data to ask each source for ahead of time: less where all together are so fast that pieces would
        be open everywhere, and some would find none to open."""
        rate = sum(source.meter.rate for source in self._sources) / BLOCK_BYTES
        return min(QUEUE_S, self._max_asked / rate) if rate > 0.0 else QUEUE_S

    def __contains__(self, source: Source) -> bool:
        return source in self._sources

    def leave(self, source: Source) -> None:
        """It may not any more: choked, closed. Its blocks are free again."""
        if self._sources.pop(source, 0) is None:
            self._share_out()
        self.release(source)

    def release(self, source: Source) -> list[BlockId]:
        """Takes back all that was asked of it, and the pieces that are its own. Returns what should be cancelled."""
        cancelled = []
        for key in list(source.asked):
            index, begin = key >> 32, key & 0xFFFFFFFF
            source.take_back(key)
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
        """The source will not give this block (BEP 6); True where it is free for others by that.

        Raises ProtocolError where it rejects what was never asked for, time and again.
        """
        key = block_key(index, begin)
        if source.answers_cancels and source.was_late(key):
            return False  # each request has one answer: this one belongs to that which was taken back
        source.recalled.pop(key, None)
        if source.asked.pop(key, None) is None:
            if not source.was_late(key):
                source.stray_rejects += 1
                if source.stray_rejects > MAX_STRAY_REJECTS:
                    raise ProtocolError("rejects what it was not asked for")
            return False
        piece = self._open.get(index)
        if piece is not None:
            self._give_back(piece, begin // BLOCK_BYTES, source)
            if piece.alone and piece.owner is source:  # nobody could be asked for the rest: all of it is for another
                self._cancels += [(source, block) for block in self.withdraw(source, index)]
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
            source.take_back(key)
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
        if piece.alone and piece.owner is source and piece not in source.own:
            source.own.append(piece)  # it was asked for all of it: nobody else will look
        self._mark(piece)

    def _mark(self, piece: OpenPiece) -> None:
        """Keeps the sets of loose and orphaned pieces true. They are long numbers: changed only where it is needed."""
        loose = bool(piece.free) and not piece.alone
        orphan = bool(piece.free) and piece.owner is None
        if loose != piece.loose:
            piece.loose = loose
            self._loose ^= self._picker.bit(piece.index)
        if orphan != piece.orphan:
            piece.orphan = orphan
            self._orphans ^= self._picker.bit(piece.index)

    def overdue(self, source: Source, now: float) -> list[BlockId] | None:
        """Takes back what a source owes for too long; returns what to cancel, None where it is in time."""
        if source.recalled and now - source.recalled_at > RECALL_S:
            self._give_up_recalled(source)
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

    def _give_up_recalled(self, source: Source) -> None:
        """It answers no cancels: what was cancelled is for others, and welcome if it comes."""
        for key in [key for key in source.recalled if key in source.asked]:
            source.take_back(key)
            if (piece := self._open.get(key >> 32)) is not None:
                self._give_back(piece, (key & 0xFFFFFFFF) // BLOCK_BYTES, source)
        source.recalled.clear()
        source.answers_cancels = False
        self._forget_late(source)

    # --- what comes

    def take(self, source: Source, index: int, begin: int, data: memoryview, now: float) -> None:
        """A block came. Raises ProtocolError where the peer sends what was never asked for, time and again."""
        key = index << 32 | begin
        length = len(data)
        meter = source.meter
        meter.total += length
        asked_at = source.asked.pop(key, None)
        if asked_at is not None:
            if now - asked_at < source.round_trip_s:
                source.answered(key, now - asked_at)
        elif not self._take_late(source, key):
            source.unasked += 1
            self.wasted_bytes += length
            if source.unasked > MAX_UNASKED:
                raise ProtocolError("sends blocks that were not asked for")
            return
        if source.recalled:
            source.recalled.pop(key, None)
        self._heard(source, 1, now)
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

    def landing(self, source: Source, skip: int, most: int) -> Landing | None:
        """Where the blocks belong that are due from a source after the next `skip`: whole ones that nobody else owes.

        To be received into at once: with the next call of anything here it may not hold any more.
        """
        blocks: list[tuple[int, int]] = []
        views: list[memoryview] = []
        piece: OpenPiece | None = None
        for key in islice(source.asked, skip, skip + most):
            index, begin = key >> 32, key & 0xFFFFFFFF
            if piece is None or piece.index != index:
                piece = self._open.get(index)
                if piece is None or (piece.alone and piece.owner is not source):
                    break
            number = begin >> 14
            after = begin + BLOCK_BYTES
            if piece.given[number] is not None or number in piece.doubled or after > piece.size:
                break
            view = piece.view
            if view is None:
                view = self._buffer(piece)
            blocks.append((index, begin))
            views.append(view if after - begin == piece.size else view[begin:after])
        return Landing(blocks, views) if blocks else None

    def room(self, source: Source, index: int, begin: int, most: int) -> memoryview | None:
        """As `landing`, for bytes that come end to end from there on: `most` blocks of one piece. None where even the
        first is not to be put to its place: then `take` says what it is.
        """
        piece = self._open.get(index)
        if piece is None or (piece.alone and piece.owner is not source):
            return None
        asked, given, doubled = source.asked, piece.given, piece.doubled
        first = number = begin >> 14
        last = min(first + most, len(given))
        keys = range(block_key(index, begin), block_key(index, last << 14), BLOCK_BYTES)
        if not doubled and not any(given[first:last]) and all(map(asked.__contains__, keys)):
            number = last  # nearly always
        else:
            while number < last and given[number] is None and keys[number - first] in asked and number not in doubled:
                number += 1
            if number == first:
                return None
        view = piece.view
        if view is None:
            view = self._buffer(piece)
        return view[begin : number << 14]

    def filled(self, source: Source, index: int, begin: int, length: int, now: float) -> None:
        """Whole blocks of `room` lie there, from its first on."""
        asked, piece = source.asked, self._open[index]
        keys = range(block_key(index, begin), block_key(index, begin + length), BLOCK_BYTES)
        source.answered(keys[-1], now - asked[keys[-1]])
        for key in keys:
            del asked[key]
        if source.recalled:
            for key in keys:
                source.recalled.pop(key, None)
        first = begin >> 14
        piece.given[first : first + len(keys)] = [source] * len(keys)
        piece.left -= len(keys)
        source.meter.total += length
        self._heard(source, len(keys), now)
        if not piece.left:
            self._whole(piece)

    def landed(self, source: Source, landed: Landed, now: float) -> None:
        """Blocks of `landing` came, and lie where they belong. Raises as `take` does."""
        asked = source.asked
        index, begin = landed.blocks[-1]
        last = index << 32 | begin
        source.answered(last, now - asked.get(last, float("-inf")))
        taken = 0
        for (index, begin), view in zip(*landed, strict=True):
            key = index << 32 | begin
            piece = self._open.get(index)
            if piece is None or key not in asked or piece.given[begin >> 14] is not None or piece.doubled:
                self.take(source, index, begin, view, now)  # what came before it has changed how it stands
                continue
            del asked[key]
            taken += 1
            piece.given[begin >> 14] = source
            piece.left -= 1
            if not piece.left:
                self._whole(piece)
        if taken:
            for key in [key for key in source.recalled if key not in asked]:
                del source.recalled[key]
            self._heard(source, taken, now)
            source.meter.total += taken * BLOCK_BYTES

    def _heard(self, source: Source, blocks: int, now: float) -> None:
        source.last_block_at = now
        source.timeouts = 0
        if source.snubbed:
            source.snubbed = False
            source.growing = True
        if source.growing and source.depth < (most := min(source.limit, source.share)):
            source.depth = min(source.depth + blocks, most)

    def _take_late(self, source: Source, key: int) -> bool:
        """Whether the block was once asked of this source; then nobody else needs to send it."""
        if not source.was_late(key):
            return False
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
        key = block_key(block[0], block[1])
        for other in piece.doubled.pop(number, ()):
            if other is not source and key in other.asked:
                other.take_back(key)
                self._cancels.append((other, block))

    def _buffer(self, piece: OpenPiece) -> memoryview:
        buffer = self._pool.pop() if self._pool else memoryview(bytearray(self._piece_length))
        piece.buffer = buffer
        piece.view = view = buffer if piece.size == self._piece_length else buffer[: piece.size]
        return view

    def _recycle(self, piece: OpenPiece) -> None:
        if piece.buffer is not None and len(self._pool) < self._max_pool:
            self._pool.append(piece.buffer)
        piece.buffer = piece.view = None

    def _close(self, piece: OpenPiece) -> None:
        del self._open[piece.index]
        piece.free.clear()
        self._mark(piece)

    def _whole(self, piece: OpenPiece) -> None:
        del self._open[piece.index]  # no block is free: it is in no other set
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
        if ok:
            return [liar for liar, _ in self.all_stored([index])]
        piece = self._storing.pop(index)
        self.unwritten_bytes -= piece.size
        liars = self.blame.wrong(piece)
        self._picker.reopen(index)
        self.wasted_bytes += piece.size
        self._recycle(piece)
        return liars

    def all_stored(self, indices: Sequence[int]) -> list[tuple[Source, int]]:
        """Pieces of `jobs` are right and stored. Names those who are now known to have lied, and about which."""
        storing, blame, deadlines = self._storing, self.blame, self.deadlines
        liars: list[tuple[Source, int]] = []
        for index in indices:
            piece = storing.pop(index)
            self.unwritten_bytes -= piece.size
            liars += [(liar, index) for liar in blame.right(piece)]
            self._recycle(piece)
            if deadlines.pieces:
                deadlines.clear(index)
        self._picker.complete(self._picker.joint(indices))
        return liars
