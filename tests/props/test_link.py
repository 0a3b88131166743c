"""Links: parse and str are inverses; any text gives a link or a LinkError of one line, soon."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from magnet.link import LinkError, MagnetLink, examine
from wire.ids import InfoHash

_hashes = st.one_of(
    st.builds(InfoHash, v1=st.binary(min_size=20, max_size=20)),
    st.builds(InfoHash, v2=st.binary(min_size=32, max_size=32)),
    st.builds(InfoHash, st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32)),
)
_hosts = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), st.just("peer.example"))
_peers = st.lists(st.tuples(_hosts, st.integers(1, 65535)), unique=True, max_size=5).map(tuple)
_urls = st.lists(
    st.builds(
        lambda s, p: f"{s}://host.example/{p}", st.sampled_from(["http", "https"]), st.text("az09%&=?+#/é", max_size=20)
    ),
    unique=True,
    max_size=4,
).map(tuple)
_names = st.none() | st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=50)
_links = st.builds(
    MagnetLink,
    info_hash=_hashes,
    name=_names,
    trackers=_urls,
    web_seeds=_urls,
    peers=_peers,
    size=st.none() | st.integers(0, 1 << 62),
    sources=_urls,
)
_tokens = st.sampled_from(
    [
        "magnet:?",
        "xt=",
        "urn:btih:",
        "urn:btmh:",
        "1220",
        "a" * 40,
        "b" * 64,
        "&",
        "=",
        ".",
        "1",
        "tr",
        "x.pe",
        "so=",
        "-",
        "%",
        "%25",
        "dn=",
        "xl",
        "http://",
        "[",
        "]",
        ":",
        ",",
        "amp;",
        "\n",
        "\x00",
        "\ud800",
        "٣",
        "²",
    ]
)


@given(_links)
def test_str_then_parse_is_the_same_link(link: MagnetLink) -> None:
    again, remarks = examine(str(link))
    assert again == link
    assert remarks == ()
    assert str(again) == str(link)


@given(st.lists(_tokens, max_size=30).map("".join) | st.text(max_size=200))
def test_any_text_is_a_link_or_a_link_error(text: str) -> None:
    try:
        link, remarks = examine(text)
    except LinkError as error:
        lines = str(error).splitlines()
    else:
        lines = [line for remark in remarks for line in remark.text.splitlines()]
        assert len(lines) == len(remarks)
        assert MagnetLink.parse(str(link)) == link
        return
    assert len(lines) == 1


@given(_links, st.data())
def test_parameters_may_come_in_any_order(link: MagnetLink, data: st.DataObject) -> None:
    parts = str(link).removeprefix("magnet:?").split("&")
    keys = data.draw(st.permutations(sorted({part.partition("=")[0] for part in parts})))
    shuffled = [part for key in keys for part in parts if part.partition("=")[0] == key]
    assert MagnetLink.parse("magnet:?" + "&".join(shuffled)) == link
