"""What one peer can give, how fast it does, and so how much to ask it for ahead of time. No blocks are chosen here.

The depth of the queue follows bandwidth times delay: doubled each round trip while the rate follows, as TCP
begins, and then so many seconds of data; of who is read from while it gives, no more than keeps it busy.
"""

from __future__ import annotations

from wire.compact import Endpoint
from wire.peer.messages import BLOCK_BYTES
from wire.swarm.meter import Meter
from wire.swarm.pieces import OpenPiece

__all__ = ["DEFAULT_REQQ", "FIRST_DEPTH", "MAX_DEPTH", "QUEUE_S", "Source"]

FIRST_DEPTH = 32
"""Requests to a peer nothing is known of yet: half a megabyte."""
MIN_DEPTH = 4
MAX_DEPTH = 2000
"""Requests outstanding with one peer, whatever it says of itself."""
DEFAULT_REQQ = 250
"""What peers that name no `reqq` (BEP 10) are known to keep."""
RELIEF_AGE_S = 0.5
"""A queue whose oldest block was asked for later than that is not taken from."""
UNKNOWN_S = 2.0
"""A peer that gave nothing yet is slow after so long."""
LEAN_S = 0.1
"""Seconds of data to have asked for, beside round trips, where what is asked for next is to come soon."""
LEAN_TRIPS = 1.5
SOONER = 0.75
"""Blocks come sooner where they take no more than this of the time that they took."""
STRANGER_BLOCKS_S = 8.0
"""The rate that a source is taken to have before anything is known of it, in blocks."""
QUEUE_S = 2.0
"""Seconds of data to have asked for: more than any round trip, little enough to be taken back in the end game."""


