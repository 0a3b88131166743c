"""Answers requests for hashes of pieces (BEP 52) from the piece layers that are known. No I/O.

The hashes of a layer that is asked for again and again are not climbed each time: the roots of its stretches of 512
are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from wire.metainfo import Info
from wire.metainfo.merkle import BLOCK_BYTES, HASH_BYTES, height_of, proof_length, root_of, slice_with_proof, split
from wire.peer.hashes import MAX_ASKED, HashAsk

__all__ = ["HashServe"]

MAX_TREES = 64
"""Files whose stretches are remembered."""
_STEP = height_of(MAX_ASKED)


class HashServe:
    """Answers for one torrent."""

    def __init__(self, info: Info) -> None:
        self._info = info
        self._base = height_of(info.piece_length // BLOCK_BYTES)
        self._stretches: OrderedDict[bytes, list[bytes]] = OrderedDict()

    def answer(self, ask: HashAsk) -> list[bytes] | None:
        """The hashes and their uncles; None where they are not known, or the request makes no sense."""
        layer = self._info.layers.get(ask.root)
        count = self._info.layers.pieces_of(ask.root)
        if layer is None or count is None or ask.base != self._base or not self._fits(ask, height_of(count)):
            return None
        return self._from_layer(ask, layer, count)

    def _fits(self, ask: HashAsk, height: int) -> bool:
        return ask.is_sane and ask.index + ask.length <= 1 << height and ask.proof_layers <= height

    def _from_layer(self, ask: HashAsk, layer: bytes, count: int) -> list[bytes]:
        height = height_of(count)
        inner = min(_STEP, height)
        stretch, at = divmod(ask.index, 1 << inner)
        start = (stretch << inner) * HASH_BYTES
        nodes = split(layer[start : start + (HASH_BYTES << inner)])
        answer = slice_with_proof(nodes, ask.base, inner, at, ask.length, ask.proof_layers)
        step = ask.length.bit_length() - 1
        above = min(height, step + proof_length(ask.length, ask.proof_layers)) - inner
        if above > 0:
            roots = self._roots(ask.root, layer)
            answer += slice_with_proof(roots, ask.base + inner, height - inner, stretch, 1, above - 1)[1:]
        return answer

    def _roots(self, root: bytes, layer: bytes) -> Sequence[bytes]:
        known = self._stretches.get(root)
        if known is None:
            width = HASH_BYTES << _STEP
            known = [root_of(split(layer[at : at + width]), _STEP, self._base) for at in range(0, len(layer), width)]
            self._stretches[root] = known
            if len(self._stretches) > MAX_TREES:
                self._stretches.popitem(last=False)
        return known
