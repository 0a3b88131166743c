"""All places are taken by peers who trade nothing: others get some of them, and whoever trades keeps his."""

from __future__ import annotations

from tests.unit.wire.swarm.test_rules import INFO, Guest, Table
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.peer import messages as m
from wire.swarm.turnover import QUIET_S, TURNOVER_S

HONEST = Endpoint("80.0.1.1", 6881)


def keep_alive(guests: list[Guest]) -> None:
    for guest in guests:
        guest.wire._send(bytes(4))


def pass_time(table: Table, seconds: float) -> None:
    """Everybody says that he is there, and no more than that."""
    for _ in range(int(seconds / 30)):
        keep_alive([guest for guest in table.guests if not guest.gone])
        table.pass_time(30.0)


def crowd(table: Table, count: int) -> list[Guest]:
    return [table.guest(f"80.0.0.{number + 1}", peer_id=b"-XX0100-%012d" % number) for number in range(count)]


def test_the_silent_make_room_for_those_who_were_found_and_whoever_trades_stays() -> None:
    table = Table(have=Bitfield.of(INFO.piece_count, [0]), max_peers=4)
    guests = crowd(table, 4)
    pass_time(table, QUIET_S + TURNOVER_S)
    assert not any(guest.gone for guest in guests), "nobody else is there"
    guests[0].wire.interested()
    table.swarm.found(HONEST, "dht", table.now)
    assert table.swarm.next_dial(table.now) is None
    while not any(guest.gone for guest in guests) and table.now < 1000.0:
        guests[0].wire.request([(0, 0, 16384)])
        guests[0].pump()
        pass_time(table, 30.0)
    assert [guest.gone for guest in guests] == [False, True, False, False], "one at a time, who came first"
    assert QUIET_S <= table.now - 50.0 - QUIET_S - TURNOVER_S <= QUIET_S + 2 * TURNOVER_S
    assert table.drops()[-1].reason == "it trades nothing, and others want its place"
    assert table.swarm.next_dial(table.now) == HONEST
    assert len([event for event in guests[0].heard if isinstance(event, m.Block)]) >= 4


def test_who_came_in_vain_may_come_in_later_and_those_who_wait_for_us_go_last() -> None:
    table = Table(have=Bitfield.full(INFO.piece_count), max_peers=3, upload_slots=0)
    guests = crowd(table, 3)
    for guest in guests[:2]:
        guest.wire.interested()
        guest.pump()
    waited_s = 0.0
    while (late := table.guest("80.0.1.1", peer_id=b"-XX0100-latelatelate")).peer is None:
        pass_time(table, 30.0)
        waited_s += 30.0
        assert waited_s <= QUIET_S + 2 * TURNOVER_S
    assert waited_s >= QUIET_S
    assert not late.gone
    assert [guest.gone for guest in guests] == [False, False, True]
