"""How soon a node is of use: from one known node, and from its saved state; on a loopback's delays."""

from __future__ import annotations

import random

from kademlia_bt.dht.events import Joined
from kademlia_bt.dht.lookups import FindNode
from kademlia_bt.dht.table import K
from tests.sim.world import SimNode, World
from wire.compact import Endpoint

_LOOPBACK_S = (0.0001, 0.002)


def loopback(seed: int) -> World:
    """Thirty-two nodes on one machine that have found each other."""
    world = World(seed, delay_s=_LOOPBACK_S)
    first = world.add(hosts=["127.0.0.1"])
    for index in range(31):
        world.add(hosts=[f"127.0.1.{index + 1}"], bootstrap=[first.endpoint])
        world.run(0.1)
    world.run(5)
    return world


def seconds_to_eight(world: World, node: SimNode) -> float:
    began = world.now
    assert world.run(5, lambda: node.face.table.good(world.now) >= K)
    return world.now - began


def test_eight_good_neighbours_within_a_second_of_a_cold_start() -> None:
    for seed in range(3):
        world = loopback(seed)
        newcomer = world.add(hosts=["127.0.2.1"], bootstrap=[world.nodes[seed].endpoint])
        assert seconds_to_eight(world, newcomer) <= 1.0
        world.run(1)
        assert any(isinstance(event, Joined) for event in newcomer.events)


def test_a_restart_from_saved_state_within_a_second_though_half_of_it_is_gone() -> None:
    for seed in range(3):
        world = loopback(seed)
        before = world.nodes[-1]
        saved = before.dht.export_nodes()
        assert len(saved) >= 16
        world.kill(before)
        for node in random.Random(seed).sample(world.nodes[:-1], 15):
            world.kill(node)
        again = world.add(hosts=["127.0.1.31"], node_id=before.face.node_id)
        again.dht.import_nodes(saved, world.now)
        world.poke(again)
        assert seconds_to_eight(world, again) <= 1.0


def test_the_first_lookup_needs_no_join() -> None:
    world = loopback(1)
    newcomer = world.add(hosts=["127.0.2.1"], bootstrap=[world.nodes[0].endpoint])
    began = world.now
    done = world.finish(newcomer, world.start(newcomer, FindNode(bytes(20))))
    assert len(done.closest) == K
    assert world.now - began <= 1.0


def test_a_lookup_asks_the_one_bootstrap_node_once() -> None:
    world = loopback(1)
    entry = world.nodes[0].endpoint
    newcomer = world.add(hosts=["127.0.2.1"], bootstrap=[entry])
    world.run(3)
    asked: list[bytes] = []

    def see(data: bytes, source: Endpoint, to: Endpoint) -> None:
        if source == newcomer.endpoint and to == entry and b"9:find_node" in data:
            asked.append(data)

    world.on_datagram = see
    world.finish(newcomer, world.start(newcomer, FindNode(world.nodes[0].face.node_id)))
    assert len(asked) == 1
