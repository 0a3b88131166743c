"""Sockets that are one to others (BEP 45)."""

from __future__ import annotations

import pytest

from kademlia_bt.dht.apart import not_apart
from wire.compact import Endpoint

A, B = Endpoint("192.168.1.2", 6881), Endpoint("192.168.1.3", 6881)
SIX, SIXTH = Endpoint("2a02:1:2:3::1", 6881), Endpoint("2a02:1:2:3::2", 6881)


def test_two_behind_one_nat() -> None:
    assert not_apart([(A, None), (B, None)]) == []
    assert not_apart([(A, Endpoint("80.1.2.3", 1)), (B, None)]) == []
    assert not_apart([(A, Endpoint("80.1.2.3", 1)), (B, Endpoint("80.1.2.4", 1))]) == []
    (line,) = not_apart([(A, Endpoint("80.1.2.3", 1)), (SIX, SIX), (B, Endpoint("80.1.2.3", 2))])
    assert line == (
        "192.168.1.2:6881 and 192.168.1.3:6881 are both 80.1.2.3 to others, who keep one of them: "
        "listen on one address alone (BEP 45)"
    )


def test_two_ports_of_one_address_and_two_addresses_of_one_network() -> None:
    assert len(not_apart([(Endpoint("80.1.2.3", 1), None), (Endpoint("80.1.2.3", 2), None)])) == 1
    assert not_apart([(Endpoint("80.1.2.3", 1), None), (Endpoint("80.1.2.4", 1), None)]) == []
    (line,) = not_apart([(SIX, None), (SIXTH, None)])
    assert "[2a02:1:2:3::1]:6881 and [2a02:1:2:3::2]:6881 are both the network (/64) of 2a02:1:2:3::2" in line
    assert not_apart([(SIX, None), (Endpoint("2a02:1:2:4::1", 6881), None)]) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "0.0.0.0", "::", "::1", "fd00::1"])
def test_local_places_are_not_judged(host: str) -> None:
    assert not_apart([(Endpoint(host, 1), None), (Endpoint(host, 2), None), (None, None)]) == []
