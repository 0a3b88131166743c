"""Snapshots, and the line that says what is being waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from magnet.status import TorrentStatus, waiting_line
from magnet.verdict import Counts, Phase
from wire.ids import InfoHash

BASE = TorrentStatus(InfoHash(v1=bytes(20)), Phase.METADATA)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (BASE, "joining the DHT: no node's address is known yet"),
        (replace(BASE, counts=Counts(routers_tried=1)), "joining the DHT: 1 router and 0 nodes asked, no answer yet"),
        (replace(BASE, counts=Counts(nodes_asked=9, nodes_answered=1)), "searching the DHT: 1 of 9 nodes"),
        (replace(BASE, counts=Counts(dht=False)), "the DHT is off"),
        (
            replace(BASE, counts=Counts(found={"dht": 5}, dialled=4, refused=2, timed_out=1)),
            "5 found, 4 dialled, 3 failed",
        ),
        (replace(BASE, peers=2, counts=Counts(without_metadata=1)), "metadata: 2 peers connected, 1 without it"),
        (replace(BASE, phase=Phase.CHECKING, checked=0.5), "50%"),
        (replace(BASE, phase=Phase.DOWNLOADING, peers=1, seeds=1), "1 peer connected (1 seed), waiting for data"),
        (replace(BASE, phase=Phase.DOWNLOADING, counts=Counts(nodes_answered=3, nodes_asked=3)), "searching the DHT"),
        (replace(BASE, phase=Phase.SEEDING), "seeding: 0 peers"),
        (replace(BASE, phase=Phase.FAILED, reason="why"), "why"),
    ],
)
def test_it_says_what_it_waits_for(status: TorrentStatus, says: str) -> None:
    assert says in waiting_line(status)
    assert "\n" not in waiting_line(status)


def test_progress_and_the_time_left() -> None:
    assert BASE.progress == 0.0
    assert BASE.eta_s is None
    half = replace(BASE, size=1000, done=500, down_rate=100.0)
    assert half.progress == 0.5
    assert half.eta_s == 5.0
    assert replace(half, down_rate=0.0).eta_s is None
    assert replace(BASE, size=0).progress == 1.0, "a torrent of empty files is done at once"
