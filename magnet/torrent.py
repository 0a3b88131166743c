"""One torrent from its link to its finished files, as its user holds it: the handle, and what it tells.

The work is done by one task of the session; a handle waits for it, asks it and ends it. The connections
that brought the metadata (BEP 9) go on to bring the pieces (BEP 3). Which peer is asked for what, is
decided in `wire.swarm`; where peers come from, in `magnet.sources`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from kademlia_bt.node import Node
from magnet.events import Checked, Failed, Finished, MetadataReady, TorrentEvent
from magnet.inputs import fetched_torrent
from magnet.link import MagnetLink
from magnet.network import refused_by, trouble_of
from magnet.nursery import open_plain_nursery
from magnet.sources import PEER, URL, Sources
from magnet.status import TorrentStatus
from magnet.streaming import Streams, files_that_match
from magnet.task import CACHE, FILE, Shared, Task
from magnet.verdict import Counts, DownloadError, Phase, ResolveError, Verdict, decide, explain
from wire.compact import Endpoint
from wire.errors import DiskError, MisuseError, NetworkError, ProtocolError, WireError
from wire.http_url import is_http_url, is_near_literal, shown
from wire.ids import InfoHash
from wire.metainfo import Info, Torrent
from wire.storage.lock import FileLock
from wire.storage.store import Store
from wire.swarm.rules import Settings, Swarm
from wire.swarm.run import SwarmRunner
from wire.tracker.announcer import Announcer, Progress
from wire.tracker.tiers import MAX_TRACKERS

__all__ = ["EventStream", "TorrentHandle"]

_MAX_KNOWN = 10_000
"""Beyond so many peers another one does not keep a quiet torrent alive."""

MAX_SOURCES = 5
"""URLs of a link that are tried at once for a .torrent."""
SOURCE_PAUSES_S = (5.0, 30.0, 120.0)
"""After each failure to fetch one; then it is given up."""
UNKNOWN_LEFT_BYTES = 1 << 14
"""Told to trackers while the size is unknown: with 0 they would take us for a seed."""

LAYERS_GRACE_S = 3.0
"""How long a hybrid's piece layers may keep its metadata waiting without one coming: it is of use without them."""

_WATCH_S = 1.0
"""How often news are looked for: patience is exact to this."""


class _GaveUp(Exception):  # noqa: N818 - not an error of anybody: the decision that waiting longer is no use
    pass


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

    def __init__(self, handle: TorrentHandle, store: Store, gone: trio.Event) -> None:
        self._handle, self._runner, self._store, self._gone = handle, handle.runner, store, gone

    def has(self, piece: int) -> bool:
        return self._runner.have[piece]

    def need(self, piece: int, at: float | None) -> None:
        if self._gone.is_set():
            return
        if at is None:
            self._runner.clear_deadlines(piece)
        else:
            self._runner.set_deadline(piece, at)

    async def wait(self, piece: int) -> None:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(self._until_gone)
            await self._runner.stored(piece)

    async def read(self, piece: int, begin: int, length: int) -> bytes:
        if self._gone.is_set():
            raise self._handle.failure()
        return (await self._store.read_many([(piece, begin, length)]))[0]

    async def _until_gone(self) -> None:
        await self._gone.wait()
        raise self._handle.failure()


