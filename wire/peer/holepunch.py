"""The ut_holepunch messages (BEP 55): values and bytes. Who is introduced to whom is `wire.swarm.holepunch`'s business.

libtorrent leaves the error code out where there is no error, anacrolix wants it always: both are read, it is sent.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from wire.compact import IPV4, IPV6, Endpoint, Family
from wire.errors import ProtocolError

__all__ = ["HolepunchError", "HolepunchKind", "HolepunchMessage"]


class HolepunchKind(enum.IntEnum):
    """What a message asks for."""

    RENDEZVOUS = 0
    """To the relay: introduce us to this peer of yours."""
    CONNECT = 1
    """From the relay, to both: open a uTP connection to this peer, now."""
    ERROR = 2
    """From the relay: that cannot be."""


class HolepunchError(enum.IntEnum):
    """Why a relay cannot introduce."""

    NONE = 0
    NO_SUCH_PEER = 1
    """The address is not one of a peer."""
    NOT_CONNECTED = 2
    """The relay is not connected to it."""
    NO_SUPPORT = 3
    """It does not understand ut_holepunch."""
    NO_SELF = 4
    """It is the relay itself."""


_FAMILIES: tuple[Family, ...] = (IPV4, IPV6)
"""By addr_type."""
_HEAD_BYTES = 2
_ERROR_BYTES = 4


class HolepunchMessage(NamedTuple):
    """One ut_holepunch message."""

    kind: HolepunchKind
    endpoint: Endpoint
    """Of the other peer, as the relay sees it; unchecked, also for port 0."""
    error: int = HolepunchError.NONE
    """A `HolepunchError`, or one that nobody knows yet; 0 where it is no error."""

    def encode(self) -> bytes:
        """The payload of the extended message, without its id."""
        family = self.endpoint.family
        head = bytes((self.kind, _FAMILIES.index(family)))
        return head + self.endpoint.compact() + int(self.error).to_bytes(_ERROR_BYTES, "big")

    @classmethod
    def parse(cls, payload: bytes) -> HolepunchMessage | None:
        """Reads the payload; None for a kind that nobody knows yet, which is to be ignored. Raises ProtocolError."""
        if len(payload) < _HEAD_BYTES or payload[1] >= len(_FAMILIES):
            raise ProtocolError("a ut_holepunch message without an address of a known kind")
        end = _HEAD_BYTES + _FAMILIES[payload[1]].endpoint_bytes
        if len(payload) not in (end, end + _ERROR_BYTES):
            raise ProtocolError(f"a ut_holepunch message of {len(payload)} bytes")
        if payload[0] > HolepunchKind.ERROR:
            return None
        kind = HolepunchKind(payload[0])
        error = int.from_bytes(payload[end:], "big") if kind is HolepunchKind.ERROR else HolepunchError.NONE
        return cls(kind, Endpoint.from_compact(payload[_HEAD_BYTES:end]), error)
