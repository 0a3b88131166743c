"""Where an address stands in a table: a hash function drawn by chance, so that nobody can choose addresses that
share a place. No I/O.

Python's own hash of bytes is keyed too, but by the process: a network that is simulated twice from one seed would
differ. This one is universal: of two addresses, whichever they are, as many functions as for any other two give
them one place (Dietzfelbinger, 1996: multiply, add, take the high bits).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

__all__ = ["scatter"]

_KEY_BITS: Final = 18 * 8
"""An address of IPv6 and a port."""
_PLACE_BITS: Final = 32
"""More than any table has places."""


def scatter(rng: random.Random) -> Callable[[bytes], int]:
    """One such function: takes a key of up to 18 bytes, gives a number of 32 bits, to be cut down with a mask.

    All keys of one table are equally long, or never equal as numbers.
    """
    bits = _KEY_BITS + _PLACE_BITS - 1
    factor, shift, mask, below = rng.getrandbits(bits), rng.getrandbits(bits), (1 << bits) - 1, _KEY_BITS - 1
    number = int.from_bytes

    def place(key: bytes) -> int:
        return (factor * number(key, "big") + shift & mask) >> below

    return place
