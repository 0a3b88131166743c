"""How large a datagram one path carries whole, found by trying, without I/O (after RFC 8899; BEP 29 leaves it open).

The search starts at what every path carries and goes up by probes: small data packets, padded to the size in
question. What a lost probe carried is sent again unpadded, so no size that was not proved ever holds up the
stream: there is no black hole at the start, whatever the routers keep silent about. ICMP is not needed.
A path that gets narrower later is noticed by time-outs, and everything new is small again.
"""

from __future__ import annotations

__all__ = ["CEILING_BYTES", "FLOOR_BYTES", "MtuSearch"]

FLOOR_BYTES = {4: 576 - 28, 16: 1280 - 48}
"""What every path carries whole (RFC 791, RFC 8200), less the IP and UDP headers, by the width of the address."""
CEILING_BYTES = {4: 1500 - 28, 16: 1500 - 48}
"""An Ethernet frame: hardly a path of the internet carries more, and nothing is lost where one does."""
LOOPBACK_BYTES = 32 << 10
"""Tried between two programs of one machine once Ethernet's size has arrived: each packet costs, nothing cuts it."""
_TRIES = 2
"""Probes of one size lost in a row before it counts as too large: one may have met a full queue."""
_EXACT_ENOUGH_BYTES = 16
_AGAIN_S = 600.0
"""A search that ended below the ceiling is made anew so much later: routes change, and queues fool it."""


class MtuSearch:
    """The search on the path of one connection. Sizes are those of the UDP payload, times monotonic seconds."""

    __slots__ = ("_again_at", "_beyond", "_ceiling", "_lost", "_most", "_trying", "floor", "size")

    def __init__(self, ip_bytes: int, *, loopback: bool = False) -> None:
        """`ip_bytes` is the width of the peer's address: 4 or 16. `loopback`: it is on this machine."""
        self.floor = FLOOR_BYTES[ip_bytes]
        """What arrives in any case."""
        self._most = self._ceiling = CEILING_BYTES[ip_bytes]
        self.size = self.floor
        """The largest datagram that is known to arrive."""
        self._beyond = LOOPBACK_BYTES if loopback else 0
        """A size past the ceiling that is tried, and if it fails given up; 0: none."""
        self._trying = 0
        """The size of the probe that is under way; 0 where none is."""
        self._lost = 0
        self._again_at: float | None = None

    def probe(self, now: float) -> int:
        """The size to try now, and that it is being tried; 0: nothing to try."""
        if self._trying:
            return 0
        if self._beyond and self.size == self._most:
            self._trying = self._beyond
            return self._trying
        if self._again_at is not None:
            if now < self._again_at:
                return 0
            self._again_at = None
            self._ceiling = self._most
        if self._ceiling - self.size < _EXACT_ENOUGH_BYTES:
            if self._ceiling < self._most:
                self._again_at = now + _AGAIN_S
            return 0
        # The ceiling itself first: most paths carry it, and one probe settles it.
        self._trying = self._ceiling if self._ceiling == self._most else (self.size + self._ceiling + 1) // 2
        return self._trying

    def arrived(self) -> None:
        """The probe was acknowledged."""
        self.size = max(self.size, self._trying)
        if self._trying == self._beyond:
            self._most = self._ceiling = self._beyond
            self._beyond = 0
        self._trying = self._lost = 0

    def lost(self) -> None:
        """The probe was not acknowledged, later packets were."""
        self._lost += 1
        if self._lost >= _TRIES:
            self._lost = 0
            if self._trying == self._beyond:
                self._beyond = 0
            else:
                self._ceiling = max(self.size, self._trying - 1)
        self._trying = 0

    def narrowed(self, now: float) -> None:
        """Packets of the proved size do not arrive any more: back to the floor, and up again later."""
        self.size = self.floor
        self._ceiling = self._most
        self._trying = self._lost = 0
        self._again_at = now + _AGAIN_S
