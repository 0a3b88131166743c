"""Files over HTTP: ranges, hostile names, foreign hosts; and what readers need of the swarm. Without sockets."""

from __future__ import annotations

import pytest
import trio

from magnet.streaming import StreamedFile, Streams, choose_files
from magnet.verdict import Counts, DownloadError, Verdict
from magnet.web import application, byte_range, content_type, file_path
from tests.shell.kit import PIECE, make_torrent
from wire.errors import MisuseError

HOSTILE = ["<img src=x onerror=alert(1)>.mp4", 'quote" and \r\nX-Evil: 1\u202e.mkv', "page.html"]
TORRENT, DATA = make_torrent("<b>films</b>", dict.fromkeys(HOSTILE, 100000))
INFO = TORRENT.info


class Source:
    """A torrent in memory, with the pieces that a test gives it."""

    def __init__(self, pieces=None):
        self.pieces = set(range(INFO.piece_count) if pieces is None else pieces)
        self.needed: dict[int, float] = {}
        self.came = trio.Event()
        self.broken = False

    def has(self, piece):
        return piece in self.pieces

    def give(self, piece):
        self.pieces.add(piece)
        self.needed.pop(piece, None)
        self.came.set()
        self.came = trio.Event()

    def need(self, at):
        self.needed = {piece: when for piece, when in (self.needed | at).items() if when is not None}

    async def wait(self, piece):
        while piece not in self.pieces:
            await self.came.wait()
            if self.broken:
                raise DownloadError(Verdict.STALLED, Counts(), INFO.info_hash)

    async def read(self, piece, begin, length):
        await trio.lowlevel.checkpoint()
        return DATA[piece * PIECE + begin : piece * PIECE + begin + length]


def streams(source=None, wanted=None):
    return Streams(INFO, wanted or [True] * len(INFO.files), source or Source())


