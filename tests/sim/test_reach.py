"""What lookups must reach in large, bad networks: distributions over many searches in grown worlds.

CI runs small ones. DHT_WORLD_NODES and DHT_WORLD_SEARCHES set the sizes of a long run:

    DHT_WORLD_NODES=1000 DHT_WORLD_SEARCHES=500 pytest tests/sim/test_reach.py --timeout 3600
"""

from __future__ import annotations

import os
import random

import pytest

from kademlia_bt.dht.lookups import GetPeers
from tests.sim.world import Churn, Poisoner, Search, SimNode, Sybils, World
from wire.compact import Endpoint, reach

NODES = int(os.environ.get("DHT_WORLD_NODES", "150"))
SEARCHES = int(os.environ.get("DHT_WORLD_SEARCHES", "24"))
_AT_ONCE = 50


def searches(
    world: World, pairs: list[tuple[SimNode, SimNode]], hashes: list[bytes], between_s: float = 0.0
) -> list[Search | None]:
    """Has each seeder announce its hash and each searcher look for it, many at a time.

    None for a search that found others than its seeder, or nobody.
    """
    results: list[Search | None] = []
    for at in range(0, len(pairs), _AT_ONCE):
        group = list(zip(pairs[at : at + _AT_ONCE], hashes[at : at + _AT_ONCE], strict=True))
        announces = [world.start(seeder, GetPeers(key, announce_port=7000)) for (seeder, _), key in group]
        assert world.run(90, lambda begun=announces: all(lookup.done for lookup in begun))
        world.run(between_s)
        began = world.now
        lookups = [world.start(searcher, GetPeers(key)) for (_, searcher), key in group]
        first: dict[int, float] = {}
        while not all(lookup.done for lookup in lookups) and world.now - began < 90:
            world.run(0.05)
            for index, lookup in enumerate(lookups):
                if lookup.found:
                    first.setdefault(index, world.now - began)
        for index, ((seeder, searcher), lookup) in enumerate(zip((pair for pair, _ in group), lookups, strict=True)):
            world.poke(searcher)
            done = searcher.done(lookup)
            assert done is not None
            peers = searcher.peers(lookup)
            good = peers == [Endpoint(seeder.endpoint.host, 7000)]
            results.append(Search(done, peers, first.get(index), world.now - began) if good else None)
    return results


def some_pairs(world: World, rng: random.Random, count: int) -> list[tuple[SimNode, SimNode]]:
    living = world.living
    return [tuple(rng.sample(living, 2)) for _ in range(count)]  # type: ignore[misc]


def told(name: str, results: list[Search | None]) -> float:
    """Prints the distribution (`pytest -s`), and gives back the share that found its peer."""
    good = [result for result in results if result is not None]
    times = sorted(result.first_s or 0.0 for result in good)
    hops = sorted(result.lookup.hops for result in good)
    asked = sorted(result.lookup.asked for result in good)
    share = len(good) / len(results)
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    print(
        f"\n{name}: {len(good)} of {len(results)} ({share:.1%}), {NODES} nodes; first peer p50 {p50:.2f} s, "
        f"p99 {p99:.2f} s; hops p50 {hops[len(hops) // 2]}, max {hops[-1]}; asked p50 {asked[len(asked) // 2]}"
    )
    return share


