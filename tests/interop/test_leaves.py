"""Hashes of single blocks (BEP 52) with libtorrent: it gives them and we name a liar, we give them and it does."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.interop.clients import wait_until
from tests.interop.harness import (
    Program,
    assert_same_tree,
    free_port,
    libtorrent,
    magnet,
    need_libtorrent,
    seeder,
    torrent_of,
)
from wire.metainfo import Torrent

pytestmark = pytest.mark.interop

PIECE = 1 << 20
BLOCK = 1 << 14
RATE = 1_000_000
SLOW_RATE = 80_000
"""At this one of two seeders gives some blocks of a piece, however late the other one comes: a piece takes 13 s."""


def liar_of(torrent: Path, root: Path, tmp_path: Path, *options: str) -> tuple[Program, str]:
    """A seeder whose larger file is wrong in every block, and which does not know it."""
    bad = tmp_path / "bad" / root.name
    shutil.copytree(root, bad)
    (bad / "one.bin").write_bytes(random.Random(2).randbytes(PIECE))
    return seeder(torrent, bad, *options)


FILES = {"one.bin": PIECE, "two": 5}


def test_libtorrent_tells_us_whose_block_was_wrong(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, FILES, piece_bytes=PIECE, version="v2")
    honest, listen = seeder(torrent, root, "--check", "--rate", str(SLOW_RATE), "--hashes")
    liar, bad = liar_of(torrent, root, tmp_path, "--lie", "--rate", str(SLOW_RATE))
    link = f"magnet:?xt=urn:btmh:{Torrent.from_bytes(torrent.read_bytes()).info.info_hash.multihash}"
    options = ("--no-dht", "--no-lsd", "--no-pex", "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20", "-v")
    with honest, liar:
        honest.wait_event("seeding")
        liar.wait_event("seeding")
        peers = ("--peer", listen, "--peer", bad)
        with magnet("get", link, "-o", tmp_path / "got", *options, *peers, state=tmp_path / "state") as get:
            for giver in (honest, liar):
                wait_until(lambda giver=giver: giver.ask("stats", "stats")["uploaded"] >= BLOCK, get, 60)  # type: ignore[misc]
            for giver in (honest, liar):
                giver.tell(f"rate {RATE}")
            get.finish(0)
    assert_same_tree(root, tmp_path / "got" / "things")
    assert f"{bad} banned: sent wrong data in block " in get.story()
    assert any("==> HASHES" in line for line in honest.out), honest.story()


def test_we_tell_libtorrent_whose_block_was_wrong(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, FILES, piece_bytes=PIECE // 8, version="hybrid")
    ours = f"127.0.0.1:{free_port()}"
    options = ("--no-dht", "--no-lsd", "--listen", ours, "--up-limit", str(RATE // 3), "--json")
    # by the v2 name: libtorrent takes no request for hashes on a connection by the other
    link = f"magnet:?xt=urn:btmh:{Torrent.from_bytes(torrent.read_bytes()).info.info_hash.multihash}"
    with magnet("seed", torrent, "--data", root.parent, *options, state=tmp_path / "state") as seed:
        seed.wait_event("seeding")
        liar, bad = liar_of(torrent, root, tmp_path, "--lie")
        with liar:
            liar.wait_event("seeding")
            leech = ("--listen", f"127.0.0.1:{free_port()}", "--peer", ours, "--peer", bad, "--hashes")
            with libtorrent("get", link, tmp_path / "got", *leech) as get:
                get.wait_event("done")
    assert_same_tree(root, tmp_path / "got" / "things")
    assert any("<== HASHES" in line for line in get.out), get.story()
