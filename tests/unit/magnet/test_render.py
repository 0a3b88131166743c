"""What is shown, when and where: plain lines, JSON events, the bar."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, Group

from magnet.bar import BarReporter
from magnet.json_events import JsonReporter
from magnet.link import MagnetLink
from magnet.render import make_reporter
from magnet.reporter import PlainReporter, Reporter
from magnet.status import TorrentStatus
from magnet.texts import done_line, format_duration, format_size, format_time, progress_line
from magnet.verdict import Counts, Phase, ResolveError, Verdict
from wire.ids import InfoHash
from wire.metainfo import Torrent
from wire.metainfo.create import create

HASH = InfoHash(v1=bytes(20))
WAITING = TorrentStatus(HASH, Phase.METADATA, elapsed_s=3.0, counts=Counts(nodes_asked=9, nodes_answered=4))
LOADING = TorrentStatus(
    HASH,
    Phase.DOWNLOADING,
    elapsed_s=9.0,
    name="film",
    size=64 << 20,
    done=32 << 20,
    down_rate=8 << 20,
    peers=3,
    files=1,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def torrent(tmp_path: Path) -> Torrent:
    (tmp_path / "film").write_bytes(b"x" * 5000)
    return create(tmp_path / "film")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64 MiB"),
        (1 << 30, "1 GiB"),
        (123_456_789, "118 MiB"),
        (1 << 50, "1024 TiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


def test_times() -> None:
    assert [format_time(s) for s in (0.424, 12.34, 245, 3723)] == ["0.42 s", "12.3 s", "4:05", "1:02:03"]
    assert [format_duration(s) for s in (8, 240, 7800, 300_000)] == ["8 s", "4 min", "2 h 10 min", "3 days"]


def test_plain_lines_come_soon_and_then_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    reporter = PlainReporter(clock=clock)
    for _ in range(110):  # eleven seconds, ten looks a second
        reporter.progress(WAITING)
        clock.now += 0.1
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert "searching the DHT: 4 of 9 nodes answered" in lines[0]


def test_results_alone_are_on_stdout(capsys: pytest.CaptureFixture[str], torrent: Torrent) -> None:
    reporter = PlainReporter()
    reporter.started(HASH, None)
    reporter.metadata(torrent, 0.5, "dht")
    reporter.done(replace(LOADING, done=LOADING.size or 0, downloaded=64 << 20), Path("/x/film"))
    out, err = capsys.readouterr()
    assert out == "/x/film\n"
    assert "film: 4.88 KiB in 1 file, metadata in 0.50 s" in err
    assert "done: 64 MiB in 9.00 s" in err


def test_quiet_shows_results_and_errors_only(capsys: pytest.CaptureFixture[str], torrent: Torrent) -> None:
    reporter = Reporter()
    reporter.started(HASH, "film")
    reporter.progress(WAITING)
    reporter.metadata(torrent, 0.5, "dht")
    reporter.done(LOADING, Path("film"))
    reporter.failed(ResolveError(Verdict.NO_PEERS, Counts(), HASH))
    out, err = capsys.readouterr()
    assert out == "film\n"
    assert err.startswith("magnet: no peers: ")
    assert err.count("\n") == 1


def test_json_is_one_object_a_line_with_the_contract_s_keys(
    capsys: pytest.CaptureFixture[str], torrent: Torrent
) -> None:
    clock = Clock()
    reporter = JsonReporter(clock=clock)
    reporter.started(HASH, None)
    reporter.metadata(torrent, 0.5, "dht")
    for _ in range(35):
        reporter.progress(LOADING)
        clock.now += 0.1
    reporter.resolved(torrent, 0.5, "dht", Path("a.torrent"))
    reporter.done(LOADING, Path("film"))
    reporter.seeding(["127.0.0.1:1"], MagnetLink(info_hash=HASH), LOADING)
    reporter.failed(ResolveError(Verdict.NO_PEERS, Counts(nodes_asked=7), HASH))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["started", "metadata"] + ["progress"] * 4 + [
        "resolved",
        "done",
        "seeding",
        "failed",
    ]
    by_name = {event["event"]: event for event in events}
    assert (
        by_name["metadata"] | {"seconds": 0.5, "name": "film", "size": 5000, "files": 1, "source": "dht"}
        == by_name["metadata"]
    )
    assert set(by_name["progress"]) == {"event", "done", "size", "down_rate", "up_rate", "peers"}
    assert set(by_name["started"]) == {"event", "info_hash", "name"}
    assert set(by_name["metadata"]) == {"event", "seconds", "name", "size", "files", "source"}
    assert set(by_name["resolved"]) == {"event", "info_hash", "name", "size", "seconds", "source", "torrent"}
    assert set(by_name["done"]) == {"event", "seconds", "bytes", "path"}
    assert set(by_name["seeding"]) == {"event", "address", "addresses", "magnet"}
    assert set(by_name["failed"]) == {"event", "info_hash", "verdict", "reason", *Counts().as_dict()}
    assert by_name["done"]["bytes"] == 64 << 20
    assert by_name["failed"]["verdict"] == "no_peers"
    assert by_name["failed"]["nodes_asked"] == 7
    assert by_name["failed"]["info_hash"] == "0" * 40


def test_a_peer_that_came_by_itself_is_a_peer_for_scripts(capsys: pytest.CaptureFixture[str], torrent: Torrent) -> None:
    JsonReporter().metadata(torrent, 0.5, "incoming")
    assert json.loads(capsys.readouterr().out)["source"] == "peer"


@pytest.mark.parametrize("via", ["dht", "tracker", "peer", "pex", "lsd", "cache", "url", "incoming", "file"])
def test_sources_have_the_contract_s_names(via: str, capsys: pytest.CaptureFixture[str], torrent: Torrent) -> None:
    JsonReporter().metadata(torrent, 0.5, via)
    source = json.loads(capsys.readouterr().out)["source"]
    assert source in ("dht", "tracker", "peer", "pex", "lsd", "cache", "url")
    assert source == via or via in ("incoming", "file")


def test_json_says_on_stderr_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    loud, quiet = JsonReporter(clock=clock), JsonReporter(quiet=True, clock=clock)
    clock.now += 2
    quiet.progress(WAITING)
    assert capsys.readouterr() == ("", "")
    loud.progress(WAITING)
    out, err = capsys.readouterr()
    assert out == ""
    assert "searching" in err


def test_an_interrupt_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().interrupted(LOADING)
    assert "50% of film is kept" in capsys.readouterr().err
    Reporter().interrupted(None)
    assert capsys.readouterr().err == "magnet: interrupted\n"
    JsonReporter().interrupted(LOADING)
    assert json.loads(capsys.readouterr().out)["verdict"] == "cancelled"


def shown(reporter: BarReporter, status: TorrentStatus, width: int) -> list[str]:
    page = Console(file=io.StringIO(), width=width, color_system=None)
    page.print(Group(reporter._bar(status)))
    return page.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_the_bar_stays_on_one_line(width: int) -> None:
    reporter = BarReporter(Console(file=io.StringIO(), force_terminal=True, width=width))
    odd = replace(LOADING, name="n" * 200, size=99_999_999_999, down_rate=123_456_789.0)
    for status in (WAITING, odd, replace(LOADING, phase=Phase.CHECKING), LOADING, replace(LOADING, peers=0)):
        lines = shown(reporter, status, width)
        assert len(lines) == 1
        assert len(lines[0]) <= width


def test_a_waiting_line_that_does_not_fit_says_so() -> None:
    (line,) = shown(BarReporter(Console(file=io.StringIO(), width=40)), WAITING, 40)
    assert line.endswith("…")


def test_the_bar_says_how_far_and_how_fast() -> None:
    (line,) = shown(BarReporter(Console(file=io.StringIO(), width=120)), LOADING, 120)
    for words in ("film", "50%", "32 MiB / 64 MiB", "8 MiB/s", "3 peers", "4 s left"):
        assert words in line
    (line,) = shown(BarReporter(Console(file=io.StringIO(), width=40)), LOADING, 40)
    assert "50%" in line, "where there is no room, how far it is stays"
    assert "8 MiB/s" in line


def test_the_bar_leaves_nothing_on_the_screen() -> None:
    screen = io.StringIO()
    with BarReporter(Console(file=screen, force_terminal=True, width=80, legacy_windows=False)) as reporter:
        reporter.progress(LOADING)
        reporter.progress(WAITING)
        assert "\x1b[?25l" in screen.getvalue(), "the cursor is hidden while the bar is live"
    assert screen.getvalue().rstrip().endswith("\x1b[2K") or "\x1b[?25h" in screen.getvalue()
    assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l")


@pytest.mark.parametrize("by", ["a new frame", "a line above it", "the end"])
def test_a_terminal_made_narrower_keeps_no_part_of_the_old_frame(by: str) -> None:
    """It wraps what stood there: two bars of 100 cells and a line of 44 are five rows of 60, ten of 30."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=30, legacy_windows=False)
    reporter = BarReporter(console)
    reporter.many("summary", [LOADING, LOADING])
    reporter.many("summary", [LOADING, LOADING])
    assert "\x1b[J" not in screen.getvalue()
    for width, more in ((60, 2), (60, 0), (100, 0), (30, 7)):
        console.width = width
        at = len(screen.getvalue())
        if by == "a new frame" or not more:
            reporter.many("summary", [LOADING, LOADING])
        elif by == "a line above it":
            reporter.note("words")
        else:
            reporter.close()
        said = screen.getvalue()[at:]
        assert ("\x1b[J" in said) == bool(more)
        if more:
            above = said[: said.index("\x1b[J")]
            assert sum(int(n) for n in re.findall(r"\x1b\[(\d)A", above)) == 2 + more, "to where the frame began"
            reporter.many("summary", [LOADING, LOADING])
    reporter.close()


