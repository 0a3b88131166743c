"""The trio shell of a swarm: wakes the brain in `rules` by the clock, does what it decides, and hears its owner.

What to do is decided there; here it is only done. Its connections are in `conversing`, its disk in `storing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import trio

from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.dialler import Dialler
from wire.errors import MisuseError
from wire.limits import TokenBucket
from wire.metainfo import Info
from wire.net import Network
from wire.storage.store import Store
from wire.swarm.conversing import Conversing
from wire.swarm.rules import Swarm
from wire.swarm.treerun import TreeWork
from wire.swarm.values import LayerComplete, MetadataComplete, NodeNamed, PeerDropped, Priority, SwarmStats

__all__ = ["SwarmRunner"]

MIN_PAUSE_S = 0.002
"""Between two looks at the timers, so that a timer in the past cannot make a busy loop."""
MAX_NODES_WAITING = 64


class SwarmRunner(Conversing):
    """Runs one swarm. The rate limits are shared by all torrents of a session; None means no limit.

    `departures` hears whose connection ended and why, as far as it has room.
    """

    def __init__(
        self,
        swarm: Swarm,
        dialler: Dialler,
        *,
        down: TokenBucket | None = None,
        up: TokenBucket | None = None,
        departures: trio.MemorySendChannel[PeerDropped] | None = None,
    ) -> None:
        super().__init__(swarm, dialler, down, up, departures)
        self.metadata_via: str | None = None
        """The source that named the peer which gave the metadata; None before, and where it was known already."""
        self._nodes: list[Endpoint] = []
        self._trees: TreeWork | None = None
        self._understood = trio.Event()
        self._grown = trio.Event()

    # --- for its owner

    async def run(self) -> None:
        """Runs until cancelled, also while the disk takes nothing; ends where a seed cannot be read (see `finished`).

        On the way out every stream is closed. It does not close the store.
        """
        if self._nursery is not None:
            raise MisuseError("the swarm runs already")
        try:
            async with trio.open_nursery() as nursery:
                self.open(nursery)
                while not self.is_over:
                    await self.rest(self.look(trio.current_time()))
                nursery.cancel_scope.cancel()
        finally:
            self.close()

    def open(self, nursery: trio.Nursery) -> None:
        """From now on it may dial, let peers in and store, as tasks of that nursery.

        In place of `run`, for an owner who has a nursery anyhow and keeps the time himself by `look` and `rest`; when
        the nursery is closed he calls `close`.
        """
        self._nursery = nursery

    def close(self) -> None:
        """Lets nobody in any more; for who opened it, after his nursery was closed."""
        self._nursery = None
        self.swarm.crowd.left(self.swarm)

    def look(self, now: float) -> float:
        """Lets the brain do what time brings, and dials; returns when it wants that next, at the latest."""
        if self._alarm.is_set():
            self._alarm = trio.Event()
        swarm = self.swarm
        swarm.tick(now)
        self._dial_due(now)
        self._drop_spare(now)
        self.settle()
        return max(swarm.next_timer(now), now + MIN_PAUSE_S)

    async def rest(self, until: float) -> None:
        """Waits until that time, or until the brain wants `look` before."""
        self._wakes_at = until
        with trio.move_on_at(until):
            await self._alarm.wait()

    def new_nodes(self) -> list[Endpoint]:
        """DHT nodes that peers named (BEP 5) since the last call; beyond 64 they are lost."""
        nodes, self._nodes = self._nodes, []
        return nodes

    def found(self, endpoints: Iterable[Endpoint], via: str, swarm_id: bytes | None = None) -> None:
        """Takes addresses from a source ("dht", "tracker", "peer", "link", "pex", "lsd"). Any time, any number.

        `swarm_id`: the name of the torrent that the source was asked for, where it has two (BEP 52).
        """
        now = trio.current_time()
        for endpoint in endpoints:
            self.swarm.found(endpoint, via, now, swarm_id)
        if not self.swarm.is_engaged:
            self._dial_due(now)  # the first ones wait for nobody; later ones until all were heard that came with them
        self._look_sooner(now)

    def provide(self, info: Info, via: str) -> None:
        """Takes metadata that came another way than from peers. It was checked against the info-hash."""
        self.swarm.provide(info, via, trio.current_time())
        self.settle()
        self._alarm.set()

    def seen_as(self, host: str) -> None:
        """Our own IP address, as others see it: it decides, among equals, who is dialled first (BEP 40)."""
        self.swarm.seen_as(host)

    async def metadata(self) -> Info:
        """Waits for the verified info dictionary. Waits for ever: the caller bounds the time.

        Raises MetainfoError where it came, with the right hash, and cannot be used.
        """
        if self.swarm.info is None:
            await self._understood.wait()
        if self.swarm.info is None:
            assert self.swarm.broken is not None
            raise self.swarm.broken
        return self.swarm.info

    async def layers(self, roots: Iterable[bytes] | None = None) -> None:
        """Waits until the piece layers of these files, or of all, are known (BEP 52). For ever: the caller bounds it.

        Raises MetainfoError as `metadata` does.
        """
        layers = (await self.metadata()).layers
        missing = layers.missing() if roots is None else [root for root in roots if layers.get(root) is None]
        while any(layers.get(root) is None for root in missing):
            await self._grown.wait()

    def begin(
        self,
        store: Store,
        have: Bitfield,
        wanted: Sequence[bool] | None = None,
        *,
        priorities: Mapping[int, Priority] | None = None,
        sequential: bool = False,
    ) -> None:
        """Starts fetching and serving pieces: `have` is what `store.load()` found, `wanted` a flag a file (None: all).

        `priorities`: of pieces that are not wanted like others. Raises MisuseError before the metadata is known, or
        the second time.
        """
        self.swarm.begin(have, wanted, trio.current_time(), priorities=priorities, sequential=sequential)
        self._store = store
        if self.swarm.info is not None and self.swarm.info.info_hash.v2 is not None:
            self._trees = TreeWork(self, store)
        if self.swarm.finished:
            self._done.set()
        self.settle()

    # --- wishes, any time after `begin`; MisuseError before

    def set_priority(self, pieces: Iterable[int], priority: Priority) -> None:
        """Says how much some pieces are wanted; `Priority.SKIP`: not at all. What is open already is finished."""
        self.swarm.set_priority(pieces, priority, trio.current_time())
        self._wish()

    def want_files(self, wanted: Sequence[bool]) -> None:
        """Says anew which files are wanted, a flag for each file entry."""
        self.swarm.want_files(wanted, trio.current_time())
        self._wish()

    def set_sequential(self, sequential: bool) -> None:
        """Whether pieces are fetched from the first to the last, not the rarest first."""
        self.swarm.set_sequential(sequential)

    def set_deadlines(self, at: Mapping[int, float | None]) -> None:
        """By when somebody needs each of these pieces, as `trio.current_time()` counts; None: not any more.

        They become wanted, and go before what is needed later or never. Where one is needed within a second, what else
        was asked for is taken back for its sake. Pieces that are not named stay as they were.
        """
        self.swarm.set_deadlines(at, trio.current_time())
        self._wish()

    async def use_web_seeds(self, urls: Sequence[str], network: Network, *, local: bool) -> None:
        """Fetches from web seeds (BEP 19) too, until cancelled; after `begin`.

        `local`: whether what strangers named may lead into this machine's networks without saying so openly.
        """
        from wire.swarm.webrun import run_web_seeds  # not needed where there are none

        assert self.swarm.info is not None
        now = trio.current_time()
        seeds = self.swarm.add_web_seeds(urls, now)
        self._look_sooner(now)
        await run_web_seeds(self, self.swarm.info, seeds, network, self._down, local=local)

    @property
    def limits(self) -> tuple[int, int]:
        """This torrent's own limits, down and up, in bytes a second; 0: none."""
        return self._down.limit_bytes_s, self._up.limit_bytes_s

    def set_limits(self, *, down_bytes_s: int | None = None, up_bytes_s: int | None = None) -> None:
        """Limits this torrent, besides the session's limits; 0: not; None: as before. Any time, also before `run`."""
        now = trio.current_time()
        if down_bytes_s is not None:
            self._down.limit(down_bytes_s, now)
        if up_bytes_s is not None:
            self._up.limit(up_bytes_s, now)
            for link in self._links.values():
                link.bell.set()

    def _wish(self) -> None:
        if not self.swarm.finished and self._done.is_set():
            self._done = trio.Event()
        self.wake_readers()
        self.settle()

    def stats(self) -> SwarmStats:
        """A snapshot of counts and rates."""
        return self.swarm.stats()

    def settle(self) -> None:
        """Does what the brain decided: after each call of it that may have decided something."""
        swarm = self.swarm
        if self._trees is not None and self._nursery is not None:
            self._trees.start(self._nursery)
        while waiting := swarm.outboxes():  # where a stream turns out to be broken, others may be asked
            for peer in waiting:
                self._write_out(peer)
        for event in swarm.events():
            if isinstance(event, MetadataComplete):
                self.metadata_via = event.via
                self._understand()
            elif isinstance(event, LayerComplete):
                self._grown.set()
                self._grown = trio.Event()
            elif isinstance(event, NodeNamed):
                if len(self._nodes) < MAX_NODES_WAITING:
                    self._nodes.append(event.endpoint)
            elif isinstance(event, PeerDropped):
                self._tell_departure(event)
        if swarm.broken is not None and not self._understood.is_set():
            self._understand()
        if swarm.finished:
            self._done.set()
        self._put_jobs()
        dropped = swarm.dropped()
        for peer in dropped:
            self._hang_up(peer)
        while (endpoint := swarm.next_punch()) is not None:
            if self._nursery is not None:
                self._nursery.start_soon(self._dial, endpoint, self._nursery, True)
        if dropped:
            self._alarm.set()  # there is room for another
        if self.is_over or ((look_at := swarm.look_at) is not None and look_at < self._wakes_at):
            self._alarm.set()
        if not swarm.congested and not self._room.is_set():
            self._room.set()

    def _understand(self) -> None:
        self._understood.set()
        self._alarm.set()  # who keeps the time may wait for just that
