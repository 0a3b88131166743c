"""The work on one torrent, done by one task of the session, from its link to its finished files and beyond.

The connections that brought the metadata (BEP 9) go on to bring the pieces (BEP 3). Which peer is asked for
what, is decided in `wire.swarm`; where peers come from, in `magnet.sources`. How it stands is there for
`magnet.torrent` to read, which is what the user of the torrent holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from kademlia_bt.node import Node
from magnet.announcing import announcers_of
from magnet.events import Checked, Failed, Finished, MetadataReady, TorrentEvent
from magnet.link import MagnetLink
from magnet.linked import LinkedTorrent
from magnet.network import trouble_of
from magnet.nursery import open_plain_nursery
from magnet.sources import PEER, Sources
from magnet.streaming import files_that_match
from magnet.tally import counts_of
from magnet.task import CACHE, Shared, Task
from magnet.verdict import Counts, DownloadError, Phase, ResolveError, Verdict, decide, explain
from wire.compact import Endpoint
from wire.errors import DiskError, NetworkError, WireError
from wire.http_url import is_http_url
from wire.ids import InfoHash
from wire.metainfo import Info, Torrent
from wire.storage.lock import FileLock
from wire.storage.store import Store
from wire.swarm.rules import Settings, Swarm
from wire.swarm.run import SwarmRunner
from wire.tracker.announcer import Progress

__all__ = ["Work"]

_MAX_KNOWN = 10_000
"""Beyond so many peers another one does not keep a quiet torrent alive."""

UNKNOWN_LEFT_BYTES = 1 << 14
"""Told to trackers while the size is unknown: with 0 they would take us for a seed."""

LAYERS_GRACE_S = 3.0
"""How long a hybrid's piece layers may keep its metadata waiting without one coming: it is of use without them."""

_WATCH_S = 1.0
"""How often news are looked for: patience is exact to this."""


class _GaveUp(Exception):  # noqa: N818 - not an error of anybody: the decision that waiting longer is no use
    pass


