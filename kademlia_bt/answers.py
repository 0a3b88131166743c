"""What a node gives to who asks it: a stream of peers, a pong, the reason why there is no answer.

No sockets here; node.py fills these in. `PeerSearch` waits on trio events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import trio

from kademlia_bt.dht.confidence import Confidence
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.events import Failure, LookupDone
from kademlia_bt.dht.lookup import Lookup
from wire.compact import Endpoint
from wire.errors import WorldError

__all__ = ["ItemRefusedError", "PeerSearch", "Pong", "QueryError", "SampleAnswer"]


@dataclass(frozen=True, slots=True)
class Pong:
    """A node's answer to a ping."""

    node_id: bytes
    endpoint: Endpoint
    rtt_s: float
    version: bytes | None
    """Its client and version, as it says."""
    own_address: Endpoint | None
    """Where it saw us (BEP 42)."""


class QueryError(WorldError):
    """One question to one node had no good answer: `reason` says why, `error` is the node's own code and text."""

    def __init__(self, endpoint: Endpoint, reason: Failure, error: tuple[int, str] | None = None) -> None:
        self.endpoint = endpoint
        self.reason: Failure = reason
        self.error = error
        said = {
            "timed_out": "did not answer in time",
            "refused": "refused: {} {}".format(*error) if error else "refused",
            "wrong_id": "answered with another node id than it was known by",
            "bad_answer": "answered with something that is no answer",
            "no_route": "cannot be asked: no socket of its family, or a local address that is not allowed",
            "cancelled": "was not waited for: the node was closed",
        }[reason]
        super().__init__(f"{endpoint} {said}")


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """What one node shows of its store (BEP 51)."""

    node: Contact
    info_hashes: tuple[bytes, ...]
    """20 bytes each."""
    total: int
    """How many it says that it has."""
    interval_s: int
    """After how long it shows others: 0 to 21,600 s."""
    nodes: tuple[Contact, ...]
    """Nodes that it named, to ask next."""


class ItemRefusedError(WorldError):
    """An item was not taken. `code` is BEP 44's: 301 where `cas` names another number, 302 where a newer one is stored,
    205, 206 or 207 where it is too big or ill signed, 202 or 203 where nodes are full or do not know items."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"the item was refused: {code} {text}")


class PeerSearch:
    """One search for the peers of a torrent: an async iterator of endpoints, each once, as nodes name them.

    It ends when the closest nodes were asked. `close` ends it early, and so does leaving it as an `async with`.
    One task at a time may iterate. Counts may be read at any time.
    """

    def __init__(
        self,
        lookup: Lookup,
        end: Callable[[PeerSearch], None],
        take: Callable[[Sequence[Endpoint]], None] | None = None,
    ) -> None:
        """Made by `Node.get_peers`; `end` is called by `close`."""
        self._end = end
        self._hand_out = take
        self.lookup = lookup
        self._ready: deque[Endpoint] = deque()
        self._news = trio.Event()
        self.done = False
        self.announced = 0
        """Nodes that took our announce; counted when the search is over."""
        self.closest: tuple[Contact, ...] = ()
        """The closest nodes that answered; known when the search is over."""
        self.confidence: tuple[Confidence, ...] = ()
        """How far these can be trusted, for each family: a warning where an eclipse is likely."""

    @property
    def asked(self) -> int:
        """Nodes asked, each once."""
        return self.lookup.asked

    @property
    def answered(self) -> int:
        """Nodes that answered."""
        return self.lookup.answered

    @property
    def found(self) -> int:
        """Distinct peers named so far, whether the iterator gave them yet or not."""
        return self.lookup.found

    def __aiter__(self) -> PeerSearch:
        return self

    async def __anext__(self) -> Endpoint:
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self.done:
                raise StopAsyncIteration
            await self._news.wait()
            self._news = trio.Event()
        return self._ready.popleft()

    async def wait_done(self) -> None:
        """Returns once the search is over; what it found stays for the iterator."""
        await trio.lowlevel.checkpoint()
        while not self.done:
            await self._news.wait()
            if not self.done:
                self._news = trio.Event()

    async def __aenter__(self) -> PeerSearch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the search; the iterator gives what was already found, then stops."""
        self._end(self)

    def take(self, endpoints: Sequence[Endpoint]) -> None:
        """The node's: peers came in."""
        if self._hand_out is not None:
            self._hand_out(endpoints)
            return
        self._ready.extend(endpoints)
        self._news.set()

    def finish(self, done: LookupDone | None) -> None:
        """The node's: the search is over; None where it was broken off."""
        if not self.done:
            self.done = True
            if done is not None:
                self.announced, self.closest, self.confidence = done.stored, done.closest, done.confidence
            self._news.set()
