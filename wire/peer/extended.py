"""The extended handshake (BEP 10) and the ut_metadata messages (BEP 9), as values and bytes.

Bytes in, values out: whether a message may come now, and what follows from it, is the connection's and the
swarm's business. What a peer leaves out or writes with a wrong type is as good as not said; only what breaks
the form (no dictionary, a size that cannot be) is the peer's fault.
"""

from __future__ import annotations

import dataclasses
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from wire import bencode
from wire.compact import IPV4, IPV6, Endpoint, Family
from wire.errors import BencodeError, ProtocolError
from wire.peer.handshake import printable

__all__ = [
    "LT_DONTHAVE_ID",
    "METADATA_BLOCK_BYTES",
    "METADATA_DATA",
    "METADATA_REJECT",
    "METADATA_REQUEST",
    "UT_HOLEPUNCH_ID",
    "UT_METADATA_ID",
    "UT_PEX_ID",
    "ExtendedHandshake",
    "MetadataMessage",
    "read_offer",
]

UT_METADATA_ID = 1
"""The id under which peers send us ut_metadata messages."""
UT_PEX_ID = 2
"""The id under which peers send us ut_pex messages."""
LT_DONTHAVE_ID = 3
"""The id under which peers tell us that they have a piece no more (BEP 54)."""
UT_HOLEPUNCH_ID = 4
"""The id under which peers send us ut_holepunch messages (BEP 55)."""

METADATA_BLOCK_BYTES = 16384
"""The info dictionary travels in blocks of 16 KiB; the last may be shorter (BEP 9)."""
METADATA_REQUEST = 0
METADATA_DATA = 1
METADATA_REJECT = 2

_MAX_DEPTH = 8
_MAX_TOKENS = 1000
"""Real handshakes nest two dictionaries and hold some thirty values."""
_SMALL_BYTES = 2 * _MAX_TOKENS
"""In so few there cannot be more; real handshakes have some 200."""
_MAX_METADATA_SIZE = (1 << 31) - 1
"""No info dictionary can be larger than a .torrent that any program reads."""
_MAX_PIECE = _MAX_METADATA_SIZE // METADATA_BLOCK_BYTES
_MAX_REQQ = 1 << 20
_MAX_NAME = 64


@dataclass(frozen=True, slots=True)
class ExtendedHandshake:
    """What a side says of itself in its extended handshakes (BEP 10); the names are those of the BEP."""

    ut_metadata: int = 0
    """The id that its ut_metadata messages (BEP 9) must be sent with; 0: it does not take any."""
    ut_pex: int = 0
    """The same for ut_pex (BEP 11)."""
    lt_donthave: int = 0
    """The same for lt_donthave (BEP 54)."""
    ut_holepunch: int = 0
    """The same for ut_holepunch (BEP 55)."""
    metadata_size: int | None = None
    """Bytes of the info dictionary, 1..2^31-1, where it is known."""
    reqq: int | None = None
    """Outstanding requests that it keeps; at least 1."""
    v: str = ""
    """Client and version: printable characters only, at most 64."""
    p: int | None = None
    """Its TCP listening port, 1..65535."""
    yourip: str | None = None
    """The other side's address, as this side sees it: an IP literal."""
    ipv4: str | None = None
    """Its own IPv4 address, for who speaks to it over IPv6: an IP literal."""
    ipv6: str | None = None
    """Its own IPv6 address, for who speaks to it over IPv4: an IP literal."""
    upload_only: bool = False
    """It will not download anything (BEP 21)."""

    def encode(self) -> bytes:
        """The payload of the extended handshake message, without its id.

        All ids are always named: 0 takes back what an earlier handshake offered (BEP 10).
        Raises MisuseError where `yourip`, `ipv4` or `ipv6` is no IP address.
        """
        items: dict[bytes, bencode.Encodable] = {
            b"m": {
                b"lt_donthave": self.lt_donthave,
                b"ut_holepunch": self.ut_holepunch,
                b"ut_metadata": self.ut_metadata,
                b"ut_pex": self.ut_pex,
            },
            b"upload_only": int(self.upload_only),
        }
        for key, number in ((b"metadata_size", self.metadata_size), (b"reqq", self.reqq), (b"p", self.p)):
            if number is not None:
                items[key] = number
        if self.v:
            items[b"v"] = self.v
        for key, host in ((b"yourip", self.yourip), (b"ipv4", self.ipv4), (b"ipv6", self.ipv6)):
            if host is not None:
                items[key] = _packed(host)
        return bencode.encode(items)

    def updated(self, payload: bytes) -> ExtendedHandshake:
        """What is known after this handshake too: later ones add to and replace what earlier ones said.

        Raises ProtocolError where `payload` is no dictionary or names a metadata size that cannot be.
        """
        items = _said(payload)
        ids = bencode.get_dict(items, b"m") or {}
        size = _size(items)
        reqq = bencode.get_int(items, b"reqq")
        port = bencode.get_int(items, b"p")
        upload_only = bencode.get_int(items, b"upload_only")
        return dataclasses.replace(
            self,
            ut_metadata=_id(ids, b"ut_metadata", self.ut_metadata),
            ut_pex=_id(ids, b"ut_pex", self.ut_pex),
            lt_donthave=_id(ids, b"lt_donthave", self.lt_donthave),
            ut_holepunch=_id(ids, b"ut_holepunch", self.ut_holepunch),
            metadata_size=size or self.metadata_size,  # 0 is how some say that they do not have it
            reqq=min(reqq, _MAX_REQQ) if reqq is not None and reqq > 0 else self.reqq,
            v=printable(bencode.get_str(items, b"v") or "", _MAX_NAME) or self.v,
            p=port if port is not None and 0 < port <= 65535 else self.p,
            yourip=_ip(bencode.get_bytes(items, b"yourip"), IPV4, IPV6) or self.yourip,
            ipv4=_ip(bencode.get_bytes(items, b"ipv4"), IPV4) or self.ipv4,
            ipv6=_ip(bencode.get_bytes(items, b"ipv6"), IPV6) or self.ipv6,
            upload_only=self.upload_only if upload_only is None else upload_only != 0,
        )


