"""What the status page and the metrics show: one frozen value, made from a node or from a router. No I/O, no markup.

Numbers stay numbers here: `page` writes them for people, `metrics` for Prometheus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kademlia_bt.dht.events import Health, LookupReport
from kademlia_bt.dht.picture import TableView
from kademlia_bt.dht.traffic import MessageStats

if TYPE_CHECKING:
    from kademlia_bt.bootstrap import Attempt
    from kademlia_bt.node import Node
    from kademlia_bt.router.stats import RouterStats

__all__ = ["Metric", "Sample", "StatusView", "node_view", "router_view"]

Sample = tuple[Mapping[str, str], float]
"""Labels and a value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, named as Prometheus wants it but for its prefix; a counter's `_total` is added by the writer."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class StatusView:
    """All that is shown."""

    title: str
    health: Health
    state: str
    """A sentence that says how it is, and what it waits for."""
    facts: tuple[tuple[str, str], ...]
    tables: tuple[TableView, ...] = ()
    messages: tuple[MessageStats, ...] = ()
    refused: tuple[tuple[str, int], ...] = ()
    """Counts by reason, in words."""
    lookups: tuple[LookupReport, ...] | None = None
    """None: it makes none."""
    attempts: tuple[Attempt, ...] = ()
    metrics: tuple[Metric, ...] = ()


_REASONS = {
    "malformed": "no KRPC message",
    "address": "from an address that is not talked to",
    "foreign": "of another network",
    "unasked": "answers that nobody asked for, or too late",
    "limit": "their sender asks too much",
    "upload": "over the cap of answers",
    "read_only": "we are read-only",
    "error 201": "answered with an error: generic",
    "error 202": "answered with an error: the store is full",
    "error 203": "answered with an error: a broken query or a bad token",
    "error 204": "answered with an error: an unknown method",
    "error 205": "answered with an error: the value is too big",
    "error 206": "answered with an error: a bad signature",
    "error 207": "answered with an error: the salt is too big",
    "error 301": "answered with an error: another value was expected (cas)",
    "error 302": "answered with an error: an older sequence number",
}
_ROUTER_REASONS = {
    "martian": "from an address that nobody may have",
    "malformed": "no KRPC message",
    "unknown": "neither a query for a router nor an answer to it",
    "per_ip": "their sender asks too much",
    "upload": "over the cap of answers",
    "id": "not taken in: the id does not fit the address",
    "network": "not taken in: its network has its share",
    "queue": "not taken in: too many wait for their ping",
}
_HEALTH_SAID: Mapping[Health, str] = {
    "broken": "No live node is known",
    "poor": "Fewer than 8 live nodes are known",
    "firewalled": "Others answer, but nobody can reach this node: its UDP port is likely closed from outside",
    "good": "Well connected",
}


def node_view(node: Node, *, version: str) -> StatusView:
    """What a node shows."""
    stats = node.stats()
    faces = stats.faces
    joined = "joined" if node.joined else "joining"
    state = f"{_HEALTH_SAID[stats.health]}; {joined}"
    if not node.joined:
        tried, answered = stats.routers_tried, stats.routers_answered
        state += f": {answered} of {tried} first nodes answered" if tried else ": no first node is known yet"
    facts = [
        ("Program", version),
        ("Up for", _span(node.uptime_s)),
        ("Listening on", ", ".join(map(str, node.endpoints))),
        ("Seen from outside as", ", ".join(str(face.external) for face in faces if face.external) or "not known yet"),
        ("Nodes", f"{stats.good} good of {stats.nodes}; {sum(face.replacements for face in faces)} wait for a place"),
        ("Peers kept", f"{stats.peers} of {stats.torrents} torrents"),
        ("Received", f"{size(stats.received_bytes)}, {stats.queries} queries"),
        ("Sent", f"{size(stats.sent_bytes)}, {stats.answers} answers"),
    ]
    return StatusView(
        title="kademlia-bt node",
        health=stats.health,
        state=state,
        facts=tuple(facts),
        tables=tuple(node.tables()),
        messages=stats.messages,
        refused=tuple((_REASONS.get(reason, reason), count) for reason, count in stats.refused),
        lookups=tuple(node.lookups()),
        attempts=tuple(node.attempts()),
        metrics=(
            *_common(stats.health, node.uptime_s, stats.received_bytes, stats.sent_bytes),
            _gauge("joined", "1 once live nodes are known and our neighbourhood was looked up.", node.joined),
            Metric(
                "table_nodes",
                "Nodes in the routing tables, by family and state.",
                "gauge",
                tuple(
                    ({"family": face.family.name, "socket": str(at), "state": state}, count)
                    for at, face in enumerate(faces)
                    for state, count in (("good", face.good), ("other", face.nodes - face.good))
                ),
            ),
            Metric(
                "queries_received",
                "Queries that came in and were looked at, by method.",
                "counter",
                tuple(({"method": row.method}, row.heard) for row in stats.messages),
            ),
            Metric(
                "queries_sent",
                "Queries sent, repeats included, by method.",
                "counter",
                tuple(({"method": row.method}, row.asked) for row in stats.messages),
            ),
            Metric(
                "replies_received",
                "Answers and errors that came to our queries, by method.",
                "counter",
                tuple(
                    ({"method": row.method, "kind": kind}, count)
                    for row in stats.messages
                    for kind, count in (("answer", row.answered), ("error", row.refused))
                ),
            ),
            _counter("replies_sent", "Answers and errors sent.", stats.answers),
            Metric(
                "refused",
                "Datagrams dropped and errors sent, by reason.",
                "counter",
                tuple(({"reason": reason}, count) for reason, count in stats.refused),
            ),
            *(
                Metric(
                    name, text, "counter", tuple(({"method": row.method}, getattr(row, what)) for row in stats.lookups)
                )
                for name, text, what in _LOOKUP_METRICS
            ),
            _gauge("stored_torrents", "Info-hashes with peers kept for others.", stats.torrents),
            _gauge("stored_peers", "Peers kept for others.", stats.peers),
            _gauge("pending_queries", "Queries that wait for an answer.", sum(face.pending for face in faces)),
        ),
    )


