"""Playing while it downloads: a seek over a virtual internet, and `magnet stream` with clients on loopback."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from kademlia_bt.commands.console import run_app
from magnet import DownloadError
from magnet.cli import app
from tests.shell.kit import a_world, link_of, make_torrent
from tests.shell.test_dht_commands import environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FILM, FILM_DATA = make_torrent("film.mp4", {"film.mp4": 8_000_000})


async def test_a_seek_goes_before_all_else(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(FILM, FILM_DATA, dht=False, up_limit=1_000_000)
        session = await world.session(dht=False, peers=(seeder,))
        handle = await session.add(link_of(FILM))
        streams = await handle.streams()
        await trio.sleep(1.5)
        for part in (0.9, 0.5, 0.7):
            at = int(part * len(FILM_DATA))
            began = trio.current_time()
            with streams.reader(streams.files[0], at) as reader:
                data = await reader.read(1000)
                assert data == FILM_DATA[at : at + len(data)]
                assert data
            assert trio.current_time() - began < 1.0
        assert handle.status().progress < 0.8, "it was a seek, not a download"
        with streams.reader(streams.files[0], 0) as reader:
            read = b""
            while data := await reader.read():
                read += data
        assert read == FILM_DATA
        await handle.finished()


async def test_who_waits_hears_that_the_torrent_was_removed(autojump_clock):
    async with a_world(dht_nodes=0) as world:
        session = await world.session(dht=False)
        handle = await session.add(FILM)
        streams = await handle.streams()

        async def remove():
            await trio.sleep(5)
            await handle.remove()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove)
            with streams.reader(streams.files[0], 0) as reader, pytest.raises(DownloadError):
                await reader.read()
        with streams.reader(streams.files[0], 0) as reader, pytest.raises(DownloadError):
            await reader.read()


class Streaming:
    """A `magnet stream` beside its seeder, both children of the test."""

    def __init__(self, stream: subprocess.Popen[str], url: str, data: bytes) -> None:
        self.stream, self.url, self.data = stream, url, data
        self.at = urlsplit(url)

    def get(self, headers: dict[str, str] | None = None, path: str | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection(self.at.hostname or "", self.at.port, timeout=60)
        connection.request("GET", self.at.path if path is None else path, headers=headers or {})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body


def child(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "magnet", *words, "--json", "--no-dht", "--no-lsd", "--listen", "127.0.0.1:0"]
    command += ["--state", str(tmp_path / f"state-{words[0]}")]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    )


def until(process: subprocess.Popen[str], event: str) -> dict[str, object]:
    assert process.stdout is not None
    for line in process.stdout:
        if (said := json.loads(line))["event"] == event:
            return said
    raise AssertionError(process.stderr.read() if process.stderr else "")


@contextmanager
def streaming(tmp_path: Path, file: Path, *options: str) -> Iterator[Streaming]:
    torrent = tmp_path / "t.torrent"
    command = [sys.executable, "-m", "magnet", "create", str(file), "-o", str(torrent), "-q"]
    subprocess.run(command, check=True, env=environment(tmp_path), capture_output=True)
    children = [child(tmp_path, "seed", str(torrent), "--data", str(file.parent))]
    try:
        seeder = until(children[0], "seeding")["address"]
        out = str(tmp_path / "out")
        children.append(child(tmp_path, "stream", str(torrent), "-o", out, "--peer", str(seeder), *options))
        yield Streaming(children[1], str(until(children[1], "streaming")["url"]), file.read_bytes())
    finally:
        for process in children:
            process.kill()
            process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_command_serves_ranges_and_ends_though_a_client_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    file = tmp_path / "seeds" / "a film.mp4"
    file.write_bytes(random.Random(1).randbytes(12 << 20))
    with streaming(tmp_path, file) as served:
        assert served.url.startswith("http://127.0.0.1:")
        assert served.url.endswith("/0/a%20film.mp4")
        status, body = served.get({"Range": "bytes=11000000-11000999"})
        assert (status, body) == (206, served.data[11000000:11001000])
        assert served.get({"Host": "evil.example"})[0] == 421
        status, page = served.get(path="/")
        assert status == 200
        assert b"<video controls" in page
        with socket.create_connection((served.at.hostname, served.at.port)) as stalled:
            stalled.sendall(f"GET {served.at.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            stalled.recv(100)
            assert served.get()[1] == served.data
            served.stream.send_signal(signal.SIGINT)
            _, err = served.stream.communicate(timeout=60)  # it does not wait for him, who would never read on
            assert served.stream.returncode == 0
            assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        ["stream"],
        ["stream", "0" * 40, "--http", "nowhere:x"],
        ["stream", "magnet:?xt=broken"],
        ["stream", "no.torrent"],
    ],
)
def test_bad_usage_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, "magnet", words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("magnet: ")
    assert err.count("\n") == 1


def film(path: Path) -> Path:
    """Twenty seconds of noise by ffmpeg, red and then blue; its index lies at the end, so that players seek."""
    path.parent.mkdir()
    command = ["ffmpeg", "-v", "error"]
    for colour in ("red", "blue"):
        command += ["-f", "lavfi", "-i", f"color={colour}:size=160x120:rate=5:duration=10,noise=c0s=60:c0f=t"]
    command += ["-filter_complex", "[0][1]concat", "-c:v", "libvpx", "-b:v", "1M", "-cpu-used", "8", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


def red_and_blue(picture: Path) -> tuple[int, int]:
    """How many of some points of a picture are red, and blue."""
    raw = ["ffmpeg", "-v", "error", "-i", str(picture), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(raw, capture_output=True, check=True, timeout=60).stdout
    points = [pixels[at : at + 3] for at in range(0, len(pixels), 300)]
    red = sum(r > 120 > 2 * max(g, b) for r, g, b in points)
    return red, sum(b > 120 > 2 * max(r, g) for r, g, b in points)


@pytest.mark.interop
@pytest.mark.skipif(not shutil.which("ffprobe"), reason="no ffprobe here (Debian: apt-get install ffmpeg)")
def test_ffprobe_reads_a_film_while_it_downloads(tmp_path: Path) -> None:
    with streaming(tmp_path, film(tmp_path / "seeds" / "film.webm")) as served:
        command = ["ffprobe", "-v", "error", "-show_entries", "format=duration,size", "-of", "json", served.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        found = json.loads(done.stdout)["format"]
        assert int(found["size"]) == len(served.data)
        assert 19 < float(found["duration"]) < 21


@pytest.mark.interop
@pytest.mark.skipif(not shutil.which("mpv") or not shutil.which("ffmpeg"), reason="no mpv, or no ffmpeg here")
def test_mpv_plays_what_is_still_coming_and_seeks_in_it(tmp_path: Path) -> None:
    """2.5 MB at 0.15 MB/s: all of it takes 17 s."""
    with streaming(tmp_path, film(tmp_path / "seeds" / "film.webm"), "--down-limit", "150K") as served:
        words = ["mpv", "--no-config", "--ao=null", "--vo=image", "--vo-image-format=png", "--frames=1", served.url]

        def colours(second: int) -> tuple[int, int]:
            shots = tmp_path / str(second)
            more = [f"--start={second}", f"--vo-image-outdir={shots}"]
            subprocess.run([*words, *more], capture_output=True, timeout=60, check=True)
            return red_and_blue(next(shots.iterdir()))

        red, blue = colours(5)
        assert red > blue == 0
        red, blue = colours(15)
        assert blue > red == 0


@contextmanager
def our_page_at(film_url: str, second: int) -> Iterator[str]:
    """The address of our page, where the player goes to that second, and which is loaded once it shows what is there.

    A browser takes its picture when all is loaded: so the page is handed on with an image more, which comes only when
    the player has told that it is there.
    """
    shown, ours = threading.Event(), urlsplit(film_url).netloc
    more = f"""<img src="/held"><script>
        const film = document.querySelector("video"), painted = requestAnimationFrame;
        const go = () => {{
            film.onseeked = () => painted(() => painted(() => fetch("/shown")));
            film.currentTime = {second};
        }};
        film.readyState ? go() : film.onloadedmetadata = go;
    </script>"""

    class Relay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/shown":
                shown.set()
            if self.path == "/held":
                shown.wait(60)
            if self.path in ("/shown", "/held"):
                self.send_response(204)
                self.end_headers()
                return
            with closing(HTTPConnection(ours, timeout=60)) as asked, suppress(ConnectionError):
                asked.request("GET", self.path, headers={"Range": held} if (held := self.headers["Range"]) else {})
                answer = asked.getresponse()
                extra = more.encode() if self.path == "/" else b""
                self.send_response(answer.status)
                for name in ("Content-Type", "Content-Range", "Accept-Ranges"):
                    if value := answer.headers[name]:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(int(answer.headers["Content-Length"]) + len(extra)))
                self.end_headers()
                shutil.copyfileobj(answer, self.wfile)  # a player that goes elsewhere hangs up
                self.wfile.write(extra)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Relay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
    assert shown.is_set(), "the player never came to that place"


@pytest.mark.interop
@pytest.mark.skipif(not CHROMIUM or not shutil.which("ffmpeg"), reason="no chromium, or no ffmpeg here")
def test_a_browser_shows_the_film_on_our_page_and_seeks_in_it(tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    words += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}/c"]
    words += [f"--screenshot={shot}", "--window-size=800,800", "--timeout=40000"]
    with streaming(tmp_path, film(tmp_path / "seeds" / "film.webm")) as served:

        def colours(second: int) -> tuple[int, int]:
            """How many of the points that it shows there are red, and blue."""
            with our_page_at(served.url, second) as page:
                subprocess.run([*words, page], capture_output=True, timeout=90, check=False)
            return red_and_blue(shot)

        red, blue = colours(5)
        assert red > 200 > blue, "the page does not show the first half of the film"
        red, blue = colours(15)
        assert blue > 50 > red, "it does not show what is there at 15 s"
