"""Piece layers over the wire (BEP 52): what one side serves the other takes, whatever the shape; liars are caught."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.bencode import encode
from wire.errors import ProtocolError
from wire.metainfo import Info
from wire.metainfo.merkle import BLOCK_BYTES, height_of, root_of_layer
from wire.peer import hash_fetch
from wire.peer.hash_fetch import MAX_OUTSTANDING, HashFetch
from wire.peer.hash_serve import HashServe
from wire.peer.hashes import HashAsk


def layer_of(count: int, salt: int = 0) -> bytes:
    return b"".join(hashlib.sha256(b"%d %d" % (salt, at)).digest() for at in range(count))


def infos(counts: list[int], piece_length: int) -> tuple[Info, Info]:
    """A torrent with files of so many pieces: one who knows all layers, one who knows none."""
    tree, layers = {}, {}
    for at, count in enumerate(counts):
        layer = layer_of(count, at)
        root = root_of_layer(layer, piece_length)
        layers[root] = layer
        tree[f"f{at}"] = {"": {"length": count * piece_length - 5, "pieces root": root}}
    raw = encode({"file tree": tree, "meta version": 2, "name": b"x", "piece length": piece_length})
    full, empty = Info.from_bytes(raw), Info.from_bytes(raw)
    for root, layer in layers.items():
        full.layers.add(root, layer)
    return full, empty


counts = st.lists(st.one_of(st.integers(2, 20), st.integers(500, 1100), st.sampled_from([512, 513, 1024])), max_size=4)


@given(counts.filter(bool), st.sampled_from([BLOCK_BYTES, 8 * BLOCK_BYTES]), st.integers(1, 3))
def test_whatever_the_shape(pieces: list[int], piece_length: int, peers: int) -> None:
    full, empty = infos(pieces, piece_length)
    fetch: HashFetch[int] = HashFetch(empty.layers)
    serve = HashServe(full)
    for peer in range(peers):
        fetch.offer(peer)
    while not fetch.done:
        asks = fetch.assign(0.0)
        assert asks
        for peer, ask in asks:
            assert ask.is_sane
            assert ask.length >= 2
            answer = serve.answer(ask)
            assert answer is not None
            fetch.data(peer, ask, tuple(answer))
    assert list(empty.layers) == list(full.layers)
    assert fetch.assign(1.0) == []


@given(st.integers(2, 1100), st.data())
def test_one_wrong_bit_is_a_lie(count: int, data: st.DataObject) -> None:
    full, empty = infos([count], BLOCK_BYTES)
    fetch: HashFetch[str] = HashFetch(empty.layers)
    fetch.offer("liar")
    asks = fetch.assign(0.0)
    _, ask = data.draw(st.sampled_from(asks))
    answer = HashServe(full).answer(ask)
    assert answer is not None
    at = data.draw(st.integers(0, len(answer) - 1))
    answer[at] = bytes([answer[at][0] ^ 1]) + answer[at][1:]
    with pytest.raises(ProtocolError):
        fetch.data("liar", ask, tuple(answer))
    fetch.gone("liar")
    fetch.offer("honest")
    assert {ask for _, ask in fetch.assign(0.0)} == {ask for _, ask in asks}


asks = st.builds(
    HashAsk,
    st.one_of(st.binary(min_size=32, max_size=32), st.just(root_of_layer(layer_of(700), BLOCK_BYTES))),
    st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)),
    st.one_of(st.sampled_from([0, 512, 1024]), st.integers(0, 2**32 - 1)),
    st.one_of(st.sampled_from([1, 2, 256, 512]), st.integers(0, 2**32 - 1)),
    st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1)),
)


@given(asks)
def test_any_request_is_answered_or_not(ask: HashAsk) -> None:
    full, _ = infos([700], BLOCK_BYTES)
    answer = HashServe(full).answer(ask)
    if answer is not None:
        assert ask.is_sane
        assert ask.length <= len(answer) <= ask.length + height_of(700)


@given(asks, st.lists(st.binary(min_size=32, max_size=32), max_size=3))
def test_what_was_not_asked_is_a_breach(ask: HashAsk, hashes: list[bytes]) -> None:
    _, empty = infos([700], BLOCK_BYTES)
    fetch: HashFetch[int] = HashFetch(empty.layers)
    fetch.offer(1)
    with pytest.raises(ProtocolError):
        fetch.data(1, ask, tuple(hashes))


def test_who_refuses_or_is_silent_makes_room_for_others() -> None:
    full, empty = infos([3, 4, 5], BLOCK_BYTES)
    fetch: HashFetch[str] = HashFetch(empty.layers)
    fetch.offer("refuses")
    first = fetch.assign(0.0)
    assert [peer for peer, _ in first] == ["refuses"] * 3
    fetch.reject("refuses", first[0][1], 0.0)
    assert fetch.assign(0.0) == [], "what it refused it is not asked again"
    fetch.offer("other")
    assert fetch.assign(0.0) == [("other", first[0][1])]
    assert fetch.next_timer() == hash_fetch.ANSWER_TIMEOUT_S
    late = fetch.assign(hash_fetch.ANSWER_TIMEOUT_S)
    assert late == []
    assert fetch.next_timer() == hash_fetch.ANSWER_TIMEOUT_S + hash_fetch.REST_S
    fetch.offer("third")
    assert len(fetch.assign(20.0)) == 3
    assert not fetch.data("other", first[0][1], tuple(HashServe(full).answer(first[0][1]) or ())), "late, no lie"


def test_requests_of_a_peer_are_bounded() -> None:
    _, empty = infos([2 + at for at in range(2 * MAX_OUTSTANDING)], BLOCK_BYTES)
    fetch: HashFetch[int] = HashFetch(empty.layers)
    fetch.offer(1)
    assert len(fetch.assign(0.0)) == MAX_OUTSTANDING
    assert fetch.assign(0.0) == []
