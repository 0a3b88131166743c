"""Bad usage and bad input: exit code 2, exactly one line on stderr, nothing on stdout, never a traceback.

Each case is a real process, as a user starts it. Names inside a torrent that point out of the folder, or that
some system cannot hold, are either refused so or made safe; never is a byte written outside.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.interop.harness import REPOSITORY, free_port, magnet
from wire.bencode import encode

HASH = "5a" * 20
LINK = f"magnet:?xt=urn:btih:{HASH}"


def run(module: str, arguments: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", "COLUMNS": "60"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def assert_one_line(done: subprocess.CompletedProcess[str]) -> None:
    shown = f"{done.args[2:]}\n-- stdout:\n{done.stdout}\n-- stderr:\n{done.stderr}"
    assert done.returncode == 2, f"exit code {done.returncode}, not 2: {shown}"
    assert "Traceback" not in done.stderr, shown
    lines = done.stderr.splitlines()
    assert len(lines) == 1, shown
    assert len(lines[0].strip()) > 10, shown
    assert done.stdout == "", shown


def torrent_bytes(**info: object) -> bytes:
    """A small single-file torrent, with what is given put in or (None) left out."""
    whole = {b"name": b"x", b"length": 5, b"piece length": 16384, b"pieces": hashlib.sha1(b"hello").digest()}
    for key, value in info.items():
        whole[key.replace("_", " ").encode()] = value
    return encode({b"info": {key: value for key, value in whole.items() if value is not None}})


BROKEN_TORRENTS = {
    "empty": b"",
    "not bencode": b"this is no torrent at all\n" * 10,
    "cut off": torrent_bytes()[:-7],
    "with a tail of garbage": torrent_bytes() + b"garbage",
    "a list": b"le",
    "without info": b"de",
    "info is a string": b"d4:info5:helloe",
    "without pieces": torrent_bytes(pieces=None),
    "pieces of odd length": torrent_bytes(pieces=b"x" * 19),
    "too few pieces": torrent_bytes(length=1 << 20),
    "negative length": torrent_bytes(length=-5),
    "piece length 0": torrent_bytes(piece_length=0),
    "length is text": torrent_bytes(length=b"5"),
    "without name": torrent_bytes(name=None),
    "nested a thousand deep": b"d4:info" + b"l" * 1000 + b"e" * 1000 + b"e",
    "an integer of ten thousand digits": b"d4:infod6:lengthi" + b"9" * 10_000 + b"eee",
    "a string longer than the file": b"d4:infod4:name99999999999:xee",
}


@pytest.mark.parametrize("what", BROKEN_TORRENTS)
def test_a_broken_torrent(tmp_path: Path, what: str) -> None:
    (tmp_path / "broken.torrent").write_bytes(BROKEN_TORRENTS[what])
    assert_one_line(run("magnet", ["info", "broken.torrent"], tmp_path))


NETWORK = ["--no-dht", "--peer", "127.0.0.1:9", "--timeout", "1", "--state", "state"]
MAGNET_CASES: dict[str, list[str]] = {
    "unknown command": ["fetch", LINK],
    "unknown option": ["get", LINK, "--no-such-option", *NETWORK],
    "no source": ["get", *NETWORK],
    "a link without xt": ["get", "magnet:?dn=name", *NETWORK],
    "a link with a short hash": ["get", "magnet:?xt=urn:btih:5a5a", *NETWORK],
    "a link with a hash that is no hex": ["get", "magnet:?xt=urn:btih:" + "zz" * 20, *NETWORK],
    "an empty link": ["get", "magnet:", *NETWORK],
    "an info-hash of 39 digits": ["get", HASH[:-1], *NETWORK],
    "an info-hash that is no hex": ["get", "g" * 40, *NETWORK],
    "an empty source": ["get", "", *NETWORK],
    "a file that is not there": ["get", "nowhere.torrent", *NETWORK],
    "a broken torrent": ["get", "broken.torrent", *NETWORK],
    "a folder as a torrent": ["info", "folder"],
    "DIR is a file": ["get", LINK, "-o", "file", *NETWORK],
    "DIR cannot be made": ["get", LINK, "-o", "/proc/nowhere/x", *NETWORK],
    "a peer without a port": ["get", LINK, "--no-dht", "--peer", "127.0.0.1"],
    "a port past the end": ["get", LINK, "--no-dht", "--peer", "127.0.0.1:65536"],
    "listen at nonsense": ["get", LINK, "--listen", "here", *NETWORK],
    "listen at an address of nobody here": ["get", LINK, "--listen", "192.0.2.1:2000", *NETWORK],
    "bootstrap from nonsense": ["get", LINK, "--bootstrap", ":::", "--state", "state"],
    "a time-out that is no number": ["get", LINK, *NETWORK, "--timeout", "soon"],
    "a negative time-out": ["get", LINK, *NETWORK, "--timeout", "-1"],
    "a limit that is no size": ["get", LINK, *NETWORK, "--down-limit", "5 parsecs"],
    "a tracker of browsers": ["get", LINK, *NETWORK, "--tracker", "wss://t.example/announce"],
    "a UDP tracker without a port": ["get", LINK, *NETWORK, "--tracker", "udp://t.example/announce"],
    "an unknown encryption": ["get", LINK, *NETWORK, "--encryption", "rot13"],
    "an unknown transport": ["get", LINK, *NETWORK, "--transport", "pigeon"],
    "resolve without links": ["resolve", *NETWORK],
    "resolve from no file": ["resolve", "--from", "nowhere.txt", *NETWORK],
    "resolve with no jobs": ["resolve", LINK, "--jobs", "0", *NETWORK],
    "seed what is not there": ["seed", "good.torrent", "--data", "nowhere", *NETWORK],
    "seed without data": ["seed", "good.torrent", *NETWORK],
    "check what is no torrent": ["check", "file", "--data", "."],
    "check without data": ["check", "good.torrent"],
    "create from nothing": ["create", "nowhere"],
    "create with odd pieces": ["create", "file", "--piece-size", "1000"],
    "an info of nothing": ["info", "nowhere.torrent"],
}


@pytest.mark.parametrize("case", MAGNET_CASES)
def test_magnet(tmp_path: Path, case: str) -> None:
    (tmp_path / "file").write_bytes(b"not a folder, not a torrent")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.torrent").write_bytes(torrent_bytes()[:-7])
    (tmp_path / "good.torrent").write_bytes(torrent_bytes())
    assert_one_line(run("magnet", MAGNET_CASES[case], tmp_path))


LOCAL = ["--bootstrap", "127.0.0.1:9", "--state", "state"]
KADEMLIA_CASES: dict[str, list[str]] = {
    "unknown command": ["walk"],
    "unknown option": ["run", "--no-such-option", *LOCAL],
    "listen at nonsense": ["run", "--listen", "127.0.0.1:port", *LOCAL],
    "listen past the last port": ["run", "--listen", "127.0.0.1:65536", *LOCAL],
    "listen at an address of nobody here": ["run", "--listen", "192.0.2.1:2000", *LOCAL],
    "a limit that is no number": ["run", "--listen", "127.0.0.1:0", "--per-ip-limit", "many", *LOCAL],
    "ping nobody": ["ping"],
    "ping nonsense": ["ping", "nowhere"],
    "ping a port past the end": ["ping", "127.0.0.1:65536"],
    "find a short id": ["find-node", "abcd", *LOCAL[:2]],
    "find what is no hex": ["find-node", "g" * 40, *LOCAL[:2]],
    "get peers of a short hash": ["get-peers", "abcd", *LOCAL[:2]],
    "announce without a port": ["announce", HASH, *LOCAL[:2]],
    "announce port 70000": ["announce", HASH, "--port", "70000", *LOCAL[:2]],
    "announce what is no hash": ["announce", "nothing", "--port", "7000", *LOCAL[:2]],
}


@pytest.mark.parametrize("case", KADEMLIA_CASES)
def test_kademlia_bt(tmp_path: Path, case: str) -> None:
    assert_one_line(run("kademlia_bt", KADEMLIA_CASES[case], tmp_path))


def test_a_port_in_use(tmp_path: Path) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as holder:
            holder.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                holder.listen()
            listen = f"127.0.0.1:{holder.getsockname()[1]}"
            local = ["--bootstrap", "127.0.0.1:9", "--state", "state", "--listen", listen]
            done = run("magnet", ["get", LINK, *local], tmp_path)
            assert_one_line(done)
            assert listen in done.stderr, "the address that is taken is named"
            if kind == socket.SOCK_DGRAM:
                done = run("kademlia_bt", ["run", *local], tmp_path)
                assert_one_line(done)
                assert listen in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["get", "--help"], ["--version"]])
@pytest.mark.parametrize("module", ["magnet", "kademlia_bt"])
def test_help_is_no_error(tmp_path: Path, module: str, words: list[str]) -> None:
    if module == "kademlia_bt" and words[0] == "get":
        words = ["run", "--help"]
    done = run(module, words, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("module", ["magnet", "kademlia_bt"])
def test_no_command_shows_the_help(tmp_path: Path, module: str) -> None:
    done = run(module, [], tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert "Commands:" in done.stdout


EVIL_PATHS = {
    "parent": [b"..", b"..", b"evil"],
    "parent at the end": [b"sub", b".."],
    "absolute": [b"/etc/evil"],
    "slash inside": [b"sub/../../evil"],
    "backslash": [b"..\\..\\evil"],
    "drive": [b"C:\\evil"],
    "NUL": [b"ev\x00il"],
    "device": [b"CON"],
    "device with a suffix": [b"sub", b"aux.txt"],
    "over-long": [b"x" * 5000],
    "empty part": [b"", b"evil"],
    "dot": [b".", b"evil"],
    "no parts": [],
    "invalid UTF-8": [b"\xff\xfe\xfa"],
    "a stream": [b"evil:stream"],
    "ends in dots": [b"evil..."],
}


@pytest.mark.parametrize("where", ["path", "name"])
@pytest.mark.parametrize("what", EVIL_PATHS)
def test_no_byte_lands_outside(tmp_path: Path, what: str, where: str) -> None:
    """`get` has nothing to fetch from (the one piece is a hash of nothing known), yet makes its empty files."""
    evil = EVIL_PATHS[what]
    files = [{b"length": 0, b"path": evil}, {b"length": 0, b"path": [b"good"]}, {b"length": 5, b"path": [b"five"]}]
    if where == "name":
        files[0][b"path"] = [b"plain"]
    info = {
        b"files": files,
        b"name": b"/".join(evil) if where == "name" else b"name",
        b"piece length": 16384,
        b"pieces": hashlib.sha1(b"hello").digest(),
    }
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (tmp_path / "evil.torrent").write_bytes(encode({b"info": info}))
    before = set(tmp_path.rglob("*"))
    arguments = [
        "get",
        tmp_path / "evil.torrent",
        "-o",
        inner,
        "--no-dht",
        "--no-lsd",
        "--peer",
        f"127.0.0.1:{free_port()}",
    ]
    arguments += ["--timeout", "1", "--listen", f"127.0.0.1:{free_port()}"]
    with magnet(*arguments, state=tmp_path / "state") as get:
        code = get.wait()
    assert "Traceback" not in "\n".join(get.err)
    assert code in (2, 3), get.story()
    new = set(tmp_path.rglob("*")) - before
    outside = [path for path in new if inner not in path.parents and (tmp_path / "state") not in [path, *path.parents]]
    assert outside == []
    if code == 2:
        assert len(get.err) == 1, get.story()


def test_two_files_of_one_name_do_not_become_one(tmp_path: Path) -> None:
    files = [{b"length": 3, b"path": [b"same"]}, {b"length": 2, b"path": [b"SAME"]}, {b"length": 0, b"path": [b"same"]}]
    info = {b"files": files, b"name": b"n", b"piece length": 16384, b"pieces": hashlib.sha1(b"hello").digest()}
    (tmp_path / "clash.torrent").write_bytes(encode({b"info": info}))
    done = run("magnet", ["info", "clash.torrent"], tmp_path)
    if done.returncode == 2:
        assert_one_line(done)
        return
    done = run("magnet", ["info", "--json", "clash.torrent"], tmp_path)
    paths = [file["path"].casefold() for file in json.loads(done.stdout)["files"]]
    assert len(set(paths)) == 3


def test_with_json_the_line_is_also_an_event(tmp_path: Path) -> None:
    done = run("magnet", ["info", "--json", "nowhere.torrent"], tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    (line,) = done.stdout.splitlines()
    event = json.loads(line)
    assert (event["event"], event["verdict"]) == ("failed", "bad_input")
    assert "nowhere.torrent" in event["reason"]


def test_also_what_comes_to_light_only_in_the_session(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "good.torrent").write_bytes(torrent_bytes())
    local = ["--json", "--listen", "127.0.0.1:0", "--no-lsd", "--no-port-mapping", *NETWORK]
    done = run("magnet", ["seed", "good.torrent", "--data", "folder", *local], tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    event = json.loads(done.stdout.splitlines()[-1])
    assert (event["event"], event["verdict"]) == ("failed", "bad_input")
    assert "--data" in event["reason"]


def test_one_bad_link_of_many_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "links.txt").write_text(f"{LINK}\nmagnet:?xt=urn:btih:nonsense\n")
    done = run("magnet", ["resolve", "--from", "links.txt", *NETWORK], tmp_path)
    assert done.returncode == 3
    assert "links.txt:2" in done.stderr
    assert HASH in done.stderr
