"""What a brain asks its guests for: gifts, suggestions, losses, seeks, debts and the end game."""

from __future__ import annotations

import hashlib

import pytest

from tests.unit.wire.swarm.test_requests import Desk
from tests.unit.wire.swarm.test_rules import INFO, Guest, Table, info_dict
from wire.bitfield import Bitfield
from wire.metainfo import Info
from wire.peer import messages as m
from wire.peer.messages import BLOCK_BYTES as B
from wire.swarm.exchange import MAX_TIMEOUTS
from wire.swarm.ledger import REQUEST_TIMEOUT_S, SNUB_S
from wire.swarm.values import Finished

PIECES = 100
BIG = Info.from_bytes(info_dict(length=PIECES * 2 * B, pieces=hashlib.sha1(bytes(2 * B)).digest() * PIECES))
OTHER = b"-XX0100-otherotherot"


def has_all(guest: Guest, info: Info = BIG) -> None:
    guest.wire.bitfield(Bitfield.full(info.piece_count))
    guest.pump()


def unchokes(guest: Guest) -> None:
    guest.wire.unchoke()
    guest.pump()


def asked(guest: Guest) -> list[tuple[int, int]]:
    return [(ask.index, ask.begin) for ask in guest.asked()]


def cancelled(guest: Guest) -> list[tuple[int, int]]:
    return [(event.index, event.begin) for event in guest.heard if isinstance(event, m.Cancel)]


def both_of(index: int) -> list[tuple[int, int]]:
    return [(index, 0), (index, B)]


def test_a_piece_that_is_allowed_is_asked_for_though_the_peer_chokes() -> None:
    table = Table(BIG)
    guest = table.guest()
    has_all(guest)
    assert asked(guest) == []
    guest.wire.allowed_fast(70)
    guest.pump()
    assert asked(guest) == both_of(70)


def test_a_piece_that_is_suggested_is_asked_for_first() -> None:
    table = Table(BIG)
    guest = table.guest()
    has_all(guest)
    guest.wire.suggest(70)
    unchokes(guest)
    assert asked(guest)[:2] == both_of(70)


def test_what_a_peer_has_no_more_is_asked_of_another() -> None:
    """BEP 54: before it was asked for, and after."""
    table = Table()
    one, other = table.guest("80.0.0.1"), table.guest("80.0.0.2", peer_id=OTHER)
    has_all(one, INFO)
    one.wire.dont_have(2)
    unchokes(one)
    assert sorted(index for index, _ in asked(one)) == [0, 0, 1, 1, 3], "the last piece has one block"
    one.wire.dont_have(1)
    one.pump()
    assert cancelled(one) == both_of(1)
    has_all(other, INFO)
    unchokes(other)
    assert {index for index, _ in asked(other)} >= {1, 2}


def test_who_never_sends_what_he_is_asked_for_is_dropped() -> None:
    table = Table()
    guest = table.guest()
    guest.offer()
    table.pass_time(SNUB_S + 2.0)
    assert not guest.gone
    assert sorted(cancelled(guest)) == sorted(asked(guest)[: len(cancelled(guest))])
    table.pass_time(MAX_TIMEOUTS * REQUEST_TIMEOUT_S + 10.0)
    assert guest.gone
    assert "never sends" in table.drops()[-1].reason


def test_a_snubbed_peer_is_asked_for_one_block_until_it_sends() -> None:
    desk = Desk(pieces=8)
    source = desk.source()
    desk.fill(source)
    source.meter.total = 1 << 24
    source.measure(1.0)
    assert source.depth > 100
    desk.now = SNUB_S
    assert desk.ledger.overdue(source, desk.now)
    source.measure(desk.now)
    assert (source.depth, len(desk.fill(source))) == (1, 1)


def test_who_was_slower_in_the_end_game_is_told_to_keep_his_block() -> None:
    desk = Desk(pieces=1, last=4 * B)
    slow, quick = desk.source(1), desk.source(2)
    blocks = desk.fill(slow)
    desk.now = 2.0
    doubled = desk.fill(quick)
    assert doubled == blocks[2:]
    desk.give(quick, doubled[0])
    assert desk.ledger.cancels() == [(slow, doubled[0])]
    assert len(slow.asked) == 3


def test_a_seek_is_divided_among_all_who_have_the_piece() -> None:
    table = Table(BIG)
    guests = [table.guest("80.0.0.1"), table.guest("80.0.0.2", peer_id=OTHER)]
    for guest in guests:
        has_all(guest)
        unchokes(guest)
    before = {index for guest in guests for index, _ in asked(guest)}
    index = next(index for index in range(PIECES) if index not in before)
    for guest in guests:
        guest.heard.clear()
    table.swarm.set_deadlines({index: table.now}, table.now)
    for guest in guests:
        guest.pump()
    first = sorted(asked(guest)[0] for guest in guests)
    assert first == both_of(index), "a block of each, before all else"


def test_what_one_is_slow_to_give_at_a_seek_is_asked_of_another_too() -> None:
    table = Table(BIG)
    slow, quick = table.guest("80.0.0.1"), table.guest("80.0.0.2", peer_id=OTHER)
    has_all(slow)
    unchokes(slow)
    index = next(index for index in range(PIECES) if index not in {index for index, _ in asked(slow)})
    table.swarm.set_deadlines({index: table.now + 0.9}, table.now)
    slow.pump()
    assert set(both_of(index)) <= set(asked(slow))
    has_all(quick)
    unchokes(quick)
    assert not set(both_of(index)) & set(asked(quick)), "nobody waits for it yet"
    table.pass_time(3.0)
    for other, begin in asked(quick)[:4]:
        quick.wire.piece(other, begin, bytes(B))
    quick.pump()
    assert set(both_of(index)) <= set(asked(quick))


def test_a_piece_that_nobody_wanted_is_wanted_when_somebody_waits_for_it() -> None:
    table = Table()
    table.swarm.want_files([False], table.now)
    guest = table.guest()
    guest.wire.bitfield(Bitfield.of(4, [1, 2]))  # who has everything is of no use, and goes
    unchokes(guest)
    assert asked(guest) == []
    table.swarm.set_deadlines({2: table.now + 5.0}, table.now)
    guest.pump()
    assert asked(guest) == both_of(2)
    assert not table.swarm.finished


@pytest.mark.parametrize("upload_only", [True, False])
def test_who_gives_only_is_of_no_use_to_who_has_all_that_he_wants(upload_only: bool) -> None:
    """BEP 21: a peer that wants nothing more, though it has not everything."""
    table = Table(have=Bitfield.of(4, [0, 1, 2]))
    table.swarm.want_files([False], table.now)
    assert any(isinstance(event, Finished) for event in table.events())
    guest = table.guest(upload_only=upload_only)
    guest.wire.bitfield(Bitfield.of(4, [0, 1]))
    guest.pump()
    table.pass_time(2.0)
    assert guest.gone is upload_only


def test_web_seeds_are_measured_each_second_though_there_is_no_peer() -> None:
    table = Table()
    table.swarm.tick(table.now)
    assert table.swarm.next_timer(table.now) > table.now + 5.0
    (seed,) = table.swarm.add_web_seeds(["http://w/"], table.now)
    for _ in range(3):
        at = table.swarm.next_timer(table.now)
        assert at <= table.now + 1.0
        table.now = at
        seed.source.meter.total += 1 << 20
        table.swarm.tick(at)
    assert seed.source.meter.rate > 1 << 19
