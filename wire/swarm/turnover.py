"""Whom to send away where all places are taken: those who trade nothing make room for others. No connections here.

Without it as many peers as there are places, who say nothing but that they are there, would keep everybody else out.
"""

from __future__ import annotations

from collections.abc import Iterable

from wire.swarm.peer import Peer

__all__ = ["Turnover"]

TURNOVER_S = 60.0
"""Nobody is sent away more often."""
QUIET_S = 120.0
"""Who neither gave nor took a block for so long trades nothing: twice what a request may take."""
SHARE = 0.04
"""Of all places, so many are made free at a time (libtorrent's figure)."""


class Turnover:
    """Remembers how much was traded with whom, from the first time that all places were taken."""

    __slots__ = ("_looked_at", "_marks", "wanted")

    def __init__(self, now: float) -> None:
        self._looked_at = now
        self._marks: dict[Peer, tuple[int, float]] = {}
        """Of each peer, the bytes that were traded with it, and when that number changed."""
        self.wanted = False
        """Somebody came in vain since the last time."""

    def quiet(self, peers: Iterable[Peer], places: int, now: float) -> list[Peer]:
        """Who has to go, where others want in: those who ask for nothing first, then those who came first."""
        if now - self._looked_at < TURNOVER_S:
            return []
        self._looked_at = now
        self.wanted = False
        before, self._marks = self._marks, {}
        quiet = []
        for peer in peers:
            traded = peer.source.meter.total + peer.up.total
            last = before.get(peer)
            mark = self._marks[peer] = (traded, now) if last is None or last[0] != traded else last
            if now - mark[1] >= QUIET_S:
                quiet.append(peer)
        quiet.sort(key=lambda peer: (peer.connection.peer_interested, peer.joined_at))
        return quiet[: max(1, int(SHARE * places))]
