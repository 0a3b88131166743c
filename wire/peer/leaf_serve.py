"""Answers requests for the hashes of single blocks (BEP 52, base layer 0), from the leaves of pieces. No I/O.

Leaves are in no .torrent: somebody reads and hashes a piece that is there, and puts them here. Which pieces a request
takes is told here, and the leaves of the last ones asked for are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from wire.metainfo import Info
from wire.metainfo.merkle import BLOCK_BYTES, HASH_BYTES, height_of, proof_length, slice_with_proof, split
from wire.peer.hash_serve import HashServe
from wire.peer.hashes import MAX_ASKED, HashAsk

__all__ = ["LeafServe"]

MAX_KEPT_BYTES = 1 << 20
"""Of leaves: those of 512 MiB of data."""
MAX_LEAVES_ASKED = 8192
"""Of a piece larger than 8 MiB libtorrent asks for all leaves at once, more than BEP 52 would; it takes so many."""


class LeafServe:
    """The leaves of one torrent. `layers` answers for what lies above them."""

    def __init__(self, info: Info, layers: HashServe) -> None:
        self._info = info
        self._layers = layers
        self._per_piece = info.piece_length // BLOCK_BYTES
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._places: dict[bytes, list[tuple[int, int]]] = {}
        """By root: the first piece and the bytes of each file that has it."""
        for entry in info.files:
            if entry.pieces_root is not None:
                place = (entry.offset // info.piece_length, entry.size)
                self._places.setdefault(entry.pieces_root, []).append(place)

    def places(self, ask: HashAsk) -> list[range]:
        """The pieces whose leaves the answer takes; those of any of these ranges. None at all: it makes no sense."""
        found = []
        for first, size in self._places.get(ask.root, ()):
            blocks = -(-size // BLOCK_BYTES)
            height = self._height(size)
            most = max(MAX_ASKED, min(self._per_piece, MAX_LEAVES_ASKED))
            fits = ask.is_sane_for(most) and ask.index + ask.length <= 1 << height and ask.proof_layers <= height
            if ask.base == 0 and fits and ask.index < blocks:
                last = min(ask.index + ask.length, blocks) - 1
                found.append(range(first + ask.index // self._per_piece, first + last // self._per_piece + 1))
        return found

    def _height(self, size: int) -> int:
        """Of the tree of a file of so many bytes."""
        if size <= self._info.piece_length:
            return height_of(-(-size // BLOCK_BYTES))
        return height_of(self._per_piece) + height_of(-(-size // self._info.piece_length))

    def lacks(self, pieces: Sequence[int]) -> list[int]:
        """Those of these whose leaves are not here."""
        return [index for index in pieces if index not in self._kept]

    def put(self, index: int, leaves: bytes) -> None:
        """Takes the leaves of a piece, end to end: they give its hash."""
        self._kept_bytes += len(leaves) - len(self._kept.pop(index, b""))
        self._kept[index] = leaves
        while self._kept_bytes > MAX_KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def answer(self, ask: HashAsk, pieces: range) -> list[bytes] | None:
        """The hashes and their uncles; None where these cannot be known. `pieces` is of `places`, and lacks nothing."""
        for index in pieces:
            self._kept.move_to_end(index)
        tree = self._info.tree_piece(pieces[0])
        assert tree is not None
        size = next(size for first, size in self._places[ask.root] if first + tree.number == pieces[0])
        step = ask.length.bit_length() - 1
        if step <= tree.height:
            nodes = split(self._kept[pieces[0]])
            at = ask.index & ((1 << tree.height) - 1)
            answer = slice_with_proof(nodes, 0, tree.height, at, ask.length, ask.proof_layers)
        else:
            answer = split(b"".join(self._kept[index] for index in pieces))
            answer += [bytes(HASH_BYTES)] * (ask.length - len(answer))
        above = min(self._height(size), step + proof_length(ask.length, ask.proof_layers)) - max(step, tree.height)
        if above > 0:
            whole = max(1, ask.length // self._per_piece)
            higher = HashAsk(ask.root, tree.height, tree.number, whole, above + whole.bit_length() - 2)
            proof = self._layers.answer(higher)
            if proof is None:
                return None
            answer += proof[whole:]
        return answer
