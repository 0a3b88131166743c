"""What a bootstrap router tells of itself: frozen counts, and their sum over the processes of one port. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from wire.compact import Endpoint

__all__ = ["RouterFaceStats", "RouterStats"]


@dataclass(frozen=True, slots=True)
class RouterFaceStats:
    """One family's nodes. Gauges: they hold for the moment of the snapshot."""

    family: str
    """`ipv4` or `ipv6`."""
    addresses: tuple[str, ...]
    """Where its sockets are bound."""
    node_id: bytes
    external: Endpoint | None
    """Where the nodes see us, once enough of them agree (BEP 42)."""
    nodes: int
    """Nodes in the ring: each has answered a ping of ours."""
    waiting: int
    """Addresses that will be pinged before they may come in."""


@dataclass(frozen=True, slots=True)
class RouterStats:
    """A snapshot of a router. Counts are since the start, unless said otherwise."""

    faces: tuple[RouterFaceStats, ...] = ()
    uptime_s: float = 0.0
    workers: int = 1
    """Processes that share the port."""
    queries: Mapping[str, int] = field(default_factory=dict)
    """Queries looked at, by method; methods that are no standard ones count as `other`."""
    answers: int = 0
    repeats: int = 0
    """Answers made short, since their asker had asked in the last ten minutes."""
    read_only: int = 0
    """Queries of read-only nodes (BEP 43), which are never pinged."""
    handed_out: int = 0
    """Nodes named in answers, each time they were."""
    received_bytes: int = 0
    sent_bytes: int = 0
    """Of answers and pings; UDP headers not counted."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Datagrams without an answer, by reason: `martian` (an address that nobody may have), `malformed`, `unknown`
    (neither a query that a router answers nor an answer to a ping), `per_ip` and `upload` (over a limit)."""
    pings: int = 0
    pongs: int = 0
    """Answers that match a ping of ours."""
    admitted: int = 0
    """Nodes that came into the ring."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Askers or nodes that did not come in, by reason: `id` (does not fit the address, BEP 42), `network` (its /24
    or /48 has its share), `queue` (too many wait for their ping)."""
    lost: int = 0
    """Nodes that left the ring, as they missed two pings in a row."""
    sampled: int = 0
    """Of the nodes just handed out, how many were pinged to measure `alive_share`: the latest, a bounded number."""
    sampled_alive: int = 0
    """How many of these answered."""

    @property
    def nodes(self) -> int:
        """Nodes in all rings."""
        return sum(face.nodes for face in self.faces)

    @property
    def waiting(self) -> int:
        """Addresses that wait for their ping."""
        return sum(face.waiting for face in self.faces)

    @property
    def alive_share(self) -> float | None:
        """The share, 0..1, of nodes just handed out that answered a ping; None before the first was measured."""
        return self.sampled_alive / self.sampled if self.sampled else None

    @classmethod
    def total(cls, parts: Sequence[RouterStats]) -> RouterStats:
        """The sum over the processes that share a port: counts add up, addresses and ids are those of the first."""
        if not parts:
            return cls()
        faces: dict[str, RouterFaceStats] = {}
        for face in (face for part in parts for face in part.faces):
            before = faces.get(face.family)
            faces[face.family] = (
                face
                if before is None
                else RouterFaceStats(
                    face.family,
                    before.addresses,
                    before.node_id,
                    before.external or face.external,
                    before.nodes + face.nodes,
                    before.waiting + face.waiting,
                )
            )
        summed: dict[str, Any] = {"faces": tuple(faces.values()), "uptime_s": max(part.uptime_s for part in parts)}
        for each in fields(cls):
            values = [getattr(part, each.name) for part in parts]
            if each.name in _MAPPINGS:
                keys = dict.fromkeys(key for value in values for key in value)
                summed[each.name] = {key: sum(value.get(key, 0) for value in values) for key in keys}
            elif each.name not in summed:
                summed[each.name] = sum(values)
        return cls(**summed)

    def to_json(self) -> dict[str, Any]:
        """As values that JSON can carry between processes."""
        plain = asdict(self)
        for face in plain["faces"]:
            face["node_id"] = face["node_id"].hex()
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> RouterStats:
        """Reads what `to_json` gave, in a process of ours."""
        faces = tuple(
            RouterFaceStats(
                **{
                    **face,
                    "addresses": tuple(face["addresses"]),
                    "node_id": bytes.fromhex(face["node_id"]),
                    "external": Endpoint(*face["external"]) if face["external"] else None,
                }
            )
            for face in plain["faces"]
        )
        return cls(**{**plain, "faces": faces})


_MAPPINGS = ("queries", "dropped", "refused")