def read_offer(payload: bytes) -> tuple[int, int]:
    """Of an extended handshake what is needed to ask for the info dictionary: the id of ut_metadata and
    metadata_size (BEP 9), each 0 where it is not there. Raises ProtocolError as `ExtendedHandshake.updated` does."""
    items = _said(payload)
    return _id(bencode.get_dict(items, b"m") or {}, b"ut_metadata", 0), _size(items) or 0


def _said(payload: bytes) -> dict[bytes, bencode.Value]:
    """The dictionary of an extended handshake. Some clients put bytes behind it: only the value itself is read."""
    items: bencode.Value | None = None
    if len(payload) <= _SMALL_BYTES:
        with suppress(BencodeError):
            items = bencode.decode(payload)
    if items is None:
        items, _ = bencode.decode_first(payload, max_depth=_MAX_DEPTH, max_tokens=_MAX_TOKENS)
    if not isinstance(items, dict):
        raise ProtocolError("an extended handshake is a dictionary")
    return items


def _size(items: dict[bytes, bencode.Value]) -> int | None:
    size = bencode.get_int(items, b"metadata_size")
    if size is not None and not 0 <= size <= _MAX_METADATA_SIZE:
        raise ProtocolError(f"a metadata_size of {size}" if abs(size) < 1 << 64 else "a boundless metadata_size")
    return size


def _id(ids: dict[bytes, bencode.Value], key: bytes, before: int) -> int:
    value = bencode.get_int(ids, key)
    return value if value is not None and 0 <= value <= 255 else before


def _packed(host: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):  # one of IPv6, or none (ValueError: a NUL in it)
        return Endpoint.of(host, 0).ip


def _ip(packed: bytes | None, *families: Family) -> str | None:
    if packed is None or len(packed) not in [family.ip_bytes for family in families]:
        return None
    return Endpoint.from_compact(packed + bytes(2)).host


class MetadataMessage(NamedTuple):
    """A ut_metadata message (BEP 9)."""

    kind: int
    """`METADATA_REQUEST`, `METADATA_DATA`, `METADATA_REJECT`, or one that nobody knows yet: to be ignored."""
    piece: int
    total_size: int | None
    """Of the whole info dictionary, in data messages; unchecked."""
    data: bytes
    """What follows the dictionary: at most 16 KiB."""

    def header(self) -> bytes:
        """The dictionary, without the data that follow it."""
        items: dict[bytes, bencode.Encodable] = {b"msg_type": self.kind, b"piece": self.piece}
        if self.total_size is not None:
            items[b"total_size"] = self.total_size
        return bencode.encode(items)

    @classmethod
    def parse(cls, payload: bytes) -> MetadataMessage:
        """Reads the payload of the extended message, without its id. Raises ProtocolError."""
        items, end = bencode.decode_first(payload, max_depth=_MAX_DEPTH, max_tokens=_MAX_TOKENS)
        if not isinstance(items, dict):
            raise ProtocolError("a ut_metadata message starts with a dictionary")
        kind = bencode.get_int(items, b"msg_type")
        piece = bencode.get_int(items, b"piece")
        if kind is None or piece is None or not 0 <= piece <= _MAX_PIECE:
            raise ProtocolError("a ut_metadata message without its type or a block that can be")
        if len(payload) - end > METADATA_BLOCK_BYTES:
            raise ProtocolError("a metadata block of more than 16 KiB")
        return cls(kind, piece, bencode.get_int(items, b"total_size"), payload[end:])
