"""What a command shows while it works: what every reporter is told, and the two that need no terminal.

Progress and remarks go to stderr, results to stdout. A reporter is told what happens and decides what of it
is shown and when; it never waits and never asks the session.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kademlia_bt.commands.console import one_line
from magnet.link import MagnetLink
from magnet.status import TorrentStatus
from magnet.texts import batch_line, counts_line, done_line, format_size, label, many_line, metadata_line, progress_line
from magnet.verdict import MagnetError, Phase

if TYPE_CHECKING:
    from wire.ids import InfoHash
    from wire.metainfo import Torrent

__all__ = ["LINE_EVERY_S", "PlainReporter", "Reporter"]

LINE_EVERY_S = 5.0
"""Between two plain lines: often enough to see that it lives, seldom enough for a log."""
_SEEDING_LINE_EVERY_S = 60.0


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
        self._line(metadata_line(torrent, seconds, source, selected))

    def progress(self, status: TorrentStatus) -> None:
        if self._due(_SEEDING_LINE_EVERY_S if status.phase is Phase.SEEDING else LINE_EVERY_S):
            self._line(progress_line(status))
            if self.verbose:
                self._line(counts_line(status))

    def batch(self, finished: int, failed: int, total: int, working: Sequence[TorrentStatus]) -> None:
        if self._due(LINE_EVERY_S):
            self._line(batch_line(finished, failed, total, working))

    def many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        if self._due(
            LINE_EVERY_S if any(one.phase is not Phase.SEEDING for one in statuses) else _SEEDING_LINE_EVERY_S
        ):
            self._line(many_line(summary, statuses))
            if self.verbose:
                for status in statuses:
                    self._line(f"  {progress_line(status)}")

    def resolved(self, torrent: Torrent, seconds: float, source: str, path: Path) -> None:
        self._line(metadata_line(torrent, seconds, source, None))
        super().resolved(torrent, seconds, source, path)

    def done(self, status: TorrentStatus, path: Path) -> None:
        self._line(f"{label(status)}: {done_line(status)}" if self.several else done_line(status))
        super().done(status, path)

    def seeding(self, addresses: Sequence[str], link: MagnetLink, status: TorrentStatus) -> None:
        where = f"on {', '.join(addresses)}" if addresses else "to whom we dial through the proxy; nobody can dial us"
        whole = "complete" if status.progress == 1.0 else f"{status.progress:.1%} of it"
        self._line(
            f"seeding {one_line(status.name or link.info_hash)} ({format_size(status.size or 0)}, {whole}) "
            f"{where}; Ctrl-C stops"
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


def _may_be_shown(char: str) -> bool:
    """Printable, the tab of our own columns, or a byte of a file's name that is no text."""
    return char.isprintable() or char == "\t" or "\udc80" <= char <= "\udcff"
