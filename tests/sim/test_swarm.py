"""Whole swarms of brains, without trio: everybody finishes, nobody is believed, the same seed gives the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.brains import Brain, World
from wire.bencode import encode
from wire.metainfo import Info

KB = 1024


def make(size: int, piece: int, seed: int = 5) -> tuple[Info, bytes]:
    data = random.Random(seed).randbytes(size)
    hashes = b"".join(hashlib.sha1(data[at : at + piece]).digest() for at in range(0, size, piece))
    raw = encode({b"length": size, b"name": b"f", b"piece length": piece, b"pieces": hashes})
    return Info.from_bytes(raw), data


def all_done(*brains: Brain) -> bool:
    return all(brain.done for brain in brains)


def banned_by(brain: Brain) -> set[str]:
    return {drop.endpoint.host for drop in brain.drops if drop.banned}


def test_one_leecher_gets_every_byte_from_one_seed() -> None:
    info, data = make(1000 * KB + 77, 64 * KB)
    world = World()
    seed, leecher = world.brain(info, data), world.brain(info)
    world.introduce(seed, leecher)
    took = world.run(lambda: leecher.done)
    assert leecher.data == data
    stats = leecher.swarm.stats()
    assert (stats.downloaded_bytes, stats.wasted_bytes, stats.wanted_left_bytes) == (len(data), 0, 0)
    assert stats.pieces_done == stats.pieces_total == info.piece_count
    assert took < len(data) / world.rate_bytes_s + 1.0


def test_a_link_becomes_metadata_and_pieces_over_the_same_connection() -> None:
    info, data = make(600 * KB, 32 * KB)
    world = World()
    seed, magnet = world.brain(info, data), world.magnet(info)
    magnet.swarm.found(seed.endpoint, "dht", world.now)
    magnet.wake()
    took = world.run(lambda: magnet.done)
    assert magnet.data == data
    assert magnet.swarm.stats().connected == 1
    assert took < 2.0


def test_twelve_leechers_help_each_other() -> None:
    info, data = make(1500 * KB, 32 * KB)
    world = World()
    seed = world.brain(info, data)
    leechers = [world.brain(info) for _ in range(12)]
    world.introduce(seed, *leechers)
    world.run(lambda: all_done(*leechers))
    assert all(leecher.data == data for leecher in leechers)
    # Each piece from the seed to each would be twelve copies; rarest first makes the leechers sources early.
    assert seed.swarm.stats().uploaded_bytes < 7 * len(data)
    assert not any(b.swarm.stats().banned for b in world.brains.values())


def test_leechers_wait_for_the_seed_and_all_are_served_in_turn() -> None:
    info, data = make(512 * KB, 32 * KB)
    world = World(rate_bytes_s=4e5)
    seed = world.brain(info, data, upload_slots=2)
    leechers = [world.brain(info) for _ in range(6)]
    for leecher in leechers:  # nobody knows another leecher
        leecher.swarm.found(seed.endpoint, "dht", world.now)
        leecher.wake()
    world.run(lambda: all_done(*leechers))
    assert all(leecher.data == data for leecher in leechers)


@pytest.mark.parametrize("when", ["every block", "one in a hundred", "the last block"])
def test_a_corrupt_seed_is_banned_and_honest_ones_are_not(when: str) -> None:
    info, data = make(8 << 20, 64 * KB)
    world = World(rate_bytes_s=1e6)
    seeds = [world.brain(info, data) for _ in range(5)]
    leecher = world.brain(info)
    liar = seeds[2]
    dice = random.Random(3)

    def corrupt(index: int, begin: int, block: bytes) -> bytes:
        lies = {
            "every block": True,
            "one in a hundred": dice.random() < 0.01,
            "the last block": begin + len(block) == info.piece_size(index),
        }[when]
        return bytes(len(block)) if lies else block

    liar.corrupt = corrupt
    world.introduce(leecher, *seeds)
    world.run(lambda: leecher.done)
    assert leecher.data == data
    # "One in a hundred" may spare this leecher; whoever was lied to names the right one.
    assert banned_by(leecher) == ({liar.endpoint.host} if leecher.wrong else set())
    assert leecher.wrong or when == "one in a hundred"
    assert sum(leecher.wrong.values()) <= 3
    assert leecher.swarm.stats().wasted_bytes <= 0.05 * len(data)


def test_blocks_of_one_piece_from_several_still_name_the_liar() -> None:
    # One huge piece at a time: everybody has to share it, so the wrong piece has many givers.
    info, data = make(4 << 20, 2 << 20)
    world = World(rate_bytes_s=5e5)
    seeds = [world.brain(info, data) for _ in range(4)]
    leecher = world.brain(info)
    seeds[1].corrupt = lambda index, begin, block: bytes(len(block))
    world.introduce(leecher, *seeds)
    world.run(lambda: leecher.done)
    assert leecher.data == data
    assert banned_by(leecher) == {seeds[1].endpoint.host}


def timed(silent: bool) -> float:
    info, data = make(4 << 20, 64 * KB)
    world = World(rate_bytes_s=1e6)
    seeds = [world.brain(info, data) for _ in range(4)]
    seeds[3].silent = silent
    leecher = world.brain(info)
    world.introduce(leecher, *seeds)
    took = world.run(lambda: leecher.done)
    assert leecher.data == data
    return took


def test_a_seed_that_stalls_costs_little_time() -> None:
    assert timed(silent=True) <= 1.5 * timed(silent=False) + 0.5


def test_a_seed_that_stalls_alone_is_replaced_when_another_comes() -> None:
    info, data = make(1 << 20, 64 * KB)
    world = World()
    stalls, seed, leecher = world.brain(info, data), world.brain(info, data), world.brain(info)
    stalls.silent = True
    leecher.swarm.found(stalls.endpoint, "dht", world.now)
    leecher.wake()
    world.pass_time(30.0)
    assert not leecher.pieces
    leecher.swarm.found(seed.endpoint, "dht", world.now)
    leecher.wake()
    assert world.run(lambda: leecher.done) < 5.0
    assert leecher.data == data


def test_seeds_that_come_and_go_are_enough() -> None:
    info, data = make(6 << 20, 64 * KB)
    world = World(rate_bytes_s=4e5)
    seeds = [world.brain(info, data) for _ in range(3)]
    leecher = world.brain(info)
    world.introduce(leecher, *seeds)
    dice = random.Random(8)

    def leave(seed: Brain) -> None:
        seed.hang_up()
        world.at(world.now + dice.expovariate(0.5), lambda: leave(seed))

    for seed in seeds:
        world.at(world.now + dice.expovariate(0.5), lambda seed=seed: leave(seed))
    world.run(lambda: leecher.done)
    assert leecher.data == data
    assert set(leecher.taken.values()) == {1}, "a verified piece was fetched again"


def test_two_that_dial_each_other_keep_one_connection() -> None:
    info, _ = make(256 * KB, 32 * KB)
    for seed in range(4):
        world = World(seed)
        one, other = world.brain(info), world.brain(info)
        world.introduce(one, other)
        world.pass_time(5.0)
        assert [one.swarm.stats().peers, other.swarm.stats().peers] == [1, 1]


def test_two_seeds_have_nothing_to_say_to_each_other() -> None:
    info, data = make(256 * KB, 32 * KB)
    world = World()
    one, other = world.brain(info, data), world.brain(info, data)
    world.introduce(one, other)
    world.pass_time(200.0)
    assert one.swarm.stats().peers == other.swarm.stats().peers == 0
    assert one.swarm.stats().dialled + other.swarm.stats().dialled <= 4


def test_addresses_spread_from_peer_to_peer() -> None:
    info, _ = make(256 * KB, 32 * KB)
    world = World(rate_bytes_s=2e3)
    hub, *others = (world.brain(info) for _ in range(5))
    for other in others:
        other.swarm.found(hub.endpoint, "dht", world.now)
        other.wake()
    world.pass_time(150.0)
    assert all(other.swarm.stats().peers == 4 for other in others)
    assert all(other.swarm.stats().found.get("pex") for other in others)


def digest(seed: int) -> str:
    info, data = make(700 * KB, 32 * KB)
    world = World(seed)
    brains = [world.brain(info, data), *(world.brain(info) for _ in range(5)), world.magnet(info)]
    world.introduce(*brains)
    world.run(lambda: all_done(*brains[1:]))
    return f"{world.sent.hexdigest()} {world.sent_bytes} {world.now}"


def test_the_same_seed_sends_the_same_bytes_whatever_the_hash_seed() -> None:
    here = digest(7)
    assert here == digest(7)
    assert here != digest(8)
    root = Path(__file__).parents[2]
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", "from tests.sim.test_swarm import digest; print(digest(7))"],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
            timeout=200,
        )
        assert there.stdout.strip() == here
