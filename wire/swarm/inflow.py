"""A stretch of bytes as it comes from a web seed, put to where its blocks belong without a copy (BEP 19). No I/O.

HTTP says what follows once, and then nothing but bytes: many blocks, of several pieces, are received in one go. Where a
block is not simply to be put to its place, because a peer gave it meanwhile or was asked for it too, it is put aside
and told when it is whole. Places of blocks that are not whole count as empty: somebody else may write to them. So the
part of a block that a read ended in is kept aside until the next one, and put back before it.
"""

from __future__ import annotations

from collections.abc import Callable

from wire.peer.messages import BLOCK_BYTES
from wire.swarm.webseed import Stretch, WebSeed, blocks_of
from wire.swarm.webtrade import WebTrade

__all__ = ["Inflow"]


class Inflow:
    """What comes of one stretch. For each read: `places`, at once that many bytes into these, `came`."""

    def __init__(
        self, trade: WebTrade, seed: WebSeed, stretch: Stretch, piece_length: int, clock: Callable[[], float]
    ) -> None:
        """`clock` gives the time."""
        self._trade = trade
        self._seed = seed
        self._piece_length = piece_length
        self._clock = clock
        self._at = stretch.offset
        """Of the first block that is not whole, in all pieces laid end to end."""
        self._end = stretch.offset + stretch.length
        self._aside = memoryview(bytearray(BLOCK_BYTES))
        self._had = 0
        """Bytes of that block that came, and lie aside."""
        self._room: list[tuple[int, int, memoryview]] = []
        """As `WebTrade.room` gave it for this read; empty where it goes aside."""

    @property
    def is_over(self) -> bool:
        """Whether all of it came."""
        return self._at >= self._end

    @property
    def is_awaited(self) -> bool:
        """Whether anything that has not come is still wanted from there."""
        return self._trade.awaits(self._seed, self._at, self._end)

    def places(self, most: int) -> list[memoryview]:
        """Where the next bytes belong, at most so many; before the end there is at least one."""
        had = self._had
        most = min(had + most, self._end - self._at)
        self._room = self._trade.room(self._seed, self._at, most)
        if not self._room:
            _, _, length = next(blocks_of(self._at, self._end, self._piece_length))
            return [self._aside[had : min(most, length)]]
        places = [view for _, _, view in self._room]
        excess = sum(map(len, places)) - most
        if excess > 0:  # of the last block: it need not come whole
            places[-1] = places[-1][:-excess]
        if had:
            places[0][:had] = self._aside[:had]
            places[0] = places[0][had:]
        return places

    def came(self, count: int) -> None:
        """So many bytes were put to the `places`, from their first on."""
        left = self._had + count
        if not self._room:
            index, begin, length = next(blocks_of(self._at, self._end, self._piece_length))
            if left == length:
                self._trade.received(self._seed, [(index, begin, self._aside[:length])], self._clock())
                self._at += length
                left = 0
        for index, begin, view in self._room:
            whole = len(view) if left >= len(view) else left // BLOCK_BYTES * BLOCK_BYTES
            left -= whole
            self._at += whole
            if whole < len(view):
                self._aside[:left] = view[whole : whole + left]
            if whole:
                self._trade.filled(self._seed, index, begin, whole, self._clock())
            if whole < len(view):
                break
        self._had = left

    def pour(self, data: bytes | memoryview) -> None:
        """Takes bytes that are here, as `places` and `came` do; what is beyond the end is dropped."""
        view = memoryview(data)
        while view and not self.is_over:
            count = 0
            for place in self.places(len(view)):
                place[:] = view[count : count + len(place)]
                count += len(place)
            self.came(count)
            view = view[count:]
