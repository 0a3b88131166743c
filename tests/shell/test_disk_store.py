"""The store on disk: every promise that a user or an attacker would test, on real files."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.reading import read_blocks
from tests.strategies import MadeTorrent, torrent_of
from wire.bencode import encode
from wire.bitfield import Bitfield
from wire.errors import DiskError, MisuseError
from wire.metainfo import Info
from wire.metainfo.create import create
from wire.storage import DiskStore, MemoryStore, pool, raw
from wire.storage.check import Checker

MADE = torrent_of([40, 0, 8, 25, 30], 16, pads=[2])
FILES = [index for index, entry in enumerate(MADE.info.files) if entry.on_disk]


def place(root: Path, made: MadeTorrent = MADE, skip: tuple[int, ...] = ()) -> None:
    """Puts the torrent's files where they belong."""
    for index, entry in enumerate(made.info.files):
        if entry.on_disk and index not in skip:
            path = root.joinpath(*entry.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made.file(index))


def assert_placed(root: Path, made: MadeTorrent = MADE) -> None:
    found = {path.relative_to(root).parts for path in root.rglob("*") if path.is_file()}
    assert found == {entry.path for entry in made.info.files if entry.on_disk}
    for index, entry in enumerate(made.info.files):
        if entry.on_disk:
            assert root.joinpath(*entry.path).read_bytes() == made.file(index)


async def fill(store: DiskStore, pieces: list[int] | None = None, made: MadeTorrent = MADE) -> None:
    for index in range(made.info.piece_count) if pieces is None else pieces:
        assert await store.put(index, made.piece(index))


async def loaded(store: DiskStore) -> list[int]:
    try:
        return list((await store.load()).indices())
    finally:
        await store.aclose()


ALL = list(range(MADE.info.piece_count))


async def test_a_whole_download(tmp_path: Path) -> None:
    root = tmp_path / "new" / "downloads"
    store = DiskStore(MADE.info, root, resume=tmp_path / "state" / "x.resume")
    assert (await store.load()).count == 0
    assert not await store.put(0, MADE.piece(1))
    assert not await store.put(0, MADE.piece(0) + b"x")
    assert not (root / "top" / "file0").exists(), "what is wrong is not written"
    await fill(store, ALL[::-1])
    assert await read_blocks(store, [(0, 0, 16), (2, 7, 9), (3, 15, 1)]) == [
        MADE.piece(0),
        MADE.piece(2)[7:],
        MADE.piece(3)[15:],
    ]
    for request in ((9, 0, 1), (0, 0, 17), (0, 16, 1), (0, -1, 1)):
        with pytest.raises(MisuseError):
            await read_blocks(store, [request])
    await store.aclose()
    await store.aclose()
    assert_placed(root)
    with pytest.raises(MisuseError):
        await store.put(0, MADE.piece(0))


async def test_behind_a_v2_file_lie_zeros_to_the_end_of_its_block(tmp_path: Path) -> None:
    folder = tmp_path / "top"
    folder.mkdir()
    (folder / "a").write_bytes(b"a" * 20000)
    (folder / "b").write_bytes(b"b" * 5)
    info = create(folder, version="2", piece_length=32768).info
    disk = DiskStore(info, tmp_path)
    await disk.load()
    memory = MemoryStore(info)
    await memory.load()
    for index, data in ((0, b"a" * 20000), (1, b"b" * 5)):
        assert await memory.put(index, data)
    for store in (disk, memory):
        assert await read_blocks(store, [(0, 16384, 16384), (1, 0, 16384), (1, 4, 1)]) == [
            (b"a" * 3616).ljust(16384, b"\0"),
            b"bbbbb".ljust(16384, b"\0"),
            b"b",
        ]
        with pytest.raises(MisuseError):
            await read_blocks(store, [(1, 5, 1)])
        await store.aclose()


async def test_what_is_not_had_is_not_read(tmp_path: Path) -> None:
    place(tmp_path)
    store = DiskStore(MADE.info, tmp_path)
    with pytest.raises(MisuseError):
        await read_blocks(store, [(0, 0, 1)])
    await store.load()
    assert await read_blocks(store, [(0, 0, 1)]) == [MADE.piece(0)[:1]]
    await store.aclose()


async def test_without_memory_all_that_is_there_is_checked(tmp_path: Path) -> None:
    place(tmp_path, skip=(4,))
    path = tmp_path.joinpath(*MADE.info.files[0].path)
    path.write_bytes(b"?" + MADE.file(0)[1:])
    assert await loaded(DiskStore(MADE.info, tmp_path)) == [1, 2, 3]


