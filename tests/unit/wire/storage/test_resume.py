from __future__ import annotations

import random

import pytest

from tests.strategies import torrent_of
from wire.bitfield import Bitfield
from wire.storage.resume import PARTS, Remembered, Stamp, begun_record, pieces_record, replay, snapshot

MADE = torrent_of([40, 0, 25], 16)
OTHER = torrent_of([40, 0, 25], 16, seed=1)
STAMP = Stamp(40, 1_700_000_000_123_456_789, -5)


def one(index: int, stamps: list[tuple[int, Stamp]]) -> bytes:
    return pieces_record(range(index, index + 1), stamps)


def remembered(*pieces: int, clean: bool = True) -> Remembered:
    return Remembered(
        root="/down/löads",
        boot="a-boot",
        clean=clean,
        have=Bitfield.of(MADE.info.piece_count, pieces),
        wanted=Bitfield.of(3, [0, 1]),
        stamps={0: STAMP, PARTS: Stamp(7, 8, 9)},
        begun=Bitfield(MADE.info.piece_count),
    )


@pytest.mark.parametrize("clean", [True, False])
def test_a_snapshot_comes_back(clean: bool) -> None:
    before = remembered(0, 2, clean=clean)
    assert replay(snapshot(MADE.info, before), MADE.info) == before


def test_the_journal_adds_pieces_and_renews_stamps() -> None:
    later, latest = Stamp(41, 2, 3), Stamp(42, 4, 5)
    data = snapshot(MADE.info, remembered(0))
    data += one(3, [(0, later), (2, later)]) + one(1, [(0, latest)]) + one(4, [])
    back = replay(data, MADE.info)
    assert back is not None
    assert list(back.have.indices()) == [0, 1, 3, 4]
    assert back.stamps == {0: latest, 2: later, PARTS: Stamp(7, 8, 9)}
    assert not back.clean, "a journal means that the run did not end in order"


def test_what_was_begun_and_not_ended_is_neither_believed_nor_forgotten() -> None:
    data = snapshot(MADE.info, remembered(0, 2))
    data += begun_record(range(1, 4)) + pieces_record(range(1, 3), [(0, STAMP)])
    back = replay(data, MADE.info)
    assert back is not None
    assert list(back.have.indices()) == [0, 1, 2]
    assert list(back.begun.indices()) == [3]
    assert not back.clean
    back = replay(data + begun_record(range(2)), MADE.info)
    assert back is not None
    assert (list(back.have.indices()), list(back.begun.indices())) == ([2], [0, 1, 3])
    back = replay(data + begun_record(range(4, MADE.info.piece_count + 1)), MADE.info)
    assert back is not None
    assert list(back.begun.indices()) == [3]


def test_another_torrents_memory_is_none() -> None:
    assert replay(snapshot(MADE.info, remembered(0)), OTHER.info) is None


def test_torn_at_any_byte_only_what_is_whole_counts() -> None:
    head = snapshot(MADE.info, remembered(0))
    records = [one(1, [(0, STAMP)]), one(2, [(0, STAMP), (2, STAMP)])]
    data = head + b"".join(records)
    for cut in range(len(data)):
        back = replay(data[:cut], MADE.info)
        if cut < len(head):
            assert back is None
        else:
            assert back is not None
            assert back.have.count == 1 + (cut >= len(head + records[0]))


def test_flipped_bits_never_add_a_piece() -> None:
    data = snapshot(MADE.info, remembered(0)) + one(1, [(0, STAMP)]) + one(2, [(2, STAMP)])
    truth = {0, 1, 2}
    chance = random.Random(1)
    for _ in range(1000):
        broken = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 8])):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        back = replay(bytes(broken), MADE.info)
        assert back is None or truth.issuperset(back.have.indices())


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 100, b"kademlia-bt resume 1\n", b"d4:infodee"])
def test_what_is_no_memory(data: bytes) -> None:
    assert replay(data, MADE.info) is None


def test_records_that_lie_with_a_right_checksum() -> None:
    head = snapshot(MADE.info, remembered(0))
    back = replay(head + one(MADE.info.piece_count, [(0, STAMP)]), MADE.info)
    assert back is not None
    assert list(back.have.indices()) == [0]
    back = replay(head + head[len(b"kademlia-bt resume 1\n") :], MADE.info)
    assert back == remembered(0)
