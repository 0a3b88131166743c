"""Which pieces a choked peer may have all the same: the same for each connection of one address (BEP 6)."""

from __future__ import annotations

import hashlib
import ipaddress

__all__ = ["FAST_PIECES", "allowed_fast"]

FAST_PIECES = 10
"""What BEP 6 proposes."""


def allowed_fast(host: str, info_hash: bytes, piece_count: int, count: int = FAST_PIECES) -> list[int]:
    """The allowed-fast set of an IPv4 address, at most `count` pieces and never more than there are; of others, none.

    The last byte of the address does not matter: neighbours have the same set.
    """
    address = ipaddress.ip_address(host)
    if address.version != 4:
        return []  # BEP 6 says nothing of IPv6
    chain = (int(address) & 0xFFFFFF00).to_bytes(4, "big") + info_hash
    chosen: dict[int, None] = {}
    count = min(count, piece_count)
    while len(chosen) < count:
        chain = hashlib.sha1(chain, usedforsecurity=False).digest()
        for at in range(0, 20, 4):
            if len(chosen) < count:
                chosen[int.from_bytes(chain[at : at + 4], "big") % piece_count] = None
    return list(chosen)
