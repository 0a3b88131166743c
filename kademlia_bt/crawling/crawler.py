"""Runs a crawl over a node: so many nodes asked a second and no more (BEP 51). Whom it asks is decided in crawl.py."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import trio

from kademlia_bt.answers import QueryError
from kademlia_bt.crawling.crawl import Crawl, Finding
from kademlia_bt.node import Node
from wire.compact import Endpoint
from wire.errors import MisuseError
from wire.ids import ID_BYTES

__all__ = ["DEFAULT_RATE", "MAX_RATE", "Crawler"]

DEFAULT_RATE = 10.0
"""Nodes asked a second: some 2 kB/s up and 10 kB/s down."""
MAX_RATE = 1_000.0
_MAX_OPEN = 256
"""Questions that wait for an answer; a node that is silent is waited for 5 s and more."""
_LOOKUPS = 16
"""All over the key space, when nobody is left to ask; where they bring nobody new either, everybody was met."""
_SILENCES = 2
"""Of these lookups, that nobody answered: then there is no network any more. If there never was, the first tells."""


class Crawler:
    """Asks through a node. Its counts stand in `crawl`, which may hold what an earlier run found."""

    def __init__(self, node: Node, crawl: Crawl, rng: random.Random, *, rate: float = DEFAULT_RATE) -> None:
        """`rate`: nodes asked a second, at most 1,000; who is silent is asked twice more. Raises MisuseError."""
        if not 0 < rate <= MAX_RATE:
            raise MisuseError(f"a crawl asks up to {MAX_RATE:g} nodes a second, not {rate:g}")
        self.crawl = crawl
        self._node = node
        self._rng = rng
        self._pause_s = 1 / rate
        self._open = 0
        self._ended = trio.Event()

    async def run(self, found: Callable[[Finding], None]) -> None:
        """Gives each node's answer to `found`, until everybody who can be met was asked; cancel it to end it before."""
        async with trio.open_nursery() as nursery:
            while True:
                endpoint = self.crawl.next()
                if endpoint is not None:
                    self._open += 1
                    nursery.start_soon(self._ask, endpoint, found)
                    await trio.sleep(self._pause_s)
                    while self._open >= _MAX_OPEN:
                        await self._ended.wait()
                elif self._open:
                    await self._ended.wait()
                elif not await self._look_around():
                    return

    async def _ask(self, endpoint: Endpoint, found: Callable[[Finding], None]) -> None:
        try:
            answer = await self._node.sample(endpoint)
        except QueryError:
            pass  # silent, or does not know the question: it is not asked again
        else:
            found(self.crawl.take(answer, endpoint, time.time()))
        finally:
            self._open -= 1
            self._ended.set()
            self._ended = trio.Event()

    async def _look_around(self) -> bool:
        silences = 0
        for part in self._rng.sample(range(_LOOKUPS), _LOOKUPS):
            target = bytes([(part << 8) // _LOOKUPS]) + self._rng.randbytes(ID_BYTES - 1)
            contacts = await self._node.find_node(target)
            self.crawl.add((contact.endpoint for contact in contacts), time.time())
            if self.crawl.waiting:
                return True
            silences += not contacts
            if silences == _SILENCES or (silences and not self._node.stats().nodes_answered):
                return False
        return False
