"""The command line without a network: words, options, and the commands that ask nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kademlia_bt.commands.console import run_app
from magnet.cli import app
from magnet.link import MagnetLink
from wire.metainfo import Torrent

HEX = "c9e15763f722f23e98a29decdfae341b98d53056"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def magnet(*args: str) -> int:
    return run_app(app, "magnet", args)


@pytest.fixture
def shared() -> Path:
    """A folder with files that share pieces, and an empty one."""
    root = Path("shared")
    (root / "deep").mkdir(parents=True)
    (root / "a").write_bytes(b"a" * 20_000)
    (root / "b").write_bytes(b"b" * 50_000)
    (root / "deep" / "c").write_bytes(b"c" * 100)
    (root / "empty").touch()
    return root


@pytest.mark.parametrize(
    "command", ["get", "resolve", "info", "seed", "check", "create", "lint", "demo", "run", "stream", "doctor"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet(command, "--help") == 0
    out, err = capsys.readouterr()
    assert f"magnet {command}" in out
    assert err == ""


def test_help_names_every_option_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("get", "resolve", "seed", "info"):
        magnet(command, "--help")
        text = capsys.readouterr().out
        for option in [
            "--listen",
            "--bootstrap",
            "--peer",
            "--tracker",
            "--no-dht",
            "--no-pex",
            "--no-lsd",
            "--no-trackers",
            "--no-web-seeds",
            "--down-limit",
            "--up-limit",
            "--timeout",
            "--deadline",
            "--state",
            "--json",
            "-q",
            "-v",
        ]:
            assert option in text, (command, option)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["get"], "SOURCE"),
        (["get", HEX, "--bogus"], "--bogus"),
        (["get", HEX, "--peer", "1.2.3.4"], "HOST:PORT"),
        (["get", HEX, "--peer", "::1:80"], "[ADDRESS]:PORT"),
        (["get", HEX, "--listen", "name.example:80"], "IP address"),
        (["get", HEX, "--down-limit", "fast"], "500K"),
        (["get", HEX, "--timeout", "-1"], "seconds"),
        (["get", HEX, "--timeout", "nan"], "seconds"),
        (["get", HEX, "--deadline", "0"], "--deadline"),
        (["get", HEX, "--tracker", "wss://t.example/"], "http://, https:// or udp://"),
        (["get", HEX, "--tracker", "udp://t.example"], "needs a port"),
        (["get", HEX[:-1]], "its length is 39"),
        (["get", "magnet:?dn=x"], "names no torrent"),
        (["get", "nothing.torrent"], "No such file"),
        (["get", "."], "directory"),
        (["get", "\0"], "no magnet link"),
        (["resolve"], "--from"),
        (["resolve", "--from", "none"], "none"),
        (["resolve", HEX, "--jobs", "0"], "--jobs"),
        (["seed", HEX, "--data", "none"], "none"),
        (["seed", HEX], "--data"),
        (["check", "none.torrent", "--data", "."], "No such file"),
        (["check", HEX, "--data", "."], "neither a link nor a URL"),
        (["check", "", "--data", "."], "no .torrent file"),
        (["get", ""], "empty"),
        (["info", " "], "empty"),
        (["seed", HEX, "--data", ""], "empty"),
        (["create", ""], "empty"),
        (["create", ".", "--similar", "1234"], "1234"),
        (["create", ".", "--collection", ""], "collection"),
        (["create", "a/" + "x" * 256], "no file name"),
        (["get", HEX, "-o", "a\0b"], "no file name"),
        (["run", "--list", "--state", __file__], "a file"),
        (["create", "none"], "none"),
        (["create", ".", "--version", "3"], "--version"),
        (["create", ".", "--tracker", "t.example"], "udp://"),
        (["create", ".", "--web-seed", "here"], "https://"),
        (["fetch"], "fetch"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.startswith("magnet: ")
    assert err.count("\n") == 1


def test_bad_input_is_an_event_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet("get", "magnet:?dn=x", "--json") == 2
    out, err = capsys.readouterr()
    event = json.loads(out)
    assert event["event"] == "failed"
    assert event["verdict"] == "bad_input"
    assert "names no torrent" in event["reason"]
    assert "names no torrent" in err


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("file").touch()
    assert magnet("get", HEX, "-o", "file") == 2
    assert "it is a file" in capsys.readouterr().err
    assert magnet("get", HEX, "-o", "file/below") == 2
    assert "cannot write to the folder" in capsys.readouterr().err


def test_a_state_folder_that_was_named_must_be_usable(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert magnet("get", HEX, "--state", "file", "--no-dht") == 2
    assert "it is a file" in capsys.readouterr().err


def test_without_the_usual_state_folder_it_works_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", os.path.abspath("file"))
    monkeypatch.setenv("HOME", os.path.abspath("file"))
    assert magnet("get", HEX, "--no-dht", "--listen", "127.0.0.1:0", "--deadline", "0.01") == 3
    err = capsys.readouterr().err
    assert "nothing is remembered" in err
    assert "no peers" in err


def test_create_then_info_then_check(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet("create", "shared", "-o", "x.torrent", "--piece-size", "32K", "--tracker", "http://t.example/a") == 0
    out, err = capsys.readouterr()
    link = MagnetLink.parse(out)
    assert "x.torrent" in err
    torrent = Torrent.from_bytes(Path("x.torrent").read_bytes())
    assert link.info_hash == torrent.info.info_hash
    assert link.trackers == ("http://t.example/a",)

    assert magnet("info", "x.torrent", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert set(row) == {
        "name",
        "info_hash_v1",
        "info_hash_v2",
        "piece_length",
        "pieces",
        "size",
        "private",
        "files",
        "trackers",
        "web_seeds",
        "magnet",
    }
    assert row["info_hash_v1"] == str(link.info_hash)
    assert row["info_hash_v2"] is None
    assert row["files"][0] == {"path": "shared/a", "size": 20_000}
    assert row["size"] == 70_100
    assert row["trackers"] == [["http://t.example/a"]]
    assert row["magnet"] == str(link)

    assert magnet("info", "x.torrent") == 0
    text = capsys.readouterr().out
    assert "68.5 KiB" in text
    assert "shared/deep/c" in text

    assert magnet("check", "x.torrent", "--data", ".") == 0
    assert capsys.readouterr().out.splitlines() == [
        "whole\tshared/a",
        "whole\tshared/b",
        "whole\tshared/deep/c",
        "whole\tshared/empty",
    ]


def test_create_says_who_cannot_find_a_private_torrent_and_keeps_a_comment(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert magnet("create", str(shared), "--private", "--comment", "for you") == 0
    assert "names no tracker" in capsys.readouterr().err
    assert magnet("create", str(shared), "--private", "--tracker", "udp://t.example:1/", "--comment", "for you") == 0
    assert "names no tracker" not in capsys.readouterr().err
    assert magnet("info", "shared.torrent") == 0
    assert "for you" in capsys.readouterr().out


def test_create_names_torrents_that_share_files(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet("create", "shared", "-o", "old.torrent") == 0
    old = Torrent.from_bytes(Path("old.torrent").read_bytes())
    hints = ["--similar", "old.torrent", "--similar", HEX, "--collection", "holidays"]
    assert magnet("create", "shared", "-o", "new.torrent", "--version", "hybrid", *hints) == 0
    new = Torrent.from_bytes(Path("new.torrent").read_bytes())
    assert new.hints.similar == (old.info_hash_v1, bytes.fromhex(HEX))
    assert new.hints.collections == (b"holidays",)
    assert Torrent.of(new.info).hints == new.hints  # who has only the link learns it too
    capsys.readouterr()
    assert magnet("info", "new.torrent") == 0
    assert "collection  holidays" in capsys.readouterr().out


def test_check_names_what_is_not_whole(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    magnet("create", "shared", "-o", "x.torrent", "--piece-size", "16K", "-q")
    capsys.readouterr()
    (shared / "empty").unlink()
    (shared / "deep" / "c").write_bytes(b"short")
    data = bytearray((shared / "a").read_bytes())
    data[5] ^= 1
    (shared / "a").write_bytes(data)
    before = sorted(path for path in Path().rglob("*") if "state" not in path.parts)
    assert magnet("check", "x.torrent", "--data", ".", "--json") == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["path"]: event["state"] for event in events[:-1]} == {
        "shared/a": "damaged",
        "shared/b": "unproved",  # its last piece holds the beginning of c
        "shared/deep/c": "wrong size",
        "shared/empty": "missing",
    }
    assert events[-1] == {"event": "checked", "files": 4, "whole": 0}
    assert sorted(path for path in Path().rglob("*") if "state" not in path.parts) == before, "it touches nothing"


def test_quiet_check_says_it_by_its_exit_code(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    magnet("create", "shared", "-o", "x.torrent", "-q")
    capsys.readouterr()
    assert magnet("check", "x.torrent", "--data", ".", "-q") == 0
    assert magnet("check", "x.torrent", "--data", "shared", "-q") == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such names on this system")
def test_create_keeps_a_file_that_it_cannot_replace(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet("create", "shared", "-o", "shared") == 2
    assert "is a folder" in capsys.readouterr().err
    assert magnet("create", "shared", "-o", "none/x.torrent") == 2
    assert "there is no folder none" in capsys.readouterr().err


def test_lint_explains_and_prints_the_clean_link(capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet("lint", f"magnet:?xt=urn:btih:{HEX.upper()}&dn=a+b") == 0
    out, err = capsys.readouterr()
    assert out == f"magnet:?xt=urn:btih:{HEX}&dn=a%20b\n"
    assert "lower-case" in err
    assert "a b" in err


def test_lint_fails_for_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet("lint", f"magnet:?xt=urn:btih:{HEX}&tr=nonsense") == 1
    assert "wrong" in capsys.readouterr().err
    assert magnet("lint", "magnet:?xt=urn:btih:abc") == 1
    assert "no info-hash" in capsys.readouterr().err
    assert magnet("lint", f"magnet:?xt=urn:btih:{HEX}&so=0-2&x.pe=[::1]:80&tr=x", "--json") == 1
    row = json.loads(capsys.readouterr().out)
    assert row["usable"] is True
    assert row["select"] == [[0, 2]]
    assert row["peers"] == ["[::1]:80"]
    assert [remark["fault"] for remark in row["remarks"]] == [True]
    assert magnet("lint", "abc", "--json") == 1
    assert json.loads(capsys.readouterr().out)["usable"] is False


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet("--version") == 0
    assert capsys.readouterr().out.startswith("magnet ")


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert magnet() == 2
    assert "Commands" in capsys.readouterr().out


def test_a_file_is_shown_without_an_event_loop(shared: Path) -> None:
    """A fraction of a second is all that a look at a file may take: trio alone has a tenth."""
    assert magnet("create", str(shared), "-q") == 0
    program = (
        "import sys; from kademlia_bt.commands.console import run_app; from magnet.cli import app\n"
        "assert run_app(app, 'magnet', ['info', 'shared.torrent']) == 0\n"
        "assert run_app(app, 'magnet', ['info', 'absent.torrent']) == 2\n"
        "heavy = {'trio', 'rich', 'cryptography', 'crc32c', 'ctypes', 'pydantic', 'h11'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert "info-hash" in done.stdout
