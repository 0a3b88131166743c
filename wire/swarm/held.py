"""Pieces of version 2 alone that are held back: their hash is not known yet, so nobody could say if they are right.

Their hashes are in no info dictionary (BEP 52): they come from peers, a file's all at once. No I/O.
"""

from __future__ import annotations

from wire.metainfo import Info
from wire.swarm.picker import Picker

__all__ = ["Held"]


class Held:
    """Keeps the picker from what cannot be judged; of other versions, from nothing."""

    def __init__(self, info: Info, picker: Picker) -> None:
        self._info = info
        self._picker = picker
        self._layers_seen = 0

    def hold(self) -> None:
        """Holds back what cannot be judged now, and nothing else."""
        self._layers_seen = len(self._info.layers)
        self._picker.hold(self._unjudgeable())

    def _unjudgeable(self) -> int:
        info, held = self._info, 0
        if info.info_hash.v1 is None and (missing := set(info.layers.missing())):
            for index, entry in enumerate(info.files):
                if entry.pieces_root in missing:
                    held |= self._picker.span(info.layout.pieces_of(index))
        return held

    def newly_judgeable(self) -> list[int]:
        """Pieces that are held back though their hash is known now; `hold` lets them go."""
        if not self._picker.held or len(self._info.layers) == self._layers_seen:
            return []
        return self._picker.indices(self._picker.held & ~self._unjudgeable())
