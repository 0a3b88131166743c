"""The trade in pieces of one torrent over the peers that are connected: the getting half (BEP 3, 6, 54). No I/O.

It begins when the metadata is known and a store is open. Whom to dial, whom to drop and all that comes before is the
business of `rules`; a breach of the protocol is raised from here, a lie about a piece is returned.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from wire.bitfield import Bitfield
from wire.metainfo import Info
from wire.metainfo.judge import block_digests
from wire.peer import messages as m
from wire.peer.landing import Landing
from wire.swarm.giving import Giving
from wire.swarm.held import Held
from wire.swarm.ledger import block_key
from wire.swarm.meter import Meter
from wire.swarm.peer import Peer
from wire.swarm.picker import Picker
from wire.swarm.pieces import BlockId, PieceJob
from wire.swarm.source import DEFAULT_REQQ, MAX_DEPTH, Source
from wire.swarm.urgent import Urgent
from wire.swarm.values import Priority
from wire.swarm.webtrade import WebTrade

__all__ = ["Exchange"]

MAX_UNWRITTEN_BYTES = 8 << 20
"""Whole pieces that wait for the disk before nobody is read from: two batches of `storing`. What is read further ahead
has left the processor's caches before it is hashed, and sockets hold some megabytes more."""
MAX_ALLOWED = 64
"""Pieces that a peer may allow us while it chokes: ten are usual (BEP 6)."""
GIFT_DEPTH = 8
"""Requests outstanding with a peer that chokes us and allows some pieces."""
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
        slots: int | None,
        super_seed: bool,
        dirty: dict[Peer, None],
        now: float,
    ) -> None:
        self.info = info
        self.have = have.copy()
        """The pieces that are stored."""
        self.hash_failures = 0
        self.down = Meter(now)
        self._picker = Picker(info.piece_count, rng)
        digests = None if info.info_hash.v2 is None else partial(block_digests, info)
        self._requests = Urgent(self._picker, info.piece_size, info.piece_length, digests=digests)
        self.giving = Giving(
            info, self.have, self._picker, rng=rng, slots=slots, super_seed=super_seed, dirty=dirty, now=now
        )
        self.web = WebTrade(info, self._picker, self._requests, self.down)
        self._dirty = dirty
        self._peers: dict[Peer, None] = {}
        self._by_source: dict[Source, Peer] = {}
        self._max_unwritten = max(MAX_UNWRITTEN_BYTES, 2 * info.piece_length)
        picker = self._picker
        if wanted is not None:
            picker.restrict(self._pieces_of(wanted))
        picker.stored(picker.set_of(have))
        self.held = Held(info, picker)
        self.held.hold()

    # --- how it stands

    @property
    def finished(self) -> bool:
        """Every wanted piece is stored."""
        return not self._picker.left

    @property
    def left_bytes(self) -> int:
        """Bytes of wanted pieces that are not stored."""
        left, info = self._picker.left, self.info
        if not left:
            return 0
        return left.bit_count() * info.piece_length - self._picker.lack(left, info.layout.short, info.piece_length)

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
        """Neither side can give the other anything any more. Of no pieces at all the metadata may still be wanted."""
        everything = self._picker.full
        has_all = everything != 0 and peer.source.has == everything
        return self.finished and (has_all or peer.connection.remote.upload_only)

    # --- peers

    def join(self, peer: Peer, now: float) -> None:
        """A peer is ready, or the exchange begins while it is there."""
        self._peers[peer] = None
        self._by_source[peer.source] = peer
        peer.source.answers_cancels = peer.connection.fast
        self.limit(peer)
        has = peer.connection.peer_has
        if has is not None:
            self._gains(peer, self._picker.set_of(has))
        self.giving.join(peer, now)
        if not peer.connection.peer_choking:
            self.unchoked(peer, now)
        self.giving.settle(peer, now)

    def leave(self, peer: Peer, now: float, *, lied: bool = False) -> None:
        """A peer is gone: what was asked of it is asked of others, and so is what it gave, where it lied."""
        if peer in self._peers:
            del self._peers[peer], self._by_source[peer.source]
            self._requests.leave(peer.source)
            if lied:
                self._requests.disown(peer.source)
            self._picker.left_with(peer.source.has)
            peer.source.has = 0
            self._employ_idle(now)
            self.giving.leave(peer, now)

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
        if self.giving.super_seed is not None:
            self.giving.super_seed.advance(now)
        self.employ(peer, now)

    def has_piece(self, peer: Peer, index: int, now: float) -> None:
        """The peer got a piece."""
        source = peer.source
        source.has = self._picker.gained(source.has, index)
        self.giving.appeared(peer, index, now)
        if not self.have[index]:
            self._show_interest(peer)
            if not source.asked:
                self.employ(peer, now)

    def lost_piece(self, peer: Peer, index: int, now: float) -> None:
        """The peer has a piece no more (BEP 54); what was asked of it there comes back as refusals."""
        source = peer.source
        source.has = self._picker.dropped(source.has, index)
        for block in self._requests.withdraw(source, index):
            self._cancel(peer, [block])
        self._show_interest(peer)
        self._employ_idle(now)

    # --- downloading

    def unchoked(self, peer: Peer, now: float) -> None:
        """The peer answers requests from now on."""
        peer.source.choked = False
        peer.source.restart()
        self._requests.join(peer.source)
        self.employ(peer, now)

    def choked(self, peer: Peer, now: float) -> None:
        """The peer does not answer requests any more; what it still sends (BEP 6) is welcome."""
        self._requests.leave(peer.source)
        peer.source.choked = True
        self._use_gifts(peer, now)
        self._employ_idle(now)

    def allowed(self, peer: Peer, index: int, now: float) -> None:
        """The peer gives this piece though it chokes us (BEP 6)."""
        if peer.source.allowed.bit_count() < MAX_ALLOWED:
            peer.source.allowed |= self._picker.bit(index)
            if peer.connection.peer_choking:
                self._use_gifts(peer, now)

    def _use_gifts(self, peer: Peer, now: float) -> None:
        source = peer.source
        if source.allowed:
            source.choked = True
            source.depth = min(source.depth, GIFT_DEPTH)
            self._requests.join(source)
            self.employ(peer, now)

    def suggested(self, peer: Peer, index: int) -> None:
        """The peer would rather give this piece: it has it at hand (BEP 6)."""
        peer.source.suggested |= self._picker.bit(index)

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
        self._send_cancels()
        self.employ(peer, now)

    def landing(self, peer: Peer, skip: int, most: int) -> Landing | None:
        """Where the blocks that the peer owes next belong; see `Ledger.landing`."""
        return self._requests.landing(peer.source, skip, most)

    def landed(self, peer: Peer, landed: m.Landed, now: float) -> None:
        """Data came to where it belongs. Raises ProtocolError as `blocks` does."""
        source = peer.source
        before = source.meter.total
        try:
            self._requests.landed(source, landed, now)
        finally:
            self.down.total += source.meter.total - before
        peer.useful = True
        self._send_cancels()
        self.employ(peer, now)

    def _send_cancels(self) -> None:
        together: dict[Source, list[BlockId]] = {}
        for source, block in self._requests.cancels():
            together.setdefault(source, []).append(block)
        for source, blocks in together.items():
            if (peer := self._by_source.get(source)) is not None:
                self._cancel(peer, blocks)

    def rejected(self, peer: Peer, index: int, begin: int, now: float) -> None:
        """The peer will not answer a request of ours (BEP 6)."""
        taker = self._by_source.get(peer.source.recalled.get(block_key(index, begin), peer.source))
        if self._requests.reject(peer.source, index, begin):
            if taker is None or taker is peer:
                self._employ_idle(now, but=peer)
            else:
                self.employ(taker, now)

    def employ(self, peer: Peer, now: float) -> None:
        """Gives a peer work, if it takes any."""
        if peer.source in self._requests and (batch := self._requests.fill(peer.source, now)):
            peer.connection.request(batch)
            self._dirty[peer] = None
            self._send_cancels()

    def _employ_idle(self, now: float, but: Peer | None = None) -> None:
        for peer in self._peers:
            if not peer.source.asked and peer is not but:
                self.employ(peer, now)

    def _cancel(self, peer: Peer, blocks: Sequence[BlockId]) -> None:
        peer.connection.cancel(blocks)
        self._dirty[peer] = None

    def piece_stored(self, index: int, ok: bool, now: float) -> list[Source]:
        """A piece of `jobs` is stored, or was wrong. Returns those who are now known to have lied about it."""
        if ok:
            return [liar for liar, _ in self.pieces_stored([index], now)]
        liars = self._requests.stored(index, False)
        for liar in liars:
            if liar.endpoint is None:
                self.web.lied(liar, index)
        self.hash_failures += 1
        self._employ_idle(now)
        return liars

    def pieces_stored(self, indices: Sequence[int], now: float) -> list[tuple[Source, int]]:
        """Pieces of `jobs` are right and stored. Returns those who are now known to have lied, and about which."""
        liars = self._requests.all_stored(indices)
        for liar, index in liars:
            if liar.endpoint is None:
                self.web.lied(liar, index)
        self.have.update(indices)
        if self.giving.super_seed is None:
            self._tell_have(indices)
        if self.finished:
            for peer in self._peers:
                self._show_interest(peer)
        else:
            self._employ_idle(now)  # those who had to prove themselves first
        return liars

    def _tell_have(self, indices: Sequence[int]) -> None:
        picker = self._picker
        news = picker.joint(indices)
        for peer in self._peers:
            # A seed needs no piece and wants to know all the same: it gives first what is rare, and pays who passes on.
            has = peer.source.has
            lacks = news if has == picker.full else news & ~has
            if lacks:
                peer.connection.haves(indices if lacks == news else picker.indices(lacks))
                self._dirty[peer] = None

    # --- trees (BEP 52)

    @property
    def lacks_hashes(self) -> bool:
        """What is left waits for its hashes, or for peers that have it."""
        return self._picker.waits

    def judgeable(self, stored: Sequence[int], now: float) -> None:
        """More piece hashes are known. `stored`: of these pieces, the ones that were found in the store."""
        for index in stored:
            self.have.set(index)
        self._picker.stored(self._picker.joint(stored))
        if stored and self.giving.super_seed is None:
            self._tell_have(stored)
        self.held.hold()
        self._wishes_changed(now)

    def suspects(self, index: int) -> Sequence[Source]:
        """Who gave data of a piece that was wrong, where it is not known who of them lied."""
        return self._requests.blame.givers(index)

    def leaves_known(self, index: int, leaves: Sequence[bytes]) -> dict[Source, int]:
        """The hashes of the blocks of such a piece. Names those who lied, and one block of each."""
        liars = self._requests.blame.leaves(index, leaves)
        for liar in liars:
            if liar.endpoint is None:
                self.web.lied(liar, index)
        return liars

    def piece_kept_out(self, index: int, now: float) -> None:
        """A piece could not be stored: it is fetched again."""
        self._requests.abandon(index)

    def piece_lost(self, index: int, now: float) -> None:
        """A piece that was stored is there no more."""
        if self.have[index]:
            self.have.clear(index)
            self._picker.lose(index)
            self.giving.withdraw(index)
            self._wishes_changed(now)

    # --- wishes

    def prefer(self, pieces: Iterable[int], priority: Priority, now: float) -> None:
        """Says how much some pieces are wanted, if at all."""
        picker = self._picker
        wanted = 0
        for index in pieces:
            wanted |= picker.bit(index)
        picker.prefer(wanted, priority)
        self._wishes_changed(now)

    def want_files(self, wanted: Sequence[bool], now: float) -> None:
        """Says anew which files are wanted."""
        self._picker.restrict(self._pieces_of(wanted))
        self._wishes_changed(now)

    def _pieces_of(self, wanted: Sequence[bool]) -> int:
        pieces = 0
        for index, flag in enumerate(wanted):
            if flag:
                pieces |= self._picker.span(self.info.layout.pieces_of(index))
        return pieces

    def read_in_order(self, sequential: bool) -> None:
        """Whether the first piece is taken, not the rarest."""
        self._picker.sequential = sequential

    def set_deadlines(self, at: Mapping[int, float | None], now: float) -> None:
        """Somebody waits for these pieces, which become wanted by that; None: nobody any more.

        All at once: what has to make way for them is taken back once, whatever their number.
        """
        picker, deadlines = self._picker, self._requests.deadlines
        needed = {index: when for index, when in at.items() if when is not None and not picker.bit(index) & picker.done}
        for index in at.keys() - needed.keys():
            deadlines.clear(index)
        if not needed:
            return
        if unwanted := picker.joint(needed) & ~picker.left:
            picker.prefer(unwanted, Priority.NORMAL)
        deadlines.set(needed, now)
        self._requests.make_way(now)
        self._send_cancels()
        self._request(self._requests.divide(now))
        self._wishes_changed(now)

    def _request(self, asks: Mapping[Source, Sequence[BlockId]]) -> None:
        for source, blocks in asks.items():
            peer = self._by_source[source]
            peer.connection.request(blocks)
            self._dirty[peer] = None

    def _wishes_changed(self, now: float) -> None:
        for peer in self._peers:
            self._show_interest(peer)
            self.employ(peer, now)

    # --- time

    def tick(self, now: float) -> list[Peer]:
        """Once a second: rates, depths, debts. Returns peers that owe blocks and never pay."""
        hopeless = []
        self.down.measure(now)
        self.web.tick(now)
        queue_s, lean = self._requests.queue_s(), self._requests.deadlines.streams
        for peer in self._peers:
            source = peer.source
            source.measure(now, queue_s, lean=lean)
            overdue = self._requests.overdue(source, now)
            if overdue is not None:
                self._cancel(peer, overdue)
                if source.timeouts >= MAX_TIMEOUTS:
                    hopeless.append(peer)
            self._show_interest(peer)
        for peer in self._peers:
            self.employ(peer, now)
        self._send_cancels()
        self.giving.tick(now, seeding=self.finished)
        return hopeless
