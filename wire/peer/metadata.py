"""Fetching and serving the info dictionary over ut_metadata (BEP 9), across many peers; no I/O.

`MetadataFetch` decides which block to ask of whom, keeps what came apart by the size that a peer advertised,
checks the whole against the info-hash, and finds out who sent wrong bytes. It knows peers only by a key that
its caller chooses. The caller sends the requests, feeds the answers, and drops whom it names.

Blocks of one size are first shared among all peers that advertised it: that is fastest, and mostly right.
When such a whole hashes wrong and several peers had a part in it, nobody is blamed yet: from then on each
peer has to send everything of that size alone, a few of them side by side, and who then hashes wrong lied.
Once the true bytes are there, the shares of the first try are compared with them, and the other liars named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from wire.errors import MisuseError
from wire.ids import InfoHash
from wire.peer.extended import METADATA_BLOCK_BYTES

__all__ = ["FetchEvent", "MetadataFetch", "MetadataFetched", "MetadataPeerFailed", "MetadataServe"]

MAX_METADATA_BYTES = 16 << 20
"""The largest info dictionary that is fetched: some 800,000 piece hashes. Who names more is not asked."""
MAX_OUTSTANDING = 2
"""Blocks asked of a peer at once: more, and some refuse."""
ASK_AGAIN_S = 3.0
"""The same block is not asked of another peer before, and then of as many as were asked in vain: so twenty that are
silent take 15 s, not a minute. And a try that stood still so long makes room for others."""
ANSWER_TIMEOUT_S = 20.0
REST_S = 30.0
"""How long a peer is left alone that refused, or did not answer: it may have the info dictionary by then."""
MAX_REFUSALS = 3
"""Refusals, each after a rest, after which a peer is given up."""
MAX_LANES = 4
"""Tries going on side by side (sizes that differ, peers on their own), so that liars cannot multiply the traffic."""
_LANE_HOLDS_S = 6.0
"""A try that takes longer no longer keeps others from starting, and gives way when memory is short: so a liar
that sends a block every two seconds gains nothing."""
_MAX_FAILED = 1000
"""Keys of failed peers that are remembered."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class MetadataFetched:
    """The info dictionary is whole and hashes to the info-hash."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class MetadataPeerFailed(Generic[K]):
    """This peer will not be asked any more. `lied`: what it sent cannot have been honest."""

    peer: K
    lied: bool
    reason: str


FetchEvent = MetadataFetched | MetadataPeerFailed[K]


@dataclass(slots=True)
class _Peer:
    size: int
    asked: dict[int, float] = field(default_factory=dict)
    """Outstanding blocks and when they were asked for."""
    rests_until: float = 0.0
    refusals: int = 0


@dataclass(slots=True)
class _Asked:
    """When a block was asked for last, of how many peers then, and of how many before."""

    at: float
    peers: int = 1
    before: int = 0

    def again(self, now: float) -> _Asked:
        """It is asked of one peer more."""
        if now == self.at:
            return _Asked(now, self.peers + 1, self.before)
        return _Asked(now, 1, self.before + self.peers)

    def may_be_again(self, now: float) -> bool:
        """Whether it may be asked of one peer more."""
        return now - self.at >= ASK_AGAIN_S or (now == self.at and self.peers < self.before)


@dataclass(slots=True)
class _Lane(Generic[K]):
    """One try to get all blocks of one size: shared, or of one peer alone."""

    started_at: float
    moved_at: float
    blocks: dict[int, bytes] = field(default_factory=dict)
    senders: dict[int, K] = field(default_factory=dict)
    asked: dict[int, _Asked] = field(default_factory=dict)
    """The missing blocks that were asked for."""
    first_missing: int = 0

    def moves(self, now: float) -> bool:
        """Whether it counts among `MAX_LANES`, and is safe from making room."""
        return now - self.moved_at < ASK_AGAIN_S and now - self.started_at < _LANE_HOLDS_S


class MetadataFetch(Generic[K]):
    """Gets the info dictionary of one torrent. After each call that changes something, call `assign`.

    Memory: at most twice `max_bytes` and what was asked for already, and none for a size that was only advertised.
    Events may name peers that are gone by then: their address is still worth knowing.
    """

    def __init__(self, info_hash: InfoHash, *, max_bytes: int = MAX_METADATA_BYTES) -> None:
        self.done = False
        """The info dictionary was found; nothing more is asked."""
        self.rejects = 0
        """How many requests were rejected, by all peers."""
        self.hash_failures = 0
        """How often all bytes were there and hashed wrong."""
        self._info_hash = info_hash
        self._max_bytes = max_bytes
        self._peers: dict[K, _Peer] = {}
        self._failed: dict[K, None] = {}
        # Keyed by size and, where a peer works alone, by it.
        self._lanes: dict[tuple[int, K | None], _Lane[K]] = {}
        # Sizes that hashed wrong with several senders: who sent what, as hashes.
        self._disputed: dict[int, list[tuple[K, int, bytes]]] = {}
        self._buffered = 0
        self._assigned_at = 0.0

    def offer(self, peer: K, size: int, now: float) -> bool:
        """A peer with a ut_metadata id says that the info dictionary is `size` bytes long.

        False: it is not used: the size is over the limit, the peer failed before, or contradicts itself.
        """
        if self.done or not 0 < size <= self._max_bytes or peer in self._failed:
            return False
        known = self._peers.get(peer)
        if known is not None and known.size != size:
            self._give_up(peer)
            return False
        if known is None:
            self._peers[peer] = _Peer(size, rests_until=now)
        return True

    def gone(self, peer: K) -> None:
        """The connection is closed: nothing more comes from there. What it shared is kept."""
        known = self._peers.pop(peer, None)
        if known is None:
            return
        lane = self._lanes.get((known.size, None))
        if lane is not None:
            for piece in known.asked:
                lane.asked.pop(piece, None)
        self._drop_lane((known.size, peer))

    def assign(self, now: float) -> list[tuple[K, int]]:
        """Whom to ask for which block, now: each pair is to be sent as a request."""
        self._assigned_at = now
        requests: list[tuple[K, int]] = []
        if self.done:
            return requests
        running = {key for key, lane in self._lanes.items() if lane.moves(now)}
        # Tries that have had their time come after those that have not, whoever was here first.
        for peer, known in sorted(self._peers.items(), key=lambda item: self._had_its_time(item[0], item[1].size, now)):
            late = [piece for piece, at in known.asked.items() if now - at >= ANSWER_TIMEOUT_S]
            if late:
                self._rest(peer, known, late, now)
            if now < known.rests_until:
                continue
            key = self._lane_key(peer, known.size)
            lane = self._lanes.get(key)
            if key not in running and len(running) >= MAX_LANES:
                continue
            while len(known.asked) < MAX_OUTSTANDING:
                piece = self._next_piece(known, lane, now)
                if piece is None or not self._make_room(key, now):
                    break
                if lane is None:
                    lane = self._lanes[key] = _Lane(now, now)
                running.add(key)
                lane.moved_at = now
                known.asked[piece] = now
                asked = lane.asked.get(piece)
                lane.asked[piece] = _Asked(now) if asked is None else asked.again(now)
                requests.append((peer, piece))
        return requests

    def data(self, peer: K, piece: int, total_size: int | None, data: bytes, now: float) -> list[FetchEvent[K]]:
        """A block came. What was not asked for is ignored."""
        known = self._peers.get(peer)
        if self.done or known is None or known.asked.pop(piece, None) is None:
            return []
        size = known.size
        if total_size is not None and total_size != size:
            return self._fail(peer, False, f"it said {size} bytes of metadata first, then {total_size}")
        if len(data) != min(METADATA_BLOCK_BYTES, size - piece * METADATA_BLOCK_BYTES):
            return self._fail(peer, True, f"a metadata block of {len(data)} bytes is not of {size} in all")
        known.refusals = 0
        key = self._lane_key(peer, size)
        lane = self._lanes.get(key)
        if lane is None:  # since it was asked, the try was given up, or became the peer's own
            if not self._make_room(key, now):
                return []
            lane = self._lanes[key] = _Lane(now, now)
        lane.moved_at = now
        if piece in lane.blocks:
            return []
        lane.asked.pop(piece, None)
        lane.blocks[piece] = data
        lane.senders[piece] = peer
        self._buffered += len(data)
        while lane.first_missing in lane.blocks:
            lane.first_missing += 1
        return self._check(key, lane) if len(lane.blocks) == _block_count(size) else []

    def reject(self, peer: K, piece: int, now: float) -> list[FetchEvent[K]]:
        """A peer refused a block: it is left alone for a while, and given up after some times."""
        known = self._peers.get(peer)
        if self.done or known is None or piece not in known.asked:
            return []
        self.rejects += 1
        if now >= known.rests_until:  # else it is the second of two that were outstanding
            known.refusals += 1
        self._rest(peer, known, [piece], now)
        return self._fail(peer, False, "it refuses to send its metadata") if known.refusals >= MAX_REFUSALS else []

    def next_timer(self) -> float | None:
        """When `assign` may have something to say without anything having come; None: never."""
        if self.done:
            return None
        asked_at = [at for known in self._peers.values() for at in known.asked.values()]
        times = [at + wait for at in asked_at for wait in (ASK_AGAIN_S, ANSWER_TIMEOUT_S)]
        times += [known.rests_until for known in self._peers.values()]
        times += [lane.moved_at + ASK_AGAIN_S for lane in self._lanes.values()]
        return min((time for time in times if time > self._assigned_at), default=None)

    def _lane_key(self, peer: K, size: int) -> tuple[int, K | None]:
        return size, peer if size in self._disputed else None

    def _had_its_time(self, peer: K, size: int, now: float) -> bool:
        lane = self._lanes.get(self._lane_key(peer, size))
        return lane is not None and now - lane.started_at >= _LANE_HOLDS_S

    def _next_piece(self, known: _Peer, lane: _Lane[K] | None, now: float) -> int | None:
        for piece in range(0 if lane is None else lane.first_missing, _block_count(known.size)):
            if piece in known.asked or (lane is not None and piece in lane.blocks):
                continue
            asked = None if lane is None else lane.asked.get(piece)
            if asked is None or asked.may_be_again(now):
                return piece
        return None

    def _rest(self, peer: K, known: _Peer, pieces: list[int], now: float) -> None:
        """Leaves a peer alone for a while; the blocks that it did not send may be asked of others at once."""
        known.rests_until = now + REST_S
        key = self._lane_key(peer, known.size)
        lane = self._lanes.get(key)
        for piece in pieces:
            del known.asked[piece]
            if lane is not None:
                lane.asked.pop(piece, None)
        if lane is not None and not lane.asked and not lane.blocks:
            self._drop_lane(key)

    def _make_room(self, key: tuple[int, K | None], now: float) -> bool:
        """Sees to it that one more block can be kept, if need be by giving up the oldest try that does not move."""
        while self._buffered + METADATA_BLOCK_BYTES > 2 * self._max_bytes:
            stuck = [
                (lane.started_at, other)
                for other, lane in self._lanes.items()
                if other != key and lane.blocks and not lane.moves(now)
            ]
            if not stuck:
                return False
            self._drop_lane(min(stuck, key=lambda item: item[0])[1])
        return True

    def _drop_lane(self, key: tuple[int, K | None]) -> None:
        lane = self._lanes.pop(key, None)
        if lane is not None:
            self._buffered -= sum(map(len, lane.blocks.values()))

    def _fail(self, peer: K, lied: bool, reason: str) -> list[FetchEvent[K]]:
        self._give_up(peer)
        return [MetadataPeerFailed(peer, lied, reason)]

    def _give_up(self, peer: K) -> None:
        self.gone(peer)
        self._failed[peer] = None
        if len(self._failed) > _MAX_FAILED:
            del self._failed[next(iter(self._failed))]

    def _check(self, key: tuple[int, K | None], lane: _Lane[K]) -> list[FetchEvent[K]]:
        size, _ = key
        raw = b"".join(lane.blocks[piece] for piece in range(_block_count(size)))
        senders = list(dict.fromkeys(lane.senders.values()))
        self._drop_lane(key)
        if self._is_right(raw):
            events: list[FetchEvent[K]] = [MetadataFetched(raw)]
            events += self._liars(raw)
            self.done = True
            self._lanes.clear()
            self._disputed.clear()
            self._peers.clear()
            self._buffered = 0
            return events
        self.hash_failures += 1
        if len(senders) == 1:
            return self._fail(senders[0], True, "its metadata does not hash to the info-hash")
        self._disputed[size] = [
            (lane.senders[piece], piece, _fingerprint(block)) for piece, block in lane.blocks.items()
        ]
        return []

    def _is_right(self, raw: bytes) -> bool:
        v1, v2 = self._info_hash.v1, self._info_hash.v2
        return (v1 is None or hashlib.sha1(raw).digest() == v1) and (v2 is None or hashlib.sha256(raw).digest() == v2)

    def _liars(self, raw: bytes) -> list[FetchEvent[K]]:
        """Who had a part in a wrong whole, now that the right one is known."""
        liars: dict[K, None] = {}
        for size, shares in self._disputed.items():
            for peer, piece, fingerprint in shares:
                true_block = raw[piece * METADATA_BLOCK_BYTES : (piece + 1) * METADATA_BLOCK_BYTES]
                if size != len(raw) or fingerprint != _fingerprint(true_block):
                    liars[peer] = None
        return [MetadataPeerFailed(peer, True, "it sent wrong metadata") for peer in liars if peer not in self._failed]


class MetadataServe:
    """Serves a verified info dictionary."""

    def __init__(self, raw: bytes) -> None:
        """`raw`: its bytes as they were hashed. Raises MisuseError where they are none."""
        if not raw:
            raise MisuseError("there is no metadata to serve")
        self.size = len(raw)
        """Bytes in all: the `total_size` of data messages, the `metadata_size` of the extended handshake."""
        self._view = memoryview(raw)

    def block(self, piece: int) -> memoryview | None:
        """The 16 KiB block, or None where there is none such: then a reject is due."""
        begin = piece * METADATA_BLOCK_BYTES
        return self._view[begin : begin + METADATA_BLOCK_BYTES] if 0 <= begin < self.size else None


def _block_count(size: int) -> int:
    return -(-size // METADATA_BLOCK_BYTES)


def _fingerprint(block: bytes) -> bytes:
    return hashlib.sha1(block).digest()
