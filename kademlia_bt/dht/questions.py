"""Single questions to one node, asked outside any lookup: what `kademlia-bt ping` and its like send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wire.bencode import Encodable
from wire.compact import Endpoint

__all__ = ["Announce", "AskNodes", "AskPeers", "AskSamples", "Ping", "Question", "QuestionKind"]


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there (BEP 5)?"""

    method: ClassVar[bytes] = b"ping"

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """None beside our id."""
        return {}


@dataclass(frozen=True, slots=True)
class AskNodes:
    """find_node: the nodes that you know closest to `target` (20 bytes)."""

    target: bytes
    method: ClassVar[bytes] = b"find_node"

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Beside our id."""
        return {b"target": self.target}


@dataclass(frozen=True, slots=True)
class AskPeers:
    """get_peers: peers of `info_hash` (20 bytes), nodes close to it, and a token."""

    info_hash: bytes
    method: ClassVar[bytes] = b"get_peers"

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Beside our id."""
        return {b"info_hash": self.info_hash}


@dataclass(frozen=True, slots=True)
class Announce:
    """announce_peer with the token that the same node gave before."""

    info_hash: bytes
    token: bytes
    port: int | None
    """None: the UDP port that the node sees (implied_port)."""
    method: ClassVar[bytes] = b"announce_peer"

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Beside our id. `port` always goes along: some nodes want it even where it is implied."""
        return {
            b"implied_port": int(self.port is None),
            b"info_hash": self.info_hash,
            b"port": self.port or 1,
            b"token": self.token,
        }


@dataclass(frozen=True, slots=True)
class AskSamples:
    """sample_infohashes: some of the info-hashes that you have peers of, and nodes close to `target` (BEP 51)."""

    target: bytes
    method: ClassVar[bytes] = b"sample_infohashes"

    @property
    def arguments(self) -> dict[bytes, Encodable]:
        """Beside our id."""
        return {b"target": self.target}


QuestionKind = Ping | AskNodes | AskPeers | Announce | AskSamples


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question on its way: the handle that its `Answered` or `Unanswered` carries. Equal only to itself."""

    endpoint: Endpoint
    kind: QuestionKind
