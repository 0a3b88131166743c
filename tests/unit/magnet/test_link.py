"""Magnet links: what people paste, what strangers send, and the canonical form (BEP 9, BEP 53)."""

from __future__ import annotations

import base64

import pytest

from magnet.link import MAX_PEERS, MAX_URLS, LinkError, MagnetLink, PointerLink, examine, read_link
from wire.errors import ProtocolError
from wire.ids import InfoHash

HEX = "c9e15763f722f23e98a29decdfae341b98d53056"
V1 = bytes.fromhex(HEX)
V2_HEX = "d8dd32ac93357c368556af3ac1d95c9d76bd0dff6fa9833ecdac3d53134efabb"
BTIH = f"magnet:?xt=urn:btih:{HEX}"


@pytest.mark.parametrize(
    "text",
    [
        BTIH,
        BTIH.upper().replace("MAGNET:?XT=URN:BTIH", "magnet:?xt=urn:btih"),
        "MAGNET:?XT=URN:BTIH:" + HEX,
        f"magnet:?xt=urn:btih:{base64.b32encode(V1).decode()}",
        f"magnet:?xt=urn:btih:{base64.b32encode(V1).decode().lower()}",
        f"magnet:?xt=urn%3Abtih%3A{HEX}",
        f"magnet:?xt.1=urn:btih:{HEX}",
        f"magnet:?dn=x&xt=urn:btih:{HEX}&",
        f"  <{BTIH}>\n",
        f"'{BTIH}'",
        HEX,
        HEX.upper(),
        base64.b32encode(V1).decode(),
    ],
)
def test_every_way_to_write_a_v1_hash(text: str) -> None:
    assert MagnetLink.parse(text).info_hash == InfoHash(v1=V1)


def test_v2_and_hybrid() -> None:
    v2 = bytes.fromhex(V2_HEX)
    assert MagnetLink.parse(f"magnet:?xt=urn:btmh:1220{V2_HEX}").info_hash == InfoHash(v2=v2)
    hybrid = MagnetLink.parse(f"{BTIH}&xt=urn:btmh:1220{V2_HEX}")
    assert hybrid.info_hash == InfoHash(V1, v2)
    assert str(hybrid) == f"{BTIH}&xt=urn:btmh:1220{V2_HEX}"
    link, remarks = examine(f"magnet:?xt=urn:btmh:{V2_HEX}")
    assert link.info_hash == InfoHash(v2=v2)
    assert "1220" in remarks[0].text


def test_everything_a_link_can_carry() -> None:
    link = MagnetLink.parse(
        f"{BTIH}&dn=A+name%20here&xl=1024&tr=udp%3A%2F%2Ft.example%3A6969%2Fannounce&tr.2=http://t2.example/a%3Fb%3D1"
        "&ws=https%3A%2F%2Fw.example%2Fd%2F&xs=https://x.example/a.torrent&as=http://y.example/b.torrent"
        "&x.pe=192.0.2.7:6881&x.pe=[2001:db8::1]:51413&x.pe=peer.example:80&so=0,2,4-6,5-9&kt=word"
    )
    assert link == MagnetLink(
        info_hash=InfoHash(v1=V1),
        name="A name here",
        trackers=("udp://t.example:6969/announce", "http://t2.example/a?b=1"),
        web_seeds=("https://w.example/d/",),
        peers=(("192.0.2.7", 6881), ("2001:db8::1", 51413), ("peer.example", 80)),
        select=((0, 0), (2, 2), (4, 9)),
        size=1024,
        sources=("https://x.example/a.torrent", "http://y.example/b.torrent"),
    )
    assert MagnetLink.parse(str(link)) == link


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("magnet:", "magnet:?"),
        ("magnet:?", "names no torrent"),
        ("magnet:?dn=x", "xt=urn:btih"),
        ("magnet:?xt=urn:btih:abc", "its length is 3"),
        (f"magnet:?xt=urn:btih:{HEX[:-1]}g", "is no info-hash"),
        (f"magnet:?xt=urn:btih:{HEX}0", "its length is 41"),
        ("magnet:?xt=urn:btih:" + "a" * 5000, "its length is 5000"),
        (f"magnet:?xt=urn:btmh:{HEX}", "1220"),
        ("magnet:?xt=urn:ed2k:354B15E68FB8F36D7CD88FF94116CDC1", "ed2k"),
        (f"{BTIH}&xt=urn:btih:{'0' * 40}", "two torrents"),
        ("hello", "no magnet link"),
        ("https://example.org/x", "no magnet link"),
        (BTIH + "&dn=" + "x" * 70_000, "characters long"),
    ],
)
def test_what_is_no_link_gets_one_line(text: str, says: str) -> None:
    with pytest.raises(LinkError) as caught:
        MagnetLink.parse(text)
    line = str(caught.value)
    assert says in line
    assert "\n" not in line
    assert len(line) < 300
    assert isinstance(caught.value, ProtocolError)


def test_lists_are_bounded() -> None:
    link = MagnetLink.parse(
        BTIH
        + "".join(f"&tr=udp://t{n}.example/" for n in range(1000))
        + "".join(f"&x.pe=192.0.2.1:{n}" for n in range(1, 1000))
        + "&so=0-4294967294,0-2147483647,"
        + ",".join(str(n) for n in range(0, 9000, 2))
    )
    assert len(link.trackers) == MAX_URLS
    assert len(link.peers) == MAX_PEERS
    assert link.select == ((0, 2147483647),)


