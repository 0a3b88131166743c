"""The Bloom filter by which a swarm's size is counted without naming its members (BEP 33). No I/O."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import NamedTuple

from wire.errors import ProtocolError

__all__ = ["CAPACITY", "FILTER_BYTES", "BloomFilter", "Estimate"]

FILTER_BYTES = 256
CAPACITY = 6000
"""Above this a filter is so full that it says little (BEP 33)."""
_BITS = FILTER_BYTES * 8
_HASHES = 2


class Estimate(NamedTuple):
    """How many addresses a filter holds: the likely number, and one standard deviation of it."""

    size: float
    error: float


class BloomFilter:
    """A set of IP addresses as 2,048 bits. Unions only grow."""

    __slots__ = ("_bits",)

    def __init__(self, bits: int = 0) -> None:
        self._bits = bits

    @classmethod
    def from_bytes(cls, data: bytes) -> BloomFilter:
        """Reads `BFsd` or `BFpe`. Raises ProtocolError where it is not 256 bytes long."""
        if len(data) != FILTER_BYTES:
            raise ProtocolError(f"a scrape filter is {FILTER_BYTES} bytes long, not {len(data)}")
        return cls(int.from_bytes(data, "little"))

    def to_bytes(self) -> bytes:
        """256 bytes; the first index is the low bit of the first byte."""
        return self._bits.to_bytes(FILTER_BYTES, "little")

    def add(self, ip: bytes) -> None:
        """Adds a packed address (4 or 16 bytes), never a port."""
        digest = hashlib.sha1(ip).digest()
        first = int.from_bytes(digest[0:2], "little") % _BITS
        second = int.from_bytes(digest[2:4], "little") % _BITS
        self._bits |= (1 << first) | (1 << second)

    def update(self, ips: Iterable[bytes]) -> None:
        """Adds each."""
        for ip in ips:
            self.add(ip)

    def __contains__(self, ip: bytes) -> bool:
        probe = BloomFilter()
        probe.add(ip)
        return self._bits & probe._bits == probe._bits

    def __or__(self, other: BloomFilter) -> BloomFilter:
        """The union."""
        return BloomFilter(self._bits | other._bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BloomFilter) and self._bits == other._bits

    def __hash__(self) -> int:
        return hash(self._bits)

    @property
    def estimate(self) -> Estimate:
        """The size by BEP 33's formula, and its standard error from the spread of the number of empty bits."""
        zeros = min(_BITS - 1, _BITS - self._bits.bit_count())
        empty = max(zeros, 1) / _BITS
        per_item = _HASHES * math.log(1 - 1 / _BITS)
        size = math.log(empty) / per_item
        load = _HASHES * size / _BITS
        # Occupancy of a random table: the variance of its empty cells, through the slope of the formula.
        variance = _BITS * (math.exp(-load) - (1 + load) * math.exp(-2 * load))
        error = math.sqrt(max(variance, 0.0)) / (_BITS * empty * -per_item)
        return Estimate(size if self._bits else 0.0, error if self._bits else 0.0)
