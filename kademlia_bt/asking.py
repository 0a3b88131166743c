"""What a node asks of the whole DHT beyond peers: items (BEP 44), torrent pointers (BEP 46), swarm sizes (BEP 33),
samples (BEP 51). The methods of `Node` for these; it owns no sockets, and what is asked whom stands in the core.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from kademlia_bt.answers import ItemRefusedError, QueryError, SampleAnswer
from kademlia_bt.dht.gather import Copies, Draft, Ready, Signed, SwarmSize
from kademlia_bt.dht.lookups import GetItem, LookupKind, PutItem, Scrape
from kademlia_bt.dht.node_id import random_id
from kademlia_bt.dht.questions import AskSamples, QuestionKind
from kademlia_bt.following import FOLLOW_S, RE_PUT_S, Following, TorrentFollowing
from kademlia_bt.items.values import (
    OLD_SEQUENCE,
    PUBLIC_KEY_BYTES,
    ImmutableItem,
    Item,
    MutableItem,
    mutable_target,
    torrent_value,
)
from wire.bencode import Encodable
from wire.compact import Endpoint
from wire.errors import MisuseError
from wire.ids import ID_BYTES

if TYPE_CHECKING:
    import random

    from kademlia_bt.dht.events import Answered
    from kademlia_bt.items.signing import KeyPair

__all__ = ["Asking"]

_TRIES = 3
"""Of a put whose sequence number another put overtook meanwhile."""


class Asking(ABC):
    """The half of a node that asks; `Node` gives it the two ways to do so."""

    _rng: random.Random

    @abstractmethod
    async def _look_up(self, kind: LookupKind) -> int:
        """Runs a lookup to its end; gives how many nodes stored. Cancels it when it is left early."""

    @abstractmethod
    async def _ask(self, endpoint: Endpoint, kind: QuestionKind) -> Answered:
        """Asks one node. Raises QueryError."""

    # BEP 44

    async def get(self, target: bytes, *, salt: bytes = b"", seq: int | None = None) -> Item | None:
        """Finds an item (BEP 44); None where no node asked has a valid one.

        An immutable item comes as soon as one node gave it; of a mutable one the newest that the closest nodes have.

        Args:
            target: The item's hash (20 bytes), or the public key of a mutable one (32 bytes).
            salt: The salt of a mutable item, at most 64 bytes: without it, its signature cannot be checked.
            seq: Of the mutable item that you have: only a newer one is given.

        Raises MisuseError for other lengths.
        """
        if len(target) == PUBLIC_KEY_BYTES:
            target = mutable_target(target, salt)
        elif len(target) != ID_BYTES:
            raise MisuseError(
                f"an item is found by its hash of {ID_BYTES} bytes or its key of {PUBLIC_KEY_BYTES}, not {len(target)}"
            )
        kind = GetItem(target, salt, seq)
        await self._look_up(kind)
        item = kind.gather.best
        if isinstance(item, MutableItem) and seq is not None and item.seq <= seq:
            return None
        return item

    async def put(
        self,
        value: Encodable,
        *,
        keys: KeyPair | None = None,
        salt: bytes = b"",
        seq: int | None = None,
        cas: int | None = None,
    ) -> Copies:
        """Puts a value (BEP 44) with the 8 nodes closest to its target. They keep it for two hours: see `keep`.

        Args:
            value: Anything that can be bencoded, in at most 999 bytes.
            keys: With these it is signed, and may be replaced by a later one: a mutable item. Without, it is immutable.
            salt: Tells apart several items of one key; at most 64 bytes.
            seq: Its sequence number. None: the one after what is stored, or 1.
            cas: Puts only where what is stored has this sequence number, or nothing is stored.

        Raises MisuseError for a value that is too large or arguments that do not go together, and ItemRefusedError
        where it was refused: 301 (`cas` names another number) or 302 (what is stored is newer) among others. A result
        with `stored` 0 means that no node answered.
        """
        if keys is None:
            if salt or seq is not None or cas is not None:
                raise MisuseError("a salt, seq or cas is for items that are signed: give keys")
            return await self._put(Ready(ImmutableItem.of(value)))
        draft = Signed(keys, value, salt, seq, cas)
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self._put(draft)
            except ItemRefusedError as error:
                # Without a number or cas of the caller's own, a put that came in between is simply followed.
                if error.code != OLD_SEQUENCE or seq is not None or cas is not None or not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def re_put(self, item: Item) -> Copies:
        """Puts an item that was got or put before once more, anybody's: it lives two hours longer (BEP 44).

        Where others know a newer one, that one is put. Nothing is put, and `stored` is 0, where more than 8 nodes and
        all of the closest have it. Raises ItemRefusedError.
        """
        return await self._put(Ready(item, spare=True))

    async def keep(self, item: Item) -> None:
        """Puts an item again every hour, until it is cancelled; where others know a newer one, that one from then."""
        while True:
            await trio.sleep(RE_PUT_S)
            # A full or hostile neighbourhood may be another in an hour.
            with suppress(ItemRefusedError):
                item = (await self.re_put(item)).item

    def follow(self, public_key: bytes, salt: bytes = b"", *, every_s: float = FOLLOW_S) -> Following:
        """An async iterator of a mutable item and each newer one; it looks every `every_s` seconds, for ever.

        What it found it puts again each hour, as BEP 46 asks of those who follow. Raises MisuseError for a key that is
        not 32 bytes.
        """
        return Following(self, public_key, salt, every_s)

    # BEP 46

    async def publish(self, keys: KeyPair, info_hash: bytes, *, salt: bytes = b"") -> Copies:
        """Points the key's link, `magnet:?xs=urn:btpk:...`, at a torrent (its 20-byte v1 info-hash; BEP 46)."""
        return await self.put(torrent_value(info_hash), keys=keys, salt=salt)

    def follow_torrent(self, public_key: bytes, salt: bytes = b"", *, every_s: float = FOLLOW_S) -> TorrentFollowing:
        """An async iterator of the 20-byte info-hash that a key points at and each other one, as `follow` (BEP 46)."""
        return TorrentFollowing(self.follow(public_key, salt, every_s=every_s))

    # BEP 33, BEP 51

    async def scrape(self, info_hash: bytes) -> SwarmSize:
        """Counts the peers of a torrent (20 bytes) without learning who they are (BEP 33).

        Where `nodes` is 0, nobody who was asked knows of any.
        """
        kind = Scrape(info_hash)
        await self._look_up(kind)
        return kind.gather.size

    async def sample(self, endpoint: Endpoint, target: bytes | None = None) -> SampleAnswer:
        """Asks one node for some of the info-hashes that it has peers of (BEP 51).

        Args:
            endpoint: The node.
            target: 20 bytes; it names nodes close to this. None: a random one.

        Raises QueryError where it does not answer, or does not know the question. Do not ask it again before
        `interval_s` is over: it would say the same.
        """
        answer = await self._ask(endpoint, AskSamples(random_id(self._rng) if target is None else target))
        if answer.samples is None:
            raise QueryError(endpoint, "bad_answer")
        return SampleAnswer(answer.node, *answer.samples, nodes=answer.nodes)

    async def _put(self, draft: Draft) -> Copies:
        kind = PutItem(draft)
        stored = await self._look_up(kind)
        gather = kind.gather
        failure = gather.failure
        if failure is not None:
            raise ItemRefusedError(failure.code, failure.text)
        if not stored and gather.refusals:
            raise ItemRefusedError(*gather.refusals[0])
        item = gather.item
        if item is None:  # nobody answered, so nothing was decided
            item = draft.settle(None)
        return Copies(item, stored, gather.found, gather.refusals)
