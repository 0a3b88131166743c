"""A mainline DHT node: Kademlia and KRPC over UDP (BEP 5).

The names are loaded when they are first used: a command that needs no node starts without trio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kademlia_bt.answers import PeerSearch, Pong, QueryError
    from kademlia_bt.contact import Contact
    from kademlia_bt.events import DhtStats
    from kademlia_bt.node import Node

__all__ = ["Contact", "DhtStats", "Node", "PeerSearch", "Pong", "QueryError"]

_HOMES = {
    "Contact": "kademlia_bt.contact",
    "DhtStats": "kademlia_bt.events",
    "Node": "kademlia_bt.node",
    "PeerSearch": "kademlia_bt.answers",
    "Pong": "kademlia_bt.answers",
    "QueryError": "kademlia_bt.answers",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
