"""The trade in hashes of single blocks among the peers of a version 2 or hybrid torrent (BEP 52). No I/O.

They are handed out from the pieces that we have, which somebody must read and hash for it: one piece at a time, the
askers in turn, and no more a second than the data of an upload would be. They are asked for when a piece with data
from several peers was wrong: then they name the block that was, and so its sender.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.limits import TokenBucket
from wire.metainfo import Info
from wire.metainfo.merkle import BLOCK_BYTES
from wire.peer import messages as m
from wire.peer.hash_serve import HashServe
from wire.peer.hashes import HashAsk
from wire.peer.leaf_fetch import LeafFetch
from wire.peer.leaf_serve import LeafServe
from wire.swarm.peer import Peer

__all__ = ["Leaves"]

MAX_WAITING = 16
"""Requests of one peer that wait for a piece to be hashed; more are refused."""
MAX_ROUNDS = 4
"""Times that one connection may have the hashes of all blocks."""
SPARE_HASHES = 100_000
"""Beyond that: uncles, and fillers at the end of files."""
HASHED_BYTES_S = 16 << 20
"""Read and hashed for others in a second, whoever asks: a hundredth of what a core hashes."""
HASHED_BURST_BYTES = 64 << 20


class Leaves:
    """`peers` is the swarm's own table; `dirty` collects those whose outbox was filled; `have` are our own pieces."""

    def __init__(
        self, info: Info, layers: HashServe, peers: Mapping[Endpoint, Peer], dirty: dict[Peer, None], now: float
    ) -> None:
        self._info = info
        self._serve = LeafServe(info, layers)
        self._fetch: LeafFetch[Endpoint] = LeafFetch(info)
        self._peers = peers
        self._dirty = dirty
        self._have: Bitfield | None = None
        self._waiting: dict[Peer, deque[HashAsk]] = {}
        self._hashing: int | None = None
        self._unreadable: set[int] = set()
        self._most_leaves = MAX_ROUNDS * (info.size // BLOCK_BYTES) + SPARE_HASHES
        self._bucket = TokenBucket(HASHED_BYTES_S, HASHED_BURST_BYTES, now)

    def begin(self, have: Bitfield) -> None:
        """There is a store: `have` is what it has, kept up to date by its owner."""
        self._have = have

    def is_for(self, ask: HashAsk) -> bool:
        """Whether a request or an answer is of blocks, not of pieces."""
        return self._fetch.is_for(ask)

    def next_timer(self, now: float) -> float | None:
        """When `ask` or `next_job` may have something."""
        at = self._fetch.next_timer()
        if self._waiting and self._hashing is None:
            jobs_at = now + self._bucket.wait_s(now)
            return jobs_at if at is None else min(at, jobs_at)
        return at

    # --- handed out

    def answer(self, peer: Peer, ask: HashAsk) -> None:
        """The peer asks for some: it gets them or a refusal, at once or after a piece was hashed."""
        queue = self._waiting.get(peer)
        if peer.leaves_sent >= self._most_leaves:
            self._refuse(peer, ask)
        elif queue is None:
            if not self._try(peer, ask):
                self._waiting[peer] = deque((ask,))
        elif len(queue) < MAX_WAITING:
            queue.append(ask)
        else:
            self._refuse(peer, ask)

    def _try(self, peer: Peer, ask: HashAsk) -> bool:
        """Answers or refuses; False where a piece must be hashed first."""
        for pieces in self._serve.places(ask):
            if not self._has(pieces):
                continue
            if self._serve.lacks(pieces):
                return False
            hashes = self._serve.answer(ask, pieces)
            if hashes is not None:
                peer.connection.hashes(ask, hashes)
                peer.leaves_sent += len(hashes)
                self._dirty[peer] = None
                return True
        self._refuse(peer, ask)
        return True

    def _has(self, pieces: range) -> bool:
        have = self._have
        return have is not None and all(have[index] and index not in self._unreadable for index in pieces)

    def _refuse(self, peer: Peer, ask: HashAsk) -> None:
        peer.connection.hash_reject(ask)
        self._dirty[peer] = None

    def next_job(self, now: float) -> int | None:
        """A piece to be read and hashed for somebody now; answered by `hashed`. One at a time."""
        while self._hashing is None and self._waiting and self._bucket.available(now) > 0:
            peer, queue = next(iter(self._waiting.items()))
            lacking = [self._serve.lacks(pieces) for pieces in self._serve.places(queue[0]) if self._has(pieces)]
            if lacking and lacking[0]:
                self._hashing = lacking[0][0]
                self._bucket.charge(self._info.piece_size(self._hashing), now)
                return self._hashing
            self._go_on(peer, queue)  # it was hashed for another, or is there no more
        return None

    def hashed(self, index: int, leaves: bytes | None) -> None:
        """The leaves of the piece of `next_job`, end to end; None: it cannot be read, or is not what it was."""
        self._hashing = None
        if leaves is None:
            self._unreadable.add(index)
        else:
            self._serve.put(index, leaves)
        turn = next(iter(self._waiting), None)
        for peer, queue in list(self._waiting.items()):
            self._go_on(peer, queue)
        if turn is not None and turn in self._waiting:  # now behind the others
            self._waiting[turn] = self._waiting.pop(turn)

    def _go_on(self, peer: Peer, queue: deque[HashAsk]) -> None:
        """Answers what can be answered now."""
        while queue and self._try(peer, queue[0]):
            queue.popleft()
        if not queue:
            del self._waiting[peer]

    # --- asked for

    def suspect(self, index: int, givers: Collection[Endpoint], now: float) -> None:
        """A piece was wrong, and who of these lied is not known."""
        self._fetch.want(index, givers)
        self.ask(now)

    def settled(self, indices: Iterable[int]) -> None:
        """These pieces came right: nobody needs to be asked about them."""
        self._fetch.settled(indices)

    def joined(self, peer: Peer, now: float) -> None:
        """A peer that speaks version 2 is there."""
        self._fetch.offer(peer.endpoint)
        self.ask(now)

    def gone(self, peer: Peer, now: float) -> None:
        """The connection is closed."""
        self._waiting.pop(peer, None)
        self._fetch.gone(peer.endpoint)
        self.ask(now)

    def ask(self, now: float) -> None:
        """Sends what is to be asked now."""
        for endpoint, ask in self._fetch.assign(now, self._is_with):
            peer = self._peers.get(endpoint)
            if peer is not None:
                peer.connection.hash_request(ask)
                self._dirty[peer] = None

    def _is_with(self, endpoint: Endpoint, index: int) -> bool:
        peer = self._peers.get(endpoint)
        has = None if peer is None else peer.connection.peer_has
        return has is not None and has[index]

    def take(self, peer: Peer, message: m.Hashes, now: float) -> tuple[int, list[bytes]] | None:
        """Hashes came: the piece whose leaves are whole now, and these. Raises as `LeafFetch.data` does."""
        whole = self._fetch.data(peer.endpoint, message.ask, message.hashes)
        self.ask(now)
        return whole

    def rejected(self, peer: Peer, ask: HashAsk, now: float) -> None:
        """A peer refused some."""
        self._fetch.reject(peer.endpoint, ask)
        self.ask(now)
