"""The whole DHT of one process without I/O: faces (one a socket), shared stores, lookups, events (BEP 5, 32, 42, 43).

How a shell drives it: one `UdpPump` a socket with its `Face` as tenant. After any call on `Dht` that may
send (start, query, cancel, add_*), and after each batch of datagrams, look at `dht.has_events` (drain with
`events()`) and wake the pump of each face whose `has_outgoing` is true: what comes in on one face may
make another speak (BEP 32). Both flags are cheap.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kademlia_bt.contact import Contact
from kademlia_bt.events import DhtEvent, DhtStats
from kademlia_bt.lookup import Lookup
from kademlia_bt.lookups import LookupKind
from kademlia_bt.questions import Question, QuestionKind
from wire.compact import Endpoint, Family
from wire.net import Buffer

__all__ = ["Dht", "DhtConfig", "Face"]


@dataclass(frozen=True, slots=True)
class DhtConfig:
    """How a DHT behaves. Nothing here changes while it runs."""

    read_only: bool = False
    """Asks but never answers, and says so (BEP 43)."""
    per_ip_limit: float | None = None
    """Queries a second that one address may send, averaged over 10 s; who sends more is ignored for 5 min. 0: no limit.
    None: 5, or 1,000 on a face with `allow_local`, where a whole network may share one address."""
    upload_limit: int | None = None
    """Bytes a second of answers, for each face. 0: no limit. None: 16,000, or no limit on a face with `allow_local`."""
    version: bytes = b"KB\x01\x00"
    """Client and version: the `v` of each message."""


class Face:
    """One socket's DHT: its id, table and transactions. A `wire.udp.Tenant`. Made by `Dht.add_face`."""

    family: Family
    node_id: bytes
    allow_local: bool

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing` has something to give."""
        raise NotImplementedError

    @property
    def external(self) -> Endpoint | None:
        """Where the others see us, once enough of them agree (BEP 42)."""
        raise NotImplementedError

    def claims(self, first_byte: int) -> bool:
        """KRPC datagrams begin with `d`."""
        raise NotImplementedError

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        """Takes a datagram; never raises for what is in it."""
        raise NotImplementedError

    def outgoing(self) -> list[tuple[Buffer, Endpoint]]:
        """What is to be sent, drained."""
        raise NotImplementedError

    def next_timer(self) -> float | None:
        """When `tick` is wanted next."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Does what time brings: time-outs, refreshes, pings."""
        raise NotImplementedError


class Dht:
    """The DHT. Times are monotonic seconds; `rng` should be unpredictable in life (`random.SystemRandom()`)."""

    def __init__(self, config: DhtConfig, rng: random.Random, now: float) -> None:
        raise NotImplementedError

    @property
    def faces(self) -> Sequence[Face]:
        """In the order they were added."""
        raise NotImplementedError

    def add_face(self, family: Family, node_id: bytes | None, now: float, *, allow_local: bool = False) -> Face:
        """Adds a socket's DHT.

        Args:
            family: `IPV4` or `IPV6`: what its socket speaks.
            node_id: 20 bytes, as saved; None makes a random one. A new one is taken by itself once the external
                address is known and the id does not fit it (BEP 42).
            now: Monotonic seconds.
            allow_local: Talks to loopback and private addresses too; else datagrams from there are dropped.
        """
        raise NotImplementedError

    def add_bootstrap(self, endpoints: Iterable[Endpoint], now: float, *, routers: bool = False) -> None:
        """Adds places to start from, each on the face of its family; joins at once where no node is known yet.

        They are asked again, with back-off, whenever no live node is known. With `routers` they are the public
        entry points, which hand out nodes for all: they never enter the table and are not announced to.
        Without, they are ordinary nodes. May be called again (names resolved late, the network came back).
        """
        raise NotImplementedError

    def add_node(self, endpoint: Endpoint, now: float, node_id: bytes | None = None) -> None:
        """A node that somebody named (a PORT message, a torrent's `nodes`): pinged first, kept if it answers.

        Bounded and silent: too many at once, or an address that is not talked to, and it is forgotten.
        """
        raise NotImplementedError

    def import_nodes(self, nodes: Iterable[Contact], now: float) -> None:
        """Takes up saved nodes: lookups start from them at once, none enters a table before it answers."""
        raise NotImplementedError

    def export_nodes(self) -> list[Contact]:
        """The nodes worth saving, best first, of all faces; at most 500."""
        raise NotImplementedError

    def start(self, kind: LookupKind, now: float) -> Lookup:
        """Starts a lookup on every face; `PeersFound` and at last one `LookupDone` carry the handle given here.

        Raises MisuseError for a target that is not 20 bytes, or a port outside 1..65535.
        """
        raise NotImplementedError

    def cancel(self, lookup: Lookup, now: float) -> None:
        """Ends a lookup; its `LookupDone` comes at once. Nothing happens where it is done."""
        raise NotImplementedError

    def query(self, endpoint: Endpoint, kind: QuestionKind, now: float) -> Question:
        """Asks one node one thing; `Answered` or `Unanswered` (within 15 s) carries the handle given here."""
        raise NotImplementedError

    @property
    def has_events(self) -> bool:
        """Whether `events` has something to give."""
        raise NotImplementedError

    def events(self) -> list[DhtEvent]:
        """What happened, in order, drained."""
        raise NotImplementedError

    def stats(self) -> DhtStats:
        """A snapshot of the counts."""
        raise NotImplementedError
