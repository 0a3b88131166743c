"""In which order files come: some before the others, in their order, told before and while they are fetched."""

from __future__ import annotations

import pytest
import trio

from magnet import DownloadError, Priority, Verdict
from magnet.order import piece_priorities
from magnet.torrent import TorrentHandle
from tests.shell.kit import PIECE, Store, World, a_world, link_of, make_torrent
from wire.errors import MisuseError

BOOK, BOOK_DATA = make_torrent(
    "book", {"big.bin": 60 * PIECE, "half": PIECE // 2, "last.nfo": 30 * PIECE, "other.bin": 40 * PIECE}
)
NFO = set(BOOK.info.layout.pieces_of(2))
SIDE_BY_SIDE = 3
"""Pieces that are under way at a time may come in any order."""


class NotingStore(Store):
    """Notes which pieces came after each other."""

    came: list[int]

    async def put(self, index: int, data: memoryview | bytearray | bytes) -> bool:
        self.came.append(index)
        return await super().put(index, data)


async def download(world: World, came: list[int], *, limit: int = 200_000, **how: object) -> TorrentHandle:
    NotingStore.came = came
    seeder = await world.seeder(BOOK, BOOK_DATA, dht=False)
    session = await world.session(dht=False, down_limit=limit)
    world.stores[session].make = NotingStore
    return await session.add(link_of(BOOK, seeder), **how)


async def test_some_files_come_before_the_others(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        handle = await download(world, came := [], first=["*.NFO"])
        await handle.finished()
        assert set(came[: len(NFO) + SIDE_BY_SIDE]) >= NFO
        assert sorted(came) == list(range(BOOK.info.piece_count))


async def test_pieces_come_in_their_order(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        handle = await download(world, came := [], limit=0, in_order=True)
        await handle.finished()
        assert all(abs(place - piece) <= SIDE_BY_SIDE for place, piece in enumerate(came)), came


async def test_it_can_be_said_meanwhile(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        handle = await download(world, came := [])
        handle.set_priority(["big.bin"], Priority.LOW)  # before anybody knows which files there are
        await handle.metadata()
        await trio.sleep(1.0)
        begun = len(came)
        assert 0 < begun < 30
        handle.set_priority(["last.nfo"], Priority.HIGH)
        handle.set_priority(["other.bin"], Priority.NORMAL)
        await handle.finished()
        # What was asked for by then, half a second's worth, comes in between.
        assert set(came[: begun + len(NFO) + 15]) >= NFO, came
        assert max(came[-40:]) < 60, came


async def test_a_pattern_that_picks_nothing_is_bad_input(autojump_clock: object) -> None:
    async with a_world(dht_nodes=0) as world:
        handle = await download(world, [], first=["*.txt"])
        with pytest.raises(DownloadError, match=r"no file of 'book' matches \*\.txt") as caught:
            await handle.finished()
        assert caught.value.verdict is Verdict.BAD_INPUT
    async with a_world(dht_nodes=0) as world:
        handle = await download(world, [])
        with pytest.raises(MisuseError, match="when a torrent is added"):
            handle.set_priority(["*"], Priority.SKIP)
        await handle.finished()
        with pytest.raises(MisuseError, match="matches"):
            handle.set_priority(["*.txt"], Priority.HIGH)


def test_of_a_piece_that_files_share_the_highest_priority_counts() -> None:
    levels = [Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.SKIP]
    pieces = piece_priorities(BOOK.info, levels)
    assert pieces[59] is Priority.LOW
    assert pieces[60] is Priority.HIGH  # `half`, and the begin of `last.nfo`
    assert pieces[90] is Priority.HIGH  # its end, and the begin of `other.bin`, which is not wanted
    assert 91 not in pieces
