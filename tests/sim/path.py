"""Two uTP muxes over a simulated path: delay, loss, reordering, duplication, a bottleneck with a queue, an MTU.

A clock of its own, one seed, no trio: thousands of packets in a blink, the same each time. A TCP-like flow can
share the bottleneck.

    path = Path(1, rate=1_000_000, queue_s=0.3)
    path.transfer(data)
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from wire.compact import Endpoint
from wire.utp.connection import UtpConnection
from wire.utp.mux import UtpMux

__all__ = ["A", "B", "Path", "TcpFlow"]

A, B = Endpoint("10.0.0.1", 1000), Endpoint("10.0.0.2", 2000)
START_S = 4294.0
"""Shortly before a clock of 32 bits of microseconds wraps."""


class Path:
    """Carries datagrams between two muxes. Rates are bytes a second, of each direction."""

    def __init__(
        self,
        seed: int,
        *,
        loss: float = 0.0,
        delay_s: float = 0.02,
        jitter_s: float = 0.0,
        duplicate: float = 0.0,
        late_every: int = 0,
        late_s: float = 0.0,
        rate: float = float("inf"),
        queue_s: float = 1.0,
        mtu: int = 65536,
        drift: float = 0.0,
    ) -> None:
        """`late_every`: of so many datagrams of each side, one is `late_s` later than the others, so that they overtake
        it. `drift`: how much faster B's clock runs than A's.
        """
        self.rng = random.Random(seed)
        self.now = START_S
        self.muxes = {A: UtpMux(random.Random(seed + 1), self.now), B: UtpMux(random.Random(seed + 2), self.now)}
        self.loss, self.delay_s, self.jitter_s, self.duplicate = loss, delay_s, jitter_s, duplicate
        self.late_every, self.late_s = late_every, late_s
        self.rate, self.queue_s = rate, queue_s
        self.drift, self.step_s = {A: 0.0, B: drift}, {A: 0.0, B: 0.0}
        """How much faster each clock runs, and how far it was set forward."""
        self.mtu = mtu
        """The largest UDP payload that arrives; larger ones vanish without a word."""
        self.free_at = {A: self.now, B: self.now}
        self.sent_bytes = {A: 0, B: 0}
        self.sent_count = {A: 0, B: 0}
        self.sizes: dict[int, int] = {}
        """Datagrams from A by size."""
        self.at_each_instant: Callable[[], None] = lambda: None
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def later(self, at: float, action: Callable[[], None]) -> None:
        """Calls `action` at that time."""
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, action))

    def clock(self, end: Endpoint) -> float:
        """What time it is there."""
        return self.now + (self.now - START_S) * self.drift[end] + self.step_s[end]

    def _due(self, end: Endpoint, timer: float) -> float:
        """When that clock shows this time."""
        wait = max(0.0, timer - self.clock(end)) / (1 + self.drift[end])
        return self.now + wait + (1e-9 if self.drift[end] else 0.0)  # never a rounding too early

    def carry(self, source: Endpoint, size: int, arrive: Callable[[], None], extra_s: float = 0.0) -> bool:
        """Puts a packet on its way; False where the bottleneck's queue was full."""
        start = max(self.now, self.free_at[source])
        if start - self.now > self.queue_s:
            return False
        self.free_at[source] = start + size / self.rate
        for _ in range(2 if self.rng.random() < self.duplicate else 1):
            self.later(self.free_at[source] + self.delay_s + extra_s + self.rng.random() * self.jitter_s, arrive)
        return True

    def queue_of(self, source: Endpoint) -> float:
        """How long the queue of that direction is, in seconds."""
        return max(0.0, self.free_at[source] - self.now)

    def flush(self) -> None:
        """Carries what the muxes have to say."""
        for source, mux in self.muxes.items():
            for data, to in mux.outgoing(self.clock(source)):
                self.sent_bytes[source] += len(data)
                self.sent_count[source] += 1
                if source == A:
                    self.sizes[len(data)] = self.sizes.get(len(data), 0) + 1
                if self.rng.random() < self.loss or len(data) > self.mtu:
                    continue
                late = self.late_every and self.sent_count[source] % self.late_every == 0
                self.carry(source, len(data), self._arrival(data, source, to), self.late_s if late else 0.0)

    def _arrival(self, data: bytes, source: Endpoint, to: Endpoint) -> Callable[[], None]:
        def arrive() -> None:
            if to in self.muxes:
                self.muxes[to].receive(data, source, self.clock(to))

        return arrive

    def run(self, done: Callable[[], bool], limit_s: float = 600.0) -> None:
        """Goes on until `done`, asked at each instant, says so."""
        until = self.now + limit_s
        while not done():
            self.flush()
            self.at_each_instant()
            upcoming = [
                self._due(end, timer) for end, mux in self.muxes.items() if (timer := mux.next_timer()) is not None
            ]
            if self._heap:
                upcoming.append(self._heap[0][0])
            if not upcoming or min(upcoming) > until:
                raise AssertionError(f"stuck after {self.now - START_S:.1f} s")
            self.now = max(self.now, min(upcoming))
            while self._heap and self._heap[0][0] <= self.now:
                heapq.heappop(self._heap)[2]()
            for end, mux in self.muxes.items():
                mux.tick(self.clock(end))

    def transfer(self, data: bytes, *, both_ways: bool = False) -> float:
        """Sends `data` from A to B (and back), checks every byte, returns the seconds that it took."""
        begun = self.now
        dialled = self.muxes[A].dial(B, self.clock(A))
        ends: dict[str, UtpConnection] = {"a": dialled}
        left = {"a": memoryview(data), "b": memoryview(data if both_ways else b"")}
        got = {"a": bytearray(), "b": bytearray()}
        room = bytearray(65536)

        def step() -> bool:
            for connection in self.muxes[B].accepted():
                ends["b"] = connection
            for name, connection in ends.items():
                mux = self.muxes[A if name == "a" else B]
                while count := connection.read_into(memoryview(room)):
                    got[name] += room[:count]
                if left[name] and connection.writable:
                    left[name] = left[name][connection.write(left[name]) :]
                mux.touch(connection)
            return len(got["b"]) == len(data) and (not both_ways or len(got["a"]) == len(data))

        self.run(step)
        took = self.now - begun
        assert got["b"] == data
        assert not both_ways or got["a"] == data
        return took


