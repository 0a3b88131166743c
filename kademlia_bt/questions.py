"""Single questions to one node, asked outside any lookup: what `kademlia-bt ping` and its like send."""

from __future__ import annotations

from dataclasses import dataclass

from wire.compact import Endpoint

__all__ = ["Announce", "AskNodes", "AskPeers", "Ping", "Question", "QuestionKind"]


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there (BEP 5)?"""


@dataclass(frozen=True, slots=True)
class AskNodes:
    """find_node: the nodes that you know closest to `target` (20 bytes)."""

    target: bytes


@dataclass(frozen=True, slots=True)
class AskPeers:
    """get_peers: peers of `info_hash` (20 bytes), nodes close to it, and a token."""

    info_hash: bytes


@dataclass(frozen=True, slots=True)
class Announce:
    """announce_peer with the token that the same node gave before."""

    info_hash: bytes
    token: bytes
    port: int | None
    """None: the UDP port that the node sees (implied_port)."""


QuestionKind = Ping | AskNodes | AskPeers | Announce


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question on its way: the handle that its `Answered` or `Unanswered` carries. Equal only to itself."""

    endpoint: Endpoint
    kind: QuestionKind
