"""Which trackers a torrent asks: those of its .torrent, of its link and of the configuration, in which order.

How one is asked, and when again, is `wire.tracker`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from magnet.task import FILE, Shared, Task
from wire.http_url import is_http_url
from wire.tracker.announcer import Announcer, Progress
from wire.tracker.tiers import MAX_TRACKERS

__all__ = ["announcers_of"]


def announcers_of(
    task: Task, shared: Shared, swarm_ids: Iterable[bytes], progress: Callable[[], Progress], *, private: bool
) -> list[Announcer]:
    """For each name of the torrent: those of a .torrent by tiers, those of a link, which has none, each alone."""
    config = shared.config
    if shared.trackers is None:
        return []
    torrent = task.torrent
    alone = dict.fromkeys((*config.trackers, *task.link.trackers))
    groups: list[Sequence[Sequence[str]]] = []
    if torrent is not None and task.via == FILE:
        groups.append(torrent.trackers)
        alone = dict.fromkeys(config.trackers)
    elif torrent is not None:
        alone |= dict.fromkeys(url for tier in torrent.trackers for url in tier)
    groups += [((url,),) for url in list(alone)[:MAX_TRACKERS]]
    if not any(groups) and not any(is_http_url(url) for url in task.link.sources):
        return []  # and no .torrent is looked for that could name one
    return [
        Announcer(
            shared.trackers,
            groups,
            named=config.trackers,
            swarm_id=swarm_id,
            peer_id=shared.peer_id,
            port=shared.port,
            progress=progress,
            rng=shared.rng,
            private=private,
        )
        for swarm_id in swarm_ids
    ]
