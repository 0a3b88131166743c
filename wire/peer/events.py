"""What a connection tells of what it heard, where that is no message as it came (BEP 3 to 55). Values only.

They are named through `wire.peer.messages`, beside the messages that are events as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.peer.extended import ExtendedHandshake
from wire.peer.holepunch import HolepunchMessage
from wire.peer.pex import PexPeer

__all__ = [
    "Block",
    "ExtendedReceived",
    "HandshakeReceived",
    "HasPieces",
    "HaveNot",
    "HolepunchReceived",
    "Landed",
    "MetadataData",
    "MetadataReject",
    "MetadataRequest",
    "PexReceived",
]


class Block(NamedTuple):  # made faster than a frozen dataclass, and twenty thousand times a second
    """Data of a piece: at most 16 KiB. `data` points into the receive buffer: it is valid until the next
    call of `PeerConnection.buffer`, and whether it was asked for is not checked."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    begin: int
    data: memoryview


class Landed(NamedTuple):
    """Blocks of a `Landing` that came, whole, and lie where they belong: in the order in which they were due."""

    blocks: Sequence[tuple[int, int]]
    """Index and begin of each."""
    views: Sequence[memoryview]


@dataclass(frozen=True, slots=True)
class HaveNot:
    """The peer has this piece no more (BEP 54)."""

    index: int


@dataclass(frozen=True, slots=True)
class HandshakeReceived:
    """The peer's handshake is whole (BEP 3). Who accepted the connection now calls `accept`, or closes."""

    info_hash: bytes
    peer_id: bytes
    extended: bool
    """It speaks BEP 10."""
    fast: bool
    """It speaks BEP 6."""
    dht: bool
    """It has a DHT node (BEP 5): a `port` message is welcome."""
    v2: bool = False
    """It named a hybrid torrent by its v1 hash, and may be answered with the v2 one (BEP 52)."""


@dataclass(frozen=True, slots=True)
class HasPieces:
    """Pieces that the peer was not known to have, from its bitfield or "have all" (never empty of meaning:
    it also comes, with no bit set, for an empty bitfield and "have none")."""

    pieces: Bitfield


@dataclass(frozen=True, slots=True)
class ExtendedReceived:
    """An extended handshake came; `remote` is everything that the peer has said in those so far (BEP 10)."""

    remote: ExtendedHandshake


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    """The peer asks for a 16 KiB block of the info dictionary (BEP 9). `piece` may be past its end."""

    piece: int


@dataclass(frozen=True, slots=True)
class MetadataData:
    """A block of the info dictionary (BEP 9): at most 16 KiB, unverified, perhaps never asked for."""

    piece: int
    total_size: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class MetadataReject:
    """The peer will not send this block of the info dictionary (BEP 9)."""

    piece: int


@dataclass(frozen=True, slots=True)
class PexReceived:
    """Addresses that the peer is connected to, or no longer (BEP 11): hearsay, bounded in number."""

    added: tuple[PexPeer, ...]
    dropped: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class HolepunchReceived:
    """The peer wants to be introduced, or introduces, or cannot (BEP 55): hearsay, its address of any kind."""

    message: HolepunchMessage