class Source:
    """What one peer can give and was asked for."""

    __slots__ = (
        "allowed",
        "answers_cancels",
        "asked",
        "best_rate",
        "choked",
        "depth",
        "drained",
        "endpoint",
        "growing",
        "halved_at_s",
        "has",
        "last_block_at",
        "late",
        "limit",
        "meter",
        "own",
        "proven",
        "recalled",
        "recalled_at",
        "relieved_at",
        "round_trip_s",
        "share",
        "snubbed",
        "sought_at",
        "stray_rejects",
        "suggested",
        "timeouts",
        "unasked",
    )

    def __init__(self, endpoint: Endpoint | None, now: float) -> None:
        self.endpoint = endpoint
        """None for a web seed."""
        self.has = 0
        """A set as in `Picker`."""
        self.choked = False
        """It answers only for the pieces in `allowed`."""
        self.allowed = 0
        """Pieces that it gives though it chokes us (BEP 6)."""
        self.suggested = 0
        """Pieces that it would rather give (BEP 6)."""
        self.proven = False
        """The last piece with data from here was right."""
        self.asked: dict[int, float] = {}
        """Outstanding blocks and when they were asked for, oldest first."""
        self.answers_cancels = False
        """What is cancelled it sends or rejects: one of the two (BEP 6)."""
        self.recalled: dict[int, Source] = {}
        """Those of `asked` that were cancelled and not answered yet, and for whose sake."""
        self.recalled_at = now
        self.late: dict[int, int] = {}
        """Blocks taken back that may still come or be rejected, and how many times: oldest first."""
        self.own: list[OpenPiece] = []
        self.depth = FIRST_DEPTH
        self.limit = DEFAULT_REQQ
        """At most so many are outstanding; never over `MAX_DEPTH`."""
        self.share = MAX_DEPTH
        """While nothing is known of its rate: its part of what all buffers may hold, kept by the ledger."""
        self.growing = True
        self.snubbed = False
        self.last_block_at = now
        self.meter = Meter(now)
        """Bytes of piece data from here."""
        self.round_trip_s = float("inf")
        """The soonest that a block came after it was asked for: the way there and back takes no longer."""
        self.best_rate = 0.0
        """Of `meter`, since then."""
        self.halved_at_s = float("inf")
        """The `round_trip_s` of which a half was tried last, to see whether blocks come sooner then."""
        self.drained = False
        """So little is outstanding that it can be seen."""
        self.relieved_at = float("-inf")
        """When it looked last for work of others."""
        self.sought_at = float("-inf")
        """When it sought to double others' requests and found none."""
        self.unasked = 0
        self.stray_rejects = 0
        """Of what was never asked for: halved each second."""
        self.timeouts = 0
        """Times in a row that it let its time pass."""

    @property
    def askable(self) -> int:
        """The pieces that it gives now."""
        return self.has & self.allowed if self.choked else self.has

    def take_back(self, key: int) -> None:
        """Makes a block that is outstanding one that may come late."""
        del self.asked[key]
        self.recalled.pop(key, None)
        self.late[key] = self.late.get(key, 0) + 1

    def was_late(self, key: int) -> bool:
        """One answer to a request that was taken back came; False where none is due."""
        due = self.late.get(key, 0)
        if due > 1:
            self.late[key] = due - 1
        elif due:
            del self.late[key]
        return due > 0

    def wait_s(self, now: float) -> float:
        """How long what it is asked for now will take, by its rate; 0 where nothing is known yet."""
        rate = max(self.meter.rate, self.meter.latest)
        if rate > 0.0:
            return len(self.asked) * BLOCK_BYTES / rate
        oldest = next(iter(self.asked.values()), now)
        return float("inf") if now - max(oldest, self.last_block_at) > UNKNOWN_S else 0.0

    @property
    def blocks_s(self) -> float:
        """Blocks a second that it gives; guessed where nothing is known."""
        return max(self.meter.rate, self.meter.latest) / BLOCK_BYTES or STRANGER_BLOCKS_S

    def promise_s(self, now: float) -> float:
        """How long what it was asked for will take: by its rate, and at least as long as it has kept silent."""
        silent = now - max(self.last_block_at, next(iter(self.asked.values()), now))
        return max(silent, len(self.asked) / self.blocks_s)

    def answered(self, key: int, wait_s: float) -> None:
        """A block came so long after it was asked for."""
        if wait_s < self.round_trip_s and key not in self.late:
            self.round_trip_s = wait_s

    def may_be_relieved(self, now: float) -> bool:
        """It was asked for much, and not just now: what a queue just filled will take is not known yet."""
        asked = self.asked
        return len(asked) > 1 and self.endpoint is not None and now - next(iter(asked.values())) > RELIEF_AGE_S

    def measure(self, now: float, queue_s: float = QUEUE_S, *, lean: bool = False) -> None:
        """Once a second: sets how many requests to keep outstanding, by what the peer delivers in `queue_s`.

        `lean`: or in less, as long as that keeps it busy.
        """
        self.stray_rejects >>= 1
        before = self.meter.latest
        self.meter.measure(now)
        if self.snubbed:
            self.depth = 1
            return
        if lean:
            queue_s = min(queue_s, self._lean_s())
        elif self.growing and self.meter.latest > before * 1.1:
            return  # `Requests.take` doubles it each round trip while the rate follows
        self.growing = False
        wanted = int(max(self.meter.rate, self.meter.latest) * queue_s / BLOCK_BYTES) + MIN_DEPTH
        self.depth = min(max(wanted, MIN_DEPTH), self.limit)

    def _lean_s(self) -> float:
        """Seconds of data that keep it busy: a little more than a round trip. Of a longer wait, part may be a queue of
        its own: half of it is tried, and half again as long as blocks come sooner for that. Where its rate falls by
        half the way to it may have become longer: all is found out anew.
        """
        rate = self.meter.rate
        if rate < self.best_rate / 2:
            self.best_rate, self.round_trip_s, self.halved_at_s = 0.0, float("inf"), float("inf")
        self.best_rate = max(self.best_rate, rate)
        wait_s = self.round_trip_s
        if LEAN_S < wait_s < self.halved_at_s * SOONER:
            self.halved_at_s, self.drained = wait_s, False
        elif self.drained or wait_s <= LEAN_S:
            return LEAN_S + LEAN_TRIPS * wait_s
        else:
            self.drained = len(self.asked) <= self.depth
        return wait_s / 2

    def restart(self) -> None:
        """Unchoked: what it delivers must be found out anew."""
        self.depth = min(FIRST_DEPTH, self.limit)
        self.growing = True
