"""Introductions (BEP 55) in each role, and what an abuser gets: nothing that costs others."""

from __future__ import annotations

import pytest

from tests.unit.wire.swarm.test_rules import INFO, THEIRS, Guest, Table, info_dict
from wire.compact import Endpoint
from wire.metainfo import Info
from wire.peer import messages as m
from wire.peer.holepunch import HolepunchError, HolepunchKind, HolepunchMessage
from wire.peer.pex import HOLEPUNCH, REACHABLE, PexMessage, PexPeer
from wire.swarm import holepunch

FAR = Endpoint("90.0.0.9", 7000)


def said(guest: Guest) -> list[HolepunchMessage]:
    """What the guest heard of introductions, drained."""
    guest.pump()
    heard = [event.message for event in guest.heard if isinstance(event, m.HolepunchReceived)]
    guest.heard.clear()
    return heard


def relay_of(table: Table, number: int = 1, **says: object) -> Guest:
    identity = b"-XX0100-%012d" % number
    return table.guest(f"80.0.0.{number}", peer_id=identity, **{"ut_holepunch": 9, **says})


def tell(guest: Guest, kind: HolepunchKind, endpoint: Endpoint, error: int = 0) -> None:
    guest.wire.holepunch(HolepunchMessage(kind, endpoint, error))
    guest.pump()


def name(guest: Guest, *endpoints: Endpoint, flags: int = HOLEPUNCH) -> None:
    guest.wire.pex(PexMessage(tuple(PexPeer(endpoint, flags) for endpoint in endpoints), ()).encode())
    guest.pump()


def fail_the_dial(table: Table, endpoint: Endpoint = FAR) -> None:
    assert table.swarm.next_dial(table.now) == endpoint
    table.swarm.dial_failed(endpoint, table.now, timed_out=True)
    for guest in table.guests:
        guest.pump()


# the initiator


def test_when_a_dial_failed_who_named_the_peer_is_asked_to_introduce_us() -> None:
    table = Table()
    relay = relay_of(table)
    name(relay, FAR)
    assert said(relay) == []
    fail_the_dial(table)
    assert said(relay) == [HolepunchMessage(HolepunchKind.RENDEZVOUS, FAR)]
    tell(relay, HolepunchKind.CONNECT, FAR)
    assert table.swarm.next_punch() == FAR
    assert table.swarm.next_punch() is None
    peer = table.swarm.dial_opened(FAR, table.now, over_utp=True)
    assert peer is not None
    assert table.swarm.stats().dialled == 2


@pytest.mark.parametrize("flags", [REACHABLE, 0x01])
def test_who_cannot_be_introduced_is_not_asked_for(flags: int) -> None:
    table = Table()
    relay = relay_of(table)
    name(relay, FAR, flags=flags)
    fail_the_dial(table)
    assert said(relay) == []


def test_a_relay_without_the_extension_is_not_asked() -> None:
    table = Table()
    relay = relay_of(table, ut_holepunch=0)
    name(relay, FAR)
    fail_the_dial(table)
    assert not table.swarm._holepunch.ask(FAR, table.now)


def test_each_relay_is_asked_once_and_after_an_error_the_next() -> None:
    table = Table()
    one, other = relay_of(table, 1), relay_of(table, 2)
    for guest in (one, other):
        name(guest, FAR)
    fail_the_dial(table)
    asked = one if said(one) else other
    waits = other if asked is one else one
    assert said(waits) == []
    tell(asked, HolepunchKind.ERROR, FAR, HolepunchError.NOT_CONNECTED)
    assert said(waits) == [HolepunchMessage(HolepunchKind.RENDEZVOUS, FAR)]
    tell(waits, HolepunchKind.ERROR, FAR, HolepunchError.NOT_CONNECTED)
    assert said(one) == said(other) == []


def test_a_relay_that_left_is_forgotten() -> None:
    table = Table()
    relay = relay_of(table)
    name(relay, FAR)
    assert relay.peer is not None
    table.swarm.lost(relay.peer, "gone", table.now)
    assert not table.swarm._holepunch._named


