"""The messages of the peer wire protocol after the handshake (BEP 3, 6, 10, 52), and what a connection tells of them.

Two families of values live here. *Messages* are what one frame says, read by `parse` and written by the
`*_frame` functions; nothing is remembered between two of them. *Events* are what `PeerConnection.received`
returns: mostly the same values, after the connection has checked them against what it knows. Lengths that a
kind of message must have are checked here, from the frame's first five bytes, before the rest is waited for.
Not done here: the handshake, the payloads of extended messages, any rule about what may follow what.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from wire.errors import ProtocolError
from wire.peer.events import (
    Block,
    ExtendedReceived,
    HandshakeReceived,
    HasPieces,
    HaveNot,
    HolepunchReceived,
    Landed,
    MetadataData,
    MetadataReject,
    MetadataRequest,
    PexReceived,
)
from wire.peer.hashes import ASK_BYTES, MAX_HASHES, HashAsk, Hashes, HashReject, HashRequest

__all__ = [
    "BLOCK_BYTES",
    "MAX_BITFIELD_BYTES",
    "MAX_FRAME_BYTES",
    "MAX_PIECES",
    "AllowedFast",
    "Block",
    "Buffer",
    "Cancel",
    "Choked",
    "Event",
    "Extended",
    "ExtendedReceived",
    "HandshakeReceived",
    "HasPieces",
    "HashReject",
    "HashRequest",
    "Hashes",
    "Have",
    "HaveAll",
    "HaveNone",
    "HaveNot",
    "HolepunchReceived",
    "Interested",
    "Landed",
    "Message",
    "MetadataData",
    "MetadataReject",
    "MetadataRequest",
    "NotInterested",
    "PexReceived",
    "Port",
    "RawBitfield",
    "Reject",
    "Request",
    "Suggest",
    "Unchoked",
    "blocks_frames",
    "check_length",
    "frame",
    "index_frame",
    "index_frames",
    "parse",
    "piece_header",
    "requests",
]

Buffer = bytes | bytearray | memoryview

BLOCK_BYTES: Final = 16384
"""What a request asks for (BEP 3); only a piece's last block is shorter."""
REQUEST_LENGTH: Final = 13
"""Of a request, its id and what follows."""
MAX_REQUEST_BYTES: Final = 128 * 1024
"""Some old clients ask for more than a block at once; 128 KiB is the largest that was ever usual."""
MAX_PIECES: Final = 2_097_152
"""Pieces a torrent may have: the limit that libtorrent sets."""
MAX_BITFIELD_BYTES: Final = MAX_PIECES // 8
MAX_FRAME_BYTES: Final = 300 * 1024
"""Holds the largest bitfield; nothing longer is waited for while the piece count is unknown."""
MAX_EXTENDED_BYTES: Final = 64 * 1024
"""Extended and unknown messages: a metadata block with its header, or a peer exchange of thousands, fits in."""

CHOKE: Final = 0
UNCHOKE: Final = 1
INTERESTED: Final = 2
NOT_INTERESTED: Final = 3
HAVE: Final = 4
BITFIELD: Final = 5
REQUEST: Final = 6
PIECE: Final = 7
CANCEL: Final = 8
PORT: Final = 9
SUGGEST: Final = 13
HAVE_ALL: Final = 14
HAVE_NONE: Final = 15
REJECT: Final = 16
ALLOWED_FAST: Final = 17
EXTENDED: Final = 20
HASH_REQUEST: Final = 21
HASHES: Final = 22
HASH_REJECT: Final = 23

BLOCK_HEADER = struct.Struct(">IBII")
"""Length, 7, index, begin; the data follow. The length counts from the id on: 9 more than the data."""
BLOCK_OVERHEAD: Final = 9
_THREE = struct.Struct(">III")
_INDEX_FRAME = struct.Struct(">IBI")
_THREE_FRAME = struct.Struct(">IBIII")
REQUEST_FRAME_BYTES: Final = _THREE_FRAME.size


@dataclass(frozen=True, slots=True)
class Choked:
    """The peer will not answer requests now. Without BEP 6 all that are outstanding are void."""


