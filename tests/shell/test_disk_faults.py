"""Disks that fail: full, broken, read-only, over quota, out of handles, slow; a real small one where we are root."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from kademlia_bt import Node
from magnet import Config, DownloadError, Session, Verdict
from tests.reading import read_blocks
from tests.shell.kit import make_torrent
from tests.shell.test_dht_commands import environment
from tests.shell.test_two_processes import Shared
from tests.strategies import torrent_of
from wire.compact import Endpoint
from wire.errors import DiskError
from wire.storage import DiskStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX calls")

MADE = torrent_of([50_000, 70_000], 16384)
HERE = (Endpoint("127.0.0.1", 0),)
AT_ONCE_S = 60.0
"""By then a slow machine too has come to what happens at once; patience ends after 300 s."""


def failing(number: int, after: int, call: Callable[..., object]) -> Callable[..., object]:
    """The call, which fails from the `after`-th time on."""
    left = [after]
    lock = threading.Lock()

    def fail(*args: object, **more: object) -> object:
        with lock:
            left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        return call(*args, **more)

    return fail


FAULTS = {
    "full": (errno.ENOSPC, "pwrite", "make room"),
    "quota": (errno.EDQUOT, "pwrite", "make room"),
    "broken": (errno.EIO, "pwrite", "disk"),
    "too large for it": (errno.EFBIG, "pwrite", "format"),
    "read-only": (errno.EROFS, "open", "choose a folder"),
    "no more files": (errno.EMFILE, "open", "ulimit -n"),
    "not ours": (errno.EACCES, "open", "permitted"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_typed_error_at_once_and_on_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock, fault: str
) -> None:
    """At once: the clock stands still, so whoever pauses before he tries again never comes to an end."""
    number, call, hint = FAULTS[fault]
    resume = tmp_path / "state" / "x.resume"
    store = DiskStore(MADE.info, tmp_path / "d", resume=resume)
    await store.load()
    stored = []
    monkeypatch.setattr(os, call, failing(number, 6, getattr(os, call)))

    async def fill() -> None:
        for index in range(MADE.info.piece_count):
            assert await store.put(index, MADE.piece(index))
            stored.append(index)

    with pytest.raises(DiskError, match=hint) as caught:
        await fill()
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    monkeypatch.undo()
    missing = [index for index in range(MADE.info.piece_count) if index not in stored]
    assert await store.put(missing[0], MADE.piece(missing[0])), "the disk takes again"
    del store  # killed
    store = DiskStore(MADE.info, tmp_path / "d", resume=resume)
    assert list((await store.load()).indices()) == [*stored, missing[0]], "nothing verified is lost"
    await store.aclose()


async def test_neighbours_are_written_in_one_go_and_of_them_what_the_disk_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = torrent_of([10 * 1024 + 7, 3000], 1024)  # piece 10 lies in both files
    resume = tmp_path / "x.resume"
    calls: list[tuple[int, int]] = []
    room = 1 << 30

    def pwritev(fd: int, views: Sequence[memoryview], offset: int) -> int:
        calls.append((offset, len(views)))
        data = b"".join(views)[: max(0, room - offset)]
        if not data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if len(data) >= 7 and offset + len(data) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    real = os.pwrite
    monkeypatch.setattr(os, "pwritev", pwritev)
    store = DiskStore(made.info, tmp_path / "d", resume=resume)
    await store.load()
    wrong = memoryview(bytes(1024))
    batch = [(index, memoryview(made.piece(index))) for index in (9, 3, 2, 4, 7, 8, 10, 12)]
    assert await store.put_many([*batch, (5, wrong)]) == [*[True] * 8, False]
    assert calls == [(2048, 3)], "what ends in another file, and what stands alone, is written as it was"
    written = resume.stat().st_size
    assert await store.put_many([(5, memoryview(made.piece(5))), (6, memoryview(made.piece(6)))]) == [True, True]
    assert resume.stat().st_size - written < 70, "one record for both, after one that they begin"

    monkeypatch.setattr(os, "pwrite", pwrite)
    room = 1024 + 100
    first, second = await store.put_many([(0, memoryview(made.piece(0))), (1, memoryview(made.piece(1)))])
    assert first is True
    assert isinstance(second, DiskError)
    monkeypatch.undo()
    del store  # killed
    store = DiskStore(made.info, tmp_path / "d", resume=resume)
    assert list((await store.load()).indices()) == [0, *range(2, 11), 12]
    await store.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 2 MiB at `out`."""
    out = tmp_path / "out"
    out.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("to mount a small disk takes root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", out], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield out
    finally:
        subprocess.run(["umount", "-l", out], check=True)


