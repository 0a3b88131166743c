"""What one peer can give, how fast it does, and so how much to ask it for ahead of time. No blocks are chosen here.

The depth of the queue follows bandwidth times delay: doubled each round trip while the rate follows, as TCP
begins, and then so many seconds of data.
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
QUEUE_S = 2.0
"""Seconds of data to have asked for: more than any round trip, little enough to be taken back in the end game."""


class Source:
    """What one peer can give and was asked for."""

    __slots__ = (
        "allowed",
        "answers_cancels",
        "asked",
        "choked",
        "depth",
        "endpoint",
        "growing",
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

    def may_be_relieved(self, now: float) -> bool:
        """It was asked for much, and not just now: what a queue just filled will take is not known yet."""
        asked = self.asked
        return len(asked) > 1 and self.endpoint is not None and now - next(iter(asked.values())) > RELIEF_AGE_S

    def measure(self, now: float, queue_s: float = QUEUE_S) -> None:
        """Once a second: sets how many requests to keep outstanding, by what the peer delivers in `queue_s`."""
        self.stray_rejects >>= 1
        before = self.meter.latest
        self.meter.measure(now)
        if self.snubbed:
            self.depth = 1
            return
        if self.growing and self.meter.latest > before * 1.1:
            return  # `Requests.take` doubles it each round trip while the rate follows
        self.growing = False
        wanted = int(max(self.meter.rate, self.meter.latest) * queue_s / BLOCK_BYTES) + MIN_DEPTH
        self.depth = min(max(wanted, MIN_DEPTH), self.limit)

    def restart(self) -> None:
        """Unchoked: what it delivers must be found out anew."""
        self.depth = min(FIRST_DEPTH, self.limit)
        self.growing = True
