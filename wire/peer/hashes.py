"""The messages about merkle trees: hash request, hashes, hash reject (BEP 52). Bytes to values and back.

Only the form is read here. Whether a request makes sense for a torrent, and whether hashes lead to the root
that they claim, others find out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from wire.errors import ProtocolError

__all__ = ["ASK_BYTES", "MAX_ASKED", "MAX_HASHES", "HashAsk", "HashReject", "HashRequest", "Hashes"]

HASH_BYTES: Final = 32
MAX_ASKED: Final = 512
"""Hashes of one layer that a request may ask for (BEP 52)."""
MAX_HASHES: Final = MAX_ASKED + 64
"""In one answer: those, and an uncle for each layer above; no file's tree is 64 layers high."""

_ASK = struct.Struct(">32s4I")
ASK_BYTES: Final = _ASK.size


class HashAsk(NamedTuple):
    """Which hashes of which tree: the heart of all three messages. Numbers are unsigned 32-bit, unchecked."""

    root: bytes
    """The file's pieces root."""
    base: int
    """The layer of the hashes; 0 is that of the leaves."""
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """The first one, counted in its layer."""
    length: int
    """How many."""
    proof_layers: int
    """How many layers above them are to be proved by uncle hashes."""

    def encode(self) -> bytes:
        """The 48 bytes."""
        return _ASK.pack(*self)

    @classmethod
    def parse(cls, data: bytes | memoryview) -> HashAsk:
        """Reads the 48 bytes."""
        return cls(*_ASK.unpack(data))

    @property
    def is_sane(self) -> bool:
        """Within what BEP 52 lets be asked. libtorrent asks for one hash where a file's layer has one too many for
        whole requests; that is let pass."""
        return self.is_sane_for(MAX_ASKED)

    def is_sane_for(self, most: int) -> bool:
        """The same, up to `most` hashes."""
        length = self.length
        return 0 < length <= most and not length & (length - 1) and not self.index % length


@dataclass(frozen=True, slots=True)
class HashRequest:
    """The peer asks for hashes; it is to get `Hashes` or a `HashReject`."""

    ask: HashAsk


@dataclass(frozen=True, slots=True)
class Hashes:
    """Hashes of a file's tree and their uncles, the lowest first: unverified, perhaps never asked for."""

    ask: HashAsk
    hashes: tuple[bytes, ...]

    @classmethod
    def parse(cls, body: memoryview) -> Hashes:
        """Reads a message without its id. Raises ProtocolError where the hashes are not whole, none or too many."""
        rest = bytes(body[ASK_BYTES:])
        if len(body) < ASK_BYTES or len(rest) % HASH_BYTES or not 0 < len(rest) <= MAX_HASHES * HASH_BYTES:
            raise ProtocolError(f"a message of {len(body)} bytes with hashes")
        hashes = tuple(rest[at : at + HASH_BYTES] for at in range(0, len(rest), HASH_BYTES))
        return cls(HashAsk.parse(body[:ASK_BYTES]), hashes)

    @staticmethod
    def encode(ask: HashAsk, hashes: Iterable[bytes]) -> bytes:
        """The message without its id."""
        return ask.encode() + b"".join(hashes)


@dataclass(frozen=True, slots=True)
class HashReject:
    """The peer will not answer this hash request of ours."""

    ask: HashAsk