def test_a_real_full_disk(tmp_path: Path, small_disk: Path) -> None:
    shared = Shared(tmp_path)
    try:
        getting = shared.start("out", "--down-limit", "2M")
        while os.statvfs(small_disk).f_bavail * 4096 > 16384 and getting.poll() is None:
            time.sleep(0.01)
        _, err = getting.communicate(timeout=AT_ONCE_S)
        assert getting.returncode == 4, err
        assert "disk is full" in err
        assert "Traceback" not in err
        assert not shared.came("out")
        subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
        again = shared.get("out")
        assert (again.returncode, shared.came("out")) == (0, True)
        kept = re.search(r"([\d.]+) MiB was there already", again.stderr)
        assert kept is not None, again.stderr
        assert float(kept[1]) > 1.5
    finally:
        shared.seeder.kill()
        shared.seeder.communicate()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


RUN = "import magnet.fleet; magnet.fleet.DISK_PAUSE_S = 1.0; from magnet.__main__ import main; main()"


def test_a_session_that_stays_goes_on_by_itself_when_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    shared = Shared(tmp_path)
    words = shared.words("out")[3:]
    running = subprocess.Popen(
        [sys.executable, "-c", RUN, "run", *words[1:]], env=environment(tmp_path), cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert running.stderr is not None
        for line in running.stderr:
            if "disk is full" in line:
                break
        before = cpu_s(running.pid)
        time.sleep(2.0)  # it waits: a real disk, a real clock
        assert cpu_s(running.pid) - before < 1.0, "it does not try without end"
        subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
        for line in running.stderr:
            if line.startswith("seeding"):
                break
        assert shared.came("out")
    finally:
        running.terminate()
        running.communicate(timeout=60)
        shared.seeder.kill()
        shared.seeder.communicate()
    assert running.returncode == 0


async def test_a_slow_disk_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torrent, data = make_torrent("slow", {"slow": 24 << 20}, piece_length=1 << 16)
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "slow").write_bytes(data)
    real = os.pwrite

    writers: set[int] = set()

    def slow(fd: int, data: bytes, offset: int) -> int:
        writers.add(threading.get_ident())
        time.sleep(0.01)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    monkeypatch.delattr(os, "pwritev")  # so that each piece is a write
    monkeypatch.setattr("wire.swarm.exchange.MAX_UNWRITTEN_BYTES", 4 << 20)
    config = Config(listen=HERE, bootstrap=(), lsd=False, use_trackers=False, state_dir=None)
    answers: list[float] = []
    async with Session(config) as seeder, Node(listen=HERE, bootstrap=[]) as asking:
        await (await seeder.add(torrent, directory=tmp_path / "seeds", seed=True)).finished()
        peer = seeder.endpoints[0]
        async with Session(config) as session:
            handle = await session.add(f"{torrent.info.info_hash}", directory=tmp_path / "out")
            handle.runner.found([peer], "peer")
            most = 0
            with trio.fail_after(60):
                while handle.status().progress < 1.0:
                    began = time.thread_time()  # what the loop works meanwhile, however busy the machine is
                    await asking.ping(session.endpoints[0])
                    answers.append(time.thread_time() - began)
                    stats = handle.runner.stats()
                    most = max(most, stats.downloaded_bytes - stats.pieces_done * torrent.info.piece_length)
                    await trio.sleep(0.02)
            await handle.finished()
    assert (tmp_path / "out" / "slow").read_bytes() == data
    assert threading.get_ident() not in writers, "the disk is waited for elsewhere"
    answers.sort()
    assert answers[int(len(answers) * 0.99) - 1] < 0.2
    assert most < 10 << 20, "what waits for the disk is bounded: by 32 MiB in life, by 4 here, and what was asked for"


