"""Subtitles that lie beside a film in its torrent: which they are, and as a browser reads them. No I/O.

Browsers know WebVTT alone; SubRip (`.srt`), which nearly all films come with, differs from it in a line and a comma.
Players take both. Other kinds are served as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

__all__ = ["MAX_SHOWN_BYTES", "as_webvtt", "goes_with", "is_shown", "is_subtitle"]

MAX_SUBTITLE_BYTES = 32 << 20
"""Of one that is fetched without being asked for: the pictures of a disc's subtitles have some MB."""
MAX_SHOWN_BYTES = 2 << 20
"""Of one that is made WebVTT: that of a long film has 200 KB."""
_KINDS = (".srt", ".vtt", ".ass", ".ssa", ".sub", ".idx")
_CUE = re.compile(r"(\d+:\d\d:\d\d),(\d{3})")


def is_subtitle(name: str, size: int) -> bool:
    """Whether a file holds subtitles, by its ending, and is no larger than such are."""
    return name.lower().endswith(_KINDS) and size <= MAX_SUBTITLE_BYTES


def is_shown(name: str, size: int) -> bool:
    """Whether a browser can show it."""
    return name.lower().endswith((".srt", ".vtt")) and size <= MAX_SHOWN_BYTES


def goes_with(path: Sequence[str], film: Sequence[str], others: int) -> bool:
    """Whether the subtitles at `path` are those of `film`: in its folder or below, under its name in any case.

    Under any name where the folder and those below hold no other film; `others`: how many they hold.
    """
    folder = film[:-1]
    if tuple(path[: len(folder)]) != tuple(folder):
        return False
    stem = PurePosixPath(film[-1]).stem.casefold()
    return not others or any(part.casefold().startswith(stem) for part in path[len(folder) :])


def as_webvtt(data: bytes) -> bytes:
    """SubRip, or WebVTT, as WebVTT in UTF-8. What is not UTF-8 is taken for Windows' Western letters."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    if not text.startswith("WEBVTT"):
        text = "WEBVTT\n\n" + "\n".join(
            _CUE.sub(r"\1.\2", line) if "-->" in line else line for line in text.splitlines()
        )
    return text.encode()
