"""Health as the core judges it, and how it gets back on its feet, in small worlds."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.events import Health, HealthChanged
from kademlia_bt.dht.lookups import FindNode, GetPeers
from kademlia_bt.dht.peer_store import PEER_LIFE_S
from tests.sim.world import SimNode, World


def world_of(size: int, seed: int = 5) -> World:
    world = World(seed)
    first = world.add()
    for _ in range(size - 1):
        world.add(bootstrap=[first.endpoint])
    world.run(60)
    return world


def changes(node: SimNode) -> list[Health]:
    return [event.health for event in node.events if isinstance(event, HealthChanged)]


def test_from_nothing_to_good() -> None:
    world = World(1)
    first = world.add()
    world.run(60)
    assert (first.dht.health, changes(first)) == ("broken", [])
    world.add(bootstrap=[first.endpoint])
    assert world.run(5, lambda: first.dht.health == "poor")
    for _ in range(10):
        world.add(bootstrap=[first.endpoint])
    assert world.run(30, lambda: first.dht.health == "good")
    assert changes(first) == ["poor", "good"]
    assert first.dht.stats().health == "good"


def test_who_is_never_asked_by_strangers_is_firewalled() -> None:
    world = world_of(60)
    hidden = world.add(nat=True, bootstrap=[world.nodes[0].endpoint])
    open_ = world.add(bootstrap=[world.nodes[0].endpoint])
    world.run(14 * 60)
    assert hidden.dht.health == open_.dht.health == "good"
    world.run(4 * 60)
    assert (hidden.dht.health, open_.dht.health) == ("firewalled", "good")
    hidden.nat = False
    late = world.add()
    late.dht.add_node(hidden.endpoint, world.now)
    world.poke(late)
    assert world.run(5, lambda: hidden.dht.health == "good")


def test_an_outage_is_noticed_and_its_end_within_half_a_minute() -> None:
    world = world_of(30)
    node = world.nodes[9]
    assert node.dht.health == "good"
    world.loss = 1.0
    assert world.run(1200, lambda: node.dht.health == "broken")
    world.run(60)
    world.loss = 0.0
    assert world.run(30, lambda: node.dht.health == "good"), node.dht.stats()


def test_questions_into_the_void_get_rarer() -> None:
    world = World(2)
    lonely = world.add()
    asked: list[float] = []
    world.on_datagram = lambda *_: asked.append(world.now)
    lonely.dht.add_bootstrap([world.add().endpoint], world.now)
    world.kill(world.nodes[1])
    world.poke(lonely)
    start = world.now
    world.run(3600)
    first, last = [at for at in asked if at - start < 60], [at for at in asked if at - start > 3000]
    assert len(first) >= 9  # soon and often at first: three tries each time
    assert 3 * 8 <= len(last) <= 3 * 11  # then once a minute, for ever
    assert lonely.dht.health == "broken"


@pytest.mark.parametrize("slept_s", [600.0, 3600.0])
def test_a_machine_that_slept_is_back_within_a_minute(slept_s: float) -> None:
    """Time jumps for it: what it kept is judged by its age, and whom it knew is asked anew."""
    world = world_of(30)
    node, seeder = world.nodes[9], world.nodes[3]
    info_hash = random.Random(1).randbytes(20)
    world.finish(seeder, world.start(seeder, GetPeers(info_hash, announce_port=7000)))
    world.suspend(node, slept_s)
    world.run(slept_s)
    assert world.run(60, lambda: node.dht.health == "good" and node.dht.stats().good >= 20)
    done = world.finish(node, world.start(node, FindNode(info_hash)))
    assert len({contact.endpoint for contact in done.closest} & set(world.true_closest(info_hash, node))) >= 7
    world.run(60)  # it has swept its store
    assert (node.dht.stats().peers > 0) <= (slept_s < PEER_LIFE_S)
