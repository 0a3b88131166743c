from __future__ import annotations

from pathlib import Path

import pytest

from tests.processor_time import works_at_most
from wire.bencode import (
    MAX_DEPTH,
    decode,
    decode_first,
    encode,
    end_of,
    get_bytes,
    get_dict,
    get_int,
    get_list,
    get_str,
    raw_item,
    split_item,
)
from wire.errors import BencodeError, MisuseError

CORPUS = Path(__file__).parents[2] / "corpus" / "bencode"

VECTORS = [
    (b"4:spam", b"spam"),
    (b"0:", b""),
    (b"i3e", 3),
    (b"i-3e", -3),
    (b"i0e", 0),
    (b"i9223372036854775808e", 1 << 63),
    (b"l4:spam4:eggse", [b"spam", b"eggs"]),
    (b"le", []),
    (b"d3:cow3:moo4:spam4:eggse", {b"cow": b"moo", b"spam": b"eggs"}),
    (b"d4:spaml1:a1:bee", {b"spam": [b"a", b"b"]}),
    (b"de", {}),
]

BROKEN = [
    *(b"", b"e", b"i", b"ie", b"i-e", b"i-0e", b"i03e", b"i-03e", b"i+1e", b"i1_0e", b"i 1e", b"i1", b"i--1e"),
    *(b"01:a", b"1 :a", b"1:", b"2:a", b"-1:a", b"+1:a", b":", b"1", b"99999999999:", b"9999999999:"),
    *(b"l", b"d", b"lee", b"l1:a", b"di1e1:ae", b"d1:ae", b"d1:a1:b1:ce", b"dlee1:ae", b"d0:0:-5:0:e", b"d-1:e"),
    *(b"i1ex", b"1:ab", b"x", b"\x00", b"\xff\xfe", b"l0:" + b"9" * 5000),
    b"i" + b"9" * 4301 + b"e",
    b"l" * 1_000_000,
    b"d1:a" * 1_000_000,
    b"l" * 101 + b"e" * 101,
]


@pytest.mark.parametrize(("data", "value"), VECTORS)
def test_the_vectors_of_bep_3_both_ways(data: bytes, value: object) -> None:
    assert decode(data) == value
    assert encode(decode(data)) == data
    assert decode(bytearray(data)) == value
    assert decode(memoryview(b"x" + data)[1:]) == value


@pytest.mark.parametrize("data", [b"0\0", b"1\0", b"l0\0", b"l1\0", b"l1:a1\0", b"d3:abc1x", b"d3:abc3:def1x"])
def test_a_length_without_a_colon_leads_nowhere(data: bytes) -> None:
    """Not back to where it began, either: that took a second of work for eight bytes."""
    for read in (decode, decode_first, end_of):
        with works_at_most(0.1), pytest.raises(BencodeError, match="no length of a byte string"):
            read(data)


@pytest.mark.parametrize(("data", "value"), VECTORS)
def test_where_a_value_ends(data: bytes, value: object) -> None:
    assert end_of(data) == len(data)
    assert end_of(data + b"trailing data") == len(data)
    assert end_of(memoryview(b"before" + data + b"i0e"), 6) == 6 + len(data)
    assert decode_first(data + b"trailing data") == (value, len(data))
    for cut in range(len(data)):
        with pytest.raises(BencodeError):
            end_of(data[:cut])
        with pytest.raises(BencodeError):
            decode(data[:cut])


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:20]))
def test_what_is_not_bencode(data: bytes) -> None:
    with works_at_most(0.5), pytest.raises(BencodeError) as caught:
        decode(data)
    assert len(str(caught.value).splitlines()) == 1


def test_unsorted_and_repeated_keys_are_read() -> None:
    assert decode(b"d1:b1:x1:a1:ye") == {b"a": b"y", b"b": b"x"}
    assert decode(b"d1:a1:x1:a1:ye") == {b"a": b"y"}
    assert decode_first(b"d1:b1:x1:a1:yei1e") == ({b"a": b"y", b"b": b"x"}, 14)
    nested = b"ld1:b" * 40 + b"d1:b0:1:a0:e" + b"ee" * 40
    assert end_of(nested) == len(nested)
    assert decode(nested)


