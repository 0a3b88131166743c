"""Networks of one's own: a tag in every message keeps their nodes and those of the mainline DHT apart. No I/O.

The tag is one more key, `N`, at the top of a KRPC dictionary, where BEP 5 lets unknown keys be. It sorts before all
others, so it is put on and taken off at the border of a face, as a prefix, and nothing behind it knows of it.
A message with another tag, or without one, is dropped before it is read: its sender is not answered and
does not come near the table. Plain nodes drop what carries any tag. The tag is no secret and no signature: it keeps
networks apart that mean each other no harm; who may send datagrams to a network can copy its tag from one.
"""

from __future__ import annotations

import hashlib

from wire.errors import MisuseError

__all__ = ["TAG_BYTES", "Envelope", "network_tag"]

TAG_BYTES = 8
"""Two names that share a tag by chance: one pair in 2^32 names."""
_MAX_NAME_BYTES = 255
_KEY = b"d1:N"
"""How a message begins that has the key: `N` is the first of its sorted keys."""


def network_tag(name: str) -> bytes:
    """The tag of a private network, from its name. Raises MisuseError for an empty or endless name."""
    raw = name.encode("utf-8", "surrogateescape")
    if not 0 < len(raw) <= _MAX_NAME_BYTES or not name.isprintable():
        raise MisuseError(f"a network's name is 1 to {_MAX_NAME_BYTES} bytes of printable text")
    return hashlib.sha256(b"kademlia-bt network " + raw).digest()[:TAG_BYTES]


class Envelope:
    """Puts a network's tag on messages and takes it off; with an empty tag, that of mainline, it changes nothing."""

    __slots__ = ("_head", "overhead_bytes")

    def __init__(self, tag: bytes) -> None:
        if tag and len(tag) != TAG_BYTES:
            raise MisuseError(f"a network tag is {TAG_BYTES} bytes long, not {len(tag)}")
        self._head = b"%b%d:%b" % (_KEY, len(tag), tag) if tag else b""
        self.overhead_bytes = max(len(self._head) - 1, 0)
        """How much longer `seal` makes a message."""

    def seal(self, message: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """The message as this network sends it."""
        return b"".join((self._head, message[1:])) if self._head else message

    def open(self, data: bytes) -> bytes | None:
        """The message without its tag; None where it is of another network."""
        if not self._head:
            return None if data.startswith(_KEY) else data
        return b"d" + data[len(self._head) :] if data.startswith(self._head) else None
