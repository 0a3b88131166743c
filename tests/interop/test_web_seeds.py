"""Downloads from real web servers alone, and beside peers: nginx, and Python's http.server, which knows no ranges."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.interop.clients import wait_until
from tests.interop.harness import (
    AWKWARD,
    PIECE,
    Program,
    assert_same_tree,
    free_port,
    magnet,
    make_tree,
    need_client,
    seeder,
    torrent_of,
)
from tests.interop.test_trackers import _answering
from wire.metainfo.create import Version, create

pytestmark = pytest.mark.interop

QUIET = ("--no-dht", "--no-lsd", "--no-trackers", "--listen", "127.0.0.1:0", "--json", "--timeout", "20")


@contextmanager
def nginx(root: Path, prefix: Sequence[str] = ()) -> Iterator[tuple[str, Path]]:
    """Debian's nginx on loopback, a process of our own; the URL of `root`, and its log of requests.

    `prefix` starts it in a network namespace, on the loopback there.
    """
    program = need_client("nginx")
    port = free_port()
    with TemporaryDirectory() as folder:
        (Path(folder) / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
            events {{ worker_connections 64; }}
            http {{
              log_format short '$status $connection $http_range'; access_log {folder}/log short;
              client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
              uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
              server {{
                listen 127.0.0.1:{port};
                location / {{ root {root}; }}
                location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
                location /busy/ {{ return 503; }}
              }}
            }}
            """
        )
        command = [program, "-p", folder, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/errors"]
        with Program([*prefix, *command]) as running:
            wait_until((Path(folder) / "pid").exists, running, 60)  # written once it listens
            yield f"http://127.0.0.1:{port}/", Path(folder) / "log"


@contextmanager
def python_server(root: Path) -> Iterator[str]:
    """`python -m http.server`, which sends whole files whatever it is asked for; the URL of `root`."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(root)]
    with Program(command) as running:
        _answering(port, running)
        yield f"http://127.0.0.1:{port}/"


def shared(
    tmp_path: Path, files: dict[str, int], *urls: str, name: str = "things", version: Version = "1"
) -> tuple[Path, Path]:
    """A tree (or one file), and its .torrent with these web seeds."""
    make_tree(tmp_path / "www" / name if list(files) != [name] else tmp_path / "www", files)
    root = tmp_path / "www" / name
    made = create(root, piece_length=PIECE, web_seeds=urls, version=version)
    torrent = tmp_path / "t.torrent"
    torrent.write_bytes(made.to_bytes())
    return root, torrent


@pytest.mark.parametrize("way", ["", "moved/"])
@pytest.mark.parametrize("files", [AWKWARD, {"one file.bin": 5_000_001}], ids=["folder", "file"])
def test_nginx_alone_gives_all_of_it(tmp_path: Path, files: dict[str, int], way: str) -> None:
    name = "one file.bin" if len(files) == 1 else "things"
    (tmp_path / "www").mkdir()
    with nginx(tmp_path / "www") as (url, log):
        root, torrent = shared(tmp_path, files, url + way, name=name)
        with magnet("get", torrent, "-o", tmp_path / "got", *QUIET, state=tmp_path / "s") as get:
            get.finish(0)
        lines = log.read_text().splitlines()
    assert_same_tree(root, tmp_path / "got" / name)
    asked = [line.split() for line in lines]
    assert {status for status, *_ in asked} <= {"200", "206", "302"}
    assert len({connection for _, connection, *_ in asked}) <= 4, "connections are kept"


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("version", ["2", "hybrid"])
def test_torrents_of_the_other_versions(tmp_path: Path, version: Version, ranges: bool) -> None:
    (tmp_path / "www").mkdir()
    with ExitStack() as stack:
        root_of = tmp_path / "www"
        url = stack.enter_context(nginx(root_of))[0] if ranges else stack.enter_context(python_server(root_of))
        root, torrent = shared(tmp_path, AWKWARD, url, version=version)
        with magnet("get", torrent, "-o", tmp_path / "got", *QUIET, state=tmp_path / "s") as get:
            get.finish(0)
    assert_same_tree(root, tmp_path / "got" / "things")


def test_a_link_with_ws_and_one_peer_for_the_metadata(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    with nginx(tmp_path / "www") as (url, log):
        root, torrent, info_hash = torrent_of(tmp_path, {"a.bin": 3_000_000, "b/c d.bin": 2_000_000})
        os.symlink(root, tmp_path / "www" / "things")
        giver, at = seeder(torrent, root, "--rate", "2000000")  # alone it would take 2.5 s
        with giver:
            giver.wait_event("seeding")
            link = f"magnet:?xt=urn:btih:{info_hash}&ws={url}&x.pe={at}"
            with magnet("get", link, "-o", tmp_path / "got", *QUIET, state=tmp_path / "s") as get:
                get.finish(0)
            wait_until(lambda: "206" in log.read_text(), giver, 60)  # both gave; noted when the answer is over
    assert_same_tree(root, tmp_path / "got" / "things")


@pytest.mark.parametrize("files", [AWKWARD, {"one.bin": 2_000_001}], ids=["folder", "file"])
def test_a_server_without_ranges_is_read_from_the_start(tmp_path: Path, files: dict[str, int]) -> None:
    name = "one.bin" if len(files) == 1 else "things"
    (tmp_path / "www").mkdir()
    with python_server(tmp_path / "www") as url:
        root, torrent = shared(tmp_path, files, url, name=name)
        with magnet("get", torrent, "-o", tmp_path / "got", *QUIET, state=tmp_path / "s") as get:
            get.finish(0)
    assert_same_tree(root, tmp_path / "got" / name)


def test_a_server_that_has_other_bytes_is_given_up_and_said(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    with nginx(tmp_path / "www") as (url, _):
        root, torrent = shared(tmp_path, {"one.bin": 500_000}, url, name="one.bin")
        root.write_bytes(bytes(500_000))
        options = (*QUIET[:-1], "4")
        with magnet("get", torrent, "-o", tmp_path / "got", *options, state=tmp_path / "s") as get:
            get.finish(3)
            failed = get.events("failed")[0]
    assert "wrong data" in failed["reason"]
    assert failed["verdict"] == "stalled"
