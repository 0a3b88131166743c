"""One uTP connection without I/O: packets in, packets out; bytes in, bytes out (BEP 29).

Packets are acknowledged once a batch, not each: `outgoing` is called after what lay in the socket was read.
Nothing but the answer to its SYN is sent to an address that has not shown, by acknowledging our random
sequence number, that it receives what we send. All buffers are bounded: what is beyond is not accepted
(`write`), not advertised (the window), or dropped (data far ahead).
"""

from __future__ import annotations

import enum
import random
from collections import deque

from wire.compact import Endpoint
from wire.utp.inbound import Inbound
from wire.utp.ledbat import Ledbat
from wire.utp.mtu import MtuSearch
from wire.utp.packet import HEADER_BYTES, Kind, Packet, pack, seq_distance
from wire.utp.rtt import RoundTrip

__all__ = ["Ended", "UtpConnection"]

SEND_BUFFER_BYTES = 1 << 20
_MAX_FLIGHT = 8192
"""Packets under way: far fewer than there are sequence numbers."""
_MAX_SYNS = 3
_MAX_RESENDS = 6
"""Unanswered time-outs in a row before the peer is given up: about half a minute."""
_LOST_AFTER = 3
"""Later packets acknowledged before a missing one counts as lost; as many repeated acks say the same."""
_NARROWED_AFTER = 2
"""Time-outs of large packets in a row before small ones are tried: the path may have got narrower."""
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


class _Sent:
    """A packet under way."""

    __slots__ = ("is_probe", "kind", "order", "passed", "payload", "sent_at", "times")

    def __init__(self, kind: Kind, payload: bytes) -> None:
        self.kind = kind
        self.payload = payload
        self.sent_at = 0.0
        self.order = 0
        self.passed = 0
        self.times = 0
        self.is_probe = False


