"""Who comes into a router's ring, who stays, and whom to ping when. One family's share; no I/O.

Who asks is pinged a quarter of an hour later: by then the hole that its question made in a NAT is closed again, and
who answers can be reached by anybody. While the ring is small it is pinged at once, and again in turn. Each
node of the ring is pinged every quarter of an hour; one that misses a ping gets a second after a minute, and then goes.
How good the ring is gets measured at its end: of the nodes just handed out, some are pinged to see who answers.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Final

from kademlia_bt.dht.node_id import fits
from kademlia_bt.dht.places import is_global
from kademlia_bt.router.ping_queue import PingQueue, Recent
from kademlia_bt.router.ring import NodeRing
from kademlia_bt.router.scatter import scatter
from wire.compact import Family
from wire.ids import ID_BYTES

__all__ = ["MOST_NODES", "PING_DELAY_S", "PING_WAIT_S", "RECHECK_S", "RETRY_S", "SMALL", "RingKeeper", "source_of"]

MOST_NODES: Final = 16
"""Of an answer."""
PING_DELAY_S: Final = 900.0
"""NATs keep a hole open for up to five minutes, some for ten."""
RECHECK_S: Final = 900.0
"""In which the whole ring is pinged once, as far as `_CHECKS_PER_S` allows."""
RETRY_S: Final = 60.0
"""After a missed ping: the gap of a reboot or of a changed route is longer than that of a lost datagram."""
PING_WAIT_S: Final = 10.0
SMALL: Final = 256
"""Nodes with which a ring is large enough to be choosy about new ones."""

_CHECKS_PER_S = 1_000.0
_ADMISSIONS_PER_S = 1_500.0
_AT_ONCE_PER_S = 100.0
"""Pings to who just asked, or was just named, while the ring is small: forged questions make no more of them."""
_BEAT_BUDGET_S = 1.0
"""Pings that were not sent in time are made up for, but not those of more than a second."""
_MAX_WAITING = 1_000_000
_MAX_SOON = 10_000
_MAX_RETRIES = 20_000
_SILENT_PINGS = 5
"""So many pings with nothing heard since: the router itself has lost its network, not the nodes theirs."""
_RECENT_MINUTES = 10
_SAMPLE_S = 1.0
_SAMPLES = 512
_SWEEP_S = 1_800.0


class _Allowance:
    """So many a second, saved up for a second."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._left = rate
        self._at = now

    def take(self, now: float) -> bool:
        if now > self._at:
            self._left = min(self._rate * _BEAT_BUDGET_S, self._left + (now - self._at) * self._rate)
            self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def source_of(address: bytes) -> bytes:
    """What counts as one asker: an IPv4 address, an IPv6 /64; where the network is local, a port of it."""
    ip = address[:-2]
    return ip[:8] if is_global(ip) else address


