"""Several processes, one state folder; a disk that takes no more; files changed between two runs: with real ones."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.test_dht_commands import environment
from tests.shell.test_streaming import child, until
from wire.errors import MisuseError
from wire.storage.lock import FileLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and limits")


class Shared:
    """A torrent, a seeder of it, and downloads in processes of their own that share one state folder."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        (tmp_path / "seeds").mkdir()
        self.data = random.Random(2).randbytes(3 << 20)
        (tmp_path / "seeds" / "f.bin").write_bytes(self.data)
        words = ["create", "seeds/f.bin", "-o", "t.torrent", "-q"]
        subprocess.run(self.command(*words), check=True, env=environment(tmp_path), capture_output=True, cwd=tmp_path)
        self.seeder = child(tmp_path, "seed", str(tmp_path / "t.torrent"), "--data", str(tmp_path / "seeds"))
        self.address = str(until(self.seeder, "seeding")["address"])

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "magnet", *words]

    def words(self, out: str, *options: str) -> list[str]:
        words = ["get", "t.torrent", "-o", out, "--peer", self.address, "--no-dht", "--no-lsd", "--state", "state"]
        return self.command(*words, "--listen", "127.0.0.1:0", *options)

    def start(self, out: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(out, *options), env=environment(self.tmp_path), cwd=self.tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def get(self, out: str, *options: str, limit_kib: int | None = None) -> subprocess.CompletedProcess[str]:
        words = self.words(out, *options)
        if limit_kib is not None:
            words = ["bash", "-c", f'ulimit -f {limit_kib}; exec "$@"', "-", *words]
        return subprocess.run(
            words, env=environment(self.tmp_path), cwd=self.tmp_path, capture_output=True, text=True, timeout=100
        )

    def came(self, out: str) -> bool:
        return (self.tmp_path / out / "f.bin").read_bytes() == self.data


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    made = Shared(tmp_path)
    try:
        yield made
    finally:
        made.seeder.kill()
        made.seeder.communicate()


def test_two_at_once_and_the_same_twice(shared: Shared) -> None:
    one = shared.start("one", "--down-limit", "50K", "--json")  # it works for a minute, and is killed long before
    try:
        until(one, "progress")
        done = shared.get("one")
        assert done.returncode == 2
        assert "already, by another process" in done.stderr
        assert done.stderr.count("\n") <= 2
        done = shared.get("two")  # the same torrent to another place: nobody is in the way
        assert (done.returncode, shared.came("two")) == (0, True)
        one.send_signal(signal.SIGKILL)
        one.wait()
        done = shared.get("one")  # a lock ends with its process
        assert (done.returncode, shared.came("one")) == (0, True)
    finally:
        one.kill()
        one.communicate()


def test_a_full_disk_then_room_again_then_files_changed(shared: Shared) -> None:
    done = shared.get("out", limit_kib=1024)
    assert done.returncode == 4, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    done = shared.get("out", "-v")
    assert (done.returncode, shared.came("out")) == (0, True)
    file = shared.tmp_path / "out" / "f.bin"
    # edited, with its size and its times kept
    before = file.stat()
    with file.open("r+b") as edited:
        edited.write(b"not what it was")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert shared.get("out").returncode == 0
    assert shared.came("out")
    # replaced by a link to something precious
    precious = shared.tmp_path / "precious"
    precious.write_bytes(b"mine")
    file.unlink()
    file.symlink_to(precious)
    done = shared.get("out", "--timeout", "5")
    assert done.returncode == 4, done.stderr
    assert precious.read_bytes() == b"mine"


def test_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.lock"
    one, two = FileLock(path), FileLock(path)
    one.take("no")
    one.take("no")
    with pytest.raises(MisuseError, match="taken"):
        two.take("taken")
    one.release()
    one.release()
    two.take("no")
    two.release()
