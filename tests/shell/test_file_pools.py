"""Open files of many torrents: together they keep a part of what the process may open, and make room for others."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from wire.storage import pool as pool_module
from wire.storage.pool import FilePool, Place


def opened(folder: Path) -> set[str]:
    """The names of the files below a folder that this process has open."""
    names = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith(f"{folder}/") and os.path.isfile(target):
            names.add(target.removeprefix(f"{folder}/"))
    return names


def pool_in(folder: Path) -> FilePool:
    folder.mkdir()
    return FilePool(folder)


def fill(pool: FilePool, count: int) -> None:
    for number in range(count):
        with pool.use(Place((f"f{number}",), 100), write=True) as descriptor:
            os.pwrite(descriptor, b"x", 0)


pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="asks the system what is open, by Linux's way"
)


def test_all_together_keep_a_quarter_and_who_was_used_last_keeps_his(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "open_files", lambda: 4 * 40)
    pools = [pool_in(tmp_path / str(number)) for number in range(8)]
    for pool in pools:
        fill(pool, 20)
        assert len(opened(tmp_path)) <= 41
    assert opened(tmp_path / "7") == {f"f{number}" for number in range(20)}
    assert opened(tmp_path / "0") == set()
    with pools[0].use(Place(("f3",), 100)) as descriptor:  # what was closed is opened again
        assert os.pread(descriptor, 1, 0) == b"x"
    for pool in pools:
        pool.close()
    assert opened(tmp_path) == set()


def test_where_no_file_is_left_others_close_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idle, busy = pool_in(tmp_path / "idle"), pool_in(tmp_path / "busy")
    fill(idle, 10)
    real = os.open

    def scarce(*args: object, **more: object) -> int:
        if opened(tmp_path / "idle"):
            raise OSError(errno.EMFILE, "Too many open files")
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", scarce)
    fill(busy, 1)
    assert opened(tmp_path) == {"busy/f0"}
    monkeypatch.undo()
    for pool in (idle, busy):
        pool.close()


def test_what_is_in_use_stays_open_and_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "open_files", lambda: 4)
    one, other = pool_in(tmp_path / "one"), pool_in(tmp_path / "other")
    with one.use(Place(("held",), 100), write=True) as descriptor:
        fill(other, 3)
        os.pwrite(descriptor, b"y", 0)
        assert "held" in opened(tmp_path / "one")
    with one.lock:  # somebody opens a file there just now
        at_once = threading.Thread(target=fill, args=(other, 3), daemon=True)
        at_once.start()
        at_once.join(30)
        assert not at_once.is_alive()
    for pool in (one, other):
        pool.close()
    assert opened(tmp_path) == set()
