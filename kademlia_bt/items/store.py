"""The items that this node keeps for others: how many, how long, and who goes first when it is full (BEP 44).

It decides by sequence numbers and `cas`; signatures were checked before (values.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from kademlia_bt.items.values import CAS_MISMATCH, OLD_SEQUENCE, STORE_FULL, Item, ItemError, MutableItem

__all__ = ["ITEM_LIFE_S", "MAX_ITEMS", "MAX_ITEMS_PER_NETWORK", "ItemStore"]

MAX_ITEMS = 700
"""As libtorrent keeps; about 1 MB at the most."""
MAX_ITEMS_PER_NETWORK = MAX_ITEMS // 10
"""So that one network cannot have the store for itself."""
ITEM_LIFE_S = 2 * 3600.0
"""BEP 44: they may expire two hours after the last put."""


@dataclass(slots=True)
class _Kept:
    item: Item
    until: float
    network: str | bytes | None


class ItemStore:
    """Holds items by target. Times are monotonic seconds."""

    def __init__(self, own_id: bytes = bytes(20), *, max_items: int = MAX_ITEMS) -> None:
        self.own_id = own_id
        """What is nearest to this stays longest: where lookups for it end. It may change."""
        self._max_items = max_items
        self._kept: dict[bytes, _Kept] = {}
        self._per_network: dict[str | bytes, int] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, target: bytes, now: float) -> Item | None:
        """The item, if it is kept and not too old."""
        kept = self._kept.get(target)
        if kept is None:
            return None
        if kept.until <= now:
            self._drop(target)
            return None
        return kept.item

    def put(self, item: Item, network: str | bytes | None, now: float, cas: int | None = None) -> None:
        """Keeps an item for `ITEM_LIFE_S` from now, or says why not.

        Raises ItemError 301 (`cas` names another `seq`), 302 (an older `seq`) or 202 (the store is full of items nearer
        to us, or of this network's).

        Args:
            item: What was verified.
            network: The network that the put came from (a /24 or /64): its share is bounded. None: no bound.
            now: Monotonic seconds.
            cas: The `seq` that the putter believes to be stored; ignored where nothing is stored.
        """
        target = item.target
        old = self.get(target, now)
        if isinstance(item, MutableItem) and isinstance(old, MutableItem):
            if cas is not None and cas != old.seq:
                raise ItemError(CAS_MISMATCH, "the stored sequence number is another")
            if item.seq < old.seq:
                raise ItemError(OLD_SEQUENCE, "a newer one is stored")
            if item.seq == old.seq and item.raw_value != old.raw_value:
                raise ItemError(OLD_SEQUENCE, "another value has this sequence number")
        if old is not None:
            self._drop(target)
        else:
            self._make_room(target, network, now)
        self._kept[target] = _Kept(item, now + ITEM_LIFE_S, network)
        if network is not None:
            self._per_network[network] = self._per_network.get(network, 0) + 1

    def sweep(self, now: float) -> None:
        """Forgets what is over."""
        for target in [target for target, kept in self._kept.items() if kept.until <= now]:
            self._drop(target)

    def _make_room(self, wanted: bytes, network: str | bytes | None, now: float) -> None:
        def crowded() -> bool:
            return network is not None and self._per_network.get(network, 0) >= MAX_ITEMS_PER_NETWORK

        if not crowded() and len(self._kept) < self._max_items:
            return
        self.sweep(now)
        if crowded():
            raise ItemError(STORE_FULL, "your network has its share of this store")
        if len(self._kept) >= self._max_items:
            # The farthest from our id goes first: others are closer to it, and lookups go there.
            farthest = max(self._kept, key=self._distance)
            if self._distance(wanted) > self._distance(farthest):
                raise ItemError(STORE_FULL, "the store is full")
            self._drop(farthest)

    def _distance(self, target: bytes) -> int:
        return int.from_bytes(target, "big") ^ int.from_bytes(self.own_id, "big")

    def _drop(self, target: bytes) -> None:
        network = self._kept.pop(target).network
        if network is None:
            return
        left = self._per_network[network] - 1
        if left:
            self._per_network[network] = left
        else:
            del self._per_network[network]
