"""What a DHT tells its caller: events, and its counts as a frozen value. No behaviour.

The `lookup` and `question` of an event are the very handles that `Dht.start` and `Dht.query` gave:
tell them apart by identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kademlia_bt.dht.confidence import Confidence
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.krpc import Samples
from kademlia_bt.dht.traffic import MessageStats
from wire.compact import Endpoint, Family

if TYPE_CHECKING:
    from kademlia_bt.dht.lookup import Lookup
    from kademlia_bt.dht.questions import Question

__all__ = [
    "Answered",
    "DhtEvent",
    "DhtStats",
    "ExternalAddress",
    "FaceStats",
    "Failure",
    "Health",
    "HealthChanged",
    "Joined",
    "LookupDone",
    "LookupReport",
    "LookupTotals",
    "NodeIdChanged",
    "PeersFound",
    "StarterStats",
    "Unanswered",
]

Health = Literal["broken", "poor", "firewalled", "good"]
"""How well a DHT is connected. `broken`: no live node is known. `poor`: fewer than 8 are (a small network, or a start).
`firewalled`: we reach others, but for 15 minutes nobody has asked us whom we had not asked before; never said of a
read-only node. `good`: all else."""

Failure = Literal["timed_out", "refused", "bad_answer", "no_route", "cancelled"]
"""Why a question has no answer. `refused`: the node sent a KRPC error. `bad_answer`: it does not know the question.
`no_route`: there is no face of that address family, or it does not talk to such an address. `cancelled` never comes
from here: it is for a shell that closes."""


@dataclass(frozen=True, slots=True)
class PeersFound:
    """Peers that a node just named; each endpoint comes once a lookup."""

    lookup: Lookup
    endpoints: tuple[Endpoint, ...]
    via: Endpoint | None
    """The node that named them; None where they had announced themselves to us."""


@dataclass(frozen=True, slots=True)
class LookupDone:
    """A lookup ended; nothing more comes of it. Also after `cancel`."""

    lookup: Lookup
    closest: tuple[Contact, ...]
    """The up to 8 closest nodes that answered, closest first; with two families, of each."""
    stored: int
    """Nodes that said they took the announce; 0 where none was asked for."""
    cancelled: bool = False
    confidence: tuple[Confidence, ...] = ()
    """How far `closest` can be trusted: one for each family that it holds nodes of."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A single question has its answer."""

    question: Question
    node: Contact
    rtt_s: float
    nodes: tuple[Contact, ...] = ()
    peers: tuple[Endpoint, ...] = ()
    token: bytes | None = None
    version: bytes | None = None
    """The `v` of the answer: client and version, not to be trusted."""
    own_address: Endpoint | None = None
    """Where the node saw us (BEP 42 `ip`)."""
    samples: Samples | None = None
    """What it shows of its store, where it was asked for that (BEP 51)."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A single question will have no answer."""

    question: Question
    reason: Failure
    error: tuple[int, str] | None = None
    """Code and text of the KRPC error, where that is the reason."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A face knows live nodes and has looked up its own neighbourhood. Comes again after a time with none."""

    family: Family
    nodes: int


@dataclass(frozen=True, slots=True)
class ExternalAddress:
    """Enough nodes of different networks agree on where they see us (BEP 42)."""

    family: Family
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class NodeIdChanged:
    """A face took a new id, as its address asked for one (BEP 42)."""

    family: Family
    node_id: bytes


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """The health of the whole is another than before."""

    health: Health


DhtEvent = PeersFound | LookupDone | Answered | Unanswered | Joined | ExternalAddress | NodeIdChanged | HealthChanged


@dataclass(frozen=True, slots=True)
class LookupReport:
    """One lookup, under way or over, for those who watch."""

    method: str
    """What it asks: `find_node`, `get_peers` ..."""
    target: bytes
    internal: bool
    """Ours, for the table."""
    state: Literal["running", "done", "cancelled"]
    age_s: float
    """Since it began."""
    took_s: float
    """From its begin to its end, or until now."""
    asked: int
    answered: int
    found: int
    """Peers named."""
    stored: int
    hops: int
    """The longest chain of nodes, each named by the one before it, that led to an answer."""


@dataclass(frozen=True, slots=True)
class LookupTotals:
    """All lookups of one method that are over, added up."""

    method: str
    lookups: int = 0
    hops: int = 0
    asked: int = 0
    answered: int = 0
    took_s: float = 0.0

    def plus(self, report: LookupReport) -> LookupTotals:
        """With one more."""
        return LookupTotals(
            self.method,
            self.lookups + 1,
            self.hops + report.hops,
            self.asked + report.asked,
            self.answered + report.answered,
            self.took_s + report.took_s,
        )


@dataclass(frozen=True, slots=True)
class StarterStats:
    """A place to start from, and how it fared."""

    endpoint: Endpoint
    router: bool
    tried: bool
    answered: bool


@dataclass(frozen=True, slots=True)
class FaceStats:
    """One socket's share of the counts."""

    family: Family
    node_id: bytes
    good: int
    """Table nodes that answered lately."""
    nodes: int
    """Table nodes, good or not yet known to be bad."""
    replacements: int
    joined: bool
    health: Health
    external: Endpoint | None
    rtt_s: float | None
    """Smoothed round trip; None before the first answer."""
    pending: int
    """Queries that wait for an answer."""


@dataclass(frozen=True, slots=True)
class DhtStats:
    """A snapshot. Counts are since the start."""

    routers_tried: int
    routers_answered: int
    nodes_asked: int
    """Distinct questions sent out, repeats of a lost one not counted."""
    nodes_answered: int
    faces: tuple[FaceStats, ...]
    torrents: int
    """Info-hashes with stored peers."""
    peers: int
    """Peers stored for others."""
    queries: int
    """Queries that came in and were looked at."""
    answers: int
    """Answers and errors sent."""
    dropped: int
    """Datagrams dropped: malformed, unasked for, refused addresses, over a limit."""
    limited: int
    """Of these, dropped for a rate limit."""
    sent_bytes: int
    received_bytes: int
    health: Health
    starters: tuple[StarterStats, ...] = ()
    """The places to start from, one by one."""
    messages: tuple[MessageStats, ...] = ()
    """Traffic by method."""
    lookups: tuple[LookupTotals, ...] = ()
    """Those that are over, by method."""
    refused: tuple[tuple[str, int], ...] = ()
    """Datagrams dropped, and errors sent as `error CODE`, by reason (see `kademlia_bt.dht.traffic`)."""

    @property
    def nodes(self) -> int:
        """Nodes in all tables."""
        return sum(face.nodes for face in self.faces)

    @property
    def good(self) -> int:
        """Good nodes in all tables."""
        return sum(face.good for face in self.faces)
