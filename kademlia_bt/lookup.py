"""The lookup engine: walks towards a target, a few questions at a time (Kademlia, BEP 5)."""

from __future__ import annotations

from kademlia_bt.lookups import LookupKind

__all__ = ["Lookup"]


class Lookup:
    """A lookup under way: the handle that its events carry. Equal only to itself."""

    def __init__(self, kind: LookupKind) -> None:
        self.kind = kind
        self.asked = 0
        """Nodes asked, each once however often the question was repeated."""
        self.answered = 0
        self.found = 0
        """Distinct peers named so far."""
        self.done = False
