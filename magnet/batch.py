"""`magnet resolve`: many links through one session, a .torrent written for each as it comes.

How many at a time and in which order is `magnet.resolver`'s business; here stands what is told and written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from kademlia_bt.commands.console import ExitCode
from magnet.files import write_atomically
from magnet.link import MagnetLink
from magnet.reporter import Reporter
from magnet.ticking import ticking
from magnet.verdict import Counts, MagnetError, ResolveError, Verdict
from wire.errors import WireError
from wire.metainfo import Torrent

if TYPE_CHECKING:
    from magnet.resolver import Resolution
    from magnet.session import Session

__all__ = ["Batch", "exit_code"]

_EXITS = {Verdict.DISK: ExitCode.DISK, Verdict.BAD_INPUT: ExitCode.BAD_INPUT, Verdict.CANCELLED: ExitCode.INTERRUPTED}


def exit_code(error: MagnetError) -> ExitCode:
    """What a torrent that did not come means for the shell."""
    return _EXITS.get(error.verdict, ExitCode.NOT_FOUND)


class Batch:
    """Links on their way to files, and the count of them."""

    def __init__(self, session: Session, reporter: Reporter, folder: Path, jobs: int) -> None:
        self._session = session
        self._reporter = reporter
        self._folder = folder
        self._jobs = jobs
        self._total = self._resolved = self._failed = 0
        self._code = ExitCode.DONE

    async def run(self, items: Iterable[MagnetLink | Torrent], broken: Sequence[tuple[str, WireError]]) -> int:
        """Resolves all of `items`; `broken` are places in the input where no link was, and why.

        Returns the exit code: that of the gravest failure.
        """
        from magnet.resolver import resolving

        items = list(items)
        self._total = len(items) + len(broken)
        for where, wrong in broken:
            bad_input = MagnetError(Verdict.BAD_INPUT, Counts(dht=False), None, str(wrong))
            self._fail(wrong if isinstance(wrong, MagnetError) else bad_input, where)
        links = []
        for item in items:
            if isinstance(item, MagnetLink):
                links.append(item)
            else:
                await self._write(item, 0.0, "file")
        if links:
            starting = self._started(links)
            async with ticking(self._show), resolving(self._session, starting, jobs=self._jobs) as results:
                async for result in results:
                    await self._take(result)
        if self._total > 1:
            self._reporter.note(f"{self._resolved} of {self._total} resolved, {self._failed} failed")
        return self._code

    def _started(self, links: Iterable[MagnetLink]) -> Iterator[MagnetLink]:
        """The links, told of as they are drawn from the queue."""
        for link in links:
            self._reporter.started(link.info_hash, link.name)
            yield link

    async def _take(self, result: Resolution) -> None:
        link = result.source
        assert isinstance(link, MagnetLink)
        if result.torrent is not None:
            await self._write(result.torrent, result.seconds, result.via or "peer")
            return
        error = result.error
        if not isinstance(error, MagnetError):
            error = ResolveError(Verdict.BAD_INPUT, Counts(), link.info_hash, str(error))
        self._fail(error, (link.name or str(link.info_hash)) if self._total > 1 else None)

    async def _write(self, torrent: Torrent, seconds: float, via: str) -> None:
        path = self._folder / f"{torrent.info.info_hash}.torrent"
        await trio.to_thread.run_sync(write_atomically, path, torrent.to_bytes())
        self._resolved += 1
        self._reporter.resolved(torrent, seconds, via, path)

    def _fail(self, error: MagnetError, subject: str | None) -> None:
        self._failed += 1
        self._code = max(self._code, exit_code(error))
        self._reporter.failed(error, subject)

    def _show(self) -> None:
        working = [handle.status() for handle in self._session.torrents]
        if self._total == 1 and working:
            self._reporter.progress(working[0])
        else:
            self._reporter.batch(self._resolved, self._failed, self._total, working)
