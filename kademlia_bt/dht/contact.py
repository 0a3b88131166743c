"""A DHT node as a value: its id and where it answers (BEP 5, BEP 32). What a table adds to it stands in table.py."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from wire.compact import IPV4, Endpoint, Family
from wire.errors import ProtocolError
from wire.ids import ID_BYTES

__all__ = ["Contact", "unpack_contacts"]

_NODE = struct.Struct(f"!{ID_BYTES}s{IPV4.ip_bytes}sH")


class Contact(NamedTuple):
    """A node id of 20 bytes and the endpoint that it was told to live at. Compares and hashes by value."""

    id: bytes
    endpoint: Endpoint

    def compact(self) -> bytes:
        """Id, address and port: 26 bytes over IPv4, 38 over IPv6 (BEP 5, BEP 32)."""
        return self.id + self.endpoint.compact()

    def __str__(self) -> str:
        return f"{self.id.hex()} {self.endpoint}"


def unpack_contacts(data: bytes, family: Family, limit: int) -> list[Contact]:
    """Splits the compact nodes of one family, at most `limit` of them; what a broken string's end holds is dropped.

    Raises ProtocolError where an entry is no endpoint (none is today: every 6 or 18 bytes are one).
    """
    end = min(len(data) // family.node_bytes, limit) * family.node_bytes
    new, text, af = tuple.__new__, socket.inet_ntop, family.af  # a third of the time of calling the classes
    if family is IPV4:
        return [
            new(Contact, (node_id, new(Endpoint, (text(af, ip), port))))
            for node_id, ip, port in _NODE.iter_unpack(data[:end])
        ]
    width = family.node_bytes
    try:
        return [
            Contact(data[at : at + ID_BYTES], Endpoint.from_compact(data[at + ID_BYTES : at + width]))
            for at in range(0, end, width)
        ]
    except ValueError as error:  # inet_ntop's own, for a width that the families do not have
        raise ProtocolError(f"bad compact nodes: {error}") from None
