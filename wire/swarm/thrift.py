"""What a seed gives at once and what later, where many ask it: first what nobody else can give. No I/O, no requests.

A seed that answers a crowd in the order of its requests hands out most pieces several times, while the lines of those
who have them stand idle. So a piece goes to the first who asks for it, and the others who want it wait: they get it
from that one, and take their request back. Nobody is the first for more than its part, since what one alone has one
line alone can pass on; and for little until it has passed something on, since for what a miser has all others wait. Of
what others have too the seed gives, in all, a part of what a member of the swarm gives on average; that is measured by
the haves.

Where the peers do not feed each other nobody waits. That shows when the seed stands idle: it has given each piece once,
and nothing of it turns up elsewhere though there was time for it. What the line of a busy seed gives is of use anyway.
"""

from __future__ import annotations

import math
from collections import Counter

from wire.swarm.peer import Peer
from wire.swarm.picker import Picker

__all__ = ["Thrift"]

CROWD = 8
"""So many leechers can be a swarm; of fewer the seed is most."""
CROWD_ENDS = 4
"""Of a crowd that gets done so few are left that nobody is to wait."""
SHARE = 0.25
"""Of what a member gives on average, for a seed to give of pieces that others have."""
MIN_FIRSTS = 2
"""Pieces that anybody may be the first for; who was seen to pass something on, for its part of all that nobody has."""
FREELY = 2
"""An idle seed lets each be the first for so many times as much."""
GRACE_S = 0.03
GRACE_FIRSTS = 8.0
"""So long after the first piece reached anybody, or so many times as long as it took to, a piece must have turned up
with whom we did not give it, or an idle seed waits no more: for that somebody has to hear of it, be unchoked, ask, and
share a line with others."""
UNHEARD_S = 2.0
"""And so long for the first piece to be told of at all: some tell nothing to a seed."""
PATIENCE_S = 5.0
PATIENCE_TIMES = 3.0
"""Who passed a piece on to nobody for so long, or for so many times as long as a piece needs to be passed on, keeps it
for itself: it is for the next who asks, too."""
DEBT = 0.9
"""Pieces that it owes who is known to keep them for itself."""
HASTE_S = 1.0
HASTE_TIMES = 2.0
"""How long what such a one has is waited for."""
MAX_KEEPERS = 4
"""A piece that so many were given is out, whoever they are."""
SMOOTH = 0.1
"""The weight of the last of such times."""
DEBT_S = 60.0
"""How long that is held against it: by then it is the first for less."""
CHOKED_S = 1.0
"""Who is choked by now, and got a part of a piece, cannot ask for the rest."""
LATELY_S = 20.0
"""What the peers gained is looked back upon so far."""
FEEDS = 0.5
"""Of all that the peers gain, so much at least from each other, and they are a swarm that feeds itself after all."""


