"""Which reporter shows what a command does: a live bar on a terminal, plain lines in a pipe, JSON for scripts."""

from __future__ import annotations

import os
import sys

from magnet.reporter import PlainReporter, Reporter

__all__ = ["make_reporter"]


def make_reporter(*, json: bool, quiet: bool, verbose: bool) -> Reporter:
    """The reporter for these options and this terminal."""
    if json:
        from magnet.json_events import JsonReporter

        return JsonReporter(verbose=verbose, quiet=quiet)
    if quiet:
        return Reporter()
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        from rich.console import Console

        from magnet.bar import BarReporter

        console = Console(stderr=True)
        if console.is_terminal:
            return BarReporter(console, verbose=verbose)
    return PlainReporter(verbose=verbose)
