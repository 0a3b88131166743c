"""In which order a torrent's files are fetched: some before the others, all from the first byte to the last.

What is wanted at all is said elsewhere. It may be said before the files are known, and anew while they are fetched.
"""

from __future__ import annotations

from collections.abc import Sequence

from magnet.streaming import files_that_match
from wire.bitfield import Bitfield
from wire.errors import MisuseError
from wire.metainfo import Info
from wire.storage.store import Store
from wire.swarm.run import SwarmRunner
from wire.swarm.values import Priority

__all__ = ["Order", "piece_priorities"]


class Order:
    """The order of one torrent's files, which its swarm is told from `begin` on."""

    def __init__(self, first: Sequence[str], *, in_order: bool) -> None:
        """`first`: shell patterns of the files that go before all others."""
        self._said: list[tuple[Sequence[str], Priority]] = [(tuple(first), Priority.HIGH)] if first else []
        self._in_order = in_order
        self._runner: SwarmRunner | None = None
        self._files: list[Priority] = []

    def begin(self, runner: SwarmRunner, store: Store, have: Bitfield, wanted: Sequence[bool]) -> None:
        """`SwarmRunner.begin` in this order. Raises MisuseError where a pattern matches no file."""
        self._files = [Priority.NORMAL if flag else Priority.SKIP for flag in wanted]
        for patterns, priority in self._said:
            self._mark(store.info, patterns, priority)
        pieces = piece_priorities(store.info, self._files) if self._said else None
        runner.begin(store, have, wanted, priorities=pieces, sequential=self._in_order)
        self._runner = runner

    def prefer(self, patterns: Sequence[str], priority: Priority) -> None:
        """Says how much wanted files are wanted. Raises MisuseError for `SKIP`, and where no file matches."""
        if priority is Priority.SKIP:
            raise MisuseError("which files are wanted at all is said when a torrent is added")
        if self._runner is None or self._runner.swarm.info is None:
            self._said.append((tuple(patterns), priority))
            return
        self._mark(self._runner.swarm.info, patterns, priority)
        pieces = piece_priorities(self._runner.swarm.info, self._files)
        for level in (Priority.HIGH, Priority.NORMAL, Priority.LOW):
            self._runner.set_priority((index for index, one in pieces.items() if one is level), level)

    def read_in_order(self, in_order: bool) -> None:
        """Whether pieces are fetched from the first to the last, not the rarest first."""
        self._in_order = in_order
        if self._runner is not None:
            self._runner.set_sequential(in_order)

    def _mark(self, info: Info, patterns: Sequence[str], priority: Priority) -> None:
        for index, hit in enumerate(files_that_match(info, patterns)):
            if hit and self._files[index] is not Priority.SKIP:
                self._files[index] = priority


def piece_priorities(info: Info, files: Sequence[Priority]) -> dict[int, Priority]:
    """Of each piece of a wanted file: the highest priority of the files that it is part of."""
    pieces: dict[int, Priority] = {}
    for index, priority in enumerate(files):
        if priority is not Priority.SKIP:
            for piece in info.layout.pieces_of(index):
                pieces[piece] = max(priority, pieces.get(piece, priority))
    return pieces