class UtpConnection:
    """A stream to one peer. `dial` begins as the one that connects, `answer` as the one that was dialled."""

    __slots__ = (
        "_closing",
        "_control",
        "_data_landed",
        "_fin_sent",
        "_flight",
        "_flight_bytes",
        "_idle_at",
        "_inbound",
        "_ledbat",
        "_mtu",
        "_order",
        "_peer_window",
        "_repeated_acks",
        "_reply_delay_us",
        "_resend",
        "_rtt",
        "_send_id",
        "_seq",
        "_state",
        "_timeout_at",
        "_timeouts",
        "_unsent",
        "_unsent_bytes",
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
        self._seq = seq
        """Of the next packet that we send."""
        self._inbound = Inbound()
        self._mtu = MtuSearch(remote.family.ip_bytes)
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._flight: dict[int, _Sent] = {}
        """By sequence number, in the order first sent."""
        self._flight_bytes = 0
        self._resend: deque[int] = deque()
        self._order = 0
        self._ledbat = Ledbat()
        self._peer_window = self._mtu.size
        self._rtt = RoundTrip()
        self._timeout_at: float | None = None
        self._timeouts = 0
        self._repeated_acks = 0
        self._reply_delay_us = 0
        self._idle_at = now + _KEEP_ALIVE_S
        self._closing = False
        self._fin_sent = False
        self._data_landed = False
        self._control: list[bytes] = []

    @classmethod
    def dial(cls, remote: Endpoint, receive_id: int, now: float) -> UtpConnection:
        """Begins a connection: a SYN lies in `outgoing`."""
        made = cls(remote, receive_id, (receive_id + 1) & 0xFFFF, 1, _State.SYN_SENT, now)
        made._track(_Sent(Kind.SYN, b""))
        return made

    @classmethod
    def answer(cls, remote: Endpoint, syn: Packet, rng: random.Random, now: float) -> UtpConnection:
        """Answers a SYN. Until the peer proves its address, only that answer is sent."""
        send_id = syn.connection_id
        made = cls(remote, (send_id + 1) & 0xFFFF, send_id, rng.getrandbits(16), _State.SYN_RECEIVED, now)
        made._inbound.ack = syn.seq
        made._inbound.must_ack = True
        made._reply_delay_us = (int(now * 1e6) - syn.timestamp_us) & 0xFFFFFFFF
        made._timeout_at = now + _HALF_OPEN_S
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
        return self._state is _State.OPEN and not self._closing and self._unsent_bytes < SEND_BUFFER_BYTES

    @property
    def datagram_bytes(self) -> int:
        """The largest datagram that is known to arrive on this path."""
        return self._mtu.size

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory for both directions."""
        return self._inbound.held_bytes + self._unsent_bytes + self._flight_bytes

    # the bytes

    def read_into(self, buffer: memoryview) -> int:
        """Moves received bytes into `buffer`; 0 where there are none."""
        return self._inbound.read_into(buffer)

    @property
    def has_news(self) -> bool:
        """Reading made room that the peer should be told of."""
        return self._inbound.must_ack

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Takes as much of `data` as there is room for, without copying: it must not change before it is sent."""
        if not self.writable:
            return 0
        taken = memoryview(data)[: SEND_BUFFER_BYTES - self._unsent_bytes]
        if taken:
            self._unsent.append(taken)
            self._unsent_bytes += len(taken)
        return len(taken)

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
            self._control.append(pack(Kind.RESET, self._send_id, 0, 0, 0, self._seq, self._inbound.ack))
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
        # An ack of what was never sent, or of what is long gone, is not from our peer.
        if not 0 <= seq_distance((self._seq - 1) & 0xFFFF, packet.ack) <= len(self._flight) + _MAX_FLIGHT:
            return
        self._reply_delay_us = (int(now * 1e6) - packet.timestamp_us) & 0xFFFFFFFF
        self._peer_window = packet.window_bytes
        if self._flight:
            if self._peer_window < self._mtu.size:
                self._timeouts = 0  # it is there, and full: no reason to give it up
            self._acknowledge(packet, now)
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
            if packet.ack != (self._seq - 1) & 0xFFFF:
                return False  # it has not seen our random number: the address may be forged
            self._timeout_at = None
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

    def _acknowledge(self, packet: Packet, now: float) -> None:
        flight = self._flight
        window = min(self._ledbat.window_bytes, self._peer_window)
        window_used = self._flight_bytes + 2 * self._mtu.size >= window
        acked_bytes = latest_order = newly = 0
        seq = next(iter(flight))
        while flight and seq_distance(packet.ack, seq) >= 0:
            sent = flight.pop(seq, None)
            if sent is not None:
                acked_bytes += self._landed(sent, now)
                latest_order = max(latest_order, sent.order)
                newly += 1
            seq = (seq + 1) & 0xFFFF
        if packet.sack and flight:
            mask = int.from_bytes(packet.sack, "little")
            base = packet.ack + 2
            while mask:
                bit = mask & -mask
                mask ^= bit
                sent = flight.pop((base + bit.bit_length() - 1) & 0xFFFF, None)
                if sent is not None:
                    acked_bytes += self._landed(sent, now)
                    latest_order = max(latest_order, sent.order)
                    newly += 1
        if newly:
            self._timeouts = self._repeated_acks = 0
            self._timeout_at = now + self._rtt.timeout_s if flight else None
            self._ledbat.acked(acked_bytes, packet.delay_us, window_used, now)
            if flight:
                self._find_lost(latest_order, newly, now)
        elif packet.kind is Kind.STATE and not packet.sack and flight:
            self._repeated(packet.ack, now)
        if self._fin_sent and not flight and not self._unsent:
            self._end(Ended.CLOSED)

    def _landed(self, sent: _Sent, now: float) -> int:
        self._flight_bytes -= len(sent.payload)
        if sent.times == 1:  # of a packet sent twice nobody knows which one was acknowledged
            self._rtt.sample(now - sent.sent_at)
            if sent.is_probe:
                self._mtu.arrived()
        self._data_landed |= sent.kind is Kind.DATA
        return len(sent.payload)

    def _repeated(self, ack: int, now: float) -> None:
        """The peer says the same again, and knows no selective acks: after three times its next one is lost."""
        first = next(iter(self._flight))
        if ack != (first - 1) & 0xFFFF:
            return
        self._repeated_acks += 1
        if self._repeated_acks == _LOST_AFTER and first not in self._resend:
            self._lost([first], now)

    def _find_lost(self, latest_order: int, newly: int, now: float) -> None:
        """Marks as lost what was sent well before what has now arrived."""
        waiting = set(self._resend)
        lost = []
        for seq, sent in self._flight.items():
            if sent.order > latest_order:
                if sent.times == 1:
                    break  # it and all behind it were first sent later than what arrived
                continue
            sent.passed += newly
            if sent.passed >= _LOST_AFTER and seq not in waiting:
                sent.passed = 0
                lost.append(seq)
        if lost:
            self._lost(lost, now)

    def _lost(self, seqs: list[int], now: float) -> None:
        self._resend.extend(seqs)
        congested = False
        for seq in seqs:
            congested |= not self._probe_lost(self._flight[seq])
        if congested:
            self._ledbat.lost(self._rtt.smooth_s, now)

    def _probe_lost(self, sent: _Sent) -> bool:
        """Whether what got lost was a probe: that says something of its size, and nothing of a full queue."""
        if not sent.is_probe:
            return False
        sent.is_probe = False
        self._mtu.lost()
        return True

    # time

    def next_timer(self) -> float:
        """When `tick` is wanted."""
        if self._timeout_at is not None:
            return min(self._timeout_at, self._idle_at)
        return self._idle_at if self._state is _State.OPEN else _NEVER

    def tick(self, now: float) -> None:
        """Sends again what was not answered in time; gives a silent peer up."""
        if self._state is _State.ENDED:
            return
        if self._timeout_at is None or now < self._timeout_at:
            if now >= self._idle_at and self._closing:
                self._end(Ended.CLOSED)
            elif now >= self._idle_at:
                self._idle_at = now + _KEEP_ALIVE_S
                self._inbound.must_ack = self._state is _State.OPEN
            return
        self._timeouts += 1
        limit = _MAX_SYNS if self._state is _State.SYN_SENT else _MAX_RESENDS
        if self._timeouts >= limit or self._state is _State.SYN_RECEIVED:
            self._end(Ended.TIMED_OUT)
            return
        self._rtt.silence()
        self._timeout_at = now + self._rtt.timeout_s
        first = next(iter(self._flight.values()))
        if len(self._flight) == 1 and self._probe_lost(first):
            self._resend = deque(self._flight)  # nothing else was under way: no sign of a full queue
            return
        for sent in self._flight.values():
            self._probe_lost(sent)
        if self._timeouts >= _NARROWED_AFTER and len(first.payload) + HEADER_BYTES > self._mtu.floor:
            self._mtu.narrowed(now)
        self._ledbat.timed_out(self._mtu.size)
        self._resend = deque(self._flight)

    # packets out

    def outgoing(self, now: float) -> list[bytes]:
        """The datagrams to be sent now."""
        out = self._control
        self._control = []
        if self._state is _State.ENDED:
            return out
        stamp = int(now * 1e6)
        inbound = self._inbound
        window = inbound.window_bytes()
        if self._resend:
            # What is sent again is in flight already: the window lets at least one through.
            allowance = max(self._ledbat.window_bytes / 2, float(self._mtu.size))
            while self._resend and allowance > 0:
                seq = self._resend.popleft()
                again = self._flight.get(seq)
                if again is not None:
                    allowance -= len(again.payload) + HEADER_BYTES
                    out.append(self._transmit(seq, again, stamp, window, now))
        if self._state is _State.SYN_SENT:
            for seq, sent in self._flight.items():
                if not sent.times:
                    out.append(self._transmit(seq, sent, stamp, window, now))
        elif self._state is _State.OPEN:
            if self._unsent_bytes:
                self._send_data(out, stamp, window, now)
            if self._closing and not self._unsent_bytes and not self._fin_sent:
                self._fin_sent = True
                seq = self._seq
                self._track(fin := _Sent(Kind.FIN, b""))
                out.append(self._transmit(seq, fin, stamp, window, now))
        if inbound.must_ack:
            sack = inbound.sack()
            delay = self._reply_delay_us
            out.append(pack(Kind.STATE, self._send_id, stamp, delay, window, self._seq, inbound.ack, sack=sack))
            inbound.told(window)
        if out and not self._closing:
            self._idle_at = now + _KEEP_ALIVE_S
        return out

    def _send_data(self, out: list[bytes], stamp: int, window: int, now: float) -> None:
        flight = self._flight
        budget = min(self._ledbat.window_bytes, max(self._peer_window, 1)) - self._flight_bytes
        full = self._mtu.size - HEADER_BYTES
        # A part of a packet waits for more while others are under way (Nagle), so that packets are full.
        while unsent := self._unsent_bytes:
            if flight and (
                budget < min(full, unsent) or (unsent < full and not self._closing) or len(flight) >= _MAX_FLIGHT
            ):
                break
            # Not with the first words of a connection: they are worth more than knowing the size early.
            probe_bytes = self._mtu.probe(now) if self._data_landed and unsent > self._mtu.floor else 0
            # A probe carries no more than every path does, so that it can be sent again whatever became of it.
            size = min(full, self._mtu.floor - HEADER_BYTES) if probe_bytes else full
            sent = _Sent(Kind.DATA, self._cut(size))
            sent.is_probe = probe_bytes > 0
            budget -= len(sent.payload)
            seq = self._seq
            self._track(sent)
            out.append(self._transmit(seq, sent, stamp, window, now, probe_bytes))

    def _track(self, sent: _Sent) -> None:
        self._flight[self._seq] = sent
        self._flight_bytes += len(sent.payload)
        self._seq = (self._seq + 1) & 0xFFFF

    def _transmit(self, seq: int, sent: _Sent, stamp: int, window: int, now: float, size: int = 0) -> bytes:
        sent.times += 1
        sent.sent_at = now
        self._order += 1
        sent.order = self._order
        sent.passed = 0
        if self._timeout_at is None:
            self._timeout_at = now + self._rtt.timeout_s
        inbound = self._inbound
        connection_id = self.receive_id if sent.kind is Kind.SYN else self._send_id
        if not inbound.has_holes:
            inbound.told(window)  # each packet carries the ack; only a selective one needs a packet of its own
        delay = self._reply_delay_us
        return pack(sent.kind, connection_id, stamp, delay, window, seq, inbound.ack, sent.payload, size=size)

    def _cut(self, size: int) -> bytes:
        """Takes up to `size` bytes from the front of what is unsent."""
        first = self._unsent[0]
        if len(first) > size:
            self._unsent[0] = first[size:]
            payload = bytes(first[:size])
        else:
            parts = [self._unsent.popleft()]
            length = len(first)
            while length < size and self._unsent:
                part = self._unsent[0][: size - length]
                if len(part) == len(self._unsent[0]):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = self._unsent[0][len(part) :]
                parts.append(part)
                length += len(part)
            payload = b"".join(parts)
        self._unsent_bytes -= len(payload)
        return payload

    def _end(self, why: Ended) -> None:
        self._state = _State.ENDED
        self.ended = why
        self._timeout_at = None
        self._flight.clear()
        self._unsent.clear()
        self._resend.clear()
        self._inbound.forget()
        self._flight_bytes = self._unsent_bytes = 0
