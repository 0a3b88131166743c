"""Peers that others announced here (BEP 5), kept for a while and handed out. One family a store; bounded both ways.

The peers of a torrent lie in one buffer, in the very form that a `values` list has on the wire: an
answer is a slice of it. With 4 bytes for when it ends, a peer takes 12 bytes, over IPv6 25.
"""

from __future__ import annotations

import random
from array import array

from kademlia_bt.dht.places import is_global
from kademlia_bt.items.bloom import CAPACITY, BloomFilter
from wire.compact import Endpoint, Family

__all__ = ["MAX_PEERS_PER_TORRENT", "MAX_TORRENTS", "PEER_LIFE_S", "PeerStore"]

MAX_TORRENTS = 2_000
MAX_PEERS_PER_TORRENT = 500
"""libtorrent's limits; with these a flood of announces over both families fills less than 50 MB."""
PEER_LIFE_S = 45 * 60.0
"""To the second. BEP 5 leaves it open. Clients announce every 15 to 30 minutes, so this outlives one lost announce."""


Filters = tuple[BloomFilter, BloomFilter]
"""Seeds, and all others (BEP 33)."""


class _Swarm:
    """The peers of one torrent: `entries` as on the wire, and in the same order `ends`.

    Each of these is the second at which a peer is over, its lowest bit whether that is a seed: half the memory of a
    float and a flag, and the smallest is still that of the oldest peer.
    """

    __slots__ = ("crowd", "ends", "entries", "filters", "is_saturated", "soonest")

    def __init__(self) -> None:
        self.entries = bytearray()
        self.ends = array("I")
        self.soonest = _NEVER
        """No peer is over before this: what asks for peers need not look at each."""
        self.filters: Filters | None = None
        """Of `entries`, once they were asked for; None again with each change."""
        self.crowd: _Crowd | None = None
        self.is_saturated = False
        """Whether the filters could not count any more (BEP 33): further announces are not asked for."""

    def __len__(self) -> int:
        return len(self.ends)

    def put(self, index: int | None, entry: bytes, until: int, *, seed: bool) -> None:
        """Writes a peer over another, or behind all."""
        end = until << 1 | seed
        self.filters = None
        self.soonest = min(self.soonest, until)
        if index is not None:
            self.entries[index * len(entry) : (index + 1) * len(entry)] = entry
            self.ends[index] = end
            return
        self.entries += entry
        self.ends.append(end)
        if len(self.ends) == MAX_PEERS_PER_TORRENT:  # it grows no more: what was taken ahead goes back
            self.entries, self.ends = bytearray(self.entries), self.ends[:]

    def is_seed(self, index: int) -> bool:
        return bool(self.ends[index] & 1)

    def oldest(self) -> int:
        """The place of the peer that ends first."""
        return self.ends.index(min(self.ends))

    def keep(self, now: float, width: int) -> bool:
        """Leaves those alone that are not over. False: none is left."""
        kept = [index for index, end in enumerate(self.ends) if end >> 1 > now]
        if len(kept) < len(self.ends):
            self.filters = None
            self.entries = bytearray().join([self.entries[i * width : (i + 1) * width] for i in kept])
            self.ends = array("I", [self.ends[i] for i in kept])
        self.soonest = min(self.ends, default=0) >> 1
        return bool(kept)


_NEVER = 1 << 31


class _Crowd:
    """The peers for whom a torrent had no place any more: counted, not named. A half turns with each peer's life."""

    __slots__ = ("_before", "_now", "_turns_at")

    def __init__(self, now: float) -> None:
        self._now = self._before = _NOBODY
        self._turns_at = now + PEER_LIFE_S

    def add(self, ip: bytes, seed: bool, now: float) -> None:
        self.turn(now)
        seeds, others = self._now
        one = BloomFilter()
        one.add(ip)
        self._now = (seeds | one, others) if seed else (seeds, others | one)

    def turn(self, now: float) -> None:
        if now >= self._turns_at:
            slept = now >= self._turns_at + PEER_LIFE_S
            self._before = _NOBODY if slept else self._now
            self._now = _NOBODY
            self._turns_at = now + PEER_LIFE_S

    @property
    def filters(self) -> Filters:
        return self._now[0] | self._before[0], self._now[1] | self._before[1]


_NOBODY: Filters = (BloomFilter(), BloomFilter())


