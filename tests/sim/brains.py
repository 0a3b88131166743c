"""Whole swarms without trio: the brains of many torrents' peers, joined by pipes over an event heap.

A pipe has a delay and a rate. Time is a number that jumps from event to event; with one seed everything that is sent
is the same each time (`World.digest`). Faults: a brain may corrupt what it hands out, fall silent, or die.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence

from tests.reading import shipped
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.ids import make_peer_id
from wire.metainfo import Info
from wire.peer.connection import PeerConnection
from wire.peer.messages import BLOCK_BYTES, HandshakeReceived
from wire.swarm.peer import Peer
from wire.swarm.pieces import BlockId
from wire.swarm.rules import Swarm
from wire.swarm.values import Finished, MetadataComplete, PeerDropped, Settings

Corrupt = Callable[[int, int, bytes], bytes]


class World:
    """The time, the heap and the brains in it."""

    def __init__(self, seed: int = 1, *, delay_s: float = 0.02, rate_bytes_s: float = 2e6) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self.delay_s = delay_s
        self.rate_bytes_s = rate_bytes_s
        self.brains: dict[Endpoint, Brain] = {}
        self.sent = hashlib.sha256()
        self.sent_bytes = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._order), action))

    def _next_host(self) -> str:
        high, low = divmod(len(self.brains), 256)
        return f"80.{high}.{low}.1"

    def brain(
        self, info: Info, data: bytes | None = None, *, up_bytes_s: float | None = None, **settings: object
    ) -> Brain:
        """A peer of its own address. With `data` it is a seed; `up_bytes_s` is its line, shared by all it sends."""
        brain = Brain(self, self._next_host(), info, data, knows=True, **settings)
        brain.up_bytes_s = up_bytes_s
        return brain

    def magnet(self, info: Info, **settings: object) -> Brain:
        """A peer that knows the info-hash alone."""
        return Brain(self, self._next_host(), info, None, knows=False, **settings)

    def introduce(self, *brains: Brain) -> None:
        """Tells each of all the others."""
        for one in brains:
            for other in brains:
                if other is not one:
                    one.swarm.found(other.endpoint, "dht", self.now)
            one.wake()

    def run(self, until: Callable[[], bool], limit_s: float = 600.0) -> float:
        """Runs until it holds; returns the seconds that took. Fails after `limit_s`."""
        began = self.now
        while not until():
            assert self._heap, "nothing will ever happen again"
            when, _, action = heapq.heappop(self._heap)
            assert when - began < limit_s, [brain.swarm.stats() for brain in self.brains.values()]
            self.now = max(self.now, when)
            action()
        return self.now - began

    def pass_time(self, seconds: float) -> None:
        """Lets time go by."""
        end = self.now + seconds
        self.at(end, lambda: None)
        self.run(lambda: self.now >= end, limit_s=seconds + 1.0)


class _Pipe:
    """One direction."""

    def __init__(self, world: World, of: Brain, to: _End) -> None:
        self.world = world
        self.of = of
        self.to = to
        self._free_at = 0.0

    @property
    def free_at(self) -> float:
        return self._free_at if self.of.has_own_line else self.of.line_free_at

    def put(self, data: bytes) -> None:
        world = self.world
        world.sent.update(data)
        world.sent_bytes += len(data)
        if self.of.has_own_line:
            self._free_at = max(self._free_at, world.now) + len(data) / world.rate_bytes_s
        else:
            self.of.line_free_at = max(self.of.line_free_at, world.now) + len(data) / self.of.up_bytes_s
        world.at(self.free_at + world.delay_s, lambda: self.to.deliver(data))


class _End:
    """One end of a connection: a peer as one brain sees it, or a handshake that is still waited for."""

    def __init__(self, brain: Brain, remote: Endpoint) -> None:
        self.brain = brain
        self.remote = remote
        self.peer: Peer | None = None
        self.connection: PeerConnection | None = None
        self.out: _Pipe | None = None
        self.closed = False
        self.poked_at = 0.0
        self.buffered: list[BlockId] = []
        """Of a brain that gives in bursts: read to be sent, whatever the peer takes back."""

    def deliver(self, data: bytes) -> None:
        brain, now = self.brain, self.brain.world.now
        if self.closed or brain.dead or self.connection is None:
            return
        at = 0
        while at < len(data) and not self.closed:
            buffer = self.connection.buffer()
            part = data[at : at + len(buffer)]
            buffer[: len(part)] = part
            at += len(part)
            try:
                events = self.connection.received(len(part), now)
            except ProtocolError as error:
                if self.peer is None:
                    self.close()
                else:
                    brain.swarm.breached(self.peer, error, now)
                break
            if self.peer is not None:
                brain.swarm.receive(self.peer, events, now)
            elif any(isinstance(event, HandshakeReceived) for event in events):
                self.peer = brain.swarm.accept(self.remote, self.connection, events, now)
                if self.peer is None:
                    self.close()
                else:
                    brain.ends[self.peer] = self
        brain.wake()

    def flush(self) -> None:
        """Sends what lies in the outbox, and what may be uploaded without queueing in the pipe."""
        peer, brain = self.peer, self.brain
        assert peer is not None
        assert self.out is not None
        assert self.connection is not None
        while not self.closed:
            data = b"".join(bytes(part) for part in self.connection.outgoing())
            if data:
                self.out.put(data)
            if brain.silent or not (peer.queue or self.buffered):
                return
            if brain.burst_s:
                self._flush_burst(peer)
                return
            if self.out.free_at > brain.world.now + 0.05:
                if self.poked_at < self.out.free_at:
                    self.poked_at = self.out.free_at
                    brain.world.at(self.out.free_at, lambda: None if brain.dead or self.closed else self.flush())
                return
            self._give(peer, brain.swarm.uploads(peer, 1 << 16 if brain.up_bytes_s is None else 1 << 14))

    def _give(self, peer: Peer, batch: Sequence[BlockId]) -> None:
        blocks = []
        for index, begin, length in batch:
            block = bytes(self.brain.pieces[index][begin : begin + length])
            blocks.append(self.brain.corrupt(index, begin, block) if self.brain.corrupt else block)
        self.brain.swarm.uploaded(peer, batch, shipped(batch, blocks))

    def _flush_burst(self, peer: Peer) -> None:
        """Sends what the burst allows; fills what is read ahead to as much as one burst."""
        brain = self.brain
        assert brain.up_bytes_s is not None
        assert self.out is not None
        assert self.connection is not None
        room = brain.up_bytes_s * brain.burst_s
        while True:
            while peer.queue and len(self.buffered) * BLOCK_BYTES < room:
                self.buffered += brain.swarm.uploads(peer, 1)
            if not self.buffered or brain.burst_left <= 0.0:
                return
            self._give(peer, [self.buffered.pop(0)])
            data = b"".join(bytes(part) for part in self.connection.outgoing())
            brain.burst_left -= len(data)
            self.out.put(data)

    def close(self) -> None:
        """Closes this end; the other hears of it."""
        if self.closed:
            return
        self.closed = True
        if self.out is not None:
            other, world = self.out.to, self.brain.world
            world.at(max(world.now, self.out.free_at) + world.delay_s, other.lost)

    def lost(self) -> None:
        if not self.closed:
            self.closed = True
            if self.peer is not None and not self.brain.dead:
                self.brain.swarm.lost(self.peer, "closed", self.brain.world.now)
                self.brain.wake()


class Brain:
    """One torrent's brain with its pieces in memory."""

    def __init__(
        self, world: World, host: str, info: Info, data: bytes | None, *, knows: bool, **settings: object
    ) -> None:
        self.world = world
        self.info = info
        self.endpoint = Endpoint(host, 6881)
        self.pieces: dict[int, bytes] = {}
        self.ends: dict[Peer, _End] = {}
        self.up_bytes_s: float | None = None
        self.line_free_at = 0.0
        self.burst_s = 0.0
        """It gives what `up_bytes_s` allows so often at once, and takes as much from its queues ahead of that."""
        self.burst_left = 0.0
        self.corrupt: Corrupt | None = None
        self.silent = False
        """It reads and answers, and never hands out a block."""
        self.dead = False
        self.finished_at: float | None = None
        self.drops: list[PeerDropped] = []
        self.wrong: Counter[int] = Counter()
        self.taken: Counter[int] = Counter()
        """How often each piece was stored."""
        self.peak_open = 0
        rng = random.Random(world.rng.getrandbits(64))
        self.swarm = Swarm(
            info.info_hash,
            peer_id=make_peer_id(rng),
            rng=rng,
            now=world.now,
            info=info if knows else None,
            settings=Settings(listen_port=6881, **settings),  # type: ignore[arg-type]
        )
        world.brains[self.endpoint] = self
        if knows:
            have = Bitfield(info.piece_count)
            if data is not None:
                have = Bitfield.full(info.piece_count)
                for index in range(info.piece_count):
                    start = index * info.piece_length
                    self.pieces[index] = data[start : start + info.piece_size(index)]
            self.swarm.begin(have, None, world.now)
        self._armed = float("inf")
        self.wake()

    @property
    def done(self) -> bool:
        return self.finished_at is not None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces[index] for index in range(self.info.piece_count))

    @property
    def has_own_line(self) -> bool:
        """Whether what it sends to one peer takes no time from what it sends to others."""
        return self.up_bytes_s is None or self.burst_s > 0.0

    def give_in_bursts(self, every_s: float, first_at: float) -> None:
        """Limits what it gives as libtorrent does, whose limits are handed out each half second."""
        self.burst_s = every_s
        self.world.at(first_at, self._burst)

    def _burst(self) -> None:
        assert self.up_bytes_s is not None
        if self.dead:
            return
        self.burst_left = min(self.burst_left, 0.0) + self.up_bytes_s * self.burst_s
        for end in list(self.ends.values()):
            end.flush()
        self.world.at(self.world.now + self.burst_s, self._burst)

    def die(self) -> None:
        """Its streams break and it is not heard of again."""
        self.dead = True
        for end in list(self.ends.values()):
            end.close()

    def hang_up(self) -> None:
        """Closes all its streams; it may be dialled again."""
        for peer in list(self.ends):
            self.swarm.lost(peer, "hung up", self.world.now)
        self.wake()

    def wake(self) -> None:
        """Lets the brain do what is due, and its shell what the brain decided."""
        if self.dead:
            return
        world, swarm = self.world, self.swarm
        swarm.tick(world.now)
        while (endpoint := swarm.next_dial(world.now)) is not None:
            self._dial(endpoint)
        for event in swarm.events():
            if isinstance(event, MetadataComplete):
                swarm.begin(Bitfield(event.info.piece_count), None, world.now)
            elif isinstance(event, PeerDropped):
                self.drops.append(event)
            elif isinstance(event, Finished):
                self.finished_at = world.now
        for job in swarm.piece_jobs():
            ok = hashlib.sha1(job.data).digest() == self.info.piece_hash(job.index)
            if ok:
                self.taken[job.index] += 1
                self.pieces[job.index] = bytes(job.data)
            else:
                self.wrong[job.index] += 1
            world.at(world.now + 0.001, lambda index=job.index, ok=ok: self._stored(index, ok))
        for peer in swarm.outboxes():
            if peer in self.ends:
                self.ends[peer].flush()
        for peer in swarm.dropped():
            if peer in self.ends:
                self.ends.pop(peer).close()
        self._arm()

    def _arm(self) -> None:
        due = max(self.swarm.next_timer(self.world.now), self.world.now + 0.001)
        if due < self._armed or self._armed <= self.world.now:
            self._armed = due
            self.world.at(due, lambda: self.wake() if self._armed == due else None)

    def _stored(self, index: int, ok: bool) -> None:
        if not self.dead:
            self.swarm.piece_stored(index, ok, self.world.now)
            self.wake()

    def _dial(self, to: Endpoint) -> None:
        world = self.world
        other = world.brains.get(to)

        def arrive() -> None:
            if self.dead:
                return
            if other is None or other.dead:
                self.swarm.dial_failed(to, world.now, timed_out=other is None)
            else:
                peer = self.swarm.dial_opened(to, world.now)
                if peer is not None:
                    self._join(peer, other)
            self.wake()

        world.at(world.now + (15.0 if other is None else 2 * world.delay_s), arrive)

    def _join(self, peer: Peer, other: Brain) -> None:
        world = self.world
        near = self.ends[peer] = _End(self, other.endpoint)
        far = _End(other, Endpoint(self.endpoint.host, 40000 + next(world._order) % 20000))
        near.peer, near.connection = peer, peer.connection
        far.connection = PeerConnection(
            peer_id=other.swarm.peer_id,
            info_hash=None,
            extended=other.swarm.handshake(far.remote),
            now=world.now,
        )
        near.out, far.out = _Pipe(world, self, far), _Pipe(world, other, near)
