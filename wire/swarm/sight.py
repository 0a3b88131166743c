"""Our own addresses, as others see them (BEP 10 `yourip`): who says so, and whether enough of them do. No I/O.

What a tracker or the DHT found out is believed first; what single peers say, once some of different networks agree.
"""

from __future__ import annotations

from collections import Counter

from wire.compact import Endpoint, Family, reach

__all__ = ["Sight"]

AGREE = 3
"""Peers of different networks that must name one address before it is believed."""
MAX_VOTES = 32
"""Networks whose word is kept, of each family; the newest."""


class Sight:
    """How we are seen, one address of each family."""

    def __init__(self) -> None:
        self._told: dict[Family, str] = {}
        self._votes: dict[Family, dict[bytes, str]] = {}

    def told(self, host: str) -> None:
        """The DHT or a tracker says so (an IP literal)."""
        self._told[Endpoint(host, 0).family] = host

    def vote(self, voter: Endpoint, host: str) -> bool:
        """A peer sees us at that address. True where by that it is believed from now on."""
        seen = Endpoint(host, 0)
        if reach(host) != "global":
            return False  # it is in our own network, or lies
        before = self.of(seen.family)
        votes = self._votes.setdefault(seen.family, {})
        network = _network(voter)
        votes.pop(network, None)
        votes[network] = host
        while len(votes) > MAX_VOTES:
            del votes[next(iter(votes))]
        return self.of(seen.family) == host != before

    def of(self, family: Family) -> str | None:
        """Our address of that family, where it is known."""
        if (told := self._told.get(family)) is not None:
            return told
        votes = self._votes.get(family)
        if votes is None:
            return None
        host, count = Counter(votes.values()).most_common(1)[0]
        return host if count >= AGREE else None

    def has(self, host: str) -> bool:
        """Whether it is one of ours."""
        return self.of(Endpoint(host, 0).family) == host


def _network(endpoint: Endpoint) -> bytes:
    return endpoint.ip[: 3 if len(endpoint.ip) == 4 else 8]
