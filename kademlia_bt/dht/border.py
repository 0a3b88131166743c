"""Which addresses a face has to do with: the law for local ones, and for what others name (BEP 5).

A node on the open internet neither answers nor asks loopback and private addresses, unless it is told to; and a
local address is believed only from a sender that is local itself: nobody outside can aim us at a machine inside.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.places import is_global, is_local
from wire.compact import IPV6, Endpoint, Family, Reach, reach

__all__ = ["Border"]

_FAR: frozenset[Reach] = frozenset({"global"})
_NEAR_AND_FAR: frozenset[Reach] = _FAR | {"loopback", "private"}
"""Where a node may be that another names: nearby only by word of one that is nearby itself."""
_MAX_HOSTS = 4_096
"""Remembered at a time: sources can be forged."""


class Border:
    """The law for one face."""

    __slots__ = ("allow_local", "family", "known")

    def __init__(self, family: Family, allow_local: bool) -> None:
        self.family = family
        self.allow_local = allow_local
        self.known: dict[str, bytes] = {}
        """What `packed` has given lately. To be looked into by whoever is asked often; not to be changed."""

    def packed(self, host: str) -> bytes | None:
        """The packed address of a host that is talked to, None for others: remembered, as each datagram asks for it."""
        ip = self.known.get(host)
        if ip is None:
            ip = self._packed(host)
            if ip is not None:
                if len(self.known) >= _MAX_HOSTS:  # all at once: dropping one for each that is new costs more
                    self.known.clear()
                self.known[host] = ip
        return ip

    def _packed(self, host: str) -> bytes | None:
        if (":" in host) != (self.family is IPV6):
            return None
        try:
            ip = socket.inet_pton(self.family.af, host)
        except (OSError, ValueError):  # no address, or one with a zone (ValueError: a NUL in it)
            return None
        return ip if is_global(ip) or (self.allow_local and is_local(ip)) else None

    def talks_to(self, endpoint: Endpoint) -> bool:
        """Whether datagrams go to, and are taken from, an endpoint."""
        return endpoint.port != 0 and self.packed(endpoint.host) is not None

    def believes(self, endpoint: Endpoint, sender: Endpoint) -> bool:
        """Whether an endpoint, of any family, that `sender` names may be used."""
        return endpoint.port != 0 and reach(endpoint.host) in self._places(sender)

    def believed(self, contacts: Iterable[Contact], sender: Endpoint) -> list[Contact]:
        """Of the nodes that `sender` names, those that may be used, as `believes` has it."""
        places = self._places(sender)
        return [contact for contact in contacts if contact.endpoint.port and reach(contact.endpoint.host) in places]

    def _places(self, sender: Endpoint) -> frozenset[Reach]:
        return _NEAR_AND_FAR if self.allow_local and reach(sender.host) != "global" else _FAR
