"""Whom to dial next: addresses by hearsay, each tried with patience and none flooded. It opens nothing.

Anybody can name any address to us (DHT, BEP 11), a victim's too. So an address gets one connection at a
time and few tries, however many ports it is named with; a loopback address stands for many peers, there
each port counts by itself. Of those who may be dialled at one moment, whom the user named goes first, then
who has the higher canonical priority (BEP 40).
"""

from __future__ import annotations

import enum
import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from wire.blocklist import BlockList
from wire.compact import Endpoint, Family, reach
from wire.limits import TokenBucket
from wire.swarm.crowd import DIAL_BURST, DIALS_PER_S, WHOLE_DIAL, Crowd, Turns
from wire.swarm.priority import priority

__all__ = ["Candidates"]

T = TypeVar("T")
V = TypeVar("V")

MAX_CANDIDATES = 3000
"""Kept at once: what libtorrent keeps; hearsay beyond it is forgotten."""
MAX_NAMED_EXTRA = 200
"""Room beyond that for what the user named himself, so that hearsay cannot crowd it out."""
MAX_PORTS_PER_HOST = 3
MAX_TRIES = 3
"""Dials of one address that fail in a row, before it rests."""
REST_S = 1800.0
RETRY_S = (10.0, 60.0)
"""Pauses after the first and later failures."""
NAMED_RETRY_S = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""The same for what the user named: tried for as long as he waits."""
RETRY_PROVEN_S = 20.0
MAX_PROVEN_TRIES = 90
"""The same for who brought something before: for half an hour, as it may be our own network that is away."""
RECONNECT_S = 60.0
"""Pause after a connection that brought nothing."""
RECONNECT_NAMED_S = 10.0
"""The same for whom the user named: a client that has only just started may send away whom it lets in later."""
RECONNECT_USEFUL_S = 3.0
"""Pause after one that did bring something: seeds that come and go are worth it."""
MAX_INBOUND_PER_HOST = 8
"""Connections from one address: households share one, floods do too."""
MAX_BANNED = 10_000
MAX_OURS = 64
FIRST_CONNECT_S = 6.0
"""How long a first dial waits: most of those who answer do so within one lost packet; dead addresses are many."""
CONNECT_S = 15.0

_NAMED_BY_USER = ("peer", "link")


class _State(enum.Enum):
    WAITING = enum.auto()
    DIALLING = enum.auto()
    CONNECTED = enum.auto()


@dataclass(slots=True)
class _Candidate:
    endpoint: Endpoint
    via: str
    not_before: float
    state: _State = _State.WAITING
    seed: bool = False
    proven: bool = False
    """A connection to it brought something."""
    swarm_id: bytes | None = None


@dataclass(slots=True)
class _Host:
    """What is shared by all ports of an address (of a loopback address: by one port)."""

    ports: set[int] = field(default_factory=set)
    failures: int = 0
    dialled: int = 0
    """Dials and dialled connections now."""
    inbound: int = 0


class Candidates:
    """Every address that was named for one torrent and is worth a try. Times are monotonic seconds."""

    def __init__(self, now: float, crowd: Crowd | None = None) -> None:
        """`crowd`: whose turns to dial it shares; None: it is alone."""
        self._turns = Turns(crowd)
        self._candidates: dict[Endpoint, _Candidate] = {}
        self._hosts: dict[str, _Host] = {}
        self._queue: list[tuple[float, int, Endpoint]] = []
        """Who waits: until when, and in what order he came."""
        self._ripe: list[tuple[int, int, int, float, Endpoint]] = []
        """Whose time has come: whom the user named, then by priority, then in the order in which they came."""
        self._seen_as: dict[Family, Endpoint] = {}
        self._order = 0
        self._resting: dict[str, float] = {}
        self._banned: dict[str, None] = {}
        self._ours: dict[Endpoint, None] = {}
        self._rate = TokenBucket(DIALS_PER_S, DIAL_BURST, now)
        self.found: Counter[str] = Counter()
        """Distinct addresses by the source that named them first."""
        self.block_list: BlockList | None = None
        self.blocked = 0
        """How many addresses were named, or came, that the block list names."""
        self.banned = 0
        """How many addresses were banned."""
        self.want_seeds = True
        """False: those known to have everything are left alone (we need nothing any more)."""

    def __len__(self) -> int:
        return len(self._candidates)

    def __contains__(self, endpoint: Endpoint) -> bool:
        return endpoint in self._candidates

    def add(self, endpoint: Endpoint, via: str, now: float, swarm_id: bytes | None = None) -> bool:
        """Takes an address in; False where it is known, banned, resting, no place to dial, or one too many.

        `swarm_id`: the name of the torrent by which it was found, where that is known.
        """
        known = self._candidates.get(endpoint)
        named = via in _NAMED_BY_USER
        if known is not None:
            known.swarm_id = known.swarm_id or swarm_id
            if named and known.via not in _NAMED_BY_USER:
                known.via = via
                if known.state is _State.WAITING:
                    self._wait(known, now)
            return False
        if not endpoint.port or reach(endpoint.host) in ("unspecified", "invalid"):
            return False
        key = _key(endpoint)
        if key in self._banned or endpoint in self._ours or self._is_blocked(endpoint):
            return False
        most = MAX_CANDIDATES + (MAX_NAMED_EXTRA if named else 0)
        if len(self._candidates) >= most or (not named and self._resting.get(key, 0.0) > now):
            return False
        host = self._hosts.get(key)
        if host is not None and not named and len(host.ports) >= MAX_PORTS_PER_HOST:
            return False
        if host is None:
            host = self._hosts[key] = _Host()
        self._resting.pop(key, None)
        host.ports.add(endpoint.port)
        candidate = self._candidates[endpoint] = _Candidate(endpoint, via, now, swarm_id=swarm_id)
        self._wait(candidate, now)
        self.found[via] += 1
        return True

    def next(self, now: float) -> Endpoint | None:
        """Whom to dial now, or None. It counts as being dialled until `connected`, `failed` or `cancelled`."""
        self._ripen(now)
        while self._ripe:
            if self._rate.available(now) < WHOLE_DIAL or not self._has_turn(now):
                return None
            *_, not_before, endpoint = heapq.heappop(self._ripe)
            candidate = self._waiting(endpoint, not_before)
            if candidate is None:
                continue
            host = self._hosts[_key(endpoint)]
            if host.dialled or host.inbound or (candidate.seed and not self.want_seeds):
                self._wait(candidate, now + RECONNECT_S)
                continue
            self._begin(candidate, host, now)
            return endpoint
        return None

    def claim(self, endpoint: Endpoint, via: str, now: float) -> bool:
        """Takes an address out of turn, to be dialled at once as one of `next` is; False where it must not be."""
        self.add(endpoint, via, now)
        candidate = self._candidates.get(endpoint)
        if candidate is None or candidate.state is not _State.WAITING or self._rate.available(now) < WHOLE_DIAL:
            return False
        host = self._hosts[_key(endpoint)]
        if host.dialled or host.inbound:
            return False
        self._begin(candidate, host, now)
        return True

    def _begin(self, candidate: _Candidate, host: _Host, now: float) -> None:
        self._rate.take(1.0, now)
        if candidate.via not in _NAMED_BY_USER:
            self._turns.taken(now)
        candidate.state = _State.DIALLING
        host.dialled += 1

    def next_timer(self, now: float) -> float | None:
        """When `next` may have somebody; None where nobody waits."""
        if not self._queue and not self._ripe:
            return None
        missing = WHOLE_DIAL - self._rate.available(now)
        soonest = now if self._ripe else self._queue[0][0]
        if self._ripe and not self._has_turn(now):
            soonest = min(self._turns.comes_at(now), self._queue[0][0] if self._queue else math.inf)
        return max(soonest, now + max(missing / DIALS_PER_S, 1e-6) if missing > 0 else now)

    def _has_turn(self, now: float) -> bool:
        """Whether the next of those whose time has come may be dialled before those of other torrents."""
        by_hearsay, *_ = self._ripe[0]
        return not by_hearsay or self._turns.comes_at(now) <= now

    def seen_as(self, host: str) -> None:
        """Our own IP address, as others see it, for the priority of what is named from now on."""
        us = Endpoint(host, 0)
        self._seen_as[us.family] = us

    def _ripen(self, now: float) -> None:
        """Moves whose time has come to those among whom priority decides."""
        while self._queue and self._queue[0][0] <= now:
            not_before, order, endpoint = heapq.heappop(self._queue)
            candidate = self._waiting(endpoint, not_before)
            if candidate is not None:
                us = self._seen_as.get(endpoint.family)
                worth = 0 if us is None else priority(us, endpoint)
                heapq.heappush(self._ripe, (candidate.via not in _NAMED_BY_USER, -worth, order, not_before, endpoint))

    def _waiting(self, endpoint: Endpoint, not_before: float) -> _Candidate | None:
        """The candidate of a queue's entry; None where something was decided about it since."""
        candidate = self._candidates.get(endpoint)
        if candidate is None or candidate.state is not _State.WAITING or candidate.not_before != not_before:
            return None
        return candidate

    def patience_s(self, endpoint: Endpoint) -> float:
        """How long a dial of it may take."""
        host = self._hosts.get(_key(endpoint))
        return FIRST_CONNECT_S if host is None or not host.failures else CONNECT_S

    def via(self, endpoint: Endpoint) -> str:
        """Who named it first; "incoming" for who came by himself."""
        candidate = self._candidates.get(endpoint)
        return "incoming" if candidate is None else candidate.via

    def swarm_id(self, endpoint: Endpoint) -> bytes | None:
        """By which name of the torrent to ask there; None: any."""
        candidate = self._candidates.get(endpoint)
        return None if candidate is None else candidate.swarm_id

    def prefer(self, endpoint: Endpoint, swarm_id: bytes) -> None:
        """From now on it is to be asked by this name."""
        candidate = self._candidates.get(endpoint)
        if candidate is not None:
            candidate.swarm_id = swarm_id

    # --- what became of a dial

    def connected(self, endpoint: Endpoint) -> None:
        """The handshake is done."""
        candidate = self._candidates.get(endpoint)
        if candidate is not None and candidate.state is _State.DIALLING:
            candidate.state = _State.CONNECTED
            self._hosts[_key(endpoint)].failures = 0

    def failed(self, endpoint: Endpoint, now: float) -> None:
        """The dial, or the handshake after it, came to nothing."""
        candidate = self._candidates.get(endpoint)
        if candidate is None or candidate.state is not _State.DIALLING:
            return
        key = _key(endpoint)
        host = self._hosts[key]
        host.dialled -= 1
        host.failures += 1
        if candidate.via in _NAMED_BY_USER:
            self._wait(candidate, now + NAMED_RETRY_S[min(host.failures, len(NAMED_RETRY_S)) - 1])
        elif candidate.proven and host.failures < MAX_PROVEN_TRIES:
            self._wait(candidate, now + RETRY_PROVEN_S)
        elif host.failures >= MAX_TRIES:
            self._rest(key, now)
        else:
            self._wait(candidate, now + RETRY_S[min(host.failures, len(RETRY_S)) - 1])

    def cancelled(self, endpoint: Endpoint, now: float) -> None:
        """The dial was given up for reasons of our own: it may be tried again soon."""
        self._release(endpoint, now, RECONNECT_USEFUL_S)

    def closed(self, endpoint: Endpoint, now: float, *, useful: bool) -> None:
        """A dialled connection ended after its handshake."""
        pause_s = RECONNECT_NAMED_S if self.via(endpoint) in _NAMED_BY_USER else RECONNECT_S
        self._release(endpoint, now, RECONNECT_USEFUL_S if useful else pause_s, proven=useful)

    def again(self, endpoint: Endpoint, now: float) -> None:
        """It may be dialled again at once: the connection was closed for our own sake."""
        candidate = self._candidates.get(endpoint)
        if candidate is not None and candidate.state is _State.WAITING:
            self._wait(candidate, now)

    def _release(self, endpoint: Endpoint, now: float, pause_s: float, *, proven: bool = False) -> None:
        candidate = self._candidates.get(endpoint)
        if candidate is not None and candidate.state is not _State.WAITING:
            candidate.proven |= proven
            self._hosts[_key(endpoint)].dialled -= 1
            self._wait(candidate, now + pause_s)

    # --- who comes by himself

    def admit(self, endpoint: Endpoint) -> bool:
        """Counts a connection that was accepted; False where its address is banned or has enough of them."""
        key = _key(endpoint)
        if key in self._banned or self._is_blocked(endpoint):
            return False
        host = self._hosts.setdefault(key, _Host())
        if host.inbound >= MAX_INBOUND_PER_HOST:
            return False
        host.inbound += 1
        return True

    def departed(self, endpoint: Endpoint) -> None:
        """An admitted connection ended."""
        key = _key(endpoint)
        host = self._hosts.get(key)
        if host is None:
            return
        host.inbound -= 1
        if host.inbound <= 0 and not host.ports:
            del self._hosts[key]

    # --- judgement

    def is_seed(self, endpoint: Endpoint) -> None:
        """It has every piece."""
        candidate = self._candidates.get(endpoint)
        if candidate is not None:
            candidate.seed = True

    def is_ourselves(self, endpoint: Endpoint) -> None:
        """It leads back to us: never dialled again, nor counted as found. Its host may have other peers."""
        self._release(endpoint, 0.0, 0.0)
        if (candidate := self._candidates.pop(endpoint, None)) is not None:
            self.found -= Counter({candidate.via: 1})
            self._hosts[_key(endpoint)].ports.discard(endpoint.port)
        self._ours[endpoint] = None
        _bound(self._ours, MAX_OURS)

    def is_ours(self, endpoint: Endpoint) -> bool:
        """Whether it was found to lead back to us."""
        return endpoint in self._ours

    def ban(self, endpoint: Endpoint) -> None:
        """It lied: not dialled and not admitted any more."""
        key = _key(endpoint)
        if key not in self._banned:
            self.banned += 1
        self._banned[key] = None
        self._drop_host(key)
        _bound(self._banned, MAX_BANNED)

    def _is_blocked(self, endpoint: Endpoint) -> bool:
        if self.block_list is None or endpoint.host not in self.block_list:
            return False
        self.blocked += 1
        return True

    def is_banned(self, endpoint: Endpoint) -> bool:
        """Whether its address was banned."""
        return _key(endpoint) in self._banned

    def _rest(self, key: str, now: float) -> None:
        self._drop_host(key)
        self._resting[key] = now + REST_S
        _bound(self._resting, MAX_CANDIDATES)

    def _drop_host(self, key: str) -> None:
        host = self._hosts.get(key)
        if host is None:
            return
        name = key.partition(" ")[0]
        for port in host.ports:
            self._candidates.pop(Endpoint(name, port), None)
        host.ports.clear()
        host.dialled = 0
        if not host.inbound:
            del self._hosts[key]

    def _wait(self, candidate: _Candidate, until: float) -> None:
        candidate.state = _State.WAITING
        candidate.not_before = until
        self._order += 1
        heapq.heappush(self._queue, (until, self._order, candidate.endpoint))


def _bound(oldest_first: dict[T, V], size: int) -> None:
    while len(oldest_first) > size:  # memory stays bounded under a flood
        del oldest_first[next(iter(oldest_first))]


def _key(endpoint: Endpoint) -> str:
    if reach(endpoint.host) == "loopback":
        return f"{endpoint.host} {endpoint.port}"
    return endpoint.host
