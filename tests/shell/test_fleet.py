"""Several torrents of one command: one that fails, a disk that fills; and `magnet run`, killed and restored."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from kademlia_bt.commands.console import ExitCode
from magnet.fleet import DISK_PAUSE_S, Fleet, Job
from magnet.json_events import JsonReporter
from tests.shell.kit import a_world, link_of, make_torrent
from tests.shell.test_dht_commands import environment
from tests.shell.test_streaming import child, until

ONE, ONE_DATA = make_torrent("one", {"one": 300_000})
TWO, TWO_DATA = make_torrent("two", {"two": 200_000})
DEAD, _ = make_torrent("dead", {"dead": 100_000})


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_one_that_fails_holds_nobody_up(autojump_clock, capsys):
    async with a_world(dht_nodes=0) as world:
        peers = [await world.seeder(ONE, ONE_DATA, dht=False), await world.seeder(TWO, TWO_DATA, dht=False)]
        session = await world.session(dht=False, patience_s=20)
        links = {"DEAD": link_of(DEAD), "ONE": link_of(ONE, peers[0]), "TWO": link_of(TWO, peers[1])}
        fleet = Fleet(session, JsonReporter(quiet=True), jobs=2, share=False)
        jobs = [Job(label, partial(session.add, link)) for label, link in links.items()]
        assert await fleet.run(jobs) == ExitCode.NOT_FOUND
        assert fleet.summary == "2 of 3 done, 1 failed"
        assert session.torrents == ()
    told = events(capsys)
    assert {str(event["info_hash"]) for event in told if event["event"] == "done"} == {
        str(torrent.info.info_hash) for torrent in (ONE, TWO)
    }
    assert all("info_hash" in event for event in told), "scripts must be able to tell them apart"
    (failed,) = [event for event in told if event["event"] == "failed"]
    assert (failed["source"], failed["verdict"]) == ("DEAD", "no_peers")
    assert [event["event"] for event in told].index("failed") > [event["event"] for event in told].index("done")


async def test_a_full_disk_is_waited_for_and_told_once(autojump_clock, capsys):
    async with a_world(dht_nodes=0) as world:
        peer = await world.seeder(ONE, ONE_DATA, dht=False)
        session = await world.session(dht=False)
        stores = world.stores[session]
        make = stores.make
        tried = []

        def full(info, data):
            store = make(info, data)
            tried.append(trio.current_time())
            store.fails_after = 2 if len(tried) < 4 else None
            return store

        stores.make = full
        fleet = Fleet(session, JsonReporter(quiet=True), jobs=5, share=True, retry=True)
        with trio.move_on_after(200):
            await fleet.run([Job("ONE", partial(session.add, link_of(ONE, peer)))])
        assert bytes(stores.last.data) == ONE_DATA
        assert len(tried) == 4
        assert all(later - before > DISK_PAUSE_S for before, later in itertools.pairwise(tried))
    told = [event["event"] for event in events(capsys)]
    assert told.count("failed") == 1
    assert told.count("seeding") == 1
    assert fleet.is_over


class Shared:
    """Three torrents, two of them with a seeder."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        (tmp_path / "seeds").mkdir()
        self.data = {name: random.Random(name).randbytes(1 << 20) for name in ("one", "two", "dead")}
        for name, data in self.data.items():
            (tmp_path / "seeds" / name).write_bytes(data)
            self.run("create", f"seeds/{name}", "-o", f"{name}.torrent", "-q", plain=True)
        torrents = [str(tmp_path / f"{name}.torrent") for name in ("one", "two")]
        self.seeder = child(tmp_path, "seed", *torrents, "--data", str(tmp_path / "seeds"))
        self.address = str(until(self.seeder, "seeding")["address"])
        until(self.seeder, "seeding")

    def words(self, *words: str, plain: bool = False) -> list[str]:
        options = ["--no-dht", "--no-lsd", "--state", "state", "--listen", "127.0.0.1:0", "--peer"]
        return [sys.executable, "-m", "magnet", *words, *([] if plain else [*options, self.address])]

    def run(self, *words: str, plain: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words, plain=plain), env=environment(self.tmp_path), cwd=self.tmp_path,
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(*words), env=environment(self.tmp_path), cwd=self.tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def came(self, name: str) -> bool:
        return (self.tmp_path / "out" / name).read_bytes() == self.data[name]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    made = Shared(tmp_path)
    try:
        yield made
    finally:
        made.seeder.kill()
        made.seeder.communicate()


