"""A routing table as a value to draw: each node's place in the key space, its bucket and its state. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kademlia_bt.dht.node_id import ID_BITS, number, shared_bits
from kademlia_bt.dht.table import Table
from wire.compact import Endpoint, Family

__all__ = ["NodeView", "TableView", "table_view"]


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node of the table."""

    id: bytes
    endpoint: Endpoint
    place: float
    """Where its id lies in the key space: 0 to 1."""
    bucket: int
    """How many leading bits it has in common with our id."""
    state: Literal["good", "questionable", "silent"]
    """Answered lately; not heard of for long; left our last question unanswered (BEP 5)."""
    secure: bool
    """Whether the id fits the address (BEP 42)."""
    rtt_s: float


@dataclass(frozen=True, slots=True)
class TableView:
    """A face's table."""

    family: Family
    node_id: bytes
    place: float
    """Where our own id lies: 0 to 1."""
    nodes: tuple[NodeView, ...]
    replacements: int


def table_view(table: Table, now: float) -> TableView:
    """The table as it is now."""
    own = number(table.own_id)
    nodes = [
        NodeView(
            id=node.contact.id,
            endpoint=node.contact.endpoint,
            place=_place(node.number),
            bucket=shared_bits(node.number, own),
            state="silent" if node.fails else "good" if node.is_good(now) else "questionable",
            secure=node.secure,
            rtt_s=node.rtt_s,
        )
        for node in sorted(table.nodes, key=lambda node: node.number)
    ]
    return TableView(table.family, table.own_id, _place(own), tuple(nodes), table.replacements)


def _place(node_number: int) -> float:
    return (node_number >> (ID_BITS - 53)) / 2.0**53
