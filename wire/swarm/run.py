"""The trio shell of a swarm: dials, reads, writes, stores, and wakes the brain in `rules` by the clock.

What to do is decided there; here it is only done. Slow disks stop the readers (bounded unwritten bytes),
slow peers stop their own uploads (bounded outboxes).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

import trio

from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.dialler import DialError, Dialler, Miss
from wire.errors import DiskError, MetainfoError, MisuseError, NetworkError, ProtocolError
from wire.limits import TokenBucket
from wire.metainfo import Info
from wire.net import Network, ScatterStream, Stream
from wire.peer.connection import PeerConnection
from wire.peer.landing import FRAME_BYTES, MAX_LANDING, Landing
from wire.peer.messages import Event
from wire.peer.receive_buffer import LARGE_BYTES
from wire.secure import SecureStream
from wire.storage.store import Store
from wire.swarm.peer import Peer
from wire.swarm.pieces import PieceJob
from wire.swarm.rules import Swarm
from wire.swarm.throttle import Throttle
from wire.swarm.values import LayerComplete, MetadataComplete, NodeNamed, PeerDropped, Priority, SwarmStats

__all__ = ["SwarmRunner"]

STORES_AT_ONCE = 2
"""Batches of pieces hashed and written at once: one computes while the other waits for the disk."""
STORE_BATCH_BYTES = 4 << 20
"""Handed to the store in one go, where so much waits: small pieces are not worth a thread's hop each."""
STORE_MORE_BYTES = 1 << 20
MIN_LANDING = 2
"""Blocks in one read, from which on the next are received straight to where they belong."""
MIN_PAUSE_S = 0.002
"""Between two looks at the timers, so that a timer in the past cannot make a busy loop."""
MAX_NODES_WAITING = 64
RETRY_S = 5.0
"""After a failed write the piece is fetched and tried again so often: space returns."""


