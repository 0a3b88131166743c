"""What implementers get wrong of BEP 6, 10, 11, 21 and 54 in a swarm: a test for each sentence."""

from __future__ import annotations

import pytest

from tests.unit.wire.swarm.test_rules import Guest, Table
from wire.bitfield import Bitfield
from wire.compact import IPV4, IPV6, Endpoint
from wire.peer import messages as m
from wire.peer.pex import MAX_SENT
from wire.swarm.sight import AGREE, Sight
from wire.swarm.source import DEFAULT_REQQ


def peer_number(table: Table, number: int, **says: object) -> Guest:
    return table.guest(f"80.0.{number}.1", peer_id=b"-XX0100-%012d" % number, **says)


# BEP 6


def test_every_request_gets_exactly_one_piece_or_reject() -> None:
    table = Table(have=Bitfield.full(4))
    guest = table.guest()
    guest.wire.interested()
    guest.pump()
    guest.heard.clear()
    asked = [(0, 0, 16384), (0, 16384, 16384), (1, 0, 16384)]
    guest.wire.request([*asked, (2, 0, 16384)])
    guest.wire.cancel([(2, 0, 16384)])
    guest.pump()
    blocks = [(event.index, event.begin, len(event.data)) for event in guest.heard if isinstance(event, m.Block)]
    rejects = [(event.index, event.begin, event.length) for event in guest.heard if isinstance(event, m.Reject)]
    assert sorted(blocks + rejects) == [*asked, (2, 0, 16384)]


# BEP 10


@pytest.mark.parametrize(("says", "limit"), [(1, 1), (3, 3), (5, 5), (None, DEFAULT_REQQ)])
def test_reqq_is_obeyed(says: int | None, limit: int) -> None:
    table = Table()
    guest = table.guest(reqq=says)
    assert guest.peer is not None
    assert guest.peer.source.limit == limit
    guest.wire.bitfield(Bitfield.full(4))
    guest.wire.unchoke()
    guest.pump()
    assert len(guest.peer.source.asked) == min(limit, 6)  # three pieces, of one that has proved nothing yet


def test_what_we_say_of_ourselves() -> None:
    table = Table(listen_port=4000)
    said = table.swarm.handshake(Endpoint("80.1.1.1", 5))
    assert (said.yourip, said.p, said.ipv4, said.ipv6) == ("80.1.1.1", 4000, None, None)
    assert said.reqq
    assert said.v
    for host in ("99.9.9.9", "2a01:1::9"):
        table.swarm.seen_as(host)
    assert table.swarm.handshake(Endpoint("80.1.1.1", 5)).ipv6 == "2a01:1::9"
    assert table.swarm.handshake(Endpoint("80.1.1.1", 5)).ipv4 is None
    assert table.swarm.handshake(Endpoint("2a01:2::1", 5)).ipv4 == "99.9.9.9"


def test_yourip_is_believed_once_peers_of_several_networks_agree() -> None:
    table = Table(listen_port=4000)
    for number in range(AGREE):
        assert table.swarm._sight.of(IPV4) is None
        peer_number(table, number, yourip="99.9.9.9")
    assert table.swarm._sight.of(IPV4) == "99.9.9.9"
    assert table.swarm.handshake(Endpoint("2a01:2::1", 5)).ipv4 == "99.9.9.9"


def test_one_network_has_one_vote_and_private_addresses_none() -> None:
    sight = Sight()
    for number in range(50):
        assert not sight.vote(Endpoint(f"80.0.0.{number}", 1), "99.9.9.9")
        assert not sight.vote(Endpoint(f"80.0.{number}.1", 1), "192.168.1.1")
        assert not sight.vote(Endpoint(f"2a01:1::{number:x}", 1), "2a01:9::9")
    assert sight.of(IPV4) is sight.of(IPV6) is None
    sight.told("99.1.1.1")
    for number in range(50):
        sight.vote(Endpoint(f"80.0.{number}.1", 1), "99.9.9.9")
    assert sight.of(IPV4) == "99.1.1.1"


def test_the_other_address_of_a_peer_is_tried_when_it_left() -> None:
    table = Table()
    guest = table.guest(p=6881, ipv6="2a01:2::7")
    other = Endpoint("2a01:2::7", 6881)
    assert other not in table.swarm.candidates
    assert guest.peer is not None
    table.swarm.lost(guest.peer, "the stream broke", table.now)
    assert other in table.swarm.candidates


@pytest.mark.parametrize("host", ["fe80::1", "::1", "ff02::1", "fd00::1"])
def test_but_not_one_in_our_own_network(host: str) -> None:
    table = Table()
    guest = table.guest(p=6881, ipv6=host)
    assert guest.peer is not None
    table.swarm.lost(guest.peer, "the stream broke", table.now)
    assert not len(table.swarm.candidates)


# BEP 11


def test_only_peers_that_are_really_connected_are_told_and_no_more_than_50_once_a_minute() -> None:
    table = Table()
    listener = peer_number(table, 250)
    for number in range(60):
        table.swarm.found(Endpoint(f"90.0.{number}.1", 7000), "dht", table.now)  # hearsay
    guests = [peer_number(table, number, p=7000) for number in range(60)]
    listener.heard.clear()
    table.pass_time(2)
    (first,) = [event for event in listener.heard if isinstance(event, m.PexReceived)]
    assert len(first.added) == MAX_SENT == 50
    assert {peer.endpoint.host for peer in first.added} <= {guest.endpoint.host for guest in guests}
    listener.heard.clear()
    table.pass_time(55)
    assert not [event for event in listener.heard if isinstance(event, m.PexReceived)]
    table.pass_time(10)
    (second,) = [event for event in listener.heard if isinstance(event, m.PexReceived)]
    assert len(second.added) == 10


# BEP 21


def test_upload_only_is_1_in_the_handshake_of_who_has_all_that_he_wants() -> None:
    assert Table(have=Bitfield.full(4)).swarm.handshake(Endpoint("80.1.1.1", 5)).upload_only
    assert not Table().swarm.handshake(Endpoint("80.1.1.1", 5)).upload_only


# BEP 54


@pytest.mark.parametrize("fast", [True, False])
def test_requests_for_a_piece_that_is_gone_are_rejected_with_fast_and_dropped_without(fast: bool) -> None:
    table = Table(have=Bitfield.full(4))
    guest = table.guest(lt_donthave=9)
    guest.wire.interested()
    guest.pump()
    peer = guest.peer
    assert peer is not None
    peer.connection.fast = fast
    table.swarm.receive(peer, [m.Request(2, 0, 16384)], table.now)
    assert list(peer.queue) == [(2, 0, 16384)]
    guest.heard.clear()
    table.swarm.piece_lost(2, table.now)
    assert not peer.queue
    guest.pump()
    assert [event for event in guest.heard if isinstance(event, m.Reject)] == ([m.Reject(2, 0, 16384)] if fast else [])
