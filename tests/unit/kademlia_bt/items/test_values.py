"""BEP 44 and 46 items: their vectors, and every reason to refuse one."""

import hashlib
import random

import pytest

from kademlia_bt.items.signing import KeyPair
from kademlia_bt.items.values import ImmutableItem, ItemError, MutableItem, mutable_target, torrent_of, torrent_value
from wire.errors import MisuseError

KEY = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
VALUE = b"12:Hello World!"
PLAIN = bytes.fromhex(
    "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
    "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
)
SALTED = bytes.fromhex(
    "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
    "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
)


@pytest.mark.parametrize(
    ("salt", "signature", "target"),
    [
        (b"", PLAIN, "4a533d47ec9c7d95b1ad75f576cffc641853b750"),
        (b"foobar", SALTED, "411eba73b6f087ca51a3795d9c8c938d365e32c1"),
    ],
)
def test_bep_44_mutable_vectors(salt: bytes, signature: bytes, target: str) -> None:
    item = MutableItem.checked(VALUE, KEY, signature, 1, salt, bytes.fromhex(target))
    assert item.target.hex() == target
    assert item.value == b"Hello World!"


def test_bep_44_immutable_vector() -> None:
    assert ImmutableItem.of(b"Hello World!").target.hex() == "e5f96f6f38320f0f33959cb4d3d656452117aadb"


@pytest.mark.parametrize(
    ("salt", "target"),
    [(b"", "cc3f9d90b572172053626f9980ce261a850d050b"), (b"\x6e", "59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f")],
)
def test_bep_46_targets(salt: bytes, target: str) -> None:
    key = bytes.fromhex("8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e")
    assert mutable_target(key, salt).hex() == target


def test_what_is_signed_is_believed_and_nothing_else() -> None:
    keys = KeyPair.generate(random.Random(1))
    item = MutableItem.sign(keys, {b"a": [1, b"x"]}, 7, b"salt")
    again = MutableItem.checked(item.raw_value, keys.public_key, item.signature, 7, b"salt", item.target)
    assert again == item
    for change in (
        {"seq": 8},
        {"salt": b""},
        {"raw_value": b"1:x"},
        {"signature": bytes(64)},
        {"signature": b""},
        {"public_key": bytes(31)},
        {"public_key": KeyPair.generate(random.Random(2)).public_key},
    ):
        fields = {
            "raw_value": item.raw_value,
            "public_key": item.public_key,
            "signature": item.signature,
            "seq": 7,
            "salt": b"salt",
        }
        with pytest.raises(ItemError) as caught:
            MutableItem.checked(**(fields | change))
        assert caught.value.code == 206


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"d1:b1:x1:a1:ye", 203),
        (b"i01e", 203),
        (b"", 203),
        (b"1:xx", 203),
        (b"998:" + bytes(998), 205),
    ],
)
def test_values_that_are_refused(raw: bytes, code: int) -> None:
    with pytest.raises(ItemError) as caught:
        ImmutableItem.checked(raw)
    assert caught.value.code == code


def test_a_value_of_exactly_1000_bytes_is_taken_but_not_sent() -> None:
    raw = b"996:" + bytes(996)
    assert ImmutableItem.checked(raw, hashlib.sha1(raw).digest()).raw_value == raw
    with pytest.raises(MisuseError):
        ImmutableItem.of(bytes(996))
    ImmutableItem.of(bytes(995))


def test_an_item_for_another_target_is_refused() -> None:
    with pytest.raises(ItemError):
        ImmutableItem.checked(VALUE, bytes(20))
    with pytest.raises(ItemError) as caught:
        MutableItem.checked(VALUE, KEY, PLAIN, 1, b"", bytes(20))
    assert caught.value.code == 203


def test_salt_and_sequence_limits() -> None:
    with pytest.raises(ItemError) as caught:
        MutableItem.checked(VALUE, KEY, PLAIN, 1, bytes(65))
    assert caught.value.code == 207
    for seq in (-1, 1 << 63):
        with pytest.raises(ItemError) as caught:
            MutableItem.checked(VALUE, KEY, PLAIN, seq, b"")
        assert caught.value.code == 203
        with pytest.raises(MisuseError):
            MutableItem.sign(KeyPair(bytes(32)), b"x", seq)
    with pytest.raises(MisuseError):
        MutableItem.sign(KeyPair(bytes(32)), b"x", 1, bytes(65))


def test_a_torrent_is_named_and_read_back() -> None:
    info_hash = bytes(range(20))
    assert torrent_of(ImmutableItem.of(torrent_value(info_hash))) == info_hash
    for value in (b"x", {b"ih": b"short"}, {b"other": info_hash}, {b"ih": 1}):
        with pytest.raises(ItemError):
            torrent_of(ImmutableItem.of(value))
