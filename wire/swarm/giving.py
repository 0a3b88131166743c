"""The giving half of the trade: who is unchoked, whose requests are taken, what they are shown (BEP 3, 6, 16). No I/O.

What to get of whom is the business of `exchange`, which owns this.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

from wire.bitfield import Bitfield
from wire.errors import ProtocolError
from wire.metainfo import Info
from wire.swarm.choker import RECHOKE_S, Choker, Contender
from wire.swarm.fast_set import FAST_PIECES, allowed_fast
from wire.swarm.leechers import Leechers
from wire.swarm.meter import Meter
from wire.swarm.peer import Peer
from wire.swarm.picker import Picker
from wire.swarm.pieces import PIECE_OF, BlockId
from wire.swarm.spread import Spread, SuperSeed

__all__ = ["MAX_QUEUE", "Giving"]

MAX_QUEUE = 2000
"""Requests that a peer may have outstanding with us: told to it as `reqq` (BEP 10)."""
MAX_REFUSED = 10_000
"""Requests beyond that, or while choked, before the peer is dropped."""
UPLOAD_BATCH_BYTES = 1 << 20
"""Read from the store in one go and sent in one go."""
SUGGESTIONS = 3
"""Pieces suggested to a peer that is served from now on; then one for each that it took."""
IDLE_SLOT_S = 2.0
"""Who is unchoked and asks for nothing for so long leaves its slot to others."""
GRANT_ROUNDS = 2
"""Times that a choked peer may have all it is granted."""


class Giving:
    """What is handed out. `dirty` collects the peers whose outbox or queue was filled; `have` is the exchange's own."""

    def __init__(
        self,
        info: Info,
        have: Bitfield,
        picker: Picker,
        *,
        rng: random.Random,
        slots: int | None,
        super_seed: bool,
        dirty: dict[Peer, None],
        now: float,
    ) -> None:
        self.up = Meter(now)
        self._info = info
        self._have = have
        self._dirty = dirty
        self._peers: dict[Peer, None] = {}
        self._choker = Choker(rng, slots)
        self._slots_fixed_at_none = slots == 0
        self._slots_fixed = slots is not None
        self._rechoke_at = now + RECHOKE_S
        self._spread = Spread()
        self._picker = picker
        self._suggested = 0
        """Pieces that nobody had and that were suggested to somebody."""
        self._began_whole = have.all
        self.leechers = Leechers(picker, info.piece_length, self._peers, self.up, dirty)
        self.super_seed = SuperSeed(picker, self._show) if super_seed else None

    @property
    def slots(self) -> int:
        """Peers served at once."""
        return self._choker.slots

    @property
    def _feeds_a_crowd(self) -> bool:
        """Whether others may have to wait. Who got its copy from the swarm is not the only one that is whole."""
        return self._began_whole and self._have.all and self.super_seed is None

    def _show(self, peer: Peer, index: int) -> None:
        peer.connection.have(index)
        self._dirty[peer] = None

    # --- peers

    def join(self, peer: Peer, now: float) -> None:
        """A peer is ready."""
        self._peers[peer] = None
        if self.super_seed is not None:
            self.super_seed.join(peer, now)
        elif peer.connection.fast and not self._slots_fixed_at_none:
            self._grant(peer)

    def settle(self, peer: Peer, now: float) -> None:
        """What a peer said when it joined is taken in."""
        if self.super_seed is not None:
            self.super_seed.advance(now)
        if peer.connection.peer_interested:
            self.interested(peer, now)

    def leave(self, peer: Peer, now: float) -> None:
        """A peer is gone."""
        del self._peers[peer]
        peer.queue.clear()
        peer.waiting.clear()
        self._spread.left(peer)
        self.leechers.left(peer)
        if self.super_seed is not None:
            self.super_seed.leave(peer)
            self.super_seed.advance(now)
        self._fill_slots(now)

    def appeared(self, peer: Peer, index: int, now: float) -> None:
        """A peer got a piece, from whomever."""
        self.leechers.appeared(peer, index, now, passed_on=self._spread.appeared(peer, index))
        if self.super_seed is not None:
            self.super_seed.appeared(peer, index, now)

    def _grant(self, peer: Peer) -> None:
        """Names the pieces that a newcomer may have though it is choked, so that it has something to trade (BEP 6)."""
        pieces = [
            index
            for index in allowed_fast(peer.endpoint.host, self._info.info_hash.swarm_ids[0], self._info.piece_count)
            if self._have[index] and (peer.connection.peer_has is None or not peer.connection.peer_has[index])
        ]
        if not pieces or peer.source.has.bit_count() > len(pieces):
            return  # it has something to trade
        peer.granted = frozenset(pieces)
        peer.grant = GRANT_ROUNDS * sum(self._info.piece_size(index) for index in pieces)
        for index in pieces:
            peer.connection.allowed_fast(index)
        self._dirty[peer] = None

    # --- requests

    def requests(self, peer: Peer, blocks: Iterable[BlockId]) -> None:
        """The peer asks for blocks. Raises ProtocolError where there is none such, or it asks without end."""
        for index, run in itertools.groupby(blocks, PIECE_OF):
            some = list(run)
            if self._may_have_all(peer, index, some):
                self._take_on(peer, index, some)
                continue
            for block in some:
                self._request(peer, block)

    def _may_have_all(self, peer: Peer, index: int, blocks: Sequence[BlockId]) -> bool:
        """Whether nothing speaks against any of these blocks of a piece: nearly always, and found out once for all."""
        return (
            self._have[index]
            and not peer.connection.am_choking
            and self.super_seed is None
            and len(peer.queue) + len(peer.waiting) + len(blocks) <= MAX_QUEUE
            and min(blocks)[1] >= 0
            and max(begin + length for _, begin, length in blocks) <= self._info.piece_size(index)
        )

    def _request(self, peer: Peer, block: BlockId) -> None:
        index, begin, length = block
        if not self._info.may_be_asked(index, begin, length):
            raise ProtocolError(f"asks for bytes {begin} to {begin + length} of piece {index}")
        if not self._may_have(peer, index, length) or len(peer.queue) + len(peer.waiting) >= MAX_QUEUE:
            peer.connection.reject(index, begin, length)
            self._dirty[peer] = None
            peer.refused += 1
            if peer.refused > MAX_REFUSED:
                raise ProtocolError("asks on and on for what it was refused")
        else:
            self._take_on(peer, index, [block])

    def _take_on(self, peer: Peer, index: int, blocks: Sequence[BlockId]) -> None:
        if not all(begin for _, begin, _ in blocks):
            self._suggested |= self._picker.bit(index)
        if self._feeds_a_crowd and self.leechers.puts_off(peer, index, blocks):
            return
        peer.queue.update(dict.fromkeys(blocks))
        self._dirty[peer] = None

    def _may_have(self, peer: Peer, index: int, length: int) -> bool:
        if not self._have[index] or (self.super_seed is not None and not self.super_seed.may_ask(peer, index)):
            return False
        if not peer.connection.am_choking:
            return True
        if index not in peer.granted or peer.grant < length or peer.source.has.bit_count() > FAST_PIECES:
            return False  # the last: by now it has something to trade
        peer.grant -= length
        return True

    def cancel(self, peer: Peer, block: BlockId) -> None:
        """The peer takes a request back; with BEP 6 it wants an answer all the same."""
        if block in peer.queue or block in peer.waiting:
            peer.queue.pop(block, None)
            peer.waiting.pop(block, None)
            self.leechers.took_back(peer, block[0])
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

    def uploaded(self, peer: Peer, batch: Sequence[BlockId], frames: memoryview) -> None:
        """The blocks of `uploads` were read: their messages go to the outbox."""
        connection = peer.connection
        if connection.am_choking and not connection.fast:
            return  # it does not wait for them any more
        connection.pieces(frames)
        total = 0
        for index, run in itertools.groupby(batch, PIECE_OF):
            size = self._info.piece_size(index)
            for _, begin, length in run:
                total += length
                if begin + length >= size:
                    self.leechers.gave(peer, index)
                    self._spread.gave(peer, index)
                    self._suggest(peer, 1)
        peer.useful = True
        peer.up.total += total
        self.up.total += total

    def refuse(self, peer: Peer, batch: Sequence[BlockId]) -> None:
        """The blocks of `uploads` could not be read."""
        for block in batch:
            peer.connection.reject(*block)
        self._dirty[peer] = None

    def withdraw(self, index: int) -> None:
        """A piece of ours is there no more: requests are refused, and who understands it is told (BEP 54)."""
        self.leechers.disperse()
        for peer in self._peers:
            gone = [block for block in (*peer.queue, *peer.waiting) if block[0] == index]
            for block in gone:
                peer.queue.pop(block, None)
                peer.waiting.pop(block, None)
            self.refuse(peer, gone)
            peer.connection.dont_have(index)

    # --- whom to serve

    def interested(self, peer: Peer, now: float) -> None:
        """The peer wants pieces of ours: served at once where a slot is free."""
        if self._feeds_a_crowd:
            self.leechers.gather(now)
        self._fill_slots(now)

    def not_interested(self, peer: Peer, now: float) -> None:
        """The peer wants none: its slot is for others."""
        self._choke(peer, now)
        self._fill_slots(now)

    def _fill_slots(self, now: float) -> None:
        served = sum(self._holds_slot(peer, now) for peer in self._peers)
        waiting = (p for p in self._peers if p.unchoked_at is None and p.connection.peer_interested)
        for peer in list(itertools.islice(waiting, self._choker.free(served))):
            self._unchoke(peer, now)

    def _holds_slot(self, peer: Peer, now: float) -> bool:
        """Whether a slot is taken: where their number is ours to find, who asks for nothing gives way to others."""
        if peer.unchoked_at is None:
            return False
        return self._slots_fixed or bool(peer.queue) or peer.up.latest > 0.0 or now - peer.unchoked_at < IDLE_SLOT_S

    def _unchoke(self, peer: Peer, now: float) -> None:
        if peer.unchoked_at is None:
            peer.unchoked_at = now
            peer.refused = 0
            self._suggest(peer, SUGGESTIONS)  # before it asks
            peer.connection.unchoke()
            self._dirty[peer] = None

    def _suggest(self, peer: Peer, count: int) -> None:
        """Sends each peer after other pieces that nobody has yet (BEP 6): the sooner all are out, the less we give."""
        picker = self._picker
        if self.super_seed is not None or not self._have.all or not peer.connection.fast:
            return
        rare = picker.full & ~picker.with_anybody
        for _ in range(count):
            among = rare & ~self._suggested & ~peer.source.has
            if not among:
                return
            index = picker.some(among)
            self._suggested |= picker.bit(index)
            peer.connection.suggest(index)

    def _choke(self, peer: Peer, now: float) -> None:
        if peer.unchoked_at is None:
            return
        peer.unchoked_at = None
        peer.choked_at = now
        peer.connection.choke()
        for block in (*peer.queue, *peer.waiting):
            peer.connection.reject(*block)
        peer.queue.clear()
        peer.waiting.clear()
        self.leechers.choked(peer)
        self._dirty[peer] = None

    def _rechoke(self, now: float, *, seeding: bool) -> None:
        contenders = [
            Contender(
                peer.key,
                peer.gave.mark(peer.source.meter.total, now),
                peer.up.rate,
                peer.unchoked_at,
                peer.choked_at,
                peer.joined_at,
                peer.source.snubbed,
                peer.spread,
            )
            for peer in self._peers
            if peer.connection.peer_interested
        ]
        chosen = self._choker.choose(contenders, now, seeding=seeding)
        self._spread.fade(self._peers)
        for peer in self._peers:
            if peer.key not in chosen:
                self._choke(peer, now)
        for peer in self._peers:
            if peer.key in chosen:
                self._unchoke(peer, now)

    # --- time

    def tick(self, now: float, *, seeding: bool) -> None:
        """Once a second: rates, and every 10 s the slots."""
        self.up.measure(now)
        for peer in self._peers:
            peer.up.measure(now)
        if self.super_seed is not None:
            self.super_seed.advance(now)
        if self._feeds_a_crowd:
            self.leechers.tick(now)
        if now >= self._rechoke_at:
            self._rechoke_at = now + RECHOKE_S
            self._rechoke(now, seeding=seeding)
        elif not self._slots_fixed:
            self._fill_slots(now)
