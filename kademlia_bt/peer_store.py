"""Peers that others announced here (BEP 5), kept for a while and handed out. One family a store; bounded both ways.

The peers of a torrent lie in one buffer, in the very form that a `values` list has on the wire: an
answer is a slice of it. A full store holds 10 to 22 bytes a peer.
"""

from __future__ import annotations

import random
from array import array

from wire.compact import Endpoint, Family

__all__ = ["MAX_PEERS_PER_TORRENT", "MAX_TORRENTS", "PEER_LIFE_S", "PeerStore"]

MAX_TORRENTS = 2_000
MAX_PEERS_PER_TORRENT = 500
"""libtorrent's limits; ours keep a flood of announces below 25 MB."""
PEER_LIFE_S = 45 * 60.0
"""BEP 5 leaves it open. Clients announce every 15 to 30 minutes, so this outlives one lost announce."""


class _Swarm:
    __slots__ = ("entries", "expires", "seeds")

    def __init__(self) -> None:
        self.entries = bytearray()
        self.expires = array("d")
        self.seeds = bytearray()


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
        return sum(len(swarm.expires) for swarm in self._swarms.values())

    def accepts(self, info_hash: bytes) -> bool:
        """Whether an announce would be kept. Where not, no token is to be given out."""
        return len(self._swarms) < MAX_TORRENTS or info_hash in self._swarms

    def add(self, info_hash: bytes, compact: bytes, now: float, *, seed: bool = False) -> bool:
        """Keeps a peer (compact endpoint) for `PEER_LIFE_S`; of a full torrent the oldest goes. False: store full."""
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            if len(self._swarms) >= MAX_TORRENTS:
                return False
            swarm = self._swarms[info_hash] = _Swarm()
        entry = self._prefix + compact
        index = self._find(swarm, entry)
        if index is None and len(swarm.expires) >= MAX_PEERS_PER_TORRENT:
            index = swarm.expires.index(min(swarm.expires))
        if index is None:
            swarm.entries += entry
            swarm.expires.append(now + PEER_LIFE_S)
            swarm.seeds.append(seed)
        else:
            swarm.entries[index * self._width : (index + 1) * self._width] = entry
            swarm.expires[index] = now + PEER_LIFE_S
            swarm.seeds[index] = seed
        return True

    def sample(self, info_hash: bytes, limit: int, now: float) -> bytes:
        """At most `limit` peers as bencoded byte strings, ready to stand in a `values` list; empty where none is."""
        swarm = self._swarms.get(info_hash)
        if swarm is None or limit <= 0:
            return b""
        if min(swarm.expires) <= now and not self._expire(info_hash, swarm, now):
            return b""
        count = len(swarm.expires)
        if count <= limit:
            return bytes(swarm.entries)
        # A window at a random place gives each peer the same chance, at the cost of one slice.
        start = self._rng.randrange(count) * self._width
        window = swarm.entries[start : start + limit * self._width]
        return bytes(window + swarm.entries[: limit * self._width - len(window)])

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

    def _find(self, swarm: _Swarm, entry: bytes) -> int | None:
        at = swarm.entries.find(entry)
        while at >= 0:
            if at % self._width == 0:
                return at // self._width
            at = swarm.entries.find(entry, at + 1)
        return None

    def _expire(self, info_hash: bytes, swarm: _Swarm, now: float) -> bool:
        kept = [index for index, at in enumerate(swarm.expires) if at > now]
        if not kept:
            del self._swarms[info_hash]
            return False
        if len(kept) < len(swarm.expires):
            width = self._width
            swarm.entries = bytearray().join(swarm.entries[i * width : (i + 1) * width] for i in kept)
            swarm.expires = array("d", (swarm.expires[i] for i in kept))
            swarm.seeds = bytearray(swarm.seeds[i] for i in kept)
        return True
