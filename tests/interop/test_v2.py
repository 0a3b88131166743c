"""BitTorrent v2 (BEP 52) with libtorrent: v2-only and hybrid torrents, from .torrent and from links of each hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.harness import (
    AWKWARD,
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

FILES = {**AWKWARD, "large.bin": 600 * 16384 + 5}
"""With pieces of 16 KiB, the last is one of more than 512 pieces: its layer takes two requests."""

FORMS = [("v2", "torrent"), ("v2", "btmh"), ("hybrid", "torrent"), ("hybrid", "btmh"), ("hybrid", "btih")]


CASES = [*((*form, 16384) for form in FORMS), ("v2", "btmh", 65536)]


def source_of(torrent: Path, form: str) -> str | Path:
    info_hash = Torrent.from_bytes(torrent.read_bytes()).info.info_hash
    if form == "torrent":
        return torrent
    assert info_hash.v1 is not None or form == "btmh"
    return f"magnet:?xt=urn:btmh:{info_hash.multihash}" if form == "btmh" else f"magnet:?xt=urn:btih:{info_hash}"


def calm(*programs: Program) -> None:
    for program in programs:
        assert "Traceback" not in "\n".join(program.err)


@pytest.mark.parametrize(
    ("version", "form", "piece_bytes"), [(*form, 16384) for form in FORMS] + [("v2", "btmh", 65536)]
)
def test_libtorrent_seeds_and_we_get(tmp_path: Path, version: str, form: str, piece_bytes: int) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, FILES, piece_bytes=piece_bytes, version=version)
    program, listen = seeder(torrent, root)
    options = ("--no-dht", "--no-lsd", "--peer", listen, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20")
    with program:
        program.wait_event("seeding")
        source = source_of(torrent, form)
        with magnet("get", source, "-o", tmp_path / "got", *options, "-v", state=tmp_path / "state") as get:
            get.finish(0)
    calm(get)
    assert_same_tree(root, tmp_path / "got" / "things")
    if form == "torrent":
        return
    # what is remembered suffices to begin again without any peer, and what is on disk is known
    again = ("--no-dht", "--no-lsd", "--listen", f"127.0.0.1:{free_port()}", "--timeout", "10")
    with magnet("get", source, "-o", tmp_path / "got", *again, state=tmp_path / "state") as get:
        get.finish(0)


@pytest.mark.parametrize(
    ("version", "form", "piece_bytes"), [(*form, 16384) for form in FORMS] + [("v2", "btmh", 65536)]
)
def test_we_seed_and_libtorrent_gets(tmp_path: Path, version: str, form: str, piece_bytes: int) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, FILES, piece_bytes=piece_bytes, version=version)
    ours = f"127.0.0.1:{free_port()}"
    with magnet(
        "seed",
        torrent,
        "--data",
        root.parent,
        "--no-dht",
        "--no-lsd",
        "--listen",
        ours,
        "--json",
        state=tmp_path / "state",
    ) as seed:
        seed.wait_event("seeding")
        source = source_of(torrent, form)
        leech = f"127.0.0.1:{free_port()}"
        with libtorrent("get", source, tmp_path / "got", "--listen", leech, "--peer", ours) as get:
            get.wait_event("done")
        assert_same_tree(root, tmp_path / "got" / "things")
        seed.terminate()
        assert seed.wait() in (0, 130), seed.story()
    calm(seed)


@pytest.mark.parametrize(("version", "form"), [form for form in FORMS if form[1] != "torrent"])
def test_what_is_resolved_is_whole(tmp_path: Path, version: str, form: str) -> None:
    """ut_metadata has no piece layers: they are asked for, so that the .torrent is of use to everybody."""
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, FILES, piece_bytes=16384, version=version)
    program, listen = seeder(torrent, root)
    options = ("--no-dht", "--no-lsd", "--peer", listen, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20")
    with program:
        program.wait_event("seeding")
        with magnet("resolve", source_of(torrent, form), "-o", tmp_path, *options, state=tmp_path / "state") as resolve:
            resolve.finish(0)
    calm(resolve)
    made = Torrent.from_bytes(Path(resolve.out[-1]).read_bytes())
    theirs = Torrent.from_bytes(torrent.read_bytes())
    assert made.info == theirs.info
    assert made.piece_layers == theirs.piece_layers
    assert len(made.piece_layers) >= 3
