"""Whom to dial: patience, politeness and bounds (fault C5)."""

from __future__ import annotations

import pytest

from wire.compact import Endpoint
from wire.swarm import candidates as c
from wire.swarm.candidates import Candidates

ONE = Endpoint("80.1.2.3", 6881)


def drain(candidates: Candidates, now: float) -> list[Endpoint]:
    found = []
    while (endpoint := candidates.next(now)) is not None:
        found.append(endpoint)
    return found


def test_an_address_is_given_once_while_it_is_dialled() -> None:
    candidates = Candidates(0.0)
    assert candidates.add(ONE, "dht", 0.0)
    assert not candidates.add(ONE, "pex", 0.0)
    assert drain(candidates, 0.0) == [ONE]
    assert drain(candidates, 1000.0) == []
    assert candidates.found == {"dht": 1}
    assert candidates.via(ONE) == "dht"
    assert candidates.via(Endpoint("80.1.2.4", 1)) == "incoming"


@pytest.mark.parametrize("host", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"])
def test_what_is_no_place_to_dial_is_not_taken(host: str) -> None:
    candidates = Candidates(0.0)
    assert not candidates.add(Endpoint(host, 6881), "dht", 0.0)
    assert not candidates.add(Endpoint("80.1.2.3", 0), "dht", 0.0)
    assert not candidates.found


def test_failures_are_tried_again_later_and_then_rest() -> None:
    candidates = Candidates(0.0)
    candidates.add(ONE, "dht", 0.0)
    assert candidates.patience_s(ONE) == c.FIRST_CONNECT_S
    now = 0.0
    for pause in c.RETRY_S:
        assert drain(candidates, now) == [ONE]
        candidates.failed(ONE, now)
        assert candidates.patience_s(ONE) == c.CONNECT_S
        assert drain(candidates, now + pause - 0.1) == []
        now += pause
    assert drain(candidates, now) == [ONE]
    candidates.failed(ONE, now)
    assert ONE not in candidates
    assert not candidates.add(ONE, "dht", now + c.REST_S - 1)
    assert candidates.add(ONE, "dht", now + c.REST_S + 1)


def test_what_the_user_named_is_tried_for_ever() -> None:
    candidates = Candidates(0.0)
    candidates.add(ONE, "peer", 0.0)
    now = 0.0
    for _ in range(30):
        assert drain(candidates, now) == [ONE]
        candidates.failed(ONE, now)
        now += c.NAMED_RETRY_S[-1]


def test_whom_the_user_named_is_dialled_soon_after_he_sent_us_away() -> None:
    candidates = Candidates(0.0)
    candidates.add(ONE, "peer", 0.0)
    assert drain(candidates, 0.0) == [ONE]
    candidates.connected(ONE)
    candidates.closed(ONE, 1.0, useful=False)
    assert drain(candidates, 1.0 + c.RECONNECT_NAMED_S - 0.1) == []
    assert drain(candidates, 1.0 + c.RECONNECT_NAMED_S) == [ONE]


def test_hearsay_becomes_named_by_the_user() -> None:
    candidates = Candidates(0.0)
    for port in range(1, 20):
        candidates.add(Endpoint(f"80.2.0.{port}", 1), "dht", 0.0)
    candidates.add(ONE, "dht", 0.0)
    assert not candidates.add(ONE, "link", 0.0)
    assert candidates.next(0.0) == ONE


def test_a_thousand_ports_of_one_address_get_one_connection_and_three_tries() -> None:
    candidates = Candidates(0.0)
    for port in range(1, 1001):
        candidates.add(Endpoint("80.1.2.3", port), "pex", 0.0)
    assert len(candidates) == c.MAX_PORTS_PER_HOST
    tries = 0
    now = 0.0
    while now < 600.0:
        dialled = drain(candidates, now)
        assert len(dialled) <= 1
        for endpoint in dialled:
            tries += 1
            candidates.failed(endpoint, now)
        now += 1.0
    assert tries == c.MAX_TRIES


def test_loopback_ports_are_peers_of_their_own() -> None:
    candidates = Candidates(0.0)
    peers = [Endpoint("127.0.0.1", port) for port in range(1, 5)]
    for peer in peers:
        candidates.add(peer, "dht", 0.0)
    assert drain(candidates, 0.0) == peers
    candidates.ban(peers[0])
    assert candidates.is_banned(peers[0])
    assert not candidates.is_banned(peers[1])


def test_a_flood_of_addresses_is_bounded_and_leaves_room_for_the_user() -> None:
    candidates = Candidates(0.0)
    for number in range(10_000):
        candidates.add(Endpoint(f"80.{number >> 8}.{number & 255}.1", 6881), "dht", 0.0)
    assert len(candidates) == c.MAX_CANDIDATES
    assert candidates.add(ONE, "peer", 0.0)


def test_at_most_thirty_dials_in_any_second() -> None:
    candidates = Candidates(0.0)
    for number in range(500):
        candidates.add(Endpoint(f"80.0.{number >> 8}.{number & 255}", 6881), "dht", 0.0)
    times: list[float] = []
    now = 0.0
    while now < 10.0:
        times += [now] * len(drain(candidates, now))
        timer = candidates.next_timer(now)
        assert timer is not None
        now = max(timer, now + 0.01)
    assert len(times) > 200
    assert max(sum(start <= t < start + 1.0 for t in times) for start in times) <= 31


def test_a_useful_peer_is_dialled_again_soon_and_a_useless_one_later() -> None:
    candidates = Candidates(0.0)
    candidates.add(ONE, "dht", 0.0)
    assert drain(candidates, 0.0) == [ONE]
    candidates.connected(ONE)
    candidates.closed(ONE, 10.0, useful=True)
    assert drain(candidates, 10.0 + c.RECONNECT_USEFUL_S) == [ONE]
    candidates.connected(ONE)
    candidates.closed(ONE, 20.0, useful=False)
    assert drain(candidates, 20.0 + c.RECONNECT_S - 1) == []
    assert drain(candidates, 20.0 + c.RECONNECT_S) == [ONE]


def test_the_banned_are_neither_dialled_nor_let_in() -> None:
    candidates = Candidates(0.0)
    candidates.add(ONE, "dht", 0.0)
    candidates.ban(ONE)
    candidates.ban(ONE)
    assert candidates.banned == 1
    assert drain(candidates, 100.0) == []
    assert not candidates.add(Endpoint(ONE.host, 7000), "peer", 0.0)
    assert not candidates.admit(Endpoint(ONE.host, 50000))


def test_our_own_address_is_not_dialled_again_but_its_host_may_be() -> None:
    candidates = Candidates(0.0)
    candidates.add(ONE, "dht", 0.0)
    assert drain(candidates, 0.0) == [ONE]
    candidates.is_ourselves(ONE)
    assert not candidates.add(ONE, "dht", 1.0)
    neighbour = Endpoint(ONE.host, 7000)
    assert candidates.add(neighbour, "dht", 1.0)
    assert drain(candidates, 1.0) == [neighbour]


def test_who_is_connected_from_there_is_not_dialled() -> None:
    candidates = Candidates(0.0)
    assert candidates.admit(Endpoint(ONE.host, 50000))
    candidates.add(ONE, "dht", 0.0)
    assert drain(candidates, 0.0) == []
    candidates.departed(Endpoint(ONE.host, 50000))
    assert drain(candidates, c.RECONNECT_S) == [ONE]


def test_one_address_does_not_take_all_the_room() -> None:
    candidates = Candidates(0.0)
    admitted = [candidates.admit(Endpoint(ONE.host, 50000 + n)) for n in range(20)]
    assert sum(admitted) == c.MAX_INBOUND_PER_HOST


def test_seeds_are_left_alone_by_a_seed() -> None:
    candidates = Candidates(0.0)
    candidates.add(ONE, "dht", 0.0)
    candidates.is_seed(ONE)
    candidates.want_seeds = False
    assert drain(candidates, 0.0) == []
    candidates.want_seeds = True
    assert drain(candidates, c.RECONNECT_S) == [ONE]
