"""SOURCE as a value: which text is what, and fetching a .torrent within bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from magnet import inputs
from magnet.inputs import fetch_torrent, is_url, read_source, read_torrent
from magnet.link import MagnetLink
from wire.errors import MetainfoError, MisuseError, ProtocolError
from wire.metainfo import Torrent
from wire.metainfo.create import create

HEX = "c9e15763f722f23e98a29decdfae341b98d53056"


@pytest.fixture
def torrent(tmp_path: Path) -> Torrent:
    (tmp_path / "film").write_bytes(b"x" * 5000)
    return create(tmp_path / "film")


def test_links_hashes_and_files(tmp_path: Path, torrent: Torrent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.torrent").write_bytes(torrent.to_bytes())
    Path("oddly named").write_bytes(torrent.to_bytes())
    assert read_source("a.torrent") == torrent
    assert read_source("./oddly named") == torrent
    assert read_source("oddly named") == torrent
    assert isinstance(read_source(HEX), MagnetLink)
    assert isinstance(read_source(f" magnet:?xt=urn:btih:{HEX}\n"), MagnetLink)
    assert is_url("HTTPS://x.example/a.torrent")
    assert not is_url(HEX)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("none.torrent", "cannot read none.torrent"),
        ("a/b", "cannot read a/b"),
        (".", "cannot read"),
        ("word", "'word' is no magnet link, no info-hash, and no .torrent file that is there"),
        (HEX[:-1], "its length is 39"),
        ("x" * 5000 + "/", "cannot read"),
        ("a\0/b", "no file name"),
    ],
)
def test_what_is_none_of_them(source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((MisuseError, ProtocolError)) as caught:
        read_source(source)
    assert says in str(caught.value)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.torrent"
    path.write_bytes(b"<html>")
    with pytest.raises(MetainfoError, match=r"x\.torrent"):
        read_torrent(path)


Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, Answer]]]:
    """An HTTP server on loopback, and the answers to its paths."""
    answers: dict[str, Answer] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.get(self.path, lambda handler: handler.send_error(404))(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class has
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", answers
        http.shutdown()
        thread.join()


def body(data: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def redirect(to: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_fetching_a_torrent(server: tuple[str, dict[str, Answer]], torrent: Torrent) -> None:
    url, answers = server
    answers["/a"] = redirect("/b")
    answers["/b"] = body(torrent.to_bytes())
    assert fetch_torrent(f"{url}/a") == torrent


def test_what_cannot_be_fetched(server: tuple[str, dict[str, Answer]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, answers = server
    monkeypatch.setattr(inputs, "MAX_TORRENT_BYTES", 1000)
    answers["/loop"] = redirect("/loop")
    answers["/file"] = redirect("file:///etc/passwd")
    answers["/page"] = body(b"<html>")
    answers["/big"] = body(b"d" * 2000)
    for path, says in (
        ("/none", "404"),
        ("/loop", "more than 5 redirects"),
        ("/file", "redirects to file:"),
        ("/page", "this is no .torrent"),
        ("/big", "longer than 1000 bytes"),
    ):
        with pytest.raises((MisuseError, MetainfoError)) as caught:
            fetch_torrent(url + path)
        assert says in str(caught.value)
        assert path in str(caught.value)
