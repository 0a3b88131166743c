"""The store on disk against one bytearray, with a crash between any two writes, and in the middle of any.

Whatever happens: a piece that was once reported as stored is there after the restart, and what is
believed is right on disk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.reading import read_blocks
from tests.strategies import MadeTorrent, made_torrents, torrent_of
from wire.errors import MetainfoError
from wire.metainfo.files import FileEntry, refuse_collisions, safe_path
from wire.storage import DiskStore

Run = tuple[int, float, Any, list[int], bool]


class Crash(Exception):  # noqa: N818 - not an error: the end
    """The process ends here."""


class Disk:
    """Counts what is written, and at the given write does only a part of it, and crashes."""

    def __init__(self, writes_left: int, part: float) -> None:
        self.writes_left = writes_left
        self.part = part

    def _crashes_now(self) -> bool:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise Crash
        return self.writes_left == 0

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        if self._crashes_now():
            _pwrite(fd, data[: int(len(data) * self.part)], offset)
            raise Crash
        return _pwrite(fd, data, offset)

    def pwritev(self, fd: int, views: Sequence[Any], offset: int) -> int:
        return self.pwrite(fd, b"".join(views), offset)

    def replace(self, source: Path, target: Path) -> None:
        if self._crashes_now():
            raise Crash
        _replace(source, target)

    def ftruncate(self, fd: int, size: int) -> None:
        if self._crashes_now():
            raise Crash
        _ftruncate(fd, size)


_pwrite, _replace, _ftruncate = os.pwrite, os.replace, os.ftruncate

_masks = st.none() | st.lists(st.booleans(), min_size=5, max_size=5)
_run = st.tuples(
    st.integers(1, 25),  # writes until the crash
    st.floats(0, 1),  # how much of the last one arrives
    _masks,
    st.lists(st.integers(0, 40), max_size=8),  # pieces to put; odd multiples are damaged first
    st.booleans(),  # in one go, as far as no piece comes twice
)


async def one_run(made: MadeTorrent, folder: Path, run: Run, stored: set[int]) -> None:
    writes, part, mask, puts, together = run
    wanted = None if mask is None else [mask[index % 5] for index in range(len(made.info.files))]
    store = DiskStore(made.info, folder / "d", resume=folder / "x.resume", wanted=wanted)
    disk = Disk(writes, part)
    try:
        with (
            mock.patch.object(os, "pwrite", disk.pwrite),
            mock.patch.object(os, "pwritev", disk.pwritev),
            mock.patch.object(os, "replace", disk.replace),
            mock.patch.object(os, "ftruncate", disk.ftruncate),
        ):
            have = await store.load()
            assert stored <= set(have.indices()), "what was stored is there"
            for index in have.indices():
                assert await read_blocks(store, [(index, 0, made.info.piece_size(index))]) == [made.piece(index)]
            batch: dict[int, tuple[bytearray, bool]] = {}
            for number in [*puts, None] if made.info.piece_count else []:
                index = 0 if number is None else number % made.info.piece_count
                if number is None or not together or index in batch:
                    outcomes = await store.put_many([(one, memoryview(data)) for one, (data, _) in batch.items()])
                    assert outcomes == [right for _, right in batch.values()]
                    stored.update(one for one, (_, right) in batch.items() if right)
                    batch.clear()
                if number is not None:
                    data = bytearray(made.piece(index))
                    right = number // made.info.piece_count % 2 == 0
                    data[-1] ^= not right
                    batch[index] = (data, right)
            await store.aclose()
    except Crash:
        pass
    finally:
        store._places.close()
        store._journal.let_go()


@settings(max_examples=examples(60))
@given(made_torrents(), st.lists(_run, min_size=1, max_size=5))
@example(
    torrent_of([20, 20], 16),
    [(25, 0.0, [True, False] * 3, [1], False), (25, 0.0, [False, True] * 3, [], False), (9, 0.0, None, [], False)],
)
@example(  # a slot's torn header, filled up with zeros by the next slot, named piece 0
    torrent_of([0, 57, 32, 40], 32),
    [
        (22, 0.5, [False] * 5, [3, 34], False),
        (10, 0.5, [False, False, False, True, False], [0, 22], False),
        (2, 1.0, [False] * 5, [1], False),
    ],
)
def test_a_crash_at_any_write(made: MadeTorrent, runs: Sequence[Run]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored: set[int] = set()
        for run in runs:
            trio.run(one_run, made, folder, run, stored)
        # at last without a crash, all of it, and no byte but those of the torrent
        everything = list(range(made.info.piece_count))
        trio.run(one_run, made, folder, (10_000, 1.0, None, everything, True), stored)
        for index, entry in enumerate(made.info.files):
            if entry.on_disk:
                assert folder.joinpath("d", *entry.path).read_bytes() == made.file(index)
        found = sum(path.is_file() for path in (folder / "d").rglob("*"))
        assert found == sum(entry.on_disk for entry in made.info.files)


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("mask", [None, [True, False, True, True, True]])
@pytest.mark.parametrize("together", [False, True])
def test_each_write_of_a_small_download_as_the_last(part: float, mask: list[bool] | None, together: bool) -> None:
    made = torrent_of([20, 20, 5], 16)
    for writes in range(1, 24):
        with tempfile.TemporaryDirectory() as name:
            stored: set[int] = set()
            trio.run(one_run, made, Path(name), (writes, part, mask, [0, 2, 1], together), stored)
            trio.run(one_run, made, Path(name), (10_000, 1.0, mask, [0, 1, 2], together), stored)
            assert stored == {0, 1, 2}


_odd = [
    "..",
    ".",
    "",
    "/",
    "\\",
    "a",
    "A",
    "b",
    "é",
    "e\u0301",
    "CON",
    "nul.txt",
    "C:",
    "\0",
    " ",
    "...",
    "a.",
    "\n",
    "~",
]
_odd += ["x" * 255, "x" * 256, "a/b", "..\\..", "\\\\h\\s", "\ud800", "\u202e", "ı", "İ", "ß", "SS"]
_hostile = st.sampled_from(_odd)
_names = st.one_of(_hostile, st.text(max_size=6), st.lists(_hostile, max_size=3).map("".join))
_paths = st.lists(st.lists(_names, min_size=1, max_size=4), min_size=1, max_size=4)


@settings(max_examples=examples(200))
@given(_paths)
def test_whatever_the_names_every_file_lies_inside_and_alone(paths: list[list[str]]) -> None:
    entries: list[FileEntry] = []
    try:
        for parts in paths:
            safe = safe_path(["top", *parts])
            if len(safe) > 1:
                entries.append(FileEntry(safe, 1, len(entries)))
        refuse_collisions(entries)
    except MetainfoError:
        return
    with tempfile.TemporaryDirectory() as name:
        root = os.path.realpath(name)
        real = set()
        for entry in entries:
            path = Path(root).joinpath(*entry.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
            real.add(os.path.realpath(path))
            assert os.path.realpath(path).startswith(os.path.join(root, "top") + os.sep)
        assert len({path.casefold() for path in real}) == len(entries)
