"""Whether a piece's bytes are right: by SHA-1 (BEP 3), by a merkle tree of SHA-256 (BEP 52), a hybrid's by both.

The digests are fed in parts, so that a piece need not be in memory whole. For threads: nothing here is
changed but what `PieceLayers` learns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from wire.errors import MetainfoError
from wire.metainfo.info import Info, TreePiece
from wire.metainfo.merkle import BLOCK_BYTES, HASH_BYTES, leaves_of, root_of

__all__ = ["PieceDigest", "PieceHashes", "block_digests", "is_right", "judge", "leaves_if_right"]


class PieceHashes(NamedTuple):
    """What the bytes of a piece hash to, by the versions of its torrent."""

    sha1: bytes | None
    root: bytes | None
    """Of the merkle tree over its blocks."""
    padded: bool = True
    """What follows the file's last byte is zeros, as it must be (BEP 47); the tree does not see it."""


class PieceDigest:
    """The hashes of one piece of a torrent, fed with its bytes in order."""

    __slots__ = ("_leaves", "_left", "_padded", "_sha1", "_tail", "_tree")

    def __init__(self, info: Info, index: int) -> None:
        self._tree: TreePiece | None = info.tree_piece(index)
        self._sha1 = None if info.info_hash.v1 is None else hashlib.sha1(usedforsecurity=False)
        self._leaves: list[bytes] = []
        self._tail = b""  # of a block that is not whole yet
        self._padded = True
        self._left = 0 if self._tree is None else self._tree.size
        """Bytes that the tree is still to see; a hybrid's padding comes after them."""

    def update(self, data: memoryview | bytearray | bytes) -> None:
        """The next bytes."""
        if self._sha1 is not None:
            self._sha1.update(data)
        if self._tree is not None and len(data) > self._left:
            rest = bytes(memoryview(data)[self._left :])
            self._padded = self._padded and rest.count(0) == len(rest)
        if self._left:
            view = memoryview(data)[: self._left]
            self._left -= len(view)
            if self._tail or (len(view) % BLOCK_BYTES and self._left):
                view = memoryview(self._tail + view)
                whole = len(view) if not self._left else len(view) // BLOCK_BYTES * BLOCK_BYTES
                view, self._tail = view[:whole], bytes(view[whole:])
            self._leaves += leaves_of(view)

    def hashes(self) -> PieceHashes:
        """What the piece's bytes gave, once all were fed."""
        tree = self._tree
        return PieceHashes(
            None if self._sha1 is None else self._sha1.digest(),
            None if tree is None or self._left else root_of(self._leaves, tree.height),
            self._padded,
        )


def judge(info: Info, index: int, found: PieceHashes) -> bool:
    """Whether these are the hashes of a piece. False too where none of it is known (see `PieceLayers`).

    Raises MetainfoError where a hybrid's two hashes cannot both be of one piece.
    """
    right1 = None if found.sha1 is None else found.sha1 == info.piece_hash(index)
    tree = info.tree_piece(index)
    if tree is None:
        return bool(right1)
    if found.root is None:
        return False
    if tree.hash is None:
        if right1:
            info.layers.compute(tree.root, tree.number, found.root)
        return bool(right1)
    right2 = found.root == tree.hash and found.padded
    if right1 is not None and right1 != right2:
        raise MetainfoError(
            f"the hybrid torrent contradicts itself: piece {index} is right by its version "
            f"{1 if right1 else 2} hash and wrong by the other"
        )
    return right2


def is_right(info: Info, index: int, data: memoryview | bytearray | bytes) -> bool:
    """Whether these are the bytes of a piece; of another size they are not. Raises as `judge` does."""
    if len(data) != info.piece_size(index):
        return False
    if info.info_hash.v2 is None:
        return hashlib.sha1(data, usedforsecurity=False).digest() == info.piece_hash(index)
    digest = PieceDigest(info, index)
    digest.update(data)
    return judge(info, index, digest.hashes())


def block_digests(info: Info, index: int, data: memoryview) -> list[bytes]:
    """For each block of 16 KiB of a piece of version 2 its leaf (BEP 52), 32 zero bytes for one of a hybrid's padding.

    A block in which padding is not zeros has another digest, which no right one has.
    """
    tree = info.tree_piece(index)
    size = 0 if tree is None else tree.size
    digests = leaves_of(data[:size])
    digests += [bytes(HASH_BYTES)] * (-(-len(data) // BLOCK_BYTES) - len(digests))
    for at in range(size // BLOCK_BYTES * BLOCK_BYTES, len(data), BLOCK_BYTES):
        padding = bytes(data[max(at, size) : at + BLOCK_BYTES])
        if padding.count(0) != len(padding):
            digests[at // BLOCK_BYTES] = hashlib.sha256(b"padding" + padding).digest()
    return digests


def leaves_if_right(info: Info, index: int, parts: Iterable[memoryview | bytes]) -> bytes | None:
    """The leaves of a piece of version 2 end to end, out of its bytes in order; None where these are not right.

    All `parts` but the last are whole blocks.
    """
    tree = info.tree_piece(index)
    if tree is None:
        return None
    leaves: list[bytes] = []
    left = tree.size
    for part in parts:
        leaves += leaves_of(memoryview(part)[:left])
        left = max(0, left - len(part))
    return b"".join(leaves) if root_of(leaves, tree.height) == tree.hash else None
