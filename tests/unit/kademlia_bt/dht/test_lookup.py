"""One walk of a lookup, step by step, without any network."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.candidate import Candidate, State
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.lookup import Lookup, Walk
from kademlia_bt.dht.lookups import FindNode, GetPeers
from kademlia_bt.dht.node_id import make_node_id, number, random_id
from kademlia_bt.dht.table import K
from wire.compact import Endpoint
from wire.errors import MisuseError

RNG = random.Random(3)
OWN = random_id(RNG)
TARGET = bytes(20)


def contact(distance: int, host: str = "") -> Contact:
    """A local node at that distance from the target."""
    return Contact(
        distance.to_bytes(20, "big"), Endpoint(host or f"127.1.{distance // 250}.{distance % 250 + 1}", 6881)
    )


def walk_of(*contacts: Contact, kind: FindNode | GetPeers | None = None) -> Walk:
    walk = Walk(Lookup(kind or FindNode(TARGET), 0.0), OWN)
    walk.add(contacts)
    return walk


def answer(walk: Walk, candidate: Candidate, token: bytes | None = b"t") -> None:
    assert candidate.id is not None
    walk.answered(candidate, candidate.id, token, counts=True)


def test_closest_first_a_few_at_a_time() -> None:
    walk = walk_of(*(contact(distance) for distance in (9, 3, 7, 1, 5, 11, 13, 2, 4, 6)))
    asked = walk.to_ask()
    assert [candidate.distance for candidate in asked] == [1, 2, 3, 4]
    assert walk.to_ask() == []
    answer(walk, asked[2])
    assert [candidate.distance for candidate in walk.to_ask()] == [5]


def test_ends_when_the_closest_eight_have_answered() -> None:
    walk = walk_of(*(contact(distance) for distance in range(1, 20)))
    asked = 0
    while todo := walk.to_ask():
        assert not walk.settled
        for candidate in todo:
            asked += 1
            answer(walk, candidate)
    assert asked == K
    assert walk.settled
    assert [number(node.id) for node in walk.closest] == list(range(1, 9))


def test_closer_nodes_named_on_the_way_are_asked() -> None:
    walk = walk_of(*(contact(distance) for distance in range(100, 110)))
    first = walk.to_ask()
    walk.add([contact(1), contact(2), contact(1)])
    answer(walk, first[0])
    assert [candidate.distance for candidate in walk.to_ask()] == [1]


def test_a_slow_node_gives_its_slot_away_is_asked_again_and_given_up() -> None:
    walk = walk_of(*(contact(distance) for distance in range(1, 7)))
    asked = walk.to_ask()
    slow = asked[0]
    assert walk.slow(slow) is False
    again = walk.to_ask()
    assert again[0] is slow  # it is the closest, and silence makes room for more at a time
    assert len(again) == 2
    assert walk.slow(slow) is False
    walk.to_ask()
    assert walk.slow(slow) is True
    assert slow.state is State.FAILED
    assert slow not in walk.to_ask()
    answer(walk, slow)  # late, but welcome
    assert walk.closest[0].id == slow.id


def test_a_walk_among_the_dead_asks_more_at_once() -> None:
    walk = walk_of(*(contact(distance) for distance in range(1, 60)))
    for candidate in walk.to_ask():
        walk.slow(candidate)
    assert len(walk.to_ask()) == 8


def test_dead_nodes_do_not_hold_a_walk_for_ever() -> None:
    walk = walk_of(*(contact(distance) for distance in range(1, 13)))
    for _ in range(100):
        todo = walk.to_ask()
        if not todo:
            break
        for candidate in todo:
            if candidate.distance % 2:
                walk.slow(candidate)
            else:
                answer(walk, candidate)
    assert walk.settled
    assert [number(node.id) for node in walk.closest] == [2, 4, 6, 8, 10, 12]


def test_our_own_id_is_never_asked() -> None:
    walk = walk_of(Contact(OWN, Endpoint("127.0.0.1", 1)))
    assert walk.is_idle
    assert walk.to_ask() == []


def test_one_candidate_a_network() -> None:
    walk = walk_of(contact(1, "8.8.4.4"), contact(2, "8.8.4.5"), contact(3, "8.8.5.5"))
    assert [candidate.distance for candidate in walk.to_ask()] == [1, 3]


def test_a_silent_node_of_a_network_gives_its_turn_to_the_next_but_not_for_ever() -> None:
    walk = walk_of(*(contact(distance, f"8.8.4.{distance}") for distance in range(1, 10)), contact(20, "8.9.4.4"))
    asked = []
    while todo := walk.to_ask():
        for candidate in todo:
            if candidate.distance == 20:
                answer(walk, candidate)
            else:
                asked.append(candidate.distance)
                walk.slow(candidate)
    assert asked == [1] * 3 + [2] * 3 + [3] * 3
    assert walk.settled
    assert [number(node.id) for node in walk.closest] == [20]


def test_one_of_a_network_in_the_closest_set_and_local_ones_are_exempt() -> None:
    walk = walk_of(contact(3, "8.8.4.3"), contact(4, "127.0.0.4"), contact(5, "127.0.0.5"))
    for candidate in walk.to_ask():
        answer(walk, candidate)
    walk.add([contact(1, "8.8.4.1"), contact(2, "2a00:1:2:3::1"), contact(6, "2a00:1:2:3::2")])
    for candidate in walk.to_ask():
        answer(walk, candidate)
    assert [number(node.id) for node in walk.closest] == [2, 3, 4, 5]


def test_a_false_id_for_an_address_hides_nobody() -> None:
    far, near = contact(500, "8.8.4.4"), contact(1, "8.8.4.4")
    assert walk_of(far, near).to_ask()[0].distance == 1
    walk = walk_of(near)
    (asked,) = walk.to_ask()
    walk.answered(asked, far.id, b"t", counts=True)
    assert walk.closest == [far]


def test_a_full_list_still_takes_closer_nodes() -> None:
    walk = walk_of(*(contact(distance) for distance in range(1000, 1100)))
    answered = []
    for distance in range(900, 700, -1):
        for candidate in walk.to_ask()[:1]:
            answered.append(candidate.distance)
            answer(walk, candidate)
        walk.add([contact(distance)])
    while todo := walk.to_ask():
        for candidate in todo:
            answer(walk, candidate)
    assert [number(node.id) for node in walk.closest] == list(range(701, 709))


def test_starters_are_asked_while_little_is_known() -> None:
    walk = walk_of()
    walk.add_starter(Endpoint("127.0.0.1", 1))
    walk.add_starter(Endpoint("127.0.0.2", 1))
    assert not walk.is_idle
    asked = walk.to_ask()
    assert len(asked) == 2
    assert not walk.settled
    # An ordinary bootstrap node takes part under the id that it gives; a router does not.
    walk.answered(asked[0], contact(5).id, b"t", counts=True)
    walk.answered(asked[1], contact(6).id, b"t", counts=False)
    assert [node.endpoint for node in walk.closest] == [Endpoint("127.0.0.1", 1)]
    assert walk.settled


def test_a_starter_that_is_known_as_a_node_is_asked_once() -> None:
    known = contact(5)
    walk = walk_of(known)
    walk.add_starter(known.endpoint)  # as with one bootstrap node that is in the table by now
    assert [(node.id, node.endpoint) for node in walk.to_ask()] == [known]
    # Named by somebody while it waits for its turn as a starter: as a near node, as a far one.
    for others in (3, 6, 30):
        walk = walk_of(*(contact(distance) for distance in range(100, 100 + others)))
        walk.add_starter(known.endpoint)
        walk.add([known] if others > 8 else [contact(200, known.endpoint.host)])
        asked: list[Endpoint] = []
        while todo := walk.to_ask():
            for node in todo:
                asked.append(node.endpoint)
                walk.answered(node, node.id or known.id, b"t", counts=True)
        assert asked.count(known.endpoint) == 1
        assert known.endpoint in [node.endpoint for node in walk.closest]
        assert walk.settled


def test_a_router_that_somebody_names_is_no_result() -> None:
    walk = walk_of(contact(5), contact(6))
    router, node = walk.to_ask()
    walk.answered(router, contact(5).id, b"t", counts=False)
    answer(walk, node)
    assert walk.closest == [contact(6)]
    assert walk.settled


def test_starters_are_left_alone_where_enough_is_known() -> None:
    walk = walk_of(*(contact(distance) for distance in range(1, 20)))
    walk.add_starter(Endpoint("127.0.0.1", 1))
    asked = walk.to_ask()
    assert all(candidate.id is not None for candidate in asked)
    walk.slow(asked[0])
    assert any(candidate.id is None for candidate in walk.to_ask())  # unless nobody answers


def test_silent_starters_are_given_up() -> None:
    walk = walk_of()
    walk.add_starter(Endpoint("127.0.0.1", 1))
    for tries in (1, 2, 3):
        (starter,) = walk.to_ask()
        assert starter.tries == tries
        assert not walk.settled
        walk.slow(starter)
    assert walk.to_ask() == []
    assert walk.settled


def test_a_node_that_is_another_by_now_counts_by_its_new_id() -> None:
    walk = walk_of(contact(1), contact(2))
    asked = walk.to_ask()
    walk.answered(asked[0], contact(77).id, b"t", counts=True)
    assert [number(node.id) for node in walk.closest] == [77]
    assert asked[0].state is State.FAILED


def test_ourselves_behind_a_starter_are_no_result() -> None:
    walk = walk_of()
    walk.add_starter(Endpoint("127.0.0.1", 1))
    (starter,) = walk.to_ask()
    walk.answered(starter, OWN, b"t", counts=True)
    assert walk.closest == []
    assert walk.settled


def test_sybils_with_ids_of_their_choice_delay_but_do_not_end_a_walk() -> None:
    sybils = [contact(distance, f"6.{distance}.1.1") for distance in range(1, 41)]
    honest = []
    for index in range(12):
        endpoint = Endpoint(f"8.{index}.1.1", 6881)
        honest.append(Contact(make_node_id(endpoint.ip, RNG), endpoint))
    walk = walk_of(*sybils, *honest, kind=GetPeers(TARGET, announce_port=5))
    asked = []
    while todo := walk.to_ask():
        for candidate in todo:
            asked.append(candidate)
            answer(walk, candidate)
    assert walk.settled
    by_distance = sorted(honest, key=lambda c: number(c.id))[:K]
    assert {c.endpoint for c in by_distance} <= {candidate.endpoint for candidate in asked}
    assert len(asked) <= 2 * K
    walk.begin_store()
    assert {candidate.endpoint for candidate in walk.to_store()} == {c.endpoint for c in by_distance}


def test_stores_with_those_that_gave_a_token() -> None:
    walk = walk_of(*(contact(distance) for distance in range(1, 13)), kind=GetPeers(TARGET, announce_port=5))
    while todo := walk.to_ask():
        for candidate in todo:
            answer(walk, candidate, None if candidate.distance == 3 else b"t")
    walk.begin_store()
    todo = walk.to_store()
    assert [candidate.distance for candidate in todo] == [1, 2, 4, 5, 6, 7, 8]
    assert walk.to_ask() == []
    assert walk.stored(todo[0], taken=True)
    assert not walk.stored(todo[0], taken=True)  # said twice, counted once
    assert not walk.stored(todo[1], taken=False)
    for candidate in todo[2:]:
        walk.stored(candidate, taken=True)
    assert walk.is_stored


def test_a_lost_store_is_repeated_then_given_up() -> None:
    walk = walk_of(contact(1), kind=GetPeers(TARGET, implied_port=True))
    answer(walk, walk.to_ask()[0])
    walk.begin_store()
    for _ in range(3):
        assert not walk.is_stored
        (candidate,) = walk.to_store()
        assert walk.to_store() == []
        walk.store_slow(candidate)
    assert walk.to_store() == []
    assert walk.is_stored


def test_candidates_are_bounded_and_the_closest_stay() -> None:
    walk = walk_of(*(contact(distance) for distance in range(5_000, 0, -1)))
    assert [candidate.distance for candidate in walk.to_ask()] == [1, 2, 3, 4]
    assert len(walk._candidates) <= 100


@pytest.mark.parametrize("seed", range(5))
def test_candidates_stay_in_order_whatever_comes(seed: int) -> None:
    """Named by several ids, dropped, answering by another id: the places are looked for among the right distances."""
    chance = random.Random(seed)
    walk = walk_of()
    for _ in range(300):
        host = f"127.5.{chance.randrange(3)}.{chance.randrange(1, 60)}"
        walk.add([contact(chance.randrange(1, 5000), host)])
        for candidate in walk.to_ask():
            other = contact(chance.randrange(1, 5000)).id
            fate = chance.random()
            if fate < 0.4:
                answer(walk, candidate)
            elif fate < 0.7:
                walk.answered(candidate, other, b"t", counts=True)
            else:
                walk.refused(candidate)
        distances = [candidate.distance for candidate in walk._candidates]
        assert distances == sorted(distances) == walk._distances
        assert all(number(candidate.id) == candidate.distance for candidate in walk._candidates if candidate.id)


def test_peers_are_named_once() -> None:
    lookup = Lookup(GetPeers(TARGET), 0.0)
    one, two = Endpoint("1.2.3.4", 5), Endpoint("1.2.3.4", 6)
    assert lookup.new_peers([one, one, two]) == (one, two)
    assert lookup.new_peers([two, one]) == ()
    assert lookup.found == 2
    lookup.new_peers(Endpoint("1.1.1.1", port) for port in range(20_000))
    assert lookup.found == 10_000


def test_kinds_refuse_what_cannot_be() -> None:
    with pytest.raises(MisuseError):
        FindNode(b"short")
    with pytest.raises(MisuseError):
        GetPeers(bytes(32))
    for port in (0, -1, 65536):
        with pytest.raises(MisuseError):
            GetPeers(TARGET, announce_port=port)
