"""What a lookup for more than peers collects from the answers it gets, and what it leaves behind (BEP 33, BEP 44).

One gatherer a lookup: the lookup's kind carries it, dht/seeker.py feeds it. Every item is verified here before anybody
sees it. No I/O, no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.krpc import Answer, Held, Refusal
from kademlia_bt.items.bloom import CAPACITY, BloomFilter, Estimate
from kademlia_bt.items.values import (
    CAS_MISMATCH,
    MAX_SEQ,
    OLD_SEQUENCE,
    ImmutableItem,
    Item,
    ItemError,
    MutableItem,
    mutable_target,
)
from wire.bencode import Encodable, decode
from wire.compact import Endpoint
from wire.errors import MisuseError

if TYPE_CHECKING:
    from kademlia_bt.items.signing import KeyPair  # costs some 50 ms, which who only looks for peers need not pay

__all__ = ["Copies", "Draft", "Gather", "ItemGather", "Ready", "ScrapeGather", "Signed", "SwarmSize"]

ENOUGH_COPIES = 8
"""BEP 44: who re-puts for others need not where more than so many hold an item, and all the closest do."""


class Gather(Protocol):
    """What a lookup collects."""

    def take(self, answer: Answer, via: Endpoint) -> bool:
        """A node answered. True where no further answer can add anything."""


# BEP 33


@dataclass(frozen=True, slots=True)
class SwarmSize:
    """How many take part in a torrent, counted by address (BEP 33): each with one standard deviation of its error.

    Who has announced to none of the nodes asked is not counted.
    """

    seeds: Estimate
    downloaders: Estimate
    total: Estimate
    """Of the union: an address that is both counts once."""
    nodes: int
    """How many nodes counted."""


class ScrapeGather:
    """The union of the filters of all nodes, and the peers that nodes without BEP 33 name."""

    __slots__ = ("_downloaders", "_named", "_seeds", "nodes")

    def __init__(self) -> None:
        self._seeds = BloomFilter()
        self._downloaders = BloomFilter()
        self._named: dict[bytes, None] = {}
        self.nodes = 0

    def take(self, answer: Answer, via: Endpoint) -> bool:
        """Adds a node's filters, or the addresses that it names instead."""
        filters = answer.filters
        if filters is not None:
            self.add(*filters)
        elif len(self._named) < CAPACITY and (peers := answer.peers):
            self._named.update((peer.ip, None) for peer in peers)
            self.nodes += 1
        return False

    def add(self, seeds: BloomFilter, downloaders: BloomFilter) -> None:
        """Adds filters, ours for instance."""
        self._seeds |= seeds
        self._downloaders |= downloaders
        self.nodes += 1

    @property
    def size(self) -> SwarmSize:
        """What the filters say. Who is merely named counts as a downloader, unless others know it for a seed."""
        downloaders = self._downloaders | BloomFilter()
        downloaders.update(ip for ip in self._named if ip not in self._seeds)
        total = self._seeds | downloaders
        return SwarmSize(self._seeds.estimate, downloaders.estimate, total.estimate, self.nodes)


# BEP 44


@dataclass(frozen=True, slots=True)
class Ready:
    """An item that is put as it is."""

    item: Item
    spare: bool = False
    """Whether to put nothing where enough nodes hold it already: for those who re-put."""

    @property
    def target(self) -> bytes:
        """Where it goes."""
        return self.item.target

    @property
    def salt(self) -> bytes:
        """Of a mutable item."""
        return self.item.salt if isinstance(self.item, MutableItem) else b""

    @property
    def cas(self) -> int | None:
        """Never sent: what is put is at least as new as what is there."""
        return None

    def settle(self, found: Item | None) -> Item:
        """What to put, given the newest item found: that one where it is newer."""
        ours = self.item
        if isinstance(ours, MutableItem) and isinstance(found, MutableItem):
            if found.seq > ours.seq and self.spare:
                return found
            _check_newer(ours, found)
        return ours


@dataclass(frozen=True, slots=True)
class Signed:
    """A value that is signed once it is known what is there: with the next sequence number where none is given."""

    keys: KeyPair
    value: Encodable
    salt: bytes = b""
    seq: int | None = None
    cas: int | None = None
    """The `seq` that must be stored where anything is."""

    def __post_init__(self) -> None:
        MutableItem.sign(
            self.keys, self.value, 1 if self.seq is None else self.seq, self.salt
        )  # complains now, if ever

    @property
    def target(self) -> bytes:
        """Where it goes."""
        return mutable_target(self.keys.public_key, self.salt)

    def settle(self, found: Item | None) -> Item:
        """What to put, given the newest item found. Raises ItemError 301 or 302."""
        old = found if isinstance(found, MutableItem) else None
        if old is not None and self.cas is not None and self.cas != old.seq:
            raise ItemError(CAS_MISMATCH, f"the stored sequence number is {old.seq}, not {self.cas}")
        seq = self.seq
        if seq is None:
            seq = 1 if old is None else old.seq + 1
            if old is not None and MutableItem.sign(self.keys, self.value, old.seq, self.salt) == old:
                seq = old.seq  # the same once more: to refresh it
            if seq > MAX_SEQ:
                raise ItemError(OLD_SEQUENCE, "the highest sequence number is used: this key and salt are at their end")
        made = MutableItem.sign(self.keys, self.value, seq, self.salt)
        if old is not None:
            _check_newer(made, old)
        return made


