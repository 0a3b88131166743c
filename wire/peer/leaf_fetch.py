"""Asks peers for the hashes of the blocks of pieces that turned out wrong (BEP 52, base layer 0), without I/O.

A piece whose hash is known proves its leaves: an answer is right, or a lie of the one who sent it. It knows peers only
by a key that its caller chooses, sends nothing itself, and gives a piece up when a few have not answered: what it
finds out is worth a question or two, for there is another way to it (`wire.swarm.blame`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from wire.errors import ProtocolError
from wire.metainfo import Info
from wire.metainfo.merkle import BLOCK_BYTES, climb, root_of
from wire.peer.hash_fetch import WrongHashesError
from wire.peer.hashes import MAX_ASKED, HashAsk

__all__ = ["LeafFetch"]

ANSWER_TIMEOUT_S = 15.0
MAX_TRIES = 4
"""Peers asked for the same, one after the other."""
MAX_WANTED = 64
"""Pieces at once."""

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Wanted:
    """One piece whose leaves are looked for."""

    root: bytes
    height: int
    hash: bytes
    blocks: int
    suspects: Collection[object]
    asks: dict[HashAsk, list[object]]
    """Each request that it takes, and who was asked already."""
    got: dict[int, tuple[bytes, ...]] = field(default_factory=dict)


class _Sent(NamedTuple):
    piece: int
    at: float


class LeafFetch(Generic[K]):
    """Whom to ask for which leaves. After each call that changes something, call `assign`."""

    def __init__(self, info: Info) -> None:
        self._info = info
        self._wanted: dict[int, _Wanted] = {}
        self._peers: dict[K, dict[HashAsk, _Sent]] = {}
        self._late: dict[tuple[K, HashAsk], None] = {}
        """Asked, and taken back: an answer may still come."""

    def want(self, index: int, suspects: Collection[K]) -> None:
        """A piece was wrong. `suspects` gave data of it, and are asked last. No-op where leaves would tell nothing."""
        tree = self._info.tree_piece(index)
        if tree is None or tree.hash is None or not tree.height or index in self._wanted:
            return
        if len(self._wanted) >= MAX_WANTED:
            return
        blocks = -(-tree.size // BLOCK_BYTES)
        width = 1 << tree.height
        length = min(width, MAX_ASKED)
        start = tree.number * width
        asks: dict[HashAsk, list[object]] = {
            HashAsk(tree.root, 0, start + at, length, tree.height - 1): [] for at in range(0, blocks, length)
        }
        self._wanted[index] = _Wanted(tree.root, tree.height, tree.hash, blocks, suspects, asks)

    def settled(self, indices: Iterable[int]) -> None:
        """The leaves of these pieces are not needed any more; answers may still come."""
        if self._wanted:
            for index in indices:
                self._wanted.pop(index, None)

    def offer(self, peer: K) -> None:
        """A peer that speaks of version 2 trees is there."""
        self._peers.setdefault(peer, {})

    def gone(self, peer: K) -> None:
        """The connection is closed."""
        self._peers.pop(peer, None)
        for key in [key for key in self._late if key[0] == peer]:
            del self._late[key]

    def is_for(self, ask: HashAsk) -> bool:
        """Whether an answer to this is of leaves: where a piece is one block, its hash is one of a layer."""
        return ask.base == 0 and self._info.piece_length > BLOCK_BYTES

    def assign(self, now: float, has: Callable[[K, int], bool]) -> list[tuple[K, HashAsk]]:
        """Whom to ask for what, now; `has` tells whether a peer has a piece, and so must know its leaves."""
        requests: list[tuple[K, HashAsk]] = []
        if not self._wanted:
            return requests
        for peer, asked in self._peers.items():
            for ask in [ask for ask, sent in asked.items() if now - sent.at >= ANSWER_TIMEOUT_S]:
                del asked[ask]
                self._late[peer, ask] = None
        silent = {peer for peer, _ in self._late}
        busy = {ask for asked in self._peers.values() for ask in asked}
        for index, wanted in list(self._wanted.items()):
            for ask, tried in wanted.asks.items():
                if ask in busy or ask.index in wanted.got:
                    continue
                able = [peer for peer in self._peers if peer not in tried and peer not in silent and has(peer, index)]
                if len(tried) >= MAX_TRIES or (tried and not able):
                    del self._wanted[index]
                    break
                if able:
                    chosen = next((peer for peer in able if peer not in wanted.suspects), able[0])
                    tried.append(chosen)
                    self._peers[chosen][ask] = _Sent(index, now)
                    requests.append((chosen, ask))
        return requests

    def data(self, peer: K, ask: HashAsk, hashes: tuple[bytes, ...]) -> tuple[int, list[bytes]] | None:
        """An answer came: the piece and all its leaves, where these are whole now.

        Raises ProtocolError where it was not asked for, and WrongHashesError where it is a lie.
        """
        asked = self._peers.get(peer, {})
        sent = asked.pop(ask, None)
        if sent is None:
            if (peer, ask) in self._late:
                del self._late[peer, ask]
                return None
            raise ProtocolError("sends hashes of blocks that were not asked for")
        wanted = self._wanted.get(sent.piece)
        if wanted is None:
            return None
        step = ask.length.bit_length() - 1
        nodes, uncles = hashes[: ask.length], hashes[ask.length :]
        at = (ask.index & ((1 << wanted.height) - 1)) >> step
        if len(hashes) != ask.length + wanted.height - step or climb(root_of(nodes, step), at, uncles) != wanted.hash:
            raise WrongHashesError("sends hashes of blocks that do not belong to the piece")
        wanted.got[ask.index] = nodes
        if len(wanted.got) < len(wanted.asks):
            return None
        del self._wanted[sent.piece]
        leaves = [leaf for index in sorted(wanted.got) for leaf in wanted.got[index]]
        return sent.piece, leaves[: wanted.blocks]

    def reject(self, peer: K, ask: HashAsk) -> None:
        """A peer refused; another is asked. What was not asked of it changes nothing."""
        self._peers.get(peer, {}).pop(ask, None)
        self._late.pop((peer, ask), None)

    def next_timer(self) -> float | None:
        """When `assign` may have something to say without anything having come; None: never."""
        if not self._wanted:
            return None
        times = (sent.at + ANSWER_TIMEOUT_S for asked in self._peers.values() for sent in asked.values())
        return min(times, default=None)
