"""The handshake that opens a peer connection (BEP 3), its reserved bits (BEP 5, 6, 10, 52), names in peer ids (BEP 20).

Only bytes to values and back: who says it first and what must match is the connection's business.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from wire.errors import ProtocolError
from wire.ids import ID_BYTES

__all__ = ["HANDSHAKE_BYTES", "PROTOCOL", "Handshake", "SelfConnectionError", "check_start", "client_of", "printable"]

PROTOCOL = b"\x13BitTorrent protocol"
"""What every handshake starts with; encrypted connections do not."""
HANDSHAKE_BYTES = len(PROTOCOL) + 8 + 2 * ID_BYTES

_RESERVED_AT = len(PROTOCOL)
_EXTENDED_BIT = (5, 0x10)
_FAST_BIT = (7, 0x04)
_DHT_BIT = (7, 0x01)
_V2_BIT = (7, 0x10)

_AZUREUS = re.compile(rb"-([A-Za-z~]{2})([0-9A-Za-z]{4})-")
_MAINLINE = re.compile(rb"([A-Z][A-Z0-9]?)-?(\d{1,2}-\d{1,2}-\d{1,2})-")
_CLIENTS = {
    b"A2": "aria2",
    b"AZ": "Vuze",
    b"BC": "BitComet",
    b"BI": "BiglyBT",
    b"DE": "Deluge",
    b"GT": "anacrolix",
    b"KB": "kademlia-bt",
    b"KT": "KTorrent",
    b"LT": "libtorrent",
    b"M": "BitTorrent",
    b"TR": "Transmission",
    b"UM": "uTorrent Mac",
    b"UT": "uTorrent",
    b"WW": "WebTorrent",
    b"lt": "rTorrent",
    b"qB": "qBittorrent",
    b"rQ": "rqbit",
}


class SelfConnectionError(ProtocolError):
    """The peer has our own id: we dialled ourselves. Nobody is to blame; the address is just not worth dialling."""


class Handshake(NamedTuple):
    """One side's handshake."""

    info_hash: bytes
    """20 bytes."""
    peer_id: bytes
    """20 bytes."""
    extended: bool
    """Speaks the extension protocol (BEP 10)."""
    fast: bool
    """Speaks the fast extension (BEP 6)."""
    dht: bool
    """Has a DHT node (BEP 5)."""
    v2: bool = False
    """Names a hybrid torrent by its v1 hash, and takes the v2 one for an answer (BEP 52)."""

    def encode(self) -> bytes:
        """The 68 bytes."""
        reserved = bytearray(8)
        flags = (self.extended, _EXTENDED_BIT), (self.fast, _FAST_BIT), (self.dht, _DHT_BIT), (self.v2, _V2_BIT)
        for said, (at, bit) in flags:
            if said:
                reserved[at] |= bit
        return PROTOCOL + reserved + self.info_hash + self.peer_id

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview) -> Handshake:
        """Reads 68 bytes. Raises ProtocolError where they are none."""
        if len(data) != HANDSHAKE_BYTES:
            raise ProtocolError(f"a handshake is {HANDSHAKE_BYTES} bytes long, not {len(data)}")
        check_start(data)
        reserved = data[_RESERVED_AT : _RESERVED_AT + 8]
        ids = _RESERVED_AT + 8
        return cls(
            info_hash=bytes(data[ids : ids + ID_BYTES]),
            peer_id=bytes(data[ids + ID_BYTES :]),
            extended=bool(reserved[_EXTENDED_BIT[0]] & _EXTENDED_BIT[1]),
            fast=bool(reserved[_FAST_BIT[0]] & _FAST_BIT[1]),
            dht=bool(reserved[_DHT_BIT[0]] & _DHT_BIT[1]),
            v2=bool(reserved[_V2_BIT[0]] & _V2_BIT[1]),
        )


def check_start(data: bytes | bytearray | memoryview) -> None:
    """Raises ProtocolError as soon as these first bytes cannot become a handshake, however few they are."""
    if not PROTOCOL.startswith(bytes(data[: len(PROTOCOL)])):
        raise ProtocolError("not a BitTorrent handshake")


def printable(text: str, limit: int) -> str:
    """What of a stranger's text may be shown to people: printable characters, at most `limit`."""
    text = text[:limit]
    return text if text.isprintable() else "".join(character for character in text if character.isprintable())


def client_of(peer_id: bytes) -> str:
    """A name for people from a peer id (BEP 20), such as "libtorrent 2.1.1.0"; "" where it tells none."""
    if found := _AZUREUS.match(peer_id):
        version = ".".join(chr(digit) for digit in found[2])
    elif found := _MAINLINE.match(peer_id):
        version = found[2].decode().replace("-", ".")
    else:
        return ""
    return f"{_CLIENTS.get(found[1], found[1].decode())} {version}"
