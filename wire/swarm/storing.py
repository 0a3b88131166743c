"""What becomes of whole pieces: hashed and written a batch after the other, and who waits for that. A trio shell.

Slow disks are felt by the swarm (bounded unwritten bytes); one that fails is told to who waits, and tried again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import trio

from wire.bitfield import Bitfield
from wire.errors import DiskError, MetainfoError
from wire.storage.store import Store
from wire.swarm.pieces import BlockId, PieceJob
from wire.swarm.rules import Swarm

__all__ = ["Storing"]

STORES_AT_ONCE = 2
"""Batches of pieces hashed and written at once: one computes while the other waits for the disk."""
STORE_BATCH_BYTES = 4 << 20
"""Handed to the store in one go, where so much waits: small pieces are not worth a thread's hop each."""
STORE_MORE_BYTES = 1 << 20
RETRY_S = 5.0
"""After a failed write the piece is fetched and tried again so often: space returns."""


class Storing:
    """The disk's side of a running swarm. `wire.swarm.run.SwarmRunner` adds its peers and the clock."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self._store: Store | None = None
        self._nursery: trio.Nursery | None = None
        self._waiting_jobs: deque[PieceJob] = deque()
        self._stores = 0
        self._done = trio.Event()
        self._failure: DiskError | None = None
        self._contradiction: MetainfoError | None = None
        """The torrent cannot be what it says (a hybrid of two minds): nothing mends that."""
        self._failed = trio.Event()
        self.is_over = False
        """A seed that cannot be read: nothing is left to be done (see `finished`)."""
        self._stored_one = trio.Event()

    def settle(self) -> None:
        """Does what the brain decided: after each call of it that may have decided something."""
        raise NotImplementedError

    @property
    def have(self) -> Bitfield:
        """The pieces that are stored; to be read only."""
        return self.swarm.have

    async def finished(self) -> None:
        """Waits until every wanted piece is stored. Raises DiskError while the disk takes or gives nothing.

        The swarm goes on all the same, tries again every few seconds and keeps what is stored: one may wait again.
        Raises MetainfoError, and that is the end, where a hybrid torrent contradicts itself (BEP 52).
        """
        while not self.swarm.finished or self._failure is not None:
            if self._contradiction is not None:
                raise self._contradiction
            if self._failure is not None:
                raise self._failure
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_first, self._done, nursery.cancel_scope)
                nursery.start_soon(_first, self._failed, nursery.cancel_scope)
        await trio.lowlevel.checkpoint()

    async def stored(self, piece: int) -> None:
        """Waits until a piece is verified and stored. Raises DiskError while the disk takes nothing."""
        await trio.lowlevel.checkpoint()
        while not self.swarm.have[piece]:
            if self._failure is not None:
                raise self._failure
            await self._stored_one.wait()

    async def news(self, patience_s: float) -> None:
        """Waits until a piece is stored or other pieces are wanted, so long at most."""
        with trio.move_on_after(patience_s):
            await self._stored_one.wait()

    def _put_jobs(self) -> None:
        """Begins to store what became whole, if it is time for that."""
        self._waiting_jobs.extend(self.swarm.piece_jobs())
        if self._waiting_jobs and self._may_store() and self._nursery is not None:
            self._stores += 1
            self._nursery.start_soon(self._put_waiting)

    async def _put_waiting(self) -> None:
        """Stores what waits, a batch after the other, until nothing does."""
        assert self._store is not None
        try:
            while batch := self._next_batch():
                outcomes = await self._store.put_many(batch)
                changed = await self._store.lost()
                lost = set() if changed is None else set(changed.pieces)
                self._fetch_again(lost)  # before what is new is told: all may be there with that
                kept_out = []
                right = [job.index for job, outcome in zip(batch, outcomes, strict=True) if outcome is True]
                for index in lost.intersection(right):
                    self.swarm.piece_kept_out(index, trio.current_time())
                right = [index for index in right if index not in lost]
                if right:
                    self.swarm.pieces_stored(right, trio.current_time())
                for job, outcome in zip(batch, outcomes, strict=True) if len(right) < len(batch) else ():
                    if isinstance(outcome, DiskError):
                        self._fail(outcome)
                        kept_out.append(job.index)
                    elif isinstance(outcome, MetainfoError):
                        self._contradiction = outcome
                        self._failed.set()
                    elif not outcome:
                        self.swarm.piece_stored(job.index, False, trio.current_time())
                self.wake_readers()
                if kept_out:
                    self.settle()
                    await trio.sleep(RETRY_S)  # they count as unwritten meanwhile, so that little more is asked for
                    for index in kept_out:
                        self.swarm.piece_kept_out(index, trio.current_time())
                elif self._failure is not None:  # the disk takes again
                    self._failure = None
                    self._failed = trio.Event()
                self.settle()
        finally:
            self._stores -= 1

    def _may_store(self) -> bool:
        """The first at once; another where so much waits that it is worth a thread's hop of its own."""
        waiting = self._waiting_jobs
        return not self._stores or (
            self._stores < STORES_AT_ONCE and len(waiting) * len(waiting[0].data) >= STORE_MORE_BYTES
        )

    def _next_batch(self) -> list[PieceJob]:
        batch: list[PieceJob] = []
        room = STORE_BATCH_BYTES
        waiting = self._waiting_jobs
        while waiting:
            room -= len(waiting[0].data)
            if batch and room < 0:
                break
            batch.append(waiting.popleft())
        return batch

    def _fail(self, error: DiskError) -> None:
        self._failure = error
        self._failed.set()
        self.wake_readers()

    def wake_readers(self) -> None:
        """Something is stored, or will not be: who waits for a piece looks again."""
        self._stored_one.set()
        self._stored_one = trio.Event()

    async def read(self, blocks: Sequence[BlockId], views: Sequence[memoryview]) -> None:
        """Reads blocks of stored pieces, each to its view. Raises DiskError where that cannot be or they are right no
        more."""
        assert self._store is not None
        pieces = {index for index, _, _ in blocks}
        try:
            await self._store.read_into(blocks, views)
            changed = await self._store.lost()
        except DiskError as error:
            self._unreadable(error, pieces)
            raise
        if changed is not None and self.swarm.finished:
            self._unreadable(changed.error, set(changed.pieces))
        elif changed is not None:
            self._fetch_again(changed.pieces)
            self.settle()
        if not all(self.swarm.have[index] for index in pieces):
            raise DiskError("what was read is not right any more") if changed is None else changed.error

    def _fetch_again(self, pieces: Iterable[int]) -> None:
        for index in pieces:
            self.swarm.piece_lost(index, trio.current_time())

    def _unreadable(self, error: DiskError, pieces: set[int]) -> None:
        """What we said that we have cannot be read: peers are told, it is fetched again, and who waits is told why."""
        ended = self.swarm.finished  # nothing is left to be done but to serve, and that cannot be
        self._fetch_again(sorted(pieces))
        self._fail(error)
        self.is_over = self.is_over or ended
        self.settle()


async def _first(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
