"""What a command shows while it works: a live bar on a terminal, plain lines in a pipe, JSON events for scripts.

Progress and remarks go to stderr, results to stdout. A reporter is told what happens and decides what of it
is shown and when; it never waits and never asks the session.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kademlia_bt.commands.console import emit, one_line
from magnet.link import MagnetLink
from magnet.status import TorrentStatus, waiting_line
from magnet.verdict import MagnetError, Phase, Verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from wire.ids import InfoHash
    from wire.metainfo import Torrent

__all__ = ["BarReporter", "JsonReporter", "PlainReporter", "Reporter", "format_size", "format_time", "make_reporter"]

_LINE_EVERY_S = 5.0
"""Between two plain lines: often enough to see that it lives, seldom enough for a log."""
_SEEDING_LINE_EVERY_S = 60.0
_JSON_EVERY_S = 1.0
_BAR_CELLS = 8
_NAME_MIN_CELLS = 8
_HASH_CHARS = 12
_MAX_BARS = 8
"""Of several torrents; the line below them counts all."""
_NAME_CHARS = 32
"""Of a name in the bar; the whole name stands in the line that announces the metadata."""


def format_size(size_bytes: float) -> str:
    """`1536` as `1.5 KiB`: powers of 1,024, three digits or so."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def format_time(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `4:05` (minutes), `1:02:03` (hours)."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_duration(seconds: float) -> str:
    """A span that need not be exact, such as the time that is left: `8 s`, `4 min`, `2 h 10 min`, `3 days`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def _may_be_shown(char: str) -> bool:
    """Printable, the tab of our own columns, or a byte of a file's name that is no text."""
    return char.isprintable() or char == "\t" or "\udc80" <= char <= "\udcff"


