"""Where bytes of a torrent may be had already: the torrents and collections that it names (BEP 38).

Hints of strangers, so they decide only where one looks first; what is found is verified by its piece hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wire.bencode import Encodable, Value, get_list
from wire.errors import MisuseError

__all__ = ["Hints"]

_MAX_HINTS = 200
"""Of each kind: a series has fewer, and each costs a look at every finished torrent."""
_MAX_NAME_BYTES = 255
_HASH_BYTES = (20, 32)


@dataclass(frozen=True, slots=True)
class Hints:
    """What a torrent says that it shares files with."""

    similar: tuple[bytes, ...] = ()
    """Info-hashes, 20 bytes (or 32, of version 2)."""
    collections: tuple[bytes, ...] = ()
    """Names that torrents have in common; any bytes."""

    @classmethod
    def read(cls, items: Mapping[bytes, Value]) -> Hints:
        """From an info dictionary, or from what stands around it; what is malformed is left out."""
        similar = [one for one in get_list(items, b"similar") or () if isinstance(one, bytes)]
        names = [one for one in get_list(items, b"collections") or () if isinstance(one, bytes)]
        return cls(
            tuple(dict.fromkeys(one for one in similar if len(one) in _HASH_BYTES))[:_MAX_HINTS],
            tuple(dict.fromkeys(one for one in names if 0 < len(one) <= _MAX_NAME_BYTES))[:_MAX_HINTS],
        )

    @classmethod
    def of(cls, similar: Iterable[bytes], collections: Iterable[str]) -> Hints:
        """To be written into a torrent. Raises MisuseError for a name that nobody would read, or too many."""
        hashes = tuple(dict.fromkeys(similar))
        names = tuple(dict.fromkeys(name.encode("utf-8", "surrogateescape") for name in collections))
        if not all(0 < len(name) <= _MAX_NAME_BYTES for name in names):
            raise MisuseError(f"the name of a collection has 1 to {_MAX_NAME_BYTES} bytes")
        if max(len(hashes), len(names)) > _MAX_HINTS:
            raise MisuseError(f"more than {_MAX_HINTS} similar torrents or collections would not be read")
        return cls(hashes, names)

    def merged(self, other: Hints) -> Hints:
        """Both together: the two places where hints may stand count alike."""
        return Hints(
            tuple(dict.fromkeys(self.similar + other.similar)),
            tuple(dict.fromkeys(self.collections + other.collections)),
        )

    def items(self) -> dict[bytes, Encodable]:
        """As they are written."""
        items: dict[bytes, Encodable] = {}
        if self.similar:
            items[b"similar"] = self.similar
        if self.collections:
            items[b"collections"] = self.collections
        return items
