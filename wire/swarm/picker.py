"""Which piece next: the most wanted, of those the rarest (BEP 3), or the first. It knows no peers and no blocks.

Sets of pieces are integers, a bit a piece, laid out as in a BEP 3 bitfield: so a set of 100,000
pieces is met, joined and compared in a microsecond or two. How many peers have each piece is kept the
same way, as binary counters lying across the pieces: bit k of all counts is one integer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from wire.bitfield import Bitfield
from wire.errors import MisuseError
from wire.swarm.values import Priority

__all__ = ["Picker"]


class Picker:
    """Keeps each piece in exactly one state: unwanted, missing, open (being fetched or stored), or done.

    Methods that move a piece raise MisuseError where it is not in the state that they start from.
    """

    __slots__ = (
        "_counters",
        "_done",
        "_held",
        "_high",
        "_low",
        "_missing",
        "_open",
        "_rng",
        "_seeds",
        "_wanted",
        "_width",
        "full",
        "piece_count",
        "sequential",
    )

    def __init__(self, piece_count: int, rng: random.Random) -> None:
        self.piece_count = piece_count
        self._width = (piece_count + 7) // 8 * 8
        self.full = ((1 << piece_count) - 1) << (self._width - piece_count)
        """The set of all pieces."""
        # Its own: asking the system for chance lets go of the interpreter's lock each time.
        self._rng = random.Random(rng.getrandbits(64))
        self._counters: list[int] = []
        self._seeds = 0
        self._wanted = self.full
        self._missing = self.full
        self._open = 0
        self._done = 0
        self._held = 0
        self._high = 0
        self._low = 0
        self.sequential = False
        """Take the first piece, not the rarest."""

    def lack(self, pieces: int, short: Mapping[int, int], piece_length: int) -> int:
        """How many bytes a set of pieces lacks because some are shorter; `short` says how long those are."""
        if len(short) == 1:
            ((index, size),) = short.items()
            return piece_length - size if pieces & self.bit(index) else 0
        bits = pieces.to_bytes(self._width // 8, "big")
        return sum(piece_length - size for index, size in short.items() if bits[index >> 3] & (0x80 >> (index & 7)))

    def bit(self, index: int) -> int:
        """The set that holds one piece."""
        return 1 << (self._width - 1 - index)

    def set_of(self, bitfield: Bitfield) -> int:
        """The set that a bitfield stands for."""
        return int.from_bytes(bitfield.to_bytes(), "big")

    def first(self, pieces: int) -> int:
        """The lowest piece of a set that is not empty."""
        return self._width - pieces.bit_length()

    def span(self, pieces: range) -> int:
        """The set of neighbouring pieces."""
        return ((1 << len(pieces)) - 1) << (self._width - pieces.stop)

    def joint(self, indices: Iterable[int]) -> int:
        """The set of these pieces."""
        bits = bytearray(self._width // 8)
        for index in indices:
            bits[index >> 3] |= 0x80 >> (index & 7)
        return int.from_bytes(bits, "big")

    def indices(self, pieces: int) -> list[int]:
        """The pieces of a set, ascending."""
        found = []
        while pieces:
            length = pieces.bit_length()
            found.append(self._width - length)
            pieces ^= 1 << (length - 1)
        return found

    # --- what we have and want

    @property
    def done(self) -> int:
        """The pieces that are stored."""
        return self._done

    @property
    def open(self) -> int:
        """The pieces that are being fetched or stored."""
        return self._open

    @property
    def missing(self) -> int:
        """The pieces that are wanted and that nobody fetches yet."""
        return self._missing

    @property
    def left(self) -> int:
        """The pieces that are wanted and not stored."""
        return self._missing | self._open | (self._wanted & self._held & ~self._done)

    def restrict(self, wanted: int) -> None:
        """Says anew what is wanted. A piece that is open stays so."""
        self._wanted = wanted & self.full
        self._missing = self._wanted & ~self._done & ~self._open & ~self._held

    @property
    def held(self) -> int:
        """The pieces of the last `hold`."""
        return self._held

    @property
    def waits(self) -> bool:
        """Something that is left is held back, and nothing else can be fetched from those who are there."""
        held = self._wanted & self._held & ~self._done
        return bool(held) and not self._open and not self._missing & self.with_anybody

    def hold(self, pieces: int) -> None:
        """Says anew which pieces are not to be fetched for now, wanted or not: nobody could say if they are right."""
        self._held = pieces & self.full
        self.restrict(self._wanted)

    def prefer(self, pieces: int, priority: Priority) -> None:
        """Says how much pieces are wanted, if at all. A piece that is open stays so."""
        pieces &= self.full
        self._high = self._high | pieces if priority is Priority.HIGH else self._high & ~pieces
        self._low = self._low | pieces if priority is Priority.LOW else self._low & ~pieces
        self.restrict(self._wanted & ~pieces if priority is Priority.SKIP else self._wanted | pieces)

    def stored(self, pieces: int) -> None:
        """Pieces that were found on disk at the start: from any state to done."""
        self._done |= pieces & self.full
        self._open &= ~pieces
        self._missing &= ~pieces

    def complete(self, pieces: int) -> None:
        """A set of pieces, open to done."""
        if pieces & ~self._open:
            raise MisuseError(f"pieces {self.indices(pieces & ~self._open)} are not open")
        self._open ^= pieces
        self._done |= pieces

    def reopen(self, index: int) -> None:
        """Open to missing (or unwanted): its data was wrong or will not come."""
        bit = self.bit(index)
        if not self._open & bit:
            raise MisuseError(f"piece {index} is not open")
        self._open ^= bit
        self._missing |= bit & self._wanted & ~self._held

    def lose(self, index: int) -> None:
        """Done to missing (or unwanted): what was stored is there no more."""
        bit = self.bit(index)
        if not self._done & bit:
            raise MisuseError(f"piece {index} is not done")
        self._done ^= bit
        self._missing |= bit & self._wanted & ~self._held

    # --- what the peers have

    def joined(self, pieces: int) -> None:
        """A peer has these pieces."""
        if pieces == self.full:
            self._seeds += 1
            return
        counters = self._counters
        for place, counter in enumerate(counters):
            if not pieces:
                return
            counters[place] = counter ^ pieces
            pieces &= counter
        if pieces:
            counters.append(pieces)

    def left_with(self, pieces: int) -> None:
        """A peer that had these pieces is gone; exactly what it joined with and gained."""
        if pieces == self.full and self._seeds:
            self._seeds -= 1
            return
        counters = self._counters
        for place, counter in enumerate(counters):
            if not pieces:
                break
            counters[place] = counter ^ pieces
            pieces &= ~counter
        while counters and not counters[-1]:
            counters.pop()

    def gained(self, before: int, index: int) -> int:
        """A peer that had `before` has one piece more. Returns what it has now."""
        bit = self.bit(index)
        after = before | bit
        if after == before:
            return before
        if after == self.full:
            self.left_with(before)
            self._seeds += 1
        else:
            self.joined(bit)
        return after

    def dropped(self, before: int, index: int) -> int:
        """A peer that had `before` has one piece less (BEP 54). Returns what it has now."""
        after = before & ~self.bit(index)
        if after != before:
            self.left_with(before)
            self.joined(after)
        return after

    def availability(self, index: int) -> int:
        """How many peers have the piece."""
        bit = self.bit(index)
        return self._seeds + sum(1 << place for place, counter in enumerate(self._counters) if counter & bit)

    @property
    def with_anybody(self) -> int:
        """The pieces that at least one peer has."""
        if self._seeds:
            return self.full
        pieces = 0
        for counter in self._counters:
            pieces |= counter
        return pieces

    # --- the choice

    def pick(self, among: int, *, in_runs: bool = False) -> int | None:
        """Opens the rarest of the most wanted missing pieces in `among`, by chance where several are; else None.

        With `sequential`, the first of the most wanted. With `in_runs`, of those with the most others behind them.
        """
        pool = self.most_wanted(among & self._missing)
        if not pool:
            return None
        if not self.sequential:
            if in_runs:
                for step in (1, 2, 4, 8, 16, 32):
                    pool = pool & (pool << step) or pool
            pool = self._rarest(pool)
        index = self.first(pool) if self.sequential else self.some(pool)
        self._take(self.bit(index))
        return index

    def pick_near(self, among: int, stretch: int, most: int) -> list[int]:
        """As `pick`, and opens what is as wanted and as rare of its neighbours too: ascending, `most` in all.

        Neighbours are those of the same `stretch` of so many pieces: so whole stretches are fetched after each other,
        and what is left of them has no holes. With `sequential`, they are those that come next.
        """
        pool = self.most_wanted(among & self._missing)
        if not pool:
            return []
        if self.sequential:
            begin = self.first(pool)
        else:
            pool = self._rarest(pool)
            begin = self.some(pool) // stretch * stretch
        end = min(begin + stretch, self.piece_count)
        after = self._width - end
        near = pool >> after & (1 << (end - begin)) - 1
        found: list[int] = []
        taken = 0
        while near and len(found) < most:
            length = near.bit_length()
            bit = 1 << (length - 1)
            near ^= bit
            taken |= bit
            found.append(end - length)
        self._take(taken << after)
        return found

    def advised(self, among: int, suggested: int) -> int:
        """What of `among` to pick from where a peer suggests some (BEP 6): of equally wanted ones, out of order."""
        if not suggested or self.sequential:
            return among
        pool = self.most_wanted(among & self._missing)
        return pool & suggested or pool

    def most_wanted(self, pieces: int) -> int:
        """Those of a set that have the highest priority in it."""
        return pieces & self._high or pieces & ~self._low or pieces

    def _rarest(self, pool: int) -> int:
        for counter in reversed(self._counters):
            pool = (pool & ~counter) or pool
        return pool

    def some(self, pieces: int) -> int:
        """Any piece of a set that is not empty, by chance."""
        skip = self._rng.randrange(self.piece_count)
        lower = pieces & (self.full >> skip)
        return self.first(lower or pieces)

    def open_one(self, index: int) -> None:
        """Opens one particular missing piece."""
        if not self._missing & self.bit(index):
            raise MisuseError(f"piece {index} is not missing")
        self._take(self.bit(index))

    def _take(self, pieces: int) -> None:
        self._missing ^= pieces
        self._open |= pieces