@pytest.mark.parametrize(
    "part",
    [
        "tr=notaurl",
        "tr=file:///etc/passwd",
        "ws=gopher://x/",
        "tr=http://a b/",
        "tr=http://h:99999999/",
        "tr=http://[x/",
        "x.pe=nohost",
        "x.pe=1.2.3.4:0",
        "x.pe=1.2.3.4:65536",
        "x.pe=a/b:80",
        "xl=-1",
        "xl=1e9",
        "xl=" + "9" * 30,
        "so=x",
        "so=5-3",
        "so=-1",
        "so=1-",
        "tr=",
        "unknown=1",
        "xt=urn:ed2k:1",
    ],
)
def test_a_bad_part_is_left_out_and_told(part: str) -> None:
    link, remarks = examine(f"{BTIH}&{part}")
    assert link == MagnetLink(info_hash=InfoHash(v1=V1))
    assert len(remarks) == 1
    assert "\n" not in remarks[0].text


def test_repairs_are_told() -> None:
    link, remarks = examine(f"{BTIH}&amp;dn=x&tr=http%253A%252F%252Ft.example%252Fa&tr=http://t.example/a")
    assert link.name == "x"
    assert link.trackers == ("http://t.example/a",)
    assert len(remarks) == 3
    assert examine(BTIH)[1] == ()


def test_another_way_to_write_it_is_no_fault() -> None:
    _, remarks = examine(
        f"magnet:?xt=urn:btih:{HEX.upper()}&xt=urn:ed2k:1&zz=1&tr=http://t.example/&tr=http://t.example/"
    )
    assert [remark.fault for remark in remarks] == [False] * 4
    assert all(remark.fault for remark in examine(f"{BTIH}&tr=x&so=y&x.pe=z")[1])


def test_arguments_that_are_no_utf8() -> None:
    link = MagnetLink.parse(f"{BTIH}&tr=http://t.example/\udcff&dn=\udcfe")
    assert MagnetLink.parse(str(link)) == link


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a%0Ab%09c", "a b c"),
        ("%1B%5B31mred", "[31mred"),
        ("a%E2%80%AEgpj.exe", "agpj.exe"),
        ("%FF%FE", "\ufffd\ufffd"),
        ("%00", None),
        ("x" * 5000, "x" * 255),
        ("..%2F..%2Fetc", "../../etc"),
    ],
)
def test_names_are_for_one_line_of_display(raw: str, name: str | None) -> None:
    assert MagnetLink.parse(f"{BTIH}&dn={raw}").name == name


def test_wanted_files() -> None:
    link = MagnetLink.parse(f"{BTIH}&so=1,3-2147483647")
    assert link.wanted(5) == [False, True, False, True, True]
    assert link.wanted(2) == [False, True]
    assert link.wanted(1) == [True], "a selection of nothing that exists is of no use"
    assert MagnetLink.parse(BTIH).wanted(2) == [True, True]


KEY = "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e"


def test_a_pointer_of_bep_46() -> None:
    """The two links of the BEP itself."""
    plain, salted = f"magnet:?xs=urn:btpk:{KEY}", f"magnet:?xs=urn:btpk:{KEY}&s=6e"
    assert read_link(plain) == PointerLink(bytes.fromhex(KEY))
    assert read_link(salted) == PointerLink(bytes.fromhex(KEY), b"n")
    assert (str(read_link(plain)), str(read_link(salted))) == (plain, salted)
    assert read_link(f"magnet:?S=6E&xs=urn%3Abtpk%3A{KEY.upper()}") == read_link(salted)
    with pytest.raises(LinkError, match="BEP 46"):
        MagnetLink.parse(salted)
    assert read_link(HEX) == MagnetLink.parse(HEX)


def test_the_rest_of_a_pointer_applies_to_each_torrent() -> None:
    link = read_link(f"magnet:?xs=urn:btpk:{KEY}&dn=feed&tr=udp%3A%2F%2Ft.example%3A1%2Fa&x.pe=192.0.2.7:6881&s=6e")
    assert isinstance(link, PointerLink)
    assert read_link(str(link)) == link
    assert link.at(V1) == MagnetLink.parse(f"{BTIH}&dn=feed&tr=udp%3A%2F%2Ft.example%3A1%2Fa&x.pe=192.0.2.7:6881")
    assert PointerLink(bytes(32)).at(V1) == MagnetLink.parse(BTIH)


def test_a_link_with_a_torrent_of_its_own_is_no_pointer() -> None:
    assert read_link(f"{BTIH}&xs=urn:btpk:{KEY}") == MagnetLink.parse(BTIH)


@pytest.mark.parametrize(
    "rest",
    [
        KEY[:-2],
        KEY + "00",
        "x" * 64,
        f"{KEY}&s=6",
        f"{KEY}&s=zz",
        f"{KEY}&s={'00' * 65}",
        f"{KEY}&xs=urn:btpk:{'0' * 64}",
    ],
)
def test_broken_pointers_are_told(rest: str) -> None:
    with pytest.raises(LinkError):
        read_link(f"magnet:?xs=urn:btpk:{rest}")
