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
_MAX_RESENDS = 6
"""Unanswered time-outs in a row before the peer is given up: about half a minute."""
_KEEP_ALIVE_S = 29.0
"""NAT boxes forget a silent UDP flow after 30 s and more (RFC 4787 wants 120 s)."""
_HALF_OPEN_S = 10.0
"""Time for the dialler's first data to be lost and sent again, and again."""
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


class UtpConnection:
    """A stream to one peer. `dial` begins as the one that connects, `answer` as the one that was dialled."""

    __slots__ = (
        "_closing",
        "_control",
        "_fin_sent",
        "_half_open_until",
        "_idle_at",
        "_inbound",
        "_outbound",
        "_reply_delay_us",
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
        self._reply_delay_us = 0
        self._idle_at = now + _KEEP_ALIVE_S
        self._closing = False
        self._fin_sent = False
        self._control: list[bytes] = []

    @classmethod
    def dial(cls, remote: Endpoint, receive_id: int, now: float) -> UtpConnection:
        """Begins a connection: a SYN lies in `outgoing`."""
        made = cls(remote, receive_id, (receive_id + 1) & 0xFFFF, 1, _State.SYN_SENT, now)
        made._outbound.number(Kind.SYN)
        return made

    @classmethod
    def answer(cls, remote: Endpoint, syn: Packet, rng: random.Random, now: float) -> UtpConnection:
        """Answers a SYN. Until the peer proves its address, only that answer is sent."""
        send_id = syn.connection_id
        made = cls(remote, (send_id + 1) & 0xFFFF, send_id, rng.getrandbits(16), _State.SYN_RECEIVED, now)
        made._inbound.ack = syn.seq
        made._inbound.must_ack = True
        made._reply_delay_us = (int(now * 1e6) - syn.timestamp_us) & 0xFFFFFFFF
        return made

    @property
    def connected(self) -> bool:
        """The other side has shown that it is there, and nothing ended it."""
        return self._state is _State.OPEN

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
        return self._state is _State.OPEN and not self._closing and self._outbound.has_room

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
        if self._state is _State.OPEN:
            self._control.append(pack(Kind.RESET, self._send_id, 0, 0, 0, self._outbound.seq, self._inbound.ack))
        if self._state is not _State.ENDED:
            self._end(Ended.CLOSED)

    # packets in

    def receive(self, packet: Packet, now: float) -> None:
        """Takes a packet of this connection; what does not fit is ignored."""
        kind = packet.kind
        if self._state is not _State.OPEN and not self._opens(packet):
            return
        if kind is Kind.RESET:
            self._end(Ended.RESET)
            return
        outbound = self._outbound
        if not outbound.can_be_acked(packet.ack):
            return
        self._reply_delay_us = (int(now * 1e6) - packet.timestamp_us) & 0xFFFFFFFF
        outbound.acknowledged(packet, now)
        if self._fin_sent and outbound.is_empty:
            self._end(Ended.CLOSED)
        if kind is Kind.DATA or kind is Kind.FIN:
            self._inbound.accept(packet.seq, packet.payload, fin=kind is Kind.FIN)

    def _opens(self, packet: Packet) -> bool:
        """Whether a packet that comes before the connection is open opens it, or ends it."""
        if self._state is _State.SYN_SENT:
            if packet.ack != 1 or packet.kind not in (Kind.STATE, Kind.RESET):
                return False
            # Its own first data packet will have the number that its answer shows.
            self._inbound.ack = (packet.seq - 1) & 0xFFFF
        elif self._state is _State.SYN_RECEIVED:
            if packet.ack != (self._outbound.seq - 1) & 0xFFFF:
                return False  # it has not seen our random number: the address may be forged
        else:
            return False
        self._state = _State.OPEN
        return True

    def reset_by_peer(self) -> None:
        """The peer does not know this connection any more."""
        if self._state is not _State.ENDED:
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
        overdue_at = self._outbound.timeout_at
        if overdue_at is not None:
            return min(overdue_at, self._idle_at)
        return self._idle_at if self._state is _State.OPEN else _NEVER

    def tick(self, now: float) -> None:
        """Sends again what was not answered in time; gives a silent peer up."""
        if self._state is _State.ENDED:
            return
        if self._state is _State.SYN_RECEIVED:
            if now >= self._half_open_until:
                self._end(Ended.TIMED_OUT)
            return
        outbound = self._outbound
        if outbound.timeout_at is None or now < outbound.timeout_at:
            if now >= self._idle_at and self._closing:
                self._end(Ended.CLOSED)
            elif now >= self._idle_at:
                self._idle_at = now + _KEEP_ALIVE_S
                self._inbound.must_ack = self._state is _State.OPEN
            return
        outbound.timeouts += 1
        if outbound.timeouts >= (_MAX_SYNS if self._state is _State.SYN_SENT else _MAX_RESENDS):
            self._end(Ended.TIMED_OUT)
        else:
            outbound.overdue(now)

    # packets out

    def outgoing(self, now: float) -> list[bytes]:
        """The datagrams to be sent now."""
        out = self._control
        self._control = []
        if self._state is _State.ENDED:
            return out
        inbound, outbound = self._inbound, self._outbound
        window = inbound.window_bytes()
        head = Head(self._send_id, int(now * 1e6) & 0xFFFFFFFF, self._reply_delay_us, window, inbound.ack)
        outbound.collect_lost(out, head, now)
        outbound.collect_numbered(out, head, now)
        if self._state is _State.OPEN:
            if outbound.unsent_bytes:
                outbound.collect_data(out, head, now, last=self._closing)
            if self._closing and not outbound.unsent_bytes and not self._fin_sent:
                self._fin_sent = True
                outbound.number(Kind.FIN)
                outbound.collect_numbered(out, head, now)
        if out and not inbound.has_holes:
            inbound.told(window)  # each packet carries the ack; only a selective one needs a packet of its own
        if inbound.must_ack:
            out.append(pack(Kind.STATE, *head[:4], outbound.seq, inbound.ack, sack=inbound.sack()))
            inbound.told(window)
        if out and not self._closing:
            self._idle_at = now + _KEEP_ALIVE_S
        return out

    def _end(self, why: Ended) -> None:
        self._state = _State.ENDED
        self.ended = why
        self._outbound.forget()
        self._inbound.forget()
