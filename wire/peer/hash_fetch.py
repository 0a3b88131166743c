"""Gets the piece layers of a version 2 torrent from many peers (BEP 52), without I/O.

A layer is asked for in stretches of 512 hashes, each with its proof up to the root: so each answer is judged by
itself, and who sent a wrong one is known at once. It knows peers only by a key that its caller chooses. The
caller sends the requests, feeds the answers, and drops whom it catches.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from wire.errors import ProtocolError
from wire.metainfo.layers import PieceLayers
from wire.metainfo.merkle import BLOCK_BYTES, climb, height_of, root_of
from wire.peer.hashes import MAX_ASKED, HashAsk

__all__ = ["HashFetch", "WrongHashesError"]

MAX_OUTSTANDING = 32
"""Requests outstanding with one peer: half a megabyte of answers, enough for a line of 40 Mbit/s and 100 ms."""
ANSWER_TIMEOUT_S = 15.0
REST_S = 30.0
"""How long a peer is left alone that does not answer, or has refused too much."""
MAX_REFUSED = 64
"""Requests that a peer refused, remembered so that others are asked for these, before it rests."""

K = TypeVar("K", bound=Hashable)


class WrongHashesError(ProtocolError):
    """Hashes that do not lead to the root they are said to be of: a lie, as each answer is proved by itself."""


@dataclass(slots=True)
class _Peer:
    asked: dict[HashAsk, float] = field(default_factory=dict)
    refused: set[HashAsk] = field(default_factory=set)
    rests_until: float = 0.0


class HashFetch(Generic[K]):
    """Gets what `layers` lacks, and puts it there. After each call that changes something, call `assign`."""

    def __init__(self, layers: PieceLayers) -> None:
        self._layers = layers
        self._base = height_of(layers.piece_length // BLOCK_BYTES)
        self._peers: dict[K, _Peer] = {}
        self._todo: dict[HashAsk, None] = {}
        """Not here, and asked of nobody."""
        self._got: dict[bytes, dict[int, bytes]] = {}
        """Proved stretches of layers that are not whole, by root and first index."""
        self._assigned_at = 0.0
        for root in layers.missing():
            self._todo.update(dict.fromkeys(self._asks(root)))

    def _asks(self, root: bytes) -> list[HashAsk]:
        count = self._layers.pieces_of(root) or 0
        proof_layers = max(height_of(count) - 1, 0)  # the root itself is known
        asks = []
        for index in range(0, count, MAX_ASKED):
            length = min(MAX_ASKED, max(2, 1 << height_of(count - index)))
            asks.append(HashAsk(root, self._base, index, length, proof_layers))
        return asks

    def prefer(self, roots: Container[bytes]) -> None:
        """The layers of these files are asked for before the others."""
        self._todo = dict.fromkeys(sorted(self._todo, key=lambda ask: ask.root not in roots))

    @property
    def done(self) -> bool:
        """Nothing is missing any more."""
        return self._layers.complete

    def offer(self, peer: K) -> None:
        """A peer that speaks of version 2 trees is there."""
        self._peers.setdefault(peer, _Peer())

    def gone(self, peer: K) -> None:
        """The connection is closed: others are asked."""
        known = self._peers.pop(peer, None)
        if known is not None:
            self._todo.update(dict.fromkeys(known.asked))

    def assign(self, now: float) -> list[tuple[K, HashAsk]]:
        """Whom to ask for what, now."""
        self._assigned_at = now
        requests: list[tuple[K, HashAsk]] = []
        if self.done:
            self._todo.clear()
            return requests
        for known in self._peers.values():
            if any(now - at >= ANSWER_TIMEOUT_S for at in known.asked.values()):
                self._todo.update(dict.fromkeys(known.asked))
                known.asked.clear()
                known.rests_until = now + REST_S
        for ask in [ask for ask in self._todo if self._layers.get(ask.root) is not None]:
            del self._todo[ask]  # it followed from what is on disk
        for peer, known in self._peers.items():
            room = MAX_OUTSTANDING - len(known.asked)
            if now < known.rests_until or room <= 0 or not self._todo:
                continue
            chosen = []
            for ask in self._todo:
                if ask not in known.refused:
                    chosen.append(ask)
                    if len(chosen) == room:
                        break
            for ask in chosen:
                del self._todo[ask]
                known.asked[ask] = now
                requests.append((peer, ask))
        return requests

    def data(self, peer: K, ask: HashAsk, hashes: tuple[bytes, ...]) -> bool:
        """An answer came; True where it made a layer whole.

        Raises ProtocolError where it was not asked for, and WrongHashesError where it is a lie.
        """
        known = self._peers.get(peer)
        if known is None or known.asked.pop(ask, None) is None:
            if known is not None and self._is_late(ask, known):
                return False
            raise ProtocolError("sends hashes that were not asked for")
        count = self._layers.pieces_of(ask.root) or 0
        step = ask.length.bit_length() - 1
        nodes, uncles = hashes[: ask.length], hashes[ask.length :]
        right = len(hashes) == ask.length + height_of(count) - step
        if not right or climb(root_of(nodes, step, ask.base), ask.index >> step, uncles) != ask.root:
            self._todo[ask] = None
            raise WrongHashesError("sends hashes that do not belong to the file's pieces root")
        if self._layers.get(ask.root) is not None:
            return False  # it followed from the pieces meanwhile
        got = self._got.setdefault(ask.root, {})
        got[ask.index] = b"".join(nodes[: count - ask.index])
        if sum(map(len, got.values())) < 32 * count:
            return False
        del self._got[ask.root]
        self._layers.add(ask.root, b"".join(got[index] for index in sorted(got)))
        return True

    def _is_late(self, ask: HashAsk, known: _Peer) -> bool:
        """Whether it may answer what was taken back from it: it rested, and had been asked something."""
        return known.rests_until > 0.0 and self._layers.pieces_of(ask.root) is not None

    def reject(self, peer: K, ask: HashAsk, now: float) -> None:
        """A peer refused. What was not asked of it changes nothing."""
        known = self._peers.get(peer)
        if known is None or known.asked.pop(ask, None) is None:
            return
        self._todo[ask] = None
        known.refused.add(ask)
        if len(known.refused) >= MAX_REFUSED or len(known.refused) >= len(self._todo):
            known.refused.clear()
            known.rests_until = now + REST_S

    def next_timer(self) -> float | None:
        """When `assign` may have something to say without anything having come; None: never."""
        if self.done:
            return None
        times = [at + ANSWER_TIMEOUT_S for known in self._peers.values() for at in known.asked.values()]
        times += [known.rests_until for known in self._peers.values()]
        return min((time for time in times if time > self._assigned_at), default=None)
