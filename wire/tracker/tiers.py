"""Which tracker is asked next, and when (BEP 12, BEP 31). No I/O.

The trackers of a tier are tried in an order shuffled once; one that answers moves to the front of its
tier. The next tier is asked where no tracker of the one before answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Tiers", "TrackerState"]

MAX_TRACKERS = 200
"""Of one torrent: a link may name as many as it is long."""
_FIRST_RETRY_S = 30.0
_MAX_RETRY_S = 3600.0


@dataclass(slots=True)
class TrackerState:
    """One tracker of a torrent."""

    url: str
    due: float
    """When it may be asked next."""
    failures: int = 0
    """In a row."""
    answered: bool = False
    busy: bool = False
    """It is being asked now."""
    last_reason: str | None = None
    never: bool = False
    """It asked not to be asked again (BEP 31)."""
    started: bool = False
    """It was told that we are here, so it is to be told when we leave."""
    tracker_id: bytes | None = None
    """What it wants to hear again (BEP 3)."""


class Tiers:
    """The trackers of one torrent. Times are monotonic seconds."""

    def __init__(self, tiers: Iterable[Sequence[str]], rng: random.Random, now: float) -> None:
        self._tiers: list[list[TrackerState]] = []
        seen: set[str] = set()
        for tier in tiers:
            urls = [url for url in dict.fromkeys(tier) if url not in seen][: MAX_TRACKERS - len(seen)]
            seen.update(urls)
            if urls:
                rng.shuffle(urls)
                self._tiers.append([TrackerState(url, now) for url in urls])

    @property
    def trackers(self) -> list[TrackerState]:
        """All, in the order in which they are asked."""
        return [tracker for tier in self._tiers for tracker in tier]

    def next(self, now: float) -> TrackerState | None:
        """The tracker to ask now; None: none is due.

        A tracker that answered and is not due yet ends the search: as long as one works, those behind it are
        left in peace. One that is being asked for the first time does not: the caller says how long it waits.
        """
        for tracker in self.trackers:
            if tracker.never:
                continue
            if tracker.busy:
                if tracker.answered and not tracker.failures:
                    return None
                continue
            if tracker.due <= now:
                return tracker
            if tracker.answered and not tracker.failures:
                return None
        return None

    def next_timer(self) -> float | None:
        """When `next` may have something to say."""
        due = []
        for tracker in self.trackers:
            if not tracker.never:
                if not tracker.busy:
                    due.append(tracker.due)
                if tracker.answered and not tracker.failures:
                    break
        return min(due, default=None)

    def answered(self, tracker: TrackerState, interval_s: float, now: float) -> None:
        """It answered: first of its tier from now on, and asked again after its interval."""
        tracker.answered, tracker.failures, tracker.last_reason = True, 0, None
        tracker.due = now + interval_s
        for tier in self._tiers:
            if tracker in tier:
                tier.remove(tracker)
                tier.insert(0, tracker)

    def failed(
        self, tracker: TrackerState, reason: str, now: float, *, retry_in_s: float | None = None, never: bool = False
    ) -> None:
        """It did not answer, or refused: asked again after a time that doubles, or that it named itself."""
        tracker.failures += 1
        tracker.last_reason = reason
        tracker.never = never
        wait = min(_FIRST_RETRY_S * 2 ** min(tracker.failures - 1, 10), _MAX_RETRY_S)
        tracker.due = now + (wait if retry_in_s is None else retry_in_s)
