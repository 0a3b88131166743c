"""kill -9 at random moments of a download of 64 MiB: what was verified is kept, and nothing wrong is believed.

Five kills each time; `KADEMLIA_BT_KILLS=200` in the environment for as many as one likes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from tests.shell.test_dht_commands import environment
from tests.shell.test_streaming import child, until
from wire.metainfo import Torrent
from wire.storage import DiskStore

KILLS = int(os.environ.get("KADEMLIA_BT_KILLS", "5"))
SIZE = 64 << 20

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
    pytest.mark.timeout(240 + 8 * KILLS),
]


def believed(torrent: Torrent, out: Path, resume: Path | None) -> tuple[set[int], float]:
    """The pieces that the next start takes for right, and the seconds of processor time that this takes it."""

    async def load() -> set[int]:
        store = DiskStore(torrent.info, out, resume=resume, read_only=True)
        try:
            return set((await store.load()).indices())
        finally:
            await store.aclose()

    began = time.process_time()
    return trio.run(load), time.process_time() - began


def test_killed_at_random_moments(tmp_path: Path) -> None:
    rng = random.Random(KILLS)  # other moments for each count
    data = rng.randbytes(SIZE)
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "f.bin").write_bytes(data)
    words = [sys.executable, "-m", "magnet", "create", "seeds/f.bin", "-o", "t.torrent", "-q", "--piece-size", "64K"]
    subprocess.run(words, check=True, env=environment(tmp_path), cwd=tmp_path)
    torrent = Torrent.from_bytes((tmp_path / "t.torrent").read_bytes())
    seeder = child(tmp_path, "seed", str(tmp_path / "t.torrent"), "--data", str(tmp_path / "seeds"))
    address = str(until(seeder, "seeding")["address"])
    kills = rounds = in_vain = 0
    worst_kept, slowest_s = 1.0, 0.0
    try:
        while kills < KILLS:
            out = tmp_path / f"out{rounds}"
            rounds += 1
            before: set[int] = set()
            while kills < KILLS:
                getting = subprocess.Popen(
                    [
                        sys.executable, "-m", "magnet", "get", "t.torrent", "-o", str(out), "--json", "-q",
                        "--peer", address,
                        "--no-dht", "--no-lsd", "--state", "state", "--listen", "127.0.0.1:0", "--down-limit", "40M",
                    ],
                    env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                if rng.random() < 0.8:  # else somewhere in its start
                    until(getting, "metadata")
                try:
                    getting.wait(rng.uniform(0.0, 1.5))
                except subprocess.TimeoutExpired:
                    getting.send_signal(signal.SIGKILL)
                assert getting.stdout is not None
                getting.stdout.close()
                ended = getting.wait()
                assert ended in (0, -signal.SIGKILL)
                if ended == 0:
                    assert (out / "f.bin").read_bytes() == data
                    break
                kills += 1
                if not (out / "f.bin").exists():
                    in_vain += 1
                    continue
                resumes = (tmp_path / "state" / "resume").glob("*.resume")
                resume = max(resumes, key=lambda path: path.stat().st_mtime_ns)
                right, _ = believed(torrent, out, None)
                kept, seconds = believed(torrent, out, resume)
                assert kept <= right, "a piece is believed that is wrong"
                assert len(kept) >= 0.99 * len(right)
                assert before <= kept, "what was there before the start was lost"
                worst_kept = min(worst_kept, len(kept) / len(right) if right else 1.0)
                slowest_s = max(slowest_s, seconds)
                before = kept
            (out / "f.bin").unlink(missing_ok=True)
    finally:
        seeder.kill()
        seeder.communicate()
    print(f"{kills} kills in {rounds} downloads, {in_vain} in vain: {worst_kept:.2%} kept, {slowest_s:.2f} s to see it")
    assert slowest_s < 2.0
    assert in_vain < kills


@pytest.mark.parametrize("seed", range(3))
def test_asked_to_stop_at_any_moment_it_stops_in_order(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    (tmp_path / "f.bin").write_bytes(rng.randbytes(8 << 20))
    (tmp_path / "seeds").mkdir()
    os.rename(tmp_path / "f.bin", tmp_path / "seeds" / "f.bin")
    words = [sys.executable, "-m", "magnet", "create", "seeds/f.bin", "-o", "t.torrent", "-q"]
    subprocess.run(words, check=True, env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.DEVNULL)
    seeder = child(tmp_path, "seed", str(tmp_path / "t.torrent"), "--data", str(tmp_path / "seeds"))
    address = str(until(seeder, "seeding")["address"])
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            getting = subprocess.Popen(
                [
                    sys.executable, "-X", "dev", "-m", "magnet", "get", "t.torrent", "-o", "out", "--json",
                    "--peer", address, "--down-limit", "1M", "--listen", "127.0.0.1:0", "--state", "state",
                    "--bootstrap", "127.0.0.1:9",
                ],
                env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            until(getting, "started")
            time.sleep(rng.uniform(0.0, 1.0))  # a real process, a random moment of it
            getting.send_signal(number)
            out, err = getting.communicate(timeout=60)
            assert getting.returncode == 130, err
            assert '"verdict":"cancelled"' in out
            assert "interrupted" in err
            assert "Traceback" not in err
            assert "Warning" not in err, "nothing was left open"
    finally:
        seeder.terminate()
        seeder.communicate(timeout=60)
