"""One torrent as its user holds it: the handle, and what it tells.

The work is done by one task of the session (`magnet.work`); a handle waits for it, asks it and ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from magnet.events import TorrentEvent
from magnet.link import MagnetLink
from magnet.network import trouble_of
from magnet.nursery import open_plain_nursery
from magnet.status import TorrentStatus
from magnet.streaming import Streams
from magnet.task import Shared, Task
from magnet.verdict import DownloadError, Phase, ResolveError
from magnet.work import Work
from wire.errors import MisuseError
from wire.ids import InfoHash
from wire.metainfo import Torrent
from wire.swarm.run import SwarmRunner
from wire.swarm.values import Priority

if TYPE_CHECKING:
    from magnet.errands import Errands

__all__ = ["EventStream", "TorrentHandle"]


class EventStream:
    """An async iterator of the events of a torrent. It may be left at any time."""

    def __init__(self, handle: TorrentHandle) -> None:
        self._handle = handle
        self._told = 0

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> TorrentEvent:
        await trio.lowlevel.checkpoint()
        event = await self._handle.event(self._told)
        if event is None:
            raise StopAsyncIteration
        self._told += 1
        return event


class _Pieces:
    """A `PieceSource`: the pieces of a torrent for as long as it is in the session."""

    def __init__(self, handle: TorrentHandle, gone: trio.Event) -> None:
        self._handle, self._runner, self._gone = handle, handle.runner, gone

    def has(self, piece: int) -> bool:
        return self._runner.have[piece]

    def need(self, at: Mapping[int, float | None]) -> None:
        if not self._gone.is_set():
            self._runner.set_deadlines(at)

    async def wait(self, piece: int) -> None:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(self._until_gone)
            await self._runner.stored(piece)

    async def read(self, piece: int, begin: int, length: int) -> bytes:
        if self._gone.is_set():
            raise self._handle.failure()
        data = bytearray(length)
        await self._runner.read([(piece, begin, length)], [memoryview(data)])
        return bytes(data)

    async def _until_gone(self) -> None:
        await self._gone.wait()
        raise self._handle.failure()


class TorrentHandle:
    """A torrent in a session. Made by `Session.add`; all its methods are for trio tasks of the same run."""

    def __init__(self, task: Task, shared: Shared, errands: Errands | None = None) -> None:
        """`errands`: see `magnet.work.Work`."""
        self._network = shared.network
        self._work = Work(task, shared, errands)

    @property
    def runner(self) -> SwarmRunner:
        """The swarm, for the session to hand it the connections that it accepts."""
        return self._work.runner

    @property
    def info_hash(self) -> InfoHash:
        """Names the torrent; a link's hash gains its other version once the metadata is known."""
        return self._work.info_hash

    @property
    def link(self) -> MagnetLink:
        """The link that leads here: the given one, or one made of the metadata (BEP 9)."""
        return self._work.link

    @property
    def path(self) -> Path:
        """The file or folder that is written, below the directory given to `add`.

        It is that directory itself until the metadata is known.
        """
        return self._work.path

    @property
    def metadata_via(self) -> str | None:
        """Where the peer that gave the metadata was found ("dht", "peer", ...), or "cache" or "file"; None before."""
        return self._work.metadata_via

    async def metadata(self) -> Torrent:
        """Waits for the verified metadata. Raises ResolveError."""
        if self._work.torrent is not None:
            await trio.lowlevel.checkpoint()
            return self._work.torrent
        while self._work.torrent is None:
            if self._work.gone.is_set():
                raise self._work.why(ResolveError)
            await self._work.changed.wait()
        return self._work.torrent

    async def finished(self) -> None:
        """Waits until all that is wanted is verified and on disk; the torrent goes on seeding until removed.

        With `metadata_only`: until the metadata is there. With `seed`: until what is there is checked.
        Raises ResolveError where the metadata never came, DownloadError for what failed later.
        """
        await self.metadata()
        while not self._work.complete:
            if self._work.gone.is_set():
                raise self._work.why(DownloadError)
            await self._work.changed.wait()

    async def gone(self) -> None:
        """Waits until it has left the session, by `remove` or with it; raises what it failed of."""
        await self._work.gone.wait()
        if self._work.error is not None:
            raise self._work.why(DownloadError)

    def status(self) -> TorrentStatus:
        """A snapshot of now."""
        now = trio.current_time() if self._work.ended_at is None else self._work.ended_at
        stats = self.runner.stats()
        info = None if self._work.torrent is None else self._work.torrent.info
        return TorrentStatus(
            info_hash=self.info_hash,
            phase=self._work.phase,
            elapsed_s=now - self._work.began,
            name=self._work.link.name if info is None else info.name,
            size=self._work.size,
            done=self._work.done_bytes(),
            files=None if info is None else sum(file.on_disk for file in info.files),
            pieces_done=stats.pieces_done,
            pieces_total=stats.pieces_total,
            checked=self._work.checked,
            down_rate=stats.down_rate,
            up_rate=stats.up_rate,
            downloaded=stats.downloaded_bytes,
            uploaded=stats.uploaded_bytes,
            wasted=stats.wasted_bytes,
            peers=stats.peers,
            seeds=stats.seeds,
            web_seeds=sum(seed.reason is None for seed in stats.web_seeds),
            trouble=trouble_of(self._network),
            metadata_s=self._work.metadata_s,
            metadata_source=self._work.metadata_via,
            quiet_s=now - self._work.news_at,
            counts=self._work.counts(),
            verdict=None if self._work.error is None else self._work.error.verdict,
            reason=None if self._work.error is None else str(self._work.error),
        )

    def events(self) -> EventStream:
        """What happens, from the beginning, each event once for each caller; ends when the torrent has ended."""
        return EventStream(self)

    async def event(self, index: int) -> TorrentEvent | None:
        """Waits for the event of that number, from 0; None where the torrent ended before it."""
        while index >= len(self._work.events):
            if self._work.gone.is_set():
                return None
            await self._work.changed.wait()
        return self._work.events[index]

    async def streams(self) -> Streams:
        """Waits until its pieces can be had and gives its wanted files for reading while they are fetched.

        Raises ResolveError where the metadata never came, DownloadError for what failed later.
        """
        await self.metadata()
        while self._work.store is None or self._work.phase is Phase.CHECKING:
            if self._work.gone.is_set():
                raise self._work.why(DownloadError)
            await self._work.changed.wait()
        assert self._work.wanted is not None
        await trio.lowlevel.checkpoint()
        return Streams(self._work.store.info, self._work.wanted, _Pieces(self, self._work.gone))

    @property
    def limits(self) -> tuple[int, int]:
        """This torrent's own limits, down and up, in bytes a second; 0: none."""
        return self.runner.limits

    def set_limits(self, *, down_limit: int | None = None, up_limit: int | None = None) -> None:
        """Limits this torrent in bytes a second, from now on; 0: no limit, None: as before.

        The session's limits (`Config.down_limit`, `up_limit`) hold besides. Raises MisuseError for a negative number.
        """
        for name, value in (("down_limit", down_limit), ("up_limit", up_limit)):
            if value is not None and value < 0:
                raise MisuseError(f"{name} is {value}; it is 0 (no limit) or more bytes a second")
        self.runner.set_limits(down_bytes_s=down_limit, up_bytes_s=up_limit)

    def set_priority(self, patterns: Sequence[str], priority: Priority) -> None:
        """Says how much the wanted files that match are wanted, from now on; also before the metadata is known.

        `patterns`: as `only` of `Session.add`. Of a piece that two files share the higher priority counts. Raises
        MisuseError for `Priority.SKIP`, and where no file matches (before the metadata, the torrent fails of it).
        """
        self._work.order.prefer(patterns, priority)

    def set_in_order(self, in_order: bool) -> None:
        """Whether pieces are fetched from the first to the last, not the rarest first; any time."""
        self._work.order.read_in_order(in_order)

    def failure(self) -> ResolveError | DownloadError:
        """Why it ended, for who waited; it has ended."""
        return self._work.why(DownloadError)

    async def remove(self) -> None:
        """Stops it: connections closed, resume data saved; files stay. Returns when nothing of it is left running."""
        self._work.scope.cancel()
        await self._work.gone.wait()

    async def run(self) -> None:
        """Does the work until it is removed or has failed. For the session alone, once."""
        await self._work.run()