@dataclass(frozen=True, slots=True)
class Unchoked:
    """The peer answers requests from now on."""


@dataclass(frozen=True, slots=True)
class Interested:
    """The peer wants pieces of ours."""


@dataclass(frozen=True, slots=True)
class NotInterested:
    """The peer wants nothing of ours."""


@dataclass(frozen=True, slots=True)
class Have:
    """The peer got this piece; as an event: one it was not known to have."""

    index: int


@dataclass(frozen=True, slots=True)
class RawBitfield:
    """A bitfield as it came, its length unchecked."""

    bits: bytes


@dataclass(frozen=True, slots=True)
class HaveAll:
    """The peer has every piece (BEP 6)."""


@dataclass(frozen=True, slots=True)
class HaveNone:
    """The peer has no piece (BEP 6)."""


class Request(NamedTuple):
    """The peer asks for a part of a piece. `index` exists; `begin` and `length` (1..128 KiB) are still to be
    checked against the size of that piece."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The peer takes back a request."""

    index: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Reject:
    """The peer will not answer this request of ours (BEP 6)."""

    index: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Port:
    """The UDP port of the peer's DHT node (BEP 5); 1..65535."""

    port: int


@dataclass(frozen=True, slots=True)
class Suggest:
    """The peer would like to be asked for this piece (BEP 6)."""

    index: int


@dataclass(frozen=True, slots=True)
class AllowedFast:
    """This piece may be asked for while choked (BEP 6)."""

    index: int


@dataclass(frozen=True, slots=True)
class Extended:
    """An extended message (BEP 10): `id` is 0 for the extended handshake, else one that the receiver chose."""

    id: int
    payload: bytes


Message = (
    Choked
    | Unchoked
    | Interested
    | NotInterested
    | Have
    | RawBitfield
    | HaveAll
    | HaveNone
    | Request
    | Cancel
    | Reject
    | Port
    | Suggest
    | AllowedFast
    | Extended
    | HashRequest
    | Hashes
    | HashReject
)
"""What one frame says; blocks are read by the connection itself, without an object in between."""

Event = (
    Block
    | Landed
    | Request
    | Cancel
    | Reject
    | Choked
    | Unchoked
    | Interested
    | NotInterested
    | Have
    | HasPieces
    | Port
    | HaveNot
    | Suggest
    | AllowedFast
    | HandshakeReceived
    | ExtendedReceived
    | MetadataRequest
    | MetadataData
    | MetadataReject
    | PexReceived
    | HolepunchReceived
    | HashRequest
    | Hashes
    | HashReject
)
"""What `PeerConnection.received` returns."""


_EXACT_LENGTHS = {
    CHOKE: 1,
    UNCHOKE: 1,
    INTERESTED: 1,
    NOT_INTERESTED: 1,
    HAVE: 5,
    REQUEST: REQUEST_LENGTH,
    CANCEL: 13,
    PORT: 3,
    SUGGEST: 5,
    HAVE_ALL: 1,
    HAVE_NONE: 1,
    REJECT: 13,
    ALLOWED_FAST: 5,
    HASH_REQUEST: 1 + ASK_BYTES,
    HASH_REJECT: 1 + ASK_BYTES,
}
_BARE: dict[int, Message] = {
    CHOKE: Choked(),
    UNCHOKE: Unchoked(),
    INTERESTED: Interested(),
    NOT_INTERESTED: NotInterested(),
    HAVE_ALL: HaveAll(),
    HAVE_NONE: HaveNone(),
}
_WITH_INDEX: dict[int, Callable[[int], Message]] = {HAVE: Have, SUGGEST: Suggest, ALLOWED_FAST: AllowedFast}
_WITH_THREE: dict[int, Callable[[int, int, int], Message]] = {REQUEST: Request, CANCEL: Cancel, REJECT: Reject}


