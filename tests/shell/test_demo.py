"""The demo, small: real sockets on loopback, every stage told, nothing left behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from kademlia_bt.commands.console import run_app
from magnet.cli import app


@pytest.fixture(autouse=True)
def _temporary_files_in_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_every_stage_of_the_demo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_app(app, "magnet", ["demo", "--nodes", "8", "--size", "3M", "--json"]) == 0
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    stages = [event["stage"] for event in events]
    assert stages == ["joined", "created", "seeding", "link", "peers", "metadata", "downloaded", "compared", "done"]
    assert events[stages.index("compared")]["bytes"] == 3 << 20
    seconds = [event["seconds"] for event in events]
    assert seconds == sorted(seconds)
    assert err == ""
    assert list(tmp_path.iterdir()) == [], "it cleans up after itself"


def test_the_demo_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, "magnet", ["demo", "--nodes", "4", "--size", "100K"]) == 0
    out, _ = capsys.readouterr()
    assert "4 DHT nodes joined" in out
    assert "every byte of 5 files is equal" in out
