"""Info-hashes and peer ids as values (BEP 3, BEP 9, BEP 20, BEP 52)."""

from __future__ import annotations

import base64
import binascii
import random
from dataclasses import dataclass

from wire.errors import ProtocolError

__all__ = ["ID_BYTES", "InfoHash", "make_peer_id"]

ID_BYTES = 20
"""Width of a node id, a v1 info-hash and a peer id, and of what stands for a v2 info-hash on the wire."""

_V2_BYTES = 32
_MULTIHASH_SHA256 = b"\x12\x20"
"""The prefix of a sha2-256 multihash of 32 bytes, in `xt=urn:btmh:` (BEP 9, BEP 52)."""

CLIENT_PREFIX = b"-KB0100-"
"""Azureus-style client and version (BEP 20)."""


@dataclass(frozen=True, slots=True)
class InfoHash:
    """Names a torrent by its v1 hash (SHA-1, 20 bytes), its v2 hash (SHA-256, 32 bytes), or, hybrid, both."""

    v1: bytes | None = None
    v2: bytes | None = None

    def __post_init__(self) -> None:
        if self.v1 is None and self.v2 is None:
            raise ProtocolError("an info-hash needs a v1 or a v2 hash")
        if self.v1 is not None and len(self.v1) != ID_BYTES:
            raise ProtocolError(f"a v1 info-hash is {ID_BYTES} bytes long, not {len(self.v1)}")
        if self.v2 is not None and len(self.v2) != _V2_BYTES:
            raise ProtocolError(f"a v2 info-hash is {_V2_BYTES} bytes long, not {len(self.v2)}")

    @classmethod
    def parse(cls, text: str) -> InfoHash:
        """Reads 40 hex digits or 32 base32 letters (v1, any case), 64 hex digits or a 1220... multihash (v2).

        Raises ProtocolError, naming the length where that is what is wrong.
        """
        try:
            if len(text) == 32:
                return cls(v1=base64.b32decode(text.upper()))
            raw = bytes.fromhex(text) if text.isalnum() else b""
        except (ValueError, binascii.Error):
            raw = b""
        if len(raw) == ID_BYTES:
            return cls(v1=raw)
        if len(raw) == _V2_BYTES:
            return cls(v2=raw)
        if len(raw) == _V2_BYTES + 2 and raw.startswith(_MULTIHASH_SHA256):
            return cls(v2=raw[2:])
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise ProtocolError(
            f"{shown!r} is no info-hash: 40 hex digits or 32 base32 letters (v1), or 64 hex digits (v2); "
            f"its length is {len(text)}"
        )

    @property
    def swarm_ids(self) -> tuple[bytes, ...]:
        """The 20-byte names of its swarms on trackers, DHT and in handshakes; a v2 hash is truncated (BEP 52)."""
        ids = [self.v1] if self.v1 is not None else []
        if self.v2 is not None:
            ids.append(self.v2[:ID_BYTES])
        return tuple(ids)

    @property
    def multihash(self) -> str | None:
        """The v2 hash as the hex multihash that a link carries."""
        return None if self.v2 is None else (_MULTIHASH_SHA256 + self.v2).hex()

    def matches(self, other: InfoHash) -> bool:
        """Whether they name one torrent: every hash that both have is equal, and they share at least one."""
        shared = [(a, b) for a, b in ((self.v1, other.v1), (self.v2, other.v2)) if a and b]
        return bool(shared) and all(a == b for a, b in shared)

    def __str__(self) -> str:
        """Hex of the v1 hash where there is one, else of the v2 hash."""
        return (self.v1 or self.v2 or b"").hex()


def make_peer_id(rng: random.Random) -> bytes:
    """Twenty bytes: client and version (BEP 20), then twelve random ones."""
    return CLIENT_PREFIX + rng.randbytes(ID_BYTES - len(CLIENT_PREFIX))
