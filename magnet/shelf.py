"""What lies finished on this disk: a file that another torrent brought is not fetched again.

Each finished torrent leaves a record in the state folder: where it lies and its files' sizes, names and, for version
2, roots (BEP 52). A new torrent looks for files of the same root or size there, and for files of the same name in
torrents that hint at each other (BEP 38). A whole file that is not there yet is shared with its likely donor, as a
reflink or a hard link, before the store's own check judges it; what is left is copied piece by piece through the
store, which hashes each before it writes it. So a record that lies, or a file that changed meanwhile, costs a little
reading and nothing else. What a link shares is never written to: `wire.storage.pool` gives it a file of its own first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import trio

from magnet.donors import Finder
from magnet.finished import keep_record
from wire.bitfield import Bitfield
from wire.errors import DiskError, MetainfoError
from wire.metainfo import Torrent
from wire.storage.disk import DiskStore
from wire.storage.store import Progress, Store

__all__ = ["Shelf"]

_WORKERS = max(1, min(4, os.cpu_count() or 1))


class Shelf:
    """The records below a state folder; None: there are none. Processes may share it: each record is a file."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / "finished"

    @property
    def remembers(self) -> bool:
        """Whether what is kept can be found again."""
        return self._folder is not None

    async def keep(self, torrent: Torrent, directory: Path, have: Bitfield) -> None:
        """Remembers the files of a torrent that are whole. A folder that cannot be written costs the memory alone."""
        if self._folder is not None:
            await trio.to_thread.run_sync(keep_record, self._folder, torrent, directory, have)

    async def link(self, torrent: Torrent, store: Store, directory: Path, wanted: Sequence[bool]) -> None:
        """Before a store on disk is loaded: wanted files that are not there yet share the content of likely donors.

        The store's check says what of it is right. Where the disk shares nothing, nothing is done.
        """
        if self._folder is not None and isinstance(store, DiskStore):
            nothing = Bitfield(torrent.info.piece_count)
            await trio.to_thread.run_sync(Finder(torrent, directory, nothing, wanted).link, self._folder)

    async def fill(
        self,
        torrent: Torrent,
        store: Store,
        directory: Path,
        have: Bitfield,
        wanted: Sequence[bool],
        progress: Progress | None = None,
    ) -> Bitfield:
        """Puts into `store` what finished files of other torrents hold of it; the pieces that are right now.

        Raises DiskError where the store cannot write, and what `Store.put` raises for a torrent that contradicts
        itself.
        """
        got = Bitfield(torrent.info.piece_count)
        if self._folder is None or have.all:
            return got
        finder = Finder(torrent, directory, have, wanted)
        pieces = await trio.to_thread.run_sync(finder.find, self._folder)
        left, done = iter(pieces), 0

        async def work() -> None:
            nonlocal done
            for index in left:
                data = await trio.to_thread.run_sync(finder.piece, index)
                if data is not None and await store.put(index, data):
                    got.set(index)
                done += 1
                if progress is not None:
                    progress(done, len(pieces))

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(min(_WORKERS, len(pieces))):
                    nursery.start_soon(work)
        except* (DiskError, MetainfoError) as group:
            raise group.exceptions[0] from None
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(finder.close)
        return got
