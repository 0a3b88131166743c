"""What goes out on a uTP connection: cut into packets, kept until acknowledged, sent again where lost (BEP 29). No I/O.

How much may be under way is `ledbat`'s to say, how large a packet is `mtu`'s, how long to wait `rtt`'s. Data are not
copied before they are put into a datagram: what was written must not change until it is acknowledged.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from wire.compact import Endpoint, reach
from wire.utp.flight import LOST_AFTER, Flight, Sent
from wire.utp.ledbat import BURST_BYTES, Ledbat
from wire.utp.mtu import MtuSearch
from wire.utp.packet import HEADER, HEADER_BYTES, Kind, Packet, first_byte, pack, seq_distance
from wire.utp.rtt import RoundTrip

__all__ = ["SEND_BUFFER_BYTES", "Head", "Outbound"]

SEND_BUFFER_BYTES = 1 << 20
_MAX_FLIGHT = 8192
"""Numbers between the oldest packet under way and the next: far fewer than there are, whatever the peer says."""
_WORTH_A_PROBE = LOST_AFTER + 2
"""Full packets that are to go out with a probe: one in its place, and enough behind it to tell that it got lost."""
_NARROWED_AFTER = 2
"""Time-outs of large packets in a row before small ones are tried: the path may have got narrower."""
_DATA = first_byte(Kind.DATA)
_IS_DATA, _IS_STATE = Kind.DATA, Kind.STATE  # an enum's members cost a call each in Python 3.11
_NONE = -1
_NO_LIMIT = 1 << 30

_Bytes = bytes | memoryview


class Head(NamedTuple):
    """What all packets of one moment say in their headers."""

    connection_id: int
    stamp_us: int
    delay_us: int
    window_bytes: int
    ack: int


class Outbound:
    """The sending half. `seq` is the number of the next packet."""

    __slots__ = (
        "_cut_at_order",
        "_data_landed",
        "_flight",
        "_ledbat",
        "_order",
        "_owed_bytes",
        "_peer_window",
        "_recover_seq",
        "_repeated_acks",
        "_room_bytes",
        "_rtt",
        "_small",
        "_unsent",
        "_unsent_at",
        "_waiting",
        "heard_ack",
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
        self._flight = Flight()
        self._owed_bytes = 0
        """What may be sent again whatever the window says: half of what has just arrived, at first one packet."""
        self._room_bytes = _NO_LIMIT
        """And no more than this, however much of the window was lost: what has just left the path (RFC 6937)."""
        self._waiting: list[int] = []
        """Packets without data that were numbered and not yet sent."""
        self._order = 0
        self._ledbat = Ledbat()
        self._cut_at_order = 0
        """The last packet that was sent when the window was last cut: of the flight up to it, no loss cuts again."""
        self._recover_seq = _NONE
        """What was lost is made good once all up to this one is acknowledged; none where nothing is missing."""
        self._peer_window = self.mtu.size
        self._rtt = RoundTrip()
        self._repeated_acks = 0
        self._data_landed = False
        self._small = _NONE
        """The number of the last packet that was not full."""
        self.heard_ack = _NONE
        """The latest number that the peer has acknowledged with all before it."""

    @property
    def has_room(self) -> bool:
        """`write` takes something now."""
        return self.unsent_bytes < SEND_BUFFER_BYTES

    @property
    def is_empty(self) -> bool:
        """All that was written has arrived."""
        return not self._flight.packets and not self.unsent_bytes

    @property
    def held_bytes(self) -> int:
        """All that is kept."""
        return self.unsent_bytes + self._flight.held_bytes

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
        self._track(Sent(kind, b""))

    def forget(self) -> None:
        """The connection is over."""
        self.timeout_at = None
        self._flight.clear()
        self._unsent.clear()
        self._waiting.clear()
        self.unsent_bytes = 0

    # what the peer acknowledges

    def can_be_acked(self, ack: int) -> bool:
        """An ack of what was never sent, or of what is long gone, is not from our peer."""
        return 0 <= seq_distance((self.seq - 1) & 0xFFFF, ack) <= len(self._flight.packets) + _MAX_FLIGHT

    def can_be_reset(self, ack: int) -> bool:
        """A reset names what it answers, which may be a packet without data, or the last that the peer got."""
        oldest = self._flight.first(self.seq)
        return -LOST_AFTER <= seq_distance(ack, (oldest - 1) & 0xFFFF) <= seq_distance(self.seq, oldest) + 1

    def window_told(self, window_bytes: int) -> bool:
        """Takes the peer's window from a packet that acknowledges nothing new; False where there is more to it."""
        if window_bytes < self.mtu.size or self._peer_window < self.mtu.size:
            return False
        self._peer_window = window_bytes
        return True

    def acknowledged(self, packet: Packet, now: float) -> None:
        """Takes what a packet of the peer says of ours."""
        _, _, stamp_us, delay_us, window_bytes, _, ack, sack, _ = packet
        window_before, self._peer_window = self._peer_window, window_bytes
        if self.heard_ack == _NONE or seq_distance(ack, self.heard_ack) > 0:
            self.heard_ack = ack
        flight = self._flight
        if not flight.packets:
            return
        if window_bytes < self.mtu.size:
            self.timeouts = 0  # it is there, and full: no reason to give it up
        window = min(self._ledbat.window_bytes, window_bytes)
        window_used = flight.has_lost or flight.under_way_bytes + 2 * self.mtu.size >= window
        landed = flight.take(ack, sack)
        if landed:
            self.timeouts = self._repeated_acks = 0
            acked_bytes, orders = self._landed(landed, now)
            self.timeout_at = now + self._rtt.timeout_s if flight.packets else None
            self._ledbat.measured(delay_us, (int(now * 1e6) - stamp_us) & 0xFFFFFFFF, self._rtt.latest_s, now)
            if self._ledbat.acked(acked_bytes, window_used):
                self._cut_at_order = self._order
            self._owed_bytes = acked_bytes // 2
            self._room_bytes = acked_bytes + self.mtu.size if window > BURST_BYTES else _NO_LIMIT
            if self._recover_seq != _NONE and seq_distance(ack, self._recover_seq) >= 0:
                self._recover_seq = _NONE
                self._ledbat.recovered(flight.under_way_bytes + acked_bytes)
            if lost := flight.passed(orders):
                self._lost(lost)
        elif window_before < self.mtu.size <= window_bytes:
            self._made_room(now)
        elif packet.kind is _IS_STATE and not sack and self.mtu.size <= window_bytes == window_before:
            self._repeated(ack)

    def _landed(self, landed: list[Sent], now: float) -> tuple[int, list[int]]:
        """Counts packets that arrived: their bytes, and when each was sent, in order."""
        acked_bytes = 0
        latest = landed[0]
        orders = []
        for sent in landed:
            acked_bytes += len(sent.payload)
            orders.append(sent.order)
            if sent.order > latest.order:
                latest = sent
            if sent.is_probe and sent.times == 1:
                self.mtu.arrived()
            if sent.kind is _IS_DATA:
                self._data_landed = True
        if latest.times == 1:
            self._rtt.sample(now - latest.sent_at)  # of one sent twice nobody knows which was acknowledged
        orders.sort()
        return acked_bytes, orders

    def _repeated(self, ack: int) -> None:
        """The peer says the same again, and knows no selective acks: after three times its next one is lost."""
        first = self._flight.first(self.seq)
        if ack != (first - 1) & 0xFFFF:
            return
        self._repeated_acks += 1
        if self._repeated_acks == LOST_AFTER and not self._flight.packets[first].is_lost:
            self._lost([first])

    def _lost(self, seqs: list[int]) -> None:
        congested = False
        for seq in seqs:
            sent = self._flight.again(seq)
            congested |= not self._probe_lost(sent) and sent.order > self._cut_at_order
        if congested:
            self._cut_at_order = self._order
            self._recover_seq = (self.seq - 1) & 0xFFFF
            self._ledbat.lost()
        self._owed_bytes = max(self._owed_bytes, self.mtu.size)

    def _made_room(self, now: float) -> None:
        """The peer, which was full, takes data again: what went to it meanwhile found no room."""
        for seq in self._flight.packets:
            self._flight.again(seq)
        self._room_bytes = _NO_LIMIT  # nothing of ours is on the path
        self._rtt.answered()
        self.timeout_at = now + self._rtt.timeout_s

    def _probe_lost(self, sent: Sent) -> bool:
        """Whether what got lost was a probe: that says something of its size, and nothing of a full queue."""
        if not sent.is_probe:
            return False
        sent.is_probe = False
        self.mtu.lost()
        return True

    def overdue(self, now: float) -> None:
        """Nothing was acknowledged in time: what is under way goes again, by and by."""
        self._rtt.silence()
        self._room_bytes = _NO_LIMIT
        self.timeout_at = now + self._rtt.timeout_s
        packets = self._flight.packets
        first = packets[self._flight.first(self.seq)]
        # A full peer takes nothing, and a probe that was alone got lost for its size: no signs of a full queue.
        no_sign = self._peer_window < self.mtu.size
        if len(packets) == 1:
            no_sign |= self._probe_lost(first)
        for seq in packets:
            self._probe_lost(self._flight.again(seq))
        if no_sign:
            return
        if self.timeouts >= _NARROWED_AFTER and len(first.payload) + HEADER_BYTES > self.mtu.floor:
            self.mtu.narrowed(now)
        self._ledbat.timed_out(self.mtu.size)

    # packets out

    def collect_lost(self, out: list[bytes], head: Head, now: float) -> None:
        """Adds datagrams that are sent again."""
        flight = self._flight
        if not flight.has_lost:
            return
        window_bytes = min(self._ledbat.window_bytes, self._peer_window)
        budget = max(min(window_bytes - flight.under_way_bytes, self._room_bytes), self._owed_bytes)
        while (seq := flight.next_lost(budget)) is not None:
            again = flight.packets[seq]
            budget -= len(again.payload)
            out.append(self._transmit(seq, again, head, now))
        self._owed_bytes = 0
        self._room_bytes = max(0, min(self._room_bytes, int(budget)))

    def collect_numbered(self, out: list[bytes], head: Head, now: float) -> None:
        """Adds what `number` has queued."""
        for seq in self._waiting:
            if (sent := self._flight.packets.get(seq)) is not None and not sent.times:
                out.append(self._transmit(seq, sent, head, now))
        self._waiting.clear()

    def collect_data(self, out: list[bytes], head: Head, now: float, *, last: bool) -> None:
        """Adds new data, as much as the windows let through; `last`: nothing more will be written."""
        flight, mtu = self._flight.packets, self.mtu
        if self._flight.has_lost:
            return  # the window is full, and what got lost goes first
        window_bytes = min(self._ledbat.window_bytes, self._peer_window)
        budget = window_bytes - self._flight.under_way_bytes
        if self._recover_seq != _NONE:
            budget = min(budget, self._room_bytes)
        budget_before = budget
        spare = _MAX_FLIGHT - (seq_distance(self.seq, next(iter(flight))) if flight else 0)
        full = mtu.size - HEADER_BYTES
        connection_id, stamp, delay, window, ack = head
        join, pack_head = b"".join, HEADER.pack
        if self.timeout_at is None and self.unsent_bytes:
            self.timeout_at = now + self._rtt.timeout_s
        # A part of a packet waits for more while another part is under way (Nagle's rule, as Minshall has it).
        while (unsent := self.unsent_bytes) and spare > 0:
            if flight and (budget < min(full, unsent) or (unsent < full and not last and self._small in flight)):
                break
            if unsent < full:
                self._small = self.seq
            spare -= 1
            # Not with the first words of a connection, and not with few: what a lost probe carried is missed at once
            # only where enough comes after it, else the peer waits for a time-out.
            probe_bytes = (
                mtu.probe(now) if self._data_landed and min(unsent, window_bytes) > _WORTH_A_PROBE * full else 0
            )
            # A probe carries no more than every path does, so that it can be sent again whatever became of it.
            payload = self._cut(min(full, mtu.floor - HEADER_BYTES) if probe_bytes else full)
            sent = Sent(_IS_DATA, payload)
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
        self._room_bytes -= int(budget_before - budget)

    def _track(self, sent: Sent) -> None:
        self._flight.add(self.seq, sent)
        self.seq = (self.seq + 1) & 0xFFFF

    def _transmit(self, seq: int, sent: Sent, head: Head, now: float, size: int = 0) -> bytes:
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
