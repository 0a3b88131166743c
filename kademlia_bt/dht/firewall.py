"""Whether the outside can reach a face: judged by who asks us though we never asked them. No I/O.

Behind a NAT or firewall that lets in answers alone, only those are heard whom we asked within the last minutes.
A query from anybody else is proof that the way is open. Its absence proves something only after a while, in a
network that is large enough.
"""

from __future__ import annotations

from wire.compact import Endpoint, reach

__all__ = ["CLOSED_AFTER_S", "Firewall"]

CLOSED_AFTER_S = 15 * 60.0
"""A node that others know is asked by strangers within seconds; after so long without, the way is likely closed."""
_HOLE_S = 300.0
"""For how long a datagram of ours may keep the way open for its receiver: NATs do for 30 s to 5 min."""
_MAX_ASKED = 4_096
_PROOF_LASTS_S = 60.0
"""One proof a minute is enough: the hot path looks no further in between."""


class Firewall:
    """Keeps whom we asked lately, and when a stranger last asked us."""

    __slots__ = ("_asked", "_proven_at", "_since", "look_again_at")

    def __init__(self, now: float) -> None:
        self.look_again_at = now
        """Until then a query proves nothing new: `heard` need not be called."""
        self._since = now
        self._proven_at: float | None = None
        self._asked: dict[Endpoint | str, float] = {}

    def begin(self, now: float) -> None:
        """Others can know us from now on: the wait for strangers begins."""
        self._since = now

    def asked(self, endpoint: Endpoint, now: float) -> None:
        """We sent a query there."""
        key = _key(endpoint)
        self._asked.pop(key, None)
        if len(self._asked) >= _MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[key] = now

    def heard(self, endpoint: Endpoint, now: float) -> None:
        """A query came from there."""
        asked_at = self._asked.get(_key(endpoint))
        if asked_at is None or now - asked_at > _HOLE_S:
            self._proven_at = now
            self.look_again_at = now + _PROOF_LASTS_S

    def is_closed(self, now: float) -> bool:
        """Whether no stranger has reached us for so long that none will."""
        last = self._since if self._proven_at is None else max(self._proven_at, self._since)
        return now - last >= CLOSED_AFTER_S


def _key(endpoint: Endpoint) -> Endpoint | str:
    # Many NATs open the way for all ports of an address; on one machine, ports are all that tells nodes apart.
    return endpoint.host if reach(endpoint.host) == "global" else endpoint