class PeerStore:
    """Who announced for which info-hash."""

    def __init__(self, family: Family, rng: random.Random) -> None:
        self._rng = rng
        self._swarms: dict[bytes, _Swarm] = {}
        self._prefix = b"%d:" % family.endpoint_bytes
        self._width = len(self._prefix) + family.endpoint_bytes

    @property
    def entry_bytes(self) -> int:
        """Width of one entry in what `sample` gives: its length prefix and the compact endpoint."""
        return self._width

    @property
    def info_hashes(self) -> list[bytes]:
        """Those with peers, oldest first."""
        return list(self._swarms)

    @property
    def peers(self) -> int:
        """Peers of all info-hashes, those included that ended since the last `sweep`."""
        return sum(len(swarm) for swarm in self._swarms.values())

    def __contains__(self, info_hash: bytes) -> bool:
        """Whether peers of it may be known; what ended since the last `sweep` still counts."""
        return info_hash in self._swarms

    @property
    def is_full(self) -> bool:
        """Whether there is no place for another info-hash."""
        return len(self._swarms) >= MAX_TORRENTS

    def accepts(self, info_hash: bytes) -> bool:
        """Whether an announce is wanted. Where not, no token is to be given out: the store is full, or this torrent
        has more peers than its filters can count (BEP 33: some 6,000)."""
        swarm = self._swarms.get(info_hash)
        return not self.is_full if swarm is None else not swarm.is_saturated

    def add(self, info_hash: bytes, compact: bytes, now: float, *, seed: bool = False) -> bool:
        """Keeps a peer (compact endpoint) for `PEER_LIFE_S`. False: the store is full.

        An address is one peer, that of the port that it announced last (BEP 33), so that nobody with many ports pushes
        out others; but for local addresses, where whole test networks share one. Of a full torrent the oldest goes; it
        is still counted for as long.
        """
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            if self.is_full:
                return False
            swarm = self._swarms[info_hash] = _Swarm()
        entry = self._prefix + compact
        index = self._find(swarm, entry[:-2] if is_global(compact[:-2]) else entry)
        if index is None and len(swarm) >= MAX_PEERS_PER_TORRENT:
            index = swarm.oldest()
            self._count_out(swarm, index, now)
        swarm.put(index, entry, int(now + PEER_LIFE_S), seed=seed)
        return True

    def sample(self, info_hash: bytes, limit: int, now: float) -> bytes:
        """At most `limit` peers as bencoded byte strings, ready to stand in a `values` list; empty where none is."""
        swarm = self._swarms.get(info_hash)
        if swarm is None or limit <= 0 or (swarm.soonest <= now and not self._expire(info_hash, swarm, now)):
            return b""
        count = len(swarm)
        if count <= limit:
            return bytes(swarm.entries)
        # A window at a random place gives each peer the same chance, at the cost of one slice.
        start = self._rng.randrange(count) * self._width
        window = swarm.entries[start : start + limit * self._width]
        return bytes(window + swarm.entries[: limit * self._width - len(window)])

    def sample_others(self, info_hash: bytes, limit: int, now: float) -> bytes:
        """As `sample`, of those alone who are no seeds (BEP 33 `noseed`)."""
        swarm = self._swarms.get(info_hash)
        if swarm is None or limit <= 0 or (swarm.soonest <= now and not self._expire(info_hash, swarm, now)):
            return b""
        others = [index for index, end in enumerate(swarm.ends) if not end & 1]
        chosen = others if len(others) <= limit else self._rng.sample(others, limit)
        return b"".join(swarm.entries[index * self._width : (index + 1) * self._width] for index in chosen)

    def filters(self, info_hash: bytes, now: float) -> Filters | None:
        """How many there are, seeds and others, as filters of their addresses (BEP 33); None for an unknown torrent."""
        swarm = self._swarms.get(info_hash)
        if swarm is None or (swarm.soonest <= now and not self._expire(info_hash, swarm, now)):
            return None
        if swarm.filters is None:
            swarm.filters = self._filters_of(swarm)
        if swarm.crowd is None:
            return swarm.filters
        swarm.crowd.turn(now)
        crowd = swarm.crowd.filters
        return swarm.filters[0] | crowd[0], swarm.filters[1] | crowd[1]

    def peers_of(self, info_hash: bytes, now: float) -> list[Endpoint]:
        """All peers of a torrent."""
        entries = self.sample(info_hash, MAX_PEERS_PER_TORRENT, now)
        start = len(self._prefix)
        return [
            Endpoint.from_compact(entries[at + start : at + self._width]) for at in range(0, len(entries), self._width)
        ]

    def sweep(self, now: float) -> None:
        """Forgets what is over."""
        for info_hash, swarm in list(self._swarms.items()):
            self._expire(info_hash, swarm, now)

    def _ip(self, swarm: _Swarm, index: int) -> bytes:
        start = index * self._width + len(self._prefix)
        return bytes(swarm.entries[start : (index + 1) * self._width - 2])

    def _filters_of(self, swarm: _Swarm) -> Filters:
        seeds, others = BloomFilter(), BloomFilter()
        for index in range(len(swarm)):
            (seeds if swarm.is_seed(index) else others).add(self._ip(swarm, index))
        return seeds, others

    def _count_out(self, swarm: _Swarm, index: int, now: float) -> None:
        if swarm.crowd is None:
            swarm.crowd = _Crowd(now)
        swarm.crowd.add(self._ip(swarm, index), swarm.is_seed(index), now)
        self._measure(swarm)

    def _measure(self, swarm: _Swarm) -> None:
        assert swarm.crowd is not None
        seeds, others = swarm.crowd.filters
        swarm.is_saturated = (seeds | others).estimate.size + len(swarm) > CAPACITY

    def _find(self, swarm: _Swarm, entry: bytes) -> int | None:
        """Which entry is, or begins with, these bytes."""
        at = swarm.entries.find(entry)
        while at >= 0:
            if at % self._width == 0:
                return at // self._width
            at = swarm.entries.find(entry, at + 1)
        return None

    def _expire(self, info_hash: bytes, swarm: _Swarm, now: float) -> bool:
        if not swarm.keep(now, self._width):
            del self._swarms[info_hash]
            return False
        if swarm.crowd is not None:
            swarm.crowd.turn(now)
            self._measure(swarm)
        return True
