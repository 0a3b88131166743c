"""Those who ask a seed and are put off, and when each is served: what `thrift` finds, done to the queues. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wire.swarm.meter import Meter
from wire.swarm.peer import Peer
from wire.swarm.picker import Picker
from wire.swarm.pieces import PIECE_OF, BlockId
from wire.swarm.thrift import Thrift

__all__ = ["Leechers"]

LOOK_S = 0.01
"""While it is in doubt whether a crowd feeds itself, it is looked at so often."""
DOUBT_S = 4.0
"""Later once a second is enough."""
HUNGER_S = 3.0
HUNGER_PIECES = 2.0
"""Who is put off, and got no piece from others for so long, or for so many times as long as they need to get one, is
hungry: it gets a block, the next second two, then four, until others feed it."""
MAX_HUNGER = 10
BUSY_SHARE = 0.25
"""Of what a busy seed gives, for the hungry."""
FULL = 0.5
"""Of the most that our line gave lately: while it gives so much, what is queued waits for it, not for who reads."""
FADE = 0.95
"""Of that most, left after each second."""


class Leechers:
    """The leechers of a seed. `peers` and `dirty` are the owner's own."""

    def __init__(
        self, picker: Picker, piece_length: int, peers: Iterable[Peer], up: Meter, dirty: dict[Peer, None]
    ) -> None:
        self.look_at: float | None = None
        """When `look` is wanted."""
        self._thrift = Thrift(picker, piece_length)
        self._picker = picker
        self._peers = peers
        self._up = up
        self._dirty = dirty
        self._peak = 0.0
        """The most that our line gave lately in a second."""
        self._since = 0.0

    def puts_off(self, peer: Peer, index: int, blocks: Sequence[BlockId]) -> bool:
        """Whether requests for blocks of a piece have to wait; they lie with `peer.waiting` then."""
        thrift = self._thrift
        if not thrift.active:
            if not all(begin for _, begin, _ in blocks):
                thrift.is_first(peer, index)  # so that it is known, should there be a crowd
            return False
        if thrift.is_first(peer, index):
            return False
        peer.waiting.update(dict.fromkeys(blocks))
        return True

    def gave(self, peer: Peer, index: int) -> None:
        """The peer was given the last of a piece."""
        self._thrift.gave(peer, index)

    def appeared(self, peer: Peer, index: int, now: float, *, passed_on: bool) -> None:
        """A peer says that it has got a piece; `passed_on`: not from us."""
        self._thrift.appeared(peer, index, now, passed_on=passed_on)
        if passed_on:
            peer.fed_at = now
            peer.hunger = 0

    def took_back(self, peer: Peer, index: int) -> None:
        """The peer takes back a block that it asked for."""
        if all(asked != index for asked, *_ in peer.queue):
            self._thrift.gave_up(peer, index)

    def choked(self, peer: Peer) -> None:
        """It may ask for nothing any more."""
        self._thrift.let_go(peer)

    def left(self, peer: Peer) -> None:
        """It is gone."""
        self._thrift.left(peer)

    def disperse(self) -> None:
        """Nobody waits any more."""
        self._thrift.disperse()
        for peer in self._peers:
            if peer.waiting:
                peer.queue.update(peer.waiting)
                peer.waiting.clear()
                self._dirty[peer] = None

    def gather(self, now: float) -> None:
        """Somebody came, or a second went by: are they many?"""
        full = self._picker.full
        leechers = sum(peer.source.has != full for peer in self._peers)
        if self._thrift.count(leechers, self._up.total, now):
            self._since = now
            self.look_at = now + LOOK_S
            self._put_off(now)

    def _put_off(self, now: float) -> None:
        """What was taken on before there was a crowd is shared out anew."""
        thrift = self._thrift
        for peer in self._peers:
            asked = dict.fromkeys(map(PIECE_OF, peer.queue))
            for index in asked:
                thrift.gave_up(peer, index)
            for block in [block for block in peer.queue if not thrift.is_first(peer, block[0])]:
                del peer.queue[block]
                peer.waiting[block] = None
            peer.fed_at = now
        self._serve_firsts(now)

    @property
    def _busy(self) -> bool:
        return any(peer.queue or peer.connection.outgoing_bytes for peer in self._peers)

    def look(self, now: float) -> None:
        """At `look_at`: whether those who wait do so for nothing."""
        waits = any(peer.waiting for peer in self._peers)
        self.look_at = now + LOOK_S if self._thrift.active and (waits or now - self._since < DOUBT_S) else None
        if not waits or self._busy:
            self._thrift.look(False, now)
        elif self._thrift.look(True, now):
            self.look_at = None
            self._serve_firsts(now)
        else:
            self._serve_firsts(now, freely=True)

    def tick(self, now: float) -> None:
        """Once a second: of what others have too, as much as there is to spare, to all in turn."""
        self.gather(now)
        thrift = self._thrift
        if thrift.tick(self._up.total, now):
            self._put_off(now)
        else:
            self._serve_firsts(now)
        self.look(now)
        if thrift.active:
            self._peak = max(self._peak * FADE, self._up.latest)
            if self._busy and self._up.latest >= FULL * self._peak:
                self._feed_the_hungry(BUSY_SHARE * self._up.rate, now)
            else:
                self._serve_firsts(now, freely=True)
                self._feed_the_hungry(float("inf"), now)
                self._spare(now)

    def _serve_firsts(self, now: float, *, freely: bool = False) -> None:
        """Who waited for what is its own by now, who passes most on first; all, where nobody waits any more."""
        thrift = self._thrift
        for peer in sorted(self._peers, key=lambda peer: -peer.spread):
            if peer.waiting:
                asked = dict.fromkeys(map(PIECE_OF, peer.waiting))
                own = {index for index in asked if thrift.is_first(peer, index, freely=freely) or not thrift.active}
                for block in [block for block in peer.waiting if block[0] in own]:
                    self._serve(peer, block, now)

    def _turn(self, peer: Peer) -> tuple[bool, float]:
        """Who keeps pieces for itself comes last; of the others who waits longest first."""
        return self._thrift.owes(peer), peer.served_at

    def _feed_the_hungry(self, room: float, now: float) -> None:
        since = now - max(HUNGER_S, HUNGER_PIECES * self._thrift.pace_s)
        hungry = [peer for peer in self._peers if peer.waiting and not peer.queue and peer.fed_at < since]
        for peer in sorted(hungry, key=self._turn):
            for block in list(peer.waiting)[: 1 << peer.hunger]:
                given = self._serve(peer, block, now)
                self._thrift.spare -= given
                room -= given
            peer.hunger = min(peer.hunger + 1, MAX_HUNGER)
            if room <= 0.0:
                break

    def _spare(self, now: float) -> None:
        thrift = self._thrift
        while thrift.spare > 0.0 and (queue := [peer for peer in self._peers if peer.waiting]):
            for peer in sorted(queue, key=self._turn):
                thrift.spare -= self._serve(peer, next(iter(peer.waiting)), now)
                if thrift.spare <= 0.0:
                    break

    def _serve(self, peer: Peer, block: BlockId, now: float) -> int:
        del peer.waiting[block]
        peer.queue[block] = None
        peer.served_at = now
        self._dirty[peer] = None
        return block[2]
