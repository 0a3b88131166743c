"""What keeps a routing table alive, decided on a beat of one second: joining, refreshing, pinging (BEP 5).

Says whom to ping and what to look up; face.py does it and reports back. A node that nobody has heard of for a
minute may be pinged, the stalest first: the more of them turn out dead, the faster it goes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.table import GOOD_S, K, Table
from wire.compact import Address, Endpoint

__all__ = ["BEAT_S", "Keeper"]

BEAT_S = 1.0

_MAX_PROBES = 16
"""Pings to unproven addresses at a time: whoever makes us ping a third party gets no more than this each second."""
_MAX_QUEUE = 128
_MAX_TRIED = 1_024
_TRY_AGAIN_S = 60.0
_MAX_REMEMBERED = 500

_KEEPALIVE_AGE_S = 60.0
_KEEPALIVE_MIN_S = 0.5
_KEEPALIVE_MAX_S = 6.0
_KEEPALIVE_SLOWER = 1.15
"""With halving on silence, this settles where one ping in six finds a dead node."""

_REJOIN_MIN_S = 2.0
_REJOIN_MAX_S = 60.0
_REVIVE_EVERY_S = 10.0
_REVIVE_NODES = 4


class Keeper:
    """One face's upkeep."""

    def __init__(self, table: Table, rng: random.Random, now: float) -> None:
        self._table = table
        self._rng = rng
        self._queue: dict[Endpoint, None] = {}
        self._tried: dict[Address, float] = {}
        self._probes = 0
        self._remembered: dict[Endpoint, Contact] = {}
        self._keepalive_s = _KEEPALIVE_MAX_S
        self._keepalive_at = now
        self._rejoin_s = _REJOIN_MIN_S
        self._join_at: float | None = now
        self._join_again = False
        self._revive_at = now
        self._refreshing = False
        self.joined = False
        self.is_cut_off = False
        """Whether the last try to join met nobody."""

    @property
    def remembered(self) -> list[Contact]:
        """Nodes that were alive once: saved ones, and those that fell out of the table; the latest last."""
        return list(self._remembered.values())

    def remember(self, contacts: Iterable[Contact]) -> None:
        """Keeps nodes to come back to when all others are gone."""
        for contact in contacts:
            self._remembered.pop(contact.endpoint, None)
            if len(self._remembered) >= _MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[contact.endpoint] = contact

    def suggest(self, endpoint: Endpoint, now: float) -> None:
        """An address that may be a node's: to be pinged, if it was not within the last minute and there is room."""
        tried_at = self._tried.get(endpoint)
        if tried_at is not None and now - tried_at < _TRY_AGAIN_S:
            return
        if endpoint not in self._queue and len(self._queue) < _MAX_QUEUE:
            self._queue[endpoint] = None

    def would_take(self, endpoint: Address, now: float) -> bool:
        """Whether `suggest` would queue an address: most of a busy node's askers need no closer look."""
        tried_at = self._tried.get(endpoint)
        return len(self._queue) < _MAX_QUEUE and (tried_at is None or now - tried_at >= _TRY_AGAIN_S)

    @property
    def has_suggestions(self) -> bool:
        """Whether `probes` would give one now."""
        return bool(self._queue) and self._probes < _MAX_PROBES

    def probes(self, now: float) -> list[Endpoint]:
        """Suggested addresses to ping now; `probed` is to be told of each."""
        chosen: list[Endpoint] = []
        while self.has_suggestions:
            endpoint = next(iter(self._queue))
            del self._queue[endpoint]
            self._tried.pop(endpoint, None)
            if len(self._tried) >= _MAX_TRIED:
                del self._tried[next(iter(self._tried))]
            self._tried[endpoint] = now
            self._probes += 1
            chosen.append(endpoint)
        return chosen

    def probed(self) -> None:
        """A ping of `probes` has ended."""
        self._probes -= 1

    def keepalives(self, now: float) -> list[Endpoint]:
        """Table nodes to ping now; `kept_alive` is to be told of each."""
        chosen: list[Endpoint] = []
        while self._keepalive_at <= now:
            node = self._table.stalest(now, _KEEPALIVE_AGE_S)
            if node is None:
                self._keepalive_at = now + self._keepalive_s
                break
            node.probed_at = now
            chosen.append(node.contact.endpoint)
            self._keepalive_at = max(self._keepalive_at, now - BEAT_S) + self._keepalive_s
        return chosen

    def kept_alive(self, *, answered: bool) -> None:
        """How a ping of `keepalives` ended."""
        pace = self._keepalive_s * _KEEPALIVE_SLOWER if answered else self._keepalive_s / 2
        self._keepalive_s = min(max(pace, _KEEPALIVE_MIN_S), _KEEPALIVE_MAX_S)

    def should_join(self, now: float) -> bool:
        """Whether to look up our own id now; `join_ended` is to be told."""
        if self._join_at is None or now < self._join_at:
            return False
        self._join_at = None
        return True

    def join_soon(self, now: float) -> None:
        """There is news of where to start from, or a first answer: if we are not joined, join now."""
        if self._join_at is not None and not self.joined:
            self._join_at = now
            self._rejoin_s = _REJOIN_MIN_S

    def revive(self, now: float) -> None:
        """Where all nodes were lost, has a few of old pinged now and then, so that the net's return is noticed."""
        if not self.is_cut_off or now < self._revive_at or not self._remembered:
            return
        self._revive_at = now + _REVIVE_EVERY_S
        contacts = self.remembered
        for contact in self._rng.sample(contacts, min(_REVIVE_NODES, len(contacts))):
            self._tried.pop(contact.endpoint, None)
            self.suggest(contact.endpoint, now)

    def join_ended(self, now: float) -> bool:
        """The lookup of our own id has ended. True where that is how we joined: live nodes are known, as was not so
        before."""
        good = self._table.good(now)
        news = bool(good) and not self.joined
        self.joined = bool(good)
        self.is_cut_off = not good
        if self._join_again:
            self._join_again = False
            self._join_at = now
        elif good >= K:
            self._join_at = now + GOOD_S
            self._rejoin_s = _REJOIN_MIN_S
        else:
            self._join_at = now + self._rejoin_s
            self._rejoin_s = min(self._rejoin_s * 2, _REJOIN_MAX_S)
        return news

    def moved(self, now: float) -> None:
        """Our id changed: its neighbourhood is to be looked up, after the lookup that is under way."""
        if self._join_at is None:
            self._join_again = True
        else:
            self._join_at = now

    def watch(self, now: float) -> None:
        """Notes when all nodes were lost, so that joining begins anew."""
        if self.joined and not self._table.has_good(now):
            self.joined = False
            if self._join_at is not None:
                self._join_at = now

    def refresh_target(self, now: float) -> bytes | None:
        """What to look up to refresh a bucket, one at a time; `refreshed` is to be told."""
        if self._refreshing or not self.joined:
            return None
        target = self._table.refresh_target(now, self._rng)
        self._refreshing = target is not None
        return target

    def refreshed(self) -> None:
        """The lookup of `refresh_target` has ended."""
        self._refreshing = False
