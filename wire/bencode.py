"""Bencode (BEP 3): the one front door through which every bencoded byte comes in and goes out.

Strict and fast first: bencode2 (C) reads what is canonical. Real .torrent files and datagrams with
unsorted or repeated keys exist, and are read by bencodepy once the scanner here has found the grammar
sound. The scanner also bounds depth and number of values before anything is built, tells where a value
ends, and cuts out the raw bytes of a dictionary's item, so that nothing is hashed after re-encoding.
Numbers are held to Python's own limit of 4,300 digits. What the values mean is their reader's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import bencode2
from bencodepy import BencodeDecodeError, BencodeDecoder

from wire.errors import BencodeError, MisuseError

__all__ = [
    "MAX_DEPTH",
    "MAX_TOKENS",
    "Encodable",
    "Value",
    "decode",
    "decode_first",
    "encode",
    "end_of",
    "get_bytes",
    "get_dict",
    "get_int",
    "get_list",
    "get_str",
    "raw_item",
    "split_item",
]

Value: TypeAlias = "int | bytes | list[Value] | dict[bytes, Value]"
"""What decoding gives. A list or dictionary belongs to the caller."""

Encodable: TypeAlias = "int | str | bytes | bytearray | memoryview | Sequence[Encodable] | Mapping[bytes, Encodable] | Mapping[str, Encodable]"  # noqa: E501
"""What `encode` takes; text goes out as UTF-8."""

MAX_DEPTH = 100
"""Lists and dictionaries inside each other; a v2 file tree needs one a folder, libtorrent reads as many."""

MAX_TOKENS = 1_000_000
"""Values and keys in all. A torrent of 100,000 files has some 900,000; a `le` of two bytes takes 72 in memory."""

_SMALL_BYTES = 65536
"""Up to a datagram's size, so many values cannot come that they would need counting first."""

_LENGTH_DIGITS = 10
"""Of a byte string's length: 9,999,999,999 is beyond whatever is read here."""

_INT_DIGITS = 4300
"""Python's own limit; beyond it, reading a number takes quadratic time."""

_NUMBER = re.compile(b"i(?:0|-?[1-9][0-9]{0,%d})e" % (_INT_DIGITS - 1))

_SHORT = {b"%d" % length: length for length in range(256)}
"""Lengths as they stand there: most byte strings are shorter than these, and to look one up is four times as fast."""

_tolerant = BencodeDecoder(max_depth=10_000)  # the depth was bounded by the scanner before


def decode(data: bytes | bytearray | memoryview, *, max_depth: int = MAX_DEPTH, max_tokens: int = MAX_TOKENS) -> Value:
    """Reads exactly one value; unsorted keys are tolerated, and of repeated ones the last counts.

    Args:
        data: The whole value, nothing after it.
        max_depth: Lists and dictionaries that may be inside each other.
        max_tokens: Values and keys that there may be, once `data` is larger than a datagram.

    Raises:
        BencodeError: It is no bencode, or goes past a limit. Nothing else comes from any bytes.
    """
    raw = data if type(data) is bytes else bytes(data)
    # Each level opens with `l` or `d`, so few of these bytes prove the depth without a scan.
    if len(raw) > _SMALL_BYTES or raw.count(b"d") + raw.count(b"l") > max_depth:
        _scan_whole(raw, max_depth, max_tokens)
    try:
        return cast(Value, bencode2.bdecode(raw))
    except ValueError:  # not canonical, or not bencode: the scanner knows, and says where
        _scan_whole(raw, max_depth, max_tokens)
    return _decode_tolerant(raw)


def decode_first(data: bytes, *, max_depth: int = MAX_DEPTH, max_tokens: int = MAX_TOKENS) -> tuple[Value, int]:
    """`decode` of the value that `data` begins with, and where it ends: what comes after it is not looked at."""
    end = _scan(data, 0, max_depth, max_tokens)
    raw = data[:end]
    try:
        return cast(Value, bencode2.bdecode(raw)), end
    except ValueError:  # the scanner found it sound: it is not canonical
        return _decode_tolerant(raw), end


def _decode_tolerant(raw: bytes) -> Value:
    try:
        return cast(Value, _tolerant.decode(raw))
    except (BencodeDecodeError, ValueError) as error:  # nothing is known to come here
        raise BencodeError(f"not bencode: {error}") from None


def encode(value: Encodable) -> bytes:
    """The canonical bytes, keys sorted. Raises MisuseError for what bencode cannot hold (None, float)."""
    try:
        return bencode2.bencode(value)
    except (TypeError, ValueError) as error:
        raise MisuseError(f"cannot be bencoded: {error}") from None


def end_of(
    data: bytes | bytearray | memoryview, at: int = 0, *, max_depth: int = MAX_DEPTH, max_tokens: int = MAX_TOKENS
) -> int:
    """Where the value that starts at `at` ends: what comes after it is not looked at (BEP 9 puts data there).

    Raises BencodeError where no whole value stands there.
    """
    return _scan(data if type(data) is bytes else bytes(data), at, max_depth, max_tokens)