async def test_progress_reaches_its_end(tmp_path: Path) -> None:
    place(tmp_path)
    seen: list[tuple[int, int]] = []
    store = DiskStore(MADE.info, tmp_path)
    await store.load(lambda done, total: seen.append((done, total)))
    await store.aclose()
    assert seen
    assert seen[-1][0] == seen[-1][1]


async def test_memory_spares_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, resume = tmp_path / "d", tmp_path / "s" / "x.resume"
    store = DiskStore(MADE.info, root, resume=resume)
    await store.load()
    await fill(store, [0, 1, 5])
    await store.aclose()
    looked_at: list[int] = []
    original = Checker.is_right
    monkeypatch.setattr(Checker, "is_right", lambda self, index, b: looked_at.append(index) or original(self, index, b))
    assert await loaded(DiskStore(MADE.info, root, resume=resume)) == [0, 1, 5]
    assert looked_at == []
    # a file that was touched is checked again, and only its pieces
    entry = MADE.info.files[4]
    root.joinpath(*entry.path).touch()
    assert await loaded(DiskStore(MADE.info, root, resume=resume)) == [0, 1, 5]
    assert looked_at == list(MADE.info.layout.pieces_of(4))


@pytest.mark.parametrize("keep_times", [False, True])
async def test_a_file_edited_meanwhile_is_not_believed(tmp_path: Path, keep_times: bool) -> None:
    root, resume = tmp_path / "d", tmp_path / "x.resume"
    store = DiskStore(MADE.info, root, resume=resume)
    await store.load()
    await fill(store)
    await store.aclose()
    path = root.joinpath(*MADE.info.files[0].path)
    before = path.stat()
    path.write_bytes(MADE.file(0)[:-1] + b"?")
    if keep_times:  # as one who hides it would
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await loaded(DiskStore(MADE.info, root, resume=resume)) == [0, 1, 3, 4, 5, 6]


async def test_files_gone_cut_or_grown(tmp_path: Path) -> None:
    root, resume = tmp_path / "d", tmp_path / "x.resume"
    for change, left in (("gone", [3, 4, 5, 6]), ("cut", [0, 3, 4, 5, 6]), ("grown", [0, 1, 3, 4, 5, 6])):
        store = DiskStore(MADE.info, root, resume=resume)
        await store.load()
        await fill(store)
        await store.aclose()
        path = root.joinpath(*MADE.info.files[0].path)
        if change == "gone":
            path.unlink()
        elif change == "cut":
            os.truncate(path, 20)
        else:
            path.write_bytes(MADE.file(0) + b"more")
        store = DiskStore(MADE.info, root, resume=resume)
        assert list((await store.load()).indices()) == left
        await fill(store)
        await store.aclose()
        assert_placed(root)


async def test_memory_of_another_folder_or_a_damaged_one(tmp_path: Path) -> None:
    resume = tmp_path / "x.resume"
    store = DiskStore(MADE.info, tmp_path / "a", resume=resume)
    await store.load()
    await fill(store)
    await store.aclose()
    good = resume.read_bytes()
    assert await loaded(DiskStore(MADE.info, tmp_path / "b", resume=resume)) == []
    for damaged in (b"", good[:50], b"\0" * 500, good[:-1] + b"?"):
        resume.write_bytes(damaged)
        assert await loaded(DiskStore(MADE.info, tmp_path / "a", resume=resume)) == ALL


async def test_after_a_crash_of_the_machine_all_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, resume = tmp_path / "d", tmp_path / "x.resume"
    store = DiskStore(MADE.info, root, resume=resume)
    await store.load()
    await fill(store, [0, 1])
    looked_at: list[int] = []
    original = Checker.is_right
    monkeypatch.setattr(Checker, "is_right", lambda self, index, b: looked_at.append(index) or original(self, index, b))
    assert await loaded(DiskStore(MADE.info, root, resume=resume)) == [0, 1]  # never closed, as when killed
    assert looked_at == []
    boot = tmp_path / "boot"
    boot.write_text("another")
    monkeypatch.setattr("wire.storage.journal._BOOT_ID", boot)
    store = DiskStore(MADE.info, root, resume=resume)
    await store.load()  # closed in order before: believed across boots
    assert looked_at == []
    boot.write_text("yet another")
    assert await loaded(DiskStore(MADE.info, root, resume=resume)) == [0, 1]
    assert sorted(looked_at) == ALL


