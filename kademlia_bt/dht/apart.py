"""Whether several sockets of one node are several to others: one port an address, one address a /64 (BEP 45)."""

from __future__ import annotations

from collections.abc import Iterable

from kademlia_bt.dht.votes import network_of
from wire.compact import IPV6, Endpoint, reach

__all__ = ["not_apart"]


def not_apart(sockets: Iterable[tuple[Endpoint | None, Endpoint | None]]) -> list[str]:
    """What is to be said of sockets that others take for one, a line each; empty where all is well.

    Args:
        sockets: Of each where it is bound, and where others see it, as far as these are known. What is bound to a local
            address, or to none, and was not seen yet, is not judged.
    """
    by_place: dict[str | bytes, tuple[Endpoint, Endpoint]] = {}
    lines = []
    for bound, seen in sockets:
        known = seen if seen is not None else bound
        if bound is None or known is None or reach(known.host) != "global":
            continue
        place = network_of(known) if known.family is IPV6 else known.host
        if place not in by_place:
            by_place[place] = (bound, known)
            continue
        first, first_known = by_place[place]
        same = known.host == first_known.host
        where = known.host if same else f"the network (/64) of {known.host}"
        lines.append(
            f"{first} and {bound} are both {where} to others, who keep one of them: "
            f"listen on {'one address' if same else 'one of that network'} alone (BEP 45)"
        )
    return lines
