"""Upkeep of a table: when it joins, pings and refreshes; and the law of addresses."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from kademlia_bt.dht.border import Border
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.keeper import Keeper
from kademlia_bt.dht.node_id import random_id
from kademlia_bt.dht.table import GOOD_S, Table
from wire.compact import IPV4, IPV6, Endpoint

RNG = random.Random(5)


def endpoint(index: int) -> Endpoint:
    return Endpoint(f"127.0.{index // 250}.{index % 250 + 1}", 6881)


def made(nodes: int = 0) -> tuple[Keeper, Table]:
    table = Table(IPV4, random_id(RNG))
    for index in range(nodes):
        table.answered(Contact(random_id(RNG), endpoint(index)), 0.1, 0.0)
    return Keeper(table, RNG, 0.0), table


def test_joins_at_once_then_backs_off() -> None:
    keeper, _ = made()
    times = []
    now = 0.0
    while now < 400:
        if keeper.should_join(now):
            times.append(now)
            assert not keeper.should_join(now)
            assert keeper.join_ended(now) is False
            assert keeper.is_cut_off
        now += 1.0
    assert times[:5] == [0, 2, 6, 14, 30]
    assert [b - a for a, b in pairwise(times[6:])] == [60.0] * (len(times) - 7)


def test_news_of_a_place_to_start_from_ends_the_wait() -> None:
    keeper, _ = made()
    for now in (0.0, 2.0, 6.0):
        assert keeper.should_join(now)
        keeper.join_ended(now)
    assert not keeper.should_join(7.0)
    keeper.join_soon(7.0)
    assert keeper.should_join(7.0)


def test_once_joined_our_neighbourhood_is_refreshed_every_quarter_of_an_hour() -> None:
    keeper, table = made(20)
    assert keeper.should_join(0.0)
    assert keeper.join_ended(1.0)
    keeper.join_soon(2.0)
    assert not keeper.should_join(GOOD_S)
    for index in range(20):
        table.answered(Contact(table.nodes[index].contact.id, endpoint(index)), 0.1, GOOD_S)
    assert keeper.should_join(1.0 + GOOD_S)
    assert not keeper.join_ended(1.0 + GOOD_S)  # no news


def test_losing_everybody_starts_over() -> None:
    keeper, table = made(10)
    assert keeper.should_join(0.0)
    assert keeper.join_ended(0.0)
    for node in table.nodes:
        table.failed(node.contact.endpoint)
    keeper.watch(5.0)
    assert not keeper.joined
    assert keeper.should_join(5.0)


def test_while_cut_off_a_few_old_nodes_are_pinged_and_an_answer_joins_at_once() -> None:
    keeper, _ = made()
    contacts = [Contact(random_id(RNG), endpoint(index)) for index in range(20)]
    keeper.remember(contacts)
    keeper.revive(0.0)
    assert keeper.probes(0.0) == []  # nothing is known yet of being cut off
    for now in (0.0, 2.0, 6.0, 14.0):
        assert keeper.should_join(now)
        keeper.join_ended(now)
    asked = []
    for second in range(14, 54):
        keeper.revive(float(second))
        asked += keeper.probes(float(second))
    assert len(asked) == 16
    assert set(asked) <= {contact.endpoint for contact in contacts}
    assert not keeper.should_join(29.0)
    keeper.join_soon(29.0)
    assert keeper.should_join(29.0)


def test_a_new_id_joins_again_even_while_joining() -> None:
    keeper, _ = made(20)
    assert keeper.should_join(0.0)
    keeper.moved(0.5)
    keeper.join_ended(1.0)
    assert keeper.should_join(1.0)
    keeper.join_ended(1.5)
    assert not keeper.should_join(2.0)
    keeper.moved(3.0)
    assert keeper.should_join(3.0)


def test_suggestions_are_pinged_once_a_minute_and_few_at_a_time() -> None:
    keeper, _ = made()
    for index in range(1_000):
        keeper.suggest(endpoint(index), 0.0)
    first = keeper.probes(0.0)
    assert len(first) == 16
    assert keeper.probes(0.0) == []
    keeper.probed()
    assert len(keeper.probes(0.0)) == 1
    total = 17
    for _ in range(500):
        keeper.probed()
        total += len(keeper.probes(0.0))
    assert total == 128
    keeper.suggest(first[0], 59.0)
    assert keeper.probes(59.0) == []
    keeper.suggest(first[0], 61.0)
    assert keeper.probes(61.0) == [first[0]]


def test_keepalives_go_faster_where_nodes_die() -> None:
    keeper, table = made(100)
    assert keeper.keepalives(10.0) == []
    sent = 0
    for second in range(60, 120):
        for at in keeper.keepalives(float(second)):
            sent += 1
            table.answered(next(n.contact for n in table.nodes if n.contact.endpoint == at), 0.1, float(second))
            keeper.kept_alive(answered=True)
    assert 9 <= sent <= 12
    for _ in range(10):
        keeper.kept_alive(answered=False)
    sent = sum(len(keeper.keepalives(float(second))) for second in range(120, 150))
    assert 40 <= sent <= 62


def test_refreshes_one_bucket_at_a_time_once_joined() -> None:
    keeper, table = made(40)
    assert keeper.refresh_target(0.0) is None
    keeper.should_join(0.0)
    keeper.join_ended(0.0)
    target = keeper.refresh_target(0.0)
    assert target is not None
    assert keeper.refresh_target(0.0) is None
    table.looked_up(target, 0.0)
    keeper.refreshed()
    assert keeper.refresh_target(0.0) not in (None, target)


def test_remembers_the_latest() -> None:
    keeper, _ = made()
    contacts = [Contact(random_id(RNG), endpoint(index)) for index in range(600)]
    keeper.remember(contacts)
    keeper.remember(contacts[200:201])
    assert keeper.remembered[-1] == contacts[200]
    assert len(keeper.remembered) == 500
    assert contacts[50] not in keeper.remembered


@pytest.mark.parametrize(
    ("host", "port", "public", "local"),
    [
        ("8.8.4.4", 53, True, True),
        ("8.8.4.4", 0, False, False),
        ("127.0.0.1", 5, False, True),
        ("10.0.0.1", 5, False, True),
        ("0.0.0.0", 5, False, False),
        ("255.255.255.255", 5, False, False),
        ("224.0.0.1", 5, False, False),
        ("2a02::1", 5, False, False),
    ],
)
def test_who_is_talked_to(host: str, port: int, public: bool, local: bool) -> None:
    assert Border(IPV4, False).talks_to(Endpoint(host, port)) is public
    assert Border(IPV4, True).talks_to(Endpoint(host, port)) is local


def test_the_other_family_is_talked_to_by_its_own_face() -> None:
    assert Border(IPV6, False).talks_to(Endpoint("2a02::1", 5))
    assert not Border(IPV6, False).talks_to(Endpoint("8.8.4.4", 5))
    assert not Border(IPV6, False).talks_to(Endpoint("::1", 5))


def test_a_local_address_is_believed_only_from_a_local_sender() -> None:
    inside, outside = Endpoint("127.0.0.1", 5), Endpoint("8.8.4.4", 5)
    border = Border(IPV4, True)
    assert border.believes(inside, inside)
    assert not border.believes(inside, outside)
    assert border.believes(outside, outside)
    assert border.believes(Endpoint("2a02::1", 5), outside)  # a peer of the other family
    assert not border.believes(Endpoint("8.8.4.4", 0), outside)
    assert not Border(IPV4, False).believes(inside, inside)
    assert border.believed([Contact(bytes(20), inside), Contact(bytes(20), outside)], outside) == [
        Contact(bytes(20), outside)
    ]
