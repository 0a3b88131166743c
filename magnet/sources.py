"""Where peers come from: every source as one stream of addresses, and the law for private torrents (BEP 27).

Here are the addresses that a link or the user names (`x.pe`, `--peer`), the DHT (BEP 5), asked again and
again with growing pauses, trackers (BEP 3, 12, 15) and the local network (BEP 14); all race. The DHT is
also told, before it forgets, that we share the torrent. What an address leads to is not judged here:
`wire.swarm` dials, fails, retries and bans. Peer exchange (BEP 11) is the swarm's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from kademlia_bt.node import Node, PeerSearch
from wire.compact import Endpoint, reach
from wire.errors import NetworkError
from wire.lsd_service import LocalDiscovery
from wire.net import Network
from wire.tracker.announcer import Announcer, TrackerCounts

__all__ = ["DHT", "LSD", "PEER", "TRACKER", "URL", "DhtCounts", "Found", "Sources"]

DHT = "dht"
TRACKER = "tracker"
LSD = "lsd"
URL = "url"
"""A .torrent that the link names (`xs`, `as`); it gives metadata, not peers."""
PEER = "peer"
"""The link or the user named it."""

ANNOUNCE_S = 15 * 60.0
"""Nodes forget a peer after 30 to 60 minutes: with this, one lost announce is made good in time."""

_SEARCH_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
"""Between the searches of one swarm. The first are short: the node may be joining, or the seeder announcing."""

_GIVEN_PAUSES_S = (5.0, 10.0, 30.0, 60.0)
"""Between the times that given addresses are named anew: the peer may come up later, a name may resolve later."""

_JITTER = 0.2
"""Pauses vary by so much, so that many torrents do not search at one moment."""


@dataclass(frozen=True, slots=True)
class Found:
    """An address of a peer, and the source that named it."""

    endpoint: Endpoint
    via: str
    """`DHT`, `PEER`, `TRACKER` or `LSD`."""
    swarm_id: bytes | None = field(default=None, compare=False)
    """The name by which it was asked for, of a torrent that may have two (BEP 52)."""


@dataclass(frozen=True, slots=True)
class DhtCounts:
    """What searching the DHT for one torrent came to, all searches together."""

    searches: int = 0
    asked: int = 0
    """Nodes asked, and how many of them answered."""
    answered: int = 0
    announced: int = 0
    """Announces that a node took."""

    def plus(self, search: PeerSearch) -> DhtCounts:
        """With one more search in it."""
        return DhtCounts(
            self.searches + 1,
            self.asked + search.asked,
            self.answered + search.answered,
            self.announced + search.announced,
        )


class Sources:
    """All sources of one torrent, merged. `run` works until cancelled, and hands on what it finds to who attends.

    `swarm_ids`: the 20-byte names of its swarms. `given`: hosts and ports that a person named. `node`: None for no DHT.
    `announcers`: at the torrent's trackers, one for each of its names; they begin after `announce`. `neighbours`: None
    for no local discovery. `announce_port`: the TCP port to tell the DHT; None: do not announce. `port`: where we
    listen. `local`: whether the DHT is believed when it names loopback and private addresses. `private`: whether the
    torrent is known to be so.
    """

    def __init__(
        self,
        *,
        swarm_ids: Iterable[bytes],
        given: Iterable[tuple[str, int]],
        node: Node | None,
        network: Network,
        rng: random.Random,
        announce_port: int | None,
        local: bool,
        announcers: Iterable[Announcer] = (),
        neighbours: LocalDiscovery | None = None,
        port: int = 0,
        private: bool = False,
    ) -> None:
        self._swarm_ids = list(swarm_ids)
        self._given = tuple(dict.fromkeys(given))
        self._node = node
        self._network = network
        self._rng = rng
        self._announce_port = announce_port
        self._local = local
        self._announcers = list(announcers)
        self._early: list[Found] = []
        """What was found before anybody took it."""
        self._take: Callable[[Found], None] = self._early.append
        self._begun: dict[bytes, PeerSearch] = {}
        """Searches of the DHT that `begin` began, until `run` goes on with them."""
        self._nursery: trio.Nursery | None = None
        self._strangers_nursery: trio.Nursery | None = None
        self._neighbours = neighbours
        self._port = port or announce_port or 0
        self._may_announce = trio.Event()
        self._strangers = trio.CancelScope()
        """Around what a private torrent must not use."""
        self._is_satisfied = trio.Event()
        self._searching: list[PeerSearch] = []
        self._past = DhtCounts()
        if private:
            self.forbid_strangers()

    def begin(self, *, ready: bool = False) -> None:
        """Asks the DHT at once, so that nodes are answering while the rest of the torrent is made.

        What they say waits for `attend`; `run` or `close` must follow. `ready`: see `Node.get_peers`.
        """
        if self._node is not None and not self._strangers.cancel_called:
            for swarm_id in self._swarm_ids:
                self._begun[swarm_id] = self._new_search(self._node, swarm_id, announcing=self._announces, ready=ready)

    def attend(self, take: Callable[[Found], None]) -> None:
        """From now on `take` gets what is found, some hundred in a burst; what was found before at once."""
        self._take = take
        early, self._early = self._early, []
        for found in early:
            take(found)

    def close(self) -> None:
        """Breaks off what was begun and `run` has not come to."""
        while self._begun:
            self._begun.popitem()[1].close()

    @property
    def is_empty(self) -> bool:
        """Nothing is to be asked: `run` would find nobody."""
        return not (self._given or self._announcers) and self._node is None and self._neighbours is None

    @property
    def asks_dht(self) -> bool:
        """Whether the DHT is among the sources still."""
        return self._node is not None and not self._strangers.cancel_called

    def forbid_strangers(self) -> None:
        """The torrent is private: from now on only given addresses (and its trackers) are used (BEP 27).

        Before the metadata nobody can know that; what was found until then is in the swarm already.
        """
        self._strangers.cancel()
        if self._neighbours is not None:
            for swarm_id in self._swarm_ids:
                self._neighbours.leave(swarm_id)
        for announcer in self._announcers:
            announcer.make_private()

    def join(self, swarm_id: bytes, announcers: Iterable[Announcer] = ()) -> None:
        """The torrent has one more name, as a link's metadata shows (BEP 52): its swarm is searched too."""
        if swarm_id in self._swarm_ids:
            return
        self._swarm_ids.append(swarm_id)
        if self._strangers_nursery is not None:
            self._ask_strangers_for(swarm_id, self._strangers_nursery)
        for announcer in announcers:
            self._announcers.append(announcer)
            if self._is_satisfied.is_set():
                announcer.complete()
            if self._nursery is not None:
                self._nursery.start_soon(self._ask_trackers, announcer)

    def announce(self) -> None:
        """What we have and lack is known as well as it can be: trackers may be told."""
        self._may_announce.set()

    def add_trackers(self, tiers: Sequence[Sequence[str]]) -> None:
        """A .torrent that was found names trackers too (BEP 12)."""
        for announcer in self._announcers:
            announcer.add(tiers)

    def satisfy(self) -> None:
        """Nothing is missing any more: only announces go on."""
        self._is_satisfied.set()
        for announcer in self._announcers:
            announcer.complete()

    @property
    def tracker_counts(self) -> TrackerCounts:
        """What asking trackers came to; for a torrent of two names the one that got further."""
        counts = [announcer.counts for announcer in self._announcers]
        return max(counts, key=lambda count: (count.answered, count.asked), default=TrackerCounts())

    @property
    def _satisfied(self) -> bool:
        return self._is_satisfied.is_set()

    @property
    def dht_counts(self) -> DhtCounts:
        """What the DHT was asked and said until now."""
        counts = self._past
        for search in self._searching:
            counts = counts.plus(search)
        return counts

    @property
    def own_hosts(self) -> set[str]:
        """Our own global addresses, as the DHT (BEP 42) and trackers (BEP 24) see them."""
        told = {announcer.external for announcer in self._announcers if announcer.external is not None}
        if self._node is not None:
            told |= {external.host for external in self._node.externals}
        return told

    async def run(self) -> None:
        """Searches, pauses and searches again, until cancelled."""
        await trio.lowlevel.checkpoint()  # who was found is dialled first, whatever the order of a turn
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for host, port in self._given:
                nursery.start_soon(self._name_again, host, port)
            for announcer in self._announcers:
                nursery.start_soon(self._ask_trackers, announcer)
            if (self._node is not None or self._neighbours is not None) and not self._strangers.cancel_called:
                await self._ask_strangers()
            await trio.sleep_forever()

    async def _ask_trackers(self, announcer: Announcer) -> None:
        await self._may_announce.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announcer.run)
            async for peer in announcer.found:
                if self._may_lead_somewhere(peer.endpoint, near=peer.is_near):
                    self._take(Found(peer.endpoint, TRACKER, announcer.swarm_id))

    async def _name_again(self, host: str, port: int) -> None:
        pauses = _Pauses(_GIVEN_PAUSES_S, self._rng)
        while True:
            try:
                endpoints = await self._network.resolve(host, port)
            except NetworkError:
                endpoints = []  # the name may resolve later: the network may be coming up
            for endpoint in endpoints:
                self._take(Found(endpoint, PEER))
            await trio.sleep(pauses.next())

    async def _ask_strangers(self) -> None:
        with self._strangers:
            try:
                async with trio.open_nursery() as nursery:
                    self._strangers_nursery = nursery
                    for swarm_id in self._swarm_ids:
                        self._ask_strangers_for(swarm_id, nursery)
                    await trio.sleep_forever()
            finally:
                self._strangers_nursery = None

    def _ask_strangers_for(self, swarm_id: bytes, nursery: trio.Nursery) -> None:
        if self._node is not None:
            nursery.start_soon(self._search, self._node, swarm_id)
        if self._neighbours is not None:
            nursery.start_soon(self._ask_neighbours, self._neighbours, swarm_id)

    async def _ask_neighbours(self, neighbours: LocalDiscovery, swarm_id: bytes) -> None:
        try:
            async for endpoint in neighbours.join(swarm_id):
                self._take(Found(endpoint, LSD, swarm_id))
        finally:
            neighbours.leave(swarm_id)

    async def _search(self, node: Node, swarm_id: bytes) -> None:
        pauses = _Pauses(_SEARCH_PAUSES_S, self._rng)
        announce_at = trio.current_time() if self._announces else float("inf")
        while True:
            announcing = trio.current_time() >= announce_at
            if announcing or not self._satisfied:
                search = self._begun.pop(swarm_id, None) or self._new_search(node, swarm_id, announcing=announcing)
                await self._follow(search)
                # A node that is just joining tells nobody or few: then the next search is soon, and tells again.
                if search.announced:
                    announce_at = trio.current_time() + ANNOUNCE_S
            with trio.move_on_after(pauses.next()):
                await self._is_satisfied.wait()
                await trio.sleep_until(announce_at)

    @property
    def _announces(self) -> bool:
        return self._announce_port is not None

    def _new_search(self, node: Node, swarm_id: bytes, *, announcing: bool, ready: bool = False) -> PeerSearch:
        return node.get_peers(
            swarm_id,
            announce_port=self._announce_port if announcing else None,
            seed=self._satisfied,
            take=partial(self._take_from_dht, swarm_id),
            ready=ready,
        )

    def _take_from_dht(self, swarm_id: bytes, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            if self._may_lead_somewhere(endpoint):
                self._take(Found(endpoint, DHT, swarm_id))

    async def _follow(self, search: PeerSearch) -> None:
        self._searching.append(search)
        try:
            async with search:
                await search.wait_done()
        finally:
            self._searching.remove(search)
            self._past = self._past.plus(search)

    def _may_lead_somewhere(self, endpoint: Endpoint, *, near: bool = False) -> bool:
        """Whether it is not ourselves, as we announced it, nor a trick to have us dial our own network."""
        if not endpoint.port or (endpoint.port == self._port and endpoint.host in self._own_hosts()):
            return False
        place = reach(endpoint.host)
        return place == "global" or ((near or self._local) and place in ("loopback", "private"))

    def _own_hosts(self) -> set[str]:
        """Where we listen, and where others say that they see us."""
        bound = set() if self._node is None else {endpoint.host for endpoint in self._node.endpoints}
        return self.own_hosts | bound


class _Pauses:
    def __init__(self, steps_s: tuple[float, ...], rng: random.Random) -> None:
        self._steps_s = steps_s
        self._rng = rng
        self._at = 0

    def next(self) -> float:
        step_s = self._steps_s[min(self._at, len(self._steps_s) - 1)]
        self._at += 1
        return step_s * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
