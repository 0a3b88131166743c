"""The parts of a magnet link: whether each is one in form, and how it is written or shown. Pure functions of text."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["clean_name", "host_port", "is_hex", "is_host", "is_index", "is_url", "merged", "short", "unique"]

MAX_FILE_INDEX = (1 << 31) - 1
MAX_NAME_CHARS = 255


def is_hex(text: str) -> bool:
    """Whole bytes in hex digits of either case."""
    return len(text) % 2 == 0 and all(char in "0123456789abcdefABCDEF" for char in text)


def is_index(text: str) -> bool:
    """A file index of BEP 53, within bounds."""
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_FILE_INDEX


def is_url(url: str, schemes: Sequence[str]) -> bool:
    """A URL of one of the schemes, in form: with a host, a port that can be, nothing unprintable."""
    try:
        split = urlsplit(url)
        split.port  # noqa: B018 - raises where the port is none
    except ValueError:
        return False
    printable = all(char > " " and char != "\x7f" for char in url)
    return split.scheme.lower() in schemes and bool(split.hostname) and printable


def is_host(host: str) -> bool:
    """A name or address, in form."""
    return len(host) <= 253 and all(char.isalnum() or char in ".-_:%" for char in host)


def merged(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Inclusive ranges, sorted, those that touch made one."""
    whole: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if whole and first <= whole[-1][1] + 1:
            whole[-1] = (whole[-1][0], max(whole[-1][1], last))
        else:
            whole.append((first, last))
    return tuple(whole)


def clean_name(name: str) -> str | None:
    """One line without control, format (bidi) and surrogate characters, of bounded length; None if nothing is left."""
    kept = "".join(" " if char.isspace() else char for char in name if _is_shown(char))
    return kept[:MAX_NAME_CHARS].strip() or None


def _is_shown(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs")


def host_port(host: str, port: int) -> str:
    """As a link has it: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def short(text: str) -> str:
    """A part of a link for a message: one line, at most 60 characters."""
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= 60 else text[:57] + "..."


def unique(items: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(items))
