"""Canonical peer priority: the vectors of BEP 40, and that both ends think the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.compact import Endpoint
from wire.swarm.candidates import Candidates
from wire.swarm.priority import priority


def at(host: str, port: int = 6881) -> Endpoint:
    return Endpoint(host, port)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("123.213.32.10", "98.76.54.32", 0xEC2D7224), ("123.213.32.10", "123.213.32.234", 0x99568189)],
)
def test_the_vectors_of_the_bep(one: str, other: str, expected: int) -> None:
    assert priority(at(one), at(other)) == priority(at(other), at(one)) == expected


def test_only_so_much_of_an_address_counts_as_the_two_do_not_share() -> None:
    me = at("10.1.1.1")
    assert priority(me, at("11.2.1.1")) == priority(me, at("11.2.3.171"))  # every other bit of the host part
    assert priority(me, at("10.1.2.1")) != priority(me, at("10.1.3.1"))
    assert priority(me, at("10.1.1.2")) != priority(me, at("10.1.1.3"))
    assert priority(me, at("10.1.1.1", 1)) != priority(me, at("10.1.1.1", 2))
    six = at("2001:db8::1")
    assert priority(six, at("2001:db9::1")) == priority(six, at("2001:db9::aaab"))


@given(*(st.ip_addresses() for _ in range(2)), st.integers(1, 65535), st.integers(1, 65535))
def test_both_ends_come_to_the_same(one: object, other: object, first: int, second: int) -> None:
    here, there = Endpoint.of(str(one), first), Endpoint.of(str(other), second)
    if here.family is there.family:
        assert 0 <= priority(here, there) == priority(there, here) < 1 << 32


def test_whom_the_user_named_goes_first_then_who_has_the_higher_priority() -> None:
    candidates = Candidates(0.0)
    candidates.seen_as("80.1.2.3")
    crowd = [at(f"90.{n}.{n * 7 % 250}.{n * 11 % 250}") for n in range(1, 60)]
    for endpoint in crowd:
        candidates.add(endpoint, "dht", 0.0)
    named = at("95.1.1.1")
    candidates.add(named, "peer", 0.0)
    now, dialled = 0.0, []
    while len(dialled) < 60:
        if (endpoint := candidates.next(now)) is not None:
            dialled.append(endpoint)
        else:
            now = candidates.next_timer(now) or now
    assert dialled[0] == named
    assert dialled[1:] == sorted(crowd, key=lambda peer: -priority(at("80.1.2.3", 0), peer))
    assert now >= 2.0, "30 a second are the most"