class Reporter:
    """Shows nothing but results and errors: what `-q` gives, and the base of the others."""

    def __init__(self, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.verbose = verbose
        self.several = False
        """Whether several torrents are under way: then it is said of each line or event which is meant."""
        self._clock = clock

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes what is live from the screen."""

    def note(self, text: str) -> None:
        """A remark that matters once."""

    def detail(self, text: str) -> None:
        """A remark for `-v`."""

    def started(self, info_hash: InfoHash, name: str | None) -> None:
        """A torrent was added."""

    def metadata(self, torrent: Torrent, seconds: float, source: str, selected: int | None = None) -> None:
        """Its metadata is verified; `selected`: bytes of the files that are wanted, where not all are."""

    def progress(self, status: TorrentStatus) -> None:
        """How it stands; called several times a second."""

    def batch(self, finished: int, failed: int, total: int, working: Sequence[TorrentStatus]) -> None:
        """How many of many links are resolved; called several times a second."""

    def many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        """How several torrents stand, those that are under way; called several times a second."""

    def resolved(self, torrent: Torrent, seconds: float, source: str, path: Path) -> None:
        """A .torrent was written."""
        self.result(str(path))

    def done(self, status: TorrentStatus, path: Path) -> None:
        """All that was wanted is there."""
        self.result(str(path))

    def seeding(self, addresses: Sequence[str], link: MagnetLink, status: TorrentStatus) -> None:
        """It is being shared."""
        self.result(str(link))

    def streaming(self, url: str, path: str, size: int) -> None:
        """A file is served."""
        self.result(url)

    def failed(self, error: MagnetError, subject: str | None = None) -> None:
        """It did not come. `subject`: which of many."""
        self.error(f"{subject}: {error}" if subject else str(error))

    def interrupted(self, status: TorrentStatus | None) -> None:
        """The user stopped it."""
        if status is None or status.size is None:
            self.error("interrupted")
        elif status.phase is not Phase.SEEDING:
            self.error(
                f"interrupted: {status.progress:.0%} of {status.name} is kept; run the same command again to go on"
            )

    def interrupted_many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        """The user stopped several torrents; `statuses` of those under way."""
        self.error(f"interrupted: {summary}; run the same command again to go on")

    def error(self, text: str) -> None:
        """One line on stderr."""
        self.close()
        sys.stderr.write(f"magnet: {one_line(text)}\n")
        sys.stderr.flush()

    def result(self, text: str) -> None:
        """One line on stdout, without what could steer a terminal, whoever wrote it."""
        line = "".join(char if _may_be_shown(char) else " " for char in text) + "\n"
        try:
            sys.stdout.write(line)
        except UnicodeEncodeError:  # a name that the terminal's encoding lacks, or that is no text at all
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()


class PlainReporter(Reporter):
    """Lines on stderr, for pipes and logs."""

    def __init__(self, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(verbose=verbose, clock=clock)
        self._line_at = clock() + 1.0
        """The first line comes early: most things are over by then, and who waits sees that it lives."""

    def note(self, text: str) -> None:
        self._line(text)

    def detail(self, text: str) -> None:
        if self.verbose:
            self._line(text)

    def metadata(self, torrent: Torrent, seconds: float, source: str, selected: int | None = None) -> None:
        self._line(_metadata_line(torrent, seconds, source, selected))

    def progress(self, status: TorrentStatus) -> None:
        if self._due(_SEEDING_LINE_EVERY_S if status.phase is Phase.SEEDING else _LINE_EVERY_S):
            self._line(progress_line(status))
            if self.verbose:
                self._line(counts_line(status))

    def batch(self, finished: int, failed: int, total: int, working: Sequence[TorrentStatus]) -> None:
        if self._due(_LINE_EVERY_S):
            self._line(batch_line(finished, failed, total, working))

    def many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        if self._due(
            _LINE_EVERY_S if any(one.phase is not Phase.SEEDING for one in statuses) else _SEEDING_LINE_EVERY_S
        ):
            self._line(many_line(summary, statuses))
            if self.verbose:
                for status in statuses:
                    self._line(f"  {progress_line(status)}")

    def resolved(self, torrent: Torrent, seconds: float, source: str, path: Path) -> None:
        self._line(_metadata_line(torrent, seconds, source, None))
        super().resolved(torrent, seconds, source, path)

    def done(self, status: TorrentStatus, path: Path) -> None:
        self._line(f"{_label(status)}: {done_line(status)}" if self.several else done_line(status))
        super().done(status, path)

    def seeding(self, addresses: Sequence[str], link: MagnetLink, status: TorrentStatus) -> None:
        whole = "complete" if status.progress == 1.0 else f"{status.progress:.1%} of it"
        self._line(
            f"seeding {one_line(status.name or link.info_hash)} ({format_size(status.size or 0)}, {whole}) "
            f"on {', '.join(addresses)}; Ctrl-C stops"
        )
        super().seeding(addresses, link, status)

    def streaming(self, url: str, path: str, size: int) -> None:
        self._line(f"streaming {one_line(path)} ({format_size(size)}); Ctrl-C stops")
        super().streaming(url, path, size)

    def _due(self, every_s: float) -> bool:
        now = self._clock()
        if now < self._line_at:
            return False
        self._line_at = now + every_s
        return True

    def _line(self, text: str) -> None:
        sys.stderr.write(one_line(text) + "\n")
        sys.stderr.flush()


class BarReporter(PlainReporter):
    """A live bar at the foot of the terminal; the lines that stay scroll above it."""

    def __init__(self, console: Console, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(verbose=verbose, clock=clock)
        self._console = console
        self._live: Live | None = None
        self._spinner = 0

    def close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.update("", refresh=False)
            live.stop()

    def progress(self, status: TorrentStatus) -> None:
        if self.verbose and self._due(_LINE_EVERY_S):
            self._line(counts_line(status))
        self._show(self._bar(status))

    def batch(self, finished: int, failed: int, total: int, working: Sequence[TorrentStatus]) -> None:
        self._show(self._spun(batch_line(finished, failed, total, working)))

    def many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        from rich.console import Group

        room = max(1, min(_MAX_BARS, self._console.height - 3))
        soonest = sorted(statuses, key=lambda status: status.progress, reverse=True)[:room]
        self._show(Group(*(self._bar(status) for status in soonest), self._spun(many_line(summary, statuses))))

    def result(self, text: str) -> None:
        if sys.stdout.isatty():
            self.close()  # it would be drawn over
        super().result(text)

    def _line(self, text: str) -> None:
        self._console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)

    def _show(self, what: RenderableType) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()
        self._live.update(what, refresh=True)

    def _bar(self, status: TorrentStatus) -> RenderableType:
        waiting = status.phase is Phase.DOWNLOADING and not (status.peers or status.web_seeds)
        if status.size is None or waiting or status.phase is Phase.SEEDING:
            return self._spun(progress_line(status))
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        checking = status.phase is Phase.CHECKING
        part = status.checked if checking else status.progress
        cells = [Text(f"{int(part * 100):3d}%")]
        if checking:
            cells.append(Text("checking what is there", style="dim"))
        else:
            # Padded, so that the bar does not jump as the numbers grow.
            cells.append(Text(f"{format_size(status.down_rate) + '/s':>10}", style="green"))
            cells.append(Text(f"{format_size(status.done):>8} / {format_size(status.size)}", style="cyan"))
            cells.append(Text(f"{status.givers:>7}", style="dim"))
            left = "" if status.eta_s is None else f"{format_duration(status.eta_s)} left"
            cells.append(Text(f"{left:>11}", style="dim"))
        name = Text(one_line(status.name or status.info_hash))
        room = self._console.width - 1 - _BAR_CELLS - 1
        while len(cells) > 2 and sum(cell.cell_len + 1 for cell in cells) + _NAME_MIN_CELLS > room:
            cells.pop()
        room -= sum(cell.cell_len + 1 for cell in cells)
        name.truncate(max(1, min(room, _NAME_CHARS)), overflow="ellipsis")
        table = Table.grid(padding=(0, 1, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        for _ in cells:
            table.add_column(no_wrap=True)
        table.add_row(name, ProgressBar(total=1.0, completed=part), *cells)
        return table

    def _spun(self, text: str) -> RenderableType:
        from rich.text import Text

        self._spinner = (self._spinner + 1) % len(_SPINNER)
        line = Text(f"{_SPINNER[self._spinner]} {one_line(text)}", no_wrap=True)
        line.truncate(self._console.width - 1, overflow="ellipsis")
        return line


class JsonReporter(PlainReporter):
    """One JSON object a line on stdout (the contract's events); what it waits for, and errors, on stderr."""

    def __init__(
        self, *, verbose: bool = False, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(verbose=verbose, clock=clock)
        self._quiet = quiet
        self._event_at: dict[object, float] = {}
        self._made_at = clock()

    def _emit(self, info_hash: InfoHash, event: Mapping[str, object]) -> None:
        emit({**event, "info_hash": str(info_hash)} if self.several else event)

    def started(self, info_hash: InfoHash, name: str | None) -> None:
        emit({"event": "started", "info_hash": str(info_hash), "name": name})

    def metadata(self, torrent: Torrent, seconds: float, source: str, selected: int | None = None) -> None:
        self._emit(
            torrent.info.info_hash,
            {
                "event": "metadata",
                "seconds": round(seconds, 3),
                "name": torrent.name,
                "size": torrent.size,
                "files": _file_count(torrent),
                "source": _json_source(source),
            },
        )

    def progress(self, status: TorrentStatus) -> None:
        if status.size is None:
            super().progress(status)
            return
        now = self._clock()
        if now < self._event_at.get(status.info_hash, self._made_at):
            return
        self._event_at[status.info_hash] = now + _JSON_EVERY_S
        self._emit(
            status.info_hash,
            {
                "event": "progress",
                "done": status.done,
                "size": status.size,
                "down_rate": round(status.down_rate),
                "up_rate": round(status.up_rate),
                "peers": status.peers,
            }
            | ({"web_seeds": status.web_seeds} if status.counts.web_seeds else {}),
        )

    def many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        known = [status for status in statuses if status.size is not None]
        for status in known:
            self.progress(status)
        if not known:
            super().many(summary, statuses)

    def resolved(self, torrent: Torrent, seconds: float, source: str, path: Path) -> None:
        emit(
            {
                "event": "resolved",
                "info_hash": str(torrent.info.info_hash),
                "name": torrent.name,
                "size": torrent.size,
                "seconds": round(seconds, 3),
                "source": _json_source(source),
                "torrent": str(path),
            },
        )

    def done(self, status: TorrentStatus, path: Path) -> None:
        event = {"event": "done", "seconds": round(status.elapsed_s, 3), "bytes": status.size, "path": str(path)}
        self._emit(status.info_hash, event)

    def seeding(self, addresses: Sequence[str], link: MagnetLink, status: TorrentStatus) -> None:
        event = {"event": "seeding", "address": addresses[0], "addresses": list(addresses), "magnet": str(link)}
        self._emit(status.info_hash, event)

    def streaming(self, url: str, path: str, size: int) -> None:
        emit({"event": "streaming", "url": url, "path": path, "size": size})

    def failed(self, error: MagnetError, subject: str | None = None) -> None:
        emit(failed_event(error, subject))
        super().failed(error, subject)

    def interrupted(self, status: TorrentStatus | None) -> None:
        if status is not None:
            self._cancelled(status)
        super().interrupted(status)

    def interrupted_many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        for status in statuses:
            self._cancelled(status)
        super().interrupted_many(summary, statuses)

    def _cancelled(self, status: TorrentStatus) -> None:
        if status.phase is not Phase.SEEDING:
            emit(failed_event(MagnetError(Verdict.CANCELLED, status.counts, status.info_hash, "interrupted"), None))

    def _line(self, text: str) -> None:
        if not self._quiet:
            super()._line(text)


def make_reporter(*, json: bool, quiet: bool, verbose: bool) -> Reporter:
    """The reporter for these options and this terminal."""
    if json:
        return JsonReporter(verbose=verbose, quiet=quiet)
    if quiet:
        return Reporter()
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal:
            return BarReporter(console, verbose=verbose)
    return PlainReporter(verbose=verbose)


def failed_event(error: MagnetError, subject: str | None) -> Mapping[str, object]:
    """The contract's `failed` event."""
    event: dict[str, object] = {
        "event": "failed",
        "info_hash": None if error.info_hash is None else str(error.info_hash),
        "verdict": str(error.verdict),
        "reason": str(error),
    }
    if subject is not None:
        event["source"] = subject
    return event | error.counts.as_dict()


def progress_line(status: TorrentStatus) -> str:
    """One line on how a torrent stands."""
    name = _label(status)
    if (
        status.size is None
        or status.phase is Phase.CHECKING
        or (status.phase is Phase.DOWNLOADING and not (status.peers or status.web_seeds))
    ):
        at = f"{status.progress:.0%}, " if status.size and status.phase is Phase.DOWNLOADING else ""
        return f"{name}: {at}{waiting_line(status)} ({format_duration(status.elapsed_s)})"
    if status.phase is Phase.SEEDING:
        return (
            f"{name}: seeding to {_n(status.peers, 'peer')}, "
            f"{format_size(status.up_rate)}/s up, {format_size(status.uploaded)} sent"
        )
    if status.down_rate < 1:
        return f"{name}: {status.progress:.0%}, {waiting_line(status)} ({format_duration(status.elapsed_s)})"
    left = f", {format_duration(status.eta_s)} left" if status.eta_s is not None else ""
    return (
        f"{name}: {status.progress:.0%} of {format_size(status.size)}, "
        f"{format_size(status.down_rate)}/s from {status.givers}{left}"
    )


def counts_line(status: TorrentStatus) -> str:
    """Every count that is not zero, for `-v`."""
    row = status.counts.as_dict()
    found = row.pop("found")
    row.pop("dht")
    parts = [f"{name.replace('_', ' ')} {value}" for name, value in row.items() if value]
    if isinstance(found, dict):
        parts[4:4] = [f"found by {via} {n}" for via, n in sorted(found.items()) if n]
    if status.wasted:
        parts.append(f"wasted {format_size(status.wasted)}")
    return "counts: " + (", ".join(parts) or "nothing yet")


def batch_line(finished: int, failed: int, total: int, working: Sequence[TorrentStatus]) -> str:
    """One line on how far many links are, and what the oldest waits for."""
    head = f"{finished} of {total} resolved" + (f", {failed} failed" if failed else "")
    if not working:
        return head
    oldest = max(working, key=lambda status: status.elapsed_s)
    return f"{head}; {_label(oldest)}: {waiting_line(oldest)}"


def many_line(summary: str, statuses: Sequence[TorrentStatus]) -> str:
    """One line on how several torrents stand together."""
    size = sum(status.size or 0 for status in statuses)
    done = sum(status.done for status in statuses)
    parts = [summary]
    if any(status.phase is not Phase.SEEDING for status in statuses):
        part = f"{done / size:.0%} of {format_size(size)}" if size else f"waiting for metadata of {len(statuses)}"
        parts.append(f"{part}, {format_size(sum(status.down_rate for status in statuses))}/s down")
    if up_rate := sum(status.up_rate for status in statuses):
        parts.append(f"{format_size(up_rate)}/s up")
    parts.append(_n(sum(status.peers for status in statuses), "peer"))
    return "; ".join(parts)


def done_line(status: TorrentStatus) -> str:
    """One line on what came and how fast."""
    size = status.size or 0
    line = f"done: {format_size(size)} in {format_time(status.elapsed_s)}"
    if not status.downloaded:
        return f"{line}; all of it was there and is verified"
    spent_s = max(status.elapsed_s - (status.metadata_s or 0.0), 1e-3)
    kept = max(0, size - status.downloaded)
    line += f", {format_size(min(status.downloaded, size) / spent_s)}/s"
    return f"{line}; {format_size(kept)} was there already" if kept else line


def _metadata_line(torrent: Torrent, seconds: float, source: str, selected: int | None) -> str:
    files = _file_count(torrent)
    size = format_size(torrent.size)
    if selected is not None and selected != torrent.size:
        size = f"{format_size(selected)} of {size}"
    if source in ("cache", "file", "url"):
        origin = f"from the {source if source != 'url' else 'URL'}"
    else:
        origin = f"metadata in {format_time(seconds)} {_ORIGINS.get(source, f'by {source}')}"
    return f"{torrent.name}: {size} in {_n(files, 'file')}, {origin}"


def _file_count(torrent: Torrent) -> int:
    return sum(not entry.pad for entry in torrent.info.files)


def _label(status: TorrentStatus) -> str:
    """The name, as far as it fits, or the beginning of the hash, which is enough to tell torrents apart."""
    if status.name is None:
        return f"{status.info_hash}"[:_HASH_CHARS]
    return status.name if len(status.name) <= _NAME_CHARS else status.name[: _NAME_CHARS - 1] + "…"


def _json_source(via: str) -> str:
    """In the words that scripts know: who connected to us, and was named by nobody, is a peer; what a .torrent file
    holds was here already, as what is in the cache."""
    return {"incoming": "peer", "file": "cache"}.get(via, via)


def _n(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


_ORIGINS = {
    "dht": "by the DHT",
    "peer": "from the given peer",
    "incoming": "from a peer that connected to us",
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
