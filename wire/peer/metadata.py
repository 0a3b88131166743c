"""Fetching and serving the info dictionary over ut_metadata (BEP 9), across many peers; no I/O.

`MetadataFetch` decides which block to ask of whom, keeps what came apart by the size that a peer advertised,
checks the whole against the info-hash, and finds out who sent wrong bytes. It knows peers only by a key that
its caller chooses. The caller sends the requests, feeds the answers, and drops whom it names.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from wire.ids import InfoHash

__all__ = ["MetadataFetch", "MetadataFetched", "MetadataPeerFailed", "MetadataServe"]

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class MetadataFetched:
    """The info dictionary is whole and hashes to the info-hash."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class MetadataPeerFailed(Generic[K]):
    """This peer will not be asked any more. `lied`: it sent wrong bytes, or sizes that contradict each other."""

    peer: K
    lied: bool
    reason: str


FetchEvent = MetadataFetched | MetadataPeerFailed[K]


class MetadataFetch(Generic[K]):
    """Gets the info dictionary of one torrent. After each call that changes something, call `assign`."""

    done: bool
    """The info dictionary was found; nothing more is asked."""
    rejects: int
    """How many requests were rejected, by all peers."""
    hash_failures: int
    """How often all bytes were there and hashed wrong."""

    def __init__(self, info_hash: InfoHash, *, max_bytes: int = 16 << 20) -> None:
        raise NotImplementedError

    def offer(self, peer: K, size: int, now: float) -> bool:
        """A peer with a ut_metadata id says that the info dictionary is `size` bytes long.

        False: it is not used, the size is over `max_bytes` or the peer failed before.
        """
        raise NotImplementedError

    def gone(self, peer: K) -> None:
        """The connection is closed: nothing more comes from there; what came is kept."""
        raise NotImplementedError

    def assign(self, now: float) -> list[tuple[K, int]]:
        """Whom to ask for which block, now: each pair is to be sent as a request."""
        raise NotImplementedError

    def data(self, peer: K, piece: int, total_size: int | None, data: bytes, now: float) -> list[FetchEvent[K]]:
        """A block came. What was not asked for is ignored."""
        raise NotImplementedError

    def reject(self, peer: K, piece: int, now: float) -> list[FetchEvent[K]]:
        """A peer refused a block: it is left alone for a while, and given up after some times."""
        raise NotImplementedError

    def next_timer(self) -> float | None:
        """When `assign` may have something to say, without anything having come; None: never."""
        raise NotImplementedError


class MetadataServe:
    """Serves a verified info dictionary."""

    size: int

    def __init__(self, raw: bytes) -> None:
        raise NotImplementedError

    def block(self, piece: int) -> memoryview | None:
        """The 16 KiB block, or None where there is none such: then a reject is due."""
        raise NotImplementedError
