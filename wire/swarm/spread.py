"""Who passes on what we gave: seen from the haves of the others. The measure of a seed, and the rule of BEP 16.

A seed is paid by nobody, so it cannot return like for like. But it sees that a piece which it gave to one peer turns up
with another whom it did not give it: the first, or one of the first, must have passed it on. `Spread` keeps these
credits for the choker. `SuperSeed` goes further: it shows each peer one piece, and the next when that one has spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wire.swarm.peer import Peer
from wire.swarm.picker import Picker

__all__ = ["Spread", "SuperSeed"]

MAX_PIECES_KEPT = 4096
"""Pieces handed out last, whose takers are remembered."""
MAX_TAKERS = 4
"""Of one piece: who of many passed it on cannot be told."""
FADE = 0.8
"""Of a credit, left after each round of the choker (10 s)."""
OFFER_PATIENCE_S = 60.0
"""A piece that was offered and has not spread by then is offered to others too."""
STARVING_S = 120.0
"""Who got no piece from anybody for so long is offered one, whoever else has it."""


class Spread:
    """Credits of peers, in pieces."""

    __slots__ = ("_takers",)

    def __init__(self) -> None:
        self._takers: dict[int, list[Peer]] = {}

    def gave(self, peer: Peer, index: int) -> None:
        """The peer was handed the last of a piece."""
        takers = self._takers.setdefault(index, [])
        if peer not in takers and len(takers) < MAX_TAKERS:
            takers.append(peer)
        if len(self._takers) > MAX_PIECES_KEPT:
            del self._takers[next(iter(self._takers))]

    def appeared(self, peer: Peer, index: int) -> bool:
        """The peer says that it has got a piece. Returns whether one whom we gave it must have passed it on."""
        takers = self._takers.get(index)
        if takers is None or peer in takers:
            return False
        credit = 1.0 / len(takers)
        for taker in takers:
            if not taker.gone:
                taker.spread += credit
        return len(takers) < MAX_TAKERS

    def left(self, peer: Peer) -> None:
        """The peer is gone."""
        for index in [index for index, takers in self._takers.items() if peer in takers]:
            self._takers[index].remove(peer)
            if not self._takers[index]:
                del self._takers[index]

    @staticmethod
    def fade(peers: Iterable[Peer]) -> None:
        """Once a round: what was long ago counts less."""
        for peer in peers:
            peer.spread *= FADE


class SuperSeed:
    """Which piece to show to whom (BEP 16). `show` tells a peer that we have a piece."""

    def __init__(self, picker: Picker, show: Callable[[Peer, int], None]) -> None:
        self._picker = picker
        self._show = show
        self._peers: dict[Peer, None] = {}
        self._shown: dict[Peer, int] = {}
        """All pieces that were shown to a peer, a set as in `Picker`: it may ask for these."""
        self._offers: dict[Peer, tuple[int, float]] = {}
        """The last piece shown, until it has spread, and when."""
        self._fed_at: dict[Peer, float] = {}

    def may_ask(self, peer: Peer, index: int) -> bool:
        """Whether the peer was shown this piece."""
        return bool(self._shown.get(peer, 0) & self._picker.bit(index))

    def join(self, peer: Peer, now: float) -> None:
        """A peer came: it is shown nothing but what `tick` or `advance` find for it."""
        self._peers[peer] = None
        self._fed_at[peer] = now

    def leave(self, peer: Peer) -> None:
        """It is gone."""
        self._peers.pop(peer, None)
        self._shown.pop(peer, None)
        self._offers.pop(peer, None)
        self._fed_at.pop(peer, None)

    def appeared(self, peer: Peer, index: int, now: float) -> None:
        """A peer got a piece, from whomever."""
        self._fed_at[peer] = now
        for other, (offered, _) in list(self._offers.items()):
            if offered == index and other is not peer:
                del self._offers[other]
        self.advance(now)

    def advance(self, now: float) -> None:
        """Shows a new piece to each peer that waits for none, where one is worth to be shown."""
        picker = self._picker
        pending = 0
        for index, at in self._offers.values():
            if now - at < OFFER_PATIENCE_S:
                pending |= picker.bit(index)
        rare = picker.full & ~picker.with_anybody & ~pending
        # Each was given to somebody, and that one may be slow or mean: what only one has is shown again in time.
        for peer in self._peers:
            if peer in self._offers and not self._alone(peer):
                continue
            missing = picker.full & ~peer.source.has & ~self._shown.get(peer, 0)
            among = missing & rare
            if not among and now - self._fed_at[peer] > STARVING_S:
                among = missing
            if not among:
                continue
            index = self._picker.some(among)
            rare &= ~picker.bit(index)
            self._offers[peer] = (index, now)
            self._shown[peer] = self._shown.get(peer, 0) | picker.bit(index)
            self._fed_at[peer] = now
            self._show(peer, index)

    def _alone(self, peer: Peer) -> bool:
        """It has what it was offered, and nobody else is there who could want it."""
        index, _ = self._offers[peer]
        bit = self._picker.bit(index)
        return bool(peer.source.has & bit) and all(o is peer or o.source.has & bit for o in self._peers)
