"""What a swarm is told, what it tells, and what it counts: frozen values. No logic, no I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from wire.blocklist import BlockList
from wire.compact import Endpoint
from wire.metainfo import Info

__all__ = [
    "Finished",
    "LayerComplete",
    "MetadataComplete",
    "NodeNamed",
    "PeerDropped",
    "PiecesDone",
    "Priority",
    "Settings",
    "SwarmEvent",
    "SwarmStats",
    "WebSeedState",
]


class Priority(enum.IntEnum):
    """How much a piece is wanted. Of those that a peer can give, one of the highest is chosen."""

    SKIP = 0
    LOW = 1
    NORMAL = 2
    HIGH = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """What a caller may choose about a swarm."""

    max_peers: int = 200
    """Connections at once, both ways together."""
    max_dials: int = 50
    """Dials under way at once."""
    upload_slots: int | None = None
    """Peers served at once, the optimistic one among them (BEP 3); 0: nobody. None: as many as the line can serve well,
    found from what they take."""
    super_seed: bool = False
    """Show each peer one piece at a time, and the next when it has passed that one on (BEP 16)."""
    listen_port: int = 0
    """Our own port, told to peers (BEP 10 `p`); 0 where nobody can dial us."""
    dht: bool = True
    """Whether a DHT node lives on that port: told to peers (BEP 5)."""
    pex: bool = True
    """Whether addresses are exchanged with peers (BEP 11); never for a private torrent (BEP 27)."""
    holepunch: bool = True
    """Whether peers that cannot be dialled are met through others (BEP 55): needs `pex`, and uTP. Never for a private
    torrent."""
    block_list: BlockList | None = None
    """Addresses that are not talked to, whoever names them."""
    metadata_only: bool = False
    """Stop at the metadata: no pieces are wanted."""


@dataclass(frozen=True, slots=True)
class MetadataComplete:
    """The info dictionary came and matches the info-hash."""

    info: Info
    via: str
    """The source that named the peer which gave the last of it; "incoming" for a peer that came by itself."""


@dataclass(frozen=True, slots=True)
class LayerComplete:
    """All piece hashes of one more file are known (BEP 52)."""


@dataclass(frozen=True, slots=True)
class PiecesDone:
    """Pieces are verified and stored."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """Every wanted piece is stored."""


@dataclass(frozen=True, slots=True)
class PeerDropped:
    """A connection is to be closed; `banned` means that the peer lied and is not dialled again."""

    endpoint: Endpoint
    reason: str
    banned: bool


@dataclass(frozen=True, slots=True)
class NodeNamed:
    """A peer says that a DHT node lives beside it (BEP 5)."""

    endpoint: Endpoint


SwarmEvent = MetadataComplete | LayerComplete | PiecesDone | Finished | PeerDropped | NodeNamed


@dataclass(frozen=True, slots=True)
class WebSeedState:
    """How it stands with one web seed (BEP 19)."""

    url: str
    downloaded_bytes: int
    down_rate: float
    """Bytes a second over the last seconds."""
    reason: str | None
    """Why it rests, lacks a file or was given up; None where all is well."""
    given_up: bool


@dataclass(frozen=True, slots=True)
class SwarmStats:
    """A snapshot of one torrent's swarm. Counts are since the start unless the name says otherwise."""

    found: Mapping[str, int]
    """Distinct addresses by the source that named them first ("dht", "pex", "peer", ...)."""
    dialled: int
    """Connections tried."""
    connected: int
    """Connections, either way, whose handshake was completed."""
    refused: int
    """Dials that were refused or had no route."""
    timed_out: int
    """Dials that nobody answered in time."""
    handshake_failed: int
    """Streams that opened and then closed, fell silent or spoke something else before their handshake was done."""
    without_metadata: int
    """Peers that do not offer the metadata (BEP 9), seen while it was wanted."""
    metadata_rejected: int
    """Peers that offered the metadata and refused to send it."""
    metadata_hash_failures: int
    """Whole info dictionaries that did not match the info-hash."""
    piece_hash_failures: int
    """Whole pieces that did not match their hash."""
    banned: int
    """Peers that lied and are not talked to any more."""
    blocked: int
    """Addresses that were named, or came by themselves, and that the block list names."""
    peers: int
    """Connections now, their handshake done."""
    seeds: int
    """Those among them that have every piece."""
    downloaded_bytes: int
    """Piece data received and asked for, wrong pieces included."""
    uploaded_bytes: int
    """Piece data handed out."""
    wasted_bytes: int
    """Piece data received twice, unasked or wrong."""
    down_rate: float
    """Bytes of piece data a second over the last seconds."""
    up_rate: float
    """Bytes of piece data a second over the last seconds."""
    pieces_done: int
    """Pieces verified and stored, those found at the start included."""
    pieces_total: int
    """Pieces of the torrent; 0 until the metadata is known."""
    wanted_left_bytes: int
    """Bytes of wanted pieces that are not stored yet; 0 until the metadata is known."""
    web_seeds: tuple[WebSeedState, ...] = ()
    """All that are tried; peers, seeds and connections do not count them."""
    layer_hashes: int = 0
    """Piece hashes of version 2 that peers sent and proved (BEP 52)."""
