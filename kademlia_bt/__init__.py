"""A mainline DHT node: Kademlia and KRPC over UDP (BEP 5).

The names are loaded when they are first used: a command that needs no node starts without trio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kademlia_bt.answers import ItemRefusedError, PeerSearch, Pong, QueryError, SampleAnswer
    from kademlia_bt.dht.contact import Contact
    from kademlia_bt.dht.events import DhtStats
    from kademlia_bt.dht.gather import Copies, SwarmSize
    from kademlia_bt.items.signing import KeyPair
    from kademlia_bt.items.values import ImmutableItem, MutableItem
    from kademlia_bt.node import Node

__all__ = [
    "Contact",
    "Copies",
    "DhtStats",
    "ImmutableItem",
    "ItemRefusedError",
    "KeyPair",
    "MutableItem",
    "Node",
    "PeerSearch",
    "Pong",
    "QueryError",
    "SampleAnswer",
    "SwarmSize",
]

_HOMES = {
    "Contact": "kademlia_bt.dht.contact",
    "Copies": "kademlia_bt.dht.gather",
    "DhtStats": "kademlia_bt.dht.events",
    "ImmutableItem": "kademlia_bt.items.values",
    "ItemRefusedError": "kademlia_bt.answers",
    "KeyPair": "kademlia_bt.items.signing",
    "MutableItem": "kademlia_bt.items.values",
    "Node": "kademlia_bt.node",
    "PeerSearch": "kademlia_bt.answers",
    "Pong": "kademlia_bt.answers",
    "QueryError": "kademlia_bt.answers",
    "SampleAnswer": "kademlia_bt.answers",
    "SwarmSize": "kademlia_bt.dht.gather",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
