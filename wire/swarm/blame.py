"""Who lied about a piece that did not match its hash: found block by block. No requests are made here.

A wrong piece that one peer gave alone names it. One that several gave is fetched again from one peer alone; what then
turns out different was a lie, and whose it was is known by the digests that were kept of the wrong blocks. Of a torrent
of version 2 the digests are the leaves of the piece's tree (BEP 52): these can be asked for, which is sooner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wire.metainfo.merkle import HASH_BYTES
from wire.peer.messages import BLOCK_BYTES
from wire.swarm.pieces import OpenPiece
from wire.swarm.source import Source

__all__ = ["Blame"]

MAX_SUSPECTS = 64
"""Wrong pieces whose digests are kept."""


class _Suspect(NamedTuple):
    givers: list[Source]
    digests: list[bytes]


Digests = Callable[[int, memoryview], list[bytes]]
"""Of a piece and its bytes, something that tells each of its blocks from any other."""


def _digests(_: int, data: memoryview) -> list[bytes]:
    blocks = (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
    return [hashlib.blake2b(block, digest_size=16).digest() for block in blocks]


class Blame:
    """The wrong pieces whose liars are not known yet."""

    __slots__ = ("_digests", "suspects")

    def __init__(self, digests: Digests = _digests) -> None:
        self._digests = digests
        self.suspects: dict[int, _Suspect] = {}
        """What was kept of each wrong piece: it must be fetched from one source alone."""

    def wrong(self, piece: OpenPiece) -> list[Source]:
        """A whole piece was wrong. Names who lied, where that is clear."""
        givers = [giver for giver in piece.given if giver is not None]
        for giver in givers:
            giver.proven = False
        if len(dict.fromkeys(givers)) == 1:
            return givers[:1]
        if piece.index not in self.suspects:
            assert piece.view is not None
            self.suspects[piece.index] = _Suspect(givers, self._digests(piece.index, piece.view))
            while len(self.suspects) > MAX_SUSPECTS:
                del self.suspects[next(iter(self.suspects))]
        return []

    def right(self, piece: OpenPiece) -> list[Source]:
        """A whole piece was right. Names those whose blocks of it were others before."""
        for giver in piece.given:
            if giver is not None:
                giver.proven = True
        if piece.index not in self.suspects:
            return []
        assert piece.view is not None
        return list(self._liars(piece.index, self._digests(piece.index, piece.view)))

    def givers(self, index: int) -> Sequence[Source]:
        """Who gave a piece that was wrong, as long as it is not known who of them lied."""
        suspect = self.suspects.get(index)
        return () if suspect is None else list(dict.fromkeys(suspect.givers))

    def leaves(self, index: int, leaves: Sequence[bytes]) -> dict[Source, int]:
        """The leaves of a piece are known (BEP 52). Names those whose blocks were others, and one block of each."""
        suspect = self.suspects.get(index)
        if suspect is None:
            return {}
        beyond = [bytes(HASH_BYTES)] * (len(suspect.digests) - len(leaves))  # a hybrid's padding is in no tree
        return self._liars(index, [*leaves, *beyond])

    def _liars(self, index: int, right: Sequence[bytes]) -> dict[Source, int]:
        suspect = self.suspects.pop(index)
        liars: dict[Source, int] = {}
        for number, (giver, digest) in enumerate(zip(suspect.givers, suspect.digests, strict=True)):
            if digest != right[number]:
                liars.setdefault(giver, number)
        return liars
