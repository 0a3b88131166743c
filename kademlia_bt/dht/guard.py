"""Who asks too much is ignored for a while: a count of queries for each address. Bounded, whatever is spoofed."""

from __future__ import annotations

from wire.compact import Endpoint

__all__ = ["BLOCK_S", "WINDOW_S", "Guard"]

WINDOW_S = 10.0
"""The limit is an average over this long: a lookup's burst passes."""
BLOCK_S = 300.0
_MAX_SOURCES = 8_192
"""Sources counted at a time; about 2 MB. The one that came first is forgotten first."""
_V6_NETWORK_BYTES = 8
"""A /64 is one household (BEP 45): its addresses count as one."""


class _Source:
    __slots__ = ("blocked_until", "count", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.count = 0
        self.blocked_until = since


class Guard:
    """Counts queries by source address. A limit of 0 lets everything pass."""

    __slots__ = ("_most", "_sources", "is_on")

    def __init__(self, per_s: float) -> None:
        self.is_on = per_s > 0
        self._most = per_s * WINDOW_S
        self._sources: dict[str | bytes, _Source] = {}

    def allows(self, source: Endpoint, now: float) -> bool:
        """Counts a query; False where it is to be ignored."""
        if not self.is_on:
            return True
        key = source.ip[:_V6_NETWORK_BYTES] if ":" in source.host else source.host
        entry = self._sources.get(key)
        if entry is None:
            if len(self._sources) >= _MAX_SOURCES:
                del self._sources[next(iter(self._sources))]
            entry = self._sources[key] = _Source(now)
        elif now < entry.blocked_until:
            return False
        elif now - entry.since >= WINDOW_S:
            entry.since = now
            entry.count = 0
        entry.count += 1
        if entry.count <= self._most:
            return True
        entry.blocked_until = now + BLOCK_S
        return False

    def sweep(self, now: float) -> None:
        """Forgets sources that were quiet for a window and are not blocked."""
        over = [
            key for key, entry in self._sources.items() if entry.blocked_until <= now and now - entry.since >= WINDOW_S
        ]
        for key in over:
            del self._sources[key]
