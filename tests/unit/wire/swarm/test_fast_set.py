"""The allowed-fast set (BEP 6)."""

from __future__ import annotations

import pytest

from wire.swarm.fast_set import allowed_fast

AA = b"\xaa" * 20


def test_the_sets_that_the_bep_gives() -> None:
    seven = [1059, 431, 808, 1217, 287, 376, 1188]
    assert allowed_fast("80.4.4.200", AA, 1313, 7) == seven
    assert allowed_fast("80.4.4.200", AA, 1313, 9) == [*seven, 353, 508]


def test_neighbours_share_a_set() -> None:
    assert allowed_fast("80.4.4.1", AA, 1313) == allowed_fast("80.4.4.200", AA, 1313)
    assert len(set(allowed_fast("80.4.4.1", AA, 1313))) == 10


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_small_torrent_has_no_more_than_its_pieces(pieces: int) -> None:
    assert sorted(allowed_fast("80.4.4.200", AA, pieces)) == list(range(pieces))


def test_nothing_is_said_of_ipv6() -> None:
    assert allowed_fast("2001:db8::1", AA, 100) == []
