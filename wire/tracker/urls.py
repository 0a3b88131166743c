"""Which URLs are those of trackers that are spoken to here (BEP 3, 15). Values only."""

from __future__ import annotations

from urllib.parse import urlsplit

from wire.errors import MisuseError

__all__ = ["check_tracker_url", "is_tracker_url"]

_MAX_URL_CHARS = 4096


def is_tracker_url(url: str) -> bool:
    """Whether it is one that is spoken to here (not so wss://, the trackers of browsers)."""
    try:
        check_tracker_url(url)
    except MisuseError:
        return False
    return True


def check_tracker_url(url: str) -> str:
    """The URL itself. Raises MisuseError, in one line, where it is none of a tracker (http, https or udp)."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise MisuseError(f"{url!r} is no URL of a tracker") from None
    if parts.scheme.lower() not in ("http", "https", "udp"):
        raise MisuseError(f"{url!r} is no URL of a tracker: it begins with http://, https:// or udp://")
    if not host or not all(" " < char < "\x7f" for char in host) or len(url) > _MAX_URL_CHARS or not url.isprintable():
        raise MisuseError(f"{url!r} is no URL of a tracker")
    if parts.scheme.lower() == "udp" and not port:
        raise MisuseError(f"{url!r} is no URL of a tracker: udp:// needs a port")
    return url
