"""What comes in on a uTP connection: put in order, kept within bounds, acknowledged (BEP 29). No I/O.

Data ahead of a hole is kept for the selective ack; what is too far ahead, or finds no room, is dropped as if
it had been lost. The window that is advertised is the room that is left; it grows with what was read.
"""

from __future__ import annotations

from collections import deque

from wire.utp.packet import HEADER_BYTES, MAX_SACK_BYTES, seq_distance

__all__ = ["RECEIVE_BUFFER_BYTES", "Inbound"]

RECEIVE_BUFFER_BYTES = 2 << 20
"""Unread bytes and those beyond a hole, together: 20 MB/s over 100 ms."""
FIRST_BUFFER_BYTES = 64 << 10
"""What a connection may fill before anything of it was read: a thousand strangers together hold 64 MB at most."""
_SMALL_BYTES = 512
"""Payloads below are put together: an object for each byte would take fifty times its memory."""
_LARGE_BYTES = 4096
"""Payloads above are cheaper looked into than copied."""
_SHUT_BYTES = 1500
"""A window that lets no full packet through."""
_MAX_AHEAD = 8 * MAX_SACK_BYTES
"""Packets beyond the next expected one that are kept: what one selective ack can speak of, and a window of
2 MiB in packets of a kilobyte. What is kept and not told is sent again.
"""


class Inbound:
    """The receiving half. `ack` is the number of the last packet that came in order."""

    __slots__ = (
        "_ahead",
        "_ahead_bytes",
        "_ahead_mask",
        "_chunks",
        "_fin_seq",
        "_limit_bytes",
        "_told_bytes",
        "_unread_bytes",
        "ack",
        "deaf",
        "must_ack",
    )

    def __init__(self) -> None:
        self.ack = 0
        self.must_ack = False
        """Something came, or room was made, that the peer should hear of."""
        self.deaf = False
        """Nobody reads any more: what comes is acknowledged and thrown away."""
        self._chunks: deque[bytes | memoryview] = deque()
        self._ahead: dict[int, bytes] = {}
        self._ahead_bytes = 0
        self._ahead_mask = 0
        """Bit n: number `ack` + 2 + n is among them."""
        self._unread_bytes = 0
        self._fin_seq: int | None = None
        self._limit_bytes = self._told_bytes = FIRST_BUFFER_BYTES

    @property
    def readable(self) -> bool:
        """Bytes wait to be read."""
        return bool(self._chunks)

    @property
    def finished(self) -> bool:
        """The peer's end came, and everything before it."""
        return self._fin_seq is not None and self.ack == self._fin_seq

    @property
    def has_holes(self) -> bool:
        """Packets came that are ahead of a missing one."""
        return bool(self._ahead)

    @property
    def held_bytes(self) -> int:
        """All that is kept."""
        return self._unread_bytes + self._ahead_bytes

    def window_bytes(self) -> int:
        """The room that is left."""
        return max(0, self._limit_bytes - self._unread_bytes - self._ahead_bytes)

    def accept_next(self, seq: int, datagram: bytes) -> bool:
        """Takes a data packet without extensions if it is the next one and nothing is out of turn; cheap.

        False: it is not, and nothing was done.
        """
        size = len(datagram) - HEADER_BYTES
        if (
            seq != (self.ack + 1) & 0xFFFF
            or self._ahead
            or size < _SMALL_BYTES
            or self._fin_seq is not None
            or self.deaf
            or self._unread_bytes + size > self._limit_bytes
        ):
            return False
        self.ack = seq
        self._chunks.append(memoryview(datagram)[HEADER_BYTES:] if size > _LARGE_BYTES else datagram[HEADER_BYTES:])
        self._unread_bytes += size
        self.must_ack = True
        return True

    def accept(self, seq: int, payload: bytes, *, fin: bool) -> None:
        """Takes the payload of a data packet, or the peer's end."""
        self.must_ack = True
        ahead = seq_distance(seq, (self.ack + 1) & 0xFFFF)
        if fin and self._fin_seq is None and ahead >= 0:
            self._fin_seq = seq
        if ahead < 0 or (self._fin_seq is not None and seq_distance(seq, self._fin_seq) > 0):
            return
        if ahead == 0:
            # What lies ahead was acknowledged and stays; this is what it all waits for, and needs only its own room.
            if self._unread_bytes + len(payload) > self._limit_bytes:
                return
            self.ack = seq
            self._ahead_mask >>= 1
            self._deliver(payload)
            while self._ahead and (following := (self.ack + 1) & 0xFFFF) in self._ahead:
                kept = self._ahead.pop(following)
                self._ahead_bytes -= len(kept)
                self.ack = following
                self._ahead_mask >>= 1
                self._deliver(kept)
        elif ahead <= _MAX_AHEAD and len(payload) <= self.window_bytes() and seq not in self._ahead:
            self._ahead[seq] = payload
            self._ahead_bytes += len(payload)
            self._ahead_mask |= 1 << ahead - 1

    def _deliver(self, payload: bytes) -> None:
        if payload and not self.deaf:
            chunks = self._chunks
            if len(payload) < _SMALL_BYTES and chunks and len(chunks[-1]) < _SMALL_BYTES:
                chunks[-1] = b"".join((chunks[-1], payload))
            else:
                chunks.append(payload)
            self._unread_bytes += len(payload)

    def read_into(self, buffer: memoryview) -> int:
        """Moves received bytes into `buffer`; 0 where there are none."""
        filled, room = 0, len(buffer)
        chunks = self._chunks
        while chunks and filled < room:
            chunk = chunks[0]
            after = filled + len(chunk)
            if after <= room:
                buffer[filled:after] = chunk
                chunks.popleft()
            else:
                buffer[filled:] = chunk[: room - filled]
                chunks[0] = chunk[room - filled :]
                after = room
            filled = after
        self._unread_bytes -= filled
        # A sender's window at most doubles with what arrives: this is always ahead of it.
        self._limit_bytes = min(RECEIVE_BUFFER_BYTES, self._limit_bytes + 2 * filled)
        if self._told_bytes < self._limit_bytes // 2 <= self.window_bytes():
            self.must_ack = True  # the peer may be waiting for room
        return filled

    def forget(self) -> None:
        """The connection is over: what is in order can still be read."""
        self._ahead.clear()
        self._ahead_bytes = self._ahead_mask = 0

    def told(self, window_bytes: int) -> bool:
        """The acknowledgement goes out. True where it is news: there was no room for a packet, and is again."""
        self.must_ack = False
        is_news = self._told_bytes < _SHUT_BYTES <= window_bytes
        self._told_bytes = window_bytes
        return is_news

    def sack(self) -> bytes:
        """The selective ack: which packets ahead of the hole are here."""
        mask = self._ahead_mask
        return mask.to_bytes(max(4, (mask.bit_length() + 31) // 32 * 4), "little") if mask else b""
