"""What a torrent in a session is made of: its swarm, its sources, the wanted files; by its task and what is shared.

What a link does not have is not made: no announcer where no tracker is named, none of the sources that are off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from magnet.announcing import announcers_of
from magnet.link import MagnetLink
from magnet.sources import Sources
from magnet.streaming import files_that_match
from magnet.task import Shared, Task
from wire.compact import Endpoint
from wire.errors import MisuseError
from wire.metainfo import Info
from wire.storage.store import Store
from wire.swarm.rules import Settings, Swarm
from wire.swarm.run import SwarmRunner
from wire.tracker.announcer import Progress

__all__ = ["disk_store", "runner_of", "sources_of", "split_given", "wanted_files"]


def runner_of(task: Task, shared: Shared, now: float) -> SwarmRunner:
    """Its swarm, which knows what is known."""
    config = shared.config
    settings = Settings(
        listen_port=shared.port,
        dht=shared.node is not None,
        pex=config.pex,
        holepunch=config.transport != "tcp",
        metadata_only=task.metadata_only,
        super_seed=task.super_seed,
        block_list=config.block_list,
    )
    swarm = Swarm(
        task.link.info_hash,
        peer_id=shared.peer_id,
        rng=shared.rng,
        now=now,
        settings=settings,
        info=None if task.torrent is None else task.torrent.info,
        crowd=shared.crowd,
    )
    return SwarmRunner(swarm, shared.dialler, down=shared.down, up=shared.up, departures=shared.departures)


def sources_of(
    task: Task, shared: Shared, names: Iterable[tuple[str, int]], progress: Callable[[], Progress]
) -> Sources:
    """Where its peers come from; `names`: the hosts that a person named, and that must be looked up."""
    private = task.torrent is not None and task.torrent.info.private
    swarm_ids = task.link.info_hash.swarm_ids
    return Sources(
        swarm_ids=swarm_ids,
        given=names,
        node=None if private else shared.node,
        network=shared.network,
        rng=shared.rng,
        # Who only wants the metadata is gone before anybody could ask it for a piece.
        announce_port=None if task.metadata_only else shared.port or None,
        local=shared.local,
        announcers=announcers_of(task, shared, swarm_ids, progress, private=private),
        neighbours=shared.neighbours,
        port=shared.port,
        private=private,
    )


def split_given(link: MagnetLink, shared: Shared) -> tuple[list[Endpoint], list[tuple[str, int]]]:
    """The peers that a person named: addresses, each once, and hosts that must be looked up."""
    endpoints: dict[Endpoint, None] = {}
    names: list[tuple[str, int]] = []
    for host, port in (*link.peers, *shared.config.peers):
        try:
            endpoints[Endpoint.of(host, port)] = None
        except MisuseError:
            names.append((host, port))
    return list(endpoints), names


def wanted_files(task: Task, link: MagnetLink, info: Info) -> Sequence[bool]:
    """A flag for each file: by the task's own choice, else its patterns, else what the link selects (BEP 53)."""
    files = info.files
    if task.choose is not None:
        return [wanted and file.on_disk for wanted, file in zip(task.choose(info), files, strict=True)]
    if not task.only:
        return [wanted and file.on_disk for file, wanted in zip(files, link.wanted(len(files)), strict=True)]
    return files_that_match(info, task.only)


def disk_store(
    preallocate: bool, info: Info, directory: Path, resume: Path | None, wanted: Sequence[bool] | None, read_only: bool
) -> Store:
    """The files of a torrent on the disk (`StoreFactory`, but for the first word)."""
    from wire.storage.disk import DiskStore  # not needed to resolve

    return DiskStore(info, directory, resume=resume, wanted=wanted, read_only=read_only, preallocate=preallocate)
