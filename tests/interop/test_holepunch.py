"""Two peers behind NATs meet through a third (BEP 55), ours or libtorrent in each role; NATs of the kernel's own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.harness import Program, assert_same_tree, libtorrent, magnet, need_libtorrent, torrent_of
from tests.interop.namespaces import Machine, behind_nats

pytestmark = pytest.mark.interop

PORT = 26_311
SIZE = 3_000_000
SLOW = 2_000
"""Bytes a second that the relay passes on: alone it would take half an hour."""
SEEN_AS = {"seeds": f"10.213.1.2:{PORT}", "gets": f"10.213.2.2:{PORT}"}


def ours(role: str, machine: Machine, torrent: Path, root: Path, tmp_path: Path, relay: str) -> Program:
    at = ("--listen", f"{machine.address}:{PORT}", "--no-dht", "--json")
    if role == "seeds":
        options = (*at, "--peer", relay, "--transport", "utp")
        return magnet("seed", torrent, "--data", root.parent, *options, state=tmp_path / "s", prefix=machine.prefix)
    if role == "gets":
        peers = ("--peer", relay, "--peer", SEEN_AS["seeds"], "--transport", "utp", "--timeout", "40")
        options = ("-o", str(tmp_path / "got"), *at, *peers)
        return magnet("get", torrent, *options, state=tmp_path / "g", prefix=machine.prefix)
    slow = ("--down-limit", str(10 * SLOW), "--up-limit", str(SLOW))
    options = ("-o", str(tmp_path / "relay"), *at, *slow)
    return magnet("get", torrent, *options, state=tmp_path / "r", prefix=machine.prefix)


def its(role: str, machine: Machine, torrent: Path, root: Path, tmp_path: Path, relay: str) -> Program:
    at = ("--listen", f"{machine.address}:{PORT}", "--utp")
    if role == "seeds":
        return libtorrent("seed", torrent, root.parent, *at, "--peer", relay, prefix=machine.prefix)
    if role == "gets":
        peers = ("--peer", relay, "--peer", SEEN_AS["seeds"])
        return libtorrent("get", torrent, tmp_path / "got", *at, *peers, prefix=machine.prefix)
    slow = ("--rate", str(SLOW), "--down-rate", str(10 * SLOW))
    return libtorrent("get", torrent, tmp_path / "relay", *at, *slow, prefix=machine.prefix)


@pytest.mark.parametrize("role_of_libtorrent", ["none", "relays", "seeds", "gets"])
def test_two_behind_nats_meet(tmp_path: Path, role_of_libtorrent: str) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, {"things.bin": SIZE})
    with behind_nats() as (open_, one, other), ExitStack() as stack:
        relay = f"{open_.address}:{PORT}"
        programs = {}
        for role, machine in (("relays", open_), ("seeds", one), ("gets", other)):
            make = its if role == role_of_libtorrent else ours
            program = stack.enter_context(make(role, machine, torrent, root, tmp_path, relay))
            programs[role] = program
            program.wait_event("seeding" if role == "seeds" else "started")
        programs["gets"].wait_event("done", timeout_s=60)
        for program in programs.values():
            assert "Traceback" not in "\n".join(program.err), program.story()
    assert_same_tree(root, tmp_path / "got" / "things")
