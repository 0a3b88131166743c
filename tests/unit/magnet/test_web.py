"""Files over HTTP: ranges, hostile names, foreign hosts; and what readers need of the swarm. Without sockets."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from magnet.streaming import StreamedFile, Streams, choose_files, subtitles_of
from magnet.subtitles import as_webvtt
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


async def ask(app, path="/", method="GET", host="127.0.0.1:80", receive=trio.sleep_forever, **headers):
    """(status, headers, body, whether it was whole)."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    raw += [(b"host", host.encode())] if host is not None else []
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": raw, "http_version": "1.1", "scheme": "http", "root_path": "", "client": None, "server": None,
    }  # fmt: skip
    sent = []

    async def send(message):
        await trio.lowlevel.checkpoint()
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode("ascii"): value.decode("ascii") for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], found, body, not sent[-1].get("more_body", False)


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        (None, 200, (0, 1000)),
        ("bytes=0-", 206, (0, 1000)),
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=10-19", 206, (10, 20)),
        ("Bytes=990-5000", 206, (990, 1000)),
        ("bytes=-10", 206, (990, 1000)),
        ("bytes=-5000", 206, (0, 1000)),
        ("bytes=-0", 416, (0, 0)),
        ("bytes=1000-", 416, (0, 0)),
        ("bytes=999999999999999999-", 416, (0, 0)),
        ("bytes=9-1", 200, (0, 1000)),
        ("bytes=-", 200, (0, 1000)),
        ("bytes=0-1,5-6", 200, (0, 1000)),
        ("bytes=" + "9" * 5000 + "-", 200, (0, 1000)),
        ("lines=1-2", 200, (0, 1000)),
    ],
)
def test_ranges(header, status, part):
    assert byte_range(header, 1000) == (status, part)


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
        assert (await ask(app, path, if_none_match="*"))[0] == 304
        assert (await ask(app, path, range="bytes=9-2"))[0] == 200
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


async def test_the_ends_of_a_film_are_fetched_early_but_not_before_what_is_read(autojump_clock):
    source = Source(pieces=())
    info = make_torrent("t", {"a.srt": 3_000_000, "film.mp4": 4_000_000})[0].info
    held = Streams(info, [True, True], source)
    film = held.in_order[0]
    ends = {*held.pieces(film, 0, 1 << 20), *held.pieces(film, film.size - (256 << 10), film.size)}
    assert source.needed.keys() == ends
    assert len(ends) < info.piece_count / 2
    assert min(source.needed.values()) >= 30.0
    with held.reader(film, 2_000_000):
        assert min(source.needed, key=source.needed.get) == held.pieces(film, 2_000_000, 2_000_001)[0]


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


async def test_a_reader_goes_where_it_is_told_and_is_read_to_the_end(autojump_clock):
    source = Source(pieces=())
    held = streams(source)
    held.need(None, (), 0.0)
    file = held.files[1]
    with held.reader(file, 0) as reader:
        reader.seek(80_000)
        assert set(source.needed) == set(held.pieces(file, 80_000, file.size)), "and nothing of where it was"
        for piece in held.pieces(file, 0, file.size):
            source.give(piece)
        parts = [part async for part in reader]
        assert b"".join(parts) == DATA[file.offset :][80_000 : file.size]
        assert await reader.read() == b""
        reader.seek(10)
        assert await reader.read(5) == DATA[file.offset :][10:15]
        reader.seek(file.size + 5)
        assert await reader.read() == b""
        with pytest.raises(MisuseError, match="no byte -1"):
            reader.seek(-1)


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


async def test_for_who_has_left_nothing_is_read(autojump_clock):
    source = Source(pieces=())
    held = streams(source)
    held.need(None, (), 0.0)
    left = trio.Event()

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(ask, application(held), "/0/x", receive=receive))
        await trio.sleep(1)
        assert source.needed
        left.set()
        await trio.sleep(1)
        assert source.needed == {}
        assert not nursery.child_tasks


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


FILMS = {
    "one/One.mkv": 900, "one/one.srt": 1, "one/ONE.de.vtt": 1, "one/Subs/2_English.srt": 1, "one/notes.txt": 1,
    "two/a.mp4": 100, "two/b.mp4": 200, "two/a.srt": 1, "two/subs/b/english.srt": 1, "two/English.srt": 1,
    "huge.srt": 40 << 20,
}  # fmt: skip