def raw_item(data: bytes, key: bytes) -> bytes | None:
    """The bytes of one item of the dictionary that `data` is, as they stand there; None where the key is absent.

    A hash is to be taken of these: re-encoding what was read may give others. Raises BencodeError where `data`
    is no dictionary, or has that key twice, as then two readers could take two values for the one.
    """
    return split_item(data, key)[0]


def split_item(data: bytes, key: bytes) -> tuple[bytes | None, bytes]:
    """`raw_item`, and the dictionary's bytes without that item, which are still to be read: `decode` tells whether
    anything follows them."""
    if data[:1] != b"d":
        raise BencodeError("not a bencoded dictionary")
    found: bytes | None = None
    rest = data
    at = 1
    while data[at : at + 1] != b"e":
        if not data[at : at + 1].isdigit():
            raise BencodeError(f"not bencode at byte {at}: a dictionary's key is a byte string")
        key_end = _scan(data, at, 1, 1)
        value_end = _scan(data, key_end, MAX_DEPTH, MAX_TOKENS)
        if data[data.index(b":", at) + 1 : key_end] == key:
            if found is not None:
                raise BencodeError(f"the key {key.decode('ascii', 'replace')!r} stands twice in one dictionary")
            found = data[key_end:value_end]
            rest = data[:at] + data[value_end:]
        at = value_end
    return found, rest


def get_int(items: Mapping[bytes, Value], key: bytes) -> int | None:
    """The number under `key`; None where it is absent or of another type."""
    value = items.get(key)
    return value if isinstance(value, int) else None


def get_bytes(items: Mapping[bytes, Value], key: bytes) -> bytes | None:
    """The byte string under `key`; None where it is absent or of another type."""
    value = items.get(key)
    return value if isinstance(value, bytes) else None


def get_str(items: Mapping[bytes, Value], key: bytes) -> str | None:
    """The text under `key`, with U+FFFD for what is no UTF-8; None where it is absent or no byte string."""
    value = items.get(key)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def get_list(items: Mapping[bytes, Value], key: bytes) -> list[Value] | None:
    """The list under `key`; None where it is absent or of another type."""
    value = items.get(key)
    return value if isinstance(value, list) else None


def get_dict(items: Mapping[bytes, Value], key: bytes) -> dict[bytes, Value] | None:
    """The dictionary under `key`; None where it is absent or of another type."""
    value = items.get(key)
    return value if isinstance(value, dict) else None


def _scan_whole(data: bytes, max_depth: int, max_tokens: int) -> None:
    end = _scan(data, 0, max_depth, max_tokens)
    if end != len(data):
        raise BencodeError(f"not bencode: {len(data) - end} bytes follow the value, which ends at byte {end}")


def _scan(data: bytes, at: int, max_depth: int, max_tokens: int) -> int:
    """Walks over one value without building it; strict but for the order of keys. About 0.4 us a token."""
    find, short, match_number = data.find, _SHORT.get, _NUMBER.match
    size = len(data)
    around: list[int] = []  # the opening byte of each container around this place, but for the innermost
    inner = 0  # that of the innermost; 0 where there is none
    expect_key = False  # whether the next token, if not an end, is a key of the innermost dictionary
    left = max_tokens
    while True:
        if at >= size:
            raise BencodeError(f"not bencode: it breaks off at byte {size}")
        if not left:
            raise BencodeError(f"bencode holds more than {max_tokens} values")
        left -= 1
        first = data[at]
        if 48 <= first <= 57:  # a byte string
            colon = find(b":", at, at + _LENGTH_DIGITS + 1)
            digits = data[at:colon] if colon > 0 else b""
            length = short(digits)
            if length is None:
                if first == 48 or not digits.isdigit():
                    raise BencodeError(f"not bencode at byte {at}: no length of a byte string")
                length = int(digits)
            at = colon + 1 + length
            if at > size:
                raise BencodeError(f"not bencode: a byte string goes {at - size} bytes past the end")
            if expect_key:
                expect_key = False
                continue  # its value follows
        elif first == 101:  # e
            # After a key, `expect_key` is false although a dictionary is innermost: its value is missing.
            if not inner or (inner == 100 and not expect_key):
                raise BencodeError(f"not bencode at byte {at}: an end where a value should stand")
            inner = around.pop()
            at += 1
        elif expect_key:
            raise BencodeError(f"not bencode at byte {at}: a dictionary's key is a byte string")
        elif first == 100 or first == 108:  # d, l
            around.append(inner)
            inner = first
            if len(around) > max_depth:
                raise BencodeError(f"bencode goes deeper than {max_depth} levels")
            at += 1
            expect_key = first == 100
            continue
        elif first == 105:  # i
            number = match_number(data, at)
            if number is None:
                raise BencodeError(f"not bencode at byte {at}: no number")
            at = number.end()
        else:
            raise BencodeError(f"not bencode at byte {at}: no value starts with {bytes((first,))!r}")
        if not inner:
            return at
        expect_key = inner == 100