class RingKeeper:
    """The ring of one family, and all that keeps it fresh."""

    def __init__(self, family: Family, rng: random.Random, now: float, *, max_nodes: int, verify_ids: bool) -> None:
        self.family = family
        self.node_bytes = family.node_bytes
        self.nodes_heads = [
            b"%d:%b%d:" % (len(family.nodes_key), family.nodes_key, count * family.node_bytes)
            for count in range(MOST_NODES + 1)
        ]
        """What stands before the nodes of an answer, by how many they are: their key and their length, bencoded."""
        self.place = scatter(rng)
        """Where a key stands in the tables that are asked for each datagram: one place for all of them."""
        self.ring = NodeRing(family, rng, max_nodes=max_nodes, place=self.place)
        self.heard_at = now
        """When any datagram last came in: in a silence, nobody is blamed for a missed ping."""
        self.sample_at = now
        """When the next of the nodes handed out is to be sampled."""
        self.pongs = self.admitted = self.lost = 0
        self.refused: Counter[str] = Counter()
        self.lent = b""
        """Compact nodes that another process on our port has verified, and pings: handed out where our own are few."""
        self._verify_ids = verify_ids
        self._rng = rng
        self._later = PingQueue(family.endpoint_bytes, min(_MAX_WAITING, max(1_000, 2 * max_nodes)), rng, now)
        self._soon = PingQueue(family.endpoint_bytes, _MAX_SOON, rng, now)
        self.askers = Recent(rng, minutes=_RECENT_MINUTES, place=self.place)
        """Who asked in the last ten minutes, by the place of `source_of`."""
        self._named = Recent(rng, minutes=_RECENT_MINUTES, places_log2=16)
        self._tried = Recent(rng, minutes=1, places_log2=16, place=self.place)
        self._overdue: deque[tuple[float, bytes]] = deque()
        """Nodes of the ring that were pinged, and when their time is over."""
        self._retries: deque[tuple[float, bytes]] = deque()
        self._samples: dict[bytes, float] = {}
        self._sampled: deque[bool] = deque(maxlen=_SAMPLES)
        self._at_once = _Allowance(_AT_ONCE_PER_S, now)
        self._admissions = _Allowance(_ADMISSIONS_PER_S, now)
        self._heard_before = now
        self._unheard = 0
        """Pings to the ring since a datagram last came in."""
        self._checks_due = 0.0
        self._unchecked = 0
        """Nodes of a saved state whose first ping is still to come: as soon as may be."""
        self._beat_at = now
        self._sweep_at = now + _SWEEP_S

    @property
    def waiting(self) -> int:
        """Addresses that wait for their first ping."""
        return len(self._later) + len(self._soon)

    @property
    def sampled(self) -> tuple[int, int]:
        """Of the latest samples: how many there are, and how many of them answered."""
        return len(self._sampled), sum(self._sampled)

    def take_up(self, address: bytes, place: int, now: float, *, again: bool) -> bool:
        """Somebody asked who is not in the ring, not for the first time where `again`. Queues its address; or says
        True where it is to be pinged at once. `place` is that of `source_of`."""
        if len(self.ring) < SMALL:
            # Again in the next minute, lest the first two nodes of a network never meet for a lost datagram.
            if not self._tried.note_at(place, now):
                if self._at_once.take(now):
                    return True
                self.refused["queue"] += 1
        elif not again and not self._later.push(address, now + PING_DELAY_S):
            self.refused["queue"] += 1
        return False

    def suggest(self, address: bytes, now: float) -> None:
        """Another router names a node: it is pinged soon, if it is new."""
        if address not in self.ring and not self._named.note(source_of(address), now):
            self._soon.push(address, now)

    def answered(self, node_id: bytes, address: bytes, now: float) -> None:
        """A node has answered a ping of ours."""
        self.pongs += 1
        if self._samples.pop(address, None) is not None:
            self._sampled.append(True)
        if not self._verify_ids or not is_global(address[:-2]) or fits(node_id, address[:-2]):
            admission = self.ring.add(node_id, address)
        elif len(self.ring) < SMALL:
            # The first nodes of a network cannot know their address yet, and so no id that fits: they have nobody
            # but each other to learn it from.
            admission = self.ring.doubt(node_id, address)
        else:
            self.refused["id"] += 1
            return  # one that was in the ring leaves it as its pings stay unanswered
        if admission == "new":
            self.admitted += 1
        elif admission == "network":
            self.refused["network"] += 1

    def sample(self, nodes: bytes, now: float) -> bytes:
        """Of nodes just handed out, one that is to be pinged, so that `sampled` tells how many answer."""
        self.sample_at = now + max(_SAMPLE_S, RECHECK_S / len(self.ring))  # no hole is kept open by it
        width = self.family.node_bytes
        at = self._rng.randrange(len(nodes) // width) * width
        address = nodes[at + width - self.family.endpoint_bytes : at + width]
        self._samples[address] = now + PING_WAIT_S
        self._ask(address, now)
        return address

    def with_lent(self, nodes: bytes, count: int) -> bytes:
        """Own nodes, filled up to `count` with some that were lent."""
        width = self.family.node_bytes
        lent = [self.lent[at : at + width] for at in range(0, len(self.lent), width)]
        own = {nodes[at : at + width] for at in range(0, len(nodes), width)}
        others = [node for node in lent if node not in own]
        return nodes + b"".join(self._rng.sample(others, min(len(others), count - len(own))))

    def restore(self, entries: list[bytes]) -> None:
        """Takes up compact nodes of a saved state: handed out until others are known, and pinged at once."""
        for entry in entries:
            if self.ring.add(entry[:ID_BYTES], entry[ID_BYTES:], proven=False) == "new":
                self._unchecked += 1

    def beat(self, now: float) -> list[bytes]:
        """Whom to ping now. To be called a few times a second."""
        elapsed = min(now - self._beat_at, _BEAT_BUDGET_S)
        self._beat_at = now
        self._judge(now)
        pings = self._checks(elapsed, now)
        for queue in (self._soon, self._later):
            while (due := queue.next_due()) is not None and due <= now and self._admissions.take(now):
                address = queue.pop(now)
                if address is not None and address not in self.ring:
                    pings.append(address)
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            self.askers.sweep(now)
            self._named.sweep(now)
            self._tried.sweep(now)
        return pings

    def _checks(self, elapsed: float, now: float) -> list[bytes]:
        pings = []
        while self._retries and self._retries[0][0] <= now:
            pings.append(self._retries.popleft()[1])
        total = len(self.ring)
        pace = _CHECKS_PER_S if self._unchecked else min(_CHECKS_PER_S, total / RECHECK_S)
        self._checks_due = min(self._checks_due + elapsed * pace, float(total))
        while self._checks_due >= 1:
            self._checks_due -= 1
            self._unchecked = max(0, self._unchecked - 1)
            address = self.ring.next_to_check()
            if address is not None:
                pings.append(address)
        for address in pings:
            self._ask(address, now)
        return pings

    def _ask(self, address: bytes, now: float) -> None:
        if self.heard_at != self._heard_before:
            self._heard_before, self._unheard = self.heard_at, 0
        self._unheard += 1
        self.ring.asked(address)
        self._overdue.append((now + PING_WAIT_S, address))

    def _judge(self, now: float) -> None:
        """Blames who has not answered in time, unless nothing at all came in meanwhile: then it is our own network."""
        while self._overdue and self._overdue[0][0] <= now:
            due, address = self._overdue.popleft()
            outcome = "missed" if self._is_cut_off(due) else self.ring.overdue(address)
            if outcome == "gone":
                self.lost += 1
            elif outcome == "missed" and len(self._retries) < _MAX_RETRIES:
                self._retries.append((now + RETRY_S, address))
        while self._samples:
            address, due = next(iter(self._samples.items()))
            if due > now:
                break
            del self._samples[address]
            if not self._is_cut_off(due):
                self._sampled.append(False)

    def _is_cut_off(self, due: float) -> bool:
        return self.heard_at < due - PING_WAIT_S and self._unheard > _SILENT_PINGS
