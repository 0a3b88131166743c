"""One node of a world, with all that it has heard, and how a search of it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.events import DhtEvent, LookupDone, PeersFound
from kademlia_bt.dht.face import Face
from kademlia_bt.dht.lookup import Lookup
from wire.compact import Endpoint

__all__ = ["Search", "SimNode"]


@dataclass(eq=False)
class SimNode:
    """One node: its DHT, one face an endpoint, and what it has heard. Equal only to itself."""

    endpoints: tuple[Endpoint, ...]
    nat: bool = False
    """Only those reach it to whom it sent something within the last two minutes."""
    alive: bool = True
    events: list[DhtEvent] = field(default_factory=list)
    """All that its DHT has told, in order."""
    holes: dict[Endpoint, float] = field(default_factory=dict, repr=False)
    ids: dict[Endpoint, bytes] = field(default_factory=dict, repr=False)
    """The ids that it was given; `face.node_id` is the one that it has."""
    wake: Callable[[], Dht] | None = field(default=None, repr=False)
    is_calm: bool = False
    """Does nothing of its own accord, but while a lookup of its own runs."""
    _dht: Dht | None = field(default=None, repr=False)

    @property
    def dht(self) -> Dht:
        """Its core. Made now where the node slept until now."""
        if self._dht is None:
            assert self.wake is not None
            self._dht = self.wake()
        return self._dht

    @property
    def is_awake(self) -> bool:
        """Whether it has a core yet."""
        return self._dht is not None

    @property
    def faces(self) -> dict[Endpoint, Face]:
        """Its sockets' DHTs, in the order of its endpoints."""
        return dict(zip(self.endpoints, self.dht.faces, strict=True))

    @property
    def endpoint(self) -> Endpoint:
        """Its first address."""
        return self.endpoints[0]

    @property
    def face(self) -> Face:
        """At its first address."""
        return self.dht.faces[0]

    def face_at(self, endpoint: Endpoint) -> Face:
        """At one of its addresses."""
        return self.dht.faces[self.endpoints.index(endpoint)]

    def done(self, lookup: Lookup) -> LookupDone | None:
        """How a lookup ended, once it has."""
        return next((e for e in reversed(self.events) if isinstance(e, LookupDone) and e.lookup is lookup), None)

    def peers(self, lookup: Lookup) -> list[Endpoint]:
        """The peers that a lookup has found so far, in order."""
        found = [e for e in self.events if isinstance(e, PeersFound) and e.lookup is lookup]
        return [endpoint for event in found for endpoint in event.endpoints]


@dataclass(frozen=True, slots=True)
class Search:
    """How a search for peers went."""

    done: LookupDone
    peers: list[Endpoint]
    """In the order in which they were found."""
    first_s: float | None
    """Until the first peer; None where there was none."""
    took_s: float
    """Until its end."""

    @property
    def lookup(self) -> Lookup:
        """Its counts: asked, answered, hops."""
        return self.done.lookup
