"""LEDBAT: how many bytes may be under way, so that our queue at the bottleneck stays at 100 ms (BEP 29).

The one-way delay is measured by two clocks that do not agree, so only its rise over the least of the last
minutes means anything. Loss halves the window, as it does TCP's; a time-out starts over.
"""

from __future__ import annotations

__all__ = ["BURST_BYTES", "MIN_WINDOW_BYTES", "TARGET_DELAY_US", "Ledbat"]

TARGET_DELAY_US = 100_000
_GAIN_BYTES_PER_RTT = 3000
"""The window grows by at most two packets a round trip once slow start is over."""
_YIELD_PER_RTT = 1 / 8
"""And shrinks by at most this part of it a round trip, else a large window would take a minute to make room for TCP."""
MIN_WINDOW_BYTES = 2 * 1452
"""Two packets, so that a lost one can be told from a late one."""
FIRST_WINDOW_BYTES = 2 * MIN_WINDOW_BYTES
_MAX_WINDOW_BYTES = 4 << 20
BURST_BYTES = 16 * MIN_WINDOW_BYTES
"""So much may go out at once into any queue, and slow start goes at least so far: a flight much smaller loses its tail
to a time-out at every loss.
"""
_BASE_BUCKETS = 3
_BUCKET_S = 60.0
"""The least delay is taken over two to three minutes, a minute a bucket: clocks drift and routes change."""
_FILTER_SAMPLES = 4
"""The least of the last few delays: a single late packet says nothing of the queue."""
_MAX_DRIFT_US = 10_000
"""More than two clocks part between two packets: such a fall is another route, or a queue that emptied."""
_UNSET_DELAY_US = 0x7FFFFFFF
"""What µTorrent says in place of 0 before it has measured anything."""


def _wrapped(delay_us: int, base_us: int) -> int:
    """How much `delay_us` is above `base_us`, both modulo 2^32: -2^31..2^31-1."""
    return ((delay_us - base_us + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class _BaseDelay:
    """The least one-way delay of the last minutes, by clocks that do not agree: what the path takes without a queue."""

    __slots__ = ("_bucket_until", "_buckets")

    def __init__(self) -> None:
        self._buckets: list[int] = []
        self._bucket_until = 0.0

    @property
    def us(self) -> int | None:
        """The least, modulo 2^32; None before the first sample."""
        if not self._buckets:
            return None
        base = self._buckets[0]
        for other in self._buckets[1:]:
            if _wrapped(other, base) < 0:
                base = other
        return base

    def sample(self, delay_us: int, now: float) -> int:
        """Takes a delay in; returns the base."""
        if not self._buckets or now >= self._bucket_until:
            self._buckets = [*self._buckets[-(_BASE_BUCKETS - 1) :], delay_us]
            self._bucket_until = now + _BUCKET_S
        elif _wrapped(delay_us, self._buckets[-1]) < 0:
            self._buckets[-1] = delay_us
        base = self.us
        assert base is not None
        return base

    def rise(self, by_us: int) -> None:
        """The other clock has gained so much on ours."""
        self._buckets = [(base + by_us) & 0xFFFFFFFF for base in self._buckets]


class Ledbat:
    """The congestion window of one direction, in bytes. Times are monotonic seconds."""

    __slots__ = ("_base", "_recent", "_slow_until_bytes", "_their_base", "queueing_us", "slow_start", "window_bytes")

    def __init__(self) -> None:
        self.window_bytes = float(FIRST_WINDOW_BYTES)
        self.slow_start = True
        self.queueing_us = 0
        """Our queue at the bottleneck, as last measured."""
        self._base = _BaseDelay()
        self._their_base = _BaseDelay()
        self._recent: list[int] = []
        self._slow_until_bytes = float(_MAX_WINDOW_BYTES)
        """Where slow start ends in any case: what was known to fit when it began."""

    def measured(self, delay_us: int, their_delay_us: int, rtt_s: float, now: float) -> None:
        """`delay_us` is what the peer measured of our packets, `their_delay_us` what we did of its, modulo 2^32.

        `rtt_s`: the last round trip, which no queue can be longer than, whatever the clocks say.
        """
        # A clock of theirs that runs fast makes their delays fall and ours rise by as much: that rise is no queue.
        before = self._their_base.us
        base = self._their_base.sample(their_delay_us, now)
        if before is not None and 0 < (gained := _wrapped(before, base)) <= _MAX_DRIFT_US:
            self._base.rise(gained)
        if not delay_us or delay_us == _UNSET_DELAY_US:
            return
        late = max(0, _wrapped(delay_us, self._base.sample(delay_us, now)))
        self._recent = [*self._recent[-(_FILTER_SAMPLES - 1) :], late]
        self.queueing_us = int(min(*self._recent, late, rtt_s * 1e6))

    def acked(self, count_bytes: int, window_used: bool) -> bool:
        """New bytes were acknowledged. `window_used`: the window was what held us back; only then may it grow.

        True where slow start went too far, so that the window was halved: losses may follow, and say the same.
        """
        if not window_used and self.queueing_us < TARGET_DELAY_US:
            return False
        off_target = (TARGET_DELAY_US - self.queueing_us) / TARGET_DELAY_US
        overshot = self.slow_start and self.queueing_us > TARGET_DELAY_US * 0.9
        if self.slow_start:
            if overshot:
                # What was measured now was sent a round trip ago, with half the window: that one fits the target.
                self.slow_start = False
                self.window_bytes = max(MIN_WINDOW_BYTES, self.window_bytes / 2)
            else:
                self.window_bytes = min(self._slow_until_bytes, self.window_bytes + count_bytes)
                self.slow_start = self.window_bytes < self._slow_until_bytes
                return False
        share = min(count_bytes, self.window_bytes) / max(self.window_bytes, count_bytes)
        step = _GAIN_BYTES_PER_RTT if off_target > 0 else max(_GAIN_BYTES_PER_RTT, self.window_bytes * _YIELD_PER_RTT)
        gain = step * max(off_target, -1.0) * share
        self.window_bytes = min(_MAX_WINDOW_BYTES, max(MIN_WINDOW_BYTES, self.window_bytes + gain))
        return overshot

    def lost(self) -> None:
        """Of a flight something was lost: halves the window. To be called once a flight, however much was lost."""
        self.slow_start = False
        self.window_bytes = max(MIN_WINDOW_BYTES, self.window_bytes / 2)

    def recovered(self, under_way_bytes: int) -> None:
        """What was lost has arrived. What the window has room for now would all go out at once, and into a full queue:
        where that is much it opens as in slow start, from what is `under_way_bytes` to where it was (RFC 5681).
        """
        if under_way_bytes + BURST_BYTES < self.window_bytes:
            self._slow_until_bytes = self.window_bytes
            self.window_bytes = float(under_way_bytes + BURST_BYTES)
            self.slow_start = True

    def timed_out(self, packet_bytes: int) -> None:
        """Nothing came back: one packet at a time, then slow start to half of what was too much."""
        if self.window_bytes > packet_bytes:
            self._slow_until_bytes = max(BURST_BYTES, self.window_bytes / 2)
        self.window_bytes = float(packet_bytes)
        self.slow_start = True
