"""Who lied about a piece that did not match its hash: found block by block. No requests are made here.

A wrong piece that one peer gave alone names it. One that several gave is fetched again from one peer alone; what then
turns out different was a lie, and whose it was is known by the digests that were kept of the wrong blocks.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from wire.peer.messages import BLOCK_BYTES
from wire.swarm.pieces import OpenPiece
from wire.swarm.source import Source

__all__ = ["Blame"]

MAX_SUSPECTS = 64
"""Wrong pieces whose digests are kept."""


class _Suspect(NamedTuple):
    givers: list[Source]
    digests: list[bytes]


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


class Blame:
    """The wrong pieces whose liars are not known yet."""

    __slots__ = ("_suspects",)

    def __init__(self) -> None:
        self._suspects: dict[int, _Suspect] = {}

    def __contains__(self, index: int) -> bool:
        """Whether this piece must be fetched from one source alone."""
        return index in self._suspects

    def wrong(self, piece: OpenPiece) -> list[Source]:
        """A whole piece was wrong. Names who lied, where that is clear."""
        givers = [giver for giver in piece.given if giver is not None]
        for giver in givers:
            giver.proven = False
        if len(dict.fromkeys(givers)) == 1:
            return givers[:1]
        if piece.index not in self._suspects:
            assert piece.view is not None
            digests = [_digest(piece.view[at : at + BLOCK_BYTES]) for at in range(0, piece.size, BLOCK_BYTES)]
            self._suspects[piece.index] = _Suspect(givers, digests)
            while len(self._suspects) > MAX_SUSPECTS:
                del self._suspects[next(iter(self._suspects))]
        return []

    def right(self, piece: OpenPiece) -> list[Source]:
        """A whole piece was right. Names those whose blocks of it were others before."""
        for giver in piece.given:
            if giver is not None:
                giver.proven = True
        suspect = self._suspects.pop(piece.index, None)
        if suspect is None:
            return []
        assert piece.view is not None
        liars: dict[Source, None] = {}
        for number, (giver, digest) in enumerate(zip(suspect.givers, suspect.digests, strict=True)):
            if _digest(piece.view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]) != digest:
                liars[giver] = None
        return list(liars)
