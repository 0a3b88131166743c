from __future__ import annotations

import pytest

from tests.reading import read_blocks
from tests.strategies import torrent_of
from wire.bitfield import Bitfield
from wire.errors import MisuseError
from wire.storage import MemoryStore, whole_files

MADE = torrent_of([40, 0, 8, 25], 16, pads=[2])


async def test_pieces_in_and_out() -> None:
    store = MemoryStore(MADE.info)
    assert (await store.load()).count == 0
    assert await store.put(1, memoryview(MADE.piece(1)))
    assert not await store.put(0, MADE.piece(1))
    assert not await store.put(0, MADE.piece(0)[:-1])
    assert await store.put(4, bytearray(MADE.piece(4)))
    assert await read_blocks(store, [(1, 3, 5), (4, 0, 9), (1, 16, 0)]) == [MADE.piece(1)[3:8], MADE.piece(4), b""]
    assert list((await store.load()).indices()) == [1, 4]
    for request in ((0, 0, 1), (1, 0, 17), (1, -1, 2), (5, 0, 1), (-1, 0, 1), (4, 0, 10)):
        with pytest.raises(MisuseError):
            await read_blocks(store, [request])
    await store.aclose()
    await store.aclose()


async def test_given_data_is_checked_first() -> None:
    data = bytearray(MADE.data)
    data[20] ^= 1
    seen: list[tuple[int, int]] = []
    have = await MemoryStore(MADE.info, bytes(data)).load(lambda done, total: seen.append((done, total)))
    assert list(have.indices()) == [0, 2, 3, 4]
    assert seen[-1] == (73, 73)
    have.clear(0)  # it is the caller's
    with pytest.raises(MisuseError):
        MemoryStore(MADE.info, MADE.data + b"x")


def test_which_files_are_whole() -> None:
    assert whole_files(MADE.info, Bitfield.full(5)) == (True,) * 4
    assert whole_files(MADE.info, Bitfield.of(5, [0, 1, 2])) == (True, True, True, False)
    assert whole_files(MADE.info, Bitfield(5)) == (False, True, False, False)
