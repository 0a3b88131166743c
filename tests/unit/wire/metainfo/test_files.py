from __future__ import annotations

import itertools

import pytest

from wire.errors import MetainfoError, MisuseError
from wire.metainfo.files import FileEntry, Layout, decode_name, refuse_collisions, safe_part, safe_path

REFUSED = {
    "leads out": ["..", "../x", "x/../y", "a/..", "..\\x", "x\\..", ".. ", "..  .", "...", ". .", "....", "a/. ./b"],
    "absolute": ["/etc/passwd", "/", "\\", "\\\\host\\share", "\\\\?\\C:\\x", "//host/x", "C:", "c:\\x", "Z:/x"],
    "NUL": ["\0", "a\0", "ev\0il.txt", "..\0"],
    "device": [
        *("CON", "con", "Con", "CON.txt", "con.tar.gz", "NUL", "nul.", "nul .txt", "AUX", "aux.c", "PRN", "COM1"),
        *("com9.x", "LPT1", "lpt9", "COM¹", "LPT³.a", "CONIN$", "conout$", "con:x", "CON ", "COM0"),
    ],
    "over-long": ["x" * 256, "é" * 128, "x" * 5000, "𝄞" * 64],
}

KEPT = [
    *("a", "a b", " a", "a.b.c", ".hidden", "..a", "a..", "a.", "é", "日本語", "🏳️‍🌈", "x" * 255, "é" * 127, "~", "-rf"),
    *("CONSOLE", "COM", "COM10", "nulls", "auxiliary.c", "CO N", "a;b", "$(x)", "%2e%2e", "C", "c:x", "what?", "a:b"),
]

REPLACED = {
    "a/b": "a_b",
    "a\\b": "a_b",
    "AC/DC.mp3": "AC_DC.mp3",
    "a\nb": "a_b",
    "\x1b[2J": "_[2J",
    "\x7f\x80\x9f": "___",
    "cod\u202eexe.doc": "cod_exe.doc",
    "\u2066x\u2069": "_x_",
    "a\u2028b\u2029": "a_b_",
    " ": "_",
    "   ": "___",
}

WINDOWS = {'a:b*c?d"e<f>g|h': "a_b_c_d_e_f_g_h", "a.": "a_", "a ": "a_", "a. .": "a___", "a.b": "a.b", "c:x": "c_x"}


@pytest.mark.parametrize(("why", "name"), [(why, name) for why, names in REFUSED.items() for name in names])
@pytest.mark.parametrize("windows", [False, True])
def test_refused(why: str, name: str, windows: bool) -> None:
    with pytest.raises(MetainfoError, match=why) as caught:
        safe_part(name, windows=windows)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize("name", KEPT)
def test_kept_as_it_is(name: str) -> None:
    assert safe_part(name, windows=False) == name


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("windows", [False, True])
def test_replaced_always_the_same_way(name: str, windows: bool) -> None:
    assert safe_part(name, windows=windows) == REPLACED[name]


@pytest.mark.parametrize("name", WINDOWS)
def test_replaced_for_a_windows_disk(name: str) -> None:
    assert safe_part(name, windows=True) == WINDOWS[name]


def test_what_adds_nothing_is_left_out() -> None:
    assert safe_part("") is None
    assert safe_part(".") is None
    assert safe_path(["a", "", ".", "b"]) == ("a", "b")
    assert safe_path([]) == ()


def test_paths_have_a_depth_and_a_length() -> None:
    assert len(safe_path(["d"] * 100)) == 100
    for parts in (["d"] * 101, ["x" * 250] * 9):
        with pytest.raises(MetainfoError, match="over-long or deeper"):
            safe_path(parts)


def test_bytes_that_are_no_utf_8_stay_apart() -> None:
    assert decode_name("grün".encode()) == "grün"
    assert decode_name(b"gr\xfcn") == "gr%FCn"
    assert decode_name(b"\xff\xfe") != decode_name(b"\xfe\xff")
    assert decode_name(b"\xed\xb2\x80") == "%ED%B2%80"  # a surrogate in UTF-8's clothes
    assert decode_name(b"a\x00b") == "a\0b"


def entries(*paths: str) -> list[FileEntry]:
    return [FileEntry(tuple(path.split("/")), 1, at) for at, path in enumerate(paths)]


@pytest.mark.parametrize(
    "paths",
    [
        ("a/x", "a/x"),
        ("a/x", "a/X"),
        ("a/x", "A/x"),
        ("a/straße", "a/STRASSE"),
        ("a/\u00e9", "a/e\u0301"),
        ("a/\u00c9", "a/e\u0301"),
        ("a/\u212b", "a/\u00e5"),  # the sign of the unit, and the letter
        ("a/x", "a/x/y"),
        ("a/x/y", "a/X"),
        ("a/b/c/d", "a/B"),
        ("a/x", "a/x."),
        ("a/x", "a/x "),
        ("a/b./x", "a/b/x"),
    ],
)
def test_colliding_files_are_refused(paths: tuple[str, ...]) -> None:
    for order in itertools.permutations(paths):
        with pytest.raises(MetainfoError, match="collide"):
            refuse_collisions(entries(*order))


def test_what_does_not_collide() -> None:
    refuse_collisions(entries("a/x", "a/y", "a/b/x", "A/b/y", "b", "a/xx"))
    pads = [FileEntry((), 5, 0, pad=True)] * 3
    refuse_collisions([*pads, *entries("a/b")])


def test_spans_and_pieces() -> None:
    files = [
        FileEntry(("t", "a"), 10, 0),
        FileEntry(("t", "empty"), 0, 10),
        FileEntry((), 6, 10, pad=True),
        FileEntry(("t", "b"), 20, 16),
        FileEntry(("t", "end"), 0, 36),
    ]
    layout = Layout(files, 16)
    assert (layout.size, layout.piece_count) == (36, 3)
    assert [layout.piece_size(index) for index in range(3)] == [16, 16, 4]
    assert list(layout.spans(0, 16)) == [(0, 0, 10), (2, 0, 6)]
    assert list(layout.spans(8, 12)) == [(0, 8, 2), (2, 0, 6), (3, 0, 4)]
    assert list(layout.spans(35, 1)) == [(3, 19, 1)]
    assert list(layout.spans(36, 0)) == []
    assert [list(layout.pieces_of(index)) for index in range(5)] == [[0], [], [0], [1, 2], []]
    for offset, length in ((-1, 2), (0, 37), (36, 1), (5, -1)):
        with pytest.raises(MisuseError):
            list(layout.spans(offset, length))
    for index in (-1, 3):
        with pytest.raises(MisuseError):
            layout.piece_size(index)


def test_a_torrent_of_nothing() -> None:
    layout = Layout([FileEntry(("t",), 0, 0)], 16)
    assert (layout.size, layout.piece_count, list(layout.spans(0, 0))) == (0, 0, [])


def test_v2_files_start_on_pieces_of_their_own() -> None:
    layout = Layout([FileEntry(("a",), 10, 0), FileEntry(("b",), 5, 16)], 16)
    assert list(layout.spans(0, 21)) == [(0, 0, 10), (1, 0, 5)]
