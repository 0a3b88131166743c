"""The status page as HTML, from a view. No I/O.

Every text is escaped by `_text` on its way in, whoever wrote it; markup comes from this file alone. The page's style
and script are files of their own (web/), so that the browser may be told to run nothing else.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from kademlia_bt.dht.events import LookupReport
from kademlia_bt.dht.picture import NodeView, TableView
from kademlia_bt.status.views import StatusView

__all__ = ["render_live", "render_page"]

_MAX_TEXT = 300
_MAX_ROWS = 24
"""Buckets drawn; deeper ones are drawn in the last row: with 2^24 nodes there are none."""
_WIDTH, _ROW, _LEFT, _RIGHT = 1000, 20, 30, 76
_MAX_LOOKUPS_SHOWN = 12


def render_page(view: StatusView) -> str:
    """The whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(view.title)}</title>"
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="/status.css">'
        '<script src="/status.js" defer></script></head><body>'
        f'<main id="live">{render_live(view)}</main>'
        '<footer><span id="fresh">live</span> · <a href="/metrics">/metrics</a> · <a href="/healthz">/healthz</a>'
        "</footer></body></html>\n"
    )


def render_live(view: StatusView) -> str:
    """What changes: the inner part of the page."""
    parts = [
        f"<h1>{_text(view.title)}</h1>"
        f'<p class="health {_text(view.health)}"><b>{_text(view.health)}</b> {_text(view.state)}</p>',
        _section("Facts", _facts(view.facts)),
        *(_section(f"Key space, {_text(table.family.name)}", _key_space(table)) for table in view.tables),
    ]
    if view.messages:
        parts.append(_section("Traffic by message", _messages(view)))
    parts.append(_section("Refused, and why", _refused(view.refused)))
    if view.lookups is not None:
        parts.append(_section("Lookups", _lookups(view.lookups)))
    if view.attempts:
        rows = [(attempt.place, attempt.endpoint or "", attempt.outcome) for attempt in view.attempts]
        parts.append(_section("Places to start from", _table(("place", "address", "outcome"), rows)))
    return "".join(parts)


def _text(value: object) -> str:
    """Anything as text inside markup or a quoted attribute: short, printable, escaped."""
    text = str(value)
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT] + "…"
    return html.escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text), quote=True)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    if isinstance(value, float):
        return f'<td class="n">{value:.2f}</td>'
    return f"<td>{_text(value)}</td>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in facts) + "</dl>"


def _messages(view: StatusView) -> str:
    rows = [(m.method, m.heard, m.asked, m.answered, m.refused) for m in view.messages]
    head = ("message", "queries to us", "queries by us", "answers to us", "errors to us")
    if not any(m.asked for m in view.messages):
        return _table(head[:2], [row[:2] for row in rows])
    return _table(head, rows)


def _refused(refused: Iterable[tuple[str, int]]) -> str:
    rows = [(reason, count) for reason, count in refused if count]
    return _table(("reason", "datagrams"), rows) if rows else "<p>Nothing yet.</p>"


def _lookups(lookups: Sequence[LookupReport]) -> str:
    if not lookups:
        return "<p>None yet.</p>"
    head = ("message", "target", "for", "state", "seconds", "hops", "asked", "answered", "peers", "stored", "ago")
    rows = [
        (
            lookup.method,
            lookup.target.hex(),
            "the table" if lookup.internal else "a user",
            lookup.state,
            float(lookup.took_s),
            lookup.hops,
            lookup.asked,
            lookup.answered,
            lookup.found,
            lookup.stored,
            f"{lookup.age_s:.0f} s",
        )
        for lookup in lookups[:_MAX_LOOKUPS_SHOWN]
    ]
    return _table(head, rows)


def _key_space(table: TableView) -> str:
    """A row a bucket: the ids that it covers as a bar, its nodes where their ids lie, ours as a line through all."""
    deepest = min(max((node.bucket for node in table.nodes), default=0), _MAX_ROWS - 1)
    height = (deepest + 1) * _ROW
    own = int(table.place * 2**_MAX_ROWS)
    rows = []
    for bucket in range(deepest + 1):
        nodes = [node for node in table.nodes if min(node.bucket, _MAX_ROWS - 1) == bucket]
        top = bucket * _ROW
        # Bucket i covers the half of the ids with our first i bits that we are not in.
        start, end = _covered(own, bucket)
        good = sum(node.state == "good" for node in nodes)
        rows.append(
            f'<rect class="range" x="{_x(start):.1f}" y="{top + 3}" width="{max(_x(end) - _x(start), 1):.1f}" '
            f'height="{_ROW - 6}"/><text class="depth" x="{_LEFT - 8}" y="{top + 14}">{bucket}</text>'
            f'<text class="count" x="{_WIDTH - _RIGHT + 8}" y="{top + 14}">{good} of {len(nodes)}</text>'
            + "".join(_dot(node, top) for node in nodes)
        )
    line = f'<line class="own" x1="{_x(table.place):.1f}" x2="{_x(table.place):.1f}" y1="0" y2="{height}"/>'
    good = sum(node.state == "good" for node in table.nodes)
    label = f"{good} good of {len(table.nodes)} nodes by id and bucket"
    return (
        f"<p>Our id <code>{_text(table.node_id.hex())}</code>. Left to right the ids from 00… to ff…; a row a bucket, "
        "each half as wide as the one above: the ids that have so many first bits in common with ours. "
        '<span class="good">●</span> good <span class="questionable">●</span> questionable '
        '<span class="silent">●</span> silent; a ring: the id does not fit the address (BEP 42). '
        f"{len(table.nodes)} nodes, {table.replacements} wait for a place.</p>"
        f'<div class="wide"><svg viewBox="0 0 {_WIDTH} {height + 2}" role="img" aria-label="{_text(label)}">'
        f"{''.join(rows)}{line}</svg></div>"
    )


def _covered(own: int, bucket: int) -> tuple[float, float]:
    shift = _MAX_ROWS - 1 - bucket
    first = ((own >> shift) ^ 1) << shift
    return first / 2**_MAX_ROWS, (first + (1 << shift)) / 2**_MAX_ROWS


def _x(place: float) -> float:
    return _LEFT + place * (_WIDTH - _LEFT - _RIGHT)


def _dot(node: NodeView, top: int) -> str:
    ring = "" if node.secure else " ring"
    about = f"{node.id.hex()} {node.endpoint} {node.rtt_s * 1000:.0f} ms, {node.state}"
    return (
        f'<circle class="{_text(node.state)}{ring}" cx="{_x(node.place):.1f}" cy="{top + _ROW // 2}" r="4.5">'
        f"<title>{_text(about)}</title></circle>"
    )