async def test_read_only_leaves_no_trace(tmp_path: Path) -> None:
    root = tmp_path / "d"
    store = DiskStore(MADE.info, root, resume=tmp_path / "s" / "x.resume", read_only=True)
    assert (await store.load()).count == 0
    with pytest.raises(MisuseError):
        await store.put(0, MADE.piece(0))
    await store.aclose()
    assert list(tmp_path.iterdir()) == []


# Files that are not wanted


async def test_only_wanted_files_are_made(tmp_path: Path) -> None:
    root, resume = tmp_path / "d", tmp_path / "s" / "x.resume"
    wanted = [False, True, False, True, False]
    needed = list(MADE.info.layout.pieces_of(3))
    store = DiskStore(MADE.info, root, resume=resume, wanted=wanted)
    await store.load()
    await fill(store, needed)
    blocks = await read_blocks(store, [(index, 0, 16) for index in needed])
    assert blocks == [MADE.piece(index) for index in needed]
    await store.aclose()
    made = {path.relative_to(root).parts for path in root.rglob("*") if path.is_file()}
    assert made == {MADE.info.files[1].path, MADE.info.files[3].path}
    # again, with and without what is remembered
    assert await loaded(DiskStore(MADE.info, root, resume=resume, wanted=wanted)) == needed
    resume.unlink()
    assert await loaded(DiskStore(MADE.info, root, resume=resume, wanted=wanted)) == needed
    # now all is wanted: what was kept of the other files goes where it belongs
    store = DiskStore(MADE.info, root, resume=resume)
    assert list((await store.load()).indices()) == needed
    assert await read_blocks(store, [(index, 0, 16) for index in needed]) == blocks
    await fill(store)
    await store.aclose()
    assert_placed(root)
    assert [path.name for path in resume.parent.iterdir()] == ["x.resume"], "the parts file is gone"


async def test_wanted_less_than_before(tmp_path: Path) -> None:
    root, resume = tmp_path / "d", tmp_path / "x.resume"
    store = DiskStore(MADE.info, root, resume=resume)
    await store.load()
    await fill(store, [0, 1, 2])
    await store.aclose()
    wanted = [False, False, False, True, True]
    store = DiskStore(MADE.info, root, resume=resume, wanted=wanted)
    assert list((await store.load()).indices()) == [0, 1, 2]
    assert await read_blocks(store, [(0, 0, 16), (2, 0, 16)]) == [MADE.piece(0), MADE.piece(2)]
    await fill(store, [3, 4])
    await store.aclose()


async def test_without_memory_parts_lie_hidden_beside_the_files(tmp_path: Path) -> None:
    wanted = [True, True, True, False, False]
    store = DiskStore(MADE.info, tmp_path, wanted=wanted)
    await store.load()
    await fill(store, [0, 1, 2, 3])
    await store.aclose()
    assert (tmp_path / f".{MADE.info.info_hash}.parts").exists()
    assert await loaded(DiskStore(MADE.info, tmp_path, wanted=wanted)) == [0, 1, 2, 3]
    os.truncate(tmp_path / f".{MADE.info.info_hash}.parts", 20)
    assert 3 not in await loaded(DiskStore(MADE.info, tmp_path, wanted=wanted))


def test_a_mask_of_the_wrong_length(tmp_path: Path) -> None:
    with pytest.raises(MisuseError):
        DiskStore(MADE.info, tmp_path, wanted=[True])


# Holes


