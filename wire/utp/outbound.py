"""What goes out on a uTP connection: cut into packets, kept until acknowledged, sent again where lost (BEP 29). No I/O.

How much may be under way is `ledbat`'s to say, how large a packet is `mtu`'s, how long to wait `rtt`'s. Data are not
copied before they are put into a datagram: what was written must not change until it is acknowledged.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from wire.compact import Endpoint, reach
from wire.utp.ledbat import Ledbat
from wire.utp.mtu import MtuSearch
from wire.utp.packet import HEADER, HEADER_BYTES, Kind, Packet, first_byte, pack, seq_distance
from wire.utp.rtt import RoundTrip

__all__ = ["SEND_BUFFER_BYTES", "Head", "Outbound"]

SEND_BUFFER_BYTES = 1 << 20
_MAX_FLIGHT = 8192
"""Packets under way: far fewer than there are sequence numbers."""
_LOST_AFTER = 3
"""Later packets acknowledged before a missing one counts as lost; as many repeated acks say the same."""
_NARROWED_AFTER = 2
"""Time-outs of large packets in a row before small ones are tried: the path may have got narrower."""
_DATA = first_byte(Kind.DATA)

_Bytes = bytes | memoryview


class Head(NamedTuple):
    """What all packets of one moment say in their headers."""

    connection_id: int
    stamp_us: int
    delay_us: int
    window_bytes: int
    ack: int


class _Sent:
    """A packet under way."""

    __slots__ = ("is_probe", "kind", "order", "passed", "payload", "sent_at", "times")

    def __init__(self, kind: Kind, payload: _Bytes) -> None:
        self.kind = kind
        self.payload = payload
        self.sent_at = 0.0
        self.order = 0
        self.passed = 0
        self.times = 0
        self.is_probe = False


class Outbound:
    """The sending half. `seq` is the number of the next packet."""

    __slots__ = (
        "_data_landed",
        "_flight",
        "_flight_bytes",
        "_ledbat",
        "_order",
        "_peer_window",
        "_repeated_acks",
        "_resend",
        "_rtt",
        "_unsent",
        "_unsent_at",
        "_waiting",
        "mtu",
        "seq",
        "timeout_at",
        "timeouts",
        "unsent_bytes",
    )

    def __init__(self, remote: Endpoint, seq: int) -> None:
        self.seq = seq
        self.mtu = MtuSearch(remote.family.ip_bytes, loopback=reach(remote.host) == "loopback")
        self.unsent_bytes = 0
        """Written, and not yet in a packet."""
        self.timeout_at: float | None = None
        """When what is under way is overdue; None where nothing is."""
        self.timeouts = 0
        """In a row, without an answer."""
        self._unsent: deque[memoryview] = deque()
        self._unsent_at = 0
        """Where in the first of them the next packet begins."""
        self._flight: dict[int, _Sent] = {}
        """By sequence number, in the order first sent."""
        self._flight_bytes = 0
        self._waiting: list[int] = []
        """Packets without data that were numbered and not yet sent."""
        self._resend: deque[int] = deque()
        self._order = 0
        self._ledbat = Ledbat()
        self._peer_window = self.mtu.size
        self._rtt = RoundTrip()
        self._repeated_acks = 0
        self._data_landed = False

    @property
    def has_room(self) -> bool:
        """`write` takes something now."""
        return self.unsent_bytes < SEND_BUFFER_BYTES

    @property
    def is_empty(self) -> bool:
        """All that was written has arrived."""
        return not self._flight and not self.unsent_bytes

    @property
    def held_bytes(self) -> int:
        """All that is kept."""
        return self.unsent_bytes + self._flight_bytes

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Takes as much of `data` as there is room for."""
        taken = memoryview(data)[: SEND_BUFFER_BYTES - self.unsent_bytes]
        if taken:
            self._unsent.append(taken)
            self.unsent_bytes += len(taken)
        return len(taken)

    def number(self, kind: Kind) -> None:
        """Queues a packet without data that the peer must acknowledge: SYN or FIN."""
        self._waiting.append(self.seq)
        self._track(_Sent(kind, b""))

    def forget(self) -> None:
        """The connection is over."""
        self.timeout_at = None
        self._flight.clear()
        self._unsent.clear()
        self._resend.clear()
        self._waiting.clear()
        self._flight_bytes = self.unsent_bytes = 0

    # what the peer acknowledges

    def can_be_acked(self, ack: int) -> bool:
        """An ack of what was never sent, or of what is long gone, is not from our peer."""
        return 0 <= seq_distance((self.seq - 1) & 0xFFFF, ack) <= len(self._flight) + _MAX_FLIGHT

    def acknowledged(self, packet: Packet, now: float) -> None:
        """Takes what a packet of the peer says of ours."""
        self._peer_window = packet.window_bytes
        if not self._flight:
            return
        if self._peer_window < self.mtu.size:
            self.timeouts = 0  # it is there, and full: no reason to give it up
        flight, ack = self._flight, packet.ack
        window = min(self._ledbat.window_bytes, self._peer_window)
        window_used = self._flight_bytes + 2 * self.mtu.size >= window
        landed: list[_Sent] = []
        seq = next(iter(flight))
        while flight and seq_distance(ack, seq) >= 0:
            if (sent := flight.pop(seq, None)) is not None:
                landed.append(sent)
            seq = (seq + 1) & 0xFFFF
        if packet.sack and flight:
            mask = int.from_bytes(packet.sack, "little")
            base = ack + 2
            while mask:
                bit = mask & -mask
                mask ^= bit
                if (sent := flight.pop((base + bit.bit_length() - 1) & 0xFFFF, None)) is not None:
                    landed.append(sent)
        if landed:
            self.timeouts = self._repeated_acks = 0
            acked_bytes, latest_order = self._landed(landed, now)
            self.timeout_at = now + self._rtt.timeout_s if flight else None
            self._ledbat.acked(acked_bytes, packet.delay_us, window_used, now)
            if flight:
                self._find_lost(latest_order, len(landed), now)
        elif packet.kind is Kind.STATE and not packet.sack and flight:
            self._repeated(ack, now)

    def _landed(self, landed: list[_Sent], now: float) -> tuple[int, int]:
        """Counts packets that arrived: their bytes, and when the latest of them was sent."""
        acked_bytes = 0
        latest: _Sent | None = None
        latest_order = 0
        for sent in landed:
            acked_bytes += len(sent.payload)
            if sent.order > latest_order:
                latest_order = sent.order
                latest = sent
            if sent.is_probe and sent.times == 1:
                self.mtu.arrived()
            if sent.kind is Kind.DATA:
                self._data_landed = True
        if latest is not None and latest.times == 1:
            self._rtt.sample(now - latest.sent_at)  # of one sent twice nobody knows which was acknowledged
        self._flight_bytes -= acked_bytes
        return acked_bytes, latest_order

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
        self.mtu.lost()
        return True

    def overdue(self, now: float) -> None:
        """Nothing was acknowledged in time: what is under way goes again, by and by."""
        self._rtt.silence()
        self.timeout_at = now + self._rtt.timeout_s
        first = next(iter(self._flight.values()))
        if len(self._flight) == 1 and self._probe_lost(first):
            self._resend = deque(self._flight)  # nothing else was under way: no sign of a full queue
            return
        for sent in self._flight.values():
            self._probe_lost(sent)
        if self.timeouts >= _NARROWED_AFTER and len(first.payload) + HEADER_BYTES > self.mtu.floor:
            self.mtu.narrowed(now)
        self._ledbat.timed_out(self.mtu.size)
        self._resend = deque(self._flight)

    # packets out

    def collect_lost(self, out: list[bytes], head: Head, now: float) -> None:
        """Adds datagrams that are sent again."""
        if not self._resend:
            return
        # They are in flight already: the window lets at least one through.
        allowance = max(self._ledbat.window_bytes / 2, float(self.mtu.size))
        while self._resend and allowance > 0:
            seq = self._resend.popleft()
            again = self._flight.get(seq)
            if again is not None:
                allowance -= len(again.payload) + HEADER_BYTES
                out.append(self._transmit(seq, again, head, now))

    def collect_numbered(self, out: list[bytes], head: Head, now: float) -> None:
        """Adds what `number` has queued."""
        for seq in self._waiting:
            if (sent := self._flight.get(seq)) is not None and not sent.times:
                out.append(self._transmit(seq, sent, head, now))
        self._waiting.clear()

    def collect_data(self, out: list[bytes], head: Head, now: float, *, last: bool) -> None:
        """Adds new data, as much as the windows let through; `last`: nothing more will be written."""
        flight, mtu = self._flight, self.mtu
        budget = min(self._ledbat.window_bytes, max(self._peer_window, 1)) - self._flight_bytes
        full = mtu.size - HEADER_BYTES
        connection_id, stamp, delay, window, ack = head
        join, pack_head = b"".join, HEADER.pack
        if self.timeout_at is None and self.unsent_bytes:
            self.timeout_at = now + self._rtt.timeout_s
        # A part of a packet waits for more while others are under way (Nagle), so that packets are full.
        while unsent := self.unsent_bytes:
            if flight and (budget < min(full, unsent) or (unsent < full and not last) or len(flight) >= _MAX_FLIGHT):
                break
            # Not with the first words of a connection: they are worth more than knowing the size early.
            probe_bytes = mtu.probe(now) if self._data_landed and unsent > mtu.floor else 0
            # A probe carries no more than every path does, so that it can be sent again whatever became of it.
            payload = self._cut(min(full, mtu.floor - HEADER_BYTES) if probe_bytes else full)
            sent = _Sent(Kind.DATA, payload)
            budget -= len(payload)
            seq = self.seq
            self._track(sent)
            if probe_bytes:
                sent.is_probe = True
                out.append(self._transmit(seq, sent, head, now, probe_bytes))
                continue
            sent.times = 1
            sent.sent_at = now
            self._order = sent.order = self._order + 1
            out.append(join((pack_head(_DATA, 0, connection_id, stamp, delay, window, seq, ack), payload)))

    def _track(self, sent: _Sent) -> None:
        self._flight[self.seq] = sent
        self._flight_bytes += len(sent.payload)
        self.seq = (self.seq + 1) & 0xFFFF

    def _transmit(self, seq: int, sent: _Sent, head: Head, now: float, size: int = 0) -> bytes:
        sent.times += 1
        sent.sent_at = now
        self._order = sent.order = self._order + 1
        sent.passed = 0
        if self.timeout_at is None:
            self.timeout_at = now + self._rtt.timeout_s
        connection_id, stamp, delay, window, ack = head
        if sent.kind is Kind.SYN:
            connection_id = (connection_id - 1) & 0xFFFF  # it carries the id that we receive with
        return pack(sent.kind, connection_id, stamp, delay, window, seq, ack, sent.payload, size=size)

    def _cut(self, size: int) -> _Bytes:
        """Takes up to `size` bytes from the front of what is unsent."""
        first, at = self._unsent[0], self._unsent_at
        end = at + size
        if end < len(first):
            self._unsent_at = end
            payload: _Bytes = first[at:end]
        else:
            parts = [first[at:]]
            length = len(first) - at
            self._unsent.popleft()
            self._unsent_at = 0
            while length < size and self._unsent:
                first = self._unsent[0]
                part = first[: size - length]
                parts.append(part)
                length += len(part)
                if len(part) == len(first):
                    self._unsent.popleft()
                else:
                    self._unsent_at = len(part)
            payload = parts[0] if len(parts) == 1 else b"".join(parts)
        self.unsent_bytes -= len(payload)
        return payload
