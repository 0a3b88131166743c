"""Links and names that nobody sane writes: the error of the peer's fault or a sound value, nothing else.

A short run each time; `HOSTILE_INPUTS=100000 pytest tests/props/test_hostile_input.py` makes the long one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from magnet.link import MagnetLink, read_link
from wire.errors import MetainfoError, ProtocolError
from wire.metainfo.files import safe_path

INPUTS = int(os.environ.get("HOSTILE_INPUTS", "2000"))
PIECES = [
    "magnet:?",
    "&",
    "=",
    "xt=",
    "urn:btih:",
    "urn:btmh:",
    "1220",
    "xs=",
    "urn:btpk:",
    "s=",
    "dn=",
    "tr=",
    "ws=",
    "x.pe=",
    "so=",
    "xl=",
    "ab" * 20,
    "WRN7ZT6NKMA6SSXYKAFRUGDDIFJUNKI2",
    "cd" * 32,
    "%",
    "%2",
    "%00",
    "%ff",
    "%E2%80%AE",
    "+",
    "\x00",
    "\n",
    "ü",
    "127.0.0.1:6881",
    "[::1]:1",
    "[",
    "0-99999999999999",
    "0,2,4-6",
    "-1",
    "9" * 400,
    "udp://t.example:1",
    "http://[",
    "a" * 200,
]
NAMES = [
    "..",
    ".",
    "",
    "/",
    "\\",
    "a",
    "A",
    "C:",
    "CON",
    "con.txt",
    "NUL",
    "\0",
    " ",
    ". .",
    "~",
    "-rf",
    "\u202e",
    "é",
    "e\u0301",
    "x" * 255,
    "x" * 4000,
    "\ud800",
    "a/../b",
    "//host/share",
    "\\\\?\\",
    "%2e%2e",
    "\n",
    "aux .c",
    "COM¹",
    "日本",
    ".pad",
    "a:b",
    "..\\..",
]


def test_links() -> None:
    rng = random.Random(1)
    sound = 0
    for _ in range(INPUTS):
        text = ("magnet:?xt=urn:btih:" + "ab" * 20 if rng.random() < 0.5 else "magnet:?") + "".join(
            rng.choices(PIECES, k=rng.randrange(12))
        )
        try:
            link = read_link(text[:1023])
        except ProtocolError as error:
            shown = str(error)
        else:
            sound += 1
            shown = str(link)
            if isinstance(link, MagnetLink):
                assert str(MagnetLink.parse(shown)) == shown
        assert shown.isprintable()
    assert sound > INPUTS // 20


def test_a_thousand_trackers_are_cut() -> None:
    text = "magnet:?xt=urn:btih:" + "ab" * 20 + "".join(f"&tr=udp://t{number}.example:1" for number in range(1000))
    assert len(MagnetLink.parse(text).trackers) <= 200


def test_names_stay_inside(tmp_path: Path) -> None:
    rng = random.Random(2)
    root = os.path.realpath(tmp_path)
    kept = 0
    for _ in range(INPUTS):
        parts = ["".join(rng.choices(NAMES, k=rng.randrange(1, 3))) for _ in range(rng.randrange(1, 5))]
        try:
            path = safe_path(parts)
        except MetainfoError as error:
            assert str(error).isprintable()  # noqa: PT017 - it need not come
            continue
        kept += 1
        if not path:
            continue  # nothing but empty names: the reader of a torrent refuses that
        assert os.path.realpath(os.path.join(root, *path)).startswith(root + os.sep)
        assert all(part not in ("", ".", "..") and not set(part) & set("/\\\0") for part in path)
    assert kept > INPUTS // 20
