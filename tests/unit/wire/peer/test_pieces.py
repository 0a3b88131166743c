from __future__ import annotations

import pytest

from wire.bitfield import Bitfield
from wire.errors import MisuseError, ProtocolError
from wire.peer.messages import MAX_PIECES
from wire.peer.pieces import RemotePieces


def indices(pieces: Bitfield | None) -> list[int] | None:
    return None if pieces is None else list(pieces.indices())


def test_news_is_told_once() -> None:
    pieces = RemotePieces(10)
    assert pieces.have(3)
    assert not pieces.have(3)
    assert indices(pieces.declare(b"\x90\x00")) == [0]  # 3 was known
    assert indices(pieces.has) == [0, 3]
    assert not pieces.is_all


def test_everything_and_nothing() -> None:
    pieces = RemotePieces(10)
    assert indices(pieces.declare(None, everything=True)) == list(range(10))
    assert pieces.is_all
    pieces = RemotePieces(10)
    assert indices(pieces.declare(None)) == []


def test_a_bitfield_may_come_again_and_adds() -> None:
    """As aria2 sends them: "have none" at first, later a bitfield in place of many haves."""
    pieces = RemotePieces(10)
    assert indices(pieces.declare(None)) == []
    assert indices(pieces.declare(b"\x80\x00")) == [0]
    assert indices(pieces.declare(b"\x60\x00")) == [1, 2]
    assert indices(pieces.has) == [0, 1, 2]
    early = RemotePieces(None)
    assert early.declare(None) is None
    assert early.declare(b"\x80\x00") is None
    assert early.declare(b"\xc0\x00") is None
    assert indices(early.set_count(10)) == [0, 1]
    seed = RemotePieces(None)
    seed.declare(None, everything=True)
    seed.declare(b"\xc0\x00")
    assert indices(seed.set_count(10)) == list(range(10))


@pytest.mark.parametrize("everything", [True, False])
def test_the_same_words_again_are_no_news(everything: bool) -> None:
    """As WebTorrent says them where it accepted an encrypted connection."""
    for count in (10, None):
        pieces = RemotePieces(count)
        pieces.declare(None, everything=everything)
        again = pieces.declare(None, everything=everything)
        assert again is None or not again.count


@pytest.mark.parametrize("first", [b"\x80\x00", None])
def test_all_or_nothing_after_another_declaration_is_a_breach(first: bytes | None) -> None:
    for count in (10, None):
        pieces = RemotePieces(count)
        pieces.declare(first)
        with pytest.raises(ProtocolError):
            pieces.declare(None, everything=True)


@pytest.mark.parametrize("bits", [b"", b"\x00", b"\x00\x00\x00", b"\x00\x20", b"\xff\xff"])
def test_bitfields_that_do_not_fit_early_or_late(bits: bytes) -> None:
    with pytest.raises(ProtocolError):
        RemotePieces(10).declare(bits)
    early = RemotePieces(None)
    early.declare(bits)
    with pytest.raises(ProtocolError):
        early.set_count(10)


def test_what_was_said_before_the_count_was_known() -> None:
    assert RemotePieces(None).set_count(10) is None
    pieces = RemotePieces(None)
    assert not pieces.have(9)
    assert pieces.declare(b"\xa0\x00") is None
    assert not pieces.have(1)
    told = pieces.set_count(10)
    assert indices(told) == [0, 1, 2, 9]
    assert told is not pieces.has
    assert pieces.have(4)
    assert not pieces.have(9)
    with pytest.raises(MisuseError):
        pieces.set_count(10)


def test_a_seed_is_known_before_the_count_is() -> None:
    pieces = RemotePieces(None)
    pieces.declare(None, everything=True)
    assert pieces.is_all
    assert indices(pieces.set_count(3)) == [0, 1, 2]
    nothing = RemotePieces(None)
    nothing.declare(None)
    assert indices(nothing.set_count(3)) == []


@pytest.mark.parametrize("index", [10, 15, 16, MAX_PIECES - 1])
def test_an_early_piece_that_is_not_there(index: int) -> None:
    pieces = RemotePieces(None)
    pieces.have(index)
    with pytest.raises(ProtocolError):
        pieces.set_count(10)


def test_pieces_that_cannot_be() -> None:
    for pieces, index in ((RemotePieces(10), 10), (RemotePieces(None), MAX_PIECES), (RemotePieces(None), 2**32 - 1)):
        with pytest.raises(ProtocolError):
            pieces.have(index)