async def ask(app, path="/", method="GET", host="127.0.0.1:80", **headers):
    """(status, headers, body, whether it was whole)."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    raw += [(b"host", host.encode())] if host is not None else []
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": raw, "http_version": "1.1", "scheme": "http", "root_path": "", "client": None, "server": None,
    }  # fmt: skip
    sent = []

    async def receive():
        await trio.sleep_forever()

    async def send(message):
        await trio.lowlevel.checkpoint()
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode("ascii"): value.decode("ascii") for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], found, body, not sent[-1].get("more_body", False)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, (0, 1000)),
        ("bytes=0-", (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("Bytes=990-5000", (990, 1000)),
        ("bytes=-10", (990, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=-0", None),
        ("bytes=1000-", None),
        ("bytes=999999999999999999-", None),
        ("bytes=9-1", (0, 1000)),
        ("bytes=-", (0, 1000)),
        ("bytes=0-1,5-6", (0, 1000)),
        ("bytes=" + "9" * 5000 + "-", (0, 1000)),
        ("lines=1-2", (0, 1000)),
    ],
)
def test_ranges(header, part):
    assert byte_range(header, 1000) == part


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.pdf", "a.js", "a.xhtml", "a.xml", "a", "a.mp4.html"])
def test_nothing_that_runs_gets_a_type(name):
    assert content_type(name) == "application/octet-stream"


async def test_a_file_whole_in_part_and_not_at_all():
    held = streams()
    app = application(held)
    for file in held.files:
        data = DATA[file.offset : file.offset + file.size]
        path = f"/{file.index}/any name"
        status, headers, body, _ = await ask(app, path)
        assert (status, body, headers["accept-ranges"]) == (200, data, "bytes")
        status, headers, body, _ = await ask(app, path, range="bytes=40000-70000")
        assert (status, body) == (206, data[40000:70001])
        assert headers["content-range"] == "bytes 40000-70000/100000"
        status, headers, body, _ = await ask(app, path, method="HEAD", range="bytes=-5")
        assert (status, body, headers["content-length"]) == (206, b"", "5")
        status, headers, _, _ = await ask(app, path, range="bytes=100000-")
        assert (status, headers["content-range"]) == (416, "bytes */100000")
        assert (await ask(app, path, range="bytes=1-2", if_range='"another"'))[0] == 200
        assert (await ask(app, path, range="bytes=1-2", if_range=headers.get("etag", '"another"')))[0] == 200
        etag = (await ask(app, path))[1]["etag"]
        assert (await ask(app, path, range="bytes=1-2", if_range=etag))[0] == 206
        assert (await ask(app, path, if_none_match=etag))[0] == 304
    for path in ("/9/x", "/-1/x", "/x", "/../etc/passwd", "/0"):
        assert (await ask(app, path))[0] == 404
    assert (await ask(app, "/0/x", method="POST"))[0] == 405


async def test_a_file_that_is_not_wanted_is_not_there():
    assert (await ask(application(streams(wanted=[True, False, True])), "/1/x"))[0] == 404


async def test_hostile_names_reach_neither_page_nor_headers():
    held = streams()
    app = application(held)
    _, headers, body, _ = await ask(app)
    page = body.decode()
    assert "<img" not in page
    assert "<b>" not in page
    assert "\u202e" not in page
    assert "\r" not in page
    assert "script" not in page
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    for file in held.files:
        path = file_path(file)
        assert path.isascii()
        assert not set(path) & set("\"<> \r\n'")
        assert f'href="{path}"' in page
        _, headers, _, _ = await ask(app, f"/{file.index}/x")
        assert "x-evil" not in headers
        for value in headers.values():
            assert value.isprintable()
        assert "<" not in headers["content-disposition"]


async def test_a_name_that_points_at_us_is_not_ours():
    app = application(streams())
    for host in ("evil.example", "evil.example:80", "", None, "127.0.0.1.evil.example"):
        for path in ("/", "/0/x"):
            status, _, body, _ = await ask(app, path, host=host)
            assert status == 421
            assert body.startswith(b"Open this by its address")
    for host in ("localhost:8080", "127.0.0.1", "[::1]:80", "10.0.0.7:1"):
        assert (await ask(app, host=host))[0] == 200


async def test_what_is_not_there_is_waited_for(autojump_clock):
    source = Source(pieces=())
    held = streams(source)
    source.needed.clear()
    got = []

    async def read():
        got.append(await ask(application(held), "/0/x", range="bytes=50000-50009"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(1)
        first = 50000 // PIECE
        assert min(source.needed, key=source.needed.get) == first
        assert source.needed[first] <= trio.current_time()
        assert not got
        source.give(first)
    assert got[0][2] == DATA[50000:50010]
    assert source.needed.keys() <= set(held.pieces(held.files[0], 0, held.files[0].size)), "who left needs nothing"


async def test_two_readers_and_one_leaves(autojump_clock):
    source = Source(pieces=())
    held = streams(source)
    held.need(None, (), 0.0)
    assert source.needed == {}
    one, two = held.reader(held.files[0], 0), held.reader(held.files[0], PIECE)
    with two:
        await trio.sleep(5)
        with one:
            assert set(source.needed) == set(held.pieces(held.files[0], 0, 100_000))
            at = source.needed[1]
            assert at == 0.0
        assert set(source.needed) == set(held.pieces(held.files[0], PIECE, 100_000))
        assert source.needed[1] == at
    assert source.needed == {}


async def test_a_torrent_that_fails_ends_the_answer_short(autojump_clock):
    source = Source(pieces=(0,))
    app = application(streams(source))
    got = []

    async def read():
        got.append(await ask(app, "/0/x"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(1)
        source.broken = True
        source.came.set()
    status, _, body, whole = got[0]
    assert (status, body, whole) == (200, DATA[:PIECE], False)


async def test_too_many_readers_are_sent_away(autojump_clock):
    app = application(streams(Source(pieces=())))
    async with trio.open_nursery() as nursery:
        for _ in range(32):
            nursery.start_soon(ask, app, "/0/x")
        await trio.sleep(1)
        assert (await ask(app, "/0/x"))[0] == 503
        nursery.cancel_scope.cancel()
    assert (await ask(app, "/0/x", method="HEAD"))[0] == 200


def test_which_files_are_streamed():
    info = make_torrent("t", {"big.iso": 900, "film.MKV": 500, "small.mp4": 100})[0].info
    assert choose_files(info, ()) == [False, True, False]
    assert choose_files(info, ["*.mp4"]) == [False, False, True]
    assert choose_files(make_torrent("t", {"a": 1, "b": 2})[0].info, ()) == [False, True]
    with pytest.raises(MisuseError, match="no file of 't' matches"):
        choose_files(info, ["*.avi"])
    assert StreamedFile(0, ("a", "b"), 1, 0).name == "b"


async def test_a_playlist_has_all_files_and_no_line_of_theirs():
    status, _, body, whole = await ask(application(streams()), "/playlist.m3u8", host="127.0.0.1:8080")
    assert (status, whole) == (200, True)
    lines = body.decode().splitlines()
    assert lines[0] == "#EXTM3U"
    assert len(lines) == 1 + 2 * len(HOSTILE)
    assert all(line.startswith("#EXTINF:-1,") for line in lines[1::2])
    assert lines[2].startswith("http://127.0.0.1:8080/0/")
    assert (await ask(application(streams()), "/playlist.m3u8", host="evil.example"))[0] != 200