def router_view(stats: RouterStats, *, version: str) -> StatusView:
    """What a bootstrap router shows."""
    health: Health = "broken" if not stats.nodes else "poor" if stats.nodes < _FEW else "good"
    share = stats.alive_share
    alive = "not measured yet" if share is None else f"{share:.1%} of the last {stats.sampled} that were pinged"
    facts = [
        ("Program", version),
        ("Up for", _span(stats.uptime_s)),
        ("Processes", str(stats.workers)),
        *((f"Listening ({face.family})", ", ".join(face.addresses)) for face in stats.faces),
        *((f"Seen from outside ({face.family})", str(face.external)) for face in stats.faces if face.external),
        *((f"Nodes ({face.family})", f"{face.nodes}; {face.waiting} wait for their ping") for face in stats.faces),
        ("Handed out", f"{stats.handed_out} nodes in {stats.answers} answers, {stats.repeats} of these made short"),
        ("Alive when handed out", alive),
        ("Pings", f"{stats.pongs} of {stats.pings} answered; {stats.admitted} nodes came in, {stats.lost} left"),
        ("Received", size(stats.received_bytes)),
        ("Sent", size(stats.sent_bytes)),
    ]
    return StatusView(
        title="kademlia-bt bootstrap router",
        health=health,
        state=f"{stats.nodes} nodes to hand out",
        facts=tuple(facts),
        messages=tuple(MessageStats(method, count, 0, 0, 0) for method, count in stats.queries.items()),
        refused=tuple(
            (_ROUTER_REASONS.get(reason, reason), count)
            for counts in (stats.dropped, stats.refused)
            for reason, count in counts.items()
        ),
        metrics=(
            *_common(health, stats.uptime_s, stats.received_bytes, stats.sent_bytes),
            _gauge("workers", "Processes that share the port.", stats.workers),
            Metric("router_nodes", "Nodes to hand out.", "gauge", _by_family(stats, "nodes")),
            Metric("router_waiting", "Addresses that wait for their ping.", "gauge", _by_family(stats, "waiting")),
            _labelled("queries_received", "Queries that came in, by method.", "method", stats.queries),
            _counter("replies_sent", "Answers sent.", stats.answers),
            _counter("router_repeats", "Answers made short for who asks often.", stats.repeats),
            _counter("router_handed_out", "Nodes named in answers.", stats.handed_out),
            _counter("router_pings", "Pings sent.", stats.pings),
            _counter("router_pongs", "Pings answered.", stats.pongs),
            _counter("router_admitted", "Nodes that came in.", stats.admitted),
            _counter("router_lost", "Nodes that left.", stats.lost),
            _gauge("router_alive_share", "Share of nodes handed out that answered.", -1 if share is None else share),
            _labelled("refused", "Datagrams dropped, by reason.", "reason", stats.dropped),
            _labelled("router_not_admitted", "Nodes that did not come in, by reason.", "reason", stats.refused),
        ),
    )


_LOOKUP_METRICS = (
    ("lookups", "Lookups that are over, by method.", "lookups"),
    ("lookup_hops", "Their hops, added up.", "hops"),
    ("lookup_nodes_asked", "Nodes that they asked.", "asked"),
    ("lookup_nodes_answered", "Nodes that answered them.", "answered"),
    ("lookup_seconds", "How long they took, added up.", "took_s"),
)
_FEW = 16
"""A router that knows fewer nodes than one answer names is no help yet."""


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _span(seconds: float) -> str:
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{seconds:.0f} s"


def _common(health: Health, uptime_s: float, received: int, sent: int) -> Sequence[Metric]:
    return (
        Metric(
            "health",
            "1 for the state that holds.",
            "gauge",
            tuple(({"state": state}, float(state == health)) for state in _HEALTH_SAID),
        ),
        _gauge("uptime_seconds", "Since the start.", uptime_s),
        _counter("received_bytes", "Of UDP payloads.", received),
        _counter("sent_bytes", "Of UDP payloads.", sent),
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return Metric(name, text, "gauge", (({}, float(value)),))


def _counter(name: str, text: str, value: float) -> Metric:
    return Metric(name, text, "counter", (({}, float(value)),))


def _labelled(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    return Metric(name, text, "counter", tuple(({label: key}, count) for key, count in counts.items()))


def _by_family(stats: RouterStats, what: Literal["nodes", "waiting"]) -> tuple[Sample, ...]:
    return tuple(({"family": face.family}, float(getattr(face, what))) for face in stats.faces)