class TorrentHandle:
    """A torrent in a session. Made by `Session.add`; all its methods are for trio tasks of the same run."""

    def __init__(self, task: Task, shared: Shared) -> None:
        self._task = task
        self._shared = shared
        self._link = task.link
        self._torrent: Torrent | None = None
        self._metadata_s: float | None = None
        self._metadata_via: str | None = None
        self._wanted: Sequence[bool] | None = None
        self._size: int | None = None
        self._shared_bytes = 0
        """What there is to share, where nothing is downloaded."""
        self._phase = Phase.METADATA
        self._checked = 0.0
        self._error: ResolveError | DownloadError | None = None
        self._complete = False
        self._lacks_layers = False
        """Nothing can go on before peers have given the hashes of its pieces (BEP 52)."""
        self._kept_layers = 0
        """Of how many files the piece hashes are in the vault."""
        self._fetched: Torrent | None = None
        """What a URL of the link gave."""
        self._store: Store | None = None
        self._lock: FileLock | None = None
        self._began = self._news_at = trio.current_time()
        self._ended_at: float | None = None
        self._known: set[Endpoint] = set()
        """Addresses that were named once: what the swarm forgets and hears of again is no news."""
        self._scope = trio.CancelScope()
        self._events: list[TorrentEvent] = []
        self._changed = trio.Event()
        self._gone = trio.Event()
        info = task.torrent.info if task.torrent is not None else None
        config, node = shared.config, shared.node
        self._swarm = Swarm(
            task.link.info_hash,
            peer_id=shared.peer_id,
            rng=shared.rng,
            now=self._began,
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
            announcers=self._announcers(
                shared, task.link.info_hash.swarm_ids, private=info is not None and info.private
            ),
            neighbours=shared.neighbours,
            port=shared.port,
            private=info is not None and info.private,
        )
        if info is None or task.metadata_only:
            self._sources.announce()

    def _announcers(self, shared: Shared, swarm_ids: Iterable[bytes], *, private: bool) -> list[Announcer]:
        """At its trackers, for each name: those of a .torrent by tiers, those of a link, which has none, each alone."""
        task, config = self._task, shared.config
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
        return [
            Announcer(
                shared.trackers,
                groups,
                named=config.trackers,
                swarm_id=swarm_id,
                peer_id=shared.peer_id,
                port=shared.port,
                progress=self._progress,
                rng=shared.rng,
                private=private,
            )
            for swarm_id in swarm_ids
        ]

    def _progress(self) -> Progress:
        """What trackers are told. Before the metadata nobody knows how much is left."""
        stats, info = self.runner.stats(), self._swarm.info
        left = UNKNOWN_LEFT_BYTES
        if info is not None:
            missing = stats.pieces_total - stats.pieces_done
            left = min(missing * info.piece_length, info.size)
        return Progress(stats.uploaded_bytes, stats.downloaded_bytes, left, self._complete)

    # what its user sees

    @property
    def info_hash(self) -> InfoHash:
        """Names the torrent; a link's hash gains its other version once the metadata is known."""
        return self._link.info_hash if self._torrent is None else self._torrent.info.info_hash

    @property
    def link(self) -> MagnetLink:
        """The link that leads here: the given one, or one made of the metadata (BEP 9)."""
        return self._link

    @property
    def path(self) -> Path:
        """The file or folder that is written, below the directory given to `add`.

        It is that directory itself until the metadata is known.
        """
        return self._task.directory if self._torrent is None else self._task.directory / self._torrent.info.name

    @property
    def metadata_via(self) -> str | None:
        """Where the peer that gave the metadata was found ("dht", "peer", ...), or "cache" or "file"; None before."""
        return self._metadata_via

    async def metadata(self) -> Torrent:
        """Waits for the verified metadata. Raises ResolveError."""
        while self._torrent is None:
            if self._gone.is_set():
                raise self._why(ResolveError)
            await self._changed.wait()
        await trio.lowlevel.checkpoint()
        return self._torrent

    async def finished(self) -> None:
        """Waits until all that is wanted is verified and on disk; the torrent goes on seeding until removed.

        With `metadata_only`: until the metadata is there. With `seed`: until what is there is checked.
        Raises ResolveError where the metadata never came, DownloadError for what failed later.
        """
        await self.metadata()
        while not self._complete:
            if self._gone.is_set():
                raise self._why(DownloadError)
            await self._changed.wait()

    async def gone(self) -> None:
        """Waits until it has left the session, by `remove` or with it; raises what it failed of."""
        await self._gone.wait()
        if self._error is not None:
            raise self._why(DownloadError)

    def status(self) -> TorrentStatus:
        """A snapshot of now."""
        now = trio.current_time() if self._ended_at is None else self._ended_at
        stats = self.runner.stats()
        info = None if self._torrent is None else self._torrent.info
        return TorrentStatus(
            info_hash=self.info_hash,
            phase=self._phase,
            elapsed_s=now - self._began,
            name=self._link.name if info is None else info.name,
            size=self._size,
            done=self._done_bytes(),
            files=None if info is None else sum(file.on_disk for file in info.files),
            pieces_done=stats.pieces_done,
            pieces_total=stats.pieces_total,
            checked=self._checked,
            down_rate=stats.down_rate,
            up_rate=stats.up_rate,
            downloaded=stats.downloaded_bytes,
            uploaded=stats.uploaded_bytes,
            wasted=stats.wasted_bytes,
            peers=stats.peers,
            seeds=stats.seeds,
            web_seeds=sum(seed.reason is None for seed in stats.web_seeds),
            trouble=trouble_of(self._shared.network),
            metadata_s=self._metadata_s,
            metadata_source=self._metadata_via,
            quiet_s=now - self._news_at,
            counts=self._counts(),
            verdict=None if self._error is None else self._error.verdict,
            reason=None if self._error is None else str(self._error),
        )

    def events(self) -> EventStream:
        """What happens, from the beginning, each event once for each caller; ends when the torrent has ended."""
        return EventStream(self)

    async def event(self, index: int) -> TorrentEvent | None:
        """Waits for the event of that number, from 0; None where the torrent ended before it."""
        while index >= len(self._events):
            if self._gone.is_set():
                return None
            await self._changed.wait()
        return self._events[index]

    async def streams(self) -> Streams:
        """Waits until its pieces can be had and gives its wanted files for reading while they are fetched.

        Raises ResolveError where the metadata never came, DownloadError for what failed later.
        """
        await self.metadata()
        while self._store is None or self._phase is Phase.CHECKING:
            if self._gone.is_set():
                raise self._why(DownloadError)
            await self._changed.wait()
        assert self._wanted is not None
        await trio.lowlevel.checkpoint()
        return Streams(self._store.info, self._wanted, _Pieces(self, self._store, self._gone))

    def failure(self) -> ResolveError | DownloadError:
        """Why it ended, for who waited; it has ended."""
        return self._why(DownloadError)

    async def remove(self) -> None:
        """Stops it: connections closed, resume data saved; files stay. Returns when nothing of it is left running."""
        self._scope.cancel()
        await self._gone.wait()

    # the work, in a task of the session

    async def run(self) -> None:
        """Does the work until it is removed or has failed. For the session alone, once."""
        try:
            with self._scope:
                try:
                    await self._work()
                except _GaveUp:
                    self._fail(None)
                except WireError as error:
                    self._fail(error)
        finally:
            await self._close_store()
            if self._error is None and not (self._complete and self._task.metadata_only):
                self._phase = Phase.CANCELLED
            self._ended_at = trio.current_time()
            self._gone.set()
            self._tell()

    async def _close_store(self) -> None:
        try:
            await self._save_and_close()
        finally:
            if self._lock is not None:
                self._lock.release()

    async def _save_and_close(self) -> None:
        if self._store is None:
            return
        try:
            with trio.CancelScope(shield=True):  # a cancelled torrent must still save what it has
                await self._store.aclose()
        except DiskError as error:
            if self._error is None:
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
                    nursery.start_soon(self._fetch)
                if self._shared.node is not None:
                    nursery.start_soon(self._introduce, self._shared.node)
            if known is None:
                known = self._torrent_of(await self.runner.metadata())
                self._know(known, self.runner.metadata_via or PEER)
                await self._shared.vault.save(known)
            else:
                self._kept_layers = len(known.info.layers) if self._task.via == CACHE else 0
                self._know(known, self._task.via)
            if not self._task.metadata_only:
                await self._download(known)
            else:
                await self._all_layers(known)
            self._complete = True
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
        self._wanted = self._selected(info)
        self._size = sum(file.size for file, wanted in zip(info.files, self._wanted, strict=True) if wanted)
        if info.info_hash.v1 is None and not self._task.seed:  # of what is on disk whole, the layers follow from it
            missing = set(info.layers.missing())
            wanted = {file.pieces_root for file, flag in zip(info.files, self._wanted, strict=True) if flag}
            if roots := {root for root in wanted if root in missing and root is not None}:
                await self._layers(torrent, roots)
            await self._keep_layers(torrent)
        self._phase = Phase.CHECKING
        resume = await self._shared.vault.resume_path(info.info_hash, self._task.directory)
        if resume is not None and not self._task.seed:
            # What is remembered and the parts file have one writer at a time.
            lock = FileLock(resume.with_name(f"{resume.name}.lock"))
            lock.take(f"{info.name!r} is being downloaded to {self._task.directory} already, by another process")
            self._lock = lock
        self._store = self._shared.store_factory(
            info,
            self._task.directory,
            resume,
            None if self._size == info.content_size else self._wanted,
            self._task.seed,
        )
        have = await self._store.load(self._on_checked)
        if not self._task.seed:
            shelf = self._shared.shelf
            have |= await shelf.fill(torrent, self._store, directory, have, self._wanted, self._on_checked)
        if self._task.seed:
            self._shared_bytes = min(self._size, sum(info.piece_size(index) for index in have.indices()))
        self.runner.begin(self._store, have, [False] * len(info.files) if self._task.seed else self._wanted)
        self._phase = Phase.DOWNLOADING
        self._sources.announce()
        self._news_at = trio.current_time()
        self._tell(Checked(self._done_bytes()))
        async with open_plain_nursery() as nursery:
            if (urls := self._web_seeds()) and not self._task.seed:
                shared = self._shared
                nursery.start_soon(partial(self.runner.use_web_seeds, urls, shared.network, local=shared.local))
            await self._finish(torrent)

    async def _finish(self, torrent: Torrent) -> None:
        await self.runner.finished()
        self._complete = True
        self._phase = Phase.SEEDING
        await self._keep_layers(torrent)
        self._sources.satisfy()
        await self._shared.shelf.keep(torrent, self._task.directory, self.runner.have)
        self._tell(Finished(trio.current_time() - self._began, self._size or 0, self.path))
        await trio.sleep_forever()

    def _web_seeds(self) -> Sequence[str]:
        """Those of the torrent and of the link that led to it (BEP 19)."""
        if not self._shared.config.web_seeds or self._torrent is None:
            return ()
        urls = dict.fromkeys((*self._torrent.web_seeds, *self._task.link.web_seeds))
        return [url for url in urls if is_http_url(url)]

    async def _exchange(self) -> None:
        await self.runner.run()
        await self.runner.finished()  # the swarm ended by itself: this says why

    async def _feed(self) -> None:
        async for found in self._sources.found:
            if len(self._known) < _MAX_KNOWN:
                self._known.add(found.endpoint)
            self.runner.found([found.endpoint], found.via, found.swarm_id)

    async def _fetch(self) -> None:
        """Gets a .torrent from where the link says that there is one (BEP 9): it races with the peers' metadata."""
        urls = [url for url in self._link.sources if is_http_url(url)][:MAX_SOURCES]
        async with trio.open_nursery() as nursery:
            for url in urls:
                nursery.start_soon(self._fetch_from, url)

    async def _fetch_from(self, url: str) -> None:
        near = self._shared.local or (is_near_literal(url) and "?" not in url)
        for pause_s in SOURCE_PAUSES_S:
            try:
                torrent = await fetched_torrent(self._shared.network, url, near=near)
                Info.from_bytes(torrent.info.raw, self._task.link.info_hash)
            except ProtocolError:
                return  # it is another torrent, or none at all
            except MisuseError:
                await trio.sleep(pause_s)
                continue
            if self._torrent is None and self._swarm.info is None:
                self._fetched = torrent
                self.runner.provide(torrent.info, URL)
            return

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
        deadline = float("inf") if config.deadline_s is None else self._began + config.deadline_s
        patience_s = config.patience_s or float("inf")
        seen: tuple[int, ...] = ()
        while not self._complete:
            now = trio.current_time()
            for host in self._sources.own_hosts:
                self.runner.seen_as(host)
            if (news := self._news()) != seen:
                seen, self._news_at = news, now
            give_up_at = min(deadline, self._news_at + patience_s)
            if now >= give_up_at:
                raise _GaveUp
            await trio.sleep(min(_WATCH_S, give_up_at - now))

    def _news(self) -> tuple[int, ...]:
        """Changes when something new came: a peer, metadata, a byte; not when an old peer came back."""
        stats, known = self.runner.stats(), len(self._known)
        useful_bytes = stats.downloaded_bytes - stats.wasted_bytes
        return known, min(stats.connected, known), useful_bytes, stats.pieces_done, stats.layer_hashes

    def _on_checked(self, checked_bytes: int, all_bytes: int) -> None:
        self._checked = checked_bytes / all_bytes if all_bytes else 1.0
        self._news_at = trio.current_time()

    # what it knows

    def _torrent_of(self, info: Info) -> Torrent:
        fetched = self._fetched
        if fetched is None or fetched.info.raw != info.raw:
            return Torrent.of(info, trackers=[[url] for url in self._link.trackers], web_seeds=self._link.web_seeds)
        self._sources.add_trackers(fetched.trackers)
        linked = [(url,) for url in self._link.trackers if all(url not in tier for tier in fetched.trackers)]
        web_seeds = dict.fromkeys((*fetched.web_seeds, *self._link.web_seeds))
        return replace(fetched, trackers=(*fetched.trackers, *linked), web_seeds=tuple(web_seeds))

    def _know(self, torrent: Torrent, via: str) -> None:
        if torrent.info.private:
            self._sources.forbid_strangers()
        for swarm_id in torrent.info.info_hash.swarm_ids:  # a link may have had one name of a hybrid's two
            if swarm_id not in self._task.link.info_hash.swarm_ids:
                announcers = self._announcers(self._shared, [swarm_id], private=torrent.info.private)
                self._sources.join(swarm_id, announcers)
        self._torrent, self._metadata_via = torrent, via
        self._metadata_s = trio.current_time() - self._began
        self._news_at = trio.current_time()
        self._size = torrent.size
        self._link = replace(MagnetLink.of(torrent), select=self._link.select)
        self._tell(MetadataReady(torrent, self._metadata_s, via))

    def _selected(self, info: Info) -> Sequence[bool]:
        files = info.files
        if self._task.choose is not None:
            return [wanted and file.on_disk for wanted, file in zip(self._task.choose(info), files, strict=True)]
        if not self._task.only:
            linked = self._link.wanted(len(files))
            return [wanted and file.on_disk for file, wanted in zip(files, linked, strict=True)]
        return files_that_match(info, self._task.only)

    def _done_bytes(self) -> int:
        if self._size is None or self._phase in (Phase.METADATA, Phase.CHECKING):
            return 0
        if self._task.seed:
            return self._shared_bytes
        return max(0, self._size - self.runner.stats().wanted_left_bytes)

    def _counts(self) -> Counts:
        stats, dht, trackers = self.runner.stats(), self._sources.dht_counts, self._sources.tracker_counts
        node = None if self._shared.node is None else self._shared.node.stats()
        # Before the first node of a search is known, joining is what there is to tell of.
        asked, answered = dht.asked, dht.answered
        if not asked and node is not None:
            asked, answered = node.nodes_asked, node.nodes_answered
        return Counts(
            dht=self._sources.asks_dht or dht.asked > 0,
            routers_tried=0 if node is None else node.routers_tried,
            routers_answered=0 if node is None else node.routers_answered,
            nodes_asked=asked,
            nodes_answered=answered,
            trackers_asked=trackers.asked,
            trackers_answered=trackers.answered,
            found=dict(stats.found),
            dialled=stats.dialled,
            connected=stats.connected,
            refused=stats.refused,
            timed_out=stats.timed_out,
            handshake_failed=stats.handshake_failed,
            without_metadata=stats.without_metadata,
            metadata_rejected=stats.metadata_rejected,
            metadata_hash_failures=stats.metadata_hash_failures,
            piece_hash_failures=stats.piece_hash_failures,
            banned=stats.banned,
            blocked=stats.blocked + refused_by(self._shared.network),
            web_seeds=len(stats.web_seeds),
            web_seeds_failed=sum(seed.reason is not None for seed in stats.web_seeds),
            web_seed_reason=next(
                (f"{shown(seed.url)}: {seed.reason}" for seed in stats.web_seeds if seed.reason), None
            ),
        )

    # how it ends

    def _fail(self, error: WireError | None) -> None:
        counts = self._counts()
        verdict = decide(counts, self._phase, error)
        kind = ResolveError if self._torrent is None else DownloadError
        reason = None if error is None else str(error)
        if reason is None and self._lacks_layers and counts.connected:
            reason = (
                "no peer gave the hashes of the torrent's pieces, which its info dictionary has not (BEP 52): "
                f"{counts.connected} connected. Try later or with a longer --timeout, or with a .torrent that has them"
            )
        elif reason is None and (trouble := trouble_of(self._shared.network)) is not None:
            reason = f"{trouble}; {explain(verdict, counts)}"
        self._error = kind(verdict, counts, self.info_hash, reason)
        self._phase = Phase.FAILED
        self._tell(Failed(self._error))

    def _why(self, kind: type[ResolveError | DownloadError]) -> ResolveError | DownloadError:
        """The error for somebody who waits; a fresh one each time, as a traceback hangs on it."""
        if self._error is None:
            return kind(Verdict.CANCELLED, self._counts(), self.info_hash)
        error = self._error
        return type(error)(error.verdict, error.counts, error.info_hash, str(error))

    def _tell(self, event: TorrentEvent | None = None) -> None:
        if event is not None:
            self._events.append(event)
        self._changed.set()
        self._changed = trio.Event()
