"""Several torrents of one session, for a command: each from its start to its end, told apart, shown together.

`magnet get` and `magnet seed` with more than one SOURCE, and `magnet run`. One that fails is told of and does not hold
the others up. What a torrent does is `magnet.torrent`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from kademlia_bt.commands.console import ExitCode
from magnet.batch import exit_code
from magnet.reporter import Reporter
from magnet.ticking import ticking
from magnet.verdict import Counts, MagnetError, Verdict
from wire.errors import DiskError, MisuseError, WireError

if TYPE_CHECKING:
    from magnet.session import Session
    from magnet.torrent import TorrentHandle

__all__ = ["Fleet", "Job"]

DISK_PAUSE_S = 30.0
"""Before a torrent whose disk failed or was full is tried again."""


@dataclass(frozen=True, slots=True)
class Job:
    """A torrent that is to be brought to its end."""

    label: str
    """What messages call it while its name is not known."""
    add: Callable[[], Awaitable[TorrentHandle]]
    """Adds it to the session; raises what `Session.add` does. May be called again after it failed."""
    seed: bool = False
    """Only shared: what is there is checked, nothing is downloaded."""


class Fleet:
    """Torrents under way, and the count of them."""

    def __init__(
        self, session: Session, reporter: Reporter, *, jobs: int | None, share: bool, retry: bool = False
    ) -> None:
        """
        Args:
            session: Where they are added.
            reporter: Told of each step.
            jobs: Downloads at a time; the others wait for their turn. None: all at once.
            share: Whether each goes on being shared when it is whole; else it leaves the session.
            retry: Whether one that a disk stopped is tried again until there is room.
        """
        self._session, self._reporter, self._share, self._retry = session, reporter, share, retry
        self._turns = trio.CapacityLimiter(math.inf if jobs is None else jobs)
        self._nursery: trio.Nursery | None = None
        self._working: list[TorrentHandle] = []
        self.handles: list[TorrentHandle] = []
        """All that were started and have not left."""
        self._total = self._done = self._failed = 0
        self._code = ExitCode.DONE
        reporter.several = True

    @property
    def summary(self) -> str:
        """How many of how many are done."""
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._total} done{failed}"

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way any more but sharing."""
        return self._done + self._failed == self._total

    async def run(
        self,
        jobs: Sequence[Job],
        broken: Sequence[tuple[str, WireError]] = (),
        *,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> int:
        """Brings all to their end, or shares them until it is cancelled.

        `broken`: places in the input where no torrent was, and why. `meanwhile` runs beside them, and may `begin`
        others: then it is over only when it is cancelled. Returns the exit code: that of the gravest failure.
        """
        self._total = len(broken)
        for where, wrong in broken:
            self._fail(wrong, where)
        async with ticking(self._show), trio.open_nursery() as self._nursery:
            for job in jobs:
                self.begin(job)
            if meanwhile is not None:
                self._nursery.start_soon(meanwhile)
        self._reporter.note(self.summary)
        return self._code

    def begin(self, job: Job) -> None:
        """Begins with one more, while it runs."""
        assert self._nursery is not None
        self._total += 1
        self._nursery.start_soon(self._see_through, job)

    async def _see_through(self, job: Job) -> None:
        told = False
        while True:
            try:
                async with self._turns:
                    handle = await job.add()
                    self.handles.append(handle)
                    await self._bring(handle, job)
                self._failed -= told  # it was one of those that failed, and is none any more
                told = False
                if self._share:
                    self._reporter.seeding(
                        [str(endpoint) for endpoint in self._session.dialable], handle.link, handle.status()
                    )
                    try:
                        await handle.gone()
                    except WireError:
                        self._done -= 1
                        raise
                    self._done -= 1  # somebody removed it
                    self._total -= 1
                else:
                    await handle.remove()
                return
            except WireError as error:
                if isinstance(error, MagnetError) and error.verdict is Verdict.CANCELLED:
                    self._total -= 1  # somebody removed it: it is none of those who failed
                    return
                disk = self._retry and isinstance(error, MagnetError) and error.verdict is Verdict.DISK
                if not told:
                    self._fail(error, job.label)
                    if disk:
                        self._reporter.note(f"{job.label}: is tried again every {DISK_PAUSE_S:.0f} s")
                if not disk:
                    return
                told = True
            finally:
                self.handles = [one for one in self.handles if one in self._session.torrents]
            await trio.sleep(DISK_PAUSE_S)

    async def _bring(self, handle: TorrentHandle, job: Job) -> None:
        self._working.append(handle)
        try:
            self._reporter.started(handle.info_hash, handle.status().name)
            torrent = await handle.metadata()
            status = handle.status()
            self._reporter.metadata(torrent, status.metadata_s or 0.0, handle.metadata_via or "peer", status.size)
            await handle.finished()
            status = handle.status()
            if job.seed and status.done == 0 and status.size:
                await handle.remove()
                raise MisuseError(f"nothing of {torrent.name!r} is there: --data takes the folder in which it lies")
            self._done += 1
            if not job.seed:
                self._reporter.done(status, handle.path)
        finally:
            self._working.remove(handle)

    def _fail(self, error: WireError, label: str) -> None:
        self._failed += 1
        if not isinstance(error, MagnetError):
            verdict = Verdict.DISK if isinstance(error, DiskError) else Verdict.BAD_INPUT
            error = MagnetError(verdict, Counts(dht=False), None, str(error))
        self._code = max(self._code, exit_code(error))
        self._reporter.failed(error, label)

    def _show(self) -> None:
        shown = self._working or self.handles
        self._reporter.many(self.summary, [handle.status() for handle in shown])
