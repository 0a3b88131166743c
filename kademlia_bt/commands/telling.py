"""What the commands of `kademlia-bt` say: results on stdout, a line or a JSON event each; all else on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from kademlia_bt.bootstrap import Attempt
from kademlia_bt.commands.console import ExitCode, complain, emit, one_line
from kademlia_bt.commands.options import Options
from kademlia_bt.dht.events import DhtStats

__all__ = [
    "NAME",
    "failed",
    "joining",
    "log_to_stderr",
    "print_line",
    "saying",
    "tried",
    "tried_as_json",
    "unreachable",
]

NAME = "kademlia-bt"

_WAITING_SAID_S = 5.0
"""Between the lines that say what is waited for."""


def log_to_stderr(verbose: bool) -> None:
    """Warnings, and with `verbose` more, as lines on stderr."""
    logging.basicConfig(format=f"{NAME}: %(message)s", level=logging.INFO if verbose else logging.WARNING)


def print_line(text: str) -> None:
    """A result for people, on stdout, at once."""
    sys.stdout.write(one_line(text) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def saying(text: Callable[[], str]) -> AsyncIterator[None]:
    """Says on stderr what is being waited for, for as long as the body takes."""

    async def say() -> None:
        said = ""
        while True:
            await trio.sleep(_WAITING_SAID_S)
            if text() != said:  # what has not changed is not said again
                said = text()
                complain(NAME, f"waiting: {said}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say)
        yield
        nursery.cancel_scope.cancel()


def joining(stats: DhtStats) -> str:
    if not stats.routers_tried and not stats.nodes_asked:
        return "no node to start from is known yet; others may come, or their names are still being resolved"
    return (
        f"{stats.routers_answered} of {stats.routers_tried} first nodes answered, "
        f"{stats.nodes_answered} of {stats.nodes_asked} questions in all"
    )


def tried_as_json(attempts: Sequence[Attempt]) -> dict[str, object]:
    return {
        "tried": [
            {
                "place": attempt.place,
                "address": None if attempt.endpoint is None else str(attempt.endpoint),
                "answered": attempt.answered,
                "outcome": attempt.outcome,
            }
            for attempt in attempts
        ]
    }


def failed(
    options: Options,
    verdict: str,
    reason: str,
    stats: DhtStats | None = None,
    attempts: Sequence[Attempt] | None = None,
) -> int:
    complain(NAME, reason)
    if options.json:
        counts: dict[str, object] = {}
        if stats is not None:
            counts = {
                "routers_tried": stats.routers_tried,
                "routers_answered": stats.routers_answered,
                "nodes_asked": stats.nodes_asked,
                "nodes_answered": stats.nodes_answered,
            }
        if attempts is not None:
            counts.update(tried_as_json(attempts))
        emit({"event": "failed", "verdict": verdict, "reason": reason, **counts})
    return ExitCode.NOT_FOUND


def unreachable(options: Options, stats: DhtStats, attempts: Sequence[Attempt]) -> int:
    """Nobody answered: says whom it asked, and why each led nowhere."""
    return failed(options, "dht_unreachable", f"no DHT node answered ({tried(attempts)})", stats, attempts)


def tried(attempts: Sequence[Attempt]) -> str:
    return "; ".join(map(str, attempts)) if attempts else "no node to start from was given"
