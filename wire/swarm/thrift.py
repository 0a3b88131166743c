"""What a seed gives at once and what later, where many ask it: first what nobody else can give. No I/O, no requests.

A seed that answers a crowd in the order of its requests hands out most pieces several times, while the lines of those
who have them stand idle. So a piece goes to the first who asks for it, and the others who want it wait: they get it
from that one, and take their request back. Of what others have too the seed gives half as much as a member of the swarm
gives on average: that is measured by the haves, and where they do not feed each other, nobody waits.

Whether they do is asked early, too: where the seed has given each piece once, stands idle, and nothing of it has turned
up elsewhere, though there was time for it, the leechers know nobody but the seed.
"""

from __future__ import annotations

from wire.swarm.meter import Meter
from wire.swarm.peer import Peer
from wire.swarm.picker import Picker

__all__ = ["Thrift"]

CROWD = 8
"""So many leechers can be a swarm; of fewer the seed is most."""
START_S = 4.0
"""Before that nothing is measured: of what others get, nothing is given."""
SHARE = 0.5
"""Of what a member gives on average, for a seed to give of pieces that others have."""
GRACE_S = 0.1
GRACE_FIRSTS = 3.0
"""So long, or so many times as long as the first piece took to reach anybody, an idle seed waits for a piece to turn up
with whom it did not give it: who has it needs about as long to pass it on."""
PATIENCE_S = 5.0
"""Who got a piece and passed it on to nobody for so long keeps it for itself: it is for the next who asks, too."""
CHOKED_S = 1.0
"""Who is choked for so long and got a part of a piece (BEP 6, allowed fast) is not its first any more."""
FEEDS = 0.5
"""Of all that the peers gain, so much at least must be from each other, or nobody waits."""


class Thrift:
    """One seed's measure. `active`: those wait who ask for what others have or get."""

    def __init__(self, picker: Picker, piece_length: int) -> None:
        self.active = False
        self._picker = picker
        self._piece_length = piece_length
        self._first: dict[int, Peer] = {}
        self._stuck: dict[int, float] = {}
        """Pieces whose first is choked and was given a part alone, and since when."""
        self._kept: dict[int, float] = {}
        """Pieces that only one peer got so far, and when."""
        self._gained: Meter | None = None
        self._leechers = 0
        self._since = 0.0
        self._at = 0.0
        self._first_took: float | None = None
        self._idle_since: float | None = None
        self._fed = False
        """Once a piece has turned up with somebody whom we did not give it: they know each other."""

    def is_first(self, peer: Peer, index: int) -> bool:
        """Whether it asks for what nobody has or passes on, and was the first to do so. It is its own then."""
        first = self._first.get(index)
        if first is not None and self._is_stuck(first, peer, index):
            first = None
        if first is None:
            kept_since = self._kept.get(index)
            if kept_since is None:
                if self._picker.availability(index):
                    return False
            elif self._at - kept_since < PATIENCE_S:
                return False
            else:
                self._kept[index] = self._at
            first = self._first[index] = peer
            self._stuck.pop(index, None)
        return first is peer

    def _is_stuck(self, first: Peer, peer: Peer, index: int) -> bool:
        """Whether the first got a part of the piece, and can ask for no more of it: another asks for it."""
        if first is peer or not first.connection.am_choking or any(asked == index for asked, *_ in first.queue):
            self._stuck.pop(index, None)
            return False
        return self._at - self._stuck.setdefault(index, self._at) >= CHOKED_S

    def appeared(self, index: int, now: float, *, passed_on: bool = False) -> None:
        """A peer says that it has got a piece; `passed_on`: not from us."""
        self._first.pop(index, None)
        self._stuck.pop(index, None)
        if self._gained is not None:
            self._fed = self._fed or passed_on
            if self._first_took is None:
                self._first_took = now - self._since
            self._gained.total += self._piece_length
            if self._kept.pop(index, None) is None and self._picker.availability(index) <= 1:
                self._kept[index] = self._at

    def let_go(self, peer: Peer) -> None:
        """It is gone or choked: what it was the first to ask for is for the next who asks."""
        for index in [index for index, first in self._first.items() if first is peer]:
            del self._first[index]

    def count(self, leechers: int, now: float) -> bool:
        """So many want pieces of us now. True where by that they have become a crowd."""
        self._leechers = leechers
        if leechers < CROWD:
            self.active = False
            self._gained = None
            self._first.clear()
            self._stuck.clear()
            self._kept.clear()
        elif self._gained is None:
            self._gained = Meter(now)
            self._since = self._at = now
            self._first_took = self._idle_since = None
            self.active = True
            return True
        return False

    @property
    def doubtful(self) -> bool:
        """Some wait, and nothing shows yet that they get from others what they wait for: `look` is wanted, often."""
        return self.active and not self._fed and self._at - self._since < START_S

    def look(self, idle: bool, now: float) -> bool:
        """Whether nobody is to wait any more. `idle`: all that may be given now is given, and is on its way."""
        if not self.doubtful or not idle or self._first_took is None:
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since < max(GRACE_S, GRACE_FIRSTS * self._first_took):
            return False
        self.active = False
        return True

    def tick(self, gives: float, now: float) -> float:
        """Once a second; `gives` is our rate. Returns how many bytes may be given now of what others have."""
        if self._gained is None:
            return float("inf")
        self._gained.measure(now)
        span, self._at = now - self._at, now
        if now - self._since < START_S:
            return 0.0 if self.active else float("inf")
        among = self._gained.rate - gives
        self.active = among >= FEEDS * self._gained.rate
        return SHARE * among / self._leechers * span if self.active else float("inf")
