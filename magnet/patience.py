"""When a torrent is given up: nothing new has come for so long, or the time for the whole is over. No I/O.

New are a peer that nobody had named before, a connection, metadata, a byte that is of use; not an old peer that is
back.
"""

from __future__ import annotations

from magnet.config import Config
from wire.compact import Endpoint
from wire.swarm.values import SwarmStats

__all__ = ["Patience"]

_MAX_KNOWN = 10_000
"""Beyond so many peers another one does not keep a quiet torrent alive."""
_LOOK_S = 1.0
"""How often news are looked for: patience is exact to this."""


class Patience:
    """How long one torrent has been quiet. Times are monotonic seconds."""

    def __init__(self, config: Config, now: float) -> None:
        self.news_at = now
        """When something new came last."""
        self.look_at = now
        """When `is_over` is to be asked next."""
        self._deadline = float("inf") if config.deadline_s is None else now + config.deadline_s
        self._patience_s = config.patience_s or float("inf")
        self._known: set[Endpoint] = set()
        """Addresses that were named once: what the swarm forgets and hears of again is no news."""
        self._seen: tuple[int, ...] = ()

    def named(self, endpoint: Endpoint) -> None:
        """A source named a peer."""
        if len(self._known) < _MAX_KNOWN:
            self._known.add(endpoint)

    def is_over(self, stats: SwarmStats, now: float) -> bool:
        """Whether waiting longer is no use."""
        known = len(self._known)
        useful_bytes = stats.downloaded_bytes - stats.wasted_bytes
        news = (known, min(stats.connected, known), useful_bytes, stats.pieces_done, stats.layer_hashes)
        if news != self._seen:
            self._seen, self.news_at = news, now
        give_up_at = min(self._deadline, self.news_at + self._patience_s)
        self.look_at = min(now + _LOOK_S, give_up_at)
        return now >= give_up_at
