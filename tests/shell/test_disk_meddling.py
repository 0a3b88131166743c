"""Somebody else edits, cuts, removes or replaces a torrent's files while we download or share them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from magnet import Config, DownloadError, Session, Verdict
from tests.reading import read_blocks
from tests.shell.kit import make_torrent
from tests.strategies import torrent_of
from wire.compact import Endpoint
from wire.errors import DiskError
from wire.storage import DiskStore, watch
from wire.storage.check import Checker

MADE = torrent_of([100, 60], 16)
FILE = Path("top", "file0")
CONFIG = Config(listen=(Endpoint("127.0.0.1", 0),), bootstrap=(), lsd=False, use_trackers=False, state_dir=None)


def edited(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(20))


def edited_with_its_time_kept(path: Path) -> None:
    before = path.stat()
    edited(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, 20)


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    path.with_name("new").write_bytes(bytes(100))
    path.with_name("new").replace(path)


def moved(path: Path) -> None:
    path.rename(path.parent.parent.parent / "elsewhere")


def its_folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.parent.parent / "elsewhere")


MEDDLING: list[Callable[[Path], None]] = [
    edited, edited_with_its_time_kept, cut, removed, replaced, moved, its_folder_moved,
]  # fmt: skip


def a_moment_later() -> None:
    """A file's time is that of the last tick of the clock: what follows within the same one cannot be told apart."""
    time.sleep(0.02)


async def put(store: DiskStore, *pieces: int) -> list[int]:
    assert await store.put_many([(index, memoryview(MADE.piece(index))) for index in pieces]) == [True] * len(pieces)
    changed = await store.lost()
    return [] if changed is None else changed.pieces


def files(root: Path) -> list[bytes]:
    return [root.joinpath(*entry.path).read_bytes() for entry in MADE.info.files]


@pytest.mark.parametrize("preallocate", [False, True])
@pytest.mark.parametrize("meddle", MEDDLING)
async def test_while_it_is_written_what_is_lost_is_told_and_not_believed_after_a_kill(
    tmp_path: Path, meddle: Callable[[Path], None], preallocate: bool
) -> None:
    root, resume = tmp_path / "out" / "d", tmp_path / "x.resume"
    store = DiskStore(MADE.info, root, resume=resume, preallocate=preallocate)
    await store.load()
    assert await put(store, 0, 1, 2, 8) == []
    a_moment_later()
    meddle(root / FILE)
    lost = await put(store, 4)
    assert set(lost) == (
        {0, 1} if meddle in (edited, edited_with_its_time_kept) else {1, 2} if meddle is cut else {0, 1, 2}
    )
    assert await store.lost() is None, "told once"
    del store  # killed
    store = DiskStore(MADE.info, root, resume=resume)
    have = set((await store.load()).indices())
    assert have == {0, 1, 2, 4, 8} - set(lost) - ({8} if meddle is its_folder_moved else set())
    assert await put(store, *(set(range(10)) - have)) == []
    await store.aclose()
    assert files(root) == [MADE.file(0), MADE.file(1)]


@pytest.mark.parametrize("meddle", MEDDLING)
async def test_a_file_that_was_done_already_is_looked_at_when_the_last_piece_comes(
    tmp_path: Path, meddle: Callable[[Path], None]
) -> None:
    root = tmp_path / "out" / "d"
    store = DiskStore(MADE.info, root, resume=tmp_path / "x.resume")
    await store.load()
    assert await put(store, *range(7)) == []
    a_moment_later()
    meddle(root / FILE)
    lost = await put(store, 7, 8, 9)
    assert lost
    assert await put(store, *lost) == []
    await store.aclose()
    assert files(root) == [MADE.file(0), MADE.file(1)]


@pytest.mark.skipif(not hasattr(os, "pwritev"), reason="writes are cut in two by it")
async def test_a_cut_in_the_moment_of_a_write_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = torrent_of([1 << 20], 1 << 14)
    store = DiskStore(made.info, tmp_path / "d", resume=tmp_path / "x.resume")
    await store.load()
    assert await store.put_many([(index, memoryview(made.piece(index))) for index in range(30)]) == [True] * 30
    assert await store.lost() is None
    pwritev = os.pwritev

    def cut_then_write(fd: int, views: Sequence[memoryview], offset: int) -> int:
        os.ftruncate(fd, 20_000)
        return pwritev(fd, views, offset)

    monkeypatch.setattr(os, "pwritev", cut_then_write)
    last = [(index, memoryview(made.piece(index))) for index in range(60, 64)]
    assert await store.put_many(last) == [True] * 4
    monkeypatch.undo()
    changed = await store.lost()
    assert changed is not None
    assert changed.pieces == list(range(1, 30))
    await store.aclose()


