"""The packets of one uTP connection that are under way: which arrived, which got lost, which go again (BEP 29). No I/O.

What is taken for lost stays here and does not count as under way until it is sent again.
"""

from __future__ import annotations

from bisect import bisect
from collections import deque

from wire.utp.packet import Kind, seq_distance

__all__ = ["LOST_AFTER", "Flight", "Sent"]

LOST_AFTER = 3
"""Later packets acknowledged before a missing one counts as lost; as many repeated acks say the same."""


class Sent:
    """A packet under way."""

    __slots__ = ("is_lost", "is_probe", "kind", "order", "passed", "payload", "sent_at", "times")

    def __init__(self, kind: Kind, payload: bytes | memoryview) -> None:
        self.kind = kind
        self.payload = payload
        self.sent_at = 0.0
        self.order = 0
        """When it was sent last, counted over all that was sent."""
        self.passed = 0
        """How many that were sent later have arrived."""
        self.times = 0
        self.is_probe = False
        self.is_lost = False
        """Taken for lost, and not sent again yet."""


class Flight:
    """Packets by sequence number, in the order first sent."""

    __slots__ = ("_lost_bytes", "_reach", "_resend", "_sack_base", "_sacked", "held_bytes", "packets")

    def __init__(self) -> None:
        self.packets: dict[int, Sent] = {}
        self.held_bytes = 0
        """Payload of all of them."""
        self._lost_bytes = 0
        self._resend: deque[int] = deque()
        self._sack_base = self._sacked = 0
        """The last selective ack and the number of its first bit: acks repeat thousands of bits, and a few are news."""
        self._reach = 0
        """The highest number that the last ack spoke of: selective acks may be much shorter than the flight."""

    @property
    def under_way_bytes(self) -> int:
        """Payload that was sent, did not arrive and is not known to be lost."""
        return self.held_bytes - self._lost_bytes

    @property
    def has_lost(self) -> bool:
        """Something is to be sent again."""
        return bool(self._resend)

    def first(self, otherwise: int) -> int:
        """The number of the oldest packet; `otherwise` where there is none."""
        return next(iter(self.packets), otherwise)

    def add(self, seq: int, sent: Sent) -> None:
        """A new packet."""
        self.packets[seq] = sent
        self.held_bytes += len(sent.payload)

    def clear(self) -> None:
        """Forgets all."""
        self.packets.clear()
        self._resend.clear()
        self.held_bytes = self._lost_bytes = 0

    def take(self, ack: int, sack: bytes) -> list[Sent]:
        """Takes out what a packet acknowledges: all up to `ack`, and by `sack` single ones behind."""
        packets = self.packets
        landed: list[Sent] = []
        seq = next(iter(packets))
        while packets and seq_distance(ack, seq) >= 0:
            if (sent := packets.pop(seq, None)) is not None:
                landed.append(sent)
            seq = (seq + 1) & 0xFFFF
        self._reach = ack
        if sack and packets:
            mask = int.from_bytes(sack, "little")
            base = (ack + 2) & 0xFFFF
            self._reach = ack + 1 + mask.bit_length()
            moved = seq_distance(base, self._sack_base)
            known = self._sacked >> moved if moved >= 0 else 0
            self._sack_base, self._sacked = base, mask
            mask &= ~known
            while mask:
                bit = mask & -mask
                mask ^= bit
                if (sent := packets.pop((base + bit.bit_length() - 1) & 0xFFFF, None)) is not None:
                    landed.append(sent)
        for sent in landed:
            self.held_bytes -= len(sent.payload)
            if sent.is_lost:
                self._lost_bytes -= len(sent.payload)
        return landed

    def passed(self, orders: list[int]) -> list[int]:
        """The numbers of those behind which enough has arrived; `orders`: when each that has was sent, in order.

        To be asked right after `take`. What the peer's words did not reach may have arrived: nothing is told of it.
        """
        latest = orders[-1]
        lost = []
        for seq, sent in self.packets.items():
            if seq_distance(seq, self._reach) > 0:
                break
            if sent.order > latest or sent.is_lost:
                continue
            sent.passed += len(orders) - bisect(orders, sent.order)
            if sent.passed >= LOST_AFTER:
                lost.append(seq)
        return lost

    def again(self, seq: int) -> Sent:
        """It is taken for lost, and to be sent once more."""
        sent = self.packets[seq]
        if not sent.is_lost:
            sent.is_lost = True
            self._lost_bytes += len(sent.payload)
            self._resend.append(seq)
        return sent

    def next_lost(self, budget_bytes: float) -> int | None:
        """The number of a packet to be sent again that fits; the first in any case where nothing is under way."""
        while self._resend:
            sent = self.packets.get(self._resend[0])
            if sent is not None and sent.is_lost:
                if self.under_way_bytes and budget_bytes < len(sent.payload):
                    return None
                sent.is_lost = False
                self._lost_bytes -= len(sent.payload)
                return self._resend.popleft()
            self._resend.popleft()  # it arrived after all
        return None
