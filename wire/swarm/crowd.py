"""The connections of all torrents of a session together: how many there may be, and how fast they are dialled. No I/O.

Each torrent has limits of its own; without this one, a hundred torrents would open a hundred times as many connections,
until the machine has no file left for a piece, or the router no room for an address.
"""

from __future__ import annotations

from wire.limits import TokenBucket

__all__ = ["DIALS_PER_S", "DIAL_BURST", "FREE_DIALS", "MAX_CONNECTIONS", "NO_LIMIT", "WHOLE_DIAL", "Crowd", "Turns"]

MAX_CONNECTIONS = 500
"""What qBittorrent keeps; libtorrent has 200. Half of the 1,024 files that most systems give a process."""
NO_LIMIT = 1 << 30
"""For a torrent that is alone."""
DIALS_PER_S = 25.0
DIAL_BURST = 5.0
"""Together never more than 30 in any second; of each torrent, and of all that share turns."""
WHOLE_DIAL = 1.0 - 1e-6
"""A dial's worth, but for what sums of fractions lose: else a timer could be due for ever and nothing happen."""
FREE_DIALS = 10
"""The first of a torrent, by hearsay, do not wait for those of other torrents: they resolve most links."""


class Crowd:
    """Counts the connections of the torrents that share it, dials under way among them, and gives turns to dial."""

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        self.most = most
        self.count = 0
        self._parts: dict[object, int] = {}
        self._next_at = 0.0
        self._rate = TokenBucket(DIALS_PER_S, DIAL_BURST, 0.0)

    def told(self, torrent: object, count: int) -> None:
        """A torrent has so many connections now."""
        self.count += count - self._parts.get(torrent, 0)
        self._parts[torrent] = count

    def left(self, torrent: object) -> None:
        """A torrent is no more."""
        self.count -= self._parts.pop(torrent, 0)

    def has_room(self, torrent: object) -> bool:
        """Whether a torrent may have one more. The last quarter is for those that have less than their share."""
        if self.count >= self.most:
            return False
        return self.count < self.most * 3 // 4 or self._parts.get(torrent, 0) < self._share

    @property
    def _share(self) -> int:
        return max(self.most // max(len(self._parts), 1), 1)

    def turn(self, now: float) -> float:
        """When who asks may dial; nobody else has this turn. So those who wait go in the order in which they asked."""
        step = 1.0 / DIALS_PER_S
        at = max(now, self._next_at - (DIAL_BURST - 1) * step)
        self._next_at = max(self._next_at, now) + step
        return at

    def late_by(self, now: float) -> float:
        """How long even he whose turn it is has to wait, because others took theirs late: seconds."""
        missing = WHOLE_DIAL - self._rate.available(now)
        return max(missing, 0.0) / DIALS_PER_S

    def dialled(self, now: float) -> None:
        """Somebody took his turn."""
        self._rate.charge(1.0, now)


class Turns:
    """The turns of one torrent, which shares them with the others of its crowd; without one it waits for nobody."""

    __slots__ = ("_at", "_crowd", "_free")

    def __init__(self, crowd: Crowd | None) -> None:
        self._crowd, self._free = crowd, FREE_DIALS
        self._at: float | None = None

    def comes_at(self, now: float) -> float:
        """When the next comes; it is kept until it is `taken`."""
        if self._crowd is None or self._free:
            return now
        if self._at is None:
            self._at = self._crowd.turn(now)
        return max(self._at, now + self._crowd.late_by(now))

    def taken(self, now: float) -> None:
        """Somebody was dialled."""
        if self._crowd is not None and not self._free:
            self._crowd.dialled(now)
        self._free, self._at = max(self._free - 1, 0), None
