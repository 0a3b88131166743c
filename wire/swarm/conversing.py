"""The connections of a running swarm: dialled or accepted, read, written, closed. A trio shell.

What is said on them, and whom to dial, is decided in `rules`. Slow disks stop the readers, slow peers stop their own
uploads (bounded outboxes).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import trio

from wire.compact import Endpoint
from wire.dialler import DialError, Dialler, Miss
from wire.errors import DiskError, NetworkError, ProtocolError
from wire.limits import TokenBucket
from wire.net import Stream, scattering
from wire.peer.connection import PeerConnection
from wire.peer.landing import FRAME_BYTES, MAX_LANDING, Landing
from wire.peer.messages import Event
from wire.peer.receive_buffer import LARGE_BYTES
from wire.peer.shipment import Shipment
from wire.secure import SecureStream
from wire.swarm.peer import Peer
from wire.swarm.rules import Swarm
from wire.swarm.storing import Storing
from wire.swarm.throttle import Throttle
from wire.swarm.values import PeerDropped

__all__ = ["Conversing"]

MIN_LANDING = 2
"""Blocks in one read, from which on the next are received straight to where they belong."""
SPARE_S = 2.0
"""Memory for blocks goes when none went out from it for so long."""


class _Link:
    """The stream of one peer, and the bell that wakes its writer, once it has one."""

    __slots__ = ("bell", "blocks", "has_writer", "scatter", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.scatter = scattering(stream)
        self.blocks = 0
        """Whole blocks that fit into what the last read brought."""
        self.has_writer = False
        self.bell = trio.Event()


class Conversing(Storing):
    """The peers' side of a running swarm. `wire.swarm.run.SwarmRunner` adds the clock, and what its owner wants."""

    def __init__(
        self,
        swarm: Swarm,
        dialler: Dialler,
        down: TokenBucket | None,
        up: TokenBucket | None,
        departures: trio.MemorySendChannel[PeerDropped] | None,
    ) -> None:
        super().__init__(swarm)
        self._dialler = dialler
        self._departures = departures
        self._down = Throttle(down)
        self._up = Throttle(up)
        self._links: dict[Peer, _Link] = {}
        self._alarm = trio.Event()
        """Rings where the clock is to look at the brain before its time, which is `_wakes_at`."""
        self._wakes_at = 0.0
        self._room = trio.Event()
        self._spare: Shipment | None = None
        """Memory that blocks went out from: the system mostly takes all at once, so it serves all writers in turn."""
        self._spare_at = 0.0

    def _drop_spare(self, now: float) -> None:
        """Who serves nobody keeps no memory for it."""
        if now - self._spare_at > SPARE_S:
            self._spare = None

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
            self._look_sooner(trio.current_time())
        self.settle()

    def _tell_departure(self, gone: PeerDropped) -> None:
        if self._departures is not None:
            with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self._departures.send_nowait(gone)

    def _dial_due(self, now: float) -> None:
        """Dials whom the brain wants to dial now."""
        if (nursery := self._nursery) is not None:
            while (endpoint := self.swarm.next_dial(now)) is not None:
                nursery.start_soon(self._dial, endpoint, nursery)

    async def _dial(self, endpoint: Endpoint, nursery: trio.Nursery, punch: bool = False) -> None:
        swarm = self.swarm
        patience_s = swarm.candidates.patience_s(endpoint)
        try:
            stream = await self._dialler.open(endpoint, swarm.opening(endpoint), patience_s, nursery, punch=punch)
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
            self._look_sooner(now)
            return
        now = trio.current_time()
        peer = swarm.dial_opened(endpoint, now, greeted=True, **_wire_of(stream))
        self._look_sooner(now)
        if peer is None:
            stream.close()
        else:
            await self._converse(peer, stream)

    async def _converse(self, peer: Peer, stream: Stream) -> None:
        link = self._links[peer] = _Link(stream)
        try:
            self._write_out(peer)
            await self._read(peer, link)
        finally:
            del self._links[peer]
            link.bell.set()
            stream.close()  # and so a writer ends too

    def _write_out(self, peer: Peer) -> None:
        """Sends what lies in a peer's outbox. What does not go at once, and blocks, are the business of a writer."""
        link = self._links.get(peer)
        if link is None:
            return
        stream = link.stream
        if link.has_writer:
            link.bell.set()
            return
        if not peer.queue and isinstance(stream, SecureStream):
            try:
                if stream.send_now(peer.connection.outgoing()):
                    return
            except NetworkError as error:
                self.swarm.lost(peer, str(error), trio.current_time())
                return
        if self._nursery is not None:
            link.has_writer = True
            self._nursery.start_soon(self._write, peer, link)

    def _hang_up(self, peer: Peer) -> None:
        """The brain has dropped a peer: whoever waits at its stream is told by that."""
        if (link := self._links.get(peer)) is not None:
            link.bell.set()
            link.stream.close()
            self._room.set()

    def _look_sooner(self, now: float) -> None:
        """Wakes the clock where its next look has come nearer."""
        if self.swarm.next_timer(now) < self._wakes_at:
            self._alarm.set()

    async def _read(self, peer: Peer, link: _Link) -> None:
        swarm, connection = self.swarm, peer.connection
        while not peer.gone:
            while swarm.congested and not peer.gone:
                if self._room.is_set():
                    self._room = trio.Event()
                await self._room.wait()
            limit = await self._down.allowance()
            try:
                count, landing = await self._receive(peer, link, limit)
            except NetworkError as error:
                swarm.lost(peer, str(error), trio.current_time())
                break
            if peer.gone:
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
            if events or connection.outgoing_bytes:  # some requests it refuses by itself
                swarm.receive(peer, events, now)
                self.settle()
        self.settle()

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
        left = isinstance(stream, SecureStream) and not stream.has_sent_all
        lets_go = isinstance(stream, SecureStream) and stream.lets_go
        while not peer.gone:
            link.bell = trio.Event()
            buffers = connection.outgoing()
            shipment: Shipment | None = None
            if not buffers and peer.queue and not left:
                room = self._up.room(trio.current_time())
                if not room:
                    await self._up.wait(link.bell)  # of blocks alone: haves and the like go at once
                    continue
                await trio.lowlevel.checkpoint()  # all that follows may go without waiting: others have their turn
                shipment = await self._read_for(peer, room)
                buffers = connection.outgoing()
            if not buffers and not left:
                await link.bell.wait()
                continue
            left = False
            try:
                await stream.send_all(buffers)
            except NetworkError as error:
                swarm.lost(peer, str(error), trio.current_time())
                self.settle()
            if lets_go and shipment is not None:
                self._spare, self._spare_at = shipment, trio.current_time()

    async def _read_for(self, peer: Peer, most_bytes: int) -> Shipment | None:
        """Reads the next blocks that a peer asked for; they go out from the memory that it gives."""
        batch = self.swarm.uploads(peer, most_bytes)
        if not batch:
            return None
        shipment = self._spare or Shipment()
        self._spare = None
        try:
            await self.read(batch, shipment.lay(batch))
        except DiskError:
            self.swarm.not_uploaded(peer, batch)
            return None
        self.swarm.uploaded(peer, batch, shipment.frames)
        self._up.take(sum(length for _, _, length in batch), trio.current_time())
        return shipment


def _wire_of(stream: Stream) -> dict[str, bool]:
    """What others may be told of the wire to a peer (BEP 11)."""
    if not isinstance(stream, SecureStream):
        return {}
    return {"over_utp": stream.over_utp, "encrypted": stream.encrypted}
