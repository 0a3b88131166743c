"""Peer exchange (BEP 11): its messages, and how much of them is believed. No I/O, no private-torrent law.

What comes is hearsay: at most so many addresses are taken from one message, none with port 0, and none that
is named as added and dropped at once. What goes out is the difference to what went out before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from wire import bencode
from wire.compact import IPV4, IPV6, Endpoint, Family, pack_endpoints, unpack_endpoints
from wire.errors import ProtocolError

__all__ = [
    "ENCRYPTION",
    "HOLEPUNCH",
    "INTERVAL_S",
    "REACHABLE",
    "SEED",
    "UTP",
    "PexMessage",
    "PexPeer",
    "PexSender",
]

ENCRYPTION = 0x01
SEED = 0x02
UTP = 0x04
HOLEPUNCH = 0x08
REACHABLE = 0x10

INTERVAL_S = 60.0
"""At most one message a minute (BEP 11)."""
MAX_SENT = 50
"""Added, and as many dropped, in a message, both families together (BEP 11)."""
MAX_TAKEN = 200
"""Taken from a message, added and dropped each: the first may hold more than 50, none needs to hold thousands."""


class PexPeer(NamedTuple):
    """An address from a peer exchange and its flags (`SEED`, `UTP`, ...)."""

    endpoint: Endpoint
    flags: int


class PexMessage(NamedTuple):
    """One ut_pex message."""

    added: tuple[PexPeer, ...]
    dropped: tuple[Endpoint, ...]

    def encode(self) -> bytes:
        """The payload of the extended message, without its id."""
        items: dict[bytes, bencode.Encodable] = {}
        for family, suffix in _FAMILIES:
            added = [peer for peer in self.added if peer.endpoint.family is family]
            items[b"added" + suffix] = pack_endpoints(peer.endpoint for peer in added)
            items[b"added" + suffix + b".f"] = bytes(peer.flags for peer in added)
            items[b"dropped" + suffix] = pack_endpoints(peer for peer in self.dropped if peer.family is family)
        return bencode.encode(items)

    @classmethod
    def parse(cls, payload: bytes) -> PexMessage:
        """Reads the payload, at most `MAX_TAKEN` addresses of each kind. Raises ProtocolError for no dictionary."""
        items = bencode.decode(payload, max_depth=4, max_tokens=100)
        if not isinstance(items, dict):
            raise ProtocolError("a ut_pex message is a dictionary")
        added: dict[Endpoint, int] = {}
        dropped: dict[Endpoint, None] = {}
        for family, suffix in _FAMILIES:
            flags = bencode.get_bytes(items, b"added" + suffix + b".f") or b""
            for at, endpoint in enumerate(_endpoints(items, b"added" + suffix, family, MAX_TAKEN - len(added))):
                added.setdefault(endpoint, flags[at] if at < len(flags) else 0)
            dropped.update(
                dict.fromkeys(_endpoints(items, b"dropped" + suffix, family, MAX_TAKEN - len(dropped))),
            )
        return cls(
            tuple(
                PexPeer(endpoint, bits) for endpoint, bits in added.items() if endpoint.port and endpoint not in dropped
            ),
            tuple(endpoint for endpoint in dropped if endpoint.port and endpoint not in added),
        )


_FAMILIES: tuple[tuple[Family, bytes], ...] = ((IPV4, b""), (IPV6, b"6"))


def _endpoints(items: dict[bytes, bencode.Value], key: bytes, family: Family, limit: int) -> list[Endpoint]:
    data = bencode.get_bytes(items, key) or b""
    return unpack_endpoints(data[: limit * family.endpoint_bytes], family)


class PexSender:
    """What one peer was told, and so what it is to be told next."""

    __slots__ = ("_next_at", "_told")

    def __init__(self, now: float) -> None:
        self._told: dict[Endpoint, None] = {}
        self._next_at = now

    @property
    def next_at(self) -> float:
        """When `message` may next give something."""
        return self._next_at

    def message(self, connected: Mapping[Endpoint, int], now: float) -> bytes | None:
        """The payload of the next message: how `connected` (address to flags) differs from what was told.

        None: nothing to tell, or too early. `connected` holds peers that we are really connected to (BEP 11),
        without the one that is told.
        """
        if now < self._next_at:
            return None
        added = [PexPeer(endpoint, flags) for endpoint, flags in connected.items() if endpoint not in self._told]
        dropped = [endpoint for endpoint in self._told if endpoint not in connected]
        if not added and not dropped:
            return None
        message = PexMessage(tuple(added[:MAX_SENT]), tuple(dropped[:MAX_SENT]))
        for peer in message.added:
            self._told[peer.endpoint] = None
        for endpoint in message.dropped:
            del self._told[endpoint]
        self._next_at = now + INTERVAL_S
        return message.encode()
