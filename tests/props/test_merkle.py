"""Random merkle trees (BEP 52): roots against the definition, proofs against roots, pieces against both."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.bencode import encode
from wire.errors import MetainfoError
from wire.metainfo import Info
from wire.metainfo.judge import PieceDigest, is_right, judge
from wire.metainfo.merkle import (
    BLOCK_BYTES,
    climb,
    filler,
    height_of,
    leaves_of,
    proof_length,
    root_of,
    root_of_layer,
    slice_with_proof,
)


def whole_tree(leaves: list[bytes], height: int) -> list[list[bytes]]:
    """Every layer, nothing left out: the definition."""
    layer = leaves + [bytes(32)] * ((1 << height) - len(leaves))
    layers = [layer]
    while len(layer) > 1:
        layer = [hashlib.sha256(layer[at] + layer[at + 1]).digest() for at in range(0, len(layer), 2)]
        layers.append(layer)
    return layers


leaf_lists = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70)


@given(leaf_lists, st.integers(0, 2))
def test_a_root_is_that_of_the_whole_tree(leaves: list[bytes], more: int) -> None:
    height = height_of(len(leaves)) + more
    assert root_of(leaves, height) == whole_tree(leaves, height)[-1][0]
    assert filler(height) == whole_tree([], height)[-1][0]


@given(leaf_lists, st.integers(0, 4), st.data())
def test_what_is_served_leads_to_the_root(leaves: list[bytes], up: int, data: st.DataObject) -> None:
    height = height_of(len(leaves))
    layers = whole_tree(leaves, height)
    layer = min(up, height)
    above = height - layer
    nodes = layers[layer][: -(-len(leaves) // (1 << layer))]
    step = data.draw(st.integers(0, above))
    length = 1 << step
    index = data.draw(st.integers(0, (1 << (above - step)) - 1)) * length
    answer = slice_with_proof(nodes, layer, above, index, length, max(above - 1, 0))
    hashes, uncles = answer[:length], answer[length:]
    assert hashes == layers[layer][index : index + length]
    assert len(uncles) == min(proof_length(length, max(above - 1, 0)), above - step) == above - step
    assert climb(root_of(hashes, step, layer), index >> step, uncles) == layers[-1][0]
    if uncles:
        uncles[-1] = bytes(31) + b"?"
        assert climb(root_of(hashes, step, layer), index >> step, uncles) != layers[-1][0]


def hybrid_of(data: bytes, piece_length: int, *, layers: bool = True) -> Info:
    leaves = leaves_of(data)
    per_piece = piece_length // BLOCK_BYTES
    hashes = [root_of(leaves[at : at + per_piece], height_of(per_piece)) for at in range(0, len(leaves), per_piece)]
    layer = b"".join(hashes)
    root = root_of(leaves, height_of(len(leaves)))
    pieces = [hashlib.sha1(data[at : at + piece_length]).digest() for at in range(0, len(data), piece_length)]
    items = {
        "file tree": {"x": {"": {"length": len(data), "pieces root": root}}},
        "length": len(data),
        "meta version": 2,
        "name": b"x",
        "piece length": piece_length,
        "pieces": b"".join(pieces),
    }
    info = Info.from_bytes(encode(items))
    if len(data) > piece_length:
        assert root_of_layer(layer, piece_length) == root
        if layers:
            info.layers.add(root, layer)
    return info


@given(st.integers(1, 9 * BLOCK_BYTES), st.sampled_from([BLOCK_BYTES, 2 * BLOCK_BYTES, 4 * BLOCK_BYTES]), st.data())
def test_pieces_fed_in_parts(size: int, piece_length: int, data: st.DataObject) -> None:
    content = hashlib.shake_128(size.to_bytes(4, "big")).digest(size)
    info = hybrid_of(content, piece_length)
    index = data.draw(st.integers(0, info.piece_count - 1))
    piece = bytearray(content[index * piece_length : (index + 1) * piece_length])
    assert is_right(info, index, piece)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(piece)), max_size=4)))
    digest = PieceDigest(info, index)
    for start, end in zip([0, *cuts], [*cuts, len(piece)], strict=True):
        digest.update(memoryview(piece)[start:end])
    assert judge(info, index, digest.hashes())
    piece[data.draw(st.integers(0, len(piece) - 1))] ^= 1
    assert not is_right(info, index, piece)
    assert not is_right(info, index, piece[:-1])


def test_a_layer_follows_from_the_pieces_of_a_hybrid() -> None:
    content = bytes(range(256)) * 300
    info = hybrid_of(content, BLOCK_BYTES, layers=False)
    assert not info.layers.complete
    for index in reversed(range(info.piece_count)):
        assert not info.layers.complete
        assert is_right(info, index, content[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
    assert info.layers.complete
    assert list(info.layers) == list(hybrid_of(content, BLOCK_BYTES).layers)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("layers", [True, False])
def test_a_hybrid_that_contradicts_itself(pieces: int, layers: bool) -> None:
    """Its two sides name different bytes: one clear reason, whichever the peers send."""
    one, other = (letter * (BLOCK_BYTES * pieces) for letter in (b"1", b"2"))
    v1, v2 = hybrid_of(one, BLOCK_BYTES), hybrid_of(other, BLOCK_BYTES)
    items = v1.raw.replace(v1.files[0].pieces_root or b"", v2.files[0].pieces_root or b"")
    info = Info.from_bytes(items)
    if layers:
        for root, layer in v2.layers:
            info.layers.add(root, layer)
    with pytest.raises(MetainfoError, match="contradicts itself"):
        [is_right(info, at // BLOCK_BYTES, one[at : at + BLOCK_BYTES]) for at in range(0, len(one), BLOCK_BYTES)]
    if layers:
        with pytest.raises(MetainfoError, match="contradicts itself"):
            is_right(info, 0, other[:BLOCK_BYTES])


def test_a_hybrids_padding_is_judged_too() -> None:
    """It is no part of the tree: a peer that sends other bytes there lies, and the torrent is not to blame."""
    content, pad = b"a" * 20_000, 2 * BLOCK_BYTES - 20_000
    piece = content + bytes(pad)
    root = root_of(leaves_of(content), 1)
    items = {
        "file tree": {"a": {"": {"length": len(content), "pieces root": root}}, "b": {"": {"length": 0}}},
        "files": [
            {"length": len(content), "path": ["a"]},
            {"attr": "p", "length": pad, "path": [".pad", str(pad)]},
            {"length": 0, "path": ["b"]},
        ],
        "meta version": 2,
        "name": b"x",
        "piece length": 2 * BLOCK_BYTES,
        "pieces": hashlib.sha1(piece).digest(),
    }
    info = Info.from_bytes(encode(items))
    assert is_right(info, 0, piece)
    assert not is_right(info, 0, piece[:-1] + b"!")
    digest = PieceDigest(info, 0)
    for at in range(0, len(piece), 1000):
        digest.update(piece[at : at + 1000])
    assert judge(info, 0, digest.hashes())
