"""What the owner of a swarm asks of it once the metadata is known: its pieces, and which of them matter. No I/O.

Begins the exchange of pieces, takes what became of each, and passes wishes on to it. Who is connected is in `members`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from wire.bitfield import Bitfield
from wire.errors import MisuseError
from wire.swarm.exchange import Exchange
from wire.swarm.members import TICK_S, Members
from wire.swarm.peer import Peer
from wire.swarm.pieces import BlockId, PieceJob
from wire.swarm.source import Source
from wire.swarm.values import Finished, PiecesDone, Priority
from wire.swarm.webseed import WebSeed
from wire.swarm.webtrade import WebTrade

__all__ = ["Wishes"]


class Wishes(Members):
    """The owner's side of one torrent. MisuseError before `begin`, but for `piece_jobs` and `uploads`."""

    # --- pieces

    def begin(
        self,
        have: Bitfield,
        wanted: Sequence[bool] | None,
        now: float,
        *,
        priorities: Mapping[int, Priority] | None = None,
        sequential: bool = False,
    ) -> None:
        """Starts fetching and serving pieces. `wanted`: a flag for each file entry; all if None.

        `priorities` of pieces that are not wanted like others, and `sequential` hold from the first request on. Raises
        MisuseError before the metadata is known, or the second time.
        """
        if self.info is None or self._exchange is not None:
            raise MisuseError("the pieces are fetched once, and after the metadata")
        self._super_seeding = self.settings.super_seed and have.all
        exchange = self._exchange = Exchange(
            self.info,
            have,
            wanted,
            rng=self._rng,
            slots=self.settings.upload_slots,
            super_seed=self._super_seeding,
            dirty=self._dirty,
            now=now,
        )
        exchange.read_in_order(sequential)
        for priority in Priority:
            if chosen := [index for index, one in (priorities or {}).items() if one is priority]:
                exchange.prefer(chosen, priority, now)
        if self._trees.leaves is not None:
            self._trees.leaves.begin(exchange.have)
        self._prefer_layers(wanted)
        ready = [peer for peer in self._peers.values() if peer.ready]
        for peer in ready:
            for index in (
                () if self._super_seeding else have.indices()
            ):  # the bitfield, as the first message, said "none"
                if peer.connection.peer_has is None or not peer.connection.peer_has[index]:
                    peer.connection.have(index)
                    self._dirty[peer] = None
            exchange.join(peer, now)
        self._check_finished(now)

    @property
    def web(self) -> WebTrade:
        """The trade with web seeds (BEP 19). Raises MisuseError before `begin`."""
        return self._begun().web

    def add_web_seeds(self, urls: Iterable[str], now: float) -> list[WebSeed]:
        """Takes in web seeds by their URLs; those that are new and fit in. From now on `tick` measures them."""
        self._tick_at = min(self._tick_at, now + TICK_S)
        return self.web.add(urls, now)

    @property
    def _uses_web_seeds(self) -> bool:
        return self._exchange is not None and bool(self._exchange.web.seeds)

    @property
    def congested(self) -> bool:
        """Too much waits for the disk: nobody should be read from until it does not."""
        return self._exchange is not None and self._exchange.congested

    def piece_jobs(self) -> list[PieceJob]:
        """Pieces to be hashed and stored, since the last call; each is answered by `piece_stored`."""
        return [] if self._exchange is None else self._exchange.jobs()

    def piece_stored(self, index: int, ok: bool, now: float) -> None:
        """A piece was hashed, and, where that was right, stored."""
        if ok:
            self.pieces_stored([index], now)
            return
        exchange, leaves = self._begun(), self._trees.leaves
        for liar in exchange.piece_stored(index, False, now):
            self._ban_liar(liar, index, now)
        if leaves is not None and (suspects := exchange.suspects(index)):
            leaves.suspect(index, {source.endpoint for source in suspects if source.endpoint is not None}, now)

    def pieces_stored(self, indices: Sequence[int], now: float) -> None:
        """Pieces were hashed, found right, and stored."""
        for liar, index in self._begun().pieces_stored(indices, now):
            self._ban_liar(liar, index, now)
        if self._trees.leaves is not None:
            self._trees.leaves.settled(indices)
        self._events.append(PiecesDone(tuple(indices)))
        self._check_finished(now)

    def _ban_liar(self, liar: Source, index: int, now: float) -> None:
        if liar.endpoint is not None:
            self._ban(liar.endpoint, f"sent wrong data in piece {index}", now)

    # --- trees (BEP 52)

    def _prefer_layers(self, wanted: Sequence[bool] | None) -> None:
        if self.info is not None and wanted is not None and not self.info.layers.complete:
            files = zip(self.info.files, wanted, strict=True)
            self._trees.prefer({entry.pieces_root for entry, flag in files if flag and entry.pieces_root is not None})

    def newly_judgeable(self) -> list[int]:
        """Pieces held back for want of their hash, which is known now; `judgeable` ends it."""
        return [] if self._exchange is None else self._exchange.held.newly_judgeable()

    def leaves_known(self, index: int, leaves: Sequence[bytes], now: float) -> None:
        """The hashes of the blocks of a piece that was wrong came: they name who sent which."""
        for liar, block in self._begun().leaves_known(index, leaves).items():
            if liar.endpoint is not None:
                self._ban(liar.endpoint, f"sent wrong data in block {block} of piece {index}", now)

    def judgeable(self, stored: Sequence[int], now: float) -> None:
        """More piece hashes are known; `stored`: those of these pieces that the store has."""
        self._begun().judgeable(stored, now)
        self._check_finished(now)

    @property
    def lacks_hashes(self) -> bool:
        """What is wanted and not stored waits for its hashes, or for peers that have it."""
        return self._exchange is not None and self._exchange.lacks_hashes

    def leaf_job(self, now: float) -> int | None:
        """A piece whose blocks are to be hashed for a peer, answered by `leaves_hashed`."""
        leaves = self._trees.leaves
        return None if leaves is None else leaves.next_job(now)

    def leaves_hashed(self, index: int, leaves: bytes | None) -> None:
        """The hashes of the blocks of that piece, end to end; None: it cannot be read, or is not what it was."""
        if self._trees.leaves is not None:
            self._trees.leaves.hashed(index, leaves)

    def piece_kept_out(self, index: int, now: float) -> None:
        """A piece could not be stored, because of the disk: it is fetched again."""
        self._begun().piece_kept_out(index, now)

    def piece_lost(self, index: int, now: float) -> None:
        """A stored piece cannot be read any more: it is fetched again, and peers are told (BEP 54)."""
        self._begun().piece_lost(index, now)
        self._check_finished(now)

    def uploads(self, peer: Peer, most_bytes: int) -> list[BlockId]:
        """Blocks to be read for a peer, at least one where it waits for any; answered by `uploaded`."""
        return [] if self._exchange is None or peer.gone else self._exchange.giving.uploads(peer, most_bytes)

    def uploaded(self, peer: Peer, batch: Sequence[BlockId], frames: memoryview) -> None:
        """The blocks were read, and their messages (`Shipment.frames`) lie in the peer's outbox after this."""
        if not peer.gone:
            self._begun().giving.uploaded(peer, batch, frames)

    def not_uploaded(self, peer: Peer, batch: Sequence[BlockId]) -> None:
        """The blocks could not be read."""
        if not peer.gone:
            self._begun().giving.refuse(peer, batch)

    # --- wishes: any time after `begin`; MisuseError before

    @property
    def have(self) -> Bitfield:
        """The pieces that are stored; to be read only."""
        return self._begun().have

    def set_priority(self, pieces: Iterable[int], priority: Priority, now: float) -> None:
        """Says how much some pieces are wanted; `Priority.SKIP`: not at all. Raises MisuseError."""
        chosen = list(pieces)
        self._check_pieces(chosen)
        self._begun().prefer(chosen, priority, now)
        self._check_finished(now)

    def want_files(self, wanted: Sequence[bool], now: float) -> None:
        """Says anew which files are wanted: a flag for each file entry."""
        self._begun().want_files(wanted, now)
        self._prefer_layers(wanted)
        self._check_finished(now)

    def set_sequential(self, sequential: bool) -> None:
        """Whether pieces are fetched from the first to the last, not the rarest first."""
        self._begun().read_in_order(sequential)

    def set_deadlines(self, at: Mapping[int, float | None], now: float) -> None:
        """By when somebody needs each of these pieces (monotonic seconds): before all that is needed later or never.

        They become wanted. What else was asked for is taken back where one is needed within a second. None: nobody
        waits for that piece any more; if it became wanted it stays so. Those that are not named stay as they were.
        """
        self._check_pieces(at)
        self._begun().set_deadlines(at, now)
        if self.info is not None and not self.info.layers.complete:
            trees = (self.info.tree_piece(piece) for piece, when in at.items() if when is not None)
            if roots := {tree.root for tree in trees if tree is not None and tree.hash is None}:
                self._trees.prefer(roots)
        self._check_finished(now)

    def _check_pieces(self, pieces: Iterable[int]) -> None:
        count = 0 if self.info is None else self.info.piece_count
        for index in pieces:
            if not 0 <= index < count:
                raise MisuseError(f"there is no piece {index} among {count}")

    def _begun(self) -> Exchange:
        if self._exchange is None:
            raise MisuseError("no pieces are exchanged yet")
        return self._exchange

    def _check_finished(self, now: float) -> None:
        was, self.finished = self.finished, self._begun().finished
        if was == self.finished:
            return
        if was:  # more is wanted than before
            self.candidates.want_seeds = True
            return
        self.candidates.want_seeds = False
        self._events.append(Finished())
        for peer in list(self._peers.values()):
            if peer.ready:
                peer.connection.extended(self.handshake(peer.endpoint))
                self._dirty[peer] = None
                self._drop_useless(peer, now)

    def _drop_useless(self, peer: Peer, now: float) -> None:
        if self._begun().is_useless(peer):
            self.candidates.is_seed(peer.endpoint)
            self._drop(peer, "neither side needs anything of the other", now)