async def test_holes_are_not_read_and_zeros_are_still_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = 1 << 16
    data = bytes(piece) + os.urandom(piece) + bytes(20 * piece) + os.urandom(100)
    hashes = b"".join(hashlib.sha1(data[at : at + piece]).digest() for at in range(0, len(data), piece))
    info = Info.from_bytes(encode({"name": "x", "length": len(data), "piece length": piece, "pieces": hashes}))
    with (tmp_path / "x").open("wb") as file:
        for at in (piece, 22 * piece):
            file.seek(at)
            file.write(data[at : at + piece])
    read: list[int] = []
    original = raw.read_into
    monkeypatch.setattr(
        "wire.storage.places.read_into", lambda fd, view, at: read.append(at // piece) or original(fd, view, at)
    )
    assert await loaded(DiskStore(info, tmp_path)) == list(range(23))
    if (tmp_path / "x").stat().st_blocks * 512 < 4 * piece:
        assert sorted(set(read)) == [1, 22]
    os.truncate(tmp_path / "x", 0)
    os.truncate(tmp_path / "x", len(data))  # one hole
    assert await loaded(DiskStore(info, tmp_path)) == [0, *range(2, 22)]


async def test_a_piece_is_in_a_hole_only_if_all_of_it_is(tmp_path: Path) -> None:
    half = 1 << 16
    for first, second in ((os.urandom(half), bytes(half)), (bytes(half), os.urandom(half)), (bytes(half), bytes(half))):
        files = [{"length": half, "path": ["a"]}, {"length": half, "path": ["b"]}]
        digest = hashlib.sha1(first + second).digest()
        info = Info.from_bytes(encode({"files": files, "name": "x", "piece length": 2 * half, "pieces": digest}))
        (tmp_path / "x").mkdir(exist_ok=True)
        for name, data in (("a", first), ("b", second)):
            (tmp_path / "x" / name).write_bytes(b"" if data == bytes(half) else data)
            os.truncate(tmp_path / "x" / name, half)
        assert await loaded(DiskStore(info, tmp_path)) == [0]


# Never outside


async def put_all(store: DiskStore, made: MadeTorrent = MADE) -> None:
    try:
        await store.load()
        await fill(store, made=made)
    finally:
        await store.aclose()


@pytest.mark.parametrize("at", ["top", "top/sub", "top/file0", "top/sub/deep"])
@pytest.mark.parametrize("to", ["outside", "nowhere", "."])
async def test_no_link_is_followed(tmp_path: Path, at: str, to: str) -> None:
    root, outside = tmp_path / "d", tmp_path / "outside"
    outside.mkdir()
    (outside / "file0").write_bytes(MADE.file(0))
    link = root / at
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "file0" if at.endswith("0") and to == "outside" else tmp_path / to)
    made = torrent_of([40, 0, 25], 16)
    store = DiskStore(made.info, root)
    with pytest.raises(DiskError, match="symbolic link"):
        await put_all(store, made)
    assert [path.name for path in outside.iterdir()] == ["file0"]
    assert (outside / "file0").read_bytes() == MADE.file(0)
    assert {path.name for path in tmp_path.iterdir()} == {"d", "outside"}


async def test_a_link_put_there_while_it_runs(tmp_path: Path) -> None:
    root, outside = tmp_path / "d", tmp_path / "outside"
    outside.mkdir()
    store = DiskStore(MADE.info, root)
    await store.load()
    target = root.joinpath(*MADE.info.files[4].path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(outside / "caught")
    with pytest.raises(DiskError, match="symbolic link"):
        await fill(store, [6])
    assert list(outside.iterdir()) == []
    await store.aclose()


async def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    await put_all(DiskStore(MADE.info, tmp_path / "link"))
    assert_placed(tmp_path / "real")


@pytest.mark.parametrize("thing", ["pipe", "folder", "file for a folder"])
async def test_something_else_in_the_way(tmp_path: Path, thing: str) -> None:
    top = tmp_path / "top"
    if thing == "file for a folder":
        top.write_bytes(b"in the way")
    else:
        top.mkdir()
        if thing == "pipe":
            os.mkfifo(top / "file0")
        else:
            (top / "file0").mkdir()
    with trio.fail_after(60), pytest.raises(DiskError) as caught:
        await put_all(DiskStore(MADE.info, tmp_path))
    assert str(top) in str(caught.value)


@pytest.mark.parametrize("by_folder", [True, False])
async def test_the_road_without_openat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_folder: bool) -> None:
    """Windows opens by whole paths, and reads by seeking."""
    monkeypatch.setattr(pool, "_BY_FOLDER", by_folder)
    for name in ("preadv", "pread", "pwrite", "SEEK_DATA"):
        monkeypatch.delattr(os, name)
    root = tmp_path / "d"
    await put_all(DiskStore(MADE.info, root))
    assert_placed(root)
    store = DiskStore(MADE.info, root)
    assert (await store.load()).all
    assert await read_blocks(store, [(1, 1, 15), (3, 0, 16)]) == [MADE.piece(1)[1:], MADE.piece(3)]
    await store.aclose()
    (root / "top" / "file0").unlink()
    (root / "top" / "file0").symlink_to(tmp_path / "outside")
    with pytest.raises(DiskError, match="symbolic link"):
        await put_all(DiskStore(MADE.info, root))
    assert not (tmp_path / "outside").exists()


# The world fails


