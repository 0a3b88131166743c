"""All uTP connections of one socket, without I/O: which packet is whose, and who may begin one (BEP 29).

A `wire.udp.Tenant` but for the clock, which its `outgoing` takes as an argument. A SYN costs us one small
object and one small answer; half-open connections are few, the oldest gives way, so a flood of forged ones
only shortens the time that honest ones have.
"""

from __future__ import annotations

import heapq
import random
import struct

from wire.compact import Endpoint
from wire.errors import NetworkError, ProtocolError
from wire.limits import TokenBucket
from wire.utp.connection import UtpConnection
from wire.utp.packet import HEADER_BYTES, Kind, Packet, first_byte, is_utp, pack, parse

__all__ = ["UtpMux"]

MAX_HALF_OPEN = 64
MAX_CONNECTIONS = 1000
_RESETS_PER_S = 20.0
"""Answers to packets of connections that are not here: enough for real ones, useless for reflection."""
_PLAIN_DATA = first_byte(Kind.DATA) << 8
"""The first two bytes of a data packet without extensions, as a number."""
_unpack = struct.Struct(">HHIIIHH").unpack_from
"""A header, the first two bytes as one number."""
_NEVER = float("inf")


class UtpMux:
    """The connections of one UDP socket. Times are monotonic seconds."""

    def __init__(self, rng: random.Random, now: float, *, accept: bool = True) -> None:
        self._rng = rng
        self._accept = accept
        self._connections: dict[tuple[Endpoint, int], UtpConnection] = {}
        self._half_open: dict[tuple[Endpoint, int], UtpConnection] = {}
        self._dirty: dict[tuple[Endpoint, int], UtpConnection] = {}
        self._current: UtpConnection | None = None
        """Whose packet came last, while it is in `_dirty` and nothing needs to be looked up."""
        self._accepted: list[UtpConnection] = []
        self._timers: list[tuple[float, int, tuple[Endpoint, int]]] = []
        """A heap. An entry may be too early, never too late; it is put right when it comes to the top."""
        self._scheduled: dict[tuple[Endpoint, int], float] = {}
        self._order = 0
        self._resets: list[tuple[bytes, Endpoint]] = []
        self._reset_budget = TokenBucket(_RESETS_PER_S, _RESETS_PER_S, now)

    def __len__(self) -> int:
        return len(self._connections) + len(self._half_open)

    def claims(self, first_byte: int) -> bool:
        """Version 1 in the low half of the first byte."""
        return is_utp(first_byte)

    def dial(self, remote: Endpoint, now: float) -> UtpConnection:
        """Begins a connection. Raises NetworkError where there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            raise NetworkError(f"cannot connect to {remote}: too many uTP connections")
        receive_id = self._rng.getrandbits(16)
        while (remote, receive_id) in self._connections or (remote, receive_id) in self._half_open:
            receive_id = (receive_id + 2) & 0xFFFF
        connection = UtpConnection.dial(remote, receive_id, self._rng, now)
        self._connections[remote, receive_id] = connection
        self.touch(connection)
        return connection

    def accepted(self) -> list[UtpConnection]:
        """Connections that others began and that have proved their address, drained."""
        accepted, self._accepted = self._accepted, []
        return accepted

    def changed(self) -> list[UtpConnection]:
        """The connections that a packet, time or `touch` has changed since the last `outgoing`."""
        return list(self._dirty.values())

    def touch(self, connection: UtpConnection) -> None:
        """To be called after anything was done to a connection: it may have something to send."""
        self._dirty[connection.remote, connection.receive_id] = connection

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        """Takes a datagram. Never raises for what is in it."""
        current = self._current
        if current is not None and len(data) > HEADER_BYTES:
            kind, connection_id, stamp_us, _, window_bytes, seq, ack = _unpack(data)
            if (
                kind == _PLAIN_DATA
                and connection_id == current.receive_id
                and address == current.remote
                and current.receive_next(seq, ack, window_bytes, stamp_us, data, now)
            ):
                return
        try:
            packet = parse(data)
        except ProtocolError:
            return
        if packet.kind is Kind.SYN:
            self._syn(packet, address, now)
            return
        key = (address, packet.connection_id)
        connection = self._connections.get(key)
        if connection is not None:
            connection.receive(packet, now)
            self._dirty[key] = self._current = connection
        elif (connection := self._half_open.get(key)) is not None:
            connection.receive(packet, now)
            if connection.connected:
                del self._half_open[key]
                self._connections[key] = connection
                self._accepted.append(connection)
            self._dirty[key] = connection
        else:
            self._unknown(packet, address, now)

    def _syn(self, packet: Packet, address: Endpoint, now: float) -> None:
        key = (address, (packet.connection_id + 1) & 0xFFFF)
        known = self._connections.get(key) or self._half_open.get(key)
        if known is not None:
            known.repeat_syn()
            self._dirty[key] = known
            return
        if not self._accept or len(self._connections) >= MAX_CONNECTIONS:
            return
        if len(self._half_open) >= MAX_HALF_OPEN:
            oldest = next(iter(self._half_open))
            del self._half_open[oldest]
            self._dirty.pop(oldest, None)
        connection = UtpConnection.answer(address, packet, self._rng, now)
        self._half_open[key] = self._dirty[key] = connection

    def _unknown(self, packet: Packet, address: Endpoint, now: float) -> None:
        kind, connection_id = packet.kind, packet.connection_id
        if kind is Kind.RESET:
            # A reset carries the id that its sender received with, which may be ours plus or minus one.
            for offset in (0, 1, -1):
                key = (address, (connection_id + offset) & 0xFFFF)
                connection = self._connections.get(key)
                if connection is not None:
                    connection.reset_by_peer(packet.ack)
                    self._dirty[key] = connection
                    return
        elif kind is not Kind.STATE and self._reset_budget.take(1, now):
            self._resets.append((pack(Kind.RESET, connection_id, 0, 0, 0, 0, packet.seq), address))

    def outgoing(self, now: float) -> list[tuple[bytes, Endpoint]]:
        """The datagrams to be sent, drained; connections that ended are forgotten."""
        out, self._resets = self._resets, []
        dirty, self._dirty = self._dirty, {}
        self._current = None
        for key, connection in dirty.items():
            remote = key[0]
            out += [(datagram, remote) for datagram in connection.outgoing(now)]
            if connection.ended is not None:
                self._connections.pop(key, None)
                self._half_open.pop(key, None)
                self._scheduled.pop(key, None)
            else:
                self._schedule(key, connection.next_timer())
        return out

    def abort_all(self) -> None:
        """Ends every connection and says so to the peers."""
        for key, connection in (*self._connections.items(), *self._half_open.items()):
            connection.abort()
            self._dirty[key] = connection

    # time

    def _schedule(self, key: tuple[Endpoint, int], at: float) -> None:
        if at < self._scheduled.get(key, _NEVER):
            self._scheduled[key] = at
            self._order += 1
            heapq.heappush(self._timers, (at, self._order, key))

    def next_timer(self) -> float | None:
        """When `tick` is wanted."""
        timers = self._timers
        while timers:
            at, _, key = timers[0]
            current = self._scheduled.get(key) == at
            connection = self._connections.get(key) or self._half_open.get(key)
            if current and connection is not None and connection.next_timer() <= at:
                return at
            heapq.heappop(timers)
            if current:
                del self._scheduled[key]
                if connection is not None:
                    self._schedule(key, connection.next_timer())
        return None

    def tick(self, now: float) -> None:
        """Lets each connection do what time brings."""
        while (at := self.next_timer()) is not None and at <= now:
            _, _, key = heapq.heappop(self._timers)
            del self._scheduled[key]
            connection = self._connections.get(key) or self._half_open.get(key)
            if connection is not None:
                connection.tick(now)
                self._dirty[key] = connection  # `outgoing` gives it its next timer
