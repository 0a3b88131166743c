"""What an http or https URL says, checked before anything is asked: values alone, no I/O (RFC 9110; BEP 3, 19)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from wire.compact import reach
from wire.errors import NetworkError

__all__ = [
    "HttpError",
    "Target",
    "is_http_url",
    "is_link_local",
    "is_near_literal",
    "printable",
    "redirected",
    "shown",
]

MAX_URL_CHARS = 8192
_PORTS = {"http": 80, "https": 443}


class HttpError(NetworkError):
    """What was asked for did not come: one line for people, the server's words made printable."""


def is_http_url(text: str) -> bool:
    """Whether it begins as an http or https URL."""
    return text.lower().startswith(("http://", "https://"))


def is_near_literal(url: str) -> bool:
    """Whether the URL itself, for all to see, names this machine or a private address (not a link-local one)."""
    with suppress(ValueError):
        host = (urlsplit(url).hostname or "").rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        return reach(host) in ("loopback", "private") and not is_link_local(host)
    return False


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart."""

    url: str
    scheme: str
    host: str
    port: int
    path: str
    """And query, as it goes into the request line."""

    @classmethod
    def of(cls, url: str) -> Target:
        """Raises HttpError for what is no URL that is asked here."""
        name = shown(url)
        if not is_http_url(url):
            raise HttpError(f"{name}: only http and https URLs are fetched")
        if len(url) > MAX_URL_CHARS:
            raise HttpError(f"{name}: the URL is {len(url)} characters long")
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise HttpError(f"{name}: that is no URL") from None
        if not host or not all(" " < char < "\x7f" for char in host):
            # Names that only look like another's are written with such letters; registrars know them as xn--...
            raise HttpError(f"{name}: the host is not written in ASCII letters and digits")
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]{}|\"`^<>\\")
        query = "".join(char if "!" <= char <= "~" else quote(char) for char in query)
        port = _PORTS[parts.scheme.lower()] if port is None else port
        return cls(url, parts.scheme.lower(), host, port, f"{path}?{query}" if parts.query else path)

    @property
    def place(self) -> tuple[str, str, int]:
        """What a connection leads to: scheme, host and port."""
        return self.scheme, self.host.lower(), self.port

    @property
    def authority(self) -> str:
        """Host and port, as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises HttpError where it is not followed."""
    try:
        target = urljoin(url, location.strip())
    except ValueError:
        target = location
    if not is_http_url(target):
        raise HttpError(f"{shown(url)}: it redirects to {shown(target)}, and only http and https are followed")
    if url.lower().startswith("https:") and not target.lower().startswith("https:"):
        raise HttpError(f"{shown(url)}: it redirects from https to plain http")
    return target


def is_link_local(host: str) -> bool:
    """Whether an address is of the link alone: there clouds keep the keys of their machines."""
    return host.startswith("169.254.") or host.lower().startswith(("fe8", "fe9", "fea", "feb"))


def shown(url: str) -> str:
    """A URL for people: one line, without what was asked and without a password."""
    head = url.partition("?")[0]
    scheme, slashes, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    return printable(f"{scheme}{slashes}{authority.rpartition('@')[2]}{slash}{path}", 120)


def printable(text: str, limit: int = 200) -> str:
    """A stranger's words as one short line that a terminal can show."""
    line = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"
