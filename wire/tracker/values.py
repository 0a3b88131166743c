"""What is said to a tracker and what it answers, whichever way it is spoken to (BEP 3, 15, 21, 24, 31, 48)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from wire.compact import Endpoint
from wire.errors import ProtocolError

__all__ = ["Announce", "AnnounceEvent", "AnnounceReply", "ScrapeReply", "TrackerError"]

DEFAULT_INTERVAL_S = 1800
MIN_INTERVAL_S = 60
"""A tracker that wants to be asked more often than this is not obeyed."""
MAX_INTERVAL_S = 86400
"""Nor one that wants us away for more than a day."""
MAX_PEERS = 1000
"""Of one answer: real trackers send 200 at the most."""


class AnnounceEvent(enum.Enum):
    """What happened since the last announce: the word of HTTP and the number of UDP."""

    NONE = ("", 0)
    COMPLETED = ("completed", 1)
    STARTED = ("started", 2)
    STOPPED = ("stopped", 3)
    PAUSED = ("paused", 0)
    """A partial seed (BEP 21): has all that it wants, and not all there is."""

    @property
    def word(self) -> str:
        """For HTTP; empty for a regular announce."""
        return self.value[0]

    @property
    def number(self) -> int:
        """For UDP."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Announce:
    """We are here: everything that a tracker wants to know. Byte counts are of this run."""

    info_hash: bytes
    peer_id: bytes
    port: int
    uploaded: int
    downloaded: int
    left: int
    event: AnnounceEvent = AnnounceEvent.NONE
    numwant: int = 50
    key: int = 0
    """32 bits that stay the same for a run, over both address families: who we are when our address changes."""
    tracker_id: bytes | None = None
    """What the tracker gave in its last answer."""


@dataclass(frozen=True, slots=True)
class AnnounceReply:
    """A tracker's answer, checked and capped."""

    peers: tuple[Endpoint, ...]
    interval_s: int = DEFAULT_INTERVAL_S
    min_interval_s: int | None = None
    seeders: int | None = None
    leechers: int | None = None
    tracker_id: bytes | None = None
    warning: str | None = None
    external_ip: str | None = None
    """Where it saw us (BEP 24)."""


@dataclass(frozen=True, slots=True)
class ScrapeReply:
    """The counts of one torrent (BEP 48)."""

    seeders: int
    completed: int
    leechers: int
    downloaders: int | None = None
    """Leechers that want everything (BEP 21)."""


class TrackerError(ProtocolError):
    """The tracker said no, in words of its own (made safe to show)."""

    def __init__(self, reason: str, retry_in_s: int | None = None, *, never: bool = False) -> None:
        super().__init__(reason)
        self.retry_in_s = retry_in_s
        """When to ask again, if the tracker said so (BEP 31)."""
        self.never = never
        """It said not to ask again (BEP 31)."""


def bounded_interval(seconds: int | None) -> int:
    """The interval to keep, whatever a tracker says."""
    if seconds is None:
        return DEFAULT_INTERVAL_S
    return min(max(seconds, MIN_INTERVAL_S), MAX_INTERVAL_S)


def printable(text: str, limit: int = 200) -> str:
    """A server's words, for a terminal: nothing unprintable, not long, on one line."""
    shown = "".join(char if char.isprintable() else " " for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
