"""A node that a lookup may ask, and how far it has come with that (BEP 5). Whom to ask is decided in lookup.py.

FRESH -> ASKED -> ANSWERED
           |  ^
           v  |  (asked again)
          SLOW -> FAILED        a late answer still leads to ANSWERED
"""

from __future__ import annotations

from enum import Enum, auto

from kademlia_bt.dht.node_id import fits
from kademlia_bt.dht.votes import network_of
from wire.compact import Endpoint, reach

__all__ = ["Candidate", "State"]


class State(Enum):
    """Of one candidate, for the question or for the store that follows it."""

    FRESH = auto()
    ASKED = auto()
    SLOW = auto()
    ANSWERED = auto()
    FAILED = auto()


class Candidate:
    """A node that a walk may ask."""

    __slots__ = (
        "distance", "endpoint", "hop", "id", "network", "secure", "state", "store_state", "store_tries", "token",
        "tries",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, node_id: bytes | None, distance: int, hop: int) -> None:
        self.hop = hop
        """1 for a node that we knew; one more than that of the node that named it for another."""
        self.endpoint = endpoint
        self.id = node_id
        self.distance = distance
        """From the target; -1 where the id is not known."""
        self.secure = node_id is not None
        """The id fits the address (BEP 42); a local address is exempt."""
        self.network: str | bytes | None = None
        """Whose it may be; None for a local address, which is exempt: whole test networks live there."""
        if reach(endpoint.host) == "global":
            self.network = network_of(endpoint)
            self.secure = node_id is not None and fits(node_id, endpoint.ip)
        self.state = State.FRESH
        self.tries = 0
        self.token: bytes | None = None
        self.store_state = State.FRESH
        self.store_tries = 0
