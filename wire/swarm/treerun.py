"""What the trees of a version 2 torrent need of the disk (BEP 52): the shell of `leaves`, and of pieces held back.

Pieces whose hashes came after the store was opened are looked for in it first; pieces whose blocks a peer wants the
hashes of are read and hashed. Either one at a time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from wire.errors import DiskError
from wire.storage.store import Store

if TYPE_CHECKING:
    from wire.swarm.run import SwarmRunner

__all__ = ["TreeWork"]


class TreeWork:
    """The tasks of one torrent, started from `SwarmRunner.settle` when there is something to do."""

    def __init__(self, runner: SwarmRunner, store: Store) -> None:
        self._runner = runner
        self._store = store
        self._judging = False

    def start(self, nursery: trio.Nursery) -> None:
        """Begins what is due now."""
        swarm = self._runner.swarm
        if not self._judging and (pieces := swarm.newly_judgeable()):
            self._judging = True
            nursery.start_soon(self._judge, pieces)
        if (index := swarm.leaf_job(trio.current_time())) is not None:
            nursery.start_soon(self._hash, index)

    async def _judge(self, pieces: list[int]) -> None:
        found: list[int] = []
        with suppress(DiskError):  # they are fetched: if that cannot be stored, it is said then
            found = await self._store.recheck(pieces)
        self._judging = False
        self._runner.swarm.judgeable(found, trio.current_time())
        self._runner.wake_readers()
        self._runner.settle()

    async def _hash(self, index: int) -> None:
        leaves = None
        with suppress(DiskError):  # who asked is refused; an upload of it says why
            leaves = await self._store.leaves(index)
        self._runner.swarm.leaves_hashed(index, leaves)
        self._runner.settle()
