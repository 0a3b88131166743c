"""The kinds of lookup: what each asks of a node, what it takes from an answer, what it stores at the end.

Thin on purpose: the engine in lookup.py walks towards a target for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FindNode", "GetPeers", "LookupKind"]


@dataclass(frozen=True, slots=True)
class FindNode:
    """Finds the nodes closest to `target` (20 bytes; BEP 5)."""

    target: bytes


@dataclass(frozen=True, slots=True)
class GetPeers:
    """Finds peers of `info_hash` (20 bytes; BEP 5), and announces ourselves to the closest nodes where asked to.

    Announces where `announce_port` is given, or where `implied_port` says that peers are to reach us on
    the UDP port that the nodes see.
    """

    info_hash: bytes
    announce_port: int | None = None
    implied_port: bool = False
    seed: bool = False
    """Announced as one who has everything (BEP 33)."""

    @property
    def target(self) -> bytes:
        """What is walked towards."""
        return self.info_hash


LookupKind = FindNode | GetPeers