def test_of_an_address_that_nobody_named_a_few_are_asked_one_by_one() -> None:
    table = Table()
    relays = [relay_of(table, number) for number in range(1, 7)]
    relay_of(table, 9, ut_holepunch=0)
    table.swarm.found(FAR, "dht", table.now)
    fail_the_dial(table)
    asked = 0
    while wanted := [guest for guest in relays if said(guest)]:
        assert len(wanted) == 1
        asked += 1
        tell(wanted[0], HolepunchKind.ERROR, FAR, HolepunchError.NOT_CONNECTED)
    assert asked == holepunch.MAX_GUESSES


def test_guesses_are_few_however_many_dials_fail() -> None:
    table = Table()
    relay = relay_of(table)
    for number in range(200):
        table.swarm._holepunch.ask(Endpoint(f"90.0.0.{number}", 7000), table.now)
    assert len(said(relay)) <= holepunch.GUESSES_PER_MINUTE + 1


# the relay


def test_two_of_ours_are_told_of_each_other() -> None:
    table = Table()
    initiator, target = relay_of(table, 1), relay_of(table, 2, p=6881)
    tell(initiator, HolepunchKind.RENDEZVOUS, Endpoint("80.0.0.2", 6881))
    assert said(initiator) == [HolepunchMessage(HolepunchKind.CONNECT, Endpoint("80.0.0.2", 6881))]
    assert said(target) == [HolepunchMessage(HolepunchKind.CONNECT, initiator.endpoint)]


def test_over_utp_the_address_is_that_whence_the_packets_come() -> None:
    table = Table()
    initiator, target = relay_of(table, 1, p=6881), relay_of(table, 2)
    assert initiator.peer is not None
    initiator.peer.over_utp = True
    tell(initiator, HolepunchKind.RENDEZVOUS, target.endpoint)
    assert said(target) == [HolepunchMessage(HolepunchKind.CONNECT, initiator.endpoint)]


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        (Endpoint("80.0.0.2", 0), HolepunchError.NO_SUCH_PEER),
        (Endpoint("224.0.0.1", 6881), HolepunchError.NO_SUCH_PEER),
        (Endpoint("0.0.0.0", 6881), HolepunchError.NO_SUCH_PEER),
        (Endpoint("90.1.2.3", 6881), HolepunchError.NOT_CONNECTED),
        (Endpoint("80.0.0.3", 6881), HolepunchError.NO_SUPPORT),
        (Endpoint("99.9.9.9", 4000), HolepunchError.NO_SELF),
    ],
)
def test_what_cannot_be_is_answered_with_its_error_and_the_same_address(
    endpoint: Endpoint, error: HolepunchError
) -> None:
    table = Table(listen_port=4000)
    table.swarm.seen_as("99.9.9.9")
    initiator = relay_of(table, 1)
    relay_of(table, 3, ut_holepunch=0, p=6881)
    tell(initiator, HolepunchKind.RENDEZVOUS, endpoint)
    assert said(initiator) == [HolepunchMessage(HolepunchKind.ERROR, endpoint, error)]


def test_an_initiator_without_the_extension_is_ignored() -> None:
    table = Table()
    initiator, target = relay_of(table, 1, ut_holepunch=0), relay_of(table, 2)
    frame = m.frame(m.EXTENDED, b"\4" + HolepunchMessage(HolepunchKind.RENDEZVOUS, target.endpoint).encode())
    initiator.wire._send(frame)
    initiator.pump()
    assert said(target) == said(initiator) == []


def test_a_peer_gets_so_many_introductions_a_minute() -> None:
    table = Table()
    initiator, target = relay_of(table, 1), relay_of(table, 2)
    for _ in range(300):
        tell(initiator, HolepunchKind.RENDEZVOUS, target.endpoint)
    assert len(said(target)) <= holepunch.RELAYS_PER_MINUTE + 1


# the target


def test_who_is_introduced_is_dialled() -> None:
    table = Table()
    relay = relay_of(table)
    tell(relay, HolepunchKind.CONNECT, FAR)
    assert table.swarm.next_punch() == FAR
    assert said(relay) == []


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("90.0.0.9", 80),
        Endpoint("90.0.0.9", 0),
        Endpoint("127.0.0.1", 7000),
        Endpoint("192.168.0.1", 7000),
        Endpoint("255.255.255.255", 7000),
        Endpoint("224.0.0.1", 7000),
        Endpoint("99.9.9.9", 4000),
    ],
)
def test_never_to_places_that_strangers_have_no_business_with(endpoint: Endpoint) -> None:
    table = Table(listen_port=4000)
    table.swarm.seen_as("99.9.9.9")
    relay = relay_of(table)
    tell(relay, HolepunchKind.CONNECT, endpoint)
    assert table.swarm.next_punch() is None
    assert said(relay) == []


