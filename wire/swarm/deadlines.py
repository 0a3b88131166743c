"""Pieces that somebody waits for, and until when: what is read while it is fetched. No peers, no blocks.

A reader says of each piece when it needs it; the soonest is asked for first, whatever is rarer (`requests`).
"""

from __future__ import annotations

from collections.abc import Mapping

from wire.swarm.picker import Picker

__all__ = ["NEAR_S", "Deadlines"]

MAX_DEADLINES = 1024
"""Pieces with a deadline: a reader needs what comes next, not all there is. The latest go first."""
FORESEEN_S = 20.0
"""Who reads on comes to a piece about when it was said, or somewhat sooner; who comes so much sooner went there."""
NEAR_S = 1.0
"""Who needs a piece within so long does not stand in a queue: what else was asked for is taken back."""


class Deadlines:
    """When each piece is needed, in monotonic seconds."""

    __slots__ = ("_at", "_order", "_picker", "pieces", "sought", "streams")

    def __init__(self, picker: Picker) -> None:
        self._picker = picker
        self._at: dict[int, float] = {}
        self._order: list[int] | None = []
        self.pieces = 0
        """The set of pieces with a deadline, as in `Picker`."""
        self.sought: int | None = None
        """The piece at which somebody began to read, last of all: it goes before what others wait for."""
        self.streams = False
        """Somebody reads while it is fetched, or did, and may go to another place at any time."""

    def set(self, at: Mapping[int, float], now: float) -> None:
        """When some pieces are needed; replaces what was said before of these."""
        self.streams = True
        first = min(at, key=lambda index: (at[index], index))
        if at[first] <= now and self._at.get(first, float("inf")) > now + FORESEEN_S:
            self.sought = first
        self._at.update(at)
        self.pieces |= self._picker.joint(at)
        self._order = None
        for index in self.order()[MAX_DEADLINES:]:
            self.clear(index)

    def clear(self, index: int) -> None:
        """It is stored, or nobody waits for it any more."""
        if self._at.pop(index, None) is not None:
            self.pieces &= ~self._picker.bit(index)
            self._order = None

    def order(self) -> list[int]:
        """All of them: the one that is sought, then the soonest first."""
        if self._order is None:
            self._order = sorted(self._at, key=lambda index: (index != self.sought, self._at[index], index))
        return self._order

    def awaited(self, now: float) -> int | None:
        """The first of them, if its time has come."""
        if not self.pieces or self._at[first := self.order()[0]] > now:
            return None
        return first

    def near(self, now: float) -> list[int]:
        """Those that are needed within `NEAR_S`, or were needed before, the soonest first."""
        if not self.pieces:
            return []
        return [index for index in self.order() if self._at[index] < now + NEAR_S]
