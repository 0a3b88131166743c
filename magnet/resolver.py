"""Many links in one session: resolves so many at a time, and hands each result on as it comes.

The law of one link lies in `magnet.torrent`; this is the queue before it. A link that fails
(or is no link at all) is a result like another; it stops nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from magnet.link import LinkError, MagnetLink
from magnet.session import Session
from magnet.verdict import DownloadError, ResolveError
from wire.errors import WireError
from wire.metainfo import Torrent

__all__ = ["DEFAULT_JOBS", "Resolution", "resolving"]

DEFAULT_JOBS = 16
"""Links resolved at once: most of the time of each is waiting; more would crowd the DHT with lookups."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of one link."""

    source: str | MagnetLink
    """As it was given."""
    torrent: Torrent | None
    """The verified metadata, or None where it failed."""
    error: WireError | None
    """Why it failed: a ResolveError with its verdict and counts, or what was wrong with the link."""
    seconds: float
    """From its start, not counting the time in the queue."""
    via: str | None
    """Where the peer that gave the metadata was found, or "cache"."""


@asynccontextmanager
async def resolving(
    session: Session, sources: Iterable[str | MagnetLink], *, jobs: int = DEFAULT_JOBS
) -> AsyncIterator[trio.MemoryReceiveChannel[Resolution]]:
    """Gives a channel of results, in the order in which they come; it ends when every source has one.

    `sources` is drawn from as places become free, so it may be as long as it likes. Leaving early stops the rest.
    """
    places = max(1, jobs)
    waiting = iter(sources)
    send, receive = trio.open_memory_channel[Resolution](places)

    async def work(out: trio.MemorySendChannel[Resolution]) -> None:
        async with out:
            for source in waiting:
                result = await resolve_one(session, source)
                try:
                    out.send_nowait(result)  # costs no turn
                except trio.WouldBlock:
                    await out.send(result)

    async with receive, trio.open_nursery() as nursery:
        async with send:
            for _ in range(places):
                nursery.start_soon(work, send.clone())
        yield receive
        nursery.cancel_scope.cancel()


async def resolve_one(session: Session, source: str | MagnetLink) -> Resolution:
    """Resolves one link and forgets it again."""
    begun = trio.current_time()
    try:
        link = _link(source)
        if link is not None and (got := await session.fetch(link)) is not None:
            return Resolution(source, got[0], None, trio.current_time() - begun, got[1])
        handle = await session.add(link or source, metadata_only=True, begun=begun)
    except WireError as error:
        return Resolution(source, None, error, trio.current_time() - begun, None)
    try:
        torrent = await handle.metadata()
        await handle.finished()  # a version 2 torrent's piece layers come after it
        return Resolution(source, torrent, None, trio.current_time() - begun, handle.metadata_via)
    except (ResolveError, DownloadError) as error:
        return Resolution(source, None, error, trio.current_time() - begun, None)
    finally:
        with trio.CancelScope(shield=True):
            await handle.remove()


def _link(source: str | MagnetLink) -> MagnetLink | None:
    """The source as a link of one torrent; None where the session must see what it is."""
    if isinstance(source, MagnetLink):
        return source
    try:
        return MagnetLink.parse(source)
    except LinkError:
        return None