Draft = Ready | Signed
"""What a lookup is to put."""


def _check_newer(ours: MutableItem, found: MutableItem) -> None:
    if found.seq > ours.seq or (found.seq == ours.seq and found.raw_value != ours.raw_value):
        raise ItemError(OLD_SEQUENCE, f"an item of sequence number {found.seq} is stored, ours has {ours.seq}")


@dataclass(frozen=True, slots=True)
class Copies:
    """What a put led to."""

    item: Item
    """What was put; where others knew a newer one and it was a re-put, that one."""
    stored: int
    """Nodes that took it: 0 where a re-put found enough copies, and where all refused."""
    found: int
    """Nodes that held it, or an older one, before."""
    refusals: tuple[tuple[int, str], ...]
    """Codes and texts of the nodes that refused, each kind once."""

    @property
    def target(self) -> bytes:
        """Where it lives: 20 bytes."""
        return self.item.target


class ItemGather:
    """The newest valid item that nodes hold, who holds which, and, with a draft, what is put in its place."""

    def __init__(self, target: bytes, *, salt: bytes = b"", seq: int | None = None, draft: Draft | None = None) -> None:
        """`seq`: of the item that the asker has, so that nodes need not send it again."""
        self._target = target
        self._salt = salt
        self._known_seq = seq
        self._draft = draft
        self.best: Item | None = None
        """The newest that was found and is valid."""
        self.forged = 0
        """Answers whose item was not what it claimed to be."""
        self.failure: ItemError | None = None
        """Why nothing was put."""
        self._holders: dict[Endpoint | None, int] = {}
        self._refusals: dict[tuple[int, str], None] = {}
        self._item: Item | None = None
        self._decided: dict[object, bool] = {}

    @property
    def found(self) -> int:
        """How many nodes hold the item, of whatever age."""
        return len(self._holders)

    @property
    def item(self) -> Item | None:
        """What is put; None before that is decided."""
        return self._item

    @property
    def refusals(self) -> tuple[tuple[int, str], ...]:
        """Why nodes did not take it, each reason once."""
        return tuple(self._refusals)

    def take(self, answer: Answer, via: Endpoint) -> bool:
        """Takes the item of an answer, if it is one."""
        held = answer.held
        if held is None:
            return False
        if held.raw_value is None:
            if self._known_seq is not None and held.seq is not None:
                self._holders[via] = held.seq
            return False
        try:
            item = self._checked(held)
        except ItemError:
            self.forged += 1
            return False
        self.hold(item, via)
        return isinstance(item, ImmutableItem) and self._draft is None

    def hold(self, item: Item, via: Endpoint | None) -> None:
        """A node, or we ourselves (None), hold this valid item."""
        self._holders[via] = _age(item)
        if self.best is None or _age(item) > _age(self.best):
            self.best = item

    def stores(self, asker: object, closest: Sequence[Contact]) -> bool:
        """Whether to put, decided once for each `asker` (a face) when its walk has found the closest nodes."""
        if self._draft is None:
            return False
        if asker not in self._decided:
            self._decided[asker] = self._decide(self._draft, closest)
        return self._decided[asker]

    def store_arguments(self, via: Endpoint, token: bytes) -> dict[bytes, Encodable]:
        """Of the put to one node. `cas` goes only to those that hold something (BEP 44)."""
        item = self._item
        if item is None:
            raise MisuseError("a lookup without a draft stores nothing")
        arguments: dict[bytes, Encodable] = {b"token": token, b"v": decode(item.raw_value)}
        if isinstance(item, MutableItem):
            arguments |= {b"k": item.public_key, b"seq": item.seq, b"sig": item.signature}
            if item.salt:
                arguments[b"salt"] = item.salt
            cas = self._draft.cas if self._draft is not None else None
            if cas is not None and via in self._holders:
                arguments[b"cas"] = cas
        return arguments

    def refused(self, refusal: Refusal) -> None:
        """A node did not take it."""
        if len(self._refusals) < ENOUGH_COPIES:
            self._refusals[refusal.code, refusal.text] = None

    def _decide(self, draft: Draft, closest: Sequence[Contact]) -> bool:
        try:
            item = self._item = draft.settle(self.best)
        except ItemError as error:
            self.failure = error
            return False
        if not isinstance(draft, Ready) or not draft.spare:
            return True
        newest = [endpoint for endpoint, age in self._holders.items() if age == _age(item)]
        everywhere = len(closest) >= ENOUGH_COPIES and all(contact.endpoint in newest for contact in closest)
        return not (everywhere and len(newest) > ENOUGH_COPIES)

    def _checked(self, held: Held) -> Item:
        raw_value = held.raw_value
        assert raw_value is not None
        best = self.best
        if held.public_key is None:
            if isinstance(best, ImmutableItem) and best.raw_value == raw_value:
                return best
            return ImmutableItem.checked(raw_value, self._target)
        seq = -1 if held.seq is None else held.seq
        if isinstance(best, MutableItem) and (raw_value, held.public_key, held.signature, seq) == (
            best.raw_value,
            best.public_key,
            best.signature,
            best.seq,
        ):
            return best  # verified before
        return MutableItem.checked(raw_value, held.public_key, held.signature, seq, self._salt, self._target)


def _age(item: Item) -> int:
    return item.seq if isinstance(item, MutableItem) else 0