class Work:
    """One torrent's state and the task that changes it; what has no underscore is for its handle to read."""

    def __init__(self, task: Task, shared: Shared) -> None:
        self._task = task
        self._shared = shared
        self.link = task.link
        self.torrent: Torrent | None = None
        self.metadata_s: float | None = None
        self.metadata_via: str | None = None
        self.wanted: Sequence[bool] | None = None
        self.size: int | None = None
        self._shared_bytes = 0
        """What there is to share, where nothing is downloaded."""
        self.phase = Phase.METADATA
        self.checked = 0.0
        self.error: ResolveError | DownloadError | None = None
        self.complete = False
        self._lacks_layers = False
        """Nothing can go on before peers have given the hashes of its pieces (BEP 52)."""
        self._kept_layers = 0
        """Of how many files the piece hashes are in the vault."""
        self.store: Store | None = None
        self._lock: FileLock | None = None
        self.began = self.news_at = trio.current_time()
        self.ended_at: float | None = None
        self._known: set[Endpoint] = set()
        """Addresses that were named once: what the swarm forgets and hears of again is no news."""
        self.scope = trio.CancelScope()
        self.events: list[TorrentEvent] = []
        self.changed = trio.Event()
        self.gone = trio.Event()
        info = task.torrent.info if task.torrent is not None else None
        config, node = shared.config, shared.node
        self._swarm = Swarm(
            task.link.info_hash,
            peer_id=shared.peer_id,
            rng=shared.rng,
            now=self.began,
            settings=Settings(
                listen_port=shared.port,
                dht=node is not None,
                pex=config.pex,
                holepunch=config.transport != "tcp",
                metadata_only=task.metadata_only,
                super_seed=task.super_seed,
                block_list=config.block_list,
            ),
            info=info,
        )
        self.runner = SwarmRunner(
            self._swarm, shared.dialler, down=shared.down, up=shared.up, departures=shared.departures
        )
        """The swarm, for the session to hand it the connections that it accepts."""
        self._sources = Sources(
            swarm_ids=task.link.info_hash.swarm_ids,
            given=(*task.link.peers, *config.peers),
            node=None if info is not None and info.private else node,
            network=shared.network,
            rng=shared.rng,
            # Who only wants the metadata is gone before anybody could ask it for a piece.
            announce_port=None if task.metadata_only else shared.port or None,
            local=shared.local,
            announcers=announcers_of(
                task,
                shared,
                task.link.info_hash.swarm_ids,
                self._progress,
                private=info is not None and info.private,
            ),
            neighbours=shared.neighbours,
            port=shared.port,
            private=info is not None and info.private,
        )
        self._linked = LinkedTorrent(task.link, self.runner, self._sources, shared.network, local=shared.local)
        if info is None or task.metadata_only:
            self._sources.announce()

    def _progress(self) -> Progress:
        """What trackers are told. Before the metadata nobody knows how much is left."""
        stats, info = self.runner.stats(), self._swarm.info
        left = UNKNOWN_LEFT_BYTES
        if info is not None:
            missing = stats.pieces_total - stats.pieces_done
            left = min(missing * info.piece_length, info.size)
        return Progress(stats.uploaded_bytes, stats.downloaded_bytes, left, self.complete)

    async def run(self) -> None:
        """Does the work until it is removed or has failed. For the session alone, once."""
        try:
            with self.scope:
                try:
                    await self._work()
                except _GaveUp:
                    self._fail(None)
                except WireError as error:
                    self._fail(error)
        finally:
            await self._close_store()
            if self.error is None and not (self.complete and self._task.metadata_only):
                self.phase = Phase.CANCELLED
            self.ended_at = trio.current_time()
            self.gone.set()
            self._tell()

    async def _close_store(self) -> None:
        try:
            await self._save_and_close()
        finally:
            if self._lock is not None:
                self._lock.release()

    async def _save_and_close(self) -> None:
        if self.store is None:
            return
        try:
            with trio.CancelScope(shield=True):  # a cancelled torrent must still save what it has
                await self.store.aclose()
        except DiskError as error:
            if self.error is None:
                self._fail(error)

    async def _work(self) -> None:
        known = self._task.torrent
        async with open_plain_nursery() as nursery:
            if known is None or not self._task.metadata_only or not known.info.layers.complete:
                nursery.start_soon(self._watch)
                nursery.start_soon(self._feed)
                nursery.start_soon(self._sources.run)
                nursery.start_soon(self._exchange)
                if known is None:
                    nursery.start_soon(self._linked.run)
                if self._shared.node is not None:
                    nursery.start_soon(self._introduce, self._shared.node)
            if known is None:
                known = self._linked.torrent_of(await self.runner.metadata())
                self._know(known, self.runner.metadata_via or PEER)
                await self._shared.vault.save(known)
            else:
                self._kept_layers = len(known.info.layers) if self._task.via == CACHE else 0
                self._know(known, self._task.via)
            if not self._task.metadata_only:
                await self._download(known)
            else:
                await self._all_layers(known)
            self.complete = True
            self._tell()

    async def _all_layers(self, torrent: Torrent) -> None:
        """Waits for what makes a .torrent of version 2 whole (BEP 52); for a hybrid's only while it comes."""
        layers = torrent.info.layers
        if torrent.info_hash_v1 is None:
            await self._layers(torrent, None)
        seen = -1
        while not layers.complete and seen != (seen := self.runner.stats().layer_hashes):
            with trio.move_on_after(LAYERS_GRACE_S):
                await self.runner.layers()
        await self._keep_layers(torrent)

    async def _layers(self, torrent: Torrent, roots: Iterable[bytes] | None) -> None:
        self._lacks_layers = True
        await self.runner.layers(roots)
        self._lacks_layers = False

    async def _keep_layers(self, torrent: Torrent) -> None:
        if (known := len(torrent.info.layers)) > self._kept_layers:
            await self._shared.vault.save(torrent)
            self._kept_layers = known

    async def _download(self, torrent: Torrent) -> None:
        info, directory = torrent.info, self._task.directory
        self.wanted = self._selected(info)
        self.size = sum(file.size for file, wanted in zip(info.files, self.wanted, strict=True) if wanted)
        if info.info_hash.v1 is None and not self._task.seed:  # of what is on disk whole, the layers follow from it
            missing = set(info.layers.missing())
            wanted = {file.pieces_root for file, flag in zip(info.files, self.wanted, strict=True) if flag}
            if roots := {root for root in wanted if root in missing and root is not None}:
                await self._layers(torrent, roots)
            await self._keep_layers(torrent)
        self.phase = Phase.CHECKING
        resume = await self._shared.vault.resume_path(info.info_hash, self._task.directory)
        if resume is not None and not self._task.seed:
            # What is remembered and the parts file have one writer at a time.
            lock = FileLock(resume.with_name(f"{resume.name}.lock"))
            lock.take(f"{info.name!r} is being downloaded to {self._task.directory} already, by another process")
            self._lock = lock
        self.store = self._shared.store_factory(
            info,
            self._task.directory,
            resume,
            None if self.size == info.content_size else self.wanted,
            self._task.seed,
        )
        shelf = self._shared.shelf
        if not self._task.seed:
            await shelf.link(torrent, self.store, directory, self.wanted)
        have = await self.store.load(self._on_checked)
        if not self._task.seed:
            have |= await shelf.fill(torrent, self.store, directory, have, self.wanted, self._on_checked)
        if self._task.seed:
            self._shared_bytes = min(self.size, sum(info.piece_size(index) for index in have.indices()))
        self.runner.begin(self.store, have, [False] * len(info.files) if self._task.seed else self.wanted)
        self.phase = Phase.DOWNLOADING
        self._sources.announce()
        self.news_at = trio.current_time()
        self._tell(Checked(self.done_bytes()))
        async with open_plain_nursery() as nursery:
            if (urls := self._web_seeds()) and not self._task.seed:
                shared = self._shared
                nursery.start_soon(partial(self.runner.use_web_seeds, urls, shared.network, local=shared.local))
            await self._finish(torrent)

    async def _finish(self, torrent: Torrent) -> None:
        await self.runner.finished()
        self.complete = True
        self.phase = Phase.SEEDING
        await self._keep_layers(torrent)
        self._sources.satisfy()
        await self._shared.shelf.keep(torrent, self._task.directory, self.runner.have)
        self._tell(Finished(trio.current_time() - self.began, self.size or 0, self.path))
        await trio.sleep_forever()

    def _web_seeds(self) -> Sequence[str]:
        """Those of the torrent and of the link that led to it (BEP 19)."""
        if not self._shared.config.web_seeds or self.torrent is None:
            return ()
        urls = dict.fromkeys((*self.torrent.web_seeds, *self._task.link.web_seeds))
        return [url for url in urls if is_http_url(url)]

    async def _exchange(self) -> None:
        await self.runner.run()
        await self.runner.finished()  # the swarm ended by itself: this says why

    async def _feed(self) -> None:
        async for found in self._sources.found:
            if len(self._known) < _MAX_KNOWN:
                self._known.add(found.endpoint)
            self.runner.found([found.endpoint], found.via, found.swarm_id)

    async def _introduce(self, node: Node) -> None:
        """Tells the DHT of nodes that the torrent or its peers name (BEP 5)."""
        for host, port in self._task.torrent.nodes if self._task.torrent is not None else ():
            with suppress(NetworkError):
                for endpoint in await self._shared.network.resolve(host, port):
                    node.add_node(endpoint)
        async for endpoint in self.runner.nodes:
            node.add_node(endpoint)

    async def _watch(self) -> None:
        """Gives up when nothing new comes any more, or when the time for the whole is over."""
        config = self._shared.config
        deadline = float("inf") if config.deadline_s is None else self.began + config.deadline_s
        patience_s = config.patience_s or float("inf")
        seen: tuple[int, ...] = ()
        while not self.complete:
            now = trio.current_time()
            for host in self._sources.own_hosts:
                self.runner.seen_as(host)
            if (news := self._news()) != seen:
                seen, self.news_at = news, now
            give_up_at = min(deadline, self.news_at + patience_s)
            if now >= give_up_at:
                raise _GaveUp
            await trio.sleep(min(_WATCH_S, give_up_at - now))

    def _news(self) -> tuple[int, ...]:
        """Changes when something new came: a peer, metadata, a byte; not when an old peer came back."""
        stats, known = self.runner.stats(), len(self._known)
        useful_bytes = stats.downloaded_bytes - stats.wasted_bytes
        return known, min(stats.connected, known), useful_bytes, stats.pieces_done, stats.layer_hashes

    def _on_checked(self, checked_bytes: int, all_bytes: int) -> None:
        self.checked = checked_bytes / all_bytes if all_bytes else 1.0
        self.news_at = trio.current_time()

    # what it knows

    def _know(self, torrent: Torrent, via: str) -> None:
        if torrent.info.private:
            self._sources.forbid_strangers()
        for swarm_id in torrent.info.info_hash.swarm_ids:  # a link may have had one name of a hybrid's two
            if swarm_id not in self._task.link.info_hash.swarm_ids:
                announcers = announcers_of(
                    self._task, self._shared, [swarm_id], self._progress, private=torrent.info.private
                )
                self._sources.join(swarm_id, announcers)
        self.torrent, self.metadata_via = torrent, via
        self.metadata_s = trio.current_time() - self.began
        self.news_at = trio.current_time()
        self.size = torrent.size
        self.link = replace(MagnetLink.of(torrent), select=self.link.select)
        self._tell(MetadataReady(torrent, self.metadata_s, via))

    def _selected(self, info: Info) -> Sequence[bool]:
        files = info.files
        if self._task.choose is not None:
            return [wanted and file.on_disk for wanted, file in zip(self._task.choose(info), files, strict=True)]
        if not self._task.only:
            linked = self.link.wanted(len(files))
            return [wanted and file.on_disk for file, wanted in zip(files, linked, strict=True)]
        return files_that_match(info, self._task.only)

    def done_bytes(self) -> int:
        """Of what is wanted, or there to share, verified."""
        if self.size is None or self.phase in (Phase.METADATA, Phase.CHECKING):
            return 0
        if self._task.seed:
            return self._shared_bytes
        return max(0, self.size - self.runner.stats().wanted_left_bytes)

    @property
    def info_hash(self) -> InfoHash:
        """Names the torrent, by both its versions once the metadata is known."""
        return self.link.info_hash if self.torrent is None else self.torrent.info.info_hash

    @property
    def path(self) -> Path:
        """The file or folder that is written; the directory of both until the metadata is known."""
        return self._task.directory if self.torrent is None else self._task.directory / self.torrent.info.name

    def counts(self) -> Counts:
        """What was tried so far and what came of it."""
        return counts_of(self.runner.stats(), self._sources, self._shared)

    # how it ends

    def _fail(self, error: WireError | None) -> None:
        counts = self.counts()
        verdict = decide(counts, self.phase, error)
        kind = ResolveError if self.torrent is None else DownloadError
        reason = None if error is None else str(error)
        if reason is None and self._lacks_layers and counts.connected:
            reason = (
                "no peer gave the hashes of the torrent's pieces, which its info dictionary has not (BEP 52): "
                f"{counts.connected} connected. Try later or with a longer --timeout, or with a .torrent that has them"
            )
        elif reason is None and (trouble := trouble_of(self._shared.network)) is not None:
            reason = f"{trouble}; {explain(verdict, counts)}"
        self.error = kind(verdict, counts, self.info_hash, reason)
        self.phase = Phase.FAILED
        self._tell(Failed(self.error))

    def why(self, kind: type[ResolveError | DownloadError]) -> ResolveError | DownloadError:
        """The error for somebody who waits; a fresh one each time, as a traceback hangs on it."""
        if self.error is None:
            return kind(Verdict.CANCELLED, self.counts(), self.info_hash)
        error = self.error
        return type(error)(error.verdict, error.counts, error.info_hash, str(error))

    def _tell(self, event: TorrentEvent | None = None) -> None:
        if event is not None:
            self.events.append(event)
        self.changed.set()
        self.changed = trio.Event()