class TcpFlow:
    """A sender from A to B that behaves as TCP Reno does: it fills the queue until something is lost, then halves.

    Its acknowledgements come back undelayed by the data of others. It has always something to send.
    """

    PACKET_BYTES = 1500

    def __init__(self, path: Path) -> None:
        self.path = path
        self.delivered_bytes = 0
        self.window = 10.0
        self._threshold = float("inf")
        self._under_way = 0
        self._next = 0
        self._highest = -1
        self._missing: set[int] = set()
        self._recover_until = -1
        self._heard_at = path.now
        self.running = False

    def start(self) -> None:
        """Begins; it goes on until `stop`."""
        self.running = True
        self._send()
        self._watch()

    def stop(self) -> None:
        """No more packets."""
        self.running = False

    def _send(self) -> None:
        path = self.path
        while self.running and self._under_way < int(self.window):
            number = self._next
            self._next += 1
            self._under_way += 1
            if not path.carry(A, self.PACKET_BYTES, lambda n=number: self._arrived(n)):  # type: ignore[misc]
                self._missing.add(number)

    def _arrived(self, number: int) -> None:
        self.delivered_bytes += self.PACKET_BYTES
        self.path.later(self.path.now + self.path.delay_s, lambda: self._acknowledged(number))

    def _acknowledged(self, number: int) -> None:
        self._under_way -= 1
        self._heard_at = self.path.now
        lost = [n for n in self._missing if n < number - 3]
        self._missing -= set(lost)
        self._under_way -= len(lost)
        if lost and max(lost) > self._recover_until:
            self._recover_until = self._next
            self._threshold = self.window = max(2.0, self.window / 2)
        elif not lost:
            self.window += 1.0 if self.window < self._threshold else 1.0 / self.window
        self._send()

    def _watch(self) -> None:
        if not self.running:
            return
        if self.path.now - self._heard_at > 1.0:  # a time-out: everything under way is taken for lost
            self._under_way = 0
            self._missing.clear()
            self._threshold, self.window = max(2.0, self.window / 2), 1.0
            self._heard_at = self.path.now
            self._send()
        self.path.later(self.path.now + 0.2, self._watch)
