"""Pieces and blocks that follow each other, as one: so that they are read, written and remembered in one go. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["Stretch", "cut", "runs_of", "stretches_of"]

Stretch = tuple[int, int, list[memoryview]]
"""Bytes of a piece that follow each other: its index, where they begin, and where they are to be read to."""


def stretches_of(requests: Sequence[tuple[int, int, int]], views: Sequence[memoryview]) -> list[Stretch]:
    """Requests of (index, begin, length) that follow each other in a piece, as one; each has its view."""
    joined: list[Stretch] = []
    piece, end = -1, 0
    for (index, begin, length), view in zip(requests, views, strict=True):
        if index == piece and begin == end:
            joined[-1][2].append(view)
        else:
            joined.append((index, begin, [view]))
            piece, end = index, begin
        end += length
    return joined


def cut(views: Sequence[memoryview], count: int) -> tuple[list[memoryview], list[memoryview]]:
    """The first `count` bytes of what lies in these views, and the rest."""
    for number, view in enumerate(views):
        if count < len(view):
            return [*views[:number], view[:count]], [view[count:], *views[number + 1 :]]
        count -= len(view)
    return list(views), []


def runs_of(indices: Sequence[int]) -> Iterator[range]:
    """Ascending indices as ranges of neighbours."""
    start = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1:
            yield range(indices[start], indices[end - 1] + 1)
            start = end
