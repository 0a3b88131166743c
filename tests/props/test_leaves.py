"""Hashes of single blocks over the wire (BEP 52): what one side serves the other takes, whatever the shape."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.bencode import encode
from wire.errors import ProtocolError
from wire.metainfo import Info
from wire.metainfo.merkle import BLOCK_BYTES, height_of, root_of, root_of_layer, slice_with_proof
from wire.peer.hash_fetch import WrongHashesError
from wire.peer.hash_serve import HashServe
from wire.peer.hashes import HashAsk
from wire.peer.leaf_fetch import ANSWER_TIMEOUT_S, MAX_TRIES, LeafFetch
from wire.peer.leaf_serve import LeafServe


class File:
    """A file of so many blocks, and all of its tree."""

    def __init__(self, number: int, blocks: int, per_piece: int) -> None:
        self.leaves = [hashlib.sha256(b"%d %d" % (number, at)).digest() for at in range(blocks)]
        self.pieces = [self.leaves[at : at + per_piece] for at in range(0, blocks, per_piece)]
        step = height_of(per_piece)
        self.height = height_of(blocks)
        self.root = root_of(self.leaves, self.height)
        self.layer = b""
        if len(self.pieces) > 1:
            self.layer = b"".join(root_of(piece, step) for piece in self.pieces)
            self.height = step + height_of(len(self.pieces))
            self.root = root_of_layer(self.layer, per_piece * BLOCK_BYTES)


class Torrent:
    def __init__(self, counts: list[int], per_piece: int) -> None:
        self.files = [File(number, blocks, per_piece) for number, blocks in enumerate(counts)]
        tree = {
            f"f{number:03}": {"": {"length": len(file.leaves) * BLOCK_BYTES - 7, "pieces root": file.root}}
            for number, file in enumerate(self.files)
        }
        raw = encode({"file tree": tree, "meta version": 2, "name": b"x", "piece length": per_piece * BLOCK_BYTES})
        self.info = Info.from_bytes(raw)
        for file in self.files:
            if file.layer:
                self.info.layers.add(file.root, file.layer)
        self.leaves = [piece for file in self.files for piece in file.pieces]
        self.serve = LeafServe(self.info, HashServe(self.info))

    def answer(self, ask: HashAsk) -> list[bytes] | None:
        for pieces in self.serve.places(ask):
            for index in self.serve.lacks(pieces):
                self.serve.put(index, b"".join(self.leaves[index]))
            return self.serve.answer(ask, pieces)
        return None


torrents = st.builds(
    Torrent, st.lists(st.integers(1, 40), min_size=1, max_size=4), st.sampled_from([2, 4, 16])
)  # of two blocks a piece at least: else the pieces' hashes are the leaves


@given(torrents, st.data())
def test_any_request_is_answered_as_from_the_whole_tree(torrent: Torrent, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(torrent.files))
    length = 1 << data.draw(st.integers(0, 6))
    index = data.draw(st.integers(0, 8)) * length
    ask = HashAsk(file.root, 0, index, length, data.draw(st.integers(0, 8)))
    answer = torrent.answer(ask)
    makes_sense = index + length <= 1 << file.height and ask.proof_layers <= file.height and index < len(file.leaves)
    assert (answer is not None) == makes_sense
    if answer is not None:
        assert answer == slice_with_proof(file.leaves, 0, file.height, index, length, ask.proof_layers)


@given(torrents, st.data())
def test_what_is_asked_is_answered_and_gives_the_leaves(torrent: Torrent, data: st.DataObject) -> None:
    fetch: LeafFetch[str] = LeafFetch(torrent.info)
    fetch.offer("honest")
    index = data.draw(st.integers(0, len(torrent.leaves) - 1))
    fetch.want(index, {"honest"})
    asks = fetch.assign(0.0, lambda peer, piece: piece == index)
    if len(torrent.leaves[index]) == 1 and torrent.info.tree_piece(index).height == 0:  # type: ignore[union-attr]
        assert not asks, "its hash is its leaf"
        return
    known = None
    for _, ask in asks:
        answer = torrent.answer(ask)
        assert answer is not None
        at = data.draw(st.integers(0, len(answer) - 1))
        bad = [*answer[:at], bytes([answer[at][0] ^ 1]) + answer[at][1:], *answer[at + 1 :]]
        liars: LeafFetch[int] = LeafFetch(torrent.info)
        for liar, lie in enumerate((bad, answer[:-1], [*answer, bytes(32)])):
            liars.offer(liar)
            liars.want(index, ())
            assert (liar, ask) in liars.assign(0.0, lambda *_: True)
            with pytest.raises(WrongHashesError):
                liars.data(liar, ask, tuple(lie))
            liars.gone(liar)
        known = fetch.data("honest", ask, tuple(answer))
    assert known == (index, torrent.leaves[index])
    assert fetch.next_timer() is None


def test_a_large_piece_takes_several_requests_and_each_proves_itself() -> None:
    torrent = Torrent([3 * 1024 - 1], 1024)
    fetch: LeafFetch[int] = LeafFetch(torrent.info)
    fetch.offer(1)
    for index in (0, 2):
        fetch.want(index, ())
        asks = fetch.assign(0.0, lambda *_: True)
        assert [(ask.length, ask.index) for _, ask in asks] == [(512, index * 1024), (512, index * 1024 + 512)]
        known = [fetch.data(1, ask, tuple(torrent.answer(ask) or ())) for _, ask in asks]
        assert known == [None, (index, torrent.leaves[index])]


def test_libtorrent_asks_for_a_large_piece_at_once() -> None:
    torrent = Torrent([3 * 1024], 1024)
    root = torrent.files[0].root
    answer = torrent.answer(HashAsk(root, 0, 1024, 1024, 11))
    assert answer is not None
    assert answer[:1024] == torrent.leaves[1]
    assert torrent.answer(HashAsk(root, 0, 0, 2048, 11)) is None, "two pieces at once are too much"


@given(st.builds(HashAsk, st.binary(min_size=32, max_size=32), *[st.integers(0, 2**32 - 1)] * 4))
def test_any_request_about_another_tree_makes_no_sense(ask: HashAsk) -> None:
    assert Torrent([5], 2).answer(ask) is None


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.peer.leaf_serve.MAX_KEPT_BYTES", 32 * 8)
    torrent = Torrent([40], 4)
    for index in range(10):
        torrent.serve.put(index, b"".join(torrent.leaves[index]))
        torrent.serve.put(index, b"".join(torrent.leaves[index]))
    assert torrent.serve.lacks(range(10)) == list(range(8))


def test_who_is_asked_and_how_often() -> None:
    torrent = Torrent([8], 4)
    fetch: LeafFetch[str] = LeafFetch(torrent.info)
    names = [f"peer {number}" for number in range(MAX_TRIES + 2)]
    for name in names:
        fetch.offer(name)
    fetch.want(1, {names[0]})
    asked, now = [], 0.0
    for _ in itertools.count():
        if not (asks := fetch.assign(now, lambda peer, _: peer != names[1])):
            break
        ((peer, ask),) = asks
        asked.append(peer)
        if len(asked) == 1:
            fetch.reject(peer, ask)  # refused
        elif len(asked) == 2:
            fetch.gone(peer)  # closed
        else:
            assert fetch.next_timer() == now + ANSWER_TIMEOUT_S
            assert not fetch.assign(now, lambda *_: True)
            now += ANSWER_TIMEOUT_S  # silent
    assert asked == names[2 : 2 + MAX_TRIES], "not who lacks the piece; who gave of it, last"
    assert fetch.data(asked[-1], ask, tuple(torrent.answer(ask) or ())) is None, "late, and no lie"
    with pytest.raises(ProtocolError):
        fetch.data(asked[-1], ask, tuple(torrent.answer(ask) or ()))
