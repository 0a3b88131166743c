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
from typing import TYPE_CHECKING

import trio

from kademlia_bt.node import Node
from magnet.announcing import announcers_of
from magnet.events import Checked, Failed, Finished, MetadataReady, TorrentEvent
from magnet.finished import MIN_FILE_BYTES
from magnet.link import MagnetLink
from magnet.linked import LinkedTorrent
from magnet.network import trouble_of
from magnet.nursery import open_plain_nursery
from magnet.order import Order
from magnet.parts import runner_of, sources_of, split_given, wanted_files
from magnet.patience import Patience
from magnet.sources import PEER, URL, Found
from magnet.tally import counts_of
from magnet.task import CACHE, Shared, Task
from magnet.twins import Claim
from magnet.verdict import Counts, DownloadError, Phase, ResolveError, Verdict, decide, explain
from wire.errors import DiskError, NetworkError, WireError
from wire.http_url import is_http_url
from wire.ids import InfoHash
from wire.metainfo import Info, Torrent
from wire.storage.lock import FileLock
from wire.storage.store import Store
from wire.swarm.run import SwarmRunner
from wire.tracker.announcer import Progress

if TYPE_CHECKING:
    from magnet.errands import Errands
    from magnet.scouts import Scouts

__all__ = ["Work"]

UNKNOWN_LEFT_BYTES = 1 << 14
"""Told to trackers while the size is unknown: with 0 they would take us for a seed."""

LAYERS_GRACE_S = 3.0
"""How long a hybrid's piece layers may keep its metadata waiting without one coming: it is of use without them."""

HEAD_START_S = 0.005
"""While the first peers are asked for the metadata, and nothing else is wanted, nothing else begins: where one is near,
that is all the time that it takes, and all else would have been for nothing."""


class _GaveUp(Exception):  # noqa: N818 - not an error of anybody: the decision that waiting longer is no use
    pass


