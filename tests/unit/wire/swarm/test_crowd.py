"""The connections of many torrents together: how many, in which order they are dialled, and who is not held up."""

from __future__ import annotations

import pytest

from wire.compact import Endpoint
from wire.swarm.candidates import Candidates
from wire.swarm.crowd import FREE_DIALS, NO_LIMIT, Crowd


def crowded(crowd: Crowd, addresses: int, via: str = "dht", *, torrent: int = 0) -> Candidates:
    candidates = Candidates(0.0, crowd)
    for n in range(addresses):
        candidates.add(Endpoint(f"90.{torrent}.{n}.1", 6881), via, 0.0)
    return candidates


def dialled(torrents: list[Candidates], until: float, *, start: float = 0.0) -> list[tuple[float, int]]:
    """(when, which torrent) of each dial, each torrent asked when it wants to be."""
    now, dials = start, []
    while now <= until:
        for number, torrent in enumerate(torrents):
            while torrent.next(now) is not None:
                dials.append((now, number))
        timers = [at for torrent in torrents if (at := torrent.next_timer(now)) is not None]
        if not timers:
            break
        assert min(timers) > now - 1e-9  # nobody is woken for nothing, again and again
        now = max(min(timers), now + 1e-6)
    return dials


def test_many_torrents_dial_no_faster_than_one_once_each_has_begun() -> None:
    crowd = Crowd()
    torrents = [crowded(crowd, 250, torrent=number) for number in range(10)]
    dials = dialled(torrents, 20.0)
    first = [at for at, _ in dials[: 10 * FREE_DIALS]]
    assert first[-1] <= 1.0
    later = dials[10 * FREE_DIALS :]
    for at, _ in later:
        assert sum(at <= other < at + 1.0 for other, _ in later) <= 30
    assert len(later) >= 19 * 24  # and no slower
    shares = [sum(which == number for _, which in later) for number in range(10)]
    assert max(shares) - min(shares) <= 2


def test_turns_that_were_kept_are_not_all_taken_at_once() -> None:
    crowd = Crowd()
    torrents = [crowded(crowd, 250, torrent=number) for number in range(40)]
    dialled(torrents, 15.0)  # the free ones of all
    for torrent in torrents:
        while torrent.next(15.0) is not None:
            pass
    assert sum(torrent.next(40.0) is not None for torrent in torrents) <= 5  # each has a turn, from long ago
    later = dialled(torrents, 41.0, start=40.0)
    assert sum(40.0 <= at < 41.0 for at, _ in later) <= 30


def test_whom_the_user_named_waits_for_nobody() -> None:
    crowd = Crowd()
    busy = crowded(crowd, 250, torrent=1)
    dialled([busy], 0.3)
    for _ in range(1000):
        crowd.turn(0.3)  # of a thousand other torrents
    assert busy.next(2.0) is not None  # it had asked for this turn before them
    assert busy.next(2.0) is None
    assert busy.next_timer(2.0) > 20.0
    busy.add(Endpoint("91.0.0.1", 6881), "peer", 2.0)
    assert busy.next(2.0) == Endpoint("91.0.0.1", 6881)


def test_a_turn_that_is_waited_for_does_not_keep_the_named_waiting() -> None:
    crowd = Crowd()
    busy = crowded(crowd, 250, torrent=1)
    named = Endpoint("91.0.0.1", 6881)
    busy.add(named, "peer", 0.0)
    assert busy.next(0.0) == named
    busy.failed(named, 0.0)  # tried again after a second
    dialled([busy], 0.3)
    for _ in range(1000):
        crowd.turn(0.3)
    assert busy.next(0.9) is not None
    assert busy.next(0.9) is None
    assert busy.next_timer(0.9) == pytest.approx(1.0)
    assert busy.next(1.0) == named


def test_there_are_so_many_connections_and_the_last_are_for_who_has_few() -> None:
    crowd = Crowd(100)
    crowd.told("rich", 75)
    crowd.told("poor", 3)
    assert not crowd.has_room("rich")
    assert crowd.has_room("poor")
    crowd.told("poor", 25)
    assert not crowd.has_room("poor")  # none is left
    crowd.left("rich")
    assert crowd.count == 25
    assert crowd.has_room("poor")
    crowd.told("poor", 0)
    assert crowd.count == 0


def test_of_more_torrents_than_connections_each_may_have_one() -> None:
    crowd = Crowd(100)
    for number in range(200):
        crowd.told(number, 0)
    crowd.told(0, 75)
    assert crowd.has_room(1)
    crowd.told(1, 1)
    assert not crowd.has_room(1)


def test_who_is_alone_has_no_limit() -> None:
    crowd = Crowd(NO_LIMIT)
    crowd.told("one", 10_000)
    assert crowd.has_room("one")
