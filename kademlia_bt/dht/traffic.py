"""What went over one face, by message and by reason: counters on the hot path, frozen values for whoever looks. No I/O.

Names from the network are not kept: a method that is not ours counts as `other`, so the rows are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

__all__ = ["METHODS", "DropReason", "MessageStats", "Traffic", "merge_messages", "merge_refusals"]

METHODS: Final = (
    b"ping", b"find_node", b"get_peers", b"announce_peer", b"get", b"put", b"sample_infohashes", b"other",
)  # fmt: skip
"""The rows of the counts: what is known by name (BEP 5, 44, 51), and all else."""
_OTHER = b"other"

DropReason = Literal["malformed", "address", "foreign", "unasked", "limit", "upload", "read_only"]
"""Why a datagram was dropped: no KRPC message; a source that is not talked to; a message of another network; an answer
that nobody asked for; its source asks too much; the cap of answers is reached; we are read-only (BEP 43)."""


@dataclass(frozen=True, slots=True)
class MessageStats:
    """The counts of one method. Datagrams, repeats included."""

    method: str
    heard: int
    """Queries that came in and were answered or refused."""
    asked: int
    """Queries that we sent."""
    answered: int
    """Answers that came to them."""
    refused: int
    """Errors that came to them."""


class Traffic:
    """The counters of one face."""

    __slots__ = ("answered", "asked", "dropped", "errors", "heard", "refused")

    def __init__(self) -> None:
        self.heard = dict.fromkeys(METHODS, 0)
        self.asked = dict.fromkeys(METHODS, 0)
        self.answered = dict.fromkeys(METHODS, 0)
        self.refused = dict.fromkeys(METHODS, 0)
        self.dropped: dict[str, int] = dict.fromkeys(get_args(DropReason), 0)
        self.errors: dict[int, int] = {}
        """Errors that we sent, by their KRPC code."""

    def hear(self, method: bytes) -> None:
        """A query came in."""
        if method in self.heard:
            self.heard[method] += 1
        else:
            self.heard[_OTHER] += 1

    def ask(self, method: bytes) -> None:
        """We sent a query."""
        self.asked[method if method in self.asked else _OTHER] += 1

    def end(self, method: bytes, *, answered: bool) -> None:
        """An answer or an error came to a query of ours."""
        counts = self.answered if answered else self.refused
        counts[method if method in counts else _OTHER] += 1

    def refuse(self, code: int) -> None:
        """We sent an error."""
        self.errors[code] = self.errors.get(code, 0) + 1

    @property
    def messages(self) -> tuple[MessageStats, ...]:
        """A row a method."""
        return tuple(
            MessageStats(m.decode(), self.heard[m], self.asked[m], self.answered[m], self.refused[m]) for m in METHODS
        )

    @property
    def refusals(self) -> dict[str, int]:
        """Datagrams dropped by reason, and errors sent as `error CODE`."""
        refusals = dict(self.dropped)
        refusals.update((f"error {code}", count) for code, count in sorted(self.errors.items()))
        return refusals


def merge_messages(tables: Iterable[tuple[MessageStats, ...]]) -> tuple[MessageStats, ...]:
    """The rows of several faces, added up."""
    return tuple(
        MessageStats(
            rows[0].method,
            sum(row.heard for row in rows),
            sum(row.asked for row in rows),
            sum(row.answered for row in rows),
            sum(row.refused for row in rows),
        )
        for rows in zip(*tables, strict=True)
    )


def merge_refusals(tables: Iterable[dict[str, int]]) -> tuple[tuple[str, int], ...]:
    """The refusals of several faces, added up, by reason."""
    total: dict[str, int] = dict.fromkeys(get_args(DropReason), 0)
    for table in tables:
        for reason, count in table.items():
            total[reason] = total.get(reason, 0) + count
    return tuple(total.items())
