"""The first peers that are found are asked for the metadata alone, where nothing else is wanted of a torrent.

That takes an errand (`magnet.errands`) and no connection of the swarm's: it begins in the moment in which a source
names the peer. Whoever does not give the metadata goes to the swarm, as all do who are found beyond a few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from magnet.errands import Errands, Visit
from magnet.sources import PEER, Found
from magnet.verdict import Counts
from wire.ids import InfoHash
from wire.metainfo import Info

__all__ = ["MAX_ASKED", "MAX_OUT", "Scouts"]

MAX_OUT = 4
"""Peers of one torrent that are asked at a time. All others are the swarm's meanwhile: it does not wait."""
MAX_ASKED = 12
"""Of one torrent in all: who gives nothing is dialled a second time, by the swarm."""


class Scouts:
    """The errands of one torrent."""

    def __init__(
        self,
        errands: Errands,
        info_hash: InfoHash,
        hand_on: Callable[[Found], None],
        give: Callable[[Info, Found], None],
    ) -> None:
        """`hand_on` gets the peers that are for the swarm; `give` the info dictionary, once, and who it came from."""
        self._errands = errands
        self._info_hash = info_hash
        self._hand_on = hand_on
        self._give = give
        self._asked = 0
        self._out: dict[Found, Visit] = {}
        self._giver: Found | None = None
        """Whom the swarm never heard of."""
        self._is_closed = False

    def take(self, found: Found) -> None:
        """A peer was found: he is asked, or handed on."""
        if found in self._out or found == self._giver:
            return
        if not self._may_ask(found):
            self._hand_on(found)
            return
        self._asked += 1
        visit = self._errands.ask(found.endpoint, self._info_hash)
        if visit.is_over:
            self._hand_on(found)
        else:
            self._out[found] = visit
            visit.ended = partial(self._ended, found, visit)

    def close(self) -> None:
        """Breaks off what is under way; from now on all are handed on."""
        self._is_closed = True
        while self._out:
            self._out.popitem()[1].close()

    def counted(self, counts: Counts) -> Counts:
        """The counts of a torrent, with those in them whom the swarm has not heard of."""
        mine = [*self._out, *([] if self._giver is None else [self._giver])]
        if not mine:
            return counts
        found = Counter(counts.found)
        found.update(peer.via for peer in mine)
        connected = counts.connected + (self._giver is not None)
        return replace(counts, found=dict(found), dialled=counts.dialled + len(mine), connected=connected)

    def _may_ask(self, found: Found) -> bool:
        # Who was named by a person has been asked already, or will be dialled whatever he says.
        return (
            not self._is_closed
            and self._asked < MAX_ASKED
            and len(self._out) < MAX_OUT
            and found.via != PEER
            and found.swarm_id in (None, self._info_hash.swarm_ids[0])
            and self._errands.has_room
            and self._errands.may_ask(found.endpoint)
        )

    def _ended(self, found: Found, visit: Visit) -> None:
        del self._out[found]
        if visit.info is None:
            self._hand_on(found)
            return
        if visit.info.layers.complete:
            self._giver = found
        self.close()
        self._give(visit.info, found)
