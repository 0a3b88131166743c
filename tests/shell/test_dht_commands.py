"""The command `kademlia-bt` as a user runs it: child processes on loopback, their output, events and exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kademlia_bt.commands.cli import app
from kademlia_bt.commands.console import run_app

ROOT = Path(__file__).parents[2]
INFO_HASH = "ab" * 20
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}


def command(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kademlia_bt", *words],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(tmp_path),
        check=False,
    )


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class Running:
    """`kademlia-bt run --json`, and where it listens."""

    def __init__(self, tmp_path: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kademlia_bt", "run", "--json", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tmp_path),
        )
        assert self.process.stdout is not None
        self.listening = json.loads(self.process.stdout.readline())
        self.address = self.listening["addresses"][0]

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        event: dict[str, Any] = json.loads(self.process.stdout.readline())
        return event

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, list[dict[str, Any]], str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, events(out), err


@contextmanager
def running(tmp_path: Path, *words: str) -> Iterator[Running]:
    node = Running(tmp_path, *words)
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.process.kill()
        node.process.communicate()


def test_a_small_network_from_start_to_end(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running(tmp_path, "--listen", "127.0.0.1:0") as first:
        assert first.listening["event"] == "listening"
        assert len(bytes.fromhex(first.listening["node_id"])) == 20
        common = ("--bootstrap", first.address)
        words = ("--listen", "127.0.0.1:0", *common, "--state", str(state))
        began = time.monotonic()
        with running(tmp_path, *words) as second:
            joined = second.line()
            assert joined["event"] == "joined"
            assert joined["nodes"] >= 1
            assert 0 <= joined["seconds"] <= time.monotonic() - began
            assert first.line()["event"] == "joined"  # now it names the second, too

            ping = command(tmp_path, "ping", second.address, "--json")
            pong = events(ping.stdout)[0]
            assert ping.returncode == 0
            assert (pong["event"], pong["node_id"]) == ("pong", second.listening["node_id"])
            assert pong["own_address"].startswith("127.0.0.1:")

            announce = command(tmp_path, "announce", INFO_HASH, "--port", "4000", *common)
            assert (announce.returncode, announce.stdout, announce.stderr) == (0, "2 nodes took the announce\n", "")
            peers = command(tmp_path, "get-peers", INFO_HASH, *common)
            assert (peers.returncode, peers.stdout, peers.stderr) == (0, "127.0.0.1:4000\n", "")
            as_json = events(command(tmp_path, "get-peers", INFO_HASH, *common, "--json").stdout)
            assert as_json[0] == {"event": "peer", "address": "127.0.0.1:4000"}
            assert [event["event"] for event in as_json] == ["peer", "confidence", "done"]
            assert (as_json[1]["network_size"], as_json[1]["eclipse_likely"]) == (2, False)
            nodes = command(tmp_path, "find-node", INFO_HASH, *common, "-v")
            assert "2 closest ipv4 nodes, 2 with an id that fits their address; about 2 nodes in all" in nodes.stderr
            ids = {line.split()[0] for line in nodes.stdout.splitlines()}
            assert ids == {first.listening["node_id"], second.listening["node_id"]}

            code, said, err = second.stop(signal.SIGINT)
            assert (code, said[-1], err) == (0, {"event": "stopped"}, "")
        with running(tmp_path, "--listen", "127.0.0.1:0", "--state", str(state)) as again:
            assert again.listening["node_id"] == second.listening["node_id"]
            assert again.line()["event"] == "joined"  # from the saved nodes alone
            code, said, err = again.stop()
            assert (code, err) == (0, "")
    assert not (tmp_path / "home").exists()


def test_what_does_not_answer_is_said_with_its_counts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        ping = command(tmp_path, "ping", address, "--timeout", "0.5")
        assert (ping.returncode, ping.stdout, ping.stderr.count("\n")) == (3, "", 1)
        assert address in ping.stderr
        peers = command(tmp_path, "get-peers", INFO_HASH, "--bootstrap", address, "--timeout", "0.5", "--json")
        assert peers.returncode == 3
        failed = events(peers.stdout)[0]
        assert (failed["event"], failed["verdict"]) == ("failed", "dht_unreachable")
        assert (failed["routers_tried"], failed["routers_answered"]) == (1, 0)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--listen", "192.0.2.7:5"],
        ["run", "--listen", "name.example:5"],
        ["run", "--upload-limit", "lots"],
        ["run", "--per-ip-limit", "-3"],
        ["run", "--per-ip-limit", "many"],
        ["run", "--status", "here"],
        ["run", "--status", ""],
        ["run", "--listen", "127.0.0.1:0", "--status-name", ""],
        ["run", "--listen", "127.0.0.1:0", "--status-name", "a/b"],
        ["run", "--listen", "127.0.0.1:0", "--state", "/dev/null/state"],
        ["bootstrap", "--listen", "127.0.0.1:0", "--state", "/dev/null"],
        ["bootstrap", "--listen", "127.0.0.1:0", "--nodes", "9" * 30],
        ["crawl", "-o", "/dev/null/file"],
        ["crawl", "--limit", "0"],
        ["put", "x", "--key", "/dev/null/key"],
        ["put", "x", "--key", "/"],
        ["put", "x", "--key", "/dev/null/key", "--seq", "-1"],
        ["get", INFO_HASH, "--salt"],
        ["run", "--nonsense"],
        ["ping"],
        ["ping", "no-such-name.invalid:5"],
        ["ping", "127.0.0.1:0"],
        ["get-peers", "xyz"],
        ["get-peers", "ab" * 19],
        ["announce", INFO_HASH, "--port", "70000"],
        ["announce", INFO_HASH],
        ["find-node", "ab"],
        ["find-node", INFO_HASH, "--bootstrap", "x"],
        ["find-node", INFO_HASH, "--bootstrap", "127.0.0.1:0"],
        ["find-node", INFO_HASH, "--timeout", "nan"],
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run_app(app, "kademlia-bt", words) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), said.err
    assert said.err.startswith("kademlia-bt: ")


def test_a_port_in_use_says_so(tmp_path: Path) -> None:
    with running(tmp_path, "--listen", "127.0.0.1:0") as first:
        done = command(tmp_path, "run", "--listen", first.address)
    assert done.returncode == 2
    assert f"{first.address}" in done.stderr
    assert "another program uses this port" in done.stderr


def test_a_wrong_word_is_named_with_what_would_be_right(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["announce", INFO_HASH, "--port", "0"], "'--port': '0' is no whole number from 1 to 65535"),
        (["put", "x", "--cas", str(1 << 63)], "is no whole number of 0 or more"),
        (["run", "--per-ip-limit", "-3"], "'-3' is no number of queries a second: 0 for no limit, or more"),
        (["run", "--status", "here"], "'here' is no PORT and no HOST:PORT, such as 7180 or 127.0.0.1:7180"),
        (["run", "--state", "/dev/null/x"], "no state can be kept in /dev/null/x: Not a directory; name another"),
        (["get", INFO_HASH, "--salt"], "(see 'kademlia-bt get --help')"),
    ):
        assert run_app(app, "kademlia-bt", words) == 2
        assert said in capsys.readouterr().err


def test_a_default_state_folder_that_cannot_be_written_stops_no_node(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way")
    with running(tmp_path, "--listen", "0.0.0.0:0") as node:
        assert node.process.poll() is None
        _, _, err = node.stop()
    assert err.startswith(f"kademlia-bt: no state can be kept in {tmp_path / 'home' / 'kademlia-bt'}: ")
    assert "saved" not in err


def test_a_local_bootstrap_of_a_wide_node_is_explained(tmp_path: Path) -> None:
    with running(tmp_path, "--listen", "0.0.0.0:0", "--bootstrap", "127.0.0.1:9") as wide:
        _, _, err = wide.stop()
    assert "add --allow-local" in err


def test_an_interrupted_question_exits_with_130(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(60)
        process = subprocess.Popen(
            [sys.executable, "-m", "kademlia_bt", "ping", f"127.0.0.1:{silent.getsockname()[1]}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tmp_path),
        )
        silent.recv(2000)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")
