"""Node ids: making them, checking them against an address (BEP 42), measuring between them (BEP 5). Pure functions.

Ids travel as 20 bytes and are measured as integers: the distance of two is their exclusive or.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from wire.compact import Endpoint, reach
from wire.ids import ID_BYTES

__all__ = [
    "ID_BITS",
    "fits",
    "is_secure",
    "make_node_id",
    "number",
    "random_id",
    "random_id_sharing",
    "shared_bits",
    "spread_id",
]

ID_BITS = ID_BYTES * 8

_SPREAD_TRIES = 32
"""Random ids to choose from: among 32, one differs from another id in its first bit but once in 2^32."""

_MASK_V4 = 0x030F3FFF
_MASK_V6 = 0x0103070F1F3F7FFF
"""Which bits of an address its node ids depend on (BEP 42): the low ones of each byte, as few hold the high ones."""


def random_id(rng: random.Random) -> bytes:
    """Twenty random bytes."""
    return rng.randbytes(ID_BYTES)


def number(node_id: bytes) -> int:
    """The id as the integer that distances are measured with."""
    return int.from_bytes(node_id, "big")


def shared_bits(a: int, b: int) -> int:
    """How many leading bits two ids have in common: 0..160."""
    return ID_BITS - (a ^ b).bit_length()


def random_id_sharing(own: bytes, bits: int, rng: random.Random) -> bytes:
    """A random id that shares exactly its first `bits` (0..159) bits with `own`."""
    below = ID_BITS - 1 - bits
    prefix = (number(own) >> below) ^ 1
    return ((prefix << below) | rng.getrandbits(below + 1) >> 1).to_bytes(ID_BYTES, "big")


def _crc(ip: bytes, r: int) -> int:
    # Only here, for it brings the whole of importlib.metadata with it: by the first global address packets are on their
    # way, and the time it takes is spent waiting for them.
    from crc32c import crc32c

    if len(ip) == 4:
        return crc32c((int.from_bytes(ip, "big") & _MASK_V4 | r << 29).to_bytes(4, "big"))
    # Of an IPv6 address the first half counts: the rest is the owner's to choose.
    return crc32c((int.from_bytes(ip[:8], "big") & _MASK_V6 | r << 61).to_bytes(8, "big"))


def make_node_id(ip: bytes, rng: random.Random) -> bytes:
    """A random id that fits the packed address (4 or 16 bytes), as BEP 42 asks for."""
    random_part = bytearray(rng.randbytes(ID_BYTES))
    crc = _crc(ip, random_part[-1] & 7)
    random_part[0] = crc >> 24
    random_part[1] = crc >> 16 & 0xFF
    random_part[2] = crc >> 8 & 0xF8 | random_part[2] & 7
    return bytes(random_part)


def spread_id(ip: bytes | None, others: Sequence[bytes], rng: random.Random) -> bytes:
    """An id for one more socket, far from those of the `others` in its first bits (BEP 45).

    It fits the packed address, where one is given (BEP 42): of the 8 beginnings that an address allows, the farthest.
    """
    if not others:
        return random_id(rng) if ip is None else make_node_id(ip, rng)
    tries = [random_id(rng) if ip is None else make_node_id(ip, rng) for _ in range(_SPREAD_TRIES)]
    return min(tries, key=lambda each: max(shared_bits(number(each), number(other)) for other in others))


def fits(node_id: bytes, ip: bytes) -> bool:
    """Whether the id's first 21 bits are those that BEP 42 derives from the packed address."""
    crc = _crc(ip, node_id[-1] & 7)
    return (int.from_bytes(node_id[:3], "big") ^ crc >> 8) & 0xFFFFF8 == 0


def is_secure(node_id: bytes, endpoint: Endpoint) -> bool:
    """Whether the id fits its endpoint (BEP 42). Addresses that are not global are exempt, so always secure."""
    return reach(endpoint.host) != "global" or fits(node_id, endpoint.ip)
