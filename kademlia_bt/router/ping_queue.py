"""Addresses that wait for a ping, and addresses that were seen lately: flat tables for a bootstrap router. No I/O.

Both take the same memory whatever comes in, and memory that was never touched costs nothing. Times are the caller's
monotonic seconds.
"""

from __future__ import annotations

import mmap
import random
import struct
from collections.abc import Callable

from kademlia_bt.router.scatter import scatter
from wire.errors import MisuseError

__all__ = ["PingQueue", "Recent"]

_DUE = struct.Struct("!I")
_SEED_BITS = 256
_TICKS_PER_S = 10
"""A due time is kept as a count of tenths of seconds, in four bytes: thirteen years."""


class PingQueue:
    """A queue of addresses of one width, each with the time when it is due. All wait equally long, so it is a FIFO."""

    def __init__(self, address_bytes: int, most: int, rng: random.Random, now: float) -> None:
        """Makes an empty queue for `most` addresses; raises MisuseError where that is none."""
        if most < 1:
            raise MisuseError("a queue holds at least one address")
        # Of its own: the system's chance would be a system call for each address of a flood.
        self._chance = random.Random(rng.getrandbits(_SEED_BITS)).random
        self._start = now
        self._most = most
        self._width = address_bytes + _DUE.size
        self._entries = mmap.mmap(-1, most * self._width)
        self._first = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, address: bytes, due: float) -> bool:
        """Queues an address. The fuller the queue beyond its half, the more are left out (False), by chance, so that
        a flood does not keep all others out."""
        free = self._most - self._length
        if free * 2 < self._most and self._chance() * self._most >= free * 2:
            return False
        if not free:
            return False
        at = (self._first + self._length) % self._most * self._width
        self._entries[at : at + self._width] = _DUE.pack(max(0, int((due - self._start) * _TICKS_PER_S))) + address
        self._length += 1
        return True

    def pop(self, now: float) -> bytes | None:
        """The next address that is due; None where none is."""
        if not self._length:
            return None
        at = self._first * self._width
        entry = self._entries[at : at + self._width]
        if _DUE.unpack_from(entry)[0] > (now - self._start) * _TICKS_PER_S:
            return None
        self._first = (self._first + 1) % self._most
        self._length -= 1
        return bytes(entry[_DUE.size :])

    def next_due(self) -> float | None:
        """When the next address is due; None where none waits."""
        if not self._length:
            return None
        (ticks,) = _DUE.unpack_from(self._entries, self._first * self._width)
        return self._start + float(ticks) / _TICKS_PER_S


_MINUTE_S = 60.0
_WHEEL = 255


class Recent:
    """Which addresses were here in the last minutes: a byte an address, the minute, at a place that its hash says.

    Two that share a place are taken for one: of a million within the time, one in eight is then called a repeater.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        minutes: int,
        places_log2: int = 23,
        place: Callable[[bytes], int] | None = None,
    ) -> None:
        """`place` says where an address stands, if others use the same function; else one is drawn."""
        self._place = place or scatter(rng)  # so that nobody can choose addresses that share a place with another's
        self._minutes = minutes
        self._places = mmap.mmap(-1, 1 << places_log2)
        self._mask = (1 << places_log2) - 1
        self._swept = 0

    def note(self, key: bytes, now: float) -> bool:
        """Notes an address; True where it was here in the last minutes already (which does not prolong them)."""
        return self.note_at(self._place(key), now)

    def note_at(self, place: int, now: float) -> bool:
        """As `note`, for who has the key's place at hand."""
        minute = int(now / _MINUTE_S)
        at = place & self._mask
        then = self._places[at]
        # 0 is for never; the wheel turns in four hours, after which a place that was not swept would seem fresh.
        if then and (minute - (then - 1)) % _WHEEL < self._minutes:
            return True
        self._places[at] = minute % _WHEEL + 1
        return False

    def sweep(self, now: float) -> None:
        """Forgets what is old: to be called every hour or so."""
        minute = int(now / _MINUTE_S)
        fresh = {(minute - back) % _WHEEL + 1 for back in range(self._minutes)}
        if minute - self._swept < self._minutes:
            return
        self._swept = minute
        table = bytes(value if value in fresh else 0 for value in range(256))
        step = 1 << 16
        for at in range(0, len(self._places), step):
            part = self._places[at : at + step]
            if part.count(0) != len(part):  # a part that was never written takes no memory
                self._places[at : at + step] = part.translate(table)
