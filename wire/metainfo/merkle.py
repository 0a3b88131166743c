"""Merkle trees over blocks of 16 KiB (BEP 52): leaves, roots, and proofs that some hashes belong to a root.

A layer is numbered from the leaves, which are layer 0, up. What lies past the end of a file is filled with leaves of
32 zero bytes (not the hash of zeros) and with what these give further up. Values only; which files have
which trees is in `layers`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = [
    "BLOCK_BYTES",
    "HASH_BYTES",
    "climb",
    "filler",
    "height_of",
    "leaves_of",
    "proof_length",
    "root_of",
    "root_of_layer",
    "slice_with_proof",
    "split",
]

BLOCK_BYTES = 16384
"""What one leaf of the tree is the hash of; the last one of a file may be of less."""
HASH_BYTES = 32

_sha256 = hashlib.sha256
_fillers = [bytes(HASH_BYTES)]


def filler(layer: int) -> bytes:
    """What a node of this layer is under which there is no block at all."""
    while len(_fillers) <= layer:
        last = _fillers[-1]
        _fillers.append(_sha256(last + last).digest())
    return _fillers[layer]


def height_of(nodes: int) -> int:
    """How many layers lie above a layer of so many nodes (1 or more), filled up to a power of two."""
    return (nodes - 1).bit_length()


def leaves_of(data: memoryview | bytearray | bytes) -> list[bytes]:
    """The hash of each block of 16 KiB; the last one may be shorter."""
    view = memoryview(data)
    sha256 = _sha256
    return [sha256(view[at : at + BLOCK_BYTES]).digest() for at in range(0, len(view), BLOCK_BYTES)]


def root_of(nodes: Sequence[bytes], height: int, layer: int = 0) -> bytes:
    """The node `height` layers above the first of these nodes, which lie in `layer`; what is missing is filled.

    There is at least one node, and no more than 2 to the power of `height`.
    """
    level = list(nodes)
    sha256 = _sha256
    for up in range(height):
        if len(level) % 2:
            level.append(filler(layer + up))
        pairs = iter(level)
        level = [sha256(left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return level[0]


def root_of_layer(layer: bytes, piece_length: int) -> bytes:
    """The root of a file's tree, from the hashes of its pieces laid end to end.

    `piece_length` is a power of two from 16 KiB on; `layer` is not empty.
    """
    hashes = split(layer)
    return root_of(hashes, height_of(len(hashes)), height_of(piece_length // BLOCK_BYTES))


def split(hashes: bytes) -> list[bytes]:
    """Hashes laid end to end, one by one."""
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def proof_length(length: int, proof_layers: int) -> int:
    """How many uncle hashes follow `length` hashes of which so many ancestor layers are asked to be proved.

    Of a layer that follows from the hashes themselves none is sent, though it counts (BEP 52).
    """
    return max(0, proof_layers - (length.bit_length() - 2))


def slice_with_proof(
    nodes: Sequence[bytes], layer: int, height: int, index: int, length: int, proof_layers: int
) -> list[bytes]:
    """The answer to a hash request (BEP 52): `length` nodes from `index` on, then their uncles, the lowest first.

    `nodes` is the whole of `layer`, fillers left out, `height` layers below the root; `length` is a power of two
    that divides `index`. Uncles end below the root, however many are asked for.
    """
    fill = filler(layer)
    answer = list(nodes[index : index + length])
    answer += [fill] * (length - len(answer))
    step = length.bit_length() - 1
    for up in range(step, min(height, step + proof_length(length, proof_layers))):
        uncle = (index >> up) ^ 1
        below = nodes[uncle << up : (uncle + 1) << up]
        answer.append(root_of(below, up, layer) if below else filler(layer + up))
    return answer


def climb(node: bytes, index: int, uncles: Sequence[bytes]) -> bytes:
    """The node that is reached from `node`, the one of that index in its layer, by way of its uncles."""
    for uncle in uncles:
        node = _sha256(uncle + node if index & 1 else node + uncle).digest()
        index >>= 1
    return node
