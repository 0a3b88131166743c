"""The store of items: newer wins, cas holds, caps hold, one network cannot fill it."""

import random

import pytest

from kademlia_bt.items.signing import KeyPair
from kademlia_bt.items.store import ITEM_LIFE_S, MAX_ITEMS, MAX_ITEMS_PER_NETWORK, ItemStore
from kademlia_bt.items.values import ImmutableItem, ItemError, MutableItem

KEYS = KeyPair(bytes(32))
NET = b"\x01\x02\x03"


def signed(seq: int, value: bytes = b"x") -> MutableItem:
    return MutableItem.sign(KEYS, value, seq)


def code_of(store: ItemStore, item: MutableItem, cas: int | None = None) -> int:
    with pytest.raises(ItemError) as caught:
        store.put(item, NET, 1.0, cas)
    return caught.value.code


def test_only_a_newer_sequence_replaces() -> None:
    store = ItemStore(bytes(20))
    store.put(signed(5), NET, 0.0)
    assert code_of(store, signed(4)) == 302
    assert code_of(store, signed(5, b"other")) == 302
    store.put(signed(5), NET, 1.0)
    store.put(signed(6, b"new"), NET, 1.0)
    assert store.get(signed(6).target, 1.0) == signed(6, b"new")
    assert len(store) == 1


def test_cas_must_name_what_is_stored_and_is_ignored_for_nothing() -> None:
    store = ItemStore(bytes(20))
    store.put(signed(5), NET, 0.0, cas=99)
    assert code_of(store, signed(6), cas=4) == 301
    store.put(signed(6), NET, 0.0, cas=5)


def test_items_expire_unless_put_again() -> None:
    store = ItemStore(bytes(20))
    item = ImmutableItem.of(b"x")
    store.put(item, NET, 0.0)
    store.put(item, NET, 3600.0)
    assert store.get(item.target, ITEM_LIFE_S + 1) == item
    assert store.get(item.target, 3600.0 + ITEM_LIFE_S) is None
    assert len(store) == 0


def refused(store: ItemStore, item: ImmutableItem, network: bytes | None, now: float = 0.0) -> bool:
    before = len(store)
    try:
        store.put(item, network, now)
    except ItemError as error:
        return (error.code, len(store)) == (202, before)
    return False


def test_one_network_gets_its_share_and_no_more() -> None:
    store = ItemStore(bytes(20))
    told = [refused(store, ImmutableItem.of(n), NET) for n in range(MAX_ITEMS_PER_NETWORK + 50)]
    assert sum(told) == 50
    assert len(store) == MAX_ITEMS_PER_NETWORK
    assert not refused(store, ImmutableItem.of(b"another"), b"\x09")
    assert not refused(store, ImmutableItem.of(b"later"), NET, ITEM_LIFE_S + 1)
    assert len(store) == 1


def test_5000_items_leave_exactly_the_cap_and_these_are_the_nearest() -> None:
    own = random.Random(3).randbytes(20)
    items = [ImmutableItem.of(n) for n in range(5000)]

    def distance(item: ImmutableItem) -> int:
        return int.from_bytes(item.target, "big") ^ int.from_bytes(own, "big")

    store = ItemStore(own)
    told = [refused(store, item, None) for item in items]
    assert len(store) == MAX_ITEMS == 700
    assert {item for item in items if store.get(item.target, 0.0)} == set(sorted(items, key=distance)[:700])
    assert not any(told[:700])
    again = ItemStore(own)
    assert [refused(again, item, None) for item in items] == told
