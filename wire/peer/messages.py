"""The messages of the peer wire protocol after the handshake (BEP 3, 6, 10), and what a connection tells of them.

Two families of values live here. *Messages* are what one frame says, read by `parse` and written by the
`*_frame` functions; nothing is remembered between two of them. *Events* are what `PeerConnection.received`
returns: mostly the same values, after the connection has checked them against what it knows. Lengths that a
kind of message must have are checked here, from the frame's first five bytes, before the rest is waited for.
Not done here: the handshake, the payloads of extended messages, any rule about what may follow what.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.peer.extended import ExtendedHandshake
from wire.peer.pex import PexPeer

__all__ = [
    "BLOCK_BYTES",
    "MAX_BITFIELD_BYTES",
    "MAX_FRAME_BYTES",
    "MAX_PIECES",
    "AllowedFast",
    "Block",
    "Cancel",
    "Choked",
    "Event",
    "Extended",
    "ExtendedReceived",
    "HandshakeReceived",
    "HasPieces",
    "Have",
    "HaveAll",
    "HaveNone",
    "Interested",
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
]

BLOCK_BYTES: Final = 16384
"""What a request asks for (BEP 3); only a piece's last block is shorter."""
MAX_REQUEST_BYTES: Final = 128 * 1024
"""Some old clients ask for more than a block at once; 128 KiB is the largest that was ever usual."""
MAX_PIECES: Final = 2_097_152
"""Pieces a torrent may have: the limit that libtorrent sets."""
MAX_BITFIELD_BYTES: Final = MAX_PIECES // 8
MAX_FRAME_BYTES: Final = 300 * 1024
"""Holds the largest bitfield; nothing longer is waited for while the piece count is unknown."""
MAX_EXTENDED_BYTES: Final = 64 * 1024
"""Extended and unknown messages: a metadata block with its header, or a peer exchange of thousands, fits in."""


class Choked(NamedTuple):
    """The peer will not answer requests now. Without BEP 6 all that are outstanding are void."""


class Unchoked(NamedTuple):
    """The peer answers requests from now on."""


class Interested(NamedTuple):
    """The peer wants pieces of ours."""


class NotInterested(NamedTuple):
    """The peer wants nothing of ours."""


class Have(NamedTuple):
    """The peer got this piece; as an event: one it was not known to have."""

    index: int


class RawBitfield(NamedTuple):
    """A bitfield as it came, its length unchecked."""

    bits: bytes


class HaveAll(NamedTuple):
    """The peer has every piece (BEP 6)."""


class HaveNone(NamedTuple):
    """The peer has no piece (BEP 6)."""


class Request(NamedTuple):
    """The peer asks for a part of a piece. `index` exists; `begin` and `length` (1..128 KiB) are still to be
    checked against the size of that piece."""

    index: int
    begin: int
    length: int


class Cancel(NamedTuple):
    """The peer takes back a request."""

    index: int
    begin: int
    length: int


class Reject(NamedTuple):
    """The peer will not answer this request of ours (BEP 6)."""

    index: int
    begin: int
    length: int


class Block(NamedTuple):
    """Data of a piece: at most 16 KiB. `data` points into the receive buffer: it is valid until the next
    call of `PeerConnection.buffer`, and whether it was asked for is not checked."""

    index: int
    begin: int
    data: memoryview


class Port(NamedTuple):
    """The UDP port of the peer's DHT node (BEP 5); 1..65535."""

    port: int


class Suggest(NamedTuple):
    """The peer would like to be asked for this piece (BEP 6)."""

    index: int


class AllowedFast(NamedTuple):
    """This piece may be asked for while choked (BEP 6)."""

    index: int


class Extended(NamedTuple):
    """An extended message (BEP 10): `id` is 0 for the extended handshake, else one that the receiver chose."""

    id: int
    payload: bytes


class HandshakeReceived(NamedTuple):
    """The peer's handshake is whole (BEP 3). Who accepted the connection now calls `accept`, or closes."""

    info_hash: bytes
    peer_id: bytes
    extended: bool
    """It speaks BEP 10."""
    fast: bool
    """It speaks BEP 6."""
    dht: bool
    """It has a DHT node (BEP 5): a `port` message is welcome."""


class HasPieces(NamedTuple):
    """Pieces that the peer was not known to have, from its bitfield or "have all" (never empty of meaning:
    it also comes, with no bit set, for an empty bitfield and "have none")."""

    pieces: Bitfield


class ExtendedReceived(NamedTuple):
    """An extended handshake came; `remote` is everything that the peer has said in those so far (BEP 10)."""

    remote: ExtendedHandshake


class MetadataRequest(NamedTuple):
    """The peer asks for a 16 KiB block of the info dictionary (BEP 9). `piece` may be past its end."""

    piece: int


class MetadataData(NamedTuple):
    """A block of the info dictionary (BEP 9): at most 16 KiB, unverified, perhaps never asked for."""

    piece: int
    total_size: int | None
    data: bytes


class MetadataReject(NamedTuple):
    """The peer will not send this block of the info dictionary (BEP 9)."""

    piece: int


class PexReceived(NamedTuple):
    """Addresses that the peer is connected to, or no longer (BEP 11): hearsay, bounded in number."""

    added: tuple[PexPeer, ...]
    dropped: tuple[Endpoint, ...]


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
)
"""What one frame says; blocks are read by the connection itself, without an object in between."""

Event = (
    Block
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
    | Suggest
    | AllowedFast
    | HandshakeReceived
    | ExtendedReceived
    | MetadataRequest
    | MetadataData
    | MetadataReject
    | PexReceived
)
"""What `PeerConnection.received` returns."""