def test_depth_is_bounded_on_the_fast_and_the_tolerant_road() -> None:
    assert decode(b"l" * MAX_DEPTH + b"e" * MAX_DEPTH)
    deep = b"d1:b0:1:a" * 60 + b"0:" + b"e" * 60
    assert decode(deep, max_depth=60)
    for depth, data in ((59, deep), (3, b"l" * 4 + b"e" * 4), (0, b"le")):
        with pytest.raises(BencodeError, match="deeper"):
            decode(data, max_depth=depth)
        with pytest.raises(BencodeError, match="deeper"):
            decode_first(data + b"rest", max_depth=depth)
    assert decode(b"i1e", max_depth=0) == 1
    # Many opening bytes inside a string are no depth.
    assert decode(b"300:" + b"d" * 300, max_depth=1) == b"d" * 300


def test_the_number_of_values_is_bounded() -> None:
    bomb = b"l" + b"0:" * 100_000 + b"e"
    assert len(decode(bomb, max_tokens=100_002)) == 100_000  # type: ignore[arg-type]
    with pytest.raises(BencodeError, match="more than"):
        decode(bomb, max_tokens=99_999)
    with pytest.raises(BencodeError, match="more than"):
        end_of(b"l" + b"le" * 50 + b"e", max_tokens=20)
    with pytest.raises(BencodeError, match="more than"):
        decode_first(bomb, max_tokens=99_999)


def test_raw_items_come_as_they_stand() -> None:
    unsorted = b"d1:bi2e1:ai1ee"
    data = b"d4:infod1:zi0e" + b"6:nested" + unsorted + b"e5:otheri1e" + b"3:abc" + unsorted + b"e"
    assert raw_item(data, b"info") == b"d1:zi0e6:nested" + unsorted + b"e"
    assert raw_item(data, b"abc") == unsorted
    assert split_item(data + b"tail", b"info")[1] == b"d5:otheri1e3:abc" + unsorted + b"etail"
    assert split_item(data, b"nowhere") == (None, data)
    assert raw_item(data, b"nested") is None
    assert raw_item(b"de", b"info") is None
    assert raw_item(b"d4:info0:e", b"info") == b"0:"


@pytest.mark.parametrize(
    "data", [b"", b"le", b"i1e", b"d", b"d4:info", b"d4:infoi1e", b"di1ei1ee", b"d4:infoi1e4:infoi2ee", b"d1:ale"]
)
def test_raw_items_of_what_is_no_dictionary(data: bytes) -> None:
    with pytest.raises(BencodeError):
        raw_item(data, b"info")


def test_encoding_sorts_keys_as_bytes_and_takes_text() -> None:
    assert encode({"b": 1, "a": [b"x", "é", bytearray(b"y"), memoryview(b"z")]}) == b"d1:al1:x2:\xc3\xa91:y1:ze1:bi1ee"
    assert encode({b"\xff": 1, b"a": 2, b"Z": 3, b"": 4}) == b"d0:i4e1:Zi3e1:ai2e1:\xffi1ee"
    assert encode((1, (2,))) == b"li1eli2eee"
    for bad in (None, 1.5, {"a": None}, {1: 2}):
        with pytest.raises(MisuseError):
            encode(bad)  # type: ignore[arg-type]


def test_typed_reading_gives_none_for_another_type() -> None:
    items = decode(b"d1:bd1:xi1ee1:ii7e1:lli1ee1:s3:\xffabe")
    assert isinstance(items, dict)
    assert (get_int(items, b"i"), get_bytes(items, b"s"), get_str(items, b"s")) == (7, b"\xffab", "�ab")
    assert (get_list(items, b"l"), get_dict(items, b"b")) == ([1], {b"x": 1})
    for read in (get_int, get_bytes, get_str, get_list, get_dict):
        wrong = [key for key in items if read(items, key) is not None]
        assert len(wrong) == 1
        assert read(items, b"absent") is None


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_once_went_wrong(path: Path) -> None:
    data = path.read_bytes()
    with works_at_most(0.5):
        try:
            decode(data)
        except BencodeError:
            pass
        else:
            assert path.suffix == ".good"
