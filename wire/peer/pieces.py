"""What one peer says that it has (BEP 3, BEP 6), also before anybody knows how many pieces there are.

A magnet link's peers tell of their pieces before the info dictionary is there: what they say is kept in a form
that fits any piece count, at most 512 KiB of it, and judged once the count is known.
"""

from __future__ import annotations

from wire.bitfield import Bitfield
from wire.errors import MisuseError, ProtocolError
from wire.peer.messages import MAX_PIECES

__all__ = ["RemotePieces"]


class RemotePieces:
    """A peer's pieces. Everything that breaks the rules or does not fit raises ProtocolError."""

    __slots__ = ("_all", "_bits", "_declared", "_haves", "count", "has")

    def __init__(self, count: int | None) -> None:
        """`count`: pieces of the torrent, None where they are not known yet."""
        self.count = count
        self.has = None if count is None else Bitfield(count)
        """None until the count is known."""
        self._declared: str | None = None  # which of a bitfield, "have all" and "have none" has come
        # Said before the count was known: everything; a bitfield as it came; a bitfield of single pieces.
        self._all = False
        self._bits: bytes | None = None
        self._haves = bytearray()

    @property
    def is_all(self) -> bool:
        """The peer is known to have every piece."""
        return self._all if self.has is None else self.has.all

    def have(self, index: int) -> bool:
        """It has got a piece. True: this is news; False: it was known, or cannot be placed yet."""
        if index >= (MAX_PIECES if self.count is None else self.count):
            raise ProtocolError(f"the peer says that it has piece {index}, which cannot be")
        if self.has is not None:
            return self.has.set(index)
        byte = index >> 3
        if byte >= len(self._haves):
            self._haves.extend(bytes(byte + 1 - len(self._haves)))
        self._haves[byte] |= 0x80 >> (index & 7)
        return False

    def lose(self, index: int) -> bool:
        """It has a piece no more (BEP 54). True: it had it. What comes before the count is known is not believed."""
        if self.has is None or self.count is None:
            return False
        if index >= self.count:
            raise ProtocolError(f"the peer says that it has not got piece {index}, which cannot be")
        if not self.has[index]:
            return False
        self.has.clear(index)
        return True

    def declare(self, bits: bytes | None, *, everything: bool = False) -> Bitfield | None:
        """It says what it has: by the bits of a bitfield, or everything, or else nothing.

        A bitfield may come again, and adds to what is known: aria2 sends one for many haves, also after "have none".
        So may the same words: WebTorrent says "have none" twice where it accepted an encrypted connection.
        Returns the pieces that are news, None where the count is not known yet.
        """
        kind = "bitfield" if bits is not None else "all" if everything else "none"
        if bits is None and self._declared not in (None, kind):
            raise ProtocolError(f"the peer says that it has {kind}, after it said something else")
        self._declared = kind
        if self.count is None or self.has is None:
            self._all = self._all or everything
            if not self._all:
                self._bits = bits  # the later one holds what the earlier did
            return None
        said = _said(self.count, bits, everything)
        # Some announce a piece first: those are known already and must not count twice.
        gained = said - self.has
        self.has |= said
        return gained

    def set_count(self, count: int) -> Bitfield | None:
        """The count is known now. Returns what the peer has if it has said anything, a copy."""
        if self.count is not None or not 0 <= count <= MAX_PIECES:
            raise MisuseError(f"the piece count cannot be set to {count} now")
        has = _said(count, self._bits, self._all)
        told = self._declared is not None or bool(self._haves)
        if self._haves:
            width = (count + 7) // 8
            # If one of them is beyond the last piece, this is too long, or has spare bits set.
            has |= Bitfield.from_bytes(self._haves.ljust(width, b"\0"), count)
        self.count = count
        self.has = has
        self._bits = None
        self._haves = bytearray()
        return has.copy() if told else None


def _said(count: int, bits: bytes | None, everything: bool) -> Bitfield:
    if bits is not None:
        return Bitfield.from_bytes(bits, count)
    return Bitfield.full(count) if everything else Bitfield(count)
