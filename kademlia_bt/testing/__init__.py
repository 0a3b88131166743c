"""Worlds of thousands of DHT nodes in one process, on virtual time: to test programs that use a DHT, and this one.

    from kademlia_bt.testing import World

    world = World(seed=1, loss=0.1)
    nodes = world.populate(1_000)
    world.announce(nodes[3], info_hash, port=7000)
    assert world.search(nodes[700], info_hash).peers == [Endpoint(nodes[3].endpoint.host, 7000)]

The same seed gives the same datagrams. Nothing here needs trio or pytest, but for `bridge`, which joins a world
to programs over `kademlia_bt.Node`, and `plugin`, which gives pytest the fixture `dht_world`.
"""

from __future__ import annotations

from kademlia_bt.testing.adversaries import Impostor, Poisoner, Sybils
from kademlia_bt.testing.churn import Churn
from kademlia_bt.testing.simnode import Search, SimNode
from kademlia_bt.testing.world import World

__all__ = ["Churn", "Impostor", "Poisoner", "Search", "SimNode", "Sybils", "World"]
