from __future__ import annotations

import pytest

from tests.processor_time import works_at_most
from wire.bitfield import Bitfield
from wire.errors import MisuseError, ProtocolError


def test_the_first_piece_is_the_high_bit() -> None:
    assert Bitfield.of(10, [0, 9]).to_bytes() == b"\x80\x40"
    assert list(Bitfield.from_bytes(b"\x81\xc0", 10).indices()) == [0, 7, 8, 9]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 100_003])
def test_empty_and_full(size: int) -> None:
    empty, full = Bitfield(size), Bitfield.full(size)
    assert (empty.count, full.count, full.all, empty.all) == (0, size, True, size == 0)
    assert list(full.indices()) == list(range(size))
    assert Bitfield.from_bytes(full.to_bytes(), size) == full
    assert full - full == empty
    assert full.overlaps(full) == bool(size)


def test_spare_bits_and_lengths_are_refused() -> None:
    for data in (b"", b"\x00", b"\x00\x00\x00"):
        with pytest.raises(ProtocolError):
            Bitfield.from_bytes(data, 9)
    for spare in (0x01, 0x40, 0x7F):
        with pytest.raises(ProtocolError, match="spare"):
            Bitfield.from_bytes(bytes((0xFF, spare)), 9)
    assert Bitfield.from_bytes(memoryview(b"\xff\x80"), 9).all


def test_changing_keeps_the_count() -> None:
    bits = Bitfield(20)
    assert [bits.set(3), bits.set(3), bits.set(19), bits.clear(4), bits.clear(3)] == [True, False, True, False, True]
    assert (bits.count, bits[3], bits[19], list(bits.indices())) == (1, False, True, [19])
    other = bits.copy()
    other.set(0)
    assert (bits.count, other.count, bits == other) == (1, 2, False)


@pytest.mark.parametrize("index", [-1, 20, 1 << 40])
def test_outside_is_misuse(index: int) -> None:
    bits = Bitfield(20)
    for change in (bits.set, bits.clear):
        with pytest.raises(MisuseError):
            change(index)
    with pytest.raises(IndexError):
        bits[index]
    with pytest.raises(MisuseError):
        Bitfield(-1)


def test_sets_of_other_sizes_do_not_mix() -> None:
    a, b = Bitfield(8), Bitfield(9)
    for mix in (lambda: a & b, lambda: a | b, lambda: a - b, lambda: a.overlaps(b)):
        with pytest.raises(MisuseError):
            mix()
    assert a != b


def test_a_hundred_thousand_pieces_are_cheap() -> None:
    data = Bitfield.full(100_000).to_bytes()
    with works_at_most(0.5):
        for _ in range(100):
            bits = Bitfield.from_bytes(data, 100_000)
            assert (bits & bits).count == bits.count == 100_000
