"""What somebody waits for goes before all else: a reader's place in a file that is being fetched. No connections here.

What is not needed soon makes way; what is needed now is divided among all who have it, each block to whom it will come
from first; and what one of them is slow to give is asked of the fastest too. The order is kept in `deadlines`.
"""

from __future__ import annotations

import heapq

from wire.peer.messages import BLOCK_BYTES
from wire.swarm.pieces import BlockId
from wire.swarm.requests import Requests
from wire.swarm.source import Source

__all__ = ["Urgent"]

FAR_S = 0.5
"""What comes after so much else of the same request to a web seed is asked for anew."""


class Urgent(Requests):
    """As `Requests`, for torrents that are read while they are fetched."""

    def divide(self, now: float) -> dict[Source, list[BlockId]]:
        """What to ask of whom for the pieces that are needed within `NEAR_S`, counted as asked: each block of whom it
        will come from first, by what they owe and how fast they are. Web seeds ask for their own.
        """
        asks: dict[Source, list[BlockId]] = {}
        able = [source for source in self._sources if source.endpoint is not None and not source.snubbed]
        rates = {one: one.blocks_s for one in able}
        for index in self.deadlines.near(now):
            able = [source for source in able if len(source.asked) < source.depth]
            bit = self._picker.bit(index)
            queue = [
                ((len(source.asked) + 1) / rates[source], place, source)
                for place, source in enumerate(able)
                if self._believed(source) & bit
            ]
            piece = self._open_urgent(index) if queue else None
            if piece is None or piece.alone:
                continue  # who has room adopts it (`fill`)
            heapq.heapify(queue)
            while piece.free and queue:
                _, place, source = queue[0]
                self._ask(source, piece, 1, asks.setdefault(source, []), now)
                if len(source.asked) < source.depth:
                    heapq.heapreplace(queue, ((len(source.asked) + 1) / rates[source], place, source))
                else:
                    heapq.heappop(queue)
        return asks

    def make_way(self, now: float) -> None:
        """Takes back what was asked for that is not needed soon, from those who can give what is; see `cancels`."""
        picker = self._picker
        self._share_out()
        near = self._set_of(self.deadlines.near(now))
        unasked = near & self._unasked
        for source in list(self._sources):
            if not source.askable & near:
                continue
            asked = list(source.asked)
            if source.endpoint is None:  # one request for much cannot be taken back in part: it is broken off
                if self._is_kept_waiting(source, now):
                    self.release(source)
                continue
            if not source.askable & unasked:  # what is needed stands in the queue: only what stands before it goes
                while asked and not picker.bit(asked[-1] >> 32) & near:
                    asked.pop()
            for key in [key for key in asked if not picker.bit(key >> 32) & near]:
                piece = self._open.get(key >> 32)
                source.take_back(key)
                if piece is not None:
                    number = (key & 0xFFFFFFFF) // BLOCK_BYTES
                    self._give_back(piece, number, source)
                    self._cancels.append((source, piece.block(number)))
            self._forget_late(source)

    def _is_kept_waiting(self, source: Source, now: float) -> bool:
        """Whether a web seed, which gives all of a request in its order, is busy with something else than what is
        needed first of it, or comes to that late."""
        picker = self._picker
        rate = max(source.meter.rate, source.meter.latest) / BLOCK_BYTES
        for index in self.deadlines.near(now):
            bit = picker.bit(index)
            if not bit & source.askable:
                continue
            if bit & self._unasked:
                return bool(source.asked)
            before, together = 0, 0.0
            for key, at in source.asked.items():
                if at != together:
                    before, together = 0, at
                if key >> 32 == index:
                    return before > FAR_S * rate > 0.0
                before += 1
        return False