def test_a_name_cannot_move_the_cursor_or_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter(clock=Clock())
    reporter.note("a\x1b[2Jb\nmagnet: done")
    assert capsys.readouterr().err == "a [2Jb magnet: done\n"


def test_of_several_torrents_each_event_says_which(capsys: pytest.CaptureFixture[str], torrent: Torrent) -> None:
    clock = Clock()
    reporter = JsonReporter(clock=clock)
    reporter.several = True
    other = replace(LOADING, info_hash=InfoHash(v1=bytes([1]) * 20))
    reporter.metadata(torrent, 0.5, "dht")
    reporter.many("0 of 2 done", [LOADING, other])
    reporter.many("0 of 2 done", [LOADING, other])  # not yet a second later
    reporter.done(LOADING, Path("film"))
    reporter.seeding(["127.0.0.1:1"], MagnetLink(info_hash=HASH), LOADING)
    reporter.interrupted_many("1 of 2 done", [other])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["metadata", "progress", "progress", "done", "seeding", "failed"]
    assert [event["info_hash"][:2] for event in events[1:]] == ["00", "01", "00", "00", "01"]
    assert events[-1]["verdict"] == "cancelled"


@pytest.mark.parametrize("width", [20, 60, 200])
def test_several_bars_keep_to_their_lines(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, height=24, force_terminal=True, color_system=None)
    reporter = BarReporter(console)
    reporter.many("1 of 30 done, 2 failed", [replace(LOADING, name="\x1b[2Jn\n" * 9, done=at) for at in range(30)])
    reporter.close()
    text = out.getvalue()
    assert "\x1b[2J" not in text
    drawn = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text).replace("\r", "")
    lines = [line for line in drawn.split("\n") if line.strip()]
    assert len(lines) == 9, "eight bars, and one line for all"
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("reporter", [Reporter(), PlainReporter(), JsonReporter()])
def test_nothing_that_steers_a_terminal_reaches_it(reporter: Reporter, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b]0;title\x07\x9b2J\u202e\r\n\x00b"
    reporter.result(f"{evil}\t/tmp/d")
    reporter.note(evil)
    reporter.error(evil)
    reporter.streaming("http://127.0.0.1:1/", evil, 5)
    out, err = capsys.readouterr()
    assert not set(out + err) & set("\x1b\x07\x9b\u202e\r\x00")
    assert "\t/tmp/d\n" in out


def test_lines_tell_what_matters_in_each_state() -> None:
    assert progress_line(LOADING) == "film: 50% of 64 MiB, 8 MiB/s from 3 peers, 4 s left"
    assert "waiting for data" in progress_line(replace(LOADING, down_rate=0.0))
    assert "50%, waiting for a peer" in progress_line(replace(LOADING, peers=0, counts=Counts(found={"dht": 1})))
    seeding = replace(LOADING, phase=Phase.SEEDING, uploaded=1 << 20)
    assert "seeding to 3 peers" in progress_line(seeding)
    assert "1 MiB sent" in progress_line(seeding)
    assert "all of it was there" in done_line(replace(LOADING, done=64 << 20))
    assert "32 MiB was there already" in done_line(replace(LOADING, downloaded=32 << 20))


def test_the_reporter_fits_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make_reporter(json=True, quiet=False, verbose=False)) is JsonReporter
    assert type(make_reporter(json=False, quiet=True, verbose=False)) is Reporter
    assert type(make_reporter(json=False, quiet=False, verbose=False)) is PlainReporter, "stderr is no terminal here"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_reporter(json=False, quiet=False, verbose=False)) is PlainReporter