async def test_a_full_disk_stops_it_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, resume = tmp_path / "d", tmp_path / "x.resume"
    store = DiskStore(MADE.info, root, resume=resume)
    await store.load()
    await fill(store, [0, 1])
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if len(data) > 4:
            return real(fd, data[:4], offset)  # a part still fits
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskError, match="disk is full") as caught:
        await fill(store, [2])
    assert str(root) in str(caught.value)
    monkeypatch.undo()
    await fill(store, [6])  # room again: the journal goes on where it was whole
    del store  # killed
    store = DiskStore(MADE.info, root, resume=resume)
    assert list((await store.load()).indices()) == [0, 1, 6]
    await fill(store)
    await store.aclose()
    assert_placed(root)


async def test_blocks_that_follow_each_other_are_read_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path)
    store = DiskStore(MADE.info, tmp_path)
    await store.load()
    wanted = [(0, 0, 4), (0, 4, 8), (0, 12, 4), (1, 0, 3), (1, 4, 3), (1, 7, 2), (0, 9, 1), (0, 3, 5)]
    blocks = [MADE.piece(index)[begin : begin + length] for index, begin, length in wanted]
    assert await read_blocks(store, wanted) == blocks  # and the file is open
    reads: list[tuple[int, int]] = []
    real = os.preadv

    def preadv(fd: int, views: list[memoryview], offset: int, flags: int = 0) -> int:
        reads.append((offset, sum(map(len, views))))
        return real(fd, views, offset, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    assert await read_blocks(store, wanted) == blocks
    assert reads == [(0, 16), (16, 3), (20, 5), (9, 1), (3, 5)]
    with pytest.raises(MisuseError):
        await read_blocks(store, [(0, 0, 8), (0, 8, 9)])
    await store.aclose()


@pytest.mark.parametrize("cached", ["all", "the first half", "nothing", "cannot tell"])
async def test_what_is_in_memory_is_read_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: str
) -> None:
    place(tmp_path)
    store = DiskStore(MADE.info, tmp_path)
    await store.load()
    real, in_threads = os.preadv, []

    def preadv(fd: int, views: list[memoryview], offset: int, flags: int = 0) -> int:
        in_threads.append(not flags)
        if flags and cached == "the first half":
            return real(fd, views[:1], offset)
        if flags and cached != "all":
            raise OSError(errno.EAGAIN if cached == "nothing" else errno.EOPNOTSUPP, "no")
        return real(fd, views, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "RWF_NOWAIT", 8, raising=False)
    wanted = [(0, 0, 4), (0, 4, 8)]
    assert await read_blocks(store, [(0, 0, 1)]) == [MADE.piece(0)[:1]], "it is not open yet"
    in_threads.clear()
    assert await read_blocks(store, wanted) == [MADE.piece(0)[:4], MADE.piece(0)[4:12]]
    assert in_threads == ([False] if cached == "all" else [False, True])
    pool = store._places._files
    with pool.lock:  # somebody opens another file
        assert not pool.read_cached(store._places._file_places[0], [memoryview(bytearray(1))], 0)
    await store.aclose()


async def test_a_read_that_the_disk_answers_in_part_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path)
    store = DiskStore(MADE.info, tmp_path)
    await store.load()
    real = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda fd, views, offset, flags=0: real(fd, [view[:3] for view in views[:2]], offset, flags)
    )
    wanted = [(0, 0, 2), (0, 2, 8), (0, 10, 6), (1, 0, 16)]
    blocks = [MADE.piece(index)[begin : begin + length] for index, begin, length in wanted]
    assert await read_blocks(store, wanted) == blocks
    await store.aclose()


async def test_a_file_that_shrinks_while_it_is_shared(tmp_path: Path) -> None:
    place(tmp_path)
    store = DiskStore(MADE.info, tmp_path)
    await store.load()
    os.truncate(tmp_path / "top" / "file0", 3)
    with pytest.raises(DiskError, match="shorter"):
        await read_blocks(store, [(0, 0, 16)])
    await store.aclose()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DiskError, match="permitted"):
        await put_all(DiskStore(MADE.info, tmp_path / "d"))


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot"):
        await put_all(DiskStore(MADE.info, tmp_path / "file"))
    with pytest.raises(DiskError, match="cannot"):
        await put_all(DiskStore(MADE.info, Path("/proc/nowhere")))