class _Link:
    """The stream of one peer, and the bell that wakes its writer."""

    __slots__ = ("bell", "blocks", "scatter", "scope", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.scatter = stream if isinstance(stream, ScatterStream) else None
        self.blocks = 0
        """Whole blocks that fit into what the last read brought."""
        self.bell = trio.Event()
        self.scope = trio.CancelScope()


class SwarmRunner:
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
        self.swarm = swarm
        self.metadata_via: str | None = None
        """The source that named the peer which gave the metadata; None before, and where it was known already."""
        self._nodes, self.nodes = trio.open_memory_channel[Endpoint](MAX_NODES_WAITING)
        """DHT nodes that peers name, for whoever wants them; what nobody takes is lost."""
        self._dialler = dialler
        self._departures = departures
        self._down = Throttle(down)
        self._up = Throttle(up)
        self._store: Store | None = None
        self._nursery: trio.Nursery | None = None
        self._links: dict[Peer, _Link] = {}
        self._alarm = trio.Event()
        self._wakes_at = 0.0
        self._room = trio.Event()
        self._waiting_jobs: deque[PieceJob] = deque()
        self._stores = 0
        self._understood = trio.Event()
        self._done = trio.Event()
        self._failure: DiskError | None = None
        self._contradiction: MetainfoError | None = None
        """The torrent cannot be what it says (a hybrid of two minds): nothing mends that."""
        self._grown = trio.Event()
        self._failed = trio.Event()
        self._stored_one = trio.Event()

    # --- for its owner

    async def run(self) -> None:
        """Runs until cancelled, also while the disk takes nothing; ends where a seed cannot be read (see `finished`).

        On the way out every stream is closed. It does not close the store.
        """
        if self._nursery is not None:
            raise MisuseError("the swarm runs already")
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._watch_time(nursery)
        finally:
            self._nursery = None

    def found(self, endpoints: Iterable[Endpoint], via: str, swarm_id: bytes | None = None) -> None:
        """Takes addresses from a source ("dht", "tracker", "peer", "link", "pex", "lsd"). Any time, any number.

        `swarm_id`: the name of the torrent that the source was asked for, where it has two (BEP 52).
        """
        now = trio.current_time()
        for endpoint in endpoints:
            self.swarm.found(endpoint, via, now, swarm_id)
        self._alarm.set()

    def provide(self, info: Info, via: str) -> None:
        """Takes metadata that came another way than from peers. It was checked against the info-hash."""
        self.swarm.provide(info, via, trio.current_time())
        self.settle()
        self._alarm.set()

    def seen_as(self, host: str) -> None:
        """Our own IP address, as others see it: it decides, among equals, who is dialled first (BEP 40)."""
        self.swarm.seen_as(host)

    def adopt(self, stream: Stream, connection: PeerConnection, events: Sequence[Event]) -> None:
        """Takes over an accepted connection whose handshake named this torrent.

        The handshake is answered here (`connection.accept`); `events` are those of the read that brought it,
        itself included. Closes the stream where there is no room for it.
        """
        if self._nursery is None:
            stream.close()
            return
        peer = self.swarm.accept(stream.remote, connection, events, trio.current_time(), **_wire_of(stream))
        if peer is None:
            stream.close()
        else:
            self._nursery.start_soon(self._converse, peer, stream)
            self._alarm.set()  # with a first peer the next tick comes earlier
        self.settle()

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

    def begin(self, store: Store, have: Bitfield, wanted: Sequence[bool] | None = None) -> None:
        """Starts fetching and serving pieces: `have` is what `store.load()` found, `wanted` a flag a file (None: all).

        Raises MisuseError before the metadata is known, or the second time.
        """
        self.swarm.begin(have, wanted, trio.current_time())
        self._store = store
        if self.swarm.finished:
            self._done.set()
        self.settle()

    async def finished(self) -> None:
        """Waits until every wanted piece is stored. Raises DiskError while the disk takes or gives nothing.

        The swarm goes on all the same, tries again every few seconds and keeps what is stored: one may wait again.
        Raises MetainfoError, and that is the end, where a hybrid torrent contradicts itself (BEP 52).
        """
        while not self.swarm.finished or self._failure is not None:
            if self._contradiction is not None:
                raise self._contradiction
            if self._failure is not None:
                raise self._failure
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_first, self._done, nursery.cancel_scope)
                nursery.start_soon(_first, self._failed, nursery.cancel_scope)
        await trio.lowlevel.checkpoint()

    # --- wishes, any time after `begin`; MisuseError before

    @property
    def have(self) -> Bitfield:
        """The pieces that are stored; to be read only."""
        return self.swarm.have

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

    def set_deadline(self, piece: int, at: float) -> None:
        """Somebody needs this piece at `at` (as `trio.current_time()` counts): before what is needed later or never.

        It becomes wanted. Where it is needed within a second, what else was asked for is taken back for its sake.
        """
        self.swarm.set_deadline(piece, at, trio.current_time())
        self._wish()

    def clear_deadlines(self, piece: int | None = None) -> None:
        """Nobody waits for this piece any more (None: for any); what became wanted stays so."""
        self.swarm.clear_deadlines(piece)

    async def stored(self, piece: int) -> None:
        """Waits until a piece is verified and stored. Raises DiskError while the disk takes nothing."""
        await trio.lowlevel.checkpoint()
        while not self.swarm.have[piece]:
            if self._failure is not None:
                raise self._failure
            await self._stored_one.wait()

    async def news(self, patience_s: float) -> None:
        """Waits until a piece is stored or other pieces are wanted, so long at most."""
        with trio.move_on_after(patience_s):
            await self._stored_one.wait()

    async def use_web_seeds(self, urls: Sequence[str], network: Network, *, local: bool) -> None:
        """Fetches from web seeds (BEP 19) too, until cancelled; after `begin`.

        `local`: whether what strangers named may lead into this machine's networks without saying so openly.
        """
        from wire.swarm.webrun import run_web_seeds  # not needed where there are none

        assert self.swarm.info is not None
        await run_web_seeds(self, self.swarm.info, urls, network, self._down, local=local)

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
        self._tell_news()
        self.settle()

    def stats(self) -> SwarmStats:
        """A snapshot of counts and rates."""
        return self.swarm.stats()

    # --- the clock

    async def _watch_time(self, nursery: trio.Nursery) -> None:
        swarm = self.swarm
        while True:
            self._alarm = trio.Event()
            now = trio.current_time()
            swarm.tick(now)
            while (endpoint := swarm.next_dial(now)) is not None:
                nursery.start_soon(self._dial, endpoint)
            self.settle()
            self._wakes_at = max(swarm.next_timer(now), now + MIN_PAUSE_S)
            with trio.move_on_at(self._wakes_at):
                await self._alarm.wait()

    def settle(self) -> None:
        """Does what the brain decided: after each call of it that may have decided something."""
        swarm = self.swarm
        for event in swarm.events():
            if isinstance(event, MetadataComplete):
                self.metadata_via = event.via
                self._understood.set()
            elif isinstance(event, LayerComplete):
                self._grown.set()
                self._grown = trio.Event()
            elif isinstance(event, NodeNamed):
                with suppress(trio.WouldBlock, trio.BrokenResourceError):
                    self._nodes.send_nowait(event.endpoint)
            elif isinstance(event, PeerDropped):
                self._tell_departure(event)
        if swarm.broken is not None:
            self._understood.set()
        if swarm.finished:
            self._done.set()
        self._waiting_jobs.extend(swarm.piece_jobs())
        if self._waiting_jobs and self._may_store() and self._nursery is not None:
            self._stores += 1
            self._nursery.start_soon(self._put_waiting)
        for peer in swarm.outboxes():
            if (link := self._links.get(peer)) is not None:
                link.bell.set()
        dropped = swarm.dropped()
        for peer in dropped:
            if (link := self._links.get(peer)) is not None:
                link.scope.cancel()
        while (endpoint := swarm.next_punch()) is not None:
            if self._nursery is not None:
                self._nursery.start_soon(self._dial, endpoint, True)
        if dropped:
            self._alarm.set()  # there is room for another
        if (look_at := swarm.look_at) is not None and look_at < self._wakes_at:
            self._alarm.set()
        if not swarm.congested and not self._room.is_set():
            self._room.set()

    def _tell_departure(self, gone: PeerDropped) -> None:
        if self._departures is not None:
            with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self._departures.send_nowait(gone)

    # --- streams

    async def _dial(self, endpoint: Endpoint, punch: bool = False) -> None:
        swarm = self.swarm
        patience_s = swarm.candidates.patience_s(endpoint)
        try:
            stream = await self._dialler.open(endpoint, swarm.opening(endpoint), patience_s, punch=punch)
        except DialError as error:
            miss = error.miss
            now = trio.current_time()
            if error.ours:
                swarm.dial_put_off(endpoint, now)
            else:
                no_handshake = miss is Miss.NO_HANDSHAKE
                swarm.dial_failed(endpoint, now, timed_out=miss is Miss.SILENT, no_handshake=no_handshake)
                if no_handshake:
                    self._tell_departure(PeerDropped(endpoint, str(error), banned=False))
            self._alarm.set()
            return
        self._alarm.set()
        peer = swarm.dial_opened(endpoint, trio.current_time(), greeted=True, **_wire_of(stream))
        if peer is None:
            stream.close()
        else:
            await self._converse(peer, stream)

    async def _converse(self, peer: Peer, stream: Stream) -> None:
        link = self._links[peer] = _Link(stream)
        link.bell.set()
        try:
            with link.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, peer, link)
                    await self._read(peer, link)
        finally:
            del self._links[peer]
            stream.close()

    async def _read(self, peer: Peer, link: _Link) -> None:
        swarm, connection = self.swarm, peer.connection
        while not peer.gone:
            if swarm.congested:
                if self._room.is_set():
                    self._room = trio.Event()
                await self._room.wait()
            limit = await self._down.allowance()
            try:
                count, landing = await self._receive(peer, link, limit)
            except NetworkError as error:
                swarm.lost(peer, str(error), trio.current_time())
                break
            now = trio.current_time()
            if not count:
                swarm.lost(peer, "the peer closed the connection", now)
                break
            link.blocks = count // FRAME_BYTES
            self._down.take(count, now)
            try:
                events = connection.received(count, now) if landing is None else connection.landed(landing, count, now)
            except ProtocolError as error:
                swarm.breached(peer, error, now)
                break
            if events:
                swarm.receive(peer, events, now)
                self.settle()
        self.settle()
        link.scope.cancel()

    async def _receive(self, peer: Peer, link: _Link, limit: int) -> tuple[int, Landing | None]:
        """Waits for bytes: to where their blocks belong, where blocks flow, else to the connection's own buffer."""
        stream, connection = link.stream, peer.connection
        if link.blocks < MIN_LANDING or limit < LARGE_BYTES or link.scatter is None or not link.scatter.scatters:
            return await stream.receive_into(connection.buffer()[:limit]), None
        scatter = link.scatter
        while True:
            await scatter.readable()
            # What is due is looked up when it is there: meanwhile another peer may have sent the same.
            landing = self.swarm.landing(peer, min(2 * link.blocks, MAX_LANDING))
            buffers = None if landing is None else connection.scattered(landing)
            if buffers is None:
                landing, buffers = None, [connection.buffer()]
            count = scatter.receive_scattered(buffers)
            if count is not None:
                return count, landing

    async def _write(self, peer: Peer, link: _Link) -> None:
        swarm, connection, stream = self.swarm, peer.connection, link.stream
        while not peer.gone:
            link.bell = trio.Event()
            buffers = connection.outgoing()
            if not buffers and peer.queue:
                room = self._up.room(trio.current_time())
                if not room:
                    await self._up.wait(link.bell)  # of blocks alone: haves and the like go at once
                    continue
                await self._read_for(peer, room)
                buffers = connection.outgoing()
            if not buffers:
                await link.bell.wait()
                continue
            try:
                await stream.send_all(buffers)
            except NetworkError as error:
                swarm.lost(peer, str(error), trio.current_time())
                self.settle()

    async def _read_for(self, peer: Peer, most_bytes: int) -> None:
        """Reads the next blocks that a peer asked for into its outbox."""
        assert self._store is not None
        batch = self.swarm.uploads(peer, most_bytes)
        if not batch:
            return
        try:
            data = await self._store.read_many(batch)
        except DiskError as error:
            self.swarm.not_uploaded(peer, batch)
            self._unreadable(error, {index for index, _, _ in batch})
            return
        self.swarm.uploaded(peer, batch, data)
        self._up.take(sum(length for _, _, length in batch), trio.current_time())

    # --- the disk

    async def _put_waiting(self) -> None:
        """Stores what waits, a batch after the other, until nothing does."""
        assert self._store is not None
        try:
            while batch := self._next_batch():
                outcomes = await self._store.put_many([(job.index, job.data) for job in batch])
                kept_out = []
                for job, outcome in zip(batch, outcomes, strict=True):
                    if isinstance(outcome, DiskError):
                        self._fail(outcome)
                        kept_out.append(job.index)
                    elif isinstance(outcome, MetainfoError):
                        self._contradiction = outcome
                        self._failed.set()
                    else:
                        self.swarm.piece_stored(job.index, outcome, trio.current_time())
                self._tell_news()
                if kept_out:
                    self.settle()
                    await trio.sleep(RETRY_S)  # they count as unwritten meanwhile, so that little more is asked for
                    for index in kept_out:
                        self.swarm.piece_kept_out(index, trio.current_time())
                elif self._failure is not None:  # the disk takes again
                    self._failure = None
                    self._failed = trio.Event()
                self.settle()
        finally:
            self._stores -= 1

    def _may_store(self) -> bool:
        """The first at once; another where so much waits that it is worth a thread's hop of its own."""
        waiting = self._waiting_jobs
        return not self._stores or (
            self._stores < STORES_AT_ONCE and len(waiting) * len(waiting[0].data) >= STORE_MORE_BYTES
        )

    def _next_batch(self) -> list[PieceJob]:
        batch: list[PieceJob] = []
        room = STORE_BATCH_BYTES
        while self._waiting_jobs and (not batch or len(self._waiting_jobs[0].data) <= room):
            batch.append(self._waiting_jobs.popleft())
            room -= len(batch[-1].data)
        return batch

    def _fail(self, error: DiskError) -> None:
        self._failure = error
        self._failed.set()
        self._tell_news()

    def _tell_news(self) -> None:
        self._stored_one.set()
        self._stored_one = trio.Event()

    def _unreadable(self, error: DiskError, pieces: set[int]) -> None:
        """What we said that we have cannot be read: peers are told, it is fetched again, and who waits is told why."""
        ended = self.swarm.finished  # nothing is left to be done but to serve, and that cannot be
        for index in sorted(pieces):
            self.swarm.piece_lost(index, trio.current_time())
        self._fail(error)
        if ended and self._nursery is not None:
            self._nursery.cancel_scope.cancel()
            return
        self.settle()


async def _first(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _wire_of(stream: Stream) -> dict[str, bool]:
    """What others may be told of the wire to a peer (BEP 11)."""
    if not isinstance(stream, SecureStream):
        return {}
    return {"over_utp": stream.over_utp, "encrypted": stream.encrypted}
