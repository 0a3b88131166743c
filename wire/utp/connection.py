"""One uTP connection without I/O: packets in, packets out; bytes in, bytes out (BEP 29).

Packets are acknowledged once a batch, not each: `outgoing` is called after what lay in the socket was read.
Nothing but the answer to its SYN is sent to an address that has not shown, by acknowledging our random
sequence number, that it receives what we send. All buffers are bounded: what is beyond is not accepted
(`write`), not advertised (the window), or dropped (data far ahead).
"""

from __future__ import annotations

import enum
import random

from wire.compact import Endpoint
from wire.utp.inbound import Inbound
from wire.utp.outbound import Head, Outbound
from wire.utp.packet import Kind, Packet, pack

__all__ = ["Ended", "UtpConnection"]

_MAX_SYNS = 3
_MAX_RESENDS = 10
"""Unanswered time-outs in a row before the peer is given up: about half a minute."""
_KEEP_ALIVE_S = 29.0
"""NAT boxes forget a silent UDP flow after 30 s and more (RFC 4787 wants 120 s)."""
_HALF_OPEN_S = 10.0
"""Time for the dialler's first data to be lost and sent again, and again."""
_NEWS_S = 1.0
_MAX_NEWS_S = 16.0
"""That there is room again is repeated after a second and, more and more rarely, up to 16 s: libtorrent never asks."""
_LINGER_S = 30.0
"""How long a closed connection goes on with what was still to be sent, before it is forgotten."""
_NEVER = float("inf")


class Ended(enum.Enum):
    """Why a connection is over."""

    CLOSED = "closed"
    RESET = "reset by the peer"
    TIMED_OUT = "the peer does not answer"


class _State(enum.Enum):
    SYN_SENT = enum.auto()
    SYN_RECEIVED = enum.auto()
    OPEN = enum.auto()
    ENDED = enum.auto()


_OPEN = _State.OPEN  # an enum's members cost a call each in Python 3.11
_DATA, _FIN, _RESET = Kind.DATA, Kind.FIN, Kind.RESET


