"""A set of piece indices that knows its size, and its form on the wire (BEP 3): the first piece is the high bit.

Set operations go through whole-number arithmetic, so that 100,000 pieces cost microseconds, not a loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wire.errors import MisuseError, ProtocolError

__all__ = ["Bitfield"]

_ONES = tuple(tuple(bit for bit in range(8) if byte & (0x80 >> bit)) for byte in range(256))
"""For each byte, which of its bits are set, the high bit being 0."""


class Bitfield:
    """Which of `size` pieces are there. Changes in place; equal when size and pieces are."""

    __slots__ = ("_bits", "_count", "_size")

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __init__(self, size: int) -> None:
        """An empty one for `size` pieces. Raises MisuseError where that is negative."""
        if size < 0:
            raise MisuseError(f"a bitfield cannot have {size} bits")
        self._size = size
        self._bits = bytearray((size + 7) // 8)
        self._count = 0

    @classmethod
    def full(cls, size: int) -> Bitfield:
        """One that has every piece."""
        made = cls(size)
        made._take(((1 << size) - 1) << (-size % 8))
        return made

    @classmethod
    def of(cls, size: int, indices: Iterable[int]) -> Bitfield:
        """One that has the named pieces. Raises MisuseError for an index outside it."""
        made = cls(size)
        made.update(indices)
        return made

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, size: int) -> Bitfield:
        """Reads the wire form for `size` pieces. Raises ProtocolError for a wrong length or set spare bits (BEP 3)."""
        made = cls(size)
        if len(data) != len(made._bits):
            raise ProtocolError(f"a bitfield for {size} pieces is {len(made._bits)} bytes long, not {len(data)}")
        if size % 8 and data[-1] & (0xFF >> size % 8):
            raise ProtocolError("a bitfield with its spare bits set")
        made._bits[:] = data
        made._count = int.from_bytes(data, "big").bit_count()
        return made

    def to_bytes(self) -> bytes:
        """The wire form: a bit a piece, the first the high bit of the first byte, spare bits zero."""
        return bytes(self._bits)

    @property
    def size(self) -> int:
        """How many pieces there are in all."""
        return self._size

    @property
    def count(self) -> int:
        """How many it has; kept, not counted."""
        return self._count

    @property
    def all(self) -> bool:
        """Whether it has every piece."""
        return self._count == self._size

    def __getitem__(self, index: int) -> bool:
        if not 0 <= index < self._size:
            raise IndexError(f"piece {index} of {self._size}")
        return bool(self._bits[index >> 3] & (0x80 >> (index & 7)))

    def set(self, index: int) -> bool:
        """Adds a piece; False where it was there. Raises MisuseError outside the range."""
        byte, bit = self._place(index)
        if self._bits[byte] & bit:
            return False
        self._bits[byte] |= bit
        self._count += 1
        return True

    def update(self, indices: Iterable[int]) -> None:
        """Adds pieces, as `set` does each."""
        bits, size = self._bits, self._size
        for index in indices:
            if not 0 <= index < size:
                raise MisuseError(f"there is no piece {index} among {size}")
            byte, bit = index >> 3, 0x80 >> (index & 7)
            if not bits[byte] & bit:
                bits[byte] |= bit
                self._count += 1

    def clear(self, index: int) -> bool:
        """Takes a piece away; False where it was not there. Raises MisuseError outside the range."""
        byte, bit = self._place(index)
        if not self._bits[byte] & bit:
            return False
        self._bits[byte] ^= bit
        self._count -= 1
        return True

    def indices(self) -> Iterator[int]:
        """The pieces it has, ascending. The bitfield must not change meanwhile."""
        for at, byte in enumerate(self._bits):
            if byte:
                base = at << 3
                for bit in _ONES[byte]:
                    yield base + bit

    def copy(self) -> Bitfield:
        """Another with the same pieces."""
        made = Bitfield(self._size)
        made._bits[:] = self._bits
        made._count = self._count
        return made

    def overlaps(self, other: Bitfield) -> bool:
        """Whether some piece is in both. Raises MisuseError for another size, as do the operators."""
        return bool(self._number() & self._same_size(other)._number())

    def __and__(self, other: Bitfield) -> Bitfield:
        return Bitfield(self._size)._take(self._number() & self._same_size(other)._number())

    def __or__(self, other: Bitfield) -> Bitfield:
        return Bitfield(self._size)._take(self._number() | self._same_size(other)._number())

    def __sub__(self, other: Bitfield) -> Bitfield:
        return Bitfield(self._size)._take(self._number() & ~self._same_size(other)._number())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bitfield) and self._size == other._size and self._bits == other._bits

    def __repr__(self) -> str:
        return f"<Bitfield {self._count} of {self._size}>"

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < self._size:
            raise MisuseError(f"there is no piece {index} among {self._size}")
        return index >> 3, 0x80 >> (index & 7)

    def _number(self) -> int:
        return int.from_bytes(self._bits, "big")

    def _same_size(self, other: Bitfield) -> Bitfield:
        if other._size != self._size:
            raise MisuseError(f"bitfields of {self._size} and {other._size} pieces do not go together")
        return other

    def _take(self, number: int) -> Bitfield:
        self._bits[:] = number.to_bytes(len(self._bits), "big")
        self._count = number.bit_count()
        return self