class Work:
    """One torrent's state and the task that changes it; what has no underscore is for its handle to read."""

    def __init__(self, task: Task, shared: Shared, errands: Errands | None) -> None:
        """`errands`: what asks the first peers for the metadata, where nothing else is wanted; None: the swarm does."""
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
        self._claim: Claim | None = None
        self._kept_layers = 0
        """Of how many files the piece hashes are in the vault."""
        self.store: Store | None = None
        self._lock: FileLock | None = None
        now = trio.current_time()
        self.began = now if task.begun is None else task.begun
        self._named, names = split_given(task.link, shared)
        self._sources = sources_of(task, shared, names, self._progress)
        if task.torrent is not None:
            errands = None
        else:
            self._sources.begin(ready=errands is not None)
        self._patience = Patience(shared.config, self.began)
        self.ended_at: float | None = None
        self.scope = trio.CancelScope()
        self.events: list[TorrentEvent] = []
        self.changed = trio.Event()
        self.gone = trio.Event()
        self.order = Order(task.first, in_order=task.in_order)
        self._runner: SwarmRunner | None = None
        self._linked = LinkedTorrent(task.link, self._take, self._sources, shared.network, local=shared.local)
        self._scouts: Scouts | None = None
        """None where the swarm is to know all who are found."""
        if errands is not None:
            from magnet.scouts import Scouts  # not needed by those who want files

            self._scouts = Scouts(errands, task.link.info_hash, self._hand_on, self._given)
        if task.torrent is None or task.metadata_only:
            self._sources.announce()
        self._sources.attend(self._found)

    @property
    def runner(self) -> SwarmRunner:
        """The swarm, for the session to hand it the connections that it accepts; made when it is first wanted."""
        if self._runner is None:
            now = trio.current_time() if self.ended_at is None else self.ended_at
            task = self._task if self.torrent is None else replace(self._task, torrent=self.torrent)
            self._runner = runner_of(task, self._shared, now)
        return self._runner

    def _progress(self) -> Progress:
        """What trackers are told. Before the metadata nobody knows how much is left."""
        stats, info = self.runner.stats(), self.runner.swarm.info
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
            self._sources.close()
            if self._runner is not None:
                self._runner.close()
            self._release_twins()
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
        async with open_plain_nursery() as nursery:
            try:
                await self._begin(nursery)
            finally:
                if self._scouts is not None:  # who fails them is dialled as a task of a nursery that still takes some
                    self._scouts.close()
            self.complete = True
            self._tell()
            await trio.lowlevel.checkpoint()  # who waits for it goes before those who are cancelled now

    async def _begin(self, nursery: trio.Nursery) -> None:
        task, known = self._task, self._task.torrent
        if known is not None and task.metadata_only and known.info.layers.complete:
            self._know(known, task.via)
            return
        if self._scouts is not None:
            with trio.move_on_after(HEAD_START_S):
                await self.changed.wait()
        if self.torrent is None:
            self.runner.open(nursery)
            self._ask_sources(nursery)
        if known is None:
            await self._go_on(nursery, self.torrent or await self._resolved())
        else:
            self._kept_layers = len(known.info.layers) if task.via == CACHE else 0
            await self._go_on(nursery, known)

    async def _go_on(self, nursery: trio.Nursery, torrent: Torrent) -> None:
        """From the metadata to the end. What only a download needs begins here."""
        only_metadata = self._task.metadata_only and torrent.info.layers.complete
        if not only_metadata:
            nursery.start_soon(self._keep_time)
        if self.torrent is None:
            known = self._task.torrent is not None
            self._know(torrent, self._task.via if known else self.runner.metadata_via or PEER)
        if self._task.torrent is None:
            await self._shared.vault.save(torrent)
        if not self._task.metadata_only:
            await self._download(torrent)
        elif not only_metadata:
            await self._all_layers(torrent)

    async def _all_layers(self, torrent: Torrent) -> None:
        """Waits for what makes a .torrent of version 2 whole (BEP 52); for a hybrid's only while it comes."""
        layers = torrent.info.layers
        if torrent.info_hash_v1 is None:
            self._lacks_layers = True
            await self.runner.layers()
            self._lacks_layers = False
        seen = -1
        while not layers.complete and seen != (seen := self.runner.stats().layer_hashes):
            with trio.move_on_after(LAYERS_GRACE_S):
                await self.runner.layers()
        await self._keep_layers(torrent)

    async def _remember_layers(self, torrent: Torrent, wanted: Sequence[bool]) -> None:
        """Keeps the layers of all that is wanted once they are there, so that the next run needs no peer for them."""
        roots = {file.pieces_root for file, flag in zip(torrent.info.files, wanted, strict=True) if flag}
        await self.runner.layers(root for root in torrent.info.layers.missing() if root in roots)
        await self._keep_layers(torrent)

    async def _keep_layers(self, torrent: Torrent) -> None:
        if (known := len(torrent.info.layers)) > self._kept_layers:
            self._kept_layers = known
            await self._shared.vault.save(torrent)

    async def _download(self, torrent: Torrent) -> None:
        info, directory = torrent.info, self._task.directory
        self.wanted = wanted_files(self._task, self.link, info)
        self.size = sum(file.size for file, wanted in zip(info.files, self.wanted, strict=True) if wanted)
        self.phase = Phase.CHECKING
        resume = await self._shared.vault.resume_path(info.info_hash, directory)
        if resume is not None and not self._task.seed:
            # What is remembered and the parts file have one writer at a time.
            lock = FileLock(resume.with_name(f"{resume.name}.lock"))
            lock.take(f"{info.name!r} is being downloaded to {directory} already, by another process")
            self._lock = lock
        if not self._task.seed:
            await self._wait_for_twins(info, self.wanted)
        written = None if self.size == info.content_size else self.wanted
        self.store = self._shared.store_factory(info, directory, resume, written, self._task.seed)
        shelf = self._shared.shelf
        if not self._task.seed:
            await shelf.link(torrent, self.store, directory, self.wanted)
        have = await self.store.load(self._on_checked)
        if not self._task.seed:
            have |= await shelf.fill(torrent, self.store, directory, have, self.wanted, self._on_checked)
        if self._task.seed:
            self._shared_bytes = min(self.size, sum(info.piece_size(index) for index in have.indices()))
        wanted = [False] * len(info.files) if self._task.seed else self.wanted
        self.order.begin(self.runner, self.store, have, wanted)
        self.phase = Phase.DOWNLOADING
        self._sources.announce()
        self._patience.news_at = trio.current_time()
        self._tell(Checked(self.done_bytes()))
        async with open_plain_nursery() as nursery:
            if (urls := self._web_seeds()) and not self._task.seed:
                shared = self._shared
                nursery.start_soon(partial(self.runner.use_web_seeds, urls, shared.network, local=shared.local))
            if not self._task.seed and not torrent.info.layers.complete:
                nursery.start_soon(self._remember_layers, torrent, self.wanted)
            await self._finish(torrent)

    async def _wait_for_twins(self, info: Info, wanted: Sequence[bool]) -> None:
        """What another torrent of the session fetches just now is not fetched twice, if it can be found afterwards."""
        if self._shared.shelf.remembers:
            files = zip(info.files, wanted, strict=True)
            roots = [file.pieces_root for file, flag in files if flag and file.size >= MIN_FILE_BYTES]
            self._claim, earlier = self._shared.twins.claim(filter(None, roots), self.done_bytes)
            await self._shared.twins.wait_for(earlier, self._is_patient)

    def _is_patient(self) -> None:
        self._patience.news_at = trio.current_time()

    def _release_twins(self) -> None:
        if self._claim is not None:
            self._shared.twins.release(self._claim)

    async def _finish(self, torrent: Torrent) -> None:
        await self.runner.finished()
        self.complete = True
        self.phase = Phase.SEEDING
        await self._keep_layers(torrent)
        self._sources.satisfy()
        await self._shared.shelf.keep(torrent, self._task.directory, self.runner.have)
        self._release_twins()
        self._tell(Finished(trio.current_time() - self.began, self.size or 0, self.path))
        await trio.sleep_forever()

    def _web_seeds(self) -> Sequence[str]:
        """Those of the torrent and of the link that led to it (BEP 19)."""
        if not self._shared.config.web_seeds or self.torrent is None:
            return ()
        urls = dict.fromkeys((*self.torrent.web_seeds, *self._task.link.web_seeds))
        return [url for url in urls if is_http_url(url)]

    # where peers come from, and time

    def _ask_sources(self, nursery: trio.Nursery) -> None:
        """Begins to look for peers: a task for each source that needs one, and none for one that is not there."""
        for endpoint in self._named:
            self._found(Found(endpoint, PEER))
        if not self._sources.is_empty:
            nursery.start_soon(self._sources.run)
        if self._task.torrent is None:
            if self._linked.urls:
                nursery.start_soon(self._linked.run)
        elif self._task.torrent.nodes and self._shared.node is not None:
            nursery.start_soon(self._introduce, self._shared.node, self._task.torrent.nodes)

    def _found(self, found: Found) -> None:
        self._patience.named(found.endpoint)
        if self._scouts is None:
            self._hand_on(found)
        else:
            self._scouts.take(found)

    def _hand_on(self, found: Found) -> None:
        self.runner.found([found.endpoint], found.via, found.swarm_id)

    def _given(self, info: Info, found: Found) -> None:
        """A scout has the metadata: who waits for it has it at once."""
        if not info.layers.complete:  # the hashes that it lacks are the swarm's to get (BEP 52)
            self._hand_on(found)
            self.runner.provide(info, found.via)
            return
        self._know(self._linked.torrent_of(info), found.via)
        if self._runner is not None:
            self._runner.provide(info, found.via)

    def _take(self, info: Info) -> bool:
        """A URL of the link has the metadata; False where it is known already."""
        if self.torrent is not None or self.runner.swarm.info is not None:
            return False
        self.runner.provide(info, URL)
        return True

    async def _introduce(self, node: Node, nodes: Iterable[tuple[str, int]]) -> None:
        """Tells the DHT of nodes that a torrent names (BEP 5)."""
        for host, port in nodes:
            with suppress(NetworkError):
                for endpoint in await self._shared.network.resolve(host, port):
                    node.add_node(endpoint)

    async def _resolved(self) -> Torrent:
        """The metadata as it comes from peers, or from where the link says. This task keeps the time meanwhile."""
        swarm = self.runner.swarm
        while swarm.info is None and swarm.broken is None:
            await self.runner.rest(self._look())
        if self._scouts is not None:
            self._scouts.close()
        return self.torrent or self._linked.torrent_of(await self.runner.metadata())

    async def _keep_time(self) -> None:
        while not self.runner.is_over:
            await self.runner.rest(self._look())
        await self.runner.finished()  # the swarm ended by itself: this says why

    def _look(self) -> float:
        """Does what is due, and gives up when waiting longer is no use; returns when to look again."""
        now, patience = trio.current_time(), self._patience
        if not self.complete and now >= patience.look_at:
            for host in self._sources.own_hosts:
                self.runner.seen_as(host)
            if patience.is_over(self.runner.stats(), now):
                raise _GaveUp
        if self._shared.node is not None:  # hears of the nodes that peers name (BEP 5)
            for endpoint in self.runner.new_nodes():
                self._shared.node.add_node(endpoint)
        wakes_at = self.runner.look(now)
        return wakes_at if self.complete else min(wakes_at, patience.look_at)

    @property
    def news_at(self) -> float:
        """When something new came last: a peer, metadata, a byte."""
        return self._patience.news_at

    def _on_checked(self, checked_bytes: int, all_bytes: int) -> None:
        self.checked = checked_bytes / all_bytes if all_bytes else 1.0
        self._patience.news_at = trio.current_time()

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
        self._patience.news_at = trio.current_time()
        self.size = torrent.size
        self.link = replace(MagnetLink.of(torrent), select=self.link.select)
        self._tell(MetadataReady(torrent, self.metadata_s, via))

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
        counts = counts_of(self.runner.stats(), self._sources, self._shared)
        return counts if self._scouts is None else self._scouts.counted(counts)

    # how it ends

    def _fail(self, error: WireError | None) -> None:
        counts = self.counts()
        lacks_hashes = (self._lacks_layers or self.runner.swarm.lacks_hashes) and counts.connected > 0
        verdict = decide(counts, Phase.METADATA if lacks_hashes else self.phase, error)
        kind = ResolveError if self.torrent is None else DownloadError
        reason = None if error is None else str(error)
        if reason is None and lacks_hashes:
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
        if (error := self.error) is None:
            return kind(Verdict.CANCELLED, self.counts(), self.info_hash)
        return type(error)(error.verdict, error.counts, error.info_hash, str(error))

    def _tell(self, event: TorrentEvent | None = None) -> None:
        if event is not None:
            self.events.append(event)
        self.changed.set()
        self.changed = trio.Event()