def test_a_third_of_all_datagrams_lost() -> None:
    world = World(31, loss=0.3, delay_s=(0.05, 0.5))
    world.populate(NODES)
    rng = random.Random(31)
    results = searches(world, some_pairs(world, rng, SEARCHES), [rng.randbytes(20) for _ in range(SEARCHES)])
    assert told("30 % loss", results) >= 0.99
    times = sorted(result.first_s or 0.0 for result in results if result is not None)
    assert times[len(times) // 2] <= 3.0
    assert times[len(times) * 99 // 100] <= 10.0


def test_half_of_every_table_dead_and_a_tenth_replaced_each_minute() -> None:
    world = World(32)
    nodes = world.populate(NODES * 2)
    rng = random.Random(32)
    for node in rng.sample(nodes, NODES):
        world.kill(node)
    world.wake_all()
    shares = [
        sum(not world_alive(world, entry.contact.endpoint) for entry in node.face.table.nodes) / len(node.face.table)
        for node in world.living[:50]
    ]
    assert 0.4 < sum(shares) / len(shares) < 0.6
    askers = rng.sample(world.living, 20)  # who asks stays: else nobody hears the answer
    churn = Churn(world, 0.1, keep=askers)
    results: list[Search | None] = []
    for _ in range(0, SEARCHES, 20):
        rng.shuffle(askers)
        pairs = list(zip(askers, [*askers[1:], askers[0]], strict=True))
        results += searches(world, pairs, [rng.randbytes(20) for _ in pairs], between_s=5.0)
    churn.stop()
    assert churn.replaced > 0
    assert told("half dead, 10 %/min churn", results) >= 0.95


def world_alive(world: World, endpoint: Endpoint) -> bool:
    return endpoint in {at for node in world.living for at in node.endpoints}


@pytest.mark.parametrize(("spread", "wanted"), [(False, 0.99), (True, 0.95)], ids=["one /24", "64 networks"])
def test_sixty_four_sybils_around_each_target(spread: bool, wanted: float) -> None:
    world = World(33)
    world.populate(NODES)
    rng = random.Random(33)
    hashes = [rng.randbytes(20) for _ in range(SEARCHES)]
    gangs = []
    for turn, info_hash in enumerate(hashes):
        nets = f"{66 + turn // 256}.{turn % 256}"
        hosts = [f"{nets}.{index}.1" if spread else f"{nets}.0.{index + 1}" for index in range(64)]
        gangs.append(Sybils(world, info_hash, hosts, rng))
    world.run(3)
    results = searches(world, some_pairs(world, rng, SEARCHES), hashes)
    assert sum(gang.asked > 0 for gang in gangs) > SEARCHES / 3  # they did get in between
    assert told(f"64 sybils, {'64 networks' if spread else 'one /24'}", results) >= wanted
    warned = warnings = 0
    for gang, result in zip(gangs, results, strict=True):
        if result is None:
            continue
        closest = {contact.endpoint for contact in result.done.closest}
        if spread and len(closest & gang.endpoints) >= 4:
            warnings += 1
            warned += result.done.confidence[0].eclipse_likely
        if not spread:
            assert len(closest & gang.endpoints) <= 1  # one address a /24
            assert not result.done.confidence[0].eclipse_likely
    assert warned == warnings


def test_nobody_is_warned_where_nobody_cheats() -> None:
    world = World(34)
    world.populate(NODES)
    rng = random.Random(34)
    results = searches(world, some_pairs(world, rng, SEARCHES), [rng.randbytes(20) for _ in range(SEARCHES)])
    assert told("all well", results) == 1.0
    for result in results:
        assert result is not None
        assert not result.done.confidence[0].eclipse_likely
        assert 0.1 < (result.done.confidence[0].density or 0) < 10


def test_poisoned_answers_get_nothing_into_a_table() -> None:
    world = World(35)
    nodes = world.populate(NODES)
    rng = random.Random(35)
    poisoners = [
        Poisoner(world, Endpoint(f"66.{n}.1.1", 6881), rng.randbytes(20), rng) for n in range(40 + NODES // 20)
    ]
    for poisoner in poisoners:
        poisoner.say_hello(rng.sample(nodes, 20))
    sent: dict[Endpoint, int] = {}
    pinged: set[Endpoint] = set()

    def count(data: bytes, source: Endpoint, to: Endpoint) -> None:
        sent[to] = sent.get(to, 0) + 1
        if b"1:q4:ping" in data:
            pinged.add(to)
        assert to.port
        assert reach(to.host) == "global"

    world.on_datagram = count
    world.run(3)
    results = searches(world, some_pairs(world, rng, SEARCHES), [rng.randbytes(20) for _ in range(SEARCHES)])
    share = told("poisoners", results)
    claimed = set().union(*(poisoner.claimed for poisoner in poisoners))
    assert sum(sum(poisoner.asked.values()) for poisoner in poisoners) > 40
    assert len(claimed) > 200
    real = {poisoner.contact.endpoint for poisoner in poisoners}
    for node in nodes:
        if node.is_awake:
            known = {entry.contact.endpoint: entry.contact.id for entry in node.face.table.nodes}
            assert not claimed & set(known)
            assert node.endpoint not in known  # itself
            for endpoint in real & set(known):  # under the id that they answer with
                assert known[endpoint] in {poisoner.contact.id for poisoner in poisoners}
    assert not claimed & pinged  # a name alone is no reason for a ping
    # One question, asked up to three times, for each lookup that a claim came into the way of.
    lookups = 2 * SEARCHES
    assert max(sent.get(endpoint, 0) for endpoint in claimed) <= 3 * lookups
    assert share >= 0.95
