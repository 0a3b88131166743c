"""When a torrent is given up: quiet for too long, or over its deadline; and what counts as news."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from magnet.config import Config
from magnet.patience import Patience
from wire.compact import Endpoint
from wire.ids import InfoHash
from wire.swarm.rules import Swarm
from wire.swarm.values import SwarmStats

NOTHING = Swarm(InfoHash(v1=bytes(20)), peer_id=bytes(20), rng=random.Random(1), now=0.0).stats()
ONE, TWO = Endpoint("80.0.0.1", 1), Endpoint("80.0.0.2", 1)


def quiet(patience: Patience, stats: SwarmStats, until: float, now: float = 0.0) -> bool:
    """Asks as often as it wants to be asked; whether it was over by then."""
    while now < until:
        if patience.is_over(stats, now):
            return True
        assert now < patience.look_at <= now + 1.0
        now = patience.look_at
    return False


def test_it_is_over_after_as_long_as_nothing_new_came():
    patience, stats = Patience(Config(patience_s=10.5), 0.0), NOTHING
    assert not quiet(patience, stats, 10.5)
    assert patience.look_at == 10.5
    assert patience.is_over(stats, 10.5)


@pytest.mark.parametrize("news", [{"downloaded_bytes": 1}, {"pieces_done": 1}, {"layer_hashes": 1}])
def test_what_is_of_use_is_news(news):
    patience, stats = Patience(Config(patience_s=10), 0.0), NOTHING
    assert not quiet(patience, stats, 9.0)
    stats = replace(stats, **news)
    assert not quiet(patience, stats, 18.0, now=9.0)
    assert patience.news_at == 9.0
    assert quiet(patience, stats, 30.0, now=18.0)


def test_what_was_wasted_and_who_comes_back_are_none():
    patience, stats = Patience(Config(patience_s=10), 0.0), NOTHING
    patience.named(ONE)
    assert not patience.is_over(replace(stats, connected=1), 0.0)
    stats = replace(stats, connected=7, downloaded_bytes=500, wasted_bytes=500)
    patience.named(ONE)
    assert not quiet(patience, stats, 10.0)
    assert patience.news_at == 0.0
    patience.named(TWO)
    assert not patience.is_over(stats, 9.5)
    assert patience.news_at == 9.5


def test_the_deadline_holds_whatever_comes():
    patience = Patience(Config(patience_s=0, deadline_s=3.0), 1.0)
    assert not patience.is_over(NOTHING, 3.9)
    assert patience.is_over(replace(NOTHING, pieces_done=5), 4.0)


def test_without_either_it_waits_for_ever():
    patience = Patience(Config(patience_s=0), 0.0)
    assert not patience.is_over(NOTHING, 1e9)
