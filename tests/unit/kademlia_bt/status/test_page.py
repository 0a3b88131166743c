"""The status page and the metrics from views made by hand: hostile texts stay texts, numbers come out whole."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from kademlia_bt.bootstrap import Attempt
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.events import LookupReport
from kademlia_bt.dht.picture import table_view
from kademlia_bt.dht.table import Table
from kademlia_bt.dht.traffic import MessageStats
from kademlia_bt.router.stats import RouterFaceStats, RouterStats
from kademlia_bt.status.metrics import exposition
from kademlia_bt.status.page import render_live, render_page
from kademlia_bt.status.views import Metric, StatusView, router_view, size
from wire.compact import IPV4, Endpoint

OWN = bytes([0b1010_0000]) + bytes(19)
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</title></style></textarea><iframe src=//evil.example>",
    "\x00\x1b[31m\u202egnp.exe\n<b>",
    "&lt;script&gt;",
    "{{7*7}}${7*7}",
    "é" * 5000,
    "\ud800",
]


class Elements(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def lookup(method: str = "get_peers", state: str = "done") -> LookupReport:
    return LookupReport(method, bytes(range(20)), False, state, 9.0, 0.25, 14, 12, 3, 8, 4)  # type: ignore[arg-type]


def view(text: str) -> StatusView:
    """A view with the text in every place that takes one."""
    return StatusView(
        title=text,
        health=text,  # type: ignore[arg-type]
        state=text,
        facts=((text, text),),
        tables=(table_view(a_table(), 1.0),),
        messages=(MessageStats(text, 1, 2, 3, 4),),
        refused=((text, 5),),
        lookups=(lookup(text, text),),
        attempts=(Attempt(text, Endpoint(text, 1), False, text), Attempt(text, None, False, text)),
        metrics=(Metric("hostile", "About a text.", "counter", (({"text": text}, 1.0),)),),
    )


def a_table() -> Table:
    table = Table(IPV4, OWN)
    for first, host in ((0x00, "20.1.1.1"), (0x80, "20.2.1.1"), (0xB0, "20.3.1.1"), (0xA1, "20.4.1.1")):
        table.answered(Contact(bytes([first]) + bytes(18) + b"x", Endpoint(host, 6881)), 0.05, 0.0)
    table.failed(Endpoint("20.2.1.1", 6881))
    return table


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str) -> None:
    harmless, hostile = Elements(render_page(view("harmless"))), Elements(render_page(view(text)))
    assert hostile.tags == harmless.tags
    names = [(tag, name) for tag, name, _ in hostile.attributes]
    assert names == [(tag, name) for tag, name, _ in harmless.attributes]
    assert not [name for _, name in names if name.startswith("on") or name == "style"]
    links = {value for _, name, value in hostile.attributes if name in ("href", "src")}
    assert links == {"data:,", "/status.css", "/status.js", "/metrics", "/healthz"}
    page = render_page(view(text))
    page.encode()  # lone surrogates would break the answer
    assert len(page) < 20_000
    assert not [c for c in page if not c.isprintable() and c != "\n"]


def test_hostile_text_is_shown_as_it_is() -> None:
    shown = "".join(Elements(render_live(view(HOSTILE[0]))).texts)
    assert shown.count(HOSTILE[0]) >= 10


def test_the_key_space_shows_each_node_in_its_bucket() -> None:
    page = render_live(view("x"))
    places = [(tag, name, value) for tag, name, value in Elements(page).attributes if tag == "circle" and name == "cx"]
    assert len(places) == 4
    texts = Elements(page).texts
    # Buckets 0 (ids 0...), 1 (11...), 2 (100...), 3 (1011...) and so on: the node that failed counts, but not as good.
    assert [text for text in texts if text.endswith((" of 0", " of 1", " of 2"))] == [
        "1 of 1", "0 of 0", "0 of 1", "1 of 1", "0 of 0", "0 of 0", "0 of 0", "1 of 1",
    ]  # fmt: skip
    ours = next(float(value or 0) for tag, name, value in Elements(page).attributes if (tag, name) == ("line", "x1"))
    left, *_, right = sorted(float(value or 0) for _, _, value in places)
    assert left < ours < right


def test_numbers_and_states_of_a_lookup_are_shown() -> None:
    texts = Elements(render_live(view("x"))).texts
    for wanted in (bytes(range(20)).hex(), "0.25", "14", "12", "9 s"):
        assert wanted in texts


def test_metrics_are_escaped_and_counted() -> None:
    body, content_type = exposition(view('a"b\\c\nd').metrics, "text/plain")
    assert content_type.startswith("text/plain; version=")
    lines = body.decode().splitlines()
    assert "# TYPE kademlia_bt_hostile_total counter" in lines
    assert 'kademlia_bt_hostile_total{text="a\\"b\\\\c\\nd"} 1.0' in lines
    body, content_type = exposition(view("x").metrics, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_a_router_has_its_view() -> None:
    face = RouterFaceStats("ipv4", ("127.0.0.1:6881",), OWN, Endpoint("9.9.9.9", 6881), 400, 12)
    stats = RouterStats(
        (face,),
        3700.0,
        2,
        {"find_node": 7},
        answers=6,
        dropped={"martian": 3},
        refused={"id": 1},
        sampled=10,
        sampled_alive=9,
    )
    shown = router_view(stats, version="kademlia-bt 1")
    texts = Elements(render_page(shown)).texts
    for wanted in ("1 h 1 min", "400; 12 wait for their ping", "90.0% of the last 10 that were pinged", "find_node"):
        assert wanted in texts
    assert "Lookups" not in texts
    lines = exposition(shown.metrics, "")[0].decode().splitlines()
    assert 'kademlia_bt_router_nodes{family="ipv4"} 400.0' in lines
    assert 'kademlia_bt_refused_total{reason="martian"} 3.0' in lines
    assert 'kademlia_bt_health{state="good"} 1.0' in lines
    empty = router_view(RouterStats(), version="x")
    assert empty.health == "broken"
    render_page(empty)
    exposition(empty.metrics, "")


def test_sizes_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 TiB"]