async def test_few_files_stay_open(tmp_path: Path) -> None:
    made = torrent_of([5] * 300, 16)
    store = DiskStore(made.info, tmp_path)
    await store.load()
    before = len(os.listdir("/dev/fd"))
    await fill(store, made=made)
    assert len(os.listdir("/dev/fd")) < before + 50
    async with trio.open_nursery() as nursery:
        for at in range(0, 90, 9):
            nursery.start_soon(read_blocks, store, [(index, 0, 16) for index in range(at, at + 4)])
    await store.aclose()
    assert_placed(tmp_path, made)


async def test_putting_from_many_tasks(tmp_path: Path) -> None:
    made = torrent_of([100_000, 3, 50_000], 1000)
    store = DiskStore(made.info, tmp_path / "d", resume=tmp_path / "x.resume")
    await store.load()
    async with trio.open_nursery() as nursery:
        for index in range(made.info.piece_count):
            nursery.start_soon(store.put, index, made.piece(index))
    del store
    store = DiskStore(made.info, tmp_path / "d", resume=tmp_path / "x.resume")
    assert (await store.load()) == Bitfield.full(made.info.piece_count)
    await store.aclose()
    assert_placed(tmp_path / "d", made)


async def test_a_cancelled_close_still_remembers(tmp_path: Path) -> None:
    store = DiskStore(MADE.info, tmp_path / "d", resume=tmp_path / "x.resume")
    await store.load()
    await fill(store, [3])
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.aclose()
    assert await loaded(DiskStore(MADE.info, tmp_path / "d", resume=tmp_path / "x.resume")) == [3]


CHILD = """
import sys, trio
from pathlib import Path
from tests.strategies import torrent_of
from wire.storage import DiskStore
made = torrent_of([3_000_000, 7, 1_000_000], 16384)
async def main():
    store = DiskStore(made.info, Path(sys.argv[1]), resume=Path(sys.argv[2]))
    have = await store.load()
    for index in range(made.info.piece_count):
        if not have[index]:
            assert await store.put(index, made.piece(index))
            print(index, flush=True)
    print("all", flush=True)
trio.run(main)
"""


async def test_a_piece_that_the_disk_lost_is_written_again(tmp_path: Path) -> None:
    store = DiskStore(MADE.info, tmp_path / "d")
    await store.load()
    await fill(store)
    (tmp_path / "d" / "top" / "file0").write_bytes(b"")
    await fill(store, [0])  # it could not be read, so it was fetched again
    assert await read_blocks(store, [(0, 0, 16)]) == [MADE.piece(0)]
    await store.aclose()


async def test_killed_again_and_again_it_keeps_every_verified_piece(tmp_path: Path) -> None:
    made = torrent_of([3_000_000, 7, 1_000_000], 16384)
    root, resume = tmp_path / "d", tmp_path / "s" / "x.resume"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said: set[int] = set()
    for lines in (3, 40, 11, 80, 1000):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(root), str(resume)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert child.stdout is not None
        for _, line in zip(range(lines), child.stdout, strict=False):
            if line != "all\n":
                assert int(line) not in said, "a verified piece was fetched again"
                said.add(int(line))
        child.send_signal(signal.SIGKILL)
        for line in child.stdout:  # what it had said before it died
            if line.endswith("\n") and line != "all\n":
                said.add(int(line))
        child.wait()
        child.stdout.close()
    unsaid = set(range(made.info.piece_count)) - said
    assert len(unsaid) <= 4, "each kill may fall between the storing of a piece and its telling"
    assert_placed(root, made)


@pytest.mark.parametrize("together", [True, False])
async def test_of_two_writers_one_is_killed_before_it_could_remember(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """The file looks as the other one recorded it, a moment later: what lies in it all the same is hashed."""
    made = torrent_of([160], 16)
    resume = tmp_path / "x.resume"
    store = DiskStore(made.info, tmp_path / "d", resume=resume)
    await store.load()
    first, rest = range(3), range(3, 9)
    note = store._note
    monkeypatch.setattr(store, "_note", lambda written: None)  # killed here, its bytes are on their way to the disk
    await store.put_many([(index, memoryview(made.piece(index))) for index in first])
    monkeypatch.setattr(store, "_note", note)
    for batch in [rest] if together else [range(index, index + 1) for index in rest]:
        await store.put_many([(index, memoryview(made.piece(index))) for index in batch])
    del store  # killed
    checked: list[int] = []
    is_right = Checker.is_right
    monkeypatch.setattr(
        Checker, "is_right", lambda self, index, buffer: checked.append(index) or is_right(self, index, buffer)
    )
    assert await loaded(DiskStore(made.info, tmp_path / "d", resume=resume)) == list(range(9))
    assert sorted(checked) == list(first), "and nothing else"
