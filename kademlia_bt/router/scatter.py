"""Where an address stands in a table: a hash function drawn by chance, so that nobody can choose addresses that
share a place. No I/O.

Python's own hash of bytes is keyed too, but by the process: a network that is simulated twice from one seed would
differ. This one is universal: of two addresses, whichever they are, as many functions as for any other two give
them one place (Carter and Wegman, 1979).
"""

from __future__ import annotations

import random
from typing import Final

__all__ = ["Scatter"]

_PRIME: Final = (1 << 255) - 19
"""Larger than any address read as a number: 18 bytes at most."""


class Scatter:
    """One such function. Its values are numbers below 2^255, to be cut down with a mask."""

    __slots__ = ("_factor", "_shift")

    def __init__(self, rng: random.Random) -> None:
        self._factor = rng.randrange(1, _PRIME)
        self._shift = rng.randrange(_PRIME)

    def __call__(self, key: bytes) -> int:
        """The value for a key of up to 31 bytes; all keys of one table are equally long, or never equal as numbers."""
        return (self._factor * int.from_bytes(key, "big") + self._shift) % _PRIME
