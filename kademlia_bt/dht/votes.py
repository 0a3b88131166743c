"""The external address, by vote: each network of nodes that says where it sees us has one voice (BEP 42)."""

from __future__ import annotations

from collections import Counter

from wire.compact import Endpoint, reach

__all__ = ["VOTES_NEEDED", "AddressVotes", "network_of"]

VOTES_NEEDED = 12
"""Voices for one address before it is believed; ten liars must not be enough."""
_MAX_VOTERS = 32
"""The latest voices count, so that a real change of address gets its majority."""


def network_of(endpoint: Endpoint) -> str | bytes:
    """A key for what is likely one owner's: the /24 of an IPv4 address, the /64 of an IPv6 one."""
    return endpoint.ip[:8] if ":" in endpoint.host else endpoint.host.rpartition(".")[0]


class AddressVotes:
    """Collects voices. `agreed` holds what at least 12 and two thirds of the latest 32 networks say."""

    def __init__(self) -> None:
        self.agreed: Endpoint | None = None
        """The address, and the port that most recently came with it."""
        self._voices: dict[str | bytes, Endpoint] = {}

    def vote(self, seen: Endpoint, voter: Endpoint) -> bool:
        """Takes a voice; True where it changed the agreed address."""
        if reach(seen.host) != "global" or not seen.port:
            return False
        network = network_of(voter)
        self._voices.pop(network, None)
        if len(self._voices) >= _MAX_VOTERS:
            del self._voices[next(iter(self._voices))]
        self._voices[network] = seen
        if self.agreed is not None and self.agreed.host == seen.host:
            self.agreed = seen
            return False
        voices = sum(voice.host == seen.host for voice in self._voices.values())
        if voices < VOTES_NEEDED or voices * 3 < len(self._voices) * 2:
            return False
        ports = Counter(voice.port for voice in self._voices.values() if voice.host == seen.host)
        self.agreed = Endpoint(seen.host, ports.most_common(1)[0][0])
        return True
