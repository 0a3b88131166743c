"""Sources of peers: merged, repeated with growing pauses, and silent for private torrents."""

from __future__ import annotations

import itertools
import random

import pytest
import trio

from magnet.sources import ANNOUNCE_S, DHT, PEER, Found, Sources
from tests.sim.net import Internet
from wire.compact import Endpoint

ONE = b"\x01" * 20
TWO = b"\x02" * 20
GOOD = Endpoint("80.1.2.3", 6881)


class FakeSearch:
    """Answers of the DHT to one search: an address a second."""

    def __init__(self, node: FakeNode, peers: list[Endpoint], announcing: bool, take) -> None:
        self._node, self._peers, self._take = node, list(peers), take
        self.asked, self.answered, self.announced = 8, 5, (node.takes_announces if announcing else 0)
        self.found = len(peers)

    async def __aenter__(self):
        self._node.open += 1
        return self

    async def __aexit__(self, *_):
        self._node.open -= 1

    def close(self):
        self._node.closed += 1

    async def wait_done(self):
        for peer in self._peers:
            await trio.sleep(1)
            self._take([peer])
        await trio.sleep(1)


class FakeNode:
    """A DHT that knows some peers, and notes when it was asked."""

    def __init__(self, *peers: Endpoint, takes_announces: int = 8) -> None:
        self.peers = list(peers)
        self.takes_announces = takes_announces
        self.asked: list[tuple[float, bytes, int | None, bool]] = []
        self.open = self.closed = 0
        self.endpoints = [Endpoint("80.0.0.1", 7000), Endpoint("::", 7000)]
        self.external: Endpoint | None = None

    @property
    def externals(self):
        return [] if self.external is None else [self.external]

    def get_peers(self, info_hash, *, announce_port=None, implied_port=False, seed=False, take, ready):
        self.asked.append((trio.current_time(), info_hash, announce_port, seed))
        return FakeSearch(self, self.peers, announce_port is not None, take)


def sources(node=None, *, given=(), ids=(ONE,), port=None, local=False, network=None) -> Sources:
    return Sources(
        swarm_ids=ids,
        given=given,
        node=node,
        network=network or Internet(random.Random(1)).host("80.0.0.1"),
        rng=random.Random(2),
        announce_port=port,
        local=local,
    )


async def collect(source: Sources, seconds: float) -> list[Found]:
    found: list[Found] = []
    source.attend(found.append)
    with trio.move_on_after(seconds):
        await source.run()
    return found


async def test_the_dht_is_asked_again_with_growing_pauses(autojump_clock):
    node = FakeNode(GOOD)
    source = sources(node)
    start = trio.current_time()
    found = await collect(source, 1000)
    assert set(found) == {Found(GOOD, DHT)}
    times = [at - start for at, *_ in node.asked]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert times[0] == 0
    assert gaps[0] < 5
    assert gaps[-1] > 100
    assert len(gaps) < 15
    assert node.open == 0
    assert source.dht_counts.searches == len(times)
    assert source.dht_counts.asked == 8 * len(times)


async def test_a_search_may_begin_before_anybody_attends(autojump_clock):
    node = FakeNode(GOOD)
    source = sources(node, ids=(ONE, TWO), port=7000)
    source.begin()
    assert [(info_hash, port) for _, info_hash, port, _ in node.asked] == [(ONE, 7000), (TWO, 7000)]
    source._take_from_dht(ONE, [GOOD])  # answers may come at once
    found = await collect(source, 0.1)
    assert found == [Found(GOOD, DHT)]
    assert len(node.asked) == 2  # `run` goes on with them
    source.close()
    assert (node.open, node.closed) == (0, 0)


async def test_who_was_found_is_dialled_before_the_other_sources_begin(autojump_clock):
    begun_first = set()
    for _ in range(30):  # trio takes the tasks of a turn in any order
        node = FakeNode()
        source = sources(node)

        async def dial(node=node):
            await trio.lowlevel.checkpoint()  # the turn in which a source would begin, began they at once
            begun_first.add(bool(node.asked))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.run)
            nursery.start_soon(dial)
            await trio.testing.wait_all_tasks_blocked()
            assert len(node.asked) == 1
            nursery.cancel_scope.cancel()
    assert begun_first == {False}


