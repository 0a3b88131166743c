"""Resume files that are cut or damaged at any place: less is believed, never more, and nothing is raised."""

from __future__ import annotations

import random

from tests.strategies import torrent_of
from wire.bitfield import Bitfield
from wire.metainfo import Info
from wire.storage.resume import PARTS, Remembered, Stamp, begun_record, pieces_record, replay, snapshot

MADE = torrent_of([200, 100, 300], 16)
OTHER = torrent_of([200, 100, 300], 16, seed=1)
STAMP = Stamp(7, 1_700_000_000_000_000_000, 1_700_000_000_000_000_001)


def one(index: int, stamps: list[tuple[int, Stamp]]) -> bytes:
    return pieces_record(range(index, index + 1), stamps)


def a_file(info: Info) -> tuple[bytes, set[int], int]:
    """A resume file, the pieces in it, and where its journal begins."""
    pieces = [0, 3, 9]
    remembered = Remembered(
        root="/downloads", boot="b", clean=True, have=Bitfield.of(info.piece_count, pieces),
        wanted=Bitfield.of(len(info.files), [0, 2]), stamps={0: STAMP, PARTS: STAMP},
        begun=Bitfield(info.piece_count),
    )  # fmt: skip
    data = snapshot(info, remembered)
    journal = b"".join(one(index, [(0, STAMP), (PARTS, STAMP)]) for index in (4, 5, 20))
    journal += begun_record(range(11, 16)) + pieces_record(range(11, 15), [(0, STAMP)]) + one(7, [(0, STAMP)])
    return data + journal, {*pieces, 4, 5, 20, *range(11, 15), 7}, len(data)


def believed(data: bytes) -> set[int] | None:
    remembered = replay(data, MADE.info)
    return None if remembered is None else set(remembered.have.indices())


def test_whole_it_says_all() -> None:
    data, pieces, _ = a_file(MADE.info)
    assert believed(data) == pieces


def test_cut_at_any_byte() -> None:
    data, pieces, journal = a_file(MADE.info)
    for at in range(len(data)):
        found = believed(data[:at])
        if at < journal:
            assert found is None
        else:
            assert found is not None
            assert {0, 3, 9} <= found <= pieces


def test_any_bit_flipped() -> None:
    data, pieces, journal = a_file(MADE.info)
    for at in range(len(data)):
        for bit in range(8):
            found = believed(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            assert found is None if at < journal else found is not None
            assert found is None or found < pieces


def test_a_thousand_ways_to_damage_it() -> None:
    rng = random.Random(7)
    data, pieces, _ = a_file(MADE.info)
    for _ in range(1000):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            at, length = rng.randrange(len(damaged)), rng.randrange(1, 40)
            damaged[at : at + length] = rng.choice([b"", rng.randbytes(length), bytes(length), data[at : at + 9]])
        found = believed(bytes(damaged))
        assert found is None or found <= pieces


def test_a_file_of_another_torrent_says_nothing() -> None:
    assert believed(a_file(OTHER.info)[0]) is None


def test_records_that_name_what_is_not_there_end_the_journal() -> None:
    data, pieces, _ = a_file(MADE.info)
    assert believed(data + one(MADE.info.piece_count, []) + one(1, [])) == pieces
    count = MADE.info.piece_count
    assert believed(data + pieces_record(range(count - 2, count + 1), []) + one(1, [])) == pieces
    assert believed(data + pieces_record(range(count - 2, count), []) + one(1, [])) == {
        *pieces,
        count - 2,
        count - 1,
        1,
    }
