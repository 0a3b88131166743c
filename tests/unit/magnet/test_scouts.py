"""Who of those that are found is asked for the metadata alone, and who goes to the swarm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from magnet.scouts import MAX_ASKED, MAX_OUT, Scouts
from magnet.sources import DHT, PEER, TRACKER, Found
from magnet.verdict import Counts
from tests.shell.kit import make_torrent
from wire.compact import Endpoint
from wire.ids import InfoHash
from wire.metainfo import Info

TORRENT, _ = make_torrent("one", {"one": 40_000})
INFO = TORRENT.info
NAME = INFO.info_hash


class FakeVisit:
    """A conversation that ends when the test says so."""

    def __init__(self) -> None:
        self.info: Info | None = None
        self.is_over = False
        self.is_closed = False
        self.ended: Callable[[], None] | None = None

    def end(self, info: Info | None) -> None:
        self.info, self.is_over = info, True
        assert self.ended is not None
        self.ended()

    def close(self) -> None:
        self.is_closed = self.is_over = True


class FakeErrands:
    """Errands that note who was asked."""

    def __init__(self) -> None:
        self.has_room = True
        self.spared: set[Endpoint] = set()
        self.fails_at_once = False
        self.visits: dict[Endpoint, FakeVisit] = {}

    def may_ask(self, endpoint: Endpoint) -> bool:
        return endpoint not in self.spared

    def ask(self, endpoint: Endpoint, info_hash: InfoHash) -> FakeVisit:
        assert info_hash == NAME
        visit = self.visits[endpoint] = FakeVisit()
        visit.is_over = self.fails_at_once
        return visit


class Desk:
    """Scouts, and what they gave away."""

    def __init__(self, name: InfoHash = NAME) -> None:
        self.errands = FakeErrands()
        self.handed_on: list[Found] = []
        self.given: list[tuple[Info, Found]] = []
        self.scouts = Scouts(self.errands, name, self.handed_on.append, self._give)  # type: ignore[arg-type]

    def _give(self, info: Info, found: Found) -> None:
        self.given.append((info, found))

    def take(self, *numbers: int, via: str = DHT) -> list[Found]:
        found = [Found(at(number), via, NAME.swarm_ids[0]) for number in numbers]
        for one in found:
            self.scouts.take(one)
        return found


def at(number: int) -> Endpoint:
    return Endpoint(f"80.0.0.{number}", 6881)


def test_the_first_few_are_asked_and_the_others_are_the_swarms() -> None:
    desk = Desk()
    found = desk.take(*range(MAX_OUT + 3))
    assert list(desk.errands.visits) == [at(number) for number in range(MAX_OUT)]
    assert desk.handed_on == found[MAX_OUT:]


def test_who_gives_it_ends_the_search_for_all() -> None:
    desk = Desk()
    found = desk.take(1, 2, 3)
    desk.errands.visits[at(2)].end(INFO)
    assert desk.given == [(INFO, found[1])]
    assert [desk.errands.visits[at(number)].is_closed for number in (1, 2, 3)] == [True, False, True]
    assert desk.handed_on == []
    late = desk.take(4)
    assert desk.handed_on == late


def test_who_gives_nothing_goes_to_the_swarm_and_makes_room() -> None:
    desk = Desk()
    found = desk.take(*range(MAX_OUT))
    desk.errands.visits[at(1)].end(None)
    assert desk.handed_on == [found[1]]
    desk.take(50)
    assert at(50) in desk.errands.visits


def test_no_more_than_a_dozen_are_asked_however_many_fail() -> None:
    desk = Desk()
    for number in range(MAX_ASKED):
        desk.take(number)
        desk.errands.visits[at(number)].end(None)
    late = desk.take(200)
    assert at(200) not in desk.errands.visits
    assert desk.handed_on[-1:] == late


def test_a_visit_that_is_over_at_once_goes_to_the_swarm() -> None:
    desk = Desk()
    desk.errands.fails_at_once = True
    assert desk.take(1) == desk.handed_on
    assert desk.scouts.counted(Counts()) == Counts()


def test_who_is_out_already_is_not_asked_nor_handed_on() -> None:
    desk = Desk()
    desk.take(1, 1)
    desk.take(1)
    assert len(desk.errands.visits) == 1
    assert desk.handed_on == []


@pytest.mark.parametrize("case", ["a person", "another name", "silent before", "no room", "closed"])
def test_these_go_to_the_swarm_at_once(case: str) -> None:
    desk = Desk()
    found = Found(at(1), PEER if case == "a person" else TRACKER, bytes(20) if case == "another name" else None)
    if case == "silent before":
        desk.errands.spared.add(at(1))
    elif case == "no room":
        desk.errands.has_room = False
    elif case == "closed":
        desk.scouts.close()
    desk.scouts.take(found)
    assert desk.handed_on == [found]
    assert not desk.errands.visits


def test_the_counts_know_whom_the_swarm_does_not() -> None:
    desk = Desk()
    desk.take(1, 2)
    desk.take(3, via=TRACKER)
    before = Counts(found={DHT: 5}, dialled=4, connected=1)
    out = desk.scouts.counted(before)
    assert (dict(out.found), out.dialled, out.connected) == ({DHT: 7, TRACKER: 1}, 7, 1)
    desk.errands.visits[at(1)].end(None)
    desk.errands.visits[at(2)].end(INFO)
    given = desk.scouts.counted(before)
    assert (dict(given.found), given.dialled, given.connected) == ({DHT: 6}, 5, 2)


def test_one_whose_metadata_lacks_hashes_is_the_swarms_to_count() -> None:
    desk = Desk()
    found = desk.take(1)
    info = _without_layers()
    desk.errands.visits[at(1)].end(info)
    assert desk.given == [(info, found[0])]
    assert desk.scouts.counted(Counts()) == Counts()


def _without_layers() -> Info:
    from wire.bencode import encode

    tree = {b"f": {b"": {b"length": 1 << 16, b"pieces root": bytes(range(32))}}}
    return Info.from_bytes(encode({b"file tree": tree, b"meta version": 2, b"name": b"f", b"piece length": 1 << 14}))
