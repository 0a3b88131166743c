"""Through a SOCKS5 proxy that nobody here wrote: dante, for streams and datagrams; nothing else is spoken to."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.interop.conftest import LibtorrentDht
from tests.interop.harness import (
    PIECE,
    Program,
    assert_same_tree,
    free_port,
    kademlia_bt,
    magnet,
    need_client,
    seeder,
    torrent_of,
)
from tests.interop.test_trackers import _answering

pytestmark = pytest.mark.interop


@contextmanager
def dante() -> Iterator[tuple[str, Path]]:
    """Debian's dante on loopback, open to loopback; its URL, and its log."""
    program = need_client("danted")
    port = free_port()
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        config = Path(folder) / "danted.conf"
        config.write_text(
            f"""
            logoutput: {log}
            internal: 127.0.0.1 port = {port}
            external: 127.0.0.1
            socksmethod: none
            clientmethod: none
            user.privileged: {getpass.getuser()}
            user.unprivileged: {getpass.getuser()}
            client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
            socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 log: connect }}
            """
        )
        with Program([program, "-f", str(config), "-p", f"{folder}/pid"]) as running:
            _answering(port, running)
            yield f"socks5://127.0.0.1:{port}", log


def test_a_link_through_the_dht_and_a_peer_by_way_of_dante(tmp_path: Path, libtorrent_dht: LibtorrentDht) -> None:
    root, torrent, info_hash = torrent_of(tmp_path, {"a.bin": 2_000_000, "b/c.bin": 5}, piece_bytes=PIECE)
    giver, listen = seeder(torrent, root)
    with dante() as (proxy, log), giver:
        giver.wait_event("seeding")
        libtorrent_dht.announce(info_hash, listen)
        options = ("--bootstrap", libtorrent_dht.bootstrap, "--proxy", proxy, "--json", "--timeout", "30")
        with magnet("get", info_hash, "-o", tmp_path / "got", *options, state=tmp_path / "s") as get:
            get.finish(0)
        with kademlia_bt("ping", libtorrent_dht.bootstrap, "--proxy", proxy, "--allow-local") as ping:
            ping.finish(0)
        said = log.read_text()
    assert get.events("metadata")[0]["source"] == "dht"
    assert "tcp/connect" in said
    assert "udp" in said
    assert_same_tree(root, tmp_path / "got" / "things")


def test_a_proxy_that_is_not_there_is_one_line_and_exit_2(tmp_path: Path) -> None:
    options = ("--no-dht", "--proxy", f"socks5://127.0.0.1:{free_port()}")
    with magnet("get", "0" * 40, "-o", tmp_path, *options, state=tmp_path / "s") as get:
        assert "cannot be reached" in get.finish(2).story()
