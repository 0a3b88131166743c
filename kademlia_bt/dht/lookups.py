"""The kinds of lookup: what each asks of a node, and what it stores at the end. Thin: lookup.py walks for all of them.

A further kind is one more class here with the same members. What its answers bring beside nodes and peers is one more
property of `krpc.Answer`, and is collected by its `gather` (see gather.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from kademlia_bt.dht.gather import Draft, ItemGather, Ready, ScrapeGather
from kademlia_bt.items.values import MAX_SALT_BYTES, MAX_SEQ, MutableItem
from wire.bencode import Encodable
from wire.errors import MisuseError
from wire.ids import ID_BYTES

__all__ = ["FindNode", "GetItem", "GetPeers", "LookupKind", "PutItem", "Scrape"]


def _check_id(value: bytes) -> None:
    if len(value) != ID_BYTES:
        raise MisuseError(f"a target is {ID_BYTES} bytes long, not {len(value)}")


@dataclass(frozen=True, slots=True)
class FindNode:
    """Finds the nodes closest to `target` (20 bytes; BEP 5). Raises MisuseError for another length."""

    target: bytes

    method: ClassVar[bytes] = b"find_node"
    store_method: ClassVar[bytes | None] = None
    gather: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check_id(self.target)

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Of the question that each node is asked, beside our id."""
        return {b"target": self.target}

    @property
    def stores(self) -> bool:
        """Whether something is left with the closest nodes at the end."""
        return False

    def store_arguments(self, token: bytes) -> dict[bytes, Encodable]:
        """Never asked for."""
        raise MisuseError("find_node stores nothing")


@dataclass(frozen=True, slots=True)
class GetPeers:
    """Finds peers of `info_hash` (20 bytes; BEP 5), and announces ourselves to the closest nodes where asked to.

    Announces where `announce_port` is given, or where `implied_port` says that peers are to reach us on
    the UDP port that the nodes see. Raises MisuseError for another length, or a port outside 1..65535.
    """

    info_hash: bytes
    announce_port: int | None = None
    implied_port: bool = False
    seed: bool = False
    """Announced as one who has everything (BEP 33)."""

    method: ClassVar[bytes] = b"get_peers"
    store_method: ClassVar[bytes | None] = b"announce_peer"
    gather: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check_id(self.info_hash)
        if self.announce_port is not None and not 0 < self.announce_port < 65536:
            raise MisuseError(f"cannot announce port {self.announce_port}: it must be 1 to 65535")

    @property
    def target(self) -> bytes:
        """What is walked towards."""
        return self.info_hash

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Of the question that each node is asked, beside our id."""
        return {b"info_hash": self.info_hash}

    @property
    def stores(self) -> bool:
        """Whether something is left with the closest nodes at the end."""
        return self.implied_port or self.announce_port is not None

    def store_arguments(self, token: bytes) -> dict[bytes, Encodable]:
        """Of the announce, beside our id. `port` always goes along: some nodes want it even where it is implied."""
        arguments: dict[bytes, Encodable] = {
            b"implied_port": int(self.implied_port),
            b"info_hash": self.info_hash,
            b"port": self.announce_port or 1,
            b"token": token,
        }
        if self.seed:
            arguments[b"seed"] = 1
        return arguments


@dataclass(frozen=True, slots=True)
class Scrape:
    """Counts the peers of `info_hash` (20 bytes; BEP 33); `gather.size` is the result. Raises MisuseError."""

    info_hash: bytes
    gather: ScrapeGather = field(default_factory=ScrapeGather, compare=False)

    method: ClassVar[bytes] = b"get_peers"
    store_method: ClassVar[bytes | None] = None

    def __post_init__(self) -> None:
        _check_id(self.info_hash)

    @property
    def target(self) -> bytes:
        """What is walked towards."""
        return self.info_hash

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Of the question that each node is asked, beside our id."""
        return {b"info_hash": self.info_hash, b"scrape": 1}

    @property
    def stores(self) -> bool:
        """It only counts."""
        return False

    def store_arguments(self, token: bytes) -> dict[bytes, Encodable]:
        """Never asked for."""
        raise MisuseError("a scrape stores nothing")


@dataclass(frozen=True, slots=True)
class GetItem:
    """Finds the item at `target` (20 bytes; BEP 44); `gather.best` is the result.

    An immutable one ends the lookup; of a mutable one the newest is wanted, so all the closest nodes are asked. With
    `seq`, nodes that hold none newer send none. Raises MisuseError for wrong lengths.
    """

    target: bytes
    salt: bytes = b""
    """Of a mutable item: without it, its signature cannot be checked."""
    seq: int | None = None
    gather: ItemGather = field(init=False, compare=False)

    method: ClassVar[bytes] = b"get"
    store_method: ClassVar[bytes | None] = None

    def __post_init__(self) -> None:
        _check_id(self.target)
        if len(self.salt) > MAX_SALT_BYTES:
            raise MisuseError(f"a salt has at most {MAX_SALT_BYTES} bytes, this one {len(self.salt)}")
        if self.seq is not None and not 0 <= self.seq <= MAX_SEQ:
            raise MisuseError(f"a sequence number lies in 0..2^63-1, {self.seq} does not")
        object.__setattr__(self, "gather", ItemGather(self.target, salt=self.salt, seq=self.seq))

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Of the question that each node is asked, beside our id."""
        return {b"target": self.target} if self.seq is None else {b"seq": self.seq, b"target": self.target}

    @property
    def stores(self) -> bool:
        """It only looks."""
        return False

    def store_arguments(self, token: bytes) -> dict[bytes, Encodable]:
        """Never asked for."""
        raise MisuseError("a get stores nothing")


@dataclass(frozen=True, slots=True)
class PutItem:
    """Finds what stands at the draft's target and puts the draft there, with the 8 closest nodes (BEP 44)."""

    draft: Draft
    gather: ItemGather = field(init=False, compare=False)

    method: ClassVar[bytes] = b"get"
    store_method: ClassVar[bytes | None] = b"put"

    def __post_init__(self) -> None:
        gather = ItemGather(self.draft.target, salt=self.draft.salt, seq=self._seq, draft=self.draft)
        object.__setattr__(self, "gather", gather)

    @property
    def target(self) -> bytes:
        """What is walked towards."""
        return self.draft.target

    @property
    def _seq(self) -> int | None:
        """Of what we hold ourselves: nodes need not send it."""
        item = self.draft.item if isinstance(self.draft, Ready) else None
        return item.seq if isinstance(item, MutableItem) else None

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Of the question that each node is asked, beside our id."""
        return {b"target": self.target} if self._seq is None else {b"seq": self._seq, b"target": self.target}

    @property
    def stores(self) -> bool:
        """It may: `gather.stores` decides."""
        return True

    def store_arguments(self, token: bytes) -> dict[bytes, Encodable]:
        """Never asked for: they are another for each node, so `gather` makes them."""
        raise MisuseError("a put's arguments depend on the node")


LookupKind = FindNode | GetPeers | Scrape | GetItem | PutItem
