"""What a seed gives: little more than one copy in swarms of 30 and of 200, super-seeding (BEP 16) or not."""

from __future__ import annotations

import random

import pytest

from tests.sim.brains import Brain, World
from tests.sim.test_swarm import KB, make
from wire.swarm import thrift

UP_BYTES_S = 40e3


def swarm(
    leechers: int,
    *,
    neighbours: int,
    size: int,
    piece: int = 32 * KB,
    seed_bytes_s: float = UP_BYTES_S,
    others_bytes_s: float = UP_BYTES_S,
    super_seed: bool = False,
) -> Brain:
    """A seed and leechers, each told of a few others, until all are done."""
    info, data = make(size, piece)
    world = World()
    seed = world.brain(info, data, up_bytes_s=seed_bytes_s, super_seed=super_seed)
    others = [world.brain(info, up_bytes_s=others_bytes_s, max_peers=2 * neighbours) for _ in range(leechers)]
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
    seed = swarm(leechers, neighbours=neighbours, size=size, super_seed=True)
    assert 1.0 <= copies(seed) <= 1.1


@pytest.mark.parametrize("times_as_fast", [1, 5, 30])
@pytest.mark.parametrize(("leechers", "neighbours", "size"), [(30, 6, 1024 * KB), (200, 4, 256 * KB)])
def test_a_seed_in_a_crowd_gives_little_more_than_one_copy_however_fast_it_is(
    leechers: int, neighbours: int, size: int, times_as_fast: int
) -> None:
    line = 400e3
    seed = swarm(leechers, neighbours=neighbours, size=size, seed_bytes_s=times_as_fast * line, others_bytes_s=line)
    assert 1.0 <= copies(seed) <= 1.5


@pytest.mark.parametrize(("piece", "others_bytes_s"), [(128 * KB, 10e6), (32 * KB, 300e3)])
def test_a_crowd_that_has_to_wait_is_done_as_soon_as_if_it_had_not(
    piece: int, others_bytes_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarms = []
    for crowd in (thrift.CROWD, 1000):
        monkeypatch.setattr(thrift, "CROWD", crowd)
        seed = swarm(30, neighbours=12, size=2048 * KB, piece=piece, seed_bytes_s=300e3, others_bytes_s=others_bytes_s)
        swarms.append((copies(seed), seed.world.now - 100.0))
    (gave, took), (_, took_plain) = swarms
    assert gave <= 1.5
    assert took <= 1.1 * took_plain


def test_leechers_who_know_nobody_else_are_all_served_by_the_seed() -> None:
    info, data = make(256 * KB, 32 * KB)
    world = World()
    seed = world.brain(info, data, up_bytes_s=1e6)
    others = [world.brain(info, pex=False) for _ in range(12)]
    for other in others:
        other.swarm.found(seed.endpoint, "dht", world.now)
        other.wake()
    took = world.run(lambda: all(other.done for other in others), limit_s=60.0)
    assert all(other.data == data for other in others)
    assert took < 30.0, "they were made to wait for what nobody else could give"


def test_who_gives_nothing_is_done_after_those_who_give() -> None:
    """In six swarms, not in one: who of twenty is done when depends on chance, and one of ten swarms comes out even."""
    info, data = make(4096 * KB, 32 * KB)
    after, medians = 0, []
    for chance in range(1, 7):
        world = World(chance)
        seed = world.brain(info, data, up_bytes_s=200e3)
        givers = [world.brain(info, up_bytes_s=200e3) for _ in range(10)]
        takers = [world.brain(info, up_bytes_s=200e3, upload_slots=0) for _ in range(10)]
        world.introduce(seed, *givers, *takers)
        everybody = givers + takers
        world.run(lambda everybody=everybody: all(other.done for other in everybody))  # type: ignore[misc]
        gave, took = (sorted(other.finished_at - 100.0 for other in others) for others in (givers, takers))  # type: ignore[operator]
        after += sum(done > gave[7] for done in took)
        medians.append((gave[5], took[5]))
    assert after >= 42, "of sixty, seven tenths are done after eight of the ten who gave"
    assert sum(took for _, took in medians) > 1.1 * sum(gave for gave, _ in medians), medians


def test_those_in_a_crowd_who_know_nobody_else_are_fed_all_the_same() -> None:
    info, data = make(512 * KB, 32 * KB)
    world = World()
    seed = world.brain(info, data, up_bytes_s=1e6)
    friends = [world.brain(info, pex=False, up_bytes_s=100e3) for _ in range(10)]
    lone = [world.brain(info, pex=False) for _ in range(4)]
    world.introduce(seed, *friends)
    for other in lone:
        other.swarm.found(seed.endpoint, "dht", world.now)
        other.wake()
    took = world.run(lambda: all(other.done for other in lone))
    assert took < 15.0
    world.run(lambda: all(other.done for other in friends))