@pytest.mark.parametrize(
    ("film", "subtitles"),
    [
        ("one/One.mkv", ["one/ONE.de.vtt", "one/Subs/2_English.srt", "one/one.srt"]),
        ("two/a.mp4", ["two/a.srt"]),
        ("two/b.mp4", ["two/subs/b/english.srt"]),
    ],
)
def test_which_subtitles_a_film_has(film, subtitles):
    files = [(tuple(path.split("/")), size) for path, size in sorted(FILMS.items())]
    found = subtitles_of([path for path, _ in files].index(tuple(film.split("/"))), files)
    assert ["/".join(files[index][0]) for index in found] == subtitles


async def test_a_film_comes_with_its_subtitles_and_is_named_first():
    files = {"a/film.srt": 10, "b.mkv": 5, "a/film.mp4": 50, "a/readme": 1}
    info = make_torrent("t", files)[0].info
    chosen = choose_files(info, ())
    assert [info.files[index].path[-1] for index, flag in enumerate(chosen) if flag] == ["film.srt", "film.mp4"]
    held = Streams(info, chosen, Source())
    assert [file.name for file in held.in_order] == ["film.mp4", "film.srt"]
    assert [file.name for file in held.subtitles(held.in_order[0])] == ["film.srt"]


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\xef\xbb\xbf1\r\n00:00:01,500 --> 00:00:02,000\r\na, b: 00:00:01,500\r\n",
         "WEBVTT\n\n1\n00:00:01.500 --> 00:00:02.000\na, b: 00:00:01,500"),
        (b"1\n00:00:01,500 --> 00:00:02,000\n\xfcber", "WEBVTT\n\n1\n00:00:01.500 --> 00:00:02.000\n\xfcber"),
        ("WEBVTT\n\nÄ".encode(), "WEBVTT\n\nÄ"),
        (b"", "WEBVTT\n\n"),
    ],
)  # fmt: skip
def test_subtitles_as_browsers_read_them(data, shown):
    assert as_webvtt(data).decode() == shown


async def test_the_page_offers_subtitles_and_they_are_given_as_webvtt(autojump_clock):
    torrent, data = make_torrent("t", {'film"<b>.srt': 200_000, "film.mp4": 100_000, "film.idx": 10, "x.txt": 5})
    source = Source(pieces=range(torrent.info.piece_count))
    held = Streams(torrent.info, [True] * 4, source)
    source.read = lambda piece, begin, length: _part(data, piece, begin, length)
    app = application(held)
    page = (await ask(app))[2].decode()
    number = next(file.index for file in held.files if file.name.endswith("srt"))
    assert f'<track kind="subtitles" src="/subtitles/{number}" label="film&quot;&lt;b&gt;.srt"></video>' in page
    assert page.count("<track") == 1, "a browser cannot show the pictures of discs"
    status, headers, body, _ = await ask(app, f"/subtitles/{number}")
    assert (status, headers["content-type"]) == (200, "text/vtt; charset=utf-8")
    assert body.startswith(b"WEBVTT")
    for path in ("/subtitles/99", "/subtitles/x", f"/subtitles/{held.in_order[0].index}"):
        assert (await ask(app, path))[0] == 404
    playlist = (await ask(app, "/playlist.m3u8"))[2].decode()
    assert playlist.count("#EXTINF") == 2
    assert ".srt" not in playlist


async def _part(data, piece, begin, length):
    return data[piece * PIECE + begin :][:length]


async def test_a_playlist_has_all_files_and_no_line_of_theirs():
    status, _, body, whole = await ask(application(streams()), "/playlist.m3u8", host="127.0.0.1:8080")
    assert (status, whole) == (200, True)
    lines = body.decode().splitlines()
    assert lines[0] == "#EXTM3U"
    assert len(lines) == 1 + 2 * len(HOSTILE)
    assert all(line.startswith("#EXTINF:-1,") for line in lines[1::2])
    assert lines[2].startswith("http://127.0.0.1:8080/0/")
    assert (await ask(application(streams()), "/playlist.m3u8", host="evil.example"))[0] != 200
