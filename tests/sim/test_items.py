"""Items, scrapes and samples in networks on virtual time: loss, liars, rivals, and who re-puts (BEP 33, 44, 46, 51)."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.events import Answered, LookupDone
from kademlia_bt.dht.gather import Ready, Signed
from kademlia_bt.dht.lookups import GetItem, GetPeers, PutItem, Scrape
from kademlia_bt.dht.questions import AskSamples
from kademlia_bt.items.signing import KeyPair
from kademlia_bt.items.values import ImmutableItem, MutableItem, torrent_of, torrent_value
from tests.sim.test_world import crowd, true_closest
from tests.sim.world import SimNode, World
from wire.compact import IPV4, IPV6, Endpoint

KEYS = KeyPair(bytes(range(32)))


def put(world: World, node: SimNode, draft: Ready | Signed) -> tuple[PutItem, LookupDone]:
    kind = PutItem(draft)
    return kind, world.finish(node, world.start(node, kind))


def get(world: World, node: SimNode, target: bytes, salt: bytes = b"", seq: int | None = None) -> GetItem:
    kind = GetItem(target, salt, seq)
    world.finish(node, world.start(node, kind))
    return kind


def holders(world: World, target: bytes) -> list[SimNode]:
    return [node for node in world.nodes if node.alive and node.dht.items.get(target, world.now) is not None]


@pytest.fixture(scope="module")
def settled() -> World:
    return crowd(44, 80)


def test_an_item_lies_with_the_eight_closest_and_everybody_finds_it(settled: World) -> None:
    world, rng = settled, random.Random(1)
    for number in range(10):
        putter = rng.choice(world.nodes)
        item = ImmutableItem.of({b"n": number})
        kind, done = put(world, putter, Ready(item))
        assert done.stored == 8
        assert kind.gather.refusals == ()
        at = {node.endpoint for node in holders(world, item.target)}
        assert len(at & set(true_closest(world, item.target, putter))) >= 7
        for getter in rng.sample(world.nodes, 5):
            assert get(world, getter, item.target).gather.best == item
    assert get(world, world.nodes[0], rng.randbytes(20)).gather.best is None


def test_the_newest_signed_item_wins_and_sequence_numbers_follow(settled: World) -> None:
    world, rng = settled, random.Random(2)
    salts = [b"", b"salt"]
    for turn in range(1, 4):
        for salt in salts:
            kind, done = put(world, rng.choice(world.nodes), Signed(KEYS, b"%d" % turn, salt))
            assert isinstance(kind.gather.item, MutableItem)
            assert (kind.gather.item.seq, done.stored) == (turn, 8)
    for salt in salts:
        target = Signed(KEYS, b"", salt).target
        found = get(world, rng.choice(world.nodes), target, salt).gather.best
        assert isinstance(found, MutableItem)
        assert (found.value, found.seq) == (b"3", 3)
        # Who has it already is told so by all, and sent none.
        again = get(world, rng.choice(world.nodes), target, salt, 3).gather
        assert (again.best if again.best is None else again.best.seq) in (None, 3)
        assert again.found >= 8
    # With another salt its signature is another's.
    wrong = get(world, world.nodes[5], Signed(KEYS, b"", b"salt").target, b"wrong").gather
    assert wrong.best is None
    assert wrong.forged >= 8


def test_putting_the_same_again_refreshes_it_and_others_are_refused(settled: World) -> None:
    world = settled
    first, _ = put(world, world.nodes[3], Signed(KEYS, b"same", b"r"))
    again, done = put(world, world.nodes[4], Signed(KEYS, b"same", b"r"))
    assert (first.gather.item, done.stored) == (again.gather.item, 8)
    for draft, code in [
        (Signed(KEYS, b"other", b"r", seq=1), 302),
        (Signed(KEYS, b"other", b"r", cas=7), 301),
        (Ready(MutableItem.sign(KEYS, b"old", 0, b"r")), 302),
    ]:
        kind, done = put(world, world.nodes[6], draft)
        assert done.stored == 0
        assert kind.gather.failure is not None
        assert kind.gather.failure.code == code
    kind, done = put(world, world.nodes[6], Signed(KEYS, b"new", b"r", cas=1))
    assert done.stored == 8
    assert get(world, world.nodes[8], kind.target, b"r").gather.best == kind.gather.item


def test_cas_is_refused_by_the_nodes_too() -> None:
    """A rival puts between our look and our put: the nodes say 301, and nothing of his is lost."""
    world = crowd(45, 20)
    put(world, world.nodes[2], Signed(KEYS, b"one"))
    ours = PutItem(Signed(KEYS, b"ours", seq=9, cas=1))
    lookup = world.start(world.nodes[2], ours)
    rival = MutableItem.sign(KEYS, b"rival", 2)

    def overtake(*_: object) -> None:
        if ours.gather.item is not None and world.on_datagram is not None:  # decided; its puts are on their way
            world.on_datagram = None
            for node in holders(world, rival.target):
                node.dht.items.put(rival, None, world.now)

    world.on_datagram = overtake
    done = world.finish(world.nodes[2], lookup)
    assert done.stored == 0
    assert [code for code, _ in ours.gather.refusals] == [301]
    assert get(world, world.nodes[3], rival.target).gather.best == rival


def test_cas_goes_only_to_those_that_hold_something() -> None:
    gather = PutItem(Signed(KEYS, b"two", seq=2, cas=1)).gather
    holder, other = Endpoint("21.1.1.1", 1), Endpoint("21.1.1.2", 1)
    gather.hold(MutableItem.sign(KEYS, b"one", 1), holder)
    assert gather.stores(object(), [])
    assert gather.store_arguments(holder, b"t")[b"cas"] == 1
    assert b"cas" not in gather.store_arguments(other, b"t")


def test_liars_can_hide_nothing_and_forge_nothing() -> None:
    world = crowd(46, 60)
    kind, _ = put(world, world.nodes[0], Signed(KEYS, b"true", b"s", seq=5))
    item = kind.gather.item
    assert isinstance(item, MutableItem)
    close = holders(world, item.target)
    forged = [
        MutableItem(b"5:false", item.public_key, item.signature, 99, b"s"),
        MutableItem(item.raw_value, item.public_key, item.signature, 99, b"s"),
        MutableItem.sign(KeyPair(bytes(32)), b"false", 99, b"s"),
    ]
    for liar, lie in zip(close, [*forged, *forged], strict=False):  # six of eight
        liar.dht.items._kept[item.target].item = lie
    for node in world.nodes[10:20]:
        found = get(world, node, item.target, b"s").gather
        assert found.best == item or node in close
        assert found.forged >= 5 or node in close
    # A forged immutable value is refused in the same way.
    plain = ImmutableItem.of(b"plain")
    put(world, world.nodes[0], Ready(plain))
    for liar in holders(world, plain.target)[:7]:
        liar.dht.items._kept[plain.target].item = ImmutableItem.of(b"false")
    askers = [node for node in world.nodes if node.dht.items.get(plain.target, world.now) is None]
    assert all(get(world, node, plain.target).gather.best == plain for node in askers[:10])


def test_a_third_of_all_datagrams_lost() -> None:
    found = 0
    for seed in range(2):
        world = crowd(seed, 40, loss=0.3)
        rng = random.Random(seed)
        for number in range(10):
            item = ImmutableItem.of(number)
            put(world, rng.choice(world.nodes), Ready(item))
            found += get(world, rng.choice(world.nodes), item.target).gather.best == item
    assert found >= 19


def test_who_re_puts_spares_the_network_but_keeps_the_item_alive() -> None:
    world = crowd(47, 60)
    keeper = world.nodes[7]
    item = put(world, keeper, Signed(KEYS, b"kept"))[0].gather.item
    assert item is not None
    # Eight copies are not more than eight, so it is put again.
    assert put(world, keeper, Ready(item, spare=True))[1].stored == 8
    for node in world.nodes:  # now everybody has it
        node.dht.items.put(item, None, world.now)
    kind, done = put(world, keeper, Ready(item, spare=True))
    assert (done.stored, kind.gather.failure) == (0, None)
    # One of the closest loses it: all are given it again.
    lost = next(node for node in world.nodes if node.endpoint == true_closest(world, item.target, keeper)[3])
    lost.dht.items._drop(item.target)
    assert put(world, keeper, Ready(item, spare=True))[1].stored == 8
    assert lost in holders(world, item.target)
    item = put(world, keeper, Ready(ImmutableItem.of(b"churn")))[0].gather.item
    assert item is not None
    # Through churn: re-put, it outlives those who held it first.
    for gone in (world.nodes[10:25], world.nodes[25:45]):
        for node in gone:
            world.kill(node)
        world.run(30)
        assert put(world, keeper, Ready(item, spare=True))[1].stored >= 6
    for node in world.nodes[1:7]:
        world.kill(node)
    assert get(world, world.nodes[-1], item.target).gather.best == item


def test_a_re_put_passes_on_what_is_newer_than_its_own() -> None:
    world = crowd(48, 20)
    old = put(world, world.nodes[1], Signed(KEYS, b"old"))[0].gather.item
    new = put(world, world.nodes[2], Signed(KEYS, b"new"))[0].gather.item
    assert old is not None
    kind, done = put(world, world.nodes[1], Ready(old, spare=True))
    assert (kind.gather.item, done.stored) == (new, 8)


def test_a_pointer_to_a_torrent_moves() -> None:
    world = crowd(49, 30)
    hashes = [random.Random(n).randbytes(20) for n in range(3)]
    for info_hash in hashes:
        kind, _ = put(world, world.nodes[4], Signed(KEYS, torrent_value(info_hash), b"feed"))
        found = get(world, world.nodes[20], kind.target, b"feed").gather.best
        assert found is not None
        assert torrent_of(found) == info_hash


def test_both_families_hold_it() -> None:
    world = World(50)
    first = world.add(IPV4, IPV6)
    for n in range(24):
        families = [(IPV4,), (IPV6,), (IPV4, IPV6)][n % 3]
        world.add(*families, bootstrap=[endpoint for endpoint in first.faces if endpoint.family in families])
        world.run(0.05)
    world.run(10)
    item = ImmutableItem.of(b"both")
    _, done = put(world, first, Ready(item))
    assert done.stored == 16
    four = next(node for node in world.nodes[::-1] if next(iter(node.faces)).family is IPV4 and len(node.faces) == 1)
    six = next(node for node in world.nodes[::-1] if next(iter(node.faces)).family is IPV6)
    assert get(world, four, item.target).gather.best == item
    assert get(world, six, item.target).gather.best == item


def test_a_scrape_counts_a_swarm_within_its_error() -> None:
    world = crowd(51, 60)
    info_hash = random.Random(51).randbytes(20)
    for number, node in enumerate(world.nodes[:50]):
        world.finish(node, world.start(node, GetPeers(info_hash, announce_port=7000, seed=number < 20)))
    kind = Scrape(info_hash)
    world.finish(world.nodes[55], world.start(world.nodes[55], kind))
    size = kind.gather.size
    assert size.nodes >= 8
    for estimate, truth in ((size.seeds, 20), (size.downloaders, 30), (size.total, 50)):
        assert abs(estimate.size - truth) <= max(3 * estimate.error, 1.5)
    empty = Scrape(bytes(20))
    world.finish(world.nodes[55], world.start(world.nodes[55], empty))
    assert (empty.gather.size.total, empty.gather.size.nodes) == ((0.0, 0.0), 0)


def test_a_node_shows_a_sample_of_its_store() -> None:
    world = crowd(52, 20)
    rng = random.Random(52)
    hashes = {rng.randbytes(20) for _ in range(60)}
    for info_hash in hashes:
        node = rng.choice(world.nodes)
        world.finish(node, world.start(node, GetPeers(info_hash, announce_port=7000)))
    asker, shown = world.nodes[3], set()
    for other in world.nodes[4:]:
        question = asker.dht.query(other.endpoint, AskSamples(rng.randbytes(20)), world.now)
        world.poke(asker)
        world.run(2)
        answer = next(e for e in asker.events if isinstance(e, Answered) and e.question is question)
        assert answer.samples is not None
        assert len(answer.samples.info_hashes) == min(answer.samples.total, 20)
        assert (answer.samples.interval_s > 0) == (answer.samples.total > 20)
        assert len(answer.nodes) == 8
        shown |= set(answer.samples.info_hashes)
    assert shown == hashes or len(shown) > 50
