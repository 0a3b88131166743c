"""aria2c as a seeder and as a leecher, over DHT and over a named peer. It reads its DHT's answers slowly: 11 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.harness import (
    AWKWARD,
    Program,
    assert_same_tree,
    free_port,
    magnet,
    need_client,
    need_libtorrent,
    torrent_of,
)

pytestmark = pytest.mark.interop


def aria2(source: str | Path, directory: Path, port: int, *options: str, dht: str | None = None) -> Program:
    """aria2c on loopback, without its own local discovery, its log on stdout."""
    command = [
        need_client("aria2c"),
        "--no-conf",
        f"--dir={directory}",
        f"--listen-port={port}",
        "--interface=127.0.0.1",
    ]
    command += ["--bt-enable-lpd=false", "--enable-peer-exchange=false", "--check-certificate=false", "--quiet=false"]
    command += ["--console-log-level=info", "--enable-color=false", "--summary-interval=0", "--file-allocation=none"]
    if dht is None:
        command += ["--enable-dht=false"]
    else:
        files = directory.with_name(directory.name + ".dht")
        command += [
            "--enable-dht=true",
            f"--dht-entry-point={dht}",
            f"--dht-listen-port={port}",
            f"--dht-file-path={files}",
        ]
    return Program([*command, *options, str(source)])


def test_we_download_from_aria2(tmp_path: Path) -> None:
    need_client("aria2c")
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD)
    port = free_port()
    with aria2(torrent, root.parent, port, "--check-integrity=true", "--seed-ratio=0.0") as seeder:
        seeder.wait_line(lambda line: "listening on TCP port" in line)
        options = ("--no-dht", "--peer", f"127.0.0.1:{port}", "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20")
        link = f"magnet:?xt=urn:btih:{info_hash}"
        with magnet("get", link, "-o", tmp_path / "got", *options, "--json", state=tmp_path / "state") as get:
            get.finish(0)
    assert_same_tree(root, tmp_path / "got" / "things")


@pytest.mark.parametrize(("what", "dht"), [("torrent", "libtorrent's"), ("link", "ours")])
def test_aria2_downloads_from_us_through_a_dht(
    tmp_path: Path, request: pytest.FixtureRequest, what: str, dht: str
) -> None:
    need_client("aria2c")
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD, seed=len(what))
    libtorrent_dht = request.getfixturevalue("libtorrent_dht") if dht == "libtorrent's" else None
    entry = request.getfixturevalue("our_dht") if libtorrent_dht is None else libtorrent_dht.bootstrap
    ours = f"127.0.0.1:{free_port()}"
    options = ("--bootstrap", entry, "--listen", ours, "--json")
    with magnet("seed", torrent, "--data", root.parent, *options, state=tmp_path / "state") as seed:
        seed.wait_event("seeding")
        if libtorrent_dht is not None:
            libtorrent_dht.wait_announced(info_hash, port=int(ours.rpartition(":")[2]))
        source = torrent if what == "torrent" else f"magnet:?xt=urn:btih:{info_hash}"
        leecher = aria2(source, tmp_path / "got", free_port(), "--seed-time=0", dht=entry)
        with leecher:
            leecher.finish(0, timeout_s=90)
    assert_same_tree(root, tmp_path / "got" / "things")
