"""One torrent's brain, from the first address to the last piece, without I/O (BEP 3, 6, 9, 10, 11).

It decides over the `PeerConnection`s that a shell pumps: what to ask of whom, whom to serve, whom to
drop. It answers by filling their outboxes and by listing jobs: pieces to be hashed and stored, blocks
to be read. It opens no socket and no file; it reads no clock.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from wire.compact import Endpoint
from wire.ids import InfoHash
from wire.metainfo import Info
from wire.swarm.stats import SwarmStats

__all__ = ["Finished", "MetadataComplete", "PeerDropped", "PieceDone", "Settings", "Swarm", "SwarmEvent"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a caller may choose about a swarm."""

    max_peers: int = 200
    """Connections at once, both ways together."""
    max_dials: int = 50
    """Dials under way at once."""
    upload_slots: int = 8
    """Peers served at once, the optimistic one among them (BEP 3)."""
    listen_port: int = 0
    """Our own port, told to peers (BEP 10 `p`); 0 where nobody can dial us."""
    dht: bool = True
    """Whether the handshake says that a DHT node lives here (BEP 5)."""
    pex: bool = True
    """Whether addresses from peers (BEP 11) are taken; never for a private torrent (BEP 27)."""
    metadata_only: bool = False
    """Stop at the metadata: no pieces are wanted."""


@dataclass(frozen=True, slots=True)
class MetadataComplete:
    """The info dictionary came and matches the info-hash."""

    info: Info


@dataclass(frozen=True, slots=True)
class PieceDone:
    """A piece is verified and stored."""

    index: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Every wanted piece is stored."""


@dataclass(frozen=True, slots=True)
class PeerDropped:
    """A connection is to be closed; `banned` means that the peer lied and is not dialled again."""

    endpoint: Endpoint
    reason: str
    banned: bool


SwarmEvent = MetadataComplete | PieceDone | Finished | PeerDropped


class Swarm:
    """One torrent's brain. Times are monotonic seconds; `info` is given where the metadata is known already."""

    def __init__(
        self,
        info_hash: InfoHash,
        *,
        peer_id: bytes,
        rng: random.Random,
        now: float,
        settings: Settings | None = None,
        info: Info | None = None,
    ) -> None:
        self.info_hash = info_hash
        self.peer_id = peer_id
        self.settings = settings or Settings()
        self.info = info

    def events(self) -> Sequence[SwarmEvent]:
        """What happened since the last call, drained."""
        raise NotImplementedError

    def stats(self, now: float) -> SwarmStats:
        """A snapshot of its counts and rates."""
        raise NotImplementedError
