"""uTP packets: 20 bytes of header, extensions, payload (BEP 29). Sequence numbers are 16 bits and wrap."""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from wire.errors import ProtocolError

__all__ = [
    "HEADER",
    "HEADER_BYTES",
    "MAX_SACK_BYTES",
    "Kind",
    "Packet",
    "first_byte",
    "is_utp",
    "pack",
    "parse",
    "seq_distance",
]

HEADER_BYTES = 20
_VERSION = 1
_SACK = 1
_PADDING = 0x50
"""An extension of no meaning, far from those that anybody uses."""
_MIN_PADDING_BYTES = 2
MAX_SACK_BYTES = 252
"""A mask for 2,016 packets: the most that a length of one octet lets through in whole words of 32 bits."""
_MAX_EXTENSIONS = 160
"""Enough to pad a packet to 32 KiB, which takes 128 of them."""
HEADER = struct.Struct(">BBHIIIHH")
"""Kind and version, extension, connection id, timestamp, its difference, window, seq, ack."""


class Kind(enum.IntEnum):
    """What a packet is for."""

    DATA = 0
    FIN = 1
    STATE = 2
    RESET = 3
    SYN = 4


class Packet(NamedTuple):
    """A packet, taken apart."""

    kind: Kind
    connection_id: int
    timestamp_us: int
    delay_us: int
    """`timestamp_difference_microseconds`: how long the last packet took to the sender of this one, by two clocks."""
    window_bytes: int
    seq: int
    ack: int
    sack: bytes
    """The selective ack: bit 0 of byte 0 stands for `ack` + 2. Empty where there is none."""
    payload: bytes


_KINDS = tuple(Kind)
_LAST_KIND = int(max(Kind))


def is_utp(first_byte: int) -> bool:
    """Whether a datagram that begins so may be uTP: version 1, a known kind."""
    return first_byte & 0x0F == _VERSION and first_byte >> 4 <= _LAST_KIND


def first_byte(kind: Kind) -> int:
    """What a packet of that kind begins with."""
    return kind << 4 | _VERSION


def seq_distance(later: int, earlier: int) -> int:
    """How far `later` is ahead of `earlier`: -32768..32767."""
    return ((later - earlier + 0x8000) & 0xFFFF) - 0x8000


def parse(data: bytes) -> Packet:
    """Reads one datagram. Raises ProtocolError where it is no uTP."""
    if len(data) < HEADER_BYTES:
        raise ProtocolError("a uTP packet shorter than its header")
    first, extension, connection_id, timestamp, delay, window, seq, ack = HEADER.unpack_from(data)
    if not is_utp(first):
        raise ProtocolError("a uTP packet of an unknown version or kind")
    at = HEADER_BYTES
    sack = b""
    count = 0
    while extension:
        count += 1
        if at + 2 > len(data) or count > _MAX_EXTENSIONS:
            raise ProtocolError("a uTP packet whose extensions do not end")
        following, size = data[at], data[at + 1]
        body = data[at + 2 : at + 2 + size]
        if len(body) != size:
            raise ProtocolError("a uTP packet whose extension is cut off")
        if extension == _SACK:
            sack = body[:MAX_SACK_BYTES]  # a multiple of 4 bytes, by the BEP: libtorrent sends any size
        extension = following
        at += 2 + size
    return Packet(_KINDS[first >> 4], connection_id, timestamp, delay, window, seq, ack, sack, data[at:])


def pack(
    kind: Kind,
    connection_id: int,
    timestamp_us: int,
    delay_us: int,
    window_bytes: int,
    seq: int,
    ack: int,
    payload: bytes | memoryview = b"",
    *,
    sack: bytes = b"",
    size: int = 0,
) -> bytes:
    """Puts one datagram together. Counters are taken modulo their width.

    `size`: pads it to so many bytes, as nearly as extensions that nobody knows can; receivers skip those.
    """
    padding = max(0, size - HEADER_BYTES - len(payload)) if size else 0
    header = HEADER.pack(
        kind << 4 | _VERSION,
        _SACK if sack else _PADDING if padding >= _MIN_PADDING_BYTES else 0,
        connection_id,
        timestamp_us & 0xFFFFFFFF,
        delay_us & 0xFFFFFFFF,
        window_bytes,
        seq & 0xFFFF,
        ack & 0xFFFF,
    )
    if sack:
        return b"".join((header, bytes((0, len(sack))), sack, payload))
    if padding >= _MIN_PADDING_BYTES:
        return b"".join((header, _pad(padding), payload))
    return header + payload if payload else header


def _pad(size: int) -> bytes:
    """A chain of extensions of no meaning, `size` bytes long; at least 2."""
    parts = []
    while size:
        # No remainder of a single byte: an extension's own head takes two.
        chunk = 256 if size == 258 else min(size, 257)
        size -= chunk
        parts.append(bytes((_PADDING if size else 0, chunk - 2)) + bytes(chunk - 2))
    return b"".join(parts)
