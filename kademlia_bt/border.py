"""Which addresses a face has to do with: the law for local ones, and for what others name (BEP 5).

A node on the open internet neither answers nor asks loopback and private addresses, unless it is told to; and a
local address is believed only from a sender that is local itself: nobody outside can aim us at a machine inside.
"""

from __future__ import annotations

from collections.abc import Iterable

from kademlia_bt.contact import Contact
from wire.compact import IPV6, Endpoint, Family, reach

__all__ = ["Border"]


class Border:
    """The law for one face."""

    __slots__ = ("allow_local", "family")

    def __init__(self, family: Family, allow_local: bool) -> None:
        self.family = family
        self.allow_local = allow_local

    def talks_to(self, endpoint: Endpoint) -> bool:
        """Whether datagrams go to, and are taken from, an endpoint."""
        place = reach(endpoint.host)
        if place != "global" and (not self.allow_local or place not in ("loopback", "private")):
            return False
        return endpoint.port != 0 and (":" in endpoint.host) == (self.family is IPV6)

    def believes(self, endpoint: Endpoint, sender: Endpoint) -> bool:
        """Whether an endpoint, of any family, that `sender` names may be used."""
        place = reach(endpoint.host)
        if endpoint.port == 0 or place in ("unspecified", "invalid"):
            return False
        return place == "global" or (self.allow_local and reach(sender.host) != "global")

    def believed(self, contacts: Iterable[Contact], sender: Endpoint) -> list[Contact]:
        """Of the nodes that `sender` names, those that may be used."""
        return [contact for contact in contacts if self.believes(contact.endpoint, sender)]
