"""Bencode: both roads in agree, writing and reading are inverses, and from any bytes only BencodeError comes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.strategies import bencode_values, near_bencode
from wire import bencode
from wire.bencode import Value, decode, decode_first, encode, end_of, raw_item
from wire.errors import BencodeError


@settings(max_examples=examples(50))
@given(bencode_values(), st.binary(max_size=10))
def test_reading_gives_what_was_written(value: Value, tail: bytes) -> None:
    data = encode(value)
    assert decode(data) == value
    assert end_of(data + tail) == len(data)
    assert decode_first(data + tail) == (value, len(data))
    assert end_of(tail + data, len(tail)) == len(tail) + len(data)
    assert encode(decode(data)) == data


@settings(max_examples=examples(50))
@given(st.dictionaries(st.binary(max_size=5), bencode_values(5), max_size=6), st.randoms())
def test_any_order_of_keys_is_read_and_raw_items_are_the_bytes_there(items: dict[bytes, Value], chance: object) -> None:
    keys = list(items)
    chance.shuffle(keys)  # type: ignore[attr-defined]
    data = b"d" + b"".join(encode(key) + encode(items[key]) for key in keys) + b"e"
    assert decode(data) == items
    for key in keys:
        assert raw_item(data, key) == encode(items[key])


@given(near_bencode(), st.integers(0, 5), st.integers(1, 20))
def test_any_bytes_give_a_value_or_the_one_error(data: bytes, depth: int, tokens: int) -> None:
    for read in (
        lambda: decode(data),
        lambda: decode(data, max_depth=depth),
        lambda: end_of(data),
        lambda: end_of(data, max_depth=depth, max_tokens=tokens),
        lambda: raw_item(data, b"a"),
    ):
        with suppress(BencodeError):
            read()


@given(near_bencode())
def test_the_scanner_and_the_readers_agree(data: bytes) -> None:
    """What the fast reader takes the scanner takes; what the scanner takes whole is read."""
    try:
        end = end_of(data)
    except BencodeError:
        end = -1
    try:
        value = decode(data)
    except BencodeError:
        assert end != len(data)
        return
    assert end == len(data)
    assert encode(value) == data or decode(encode(value)) == value  # canonical, or with its keys in disorder


@settings(max_examples=examples(50))
@given(bencode_values())
def test_the_tolerant_road_gives_the_same(value: Value) -> None:
    assert bencode._tolerant.decode(encode(value)) == value


def test_a_scan_error_is_told_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """bencodepy loops for ever on a negative length; the scanner must stand before it."""
    monkeypatch.setattr(bencode, "_tolerant", None)
    with pytest.raises(BencodeError):
        decode(b"d0:0:-5:0:e")
