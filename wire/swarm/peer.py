"""A peer as the swarm's brain sees it: its connection, what it can give, and what it waits for. Values only."""

from __future__ import annotations

from wire.compact import Endpoint
from wire.peer.connection import PeerConnection
from wire.peer.pex import PexSender
from wire.swarm.choker import RATE_MARKS
from wire.swarm.meter import Meter, Span
from wire.swarm.pieces import BlockId
from wire.swarm.source import Source

__all__ = ["Peer"]


class Peer:
    """One connection of a swarm, from the open stream on. Compared and hashed by identity."""

    __slots__ = (
        "choked_at",
        "connection",
        "crossed_at",
        "dialled",
        "encrypted",
        "endpoint",
        "fed_at",
        "gave",
        "gone",
        "grant",
        "granted",
        "hashes_sent",
        "hunger",
        "joined_at",
        "key",
        "leaves_sent",
        "listens_at",
        "metadata_answers",
        "over_utp",
        "pex",
        "queue",
        "ready",
        "refused",
        "rejected_metadata",
        "served_at",
        "source",
        "spread",
        "unchoked_at",
        "up",
        "useful",
        "waiting",
        "without_metadata",
    )

    def __init__(
        self,
        key: int,
        endpoint: Endpoint,
        connection: PeerConnection,
        now: float,
        *,
        dialled: bool,
        over_utp: bool = False,
        encrypted: bool = False,
    ) -> None:
        self.key = key
        """Counts up in the order in which peers came."""
        self.endpoint = endpoint
        self.connection = connection
        self.dialled = dialled
        """We dialled; else the peer did."""
        self.over_utp = over_utp
        self.encrypted = encrypted
        """All that passes between us is encrypted."""
        # uTP comes from the port that it listens on, through whatever NAT there is.
        self.listens_at: Endpoint | None = endpoint if dialled or over_utp else None
        """Where others can dial it, as far as is known."""
        self.ready = False
        """The handshake is done."""
        self.gone = False
        """Dropped: the shell closes it."""
        self.useful = False
        """It gave us something, or took something."""
        self.source = Source(endpoint, now)
        self.queue: dict[BlockId, None] = {}
        """Blocks it asked for, in order, that nobody read yet."""
        self.waiting: dict[BlockId, None] = {}
        """Blocks it asked for that are put off, in order (`Leechers`)."""
        self.served_at = now
        """When one of them was taken up last."""
        self.fed_at = now
        """When it got a piece from others last, or began to be put off."""
        self.hunger = 0
        """For how many seconds it was served because it got none (`Leechers`)."""
        self.refused = 0
        """Requests that were not taken since it was unchoked."""
        self.up = Meter(now)
        """Bytes of piece data sent to it."""
        self.gave = Span(0, now, RATE_MARKS)
        """Of `source.meter`, over 20 s."""
        self.spread = 0.0
        """What it passed on of what we gave, in pieces (`Spread`)."""
        self.granted: frozenset[int] = frozenset()
        """Pieces that it may ask for though we choke it (BEP 6)."""
        self.grant = 0
        """Bytes that it may still have so."""
        self.joined_at = now
        self.crossed_at = float("-inf")
        """When another connection to it was closed for the sake of this one."""
        self.unchoked_at: float | None = None
        self.choked_at = now
        self.pex = PexSender(now)
        self.metadata_answers = 0
        self.hashes_sent = 0
        self.leaves_sent = 0
        self.without_metadata = False
        self.rejected_metadata = False