async def test_what_was_begun_and_not_gone_on_with_is_broken_off():
    node = FakeNode(GOOD)
    source = sources(node, ids=(ONE, TWO))
    source.begin()
    source.close()
    source.close()
    assert node.closed == 2


async def test_nothing_begins_for_a_private_torrent():
    node = FakeNode(GOOD)
    source = sources(node)
    source.forbid_strangers()
    source.begin()
    assert node.asked == []


async def test_every_name_of_a_hybrid_torrent_is_searched(autojump_clock):
    node = FakeNode()
    await collect(sources(node, ids=(ONE, TWO)), 3)
    assert {info_hash for _, info_hash, *_ in node.asked} == {ONE, TWO}


async def test_it_announces_with_the_first_search_and_before_the_nodes_forget(autojump_clock):
    node = FakeNode()
    await collect(sources(node, port=7000), 3600)
    announces = [at for at, _, port, _ in node.asked if port == 7000]
    assert len(announces) >= 3
    assert announces[0] == node.asked[0][0]
    assert all(b - a < ANNOUNCE_S + 400 for a, b in itertools.pairwise(announces))
    assert all(b - a >= ANNOUNCE_S for a, b in itertools.pairwise(announces))


async def test_an_announce_that_nobody_took_is_repeated_soon(autojump_clock):
    node = FakeNode(takes_announces=0)
    await collect(sources(node, port=7000), 20)
    assert len([1 for *_, port, _ in node.asked if port == 7000]) >= 4


async def test_who_has_everything_announces_but_does_not_search(autojump_clock):
    node = FakeNode()
    source = sources(node, port=7000)
    source.satisfy()
    await collect(source, 2 * ANNOUNCE_S + 700)
    assert len(node.asked) == 3
    assert all(seed for *_, seed in node.asked)


async def test_strangers_are_left_alone_once_the_torrent_is_known_to_be_private(autojump_clock):
    node = FakeNode(GOOD)
    source = sources(node, given=[("80.5.5.5", 1)])
    assert source.asks_dht

    async def learn() -> None:
        await trio.sleep(0.5)
        source.forbid_strangers()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(learn)
        found = await collect(source, 600)
    assert len(node.asked) == 1
    assert node.open == 0
    assert {item.via for item in found} == {PEER}
    assert not source.asks_dht


async def test_given_addresses_are_named_again_and_names_resolved_late(autojump_clock):
    internet = Internet(random.Random(1))
    host = internet.host("80.0.0.1")
    source = sources(given=[("80.5.5.5", 1), ("peer.example", 2), ("80.5.5.5", 1)], network=host)

    async def publish() -> None:
        await trio.sleep(3)
        internet.names["peer.example"] = ["80.6.6.6", "2a01::6"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        found = await collect(source, 12)
    assert found.count(Found(Endpoint("80.5.5.5", 1), PEER)) == 2
    assert Found(Endpoint("80.6.6.6", 2), PEER) in found
    assert Found(Endpoint("2a01::6", 2), PEER) in found


@pytest.mark.parametrize(
    ("address", "local", "believed"),
    [
        ("127.0.0.1:80", False, False),
        ("10.0.0.1:80", False, False),
        ("10.0.0.1:80", True, True),
        ("127.0.0.1:80", True, True),
        ("224.0.0.1:80", True, False),
        ("0.0.0.0:80", True, False),
        ("80.1.1.1:0", False, False),
        ("80.1.1.1:1", False, True),
    ],
)
async def test_the_dht_cannot_have_us_dial_anywhere(autojump_clock, address, local, believed):
    host, port = address.split(":")
    found = await collect(sources(FakeNode(Endpoint(host, int(port))), local=local), 3)
    assert bool(found) is believed


@pytest.mark.parametrize("host", ["80.0.0.1", "2a01::7"])
async def test_we_are_not_a_peer_of_ourselves(autojump_clock, host):
    node = FakeNode(Endpoint(host, 7000), Endpoint(host, 7001), GOOD)
    node.external = Endpoint("2a01::7", 55555)
    found = await collect(sources(node, port=7000), 5)
    assert set(found) == {Found(Endpoint(host, 7001), DHT), Found(GOOD, DHT)}