async def test_nobody_is_told_that_all_is_well_while_it_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, resume = tmp_path / "out" / "d", tmp_path / "x.resume"
    store = DiskStore(MADE.info, root, resume=resume)
    await store.load()
    assert await put(store, *range(10)) == []
    a_moment_later()
    edited(root / FILE)
    hashing, go_on = trio.Event(), threading.Event()
    is_right = Checker.is_right

    def waits(self: Checker, index: int, buffer: memoryview) -> bool:
        trio.from_thread.run_sync(hashing.set)
        go_on.wait(30)
        return is_right(self, index, buffer)

    monkeypatch.setattr(Checker, "is_right", waits)
    told: list[object] = []

    async def ask() -> None:
        told.append(await store.lost())

    await read_blocks(store, [(0, 0, 16)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await hashing.wait()
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert told == []
        go_on.set()
    assert [None if changed is None else changed.pieces for changed in told] == [[0, 1], None]
    assert await put(store, 0, 1) == []
    a_moment_later()
    edited(root / FILE)
    await read_blocks(store, [(0, 0, 16)])
    hashing = trio.Event()
    go_on.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await hashing.wait()
        nursery.cancel_scope.cancel()
        go_on.set()
    assert len(told) == 2
    await store.aclose()
    monkeypatch.undo()
    assert set((await DiskStore(MADE.info, root, resume=resume, read_only=True).load()).indices()) == set(range(2, 10))


async def test_a_link_in_its_place_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    store = DiskStore(MADE.info, tmp_path / "d", resume=tmp_path / "x.resume")
    await store.load()
    await put(store, 0, 1)
    (tmp_path / "d" / FILE).unlink()
    (tmp_path / "d" / FILE).symlink_to(precious)
    with pytest.raises(DiskError, match="symbolic link"):
        await store.put(2, MADE.piece(2))
    changed = await store.lost()
    assert changed is not None
    assert changed.pieces == [0, 1]
    assert precious.read_bytes() == b"mine"
    await store.aclose()


async def test_what_only_looks_changed_is_hashed_and_in_the_end_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on network disks, whose times come from elsewhere."""
    store = DiskStore(MADE.info, tmp_path / "d", resume=tmp_path / "x.resume")
    await store.load()
    await put(store, 0)
    looks = []
    is_as_left = watch.Watch._is_as_left
    monkeypatch.setattr(watch.Watch, "_is_as_left", lambda self, key: looks.append(is_as_left(self, key)) or looks[-1])
    for index in range(1, 6):
        os.utime(tmp_path / "d" / FILE, ns=(index, index))
        assert await put(store, index) == []
    assert looks[:5] == [False] * watch.MAX_VAIN + [True] * (5 - watch.MAX_VAIN)
    cut(tmp_path / "d" / FILE)
    assert await put(store, 8) == []
    assert await put(store, 2) == [1, 3, 4, 5], "its size is minded all the same"
    await store.aclose()


@pytest.mark.parametrize("meddle", [edited, removed, replaced])
async def test_a_shared_file_that_was_changed_ends_it_with_its_name(
    tmp_path: Path, meddle: Callable[[Path], None]
) -> None:
    torrent, data = make_torrent("f", {"f": 2 << 20})
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "f").write_bytes(data)
    async with Session(CONFIG) as seeder, Session(CONFIG) as session:
        seeding = await seeder.add(torrent, directory=tmp_path / "seeds", seed=True)
        await seeding.finished()
        a_moment_later()
        meddle(tmp_path / "seeds" / "f")
        handle = await session.add(torrent, directory=tmp_path / "out")
        handle.runner.found([seeder.endpoints[0]], "peer")
        with pytest.raises(DownloadError, match="seeds/f was changed by somebody else") as caught, trio.fail_after(60):
            await seeding.gone()
        assert caught.value.verdict is Verdict.DISK
        assert handle.status().counts.banned == 0, "nothing wrong was handed out"


async def test_a_download_mends_what_somebody_else_spoilt(tmp_path: Path) -> None:
    torrent, data = make_torrent("g", {"g": 2 << 20})
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "g").write_bytes(data)
    async with Session(CONFIG) as seeder, Session(CONFIG) as session:
        await (await seeder.add(torrent, directory=tmp_path / "seeds", seed=True)).finished()
        handle = await session.add(torrent, directory=tmp_path / "out")
        handle.set_limits(down_limit=1 << 18)
        handle.runner.found([seeder.endpoints[0]], "peer")
        with trio.fail_after(60):
            while not handle.status().done:
                await trio.sleep(0.01)
            (tmp_path / "out" / "g").unlink()
            handle.set_limits(down_limit=0)
            await handle.finished()
    assert (tmp_path / "out" / "g").read_bytes() == data


async def test_what_is_read_while_it_comes_is_never_what_somebody_else_put_there(tmp_path: Path) -> None:
    torrent, data = make_torrent("h", {"h": 2 << 20})
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "h").write_bytes(data)
    async with Session(CONFIG) as seeder, Session(CONFIG) as session:
        await (await seeder.add(torrent, directory=tmp_path / "seeds", seed=True)).finished()
        handle = await session.add(torrent, directory=tmp_path / "out")
        handle.set_limits(down_limit=1 << 18)
        handle.runner.found([seeder.endpoints[0]], "peer")
        streams = await handle.streams()
        with trio.fail_after(30):
            with streams.reader(streams.files[0], 0) as reader:
                assert await reader.read(1000) == data[:1000]
            a_moment_later()
            edited(tmp_path / "out" / "h")
            # Pieces come on: one that is written may see it first, and then the reader waits, or is told so.
            with streams.reader(streams.files[0], 0) as reader:
                try:
                    got = await reader.read(1000)
                except DiskError as error:
                    told = str(error)
                else:
                    told = ""
                    assert got == data[:1000], "it was seen"
            assert told == "" or "changed by somebody else" in told or "not right any more" in told
            with streams.reader(streams.files[0], 0) as reader:
                assert await reader.read(1000) == data[:1000], "it was fetched again"
            handle.set_limits(down_limit=0)
            await handle.finished()
    assert (tmp_path / "out" / "h").read_bytes() == data
