"""What a brain weighs: a torrent of 100,000 pieces, and 500 connections to one."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from tests.sim.brains import World
from wire.bencode import encode
from wire.metainfo import Info

MB = 1 << 20


def torrent(pieces: int) -> Info:
    """Of random-looking hashes: nobody ever has a byte of it."""
    hashes = bytes(range(250)) * (pieces * 20 // 250 + 1)
    return Info.from_bytes(
        encode({b"length": pieces << 14, b"name": b"f", b"piece length": 1 << 14, b"pieces": hashes[: pieces * 20]})
    )


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def weight() -> float:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / MB


@pytest.mark.usefixtures("traced")
def test_a_hundred_thousand_pieces_cost_little_more_than_ten() -> None:
    def cost(pieces: int) -> float:
        info = torrent(pieces)
        world = World()
        seeds = [world.brain(info, b"") for _ in range(4)]
        for seed in seeds:
            seed.silent = True  # they have no byte, and say that they have all
        before = weight()
        leecher = world.brain(torrent(pieces))  # with its own copy of all the hashes
        world.introduce(leecher, *seeds)
        world.pass_time(5.0)
        stats = leecher.swarm.stats()
        assert (stats.seeds, stats.pieces_total) == (4, pieces)
        return weight() - before

    more = cost(100_000) - cost(10)
    assert more <= 30, f"{more:.1f} MB"


@pytest.mark.usefixtures("traced")
def test_five_hundred_connections_cost_little() -> None:
    info = torrent(2000)
    world = World()
    magnet = world.brain(info, max_peers=500)
    before = weight()
    others = [world.brain(info, pex=False, max_peers=1) for _ in range(500)]
    alone = weight() - before
    for other in others:
        other.swarm.found(magnet.endpoint, "dht", world.now)
        other.wake()
    world.pass_time(10.0)
    assert magnet.swarm.stats().peers == 500
    both_ends = weight() - before - alone
    assert both_ends <= 40, f"{both_ends:.1f} MB, with the other ends, which are in this process too"