def test_who_is_connected_already_is_not_dialled_nor_who_is_banned() -> None:
    table = Table()
    relay, other = relay_of(table, 1), relay_of(table, 2)
    tell(relay, HolepunchKind.CONNECT, other.endpoint)
    table.swarm.candidates.ban(FAR)
    tell(relay, HolepunchKind.CONNECT, FAR)
    assert table.swarm.next_punch() is None


def test_a_flood_of_introductions_makes_few_dials() -> None:
    table = Table()
    relays = [relay_of(table, number) for number in range(1, 6)]
    dials = 0
    for number in range(500):
        tell(relays[number % 5], HolepunchKind.CONNECT, Endpoint(f"90.{number // 200}.{number % 200}.9", 7000))
        table.now += 0.1
        while (endpoint := table.swarm.next_punch()) is not None:
            dials += 1
            table.swarm.dial_failed(endpoint, table.now, timed_out=True)
    assert 0 < dials <= 2 * holepunch.CONNECTS_PER_MINUTE


def test_not_in_a_private_torrent_and_not_where_it_is_off() -> None:
    for table in (Table(Info.from_bytes(info_dict(private=True))), Table(holepunch=False), Table(pex=False)):
        assert table.swarm.handshake(FAR).ut_holepunch == 0
        relay = relay_of(table)
        frame = m.frame(m.EXTENDED, b"\4" + HolepunchMessage(HolepunchKind.CONNECT, FAR).encode())
        relay.wire._send(frame)
        relay.pump()
        assert table.swarm.next_punch() is None


# two dials that cross


@pytest.mark.parametrize("ours_is_lower", [True, False])
@pytest.mark.parametrize("ours_is_first", [True, False])
def test_of_two_dials_that_cross_both_sides_keep_the_same(ours_is_lower: bool, ours_is_first: bool) -> None:
    """From one address to one address, as after an introduction."""
    table = Table()
    identity = b"-ZZ0000-" + bytes(12) if ours_is_lower else b"-AA0000-" + bytes(12)
    relay = relay_of(table)
    tell(relay, HolepunchKind.CONNECT, FAR)
    assert table.swarm.next_punch() == FAR
    accepted = m.HandshakeReceived(INFO.info_hash.swarm_ids[0], identity, False, False, False)
    incoming = _incoming(table, identity)
    if ours_is_first:
        dialled = table.swarm.dial_opened(FAR, table.now, over_utp=True)
        came = table.swarm.accept(FAR, incoming, [accepted], table.now, over_utp=True)
        assert dialled is not None
    else:
        came = table.swarm.accept(FAR, incoming, [accepted], table.now, over_utp=True)
        dialled = table.swarm.dial_opened(FAR, table.now, over_utp=True)
        assert came is not None
    stays = table.swarm._peers[FAR]
    assert stays is (dialled if ours_is_lower else came)
    other = came if ours_is_lower else dialled
    assert other is None or other.gone


def _incoming(table: Table, identity: bytes) -> m.PeerConnection:  # type: ignore[name-defined]
    from tests.unit.wire.peer.joined import feed
    from wire.peer.connection import PeerConnection
    from wire.peer.extended import ExtendedHandshake
    from wire.peer.handshake import Handshake

    connection = PeerConnection(
        peer_id=table.swarm.peer_id, info_hash=None, extended=ExtendedHandshake(), now=table.now
    )
    info_hash = INFO.info_hash.swarm_ids[0]
    feed(connection, Handshake(info_hash, identity, extended=False, fast=False, dht=False).encode(), table.now)
    return connection


def test_flags_of_peer_exchange_tell_who_can_be_met_how() -> None:
    table = Table()
    one = relay_of(table, 1, p=6881)
    listener = table.guest("80.0.0.7", peer_id=THEIRS)
    assert one.peer is not None
    one.peer.over_utp = True
    one.peer.encrypted = True
    listener.heard.clear()
    table.pass_time(61)
    told = [peer for event in listener.heard if isinstance(event, m.PexReceived) for peer in event.added]
    assert [peer.flags for peer in told if peer.endpoint.host == "80.0.0.1"] == [0x01 | 0x04 | 0x08]