async def test_a_failing_disk_ends_the_torrent_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the session, its node and its other torrents go on."""
    torrent, data = make_torrent("f", {"f": 2 << 20})
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "f").write_bytes(data)
    config = Config(listen=HERE, bootstrap=(), lsd=False, use_trackers=False, state_dir=None)
    async with Session(config) as seeder, Session(config) as session:
        await (await seeder.add(torrent, directory=tmp_path / "seeds", seed=True)).finished()
        monkeypatch.setattr(os, "pwrite", failing(errno.EIO, 5, os.pwrite))
        monkeypatch.delattr(os, "pwritev")
        handle = await session.add(torrent, directory=tmp_path / "out")
        handle.runner.found([seeder.endpoints[0]], "peer")
        with trio.fail_after(AT_ONCE_S), pytest.raises(DownloadError) as caught:
            await handle.finished()
        assert caught.value.verdict is Verdict.DISK
        monkeypatch.undo()
        handle = await session.add(torrent, directory=tmp_path / "out")
        handle.runner.found([seeder.endpoints[0]], "peer")
        with trio.fail_after(60):
            await handle.finished()
    assert (tmp_path / "out" / "f").read_bytes() == data


@pytest.mark.parametrize("way", ["fallocate", "a disk that cannot", "a system that cannot"])
async def test_room_is_set_aside_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "a disk that cannot":
        monkeypatch.setattr(os, "posix_fallocate", failing(errno.EOPNOTSUPP, 0, os.posix_fallocate))
    elif way == "a system that cannot":
        monkeypatch.delattr(os, "posix_fallocate")
    resume = tmp_path / "x.resume"
    store = DiskStore(MADE.info, tmp_path / "d", resume=resume, wanted=[True, False], preallocate=True)
    await store.load()
    file = tmp_path / "d" / "top" / "file0"
    assert file.stat().st_size == 50_000
    assert (file.stat().st_blocks * 512 >= 50_000) == (way == "fallocate")
    assert not (tmp_path / "d" / "top" / "sub" / "file1").exists()
    assert await store.put(0, MADE.piece(0))
    del store  # killed: what was set aside is not what was verified
    store = DiskStore(MADE.info, tmp_path / "d", resume=resume, wanted=[True, False], preallocate=True)
    assert list((await store.load()).indices()) == [0]
    for index in range(1, 4):
        assert await store.put(index, MADE.piece(index))
    await store.aclose()
    assert file.read_bytes() == MADE.file(0)


def test_without_room_nothing_is_fetched(tmp_path: Path, small_disk: Path) -> None:
    shared = Shared(tmp_path)
    try:
        done = shared.get("out", "--preallocate")
        assert done.returncode == 4
        assert "set room aside" in done.stderr
        assert "disk is full" in done.stderr
        assert os.statvfs(small_disk).f_bfree * 4096 > 1 << 20, "what was taken is given back"
    finally:
        shared.seeder.kill()
        shared.seeder.communicate()


def test_a_read_only_disk_is_told_before_anything_is_asked(tmp_path: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    words = [
        "get",
        "ab" * 20,
        "-o",
        "out",
        "--no-dht",
        "--no-lsd",
        "--listen",
        "127.0.0.1:0",
        "--state",
        "state",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "magnet", *words], env=environment(tmp_path), cwd=tmp_path,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 4
    assert (
        done.stderr
        == "magnet: cannot write to the folder out: Read-only file system; choose a folder that can be written\n"
    )
    assert '"verdict":"disk"' in done.stdout


@pytest.mark.parametrize(
    "missing", ["preadv pwritev", "preadv pwritev pread pwrite", "SEEK_DATA posix_fallocate", "O_NOFOLLOW O_CLOEXEC"]
)
async def test_a_system_with_fewer_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """macOS has no preadv and pwritev before 11, Windows none of them: slower, and the same."""
    for name in missing.split():
        monkeypatch.delattr(os, name)
    monkeypatch.setattr("wire.storage.journal._BOOT_ID", tmp_path / "nowhere")
    resume = tmp_path / "x.resume"
    for round_ in range(2):
        store = DiskStore(MADE.info, tmp_path / "d", resume=resume, preallocate=True)
        have = await store.load()
        assert have.all == (round_ == 1)
        left = [(index, memoryview(MADE.piece(index))) for index in range(MADE.info.piece_count) if not have[index]]
        assert await store.put_many(left) == [True] * len(left)
        blocks = await read_blocks(store, [(index, 1, 100) for index in range(5)])
        assert blocks == [MADE.piece(index)[1:101] for index in range(5)]
        await store.aclose()
    assert (tmp_path / "d" / "top" / "file0").read_bytes() == MADE.file(0)
