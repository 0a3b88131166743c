"""The ledger of blocks: what was asked of whom, what came, what is asked again (BEP 3). No connections here.

Each block of an open piece is in exactly one state: free, asked (of one source, in the end game of more), or
given. A source works through pieces of its own, so that most pieces come from one peer and a wrong one has a
name to it. A piece that several gave and that is wrong is fetched again from one source alone; what then
turns out different was a lie, and by whose hand is known by the digests that were kept (block by block).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from wire.errors import ProtocolError
from wire.peer.messages import BLOCK_BYTES
from wire.swarm.picker import Picker
from wire.swarm.pieces import BlockId, OpenPiece
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
MAX_SUSPECTS = 64
"""Wrong pieces whose digests are kept."""
STEAL_BELOW = 4
"""Who has so many blocks outstanding has work of his own still."""
STEAL_ETA_S = 0.2
"""Who is done sooner than this keeps his blocks in the end game."""


@dataclass(frozen=True, slots=True)
class PieceJob:
    """A whole piece, to be hashed and stored; then `Swarm.piece_stored`. `data` must not be used after that."""

    index: int
    data: memoryview


class _Suspect(NamedTuple):
    givers: list[Source]
    digests: list[bytes]


def _key(index: int, begin: int) -> int:
    return index << 32 | begin


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


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
        self._suspects: dict[int, _Suspect] = {}
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
        while len(source.late) > MAX_LATE:
            del source.late[next(iter(source.late))]
        for piece in self._open.values():
            if piece.owner is source:
                piece.owner = None
                self._mark(piece)
        source.own.clear()
        return cancelled

    def reject(self, source: Source, index: int, begin: int) -> bool:
        """The source will not give this block (BEP 6); False where it was not asked for it."""
        key = _key(index, begin)
        if source.asked.pop(key, None) is None:
            return source.late.pop(key, 0) is None
        piece = self._open.get(index)
        if piece is not None:
            self._give_back(piece, begin // BLOCK_BYTES, source)
        return True

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
        own = source.own
        while own:
            piece = own[-1]
            if piece.free and piece.owner is source and self._open.get(piece.index) is piece:
                return piece
            own.pop()
        picker = self._picker
        orphans = self._orphans & source.has
        if orphans:
            return self._adopt(source, self._open[picker.first(orphans)])
        missing = picker.missing & source.has
        if missing and (len(self._open) + len(self._storing) < self._max_open or self._evict(source.has)):
            index = picker.pick(missing)
            if index is not None:
                piece = OpenPiece(index, self._piece_size(index), alone=index in self._suspects)
                self._open[index] = piece
                return self._adopt(source, piece)
        loose = self._loose & source.has
        if loose:
            return self._open[picker.first(loose)]
        return None

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
        if source.snubbed or not picker.open & source.has:
            return []
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
            if piece is None or piece.alone or key in source.asked or not picker.bit(index) & source.has:
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

    def stored(self, index: int, ok: bool) -> list[Source]:
        """A piece of `jobs` is stored, or was wrong. Names those who are now known to have lied about it."""
        piece = self._storing.pop(index)
        self.unwritten_bytes -= piece.size
        liars = self._vindicate(piece) if ok else self._suspect(piece)
        if ok:
            self._picker.complete(index)
        else:
            self._picker.reopen(index)
            self.wasted_bytes += piece.size
        self._recycle(piece)
        return liars

    def _suspect(self, piece: OpenPiece) -> list[Source]:
        givers = [giver for giver in piece.given if giver is not None]
        if len(dict.fromkeys(givers)) == 1:
            return givers[:1]
        if piece.index not in self._suspects:
            assert piece.view is not None
            digests = [_digest(piece.view[at : at + BLOCK_BYTES]) for at in range(0, piece.size, BLOCK_BYTES)]
            self._suspects[piece.index] = _Suspect(givers, digests)
            while len(self._suspects) > MAX_SUSPECTS:
                del self._suspects[next(iter(self._suspects))]
        return []

    def _vindicate(self, piece: OpenPiece) -> list[Source]:
        suspect = self._suspects.pop(piece.index, None)
        if suspect is None:
            return []
        assert piece.view is not None
        liars: dict[Source, None] = {}
        for number, (giver, digest) in enumerate(zip(suspect.givers, suspect.digests, strict=True)):
            if _digest(piece.view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]) != digest:
                liars[giver] = None
        return list(liars)
