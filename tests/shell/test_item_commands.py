"""`kademlia-bt get`, `put`, `scrape`, `sample` and `crawl` as a user runs them: output, events, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kademlia_bt.commands.cli import app
from kademlia_bt.commands.console import run_app
from tests.shell.test_dht_commands import command, environment, events, running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
HASH = "ab" * 20
KEY = "cd" * 32


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a network of two nodes begins."""
    home = tmp_path_factory.mktemp("network")
    with (
        running(home, "--listen", "127.0.0.1:0") as first,
        running(home, "--listen", "127.0.0.1:0", "--bootstrap", first.address) as second,
    ):
        for each in (first, second):  # only then is each named by the other
            assert each.line()["event"] == "joined"
        yield first.address


def test_an_item_is_put_and_got(entry: str, tmp_path: Path) -> None:
    put = command(tmp_path, "put", "hello", "--bootstrap", entry)
    assert (put.returncode, put.stderr) == (0, "kademlia-bt: 2 nodes took it\n")
    got = command(tmp_path, "get", put.stdout.strip(), "--bootstrap", entry)
    assert (got.returncode, got.stdout, got.stderr) == (0, "hello\n", "")
    item, done = events(command(tmp_path, "get", put.stdout.strip(), "--bootstrap", entry, "--json").stdout)
    assert item == {"event": "item", "target": put.stdout.strip(), "value": "hello", "bencoded": b"5:hello".hex()}
    assert (done["event"], done["found"]) == ("done", 1)
    nothing = command(tmp_path, "get", HASH, "--bootstrap", entry, "--json")
    assert (nothing.returncode, events(nothing.stdout)[0]["verdict"]) == (3, "not_found")
    assert len(nothing.stderr.splitlines()) == 1


def test_a_signed_item_is_replaced_by_its_owner(entry: str, tmp_path: Path) -> None:
    signed = ("--key", str(tmp_path / "key"), "--salt", "n", "--bootstrap", entry)
    first = events(command(tmp_path, "put", "one", *signed, "--json").stdout)[0]
    second = events(command(tmp_path, "put", "d1:ai1ee", "--bencode", *signed, "--json").stdout)[0]
    assert (first["seq"], second["seq"], first["public_key"]) == (1, 2, second["public_key"])
    got = command(tmp_path, "get", first["public_key"], "--salt", "hex:6e", "--bootstrap", entry)
    assert got.stdout == '{"a": 1}\n'
    refused = command(tmp_path, "put", "late", *signed, "--cas", "1", "--json")
    assert refused.returncode == 3
    assert events(refused.stdout)[0]["verdict"] == "refused"
    assert "301" in refused.stderr
    link = command(tmp_path, "put", "--torrent", HASH, *signed)
    assert link.stdout == f"magnet:?xs=urn:btpk:{first['public_key']}&s=6e\n"


def test_a_swarm_is_counted_and_a_store_is_sampled(entry: str, tmp_path: Path) -> None:
    command(tmp_path, "announce", HASH, "--port", "4000", "--bootstrap", entry)
    counted = events(command(tmp_path, "scrape", HASH, "--bootstrap", entry, "--json").stdout)[0]
    assert (counted["seeds"], counted["downloaders"], counted["total"], counted["nodes"]) == (0, 1, 1, 2)
    assert command(tmp_path, "scrape", "00" * 20, "--bootstrap", entry).returncode == 3
    shown = command(tmp_path, "sample", entry)
    assert (shown.returncode, shown.stdout) == (0, f"{HASH}\n")
    lines = tmp_path / "crawl.jsonl"
    done = events(command(tmp_path, "crawl", "-o", str(lines), "--bootstrap", entry, "--json").stdout)[-1]
    assert done == {"event": "done", "asked": 2, "answered": 2, "found": 1, "total": 1}
    assert [row for line in lines.read_text().splitlines() for row in json.loads(line)["info_hashes"]] == [HASH]
    again = command(tmp_path, "crawl", "-o", str(lines), "--bootstrap", entry)
    assert "going on with" in again.stderr
    assert "0 of 0 nodes" in again.stderr


def wait_found(tmp_path: Path, entry: str, nodes: int) -> None:
    """Waits until a crawl finds so many: each has to hear of the others first."""
    deadline = time.monotonic() + 60
    while True:
        done = events(command(tmp_path, "crawl", "-o", str(tmp_path / "whole"), "--bootstrap", entry, "--json").stdout)
        (tmp_path / "whole").unlink()
        if done[-1]["answered"] == nodes:
            return
        assert time.monotonic() < deadline, done[-1]


def test_a_crawl_that_is_killed_again_and_again_goes_on_and_asks_nobody_twice(tmp_path: Path) -> None:
    addresses = [word for n in range(2, 13) for word in ("--listen", f"127.0.9.{n}:0")]
    with (
        running(tmp_path, "--listen", "127.0.9.1:0") as first,
        running(tmp_path, *addresses, "--bootstrap", first.address),
    ):
        lines = tmp_path / "crawl.jsonl"
        words = ("crawl", "-o", str(lines), "--bootstrap", first.address, "--rate", "10")
        wait_found(tmp_path, first.address, 12)
        for kills in range(1, 4):
            process = subprocess.Popen(
                [sys.executable, "-m", "kademlia_bt", *words],
                env=environment(tmp_path),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while (not lines.exists() or len(lines.read_bytes().splitlines()) < 3 * kills) and process.poll() is None:
                time.sleep(0.01)
            process.kill()
            process.wait()
        assert len(lines.read_bytes().splitlines()) >= 9
        assert command(tmp_path, *words).returncode == 0
    nodes = [json.loads(line)["node"].rpartition(":")[0] for line in lines.read_text().splitlines()]
    assert sorted(nodes) == sorted(f"127.0.9.{n}" for n in range(1, 13))


@pytest.mark.parametrize(
    "words",
    [
        ("get",),
        ("get", "xyz"),
        ("get", HASH, "--follow"),
        ("get", HASH, "--raw", "--json"),
        ("get", KEY, "--salt", "x" * 65),
        ("get", KEY, "--salt", "hex:x"),
        ("put",),
        ("put", "x", "--torrent", HASH),
        ("put", "x", "--salt", "s"),
        ("put", "x", "--cas", "1"),
        ("put", "--torrent", HASH),
        ("put", "i1", "--bencode"),
        ("put", "x" * 1000, "--bootstrap", "127.0.0.1:9"),
        ("put", "x", "--key", "bad.key"),
        ("put", "x", "--key", "k", "--seq", "-1"),
        ("scrape", "xyz"),
        ("sample", "nowhere"),
        ("crawl", "--rate", "0"),
        ("crawl", "--rate", "x"),
        ("crawl", "--limit", "0"),
        ("crawl", "-o", "bad.key"),
    ],
    ids=" ".join,
)
def test_bad_words_are_one_line_and_exit_2(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.key").write_text("no key\n")
    assert run_app(app, "kademlia-bt", words) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert said.err.startswith("kademlia-bt: ")
    assert (tmp_path / "bad.key").read_text() == "no key\n"
    assert not (tmp_path / "k").exists()


def test_each_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("get", "put", "scrape", "sample", "crawl"):
        assert run_app(app, "kademlia-bt", (word, "--help")) == 0
        assert "BEP" in capsys.readouterr().out
