"""What the DHT stores for anybody: immutable and mutable items as verified values (BEP 44, BEP 46).

An item holds the bencoded bytes of its value as they stood on the wire, because those are what was hashed or
signed. A mutable item can only be made by signing (`sign`) or by checking a signature (`MutableItem.checked`):
whoever holds one need not ask again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wire import bencode
from wire.errors import BencodeError, MisuseError, ProtocolError

if TYPE_CHECKING:
    from kademlia_bt.items.signing import KeyPair

__all__ = [
    "BAD_SIGNATURE",
    "CAS_MISMATCH",
    "MAX_SALT_BYTES",
    "MAX_SEQ",
    "MAX_VALUE_BYTES",
    "OLD_SEQUENCE",
    "PROTOCOL_ERROR",
    "PUBLIC_KEY_BYTES",
    "SALT_TOO_BIG",
    "STORE_FULL",
    "VALUE_TOO_BIG",
    "ImmutableItem",
    "Item",
    "ItemError",
    "MutableItem",
    "mutable_target",
    "torrent_of",
    "torrent_value",
    "value_target",
]

MAX_VALUE_BYTES = 1000
"""Bencoded. BEP 44 says both "< 1000" and "<= 1000": we take up to 1,000 and send less."""
MAX_SENT_VALUE_BYTES = MAX_VALUE_BYTES - 1
MAX_SALT_BYTES = 64
PUBLIC_KEY_BYTES = 32
MAX_SEQ = (1 << 63) - 1

STORE_FULL = 202
VALUE_TOO_BIG = 205
BAD_SIGNATURE = 206
SALT_TOO_BIG = 207
CAS_MISMATCH = 301
OLD_SEQUENCE = 302
PROTOCOL_ERROR = 203


class ItemError(ProtocolError):
    """An item that is refused; `code` is the KRPC error that says why (BEP 5, BEP 44)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def value_target(raw_value: bytes) -> bytes:
    """Where an immutable item lives: SHA-1 of its bencoded value (BEP 44)."""
    return hashlib.sha1(raw_value).digest()


def mutable_target(public_key: bytes, salt: bytes = b"") -> bytes:
    """Where a key's item lives: SHA-1 of the key and, behind it, the salt (BEP 44)."""
    return hashlib.sha1(public_key + salt).digest()


def _signed_buffer(salt: bytes, seq: int, raw_value: bytes) -> bytes:
    head = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return head + b"3:seqi%de1:v%b" % (seq, raw_value)


def _check_value(raw_value: bytes) -> None:
    if len(raw_value) > MAX_VALUE_BYTES:
        raise ItemError(VALUE_TOO_BIG, f"the value has {len(raw_value)} bytes, more than {MAX_VALUE_BYTES}")
    try:
        canonical = bencode.encode(bencode.decode(raw_value)) == raw_value
    except BencodeError:
        canonical = False
    if not canonical:
        raise ItemError(PROTOCOL_ERROR, "the value is not canonical bencode")


def _encoded(value: bencode.Encodable) -> bytes:
    raw = bencode.encode(value)
    if len(raw) > MAX_SENT_VALUE_BYTES:
        raise MisuseError(f"a value has at most {MAX_SENT_VALUE_BYTES} bytes when bencoded, this one {len(raw)}")
    return raw


@dataclass(frozen=True, slots=True)
class ImmutableItem:
    """A value that is found by its own hash."""

    raw_value: bytes

    @classmethod
    def of(cls, value: bencode.Encodable) -> ImmutableItem:
        """Raises MisuseError where the value is too large or cannot be bencoded."""
        return cls(_encoded(value))

    @classmethod
    def checked(cls, raw_value: bytes, target: bytes | None = None) -> ImmutableItem:
        """The border for bytes from the network; `target` is what was asked for. Raises ItemError."""
        _check_value(raw_value)
        item = cls(raw_value)
        if target is not None and item.target != target:
            raise ItemError(PROTOCOL_ERROR, "the value does not hash to its target")
        return item

    @property
    def target(self) -> bytes:
        """SHA-1 of the bencoded value: 20 bytes."""
        return value_target(self.raw_value)

    @property
    def value(self) -> bencode.Value:
        """The value, decoded."""
        return bencode.decode(self.raw_value)


@dataclass(frozen=True, slots=True)
class MutableItem:
    """A signed value that its owner can replace by one of a higher `seq`, found by its key and salt."""

    raw_value: bytes
    public_key: bytes
    signature: bytes
    seq: int
    salt: bytes = b""

    @classmethod
    def sign(cls, keys: KeyPair, value: bencode.Encodable, seq: int, salt: bytes = b"") -> MutableItem:
        """Makes one. Raises MisuseError for a salt over 64 bytes, a `seq` outside 0..2^63-1, a value too large."""
        if len(salt) > MAX_SALT_BYTES:
            raise MisuseError(f"a salt has at most {MAX_SALT_BYTES} bytes, this one {len(salt)}")
        if not 0 <= seq <= MAX_SEQ:
            raise MisuseError(f"a sequence number lies in 0..2^63-1, {seq} does not")
        raw = _encoded(value)
        return cls(raw, keys.public_key, keys.sign(_signed_buffer(salt, seq, raw)), seq, salt)

    @classmethod
    def checked(
        cls, raw_value: bytes, public_key: bytes, signature: bytes, seq: int, salt: bytes, target: bytes | None = None
    ) -> MutableItem:
        """The border for bytes from the network; `target` is what was asked for. Raises ItemError."""
        from kademlia_bt.items.signing import verify

        if len(salt) > MAX_SALT_BYTES:
            raise ItemError(SALT_TOO_BIG, f"the salt has {len(salt)} bytes, more than {MAX_SALT_BYTES}")
        if not 0 <= seq <= MAX_SEQ:
            raise ItemError(PROTOCOL_ERROR, "the sequence number is outside 0..2^63-1")
        _check_value(raw_value)
        if target is not None and mutable_target(public_key, salt) != target:
            raise ItemError(PROTOCOL_ERROR, "the key and salt do not hash to the target")
        if not verify(public_key, signature, _signed_buffer(salt, seq, raw_value)):
            raise ItemError(BAD_SIGNATURE, "the signature is not the key's")
        return cls(raw_value, public_key, signature, seq, salt)

    @property
    def target(self) -> bytes:
        """Where it lives: 20 bytes."""
        return mutable_target(self.public_key, self.salt)

    @property
    def value(self) -> bencode.Value:
        """The value, decoded."""
        return bencode.decode(self.raw_value)


Item = ImmutableItem | MutableItem


def torrent_value(info_hash: bytes) -> dict[bytes, bytes]:
    """The value that names a torrent (BEP 46); `info_hash` has 20 bytes."""
    if len(info_hash) != 20:
        raise MisuseError("a mutable torrent names a v1 info-hash of 20 bytes")
    return {b"ih": info_hash}


def torrent_of(item: Item) -> bytes:
    """The 20-byte info-hash that an item names (BEP 46). Raises ItemError where it names none."""
    value = item.value
    info_hash = value.get(b"ih") if isinstance(value, dict) else None
    if not isinstance(info_hash, bytes) or len(info_hash) != 20:
        raise ItemError(PROTOCOL_ERROR, "the item names no torrent (BEP 46)")
    return info_hash
