"""Pieces and blocks that follow each other, as one: so that they are read, written and remembered in one go. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["runs_of", "stretches_of"]


def stretches_of(requests: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, list[int]]]:
    """Requests that follow each other in a piece, as one: its index, where it begins, and the lengths of each."""
    joined: list[tuple[int, int, list[int]]] = []
    piece, end = -1, 0
    for index, begin, length in requests:
        if index == piece and begin == end:
            joined[-1][2].append(length)
        else:
            joined.append((index, begin, [length]))
            piece, end = index, begin
        end += length
    return joined


def runs_of(indices: Sequence[int]) -> Iterator[range]:
    """Ascending indices as ranges of neighbours."""
    start = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1:
            yield range(indices[start], indices[end - 1] + 1)
            start = end
