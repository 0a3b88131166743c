"""Pieces that somebody waits for, and until when: what is read while it is fetched. No peers, no blocks.

A reader says of each piece when it needs it; the soonest is asked for first, whatever is rarer (`requests`).
"""

from __future__ import annotations

from collections.abc import Mapping

from wire.swarm.picker import Picker

__all__ = ["NEAR_S", "Deadlines"]

MAX_DEADLINES = 1024
"""Pieces with a deadline: a reader needs what comes next, not all there is. The latest go first."""
NEAR_S = 1.0
"""Who needs a piece within so long does not stand in a queue: what else was asked for is taken back."""


class Deadlines:
    """When each piece is needed, in monotonic seconds."""

    __slots__ = ("_at", "_order", "_picker", "pieces")

    def __init__(self, picker: Picker) -> None:
        self._picker = picker
        self._at: dict[int, float] = {}
        self._order: list[int] | None = []
        self.pieces = 0
        """The set of pieces with a deadline, as in `Picker`."""

    def set(self, at: Mapping[int, float]) -> None:
        """When some pieces are needed; replaces what was said before of these."""
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
        """All of them, the soonest first."""
        if self._order is None:
            self._order = sorted(self._at, key=lambda index: (self._at[index], index))
        return self._order

    def near(self, now: float) -> list[int]:
        """Those that are needed within `NEAR_S`, or were needed before, the soonest first."""
        if not self.pieces:
            return []
        return [index for index in self.order() if self._at[index] < now + NEAR_S]
