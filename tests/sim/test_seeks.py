"""Seeks in a film that a whole swarm of brains is sending: how long until the piece at the new place is there.

Half a second is what seeders like libtorrent's take between two handfuls of what their limit allows, and they have read
as much ahead of it: that comes before anything asked for later.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

import pytest

from tests.sim.brains import Brain, World
from tests.sim.test_swarm import KB, make
from wire.metainfo import Info

MB = 1000 * 1000
AHEAD_BYTES = 8 * MB
PACE_S = 0.25


class Reader:
    """Reads a file from some place on as fast as it comes, as `magnet.streaming` does."""

    def __init__(self, brain: Brain, info: Info) -> None:
        self.brain, self.info = brain, info
        self.needed: dict[int, float | None] = {0: brain.world.now + 30.0}
        brain.swarm.set_deadlines(self.needed, brain.world.now)

    def seek(self, piece: int) -> float:
        """Returns the seconds until the piece is there."""
        world, length = self.brain.world, self.info.piece_length
        ahead = range(piece, min(piece + max(3, AHEAD_BYTES // length), self.info.piece_count))
        at: dict[int, float | None] = dict.fromkeys(self.needed)
        at |= {index: world.now + PACE_S * place for place, index in enumerate(ahead)}
        self.needed = {index: when for index, when in at.items() if index not in self.brain.pieces}
        self.brain.swarm.set_deadlines(self.needed, world.now)
        self.brain.wake()
        return world.run(lambda: piece in self.brain.pieces)

    def play(self, piece: int, seconds: float) -> None:
        world = self.brain.world
        end = world.now + seconds
        world.at(end, lambda: None)
        while world.now < end and piece < self.info.piece_count:
            self.seek(piece)
            piece += 1


def seeks(
    rates: Sequence[float], *, piece: int, burst_s: float = 0.0, delay_s: float = 0.002, count: int = 10
) -> tuple[list[float], float]:
    """The seconds of each seek, and how much of all that could be sent was of use."""
    info, data = make(96 * MB, piece)
    world = World(7, delay_s=delay_s, rate_bytes_s=100 * MB)
    rng = random.Random(7)
    seeds = [world.brain(info, data, up_bytes_s=rate) for rate in rates]
    for seed in seeds:
        if burst_s:
            seed.give_in_bursts(burst_s, world.now + rng.random() * burst_s)
    viewer = world.brain(info)
    world.introduce(viewer, *seeds)
    world.pass_time(0.1)
    reader = Reader(viewer, info)
    world.pass_time(4.0)
    began, before = world.now, len(viewer.pieces)
    took = []
    for _ in range(count):
        place = rng.choice([index for index in range(info.piece_count - 8) if index not in viewer.pieces])
        took.append(reader.seek(place))
        reader.play(place + 1, rng.uniform(0.3, 1.0))
    used = (len(viewer.pieces) - before) * piece / (world.now - began) / sum(rates)
    return took, used


@pytest.mark.parametrize("piece", [256 * KB, 1024 * KB])
def test_a_seek_waits_for_one_handful_of_seeders_that_give_in_handfuls(piece: int) -> None:
    took, used = seeks([MB] * 4, piece=piece, burst_s=0.5)
    assert max(took) < 0.5 + piece / (4 * MB)
    assert median(took) < 0.55
    assert used > 0.8


def test_a_seek_takes_little_more_than_its_piece_from_seeders_that_give_evenly() -> None:
    took, used = seeks([MB] * 4, piece=1024 * KB)
    assert max(took) < 1024 * KB / (4 * MB) + 0.15
    assert used > 0.85


def test_a_slow_seeder_is_not_waited_for() -> None:
    took, used = seeks([3 * MB, MB, MB / 20, MB / 20], piece=1024 * KB)
    assert max(took) < 0.5
    assert used > 0.85


def test_far_seeders_are_asked_for_enough_to_be_busy() -> None:
    """Half a second there and back: more than is ever asked for of who is near."""
    _, used = seeks([MB] * 4, piece=256 * KB, delay_s=0.25, count=6)
    assert used > 0.8