def check_length(kind: int, length: int, bitfield_bytes: int | None) -> None:
    """Raises ProtocolError where a message of this kind cannot be `length` bytes long (counted from its id on).

    `bitfield_bytes` is the length of a bitfield of this torrent; None while the piece count is unknown.
    """
    exact = _EXACT_LENGTHS.get(kind)
    if exact is not None:
        fits = length == exact
    elif kind == PIECE:
        fits = BLOCK_OVERHEAD < length <= BLOCK_OVERHEAD + BLOCK_BYTES
    elif kind == BITFIELD:
        fits = length <= 1 + MAX_BITFIELD_BYTES if bitfield_bytes is None else length == 1 + bitfield_bytes
    elif kind == HASHES:
        fits = ASK_BYTES < length <= 1 + ASK_BYTES + 32 * MAX_HASHES
    elif kind == EXTENDED:
        fits = 2 <= length <= MAX_EXTENDED_BYTES
    else:
        fits = length <= MAX_EXTENDED_BYTES
    if not fits:
        raise ProtocolError(f"a peer message with id {kind} of {length} bytes")


def parse(kind: int, body: memoryview) -> Message | None:
    """Reads what follows the id of any message but a block's; None for an unknown id.

    The length was checked by `check_length`. Nothing that is returned points into `body`.
    Raises ProtocolError for a request of no bytes or of more than 128 KiB.
    """
    bare = _BARE.get(kind)
    if bare is not None:
        return bare
    with_index = _WITH_INDEX.get(kind)
    if with_index is not None:
        return with_index(int.from_bytes(body, "big"))
    with_three = _WITH_THREE.get(kind)
    if with_three is not None:
        index, begin, length = _THREE.unpack(body)
        if not 0 < length <= MAX_REQUEST_BYTES:
            raise ProtocolError(f"a request, cancel or reject for {length} bytes")
        return with_three(index, begin, length)
    if kind == EXTENDED:
        return Extended(body[0], bytes(body[1:]))
    if kind == BITFIELD:
        return RawBitfield(bytes(body))
    if kind == PORT:
        return Port(int.from_bytes(body, "big"))
    if kind == HASH_REQUEST:
        return HashRequest(HashAsk.parse(body))
    if kind == HASHES:
        return Hashes.parse(body)
    if kind == HASH_REJECT:
        return HashReject(HashAsk.parse(body))
    return None


def requests(frames: memoryview, piece_count: int) -> list[Request]:
    """The requests that `frames` begins with, for pieces that are there, as far as they are whole and right.

    What ends them, if anything does, is for `check_length` and `parse` to judge.
    """
    found: list[Request] = []
    new, request, append = tuple.__new__, Request, found.append  # a fifth faster than calling the class
    whole = len(frames) // REQUEST_FRAME_BYTES * REQUEST_FRAME_BYTES
    for size, kind, index, begin, length in _THREE_FRAME.iter_unpack(frames[:whole]):
        if size != REQUEST_LENGTH or kind != REQUEST or index >= piece_count or not 0 < length <= MAX_REQUEST_BYTES:
            break
        append(new(request, (index, begin, length)))
    return found


def frame(kind: int, payload: bytes = b"") -> bytes:
    """A message: its length, its id, its payload."""
    return (1 + len(payload)).to_bytes(4, "big") + bytes((kind,)) + payload


def index_frame(kind: int, index: int) -> bytes:
    """A message that holds one piece index."""
    return _INDEX_FRAME.pack(5, kind, index)


def index_frames(kind: int, indices: Iterable[int]) -> bytes:
    """Messages that hold one piece index each, joined."""
    pack = _INDEX_FRAME.pack
    return b"".join([pack(5, kind, index) for index in indices])


def blocks_frames(kind: int, blocks: Iterable[tuple[int, int, int]]) -> bytes:
    """Requests, cancels or rejects of (index, begin, length), joined."""
    pack = _THREE_FRAME.pack
    return b"".join([pack(13, kind, index, begin, length) for index, begin, length in blocks])


def piece_header(index: int, begin: int, data_bytes: int) -> bytes:
    """What stands before the data of a block."""
    return BLOCK_HEADER.pack(BLOCK_OVERHEAD + data_bytes, PIECE, index, begin)
