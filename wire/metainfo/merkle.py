"""Merkle trees over blocks of 16 KiB (BEP 52): the root that a layer of piece hashes gives.

Hashing pieces of v2 torrents themselves is not here yet.
"""

from __future__ import annotations

import hashlib

__all__ = ["BLOCK_BYTES", "HASH_BYTES", "root_of_layer"]

BLOCK_BYTES = 16384
"""What one leaf of the tree is the hash of."""
HASH_BYTES = 32


def root_of_layer(layer: bytes, piece_length: int) -> bytes:
    """The root of a file's tree, from the hashes of its pieces laid end to end.

    What is missing to a power of two is filled with the root of a piece without any blocks, whose leaves are
    32 zero bytes each. `piece_length` is a power of two from 16 KiB on; `layer` is not empty.
    """
    filler = bytes(HASH_BYTES)
    blocks = BLOCK_BYTES
    while blocks < piece_length:
        filler = hashlib.sha256(filler + filler).digest()
        blocks *= 2
    hashes = [layer[at : at + HASH_BYTES] for at in range(0, len(layer), HASH_BYTES)]
    while len(hashes) > 1:
        if len(hashes) % 2:
            hashes.append(filler)
        hashes = [hashlib.sha256(hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes), 2)]
        filler = hashlib.sha256(filler + filler).digest()
    return hashes[0]
