"""The kinds of lookup: what each asks of a node, and what it stores at the end. Thin: lookup.py walks for all of them.

A further kind (BEP 33, BEP 44, BEP 51) is one more class here with the same members, and what is new in its
answers is one more property of `krpc.Answer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wire.bencode import Encodable
from wire.errors import MisuseError
from wire.ids import ID_BYTES

__all__ = ["FindNode", "GetPeers", "LookupKind"]


def _check_id(value: bytes) -> None:
    if len(value) != ID_BYTES:
        raise MisuseError(f"a target is {ID_BYTES} bytes long, not {len(value)}")


@dataclass(frozen=True, slots=True)
class FindNode:
    """Finds the nodes closest to `target` (20 bytes; BEP 5). Raises MisuseError for another length."""

    target: bytes

    method: ClassVar[bytes] = b"find_node"
    store_method: ClassVar[bytes | None] = None

    def __post_init__(self) -> None:
        _check_id(self.target)

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Of the question that each node is asked, beside our id."""
        return {b"target": self.target}

    @property
    def stores(self) -> bool:
        """Whether something is left with the closest nodes at the end."""
        return False

    def store_arguments(self, token: bytes) -> dict[bytes, Encodable]:
        """Never asked for."""
        raise MisuseError("find_node stores nothing")


@dataclass(frozen=True, slots=True)
class GetPeers:
    """Finds peers of `info_hash` (20 bytes; BEP 5), and announces ourselves to the closest nodes where asked to.

    Announces where `announce_port` is given, or where `implied_port` says that peers are to reach us on
    the UDP port that the nodes see. Raises MisuseError for another length, or a port outside 1..65535.
    """

    info_hash: bytes
    announce_port: int | None = None
    implied_port: bool = False
    seed: bool = False
    """Announced as one who has everything (BEP 33)."""

    method: ClassVar[bytes] = b"get_peers"
    store_method: ClassVar[bytes | None] = b"announce_peer"

    def __post_init__(self) -> None:
        _check_id(self.info_hash)
        if self.announce_port is not None and not 0 < self.announce_port < 65536:
            raise MisuseError(f"cannot announce port {self.announce_port}: it must be 1 to 65535")

    @property
    def target(self) -> bytes:
        """What is walked towards."""
        return self.info_hash

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Of the question that each node is asked, beside our id."""
        return {b"info_hash": self.info_hash}

    @property
    def stores(self) -> bool:
        """Whether something is left with the closest nodes at the end."""
        return self.implied_port or self.announce_port is not None

    def store_arguments(self, token: bytes) -> dict[bytes, Encodable]:
        """Of the announce, beside our id. `port` always goes along: some nodes want it even where it is implied."""
        arguments: dict[bytes, Encodable] = {
            b"implied_port": int(self.implied_port),
            b"info_hash": self.info_hash,
            b"port": self.announce_port or 1,
            b"token": token,
        }
        if self.seed:
            arguments[b"seed"] = 1
        return arguments


LookupKind = FindNode | GetPeers
