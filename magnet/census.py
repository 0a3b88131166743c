"""How many share a torrent, by those who can tell: its trackers (BEP 48, BEP 15) and the DHT (BEP 33).

Each counts by its own lights: trackers what peers told them of themselves, the DHT by estimate. None of it is verified,
and nothing is announced.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from magnet.link import MagnetLink
from magnet.task import Shared
from wire.errors import WireError
from wire.metainfo import Torrent

__all__ = ["DHT", "Count", "take_census"]

DHT = "DHT"
MAX_TRACKERS = 20
"""Of a link's; they are asked side by side."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one of them says; `reason` in place of numbers where it says nothing."""

    source: str
    """The tracker's URL, or `DHT`."""
    seeds: int | None = None
    leechers: int | None = None
    completed: int | None = None
    """Downloads that were ever completed, where it counts them."""
    reason: str | None = None


async def take_census(shared: Shared, of: Torrent | MagnetLink, within_s: float) -> list[Count]:
    """Asks all at once, by each name of a torrent that has two (BEP 52), and waits for so many seconds at most.

    The counts are in the order of the trackers, the DHT comes last; of two names the one with more to tell counts.
    """
    link = of if isinstance(of, MagnetLink) else MagnetLink.of(of)
    trackers = shared.trackers
    node = None if isinstance(of, Torrent) and of.info.private else shared.node
    urls = dict.fromkeys((*link.trackers, *shared.config.trackers)) if trackers is not None else ()
    sources = [*list(urls)[:MAX_TRACKERS], *([DHT] if node is not None else [])]
    best: dict[str, Count] = {}

    async def ask(source: str, swarm_id: bytes) -> None:
        try:
            if source == DHT:
                assert node is not None
                await node.wait_joined()
                size = await node.scrape(swarm_id)
                count = Count(source, round(size.seeds.size), round(size.downloaders.size))
            else:
                assert trackers is not None
                row = await trackers.scrape(source, swarm_id)
                count = Count(source, row.seeders, row.leechers, row.completed)
        except WireError as error:
            count = Count(source, reason=str(error))
        known = best.get(source)
        if known is None or (count.seeds or 0) + (count.leechers or 0) > (known.seeds or 0) + (known.leechers or 0):
            best[source] = count

    with trio.move_on_after(within_s):
        async with trio.open_nursery() as nursery:
            for source in sources:
                for swarm_id in link.info_hash.swarm_ids:
                    nursery.start_soon(ask, source, swarm_id)
    silent = f"it did not answer within {within_s:.0f} s"
    return [best.get(source) or Count(source, reason=silent) for source in sources]
