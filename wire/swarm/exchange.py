"""The trade in pieces of one torrent, both ways, over the peers that are connected (BEP 3, 6). No I/O.

It begins when the metadata is known and a store is open. Whom to dial, whom to drop and all that comes before is the
business of `rules`; a breach of the protocol is raised from here, a lie about a piece is returned.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

from wire.bitfield import Bitfield
from wire.errors import ProtocolError
from wire.metainfo import Info
from wire.net import Buffer
from wire.peer import messages as m
from wire.swarm.choker import RECHOKE_S, Choker, Contender
from wire.swarm.meter import Meter
from wire.swarm.peer import Peer
from wire.swarm.picker import Picker
from wire.swarm.pieces import BlockId
from wire.swarm.requests import PieceJob, Requests
from wire.swarm.source import DEFAULT_REQQ, MAX_DEPTH, Source

__all__ = ["MAX_QUEUE", "Exchange"]

MAX_QUEUE = 2000
"""Requests that a peer may have outstanding with us: told to it as `reqq` (BEP 10)."""
MAX_REFUSED = 10_000
"""Requests beyond that, or while choked, before the peer is dropped."""
MAX_UNWRITTEN_BYTES = 32 << 20
"""Whole pieces that wait for the disk before nobody is read from: a tenth of a second of the fastest lines."""
UPLOAD_BATCH_BYTES = 1 << 20
"""Read from the store in one go and sent in one go."""
MAX_TIMEOUTS = 3
"""Times in a row that a peer owes blocks for too long, before it is dropped."""


class Exchange:
    """What we have, want, ask for and hand out. `dirty` collects the peers whose outbox or queue was filled."""

    def __init__(
        self,
        info: Info,
        have: Bitfield,
        wanted: Sequence[bool] | None,
        *,
        rng: random.Random,
        slots: int,
        dirty: dict[Peer, None],
        now: float,
    ) -> None:
        self.info = info
        self.have = have.copy()
        """The pieces that are stored."""
        self.hash_failures = 0
        self.down = Meter(now)
        self.up = Meter(now)
        self._picker = Picker(info.piece_count, rng)
        self._requests = Requests(self._picker, info.piece_size, info.piece_length)
        self._choker = Choker(rng, slots)
        self._rechoke_at = now + RECHOKE_S
        self._dirty = dirty
        self._peers: dict[Peer, None] = {}
        self._by_source: dict[Source, Peer] = {}
        self._max_unwritten = max(MAX_UNWRITTEN_BYTES, 2 * info.piece_length)
        picker = self._picker
        if wanted is not None:
            pieces = 0
            for index, flag in enumerate(wanted):
                if flag:
                    pieces |= picker.span(info.layout.pieces_of(index))
            picker.restrict(pieces)
        picker.stored(picker.set_of(have))
        self.left_bytes = sum(info.piece_size(index) for index in picker.indices(picker.left))
        """Bytes of wanted pieces that are not stored."""

    # --- how it stands

    @property
    def finished(self) -> bool:
        """Every wanted piece is stored."""
        return not self._picker.left

    @property
    def wasted_bytes(self) -> int:
        """Piece data that came twice, unasked or wrong."""
        return self._requests.wasted_bytes

    @property
    def congested(self) -> bool:
        """Too much waits for the disk: nobody should be read from until it does not."""
        return self._requests.unwritten_bytes > self._max_unwritten

    def jobs(self) -> list[PieceJob]:
        """Pieces to be hashed and stored, since the last call."""
        return self._requests.jobs()

    def is_useless(self, peer: Peer) -> bool:
        """Neither side can give the other anything any more."""
        return self.finished and peer.source.has == self._picker.full

    # --- peers

    def join(self, peer: Peer, now: float) -> None:
        """A peer is ready, or the exchange begins while it is there."""
        self._peers[peer] = None
        self._by_source[peer.source] = peer
        self.limit(peer)
        has = peer.connection.peer_has
        if has is not None:
            self._gains(peer, self._picker.set_of(has))
        if not peer.connection.peer_choking:
            self.unchoked(peer, now)
        if peer.connection.peer_interested:
            self.interested(peer, now)

    def leave(self, peer: Peer, now: float) -> None:
        """A peer is gone: what was asked of it is asked of others."""
        if peer in self._peers:
            del self._peers[peer], self._by_source[peer.source]
            self._requests.leave(peer.source)
            self._picker.left_with(peer.source.has)
            peer.source.has = 0
            peer.queue.clear()
            self._employ_idle(now)
            self._fill_slots(now)

    def limit(self, peer: Peer) -> None:
        """Takes over how many requests the peer says that it keeps (BEP 10)."""
        peer.source.limit = min(peer.connection.remote.reqq or DEFAULT_REQQ, MAX_DEPTH)

    def _gains(self, peer: Peer, pieces: int) -> None:
        source = peer.source
        after = source.has | pieces
        if after != source.has:
            self._picker.left_with(source.has)
            self._picker.joined(after)
            source.has = after
        self._show_interest(peer)

    def _show_interest(self, peer: Peer) -> None:
        connection = peer.connection
        wanted = bool(peer.source.has & self._picker.left)
        if wanted != connection.am_interested:
            if wanted:
                connection.interested()
            else:
                connection.not_interested()
            self._dirty[peer] = None

    def has_pieces(self, peer: Peer, pieces: Bitfield, now: float) -> None:
        """The peer told what it has."""
        self._gains(peer, self._picker.set_of(pieces))
        self.employ(peer, now)

    def has_piece(self, peer: Peer, index: int, now: float) -> None:
        """The peer got a piece."""
        source = peer.source
        source.has = self._picker.gained(source.has, index)
        if not self.have[index]:
            self._show_interest(peer)
            if not source.asked:
                self.employ(peer, now)

    # --- downloading

    def unchoked(self, peer: Peer, now: float) -> None:
        """The peer answers requests from now on."""
        peer.source.restart()
        self._requests.join(peer.source)
        self.employ(peer, now)

    def choked(self, peer: Peer, now: float) -> None:
        """The peer does not answer requests any more; what it still sends (BEP 6) is welcome."""
        self._requests.leave(peer.source)
        self._employ_idle(now)

    def blocks(self, peer: Peer, blocks: Iterable[m.Block], now: float) -> None:
        """Data came. Raises ProtocolError where it was not asked for, too often."""
        take = self._requests.take
        source = peer.source
        before = source.meter.total
        try:
            for index, begin, data in blocks:
                take(source, index, begin, data, now)
        finally:
            self.down.total += source.meter.total - before
        peer.useful = True
        for other, block in self._requests.cancels():
            self._cancel(self._by_source[other], [block])
        self.employ(peer, now)

    def rejected(self, peer: Peer, index: int, begin: int, now: float) -> None:
        """The peer will not answer a request of ours (BEP 6)."""
        if self._requests.reject(peer.source, index, begin):
            self._employ_idle(now, but=peer)

    def employ(self, peer: Peer, now: float) -> None:
        """Gives a peer work, if it takes any."""
        if peer.source in self._requests and (batch := self._requests.fill(peer.source, now)):
            peer.connection.request(batch)
            self._dirty[peer] = None

    def _employ_idle(self, now: float, but: Peer | None = None) -> None:
        for peer in self._peers:
            if not peer.source.asked and peer is not but:
                self.employ(peer, now)

    def _cancel(self, peer: Peer, blocks: Sequence[BlockId]) -> None:
        peer.connection.cancel(blocks)
        self._dirty[peer] = None

    def piece_stored(self, index: int, ok: bool, now: float) -> list[Source]:
        """A piece of `jobs` is stored, or was wrong. Returns those who are now known to have lied about it."""
        liars = self._requests.stored(index, ok)
        if not ok:
            self.hash_failures += 1
            self._employ_idle(now)
            return liars
        self.have.set(index)
        self.left_bytes -= self.info.piece_size(index)
        bit = self._picker.bit(index)
        for peer in self._peers:
            if not peer.source.has & bit:
                peer.connection.have(index)
                self._dirty[peer] = None
        if self.finished:
            for peer in self._peers:
                self._show_interest(peer)
        return liars

    # --- uploading

    def request(self, peer: Peer, block: BlockId) -> None:
        """The peer asks for a block. Raises ProtocolError where there is none such, or it asks without end."""
        index, begin, length = block
        if begin + length > self.info.piece_size(index):
            raise ProtocolError(f"asks for bytes {begin} to {begin + length} of piece {index}")
        if peer.connection.am_choking or not self.have[index] or len(peer.queue) >= MAX_QUEUE:
            peer.connection.reject(index, begin, length)
            peer.refused += 1
            if peer.refused > MAX_REFUSED:
                raise ProtocolError("asks on and on for what it was refused")
        else:
            peer.queue[block] = None
        self._dirty[peer] = None

    def cancel(self, peer: Peer, block: BlockId) -> None:
        """The peer takes a request back; with BEP 6 it wants an answer all the same."""
        if block in peer.queue:
            del peer.queue[block]
            peer.connection.reject(*block)
            self._dirty[peer] = None

    def uploads(self, peer: Peer, most_bytes: int) -> list[BlockId]:
        """Blocks to be read for a peer now: taken from its queue, at least one where there is one."""
        batch: list[BlockId] = []
        room = min(most_bytes, UPLOAD_BATCH_BYTES)
        for block in peer.queue:
            room -= block[2]
            if batch and room < 0:
                break
            batch.append(block)
        for block in batch:
            del peer.queue[block]
        return batch

    def uploaded(self, peer: Peer, batch: Sequence[BlockId], data: Sequence[Buffer]) -> None:
        """The blocks of `uploads` were read: they go to the outbox."""
        connection = peer.connection
        if connection.am_choking and not connection.fast:
            return  # it does not wait for them any more
        total = 0
        for (index, begin, length), block in zip(batch, data, strict=True):
            connection.piece(index, begin, block)
            total += length
        peer.useful = True
        peer.up.total += total
        self.up.total += total

    # --- whom to serve

    def interested(self, peer: Peer, now: float) -> None:
        """The peer wants pieces of ours: served at once where a slot is free."""
        self._fill_slots(now)

    def not_interested(self, peer: Peer, now: float) -> None:
        """The peer wants none: its slot is for others."""
        self._choke(peer, now)
        self._fill_slots(now)

    def _fill_slots(self, now: float) -> None:
        served = sum(peer.unchoked_at is not None for peer in self._peers)
        waiting = (p for p in self._peers if p.unchoked_at is None and p.connection.peer_interested)
        for peer in list(itertools.islice(waiting, self._choker.free(served))):
            self._unchoke(peer, now)

    def _unchoke(self, peer: Peer, now: float) -> None:
        if peer.unchoked_at is None:
            peer.unchoked_at = now
            peer.refused = 0
            peer.connection.unchoke()
            self._dirty[peer] = None

    def _choke(self, peer: Peer, now: float) -> None:
        if peer.unchoked_at is None:
            return
        peer.unchoked_at = None
        peer.choked_at = now
        peer.connection.choke()
        for block in peer.queue:
            peer.connection.reject(*block)
        peer.queue.clear()
        self._dirty[peer] = None

    def _rechoke(self, now: float) -> None:
        contenders = [
            Contender(
                peer.key,
                peer.source.meter.rate,
                peer.up.rate,
                peer.unchoked_at,
                peer.choked_at,
                peer.joined_at,
                peer.source.snubbed,
            )
            for peer in self._peers
            if peer.connection.peer_interested
        ]
        chosen = self._choker.choose(contenders, now, seeding=self.finished)
        for peer in self._peers:
            if peer.key not in chosen:
                self._choke(peer, now)
        for peer in self._peers:
            if peer.key in chosen:
                self._unchoke(peer, now)

    # --- time

    def tick(self, now: float) -> list[Peer]:
        """Once a second: rates, depths, debts. Returns peers that owe blocks and never pay."""
        hopeless = []
        self.down.measure(now)
        self.up.measure(now)
        for peer in self._peers:
            source = peer.source
            peer.up.measure(now)
            source.measure(now)
            overdue = self._requests.overdue(source, now)
            if overdue is not None:
                self._cancel(peer, overdue)
                if source.timeouts >= MAX_TIMEOUTS:
                    hopeless.append(peer)
            self._show_interest(peer)
        for peer in self._peers:
            self.employ(peer, now)
        if now >= self._rechoke_at:
            self._rechoke_at = now + RECHOKE_S
            self._rechoke(now)
        return hopeless