class Thrift:
    """One seed's measure. `active`: those wait who ask for what others have or get."""

    def __init__(self, picker: Picker, piece_length: int) -> None:
        self.active = False
        self.spare = 0.0
        """Bytes that may be given now of what others have, as long as it is `active`."""
        self._picker = picker
        self._piece_length = piece_length
        self._first: dict[int, tuple[Peer, float]] = {}
        """Whose each piece is that turned up nowhere yet, and when he asked for it or got the last of it."""
        self._kept: dict[int, tuple[Peer, float]] = {}
        """Pieces that nobody was seen to pass on, who got each last, and when."""
        self._firsts: Counter[Peer] = Counter()
        """How many of both each peer has."""
        self._debts: dict[Peer, float] = {}
        """How many pieces each kept to itself until we gave them to another; fades."""
        self._most_firsts = MIN_FIRSTS
        self._crowd = 0
        """How many leechers there were at most, of this crowd; 0: there is none."""
        self._gained = 0.0
        """Bytes, since the last tick."""
        self._gave = 0
        self._lately_gained = 0.0
        self._lately_gave = 0.0
        self._since = 0.0
        self._at = 0.0
        self._spread_took = 0.0
        """Seconds, smoothed, from the first peer that has a piece to the second."""
        self._fed_took = 0.0
        """Seconds, smoothed, from one piece that a peer got of others to the next."""
        self._first_took: float | None = None
        self._fed = False
        """Once a piece has turned up with somebody whom we did not give it: they know each other."""

    # --- whose piece it is

    def is_first(self, peer: Peer, index: int, *, freely: bool = False) -> bool:
        """Whether it asks for what nobody has or passes on, and was the first to do so. It is its own then.

        `freely`: there is nothing else to do, so it may be the first for some more than its part.
        """
        held = self._first.get(index)
        if held is not None:
            first, at = held
            if first is peer or not self._has_lapsed(first, index, at):
                return first is peer
            self._release(index)
        elif (kept := self._kept.get(index)) is not None:
            if self._at - kept[1] < self._patience_s(kept[0]):
                return False
        elif self._picker.availability(index):
            return False
        part = (self._most_firsts if peer.spread else MIN_FIRSTS) * (FREELY if freely else 1)
        if self.active and (self._firsts[peer] >= part or self.owes(peer)):
            return False
        if index in self._kept:
            self.spare -= self._piece_length
        self._first[index] = (peer, self._at)
        self._firsts[peer] += 1
        return True

    def gave(self, peer: Peer, index: int) -> None:
        """The peer was given the last of the piece."""
        held = self._first.get(index)
        if held is not None and held[0] is peer:
            self._first[index] = (peer, self._at)

    def _has_lapsed(self, first: Peer, index: int, at: float) -> bool:
        """Whether all that it asked for is given, for long, and the piece turned up nowhere: it asked for a part."""
        patience_s = CHOKED_S if first.connection.am_choking else self._patience_s(first)
        return self._at - at >= patience_s and all(asked != index for asked, *_ in first.queue)

    def gave_up(self, peer: Peer, index: int) -> None:
        """The peer is not the first for this piece any more."""
        held = self._first.get(index)
        if held is not None and held[0] is peer:
            self._release(index)

    def _release(self, index: int) -> None:
        held = self._first.pop(index, None)
        if held is not None:
            self._firsts[held[0]] -= 1

    def appeared(self, peer: Peer, index: int, now: float, *, passed_on: bool = False) -> None:
        """The peer says that it has got a piece; `passed_on`: not from us."""
        self._release(index)
        if self._crowd:
            self._fed = self._fed or passed_on
            if self._first_took is None:
                self._first_took = now - self._since
            self._gained += self._piece_length
            if passed_on:
                self._fed_took += (now - peer.fed_at - self._fed_took) * SMOOTH
            kept = self._kept.pop(index, None)
            if kept is not None:
                holder, since = kept
                self._firsts[holder] -= 1
                if passed_on:
                    self._spread_took += (now - since - self._spread_took) * SMOOTH
                    return
                self._debts[holder] = self._debts.get(holder, 0.0) + 1.0
            if self._picker.availability(index) <= (1 if kept is None else MAX_KEEPERS):
                self._kept[index] = (peer, now)
                self._firsts[peer] += 1

    def let_go(self, peer: Peer) -> None:
        """It is choked: what it was the first to ask for is for the next who asks."""
        for index in [index for index, (first, _) in self._first.items() if first is peer]:
            self._release(index)

    def left(self, peer: Peer) -> None:
        """It is gone, and what it had."""
        self.let_go(peer)
        for index in [index for index, (holder, _) in self._kept.items() if holder is peer]:
            del self._kept[index]
        del self._firsts[peer]
        self._debts.pop(peer, None)

    # --- whether they feed each other

    def count(self, leechers: int, gave: int, now: float) -> bool:
        """So many want pieces of us now, and so many bytes we have given ever. True where they become a crowd now."""
        if self._crowd:
            self._crowd = max(self._crowd, leechers)
            self._share_out()
            if leechers < CROWD_ENDS:
                self.disperse()
        elif leechers >= CROWD:
            self._crowd = leechers
            self._share_out()
            self._since = self._at = now
            self._gave = gave
            self._gained = self._lately_gained = self._lately_gave = self.spare = 0.0
            self._first_took = None
            self._spread_took = self._fed_took = 0.0
            self._fed = False
            self.active = True
            return True
        return False

    def disperse(self) -> None:
        """There is no crowd any more."""
        self.active = False
        self._crowd = 0
        for holder, _ in self._kept.values():
            self._firsts[holder] -= 1
        self._kept.clear()

    def _share_out(self) -> None:
        unseen = self._picker.full & ~self._picker.with_anybody
        self._most_firsts = max(MIN_FIRSTS, -(-unseen.bit_count() // self._crowd))

    @property
    def doubtful(self) -> bool:
        """Some wait, and nothing shows yet that they get from others what they wait for: `look` is wanted, often."""
        return self.active and not self._fed

    @property
    def pace_s(self) -> float:
        """How long a peer waits for its next piece, as things go; 0 where nothing is known yet."""
        return max(self._fed_took, self._first_took or 0.0)

    def owes(self, peer: Peer) -> bool:
        """Whether it kept a piece for itself lately: it is served after the others."""
        return self._debts.get(peer, 0.0) >= DEBT

    def _patience_s(self, peer: Peer) -> float:
        if self.owes(peer):
            return max(HASTE_S, HASTE_TIMES * self._spread_took)
        return max(PATIENCE_S, PATIENCE_TIMES * max(self._spread_took, self._first_took or 0.0))

    def look(self, idle: bool, now: float) -> bool:
        """Whether nobody is to wait any more. `idle`: some wait, and all that may be given now is on its way."""
        if not self.doubtful or not idle:
            return False
        took = self._first_took
        if now - self._since < (UNHEARD_S if took is None else took + max(GRACE_S, GRACE_FIRSTS * took)):
            return False
        self.active = False
        return True

    def tick(self, gave: int, now: float) -> bool:
        """Once a second; `gave`: bytes that we have given ever. True where from now on some have to wait again."""
        if not self._crowd:
            return False
        span, self._at = now - self._at, now
        gained, self._gained = self._gained, 0.0
        given, self._gave = gave - self._gave, gave
        for peer in self._debts:
            self._debts[peer] *= math.exp(-span / DEBT_S)
        keep = math.exp(-span / LATELY_S)
        self._lately_gained = self._lately_gained * keep + gained
        self._lately_gave = self._lately_gave * keep + given
        self.spare += SHARE * (gained - given) / self._crowd
        if self.active or self._lately_gained - self._lately_gave <= FEEDS * self._lately_gained:
            return False
        self.active = self._fed = True
        self.spare = 0.0
        return True
