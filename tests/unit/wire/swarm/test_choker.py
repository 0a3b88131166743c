"""Whom to serve (BEP 3)."""

from __future__ import annotations

import random
from collections import Counter

from wire.swarm.choker import NEWCOMER_S, OPTIMISTIC_S, RECHOKE_S, Choker, Contender


def contender(key: int, **changes: float | bool | None) -> Contender:
    return Contender(key, 0.0, 0.0, None, 0.0, -1000.0, False, 0.0)._replace(**changes)  # type: ignore[arg-type]


def test_all_are_served_while_there_is_room() -> None:
    choker = Choker(random.Random(1), 4)
    assert choker.choose([contender(key) for key in range(4)], 0.0, seeding=False) == {0, 1, 2, 3}
    assert [choker.free(served) for served in (0, 3, 4, 9)] == [4, 1, 0, 0]


def test_who_gives_most_is_served() -> None:
    choker = Choker(random.Random(1), 4)
    peers = [contender(key, gives=float(key)) for key in range(10)]
    chosen = choker.choose(peers, 0.0, seeding=False)
    assert {9, 8, 7} < chosen
    assert len(chosen) == 4


def test_who_owes_us_blocks_is_served_last() -> None:
    choker = Choker(random.Random(1), 2)
    peers = [contender(1, gives=9.0, snubs=True), contender(2), contender(3, gives=1.0)]
    assert 3 in choker.choose(peers, 0.0, seeding=False)


def test_the_chance_goes_round_and_stays_for_thirty_seconds() -> None:
    choker = Choker(random.Random(1), 2)
    peers = [contender(0, gives=5.0), *(contender(key) for key in range(1, 8))]
    lucky = [
        (choker.choose(peers, now, seeding=False) - {0}).pop()
        for now in range(0, int(OPTIMISTIC_S * 40), int(RECHOKE_S))
    ]
    assert all(len(set(lucky[at : at + 3])) == 1 for at in range(0, len(lucky), 3))
    assert len(set(lucky)) == 7


def test_newcomers_have_three_chances() -> None:
    counts: Counter[int] = Counter()
    for seed in range(400):
        peers = [contender(0, gives=5.0), contender(1), contender(2, joined_at=NEWCOMER_S / 2)]
        counts.update(Choker(random.Random(seed), 2).choose(peers, NEWCOMER_S, seeding=False) - {0})
    assert 2.0 < counts[2] / counts[1] < 4.5


def test_a_seed_serves_everybody_in_turn() -> None:
    choker = Choker(random.Random(1), 3)
    since: dict[int, float | None] = dict.fromkeys(range(9))
    choked_at = dict.fromkeys(range(9), 0.0)
    served: Counter[int] = Counter()
    now = 0.0
    for _ in range(90):
        peers = [
            contender(key, takes=float(key), unchoked_at=since[key], waits_since=choked_at[key]) for key in range(9)
        ]
        chosen = choker.choose(peers, now, seeding=True)
        assert len(chosen) == 3
        for key in range(9):
            if key not in chosen and since[key] is not None:
                since[key], choked_at[key] = None, now
            elif key in chosen and since[key] is None:
                since[key] = now
        served.update(chosen)
        now += RECHOKE_S
    assert min(served.values()) > 0.3 * max(served.values())
