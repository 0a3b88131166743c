"""What a seed gives: super-seeding in swarms of 30 and of 200 (BEP 16)."""

from __future__ import annotations

import random

import pytest

from tests.sim.brains import Brain, World
from tests.sim.test_swarm import KB, make

UP_BYTES_S = 40e3


def swarm(leechers: int, *, neighbours: int, size: int) -> Brain:
    """A super seed and leechers on lines of one speed, each told of a few others, until all are done."""
    info, data = make(size, 32 * KB)
    world = World()
    seed = world.brain(info, data, up_bytes_s=UP_BYTES_S, super_seed=True)
    others = [world.brain(info, up_bytes_s=UP_BYTES_S, max_peers=2 * neighbours) for _ in range(leechers)]
    chance = random.Random(4)
    for brain in others:
        for endpoint in [seed.endpoint, *(other.endpoint for other in chance.sample(others, neighbours))]:
            if endpoint != brain.endpoint:
                brain.swarm.found(endpoint, "dht", world.now)
        brain.wake()
    world.run(lambda: all(other.done for other in others), limit_s=2000.0)
    assert all(other.data == data for other in others)
    return seed


def copies(seed: Brain) -> float:
    return seed.swarm.stats().uploaded_bytes / seed.info.size


@pytest.mark.parametrize(("leechers", "neighbours", "size"), [(30, 6, 512 * KB), (200, 4, 128 * KB)])
def test_a_super_seed_gives_little_more_than_one_copy(leechers: int, neighbours: int, size: int) -> None:
    seed = swarm(leechers, neighbours=neighbours, size=size)
    assert 1.0 <= copies(seed) <= 1.1