class UtpConnection:
    """A stream to one peer. `dial` begins as the one that connects, `answer` as the one that was dialled."""

    __slots__ = (
        "_closing",
        "_control",
        "_fin_sent",
        "_half_open_until",
        "_heard_at",
        "_heard_stamp_us",
        "_idle_at",
        "_inbound",
        "_news_ack",
        "_news_at",
        "_news_s",
        "_outbound",
        "_send_id",
        "_state",
        "ended",
        "receive_id",
        "remote",
    )

    def __init__(self, remote: Endpoint, receive_id: int, send_id: int, seq: int, state: _State, now: float) -> None:
        """For `dial` and `answer`."""
        self.remote = remote
        self.receive_id = receive_id
        self.ended: Ended | None = None
        self._send_id = send_id
        self._state = state
        self._inbound = Inbound()
        self._outbound = Outbound(remote, seq)
        self._half_open_until = now + _HALF_OPEN_S
        self._heard_stamp_us: int | None = None
        """The peer's clock in its last packet, and ours when that came."""
        self._heard_at = now
        self._idle_at = now + _KEEP_ALIVE_S
        self._news_at: float | None = None
        """When the news that there is room again is to be repeated, unless data behind `_news_ack` have come."""
        self._news_ack = 0
        self._news_s = _NEWS_S
        self._closing = False
        self._fin_sent = False
        self._control: list[bytes] = []

    @classmethod
    def dial(cls, remote: Endpoint, receive_id: int, rng: random.Random, now: float) -> UtpConnection:
        """Begins a connection: a SYN lies in `outgoing`."""
        # The BEP begins with 1. A random number, as libutp and libtorrent have it, is one that nobody can acknowledge
        # who does not see our packets: who names somebody else's address to us cannot open a connection in his name.
        made = cls(remote, receive_id, (receive_id + 1) & 0xFFFF, rng.getrandbits(16), _State.SYN_SENT, now)
        made._outbound.number(Kind.SYN)
        return made

    @classmethod
    def answer(cls, remote: Endpoint, syn: Packet, rng: random.Random, now: float) -> UtpConnection:
        """Answers a SYN. Until the peer proves its address, only that answer is sent."""
        send_id = syn.connection_id
        made = cls(remote, (send_id + 1) & 0xFFFF, send_id, rng.getrandbits(16), _State.SYN_RECEIVED, now)
        made._inbound.ack = syn.seq
        made._inbound.must_ack = True
        made._heard_stamp_us = syn.timestamp_us
        return made

    @property
    def connected(self) -> bool:
        """The other side has shown that it is there, and nothing ended it."""
        return self._state is _OPEN

    @property
    def at_end(self) -> bool:
        """All that the peer sent before its end was read, and nothing more comes."""
        inbound = self._inbound
        return not inbound.readable and (self.ended is not None or inbound.finished)

    @property
    def readable(self) -> bool:
        """`read_into` gives something, if only the news of the end."""
        return self._inbound.readable or self.at_end

    @property
    def writable(self) -> bool:
        """`write` takes something now."""
        return self._state is _OPEN and not self._closing and self._outbound.has_room

    @property
    def datagram_bytes(self) -> int:
        """The largest datagram that is known to arrive on this path."""
        return self._outbound.mtu.size

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory for both directions."""
        return self._inbound.held_bytes + self._outbound.held_bytes

    # the bytes

    def read_into(self, buffer: memoryview) -> int:
        """Moves received bytes into `buffer`; 0 where there are none."""
        return self._inbound.read_into(buffer)

    @property
    def has_news(self) -> bool:
        """Reading made room that the peer should be told of."""
        return self._inbound.must_ack

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Takes as much of `data` as there is room for, without copying: it must not change any more."""
        return self._outbound.write(data) if self.writable else 0

    def close(self, now: float) -> None:
        """Sends what is still to be sent, then the end, for a while. Nothing can be written or read any more."""
        if not self._closing:
            self._closing = self._inbound.deaf = True
            self._idle_at = now + _LINGER_S
        if self._state in (_State.SYN_SENT, _State.SYN_RECEIVED):
            self._end(Ended.CLOSED)

    def abort(self) -> None:
        """Ends at once and says so to a peer that is there."""
        if self._state is _OPEN:
            self._control.append(pack(Kind.RESET, self._send_id, 0, 0, 0, self._outbound.seq, self._inbound.ack))
        if self._state is not _State.ENDED:
            self._end(Ended.CLOSED)

    # packets in

    def receive_next(self, seq: int, ack: int, window_bytes: int, stamp_us: int, datagram: bytes, now: float) -> bool:
        """The usual packet of a download, cheaply: the next data, without extensions, that acknowledge nothing new.

        False: it is something else, and nothing was done with its data.
        """
        outbound = self._outbound
        if (
            self._state is not _OPEN
            or ack != outbound.heard_ack
            or not outbound.window_told(window_bytes)
            or not self._inbound.accept_next(seq, datagram)
        ):
            return False
        self._heard_stamp_us, self._heard_at = stamp_us, now
        return True

    def receive(self, packet: Packet, now: float) -> None:
        """Takes a packet of this connection; what does not fit is ignored."""
        kind = packet.kind
        if kind is _RESET:
            self.reset_by_peer(packet.ack)
            return
        if self._state is not _OPEN and not self._opens(packet):
            return
        outbound = self._outbound
        if not outbound.can_be_acked(packet.ack):
            return
        self._heard_stamp_us, self._heard_at = packet.timestamp_us, now
        outbound.acknowledged(packet, now)
        if kind is _DATA or kind is _FIN:
            self._inbound.accept(packet.seq, packet.payload, fin=kind is _FIN)
        if self._fin_sent and outbound.is_empty:
            if self._inbound.must_ack:  # the peer ends too, and need not ask again
                self._control.append(self._state_packet(self._head(now)))
            self._end(Ended.CLOSED)

    def _opens(self, packet: Packet) -> bool:
        """Whether a packet that comes before the connection is open opens it, or ends it."""
        if self._state is _State.SYN_SENT:
            if packet.ack != (self._outbound.seq - 1) & 0xFFFF or packet.kind is not Kind.STATE:
                return False
            # Its own first data packet will have the number that its answer shows.
            self._inbound.ack = (packet.seq - 1) & 0xFFFF
        elif self._state is _State.SYN_RECEIVED:
            if packet.ack != (self._outbound.seq - 1) & 0xFFFF:
                return False  # it has not seen our random number: the address may be forged
        else:
            return False
        self._state = _OPEN
        return True

    def reset_by_peer(self, ack: int) -> None:
        """The peer ends it, or does not know it any more. Who does not see our packets cannot say so in its name."""
        if self._state is not _State.ENDED and self._outbound.can_be_reset(ack):
            self._end(Ended.RESET)

    def repeat_syn(self) -> None:
        """Its SYN came again: our answer got lost."""
        if self._state is not _State.ENDED:
            self._inbound.must_ack = True

    # time

    def next_timer(self) -> float:
        """When `tick` is wanted."""
        if self._state is _State.SYN_RECEIVED:
            return self._half_open_until
        at = self._idle_at if self._state is _OPEN else _NEVER
        if (overdue_at := self._outbound.timeout_at) is not None:
            at = min(overdue_at, self._idle_at)
        return at if self._news_at is None else min(at, self._news_at)

    def tick(self, now: float) -> None:
        """Sends again what was not answered in time; gives a silent peer up."""
        if self._state is _State.ENDED:
            return
        if self._state is _State.SYN_RECEIVED:
            if now >= self._half_open_until:
                self._end(Ended.TIMED_OUT)
            return
        if self._news_at is not None and now >= self._news_at:
            self._repeat_news(now)
        outbound = self._outbound
        if outbound.timeout_at is None or now < outbound.timeout_at:
            if now >= self._idle_at and self._closing:
                self._end(Ended.CLOSED)
            elif now >= self._idle_at:
                self._idle_at = now + _KEEP_ALIVE_S
                self._inbound.must_ack = self._state is _OPEN
            return
        outbound.timeouts += 1
        if outbound.timeouts >= (_MAX_SYNS if self._state is _State.SYN_SENT else _MAX_RESENDS):
            self._end(Ended.TIMED_OUT)
        else:
            outbound.overdue(now)

    def _repeat_news(self, now: float) -> None:
        if self._inbound.ack != self._news_ack or self._news_s > _MAX_NEWS_S:
            self._news_at = None
            return
        self._inbound.must_ack = True
        self._news_s *= 2
        self._news_at = now + self._news_s

    def _told(self, window_bytes: int, now: float) -> None:
        if self._inbound.told(window_bytes):
            self._news_ack, self._news_s = self._inbound.ack, _NEWS_S
            self._news_at = now + _NEWS_S

    # packets out

    def outgoing(self, now: float) -> list[bytes]:
        """The datagrams to be sent now."""
        out = self._control
        self._control = []
        if self._state is _State.ENDED:
            return out
        inbound, outbound = self._inbound, self._outbound
        head = self._head(now)
        window = head.window_bytes
        outbound.collect_lost(out, head, now)
        outbound.collect_numbered(out, head, now)
        if self._state is _OPEN:
            if outbound.unsent_bytes:
                outbound.collect_data(out, head, now, last=self._closing)
            if self._closing and not outbound.unsent_bytes and not self._fin_sent:
                self._fin_sent = True
                outbound.number(Kind.FIN)
                outbound.collect_numbered(out, head, now)
        if out and not inbound.has_holes:
            self._told(window, now)  # each packet carries the ack; only a selective one needs a packet of its own
        if inbound.must_ack:
            out.append(self._state_packet(head))
            self._told(window, now)
        if out and not self._closing:
            self._idle_at = now + _KEEP_ALIVE_S
        return out

    def _head(self, now: float) -> Head:
        """What all packets say now. The delay is 0 until something was heard."""
        stamp, heard = int(now * 1e6) & 0xFFFFFFFF, self._heard_stamp_us
        delay = 0 if heard is None else (int(self._heard_at * 1e6) - heard) & 0xFFFFFFFF
        return Head(self._send_id, stamp, delay, self._inbound.window_bytes(), self._inbound.ack)

    def _state_packet(self, head: Head) -> bytes:
        return pack(Kind.STATE, *head[:4], self._outbound.seq, head.ack, sack=self._inbound.sack())

    def _end(self, why: Ended) -> None:
        self._state = _State.ENDED
        self.ended = why
        self._outbound.forget()
        self._inbound.forget()