def test_get_takes_several_and_a_file_of_them(shared: Shared) -> None:
    (shared.tmp_path / "list").write_text("# mine\none.torrent\nnonsense\n")
    done = shared.run("get", "two.torrent", "--from", "list", "-o", "out")
    assert done.returncode == 2, "a line was no source"
    assert sorted(done.stdout.splitlines()) == ["out/one", "out/two"]
    assert "list:3" in done.stderr
    assert "Traceback" not in done.stderr
    assert shared.came("one")
    assert shared.came("two")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_session_comes_back(shared: Shared) -> None:
    first = shared.start(
        "run", "one.torrent", "two.torrent", "dead.torrent", "-o", "out", "--json", "--down-limit", "200K"
    )
    try:
        until(first, "progress")
        until(first, "progress")
        first.send_signal(signal.SIGKILL)
    finally:
        first.kill()
        first.communicate()
    listed = shared.run("run", "--list")
    assert [line.split("\t")[0].split("dn=")[1][:3] for line in listed.stdout.splitlines()] == ["one", "two", "dea"]
    second = shared.start("run", "--json")  # no source: all that is listed
    try:
        assert {str(until(second, "seeding")["magnet"]).split("dn=")[1][:3] for _ in range(2)} == {"one", "two"}
        assert shared.came("one")
        assert shared.came("two")
        other = shared.run("run")
        assert (other.returncode, "another process" in other.stderr) == (2, True)
    finally:
        second.send_signal(signal.SIGTERM)
        _, err = second.communicate(timeout=60)
    assert (second.returncode, "Traceback" in err) == (0, False)
    dead = listed.stdout.splitlines()[2].split("btih:")[1][:40]
    third = shared.start("run", "--remove", dead[:8], "one.torrent", "--json")
    try:
        started = {until(third, "started")["name"], until(third, "started")["name"]}
    finally:
        third.send_signal(signal.SIGINT)
        _, err = third.communicate(timeout=60)
    assert started == {"one", "two"}
    assert "one.torrent is on the list already" in err
    assert third.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_running_session_takes_more_and_lets_go(shared: Shared) -> None:
    keeper = shared.start("run", "one.torrent", "-o", "out", "--json")
    try:
        one = str(until(keeper, "seeding")["magnet"])
        more = shared.run("run", "two.torrent", "one.torrent", "-o", "out", "--json")
        assert (more.returncode, "one.torrent is on the list already" in more.stderr) == (0, True)
        (event,) = map(json.loads, more.stdout.splitlines())
        assert (event["event"], event["path"]) == ("listed", str(shared.tmp_path / "out"))
        assert "dn=two" in str(until(keeper, "seeding")["magnet"])
        assert shared.came("two")
        unknown = shared.run("run", "--remove", "00" * 20)
        assert (unknown.returncode, "no torrent on the list" in unknown.stderr) == (2, True)
        less = shared.run("run", "--remove", one.split("btih:")[1][:8])
        assert (less.returncode, less.stdout, "one is off the list" in less.stderr) == (0, "", True)
        assert [line.split("dn=")[1][:3] for line in shared.run("run", "--list").stdout.splitlines()] == ["two"]
        again = shared.run("run", "one.torrent", "-o", "out")
        assert again.returncode == 0
        assert "dn=one" in str(until(keeper, "seeding")["magnet"])
    finally:
        keeper.send_signal(signal.SIGTERM)
        out, err = keeper.communicate(timeout=60)
    assert (keeper.returncode, "failed" in out, "Traceback" in err) == (0, False, False)


@pytest.mark.parametrize("words", [("run",), ("run", "--remove", "abcdef01"), ("get",), ("seed", "--data", ".")])
def test_wrong_words_are_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "magnet", *words, "--state", "state", "--no-dht"],
        env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
