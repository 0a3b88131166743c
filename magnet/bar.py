"""The live bar at the foot of a terminal, drawn with rich, which is loaded when there is something to draw."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kademlia_bt.commands.console import one_line
from magnet.reporter import LINE_EVERY_S, PlainReporter
from magnet.status import TorrentStatus
from magnet.texts import MAX_NAME_CHARS, batch_line, counts_line, format_duration, format_size, many_line, progress_line
from magnet.verdict import Phase

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["BarReporter"]

_BAR_CELLS = 8
_NAME_MIN_CELLS = 8
_MAX_BARS = 8
"""Of several torrents; the line below them counts all."""
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class BarReporter(PlainReporter):
    """A live bar at the foot of the terminal; the lines that stay scroll above it."""

    def __init__(self, console: Console, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(verbose=verbose, clock=clock)
        self._console = console
        self._live: Live | None = None
        self._spinner = 0
        self._drawn: tuple[int, list[int]] = (0, [])
        """Of the frame that stands there: how wide the terminal was, and the cells of each line."""

    def close(self) -> None:
        if self._live is not None:
            self._clear_what_wrapped()
            live, self._live = self._live, None
            live.update("", refresh=False)
            live.stop()

    def progress(self, status: TorrentStatus) -> None:
        if self.verbose and self._due(LINE_EVERY_S):
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
        self._clear_what_wrapped()
        self._console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)

    def _show(self, what: RenderableType) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()
        self._clear_what_wrapped()
        lines = self._console.render_lines(what, pad=False)
        self._drawn = self._console.width, [sum(part.cell_length for part in line) for line in lines]
        self._live.update(what, refresh=True)

    def _clear_what_wrapped(self) -> None:
        """In a terminal that was made narrower the lines of the old frame take more rows than rich knows of."""
        width, (drawn_width, cells) = self._console.width, self._drawn
        if self._live is None or width >= drawn_width:
            return
        self._drawn = (0, [])
        if more := sum(max(0, -(-count // width) - 1) for count in cells):
            from rich.control import Control
            from rich.segment import ControlType

            self._live.update("", refresh=True)  # what rich knows of goes, the cursor stands at its start
            self._console.control(Control((ControlType.CURSOR_UP, more), (ControlType.CARRIAGE_RETURN,)))
            self._console.file.write("\x1b[J")

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
        name.truncate(max(1, min(room, MAX_NAME_CHARS)), overflow="ellipsis")
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
