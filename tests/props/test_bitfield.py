"""Bitfields against Python's own sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire.bitfield import Bitfield
from wire.errors import ProtocolError

_sizes = st.integers(0, 70)


@given(_sizes, st.data())
def test_like_sets(size: int, data: st.DataObject) -> None:
    indices = st.sets(st.integers(0, size - 1)) if size else st.just(set[int]())
    a, b = data.draw(indices), data.draw(indices)
    x, y = Bitfield.of(size, a), Bitfield.of(size, b)
    for bits, expected in ((x & y, a & b), (x | y, a | b), (x - y, a - b), (x.copy(), a)):
        assert list(bits.indices()) == sorted(expected)
        assert bits.count == len(expected)
        assert bits.all == (len(expected) == size)
        assert Bitfield.from_bytes(bits.to_bytes(), size) == bits
    both = x.copy()
    both.update(b)
    assert both == x | y
    assert both.count == len(a | b)
    assert x.overlaps(y) == bool(a & b)
    for index in a:
        assert x[index]
        assert x.clear(index)
    assert x.count == 0


@given(st.binary(max_size=10), _sizes)
def test_any_bytes(data: bytes, size: int) -> None:
    try:
        bits = Bitfield.from_bytes(data, size)
    except ProtocolError:
        return
    assert bits.to_bytes() == data
    assert bits.count == len(list(bits.indices()))
