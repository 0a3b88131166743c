"""Who asks too much is ignored for a while: a count of queries for each address. Bounded, whatever is spoofed."""

from __future__ import annotations

from collections import deque
from socket import inet_pton

from wire.compact import IPV6, Address

__all__ = ["BLOCK_S", "WINDOW_S", "Guard"]

WINDOW_S = 10.0
"""The limit is an average over this long: a lookup's burst passes."""
BLOCK_S = 300.0
_MAX_SOURCES = 8_192
"""Sources counted at a time; about 2 MB. The one that came first is forgotten first."""
_V6_NETWORK_BYTES = 8
"""A /64 is one household (BEP 45): its addresses count as one."""


# What is kept of a source, in a list: an object would take thrice as long to make, and many a source asks once.
_COUNT, _SINCE, _BLOCKED_UNTIL = range(3)


class Guard:
    """Counts queries by source address. A limit of 0 lets everything pass."""

    __slots__ = ("_most", "_order", "_sources", "is_on")

    def __init__(self, per_s: float) -> None:
        self.is_on = per_s > 0
        self._most = per_s * WINDOW_S
        self._sources: dict[str | bytes, list[float]] = {}
        self._order: deque[str | bytes] = deque()
        """Their keys as they came: to find the first of a dictionary takes long where many before it are gone."""

    def allows(self, source: Address, now: float) -> bool:
        """Counts a query; False where it is to be ignored."""
        if not self.is_on:
            return True
        key: str | bytes = source[0]
        if ":" in source[0]:
            key = inet_pton(IPV6.af, source[0])[:_V6_NETWORK_BYTES]
        entry = self._sources.get(key)
        if entry is None:
            if len(self._sources) >= _MAX_SOURCES:
                del self._sources[self._order.popleft()]
            entry = self._sources[key] = [0, now, now]
            self._order.append(key)
        elif now < entry[_BLOCKED_UNTIL]:
            return False
        elif now - entry[_SINCE] >= WINDOW_S:
            entry[_COUNT], entry[_SINCE] = 0, now
        entry[_COUNT] += 1
        if entry[_COUNT] <= self._most:
            return True
        entry[_BLOCKED_UNTIL] = now + BLOCK_S
        return False

    def sweep(self, now: float) -> None:
        """Forgets sources that were quiet for a window and are not blocked."""
        self._sources = {
            key: entry
            for key, entry in self._sources.items()
            if entry[_BLOCKED_UNTIL] > now or now - entry[_SINCE] < WINDOW_S
        }
        self._order = deque(self._sources)
