"""Magnet links as values: reading whatever people paste, and writing one canonical form (BEP 9, BEP 46, BEP 53).

A link comes from strangers: its length and each of its lists are bounded, addresses and URLs are checked
for form only, and its name is cleaned for display but never used as a path. Nothing is fetched here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote, unquote_plus

from magnet.link_parts import clean_name, host_port, is_hex, is_host, is_index, is_url, merged, short, unique
from wire.compact import parse_host_port
from wire.errors import MisuseError, ProtocolError
from wire.ids import InfoHash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wire.metainfo import Torrent

__all__ = ["LinkError", "MagnetLink", "PointerLink", "Remark", "examine", "read_link"]

MAX_LINK_CHARS = 1 << 16
"""Far above what browsers and shells pass on, far below what would cost time to split."""
MAX_URLS = 200
"""Trackers, web seeds and sources, each: links with a thousand trackers exist to hurt."""
MAX_PEERS = 100
MAX_RANGES = 1000
MAX_SIZE_BYTES = 1 << 62

PUBLIC_KEY_BYTES = 32
MAX_SALT_BYTES = 64
"""BEP 44."""

_SCHEME = "magnet:"
_POINTER = "urn:btpk:"
_POINTER_KIND = "btpk"
_TRACKER_SCHEMES = ("http", "https", "udp", "ws", "wss")
_WEB_SCHEMES = ("http", "https", "ftp")
_KEPT_UNREAD = {"kt", "mt", "x.do", "cr", "pt", "av", "fc", "ix"}
"""Keys that other clients write and nobody needs for the files; not worth a remark."""


class LinkError(ProtocolError):
    """A text that is no usable magnet link; the message is one line that says what is wrong with it."""


class Remark(NamedTuple):
    """One line on a part of a link, for people."""

    text: str
    fault: bool
    """Whether the part was wrong: repaired or left out. Otherwise it is another way to write it, or of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MagnetLink:
    """A magnet link. `str(link)` is its canonical form, and `parse` of that gives an equal link."""

    info_hash: InfoHash
    name: str | None = None
    """Display name (`dn`), cleaned of what cannot be shown on one line."""
    trackers: tuple[str, ...] = ()
    """Announce URLs (`tr`), in their order."""
    web_seeds: tuple[str, ...] = ()
    """`ws` (BEP 19)."""
    peers: tuple[tuple[str, int], ...] = ()
    """`x.pe`: (IP address or name, port)."""
    select: tuple[tuple[int, int], ...] = ()
    """`so` (BEP 53): inclusive ranges of file indices, sorted and merged. None at all means every file."""
    size: int | None = None
    """`xl`, in bytes, as the link claims."""
    sources: tuple[str, ...] = ()
    """`xs` and `as`: URLs where a .torrent may lie."""

    @classmethod
    def parse(cls, text: str) -> MagnetLink:
        """Reads a magnet link or a bare info-hash (hex or base32). Raises LinkError.

        What is wrong in a part that is not needed is left out; `examine` tells of it.
        """
        return examine(text)[0]

    @classmethod
    def of(cls, torrent: Torrent, *, peers: Iterable[tuple[str, int]] = ()) -> MagnetLink:
        """The link of a torrent, with its trackers and web seeds."""
        trackers = unique(url for tier in torrent.trackers for url in tier)
        return cls(
            info_hash=torrent.info.info_hash,
            name=clean_name(torrent.name),
            trackers=tuple(trackers[:MAX_URLS]),
            web_seeds=tuple(unique(torrent.web_seeds)[:MAX_URLS]),
            peers=tuple(peers)[:MAX_PEERS],
            size=torrent.size,
        )

    def wanted(self, file_count: int) -> list[bool]:
        """For each of `file_count` files whether `so` picks it; all of them where it picks none that exist."""
        wanted = [False] * file_count
        for first, last in self.select:
            for index in range(first, min(last + 1, file_count)):
                wanted[index] = True
        return wanted if any(wanted) else [True] * file_count

    def __str__(self) -> str:
        parts = []
        if self.info_hash.v1 is not None:
            parts.append(f"xt=urn:btih:{self.info_hash.v1.hex()}")
        if self.info_hash.multihash is not None:
            parts.append(f"xt=urn:btmh:{self.info_hash.multihash}")
        if self.name is not None:
            parts.append(f"dn={quote(self.name, safe='')}")
        if self.size is not None:
            parts.append(f"xl={self.size}")
        parts += [f"tr={quote(url, safe='')}" for url in self.trackers]
        parts += [f"ws={quote(url, safe='')}" for url in self.web_seeds]
        parts += [f"xs={quote(url, safe='')}" for url in self.sources]
        parts += [f"x.pe={host_port(host, port)}" for host, port in self.peers]
        if self.select:
            parts.append("so=" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.select))
        return "magnet:?" + "&".join(parts)


@dataclass(frozen=True, slots=True)
class PointerLink:
    """A link to the torrent that a key names at the time, in the DHT: `magnet:?xs=urn:btpk:KEY&s=SALT` (BEP 46)."""

    public_key: bytes
    """32 bytes."""
    salt: bytes = b""
    """At most 64 bytes; tells apart several torrents of one key."""
    parts: str = ""
    """The rest of the link, such as trackers, as it was written; it applies to every torrent that is named."""

    def at(self, info_hash: bytes) -> MagnetLink:
        """The link of the torrent that is named now (20 bytes), with the rest of this link."""
        link = MagnetLink.parse(f"magnet:?xt=urn:btih:{info_hash.hex()}{'&' if self.parts else ''}{self.parts}")
        return replace(link, info_hash=InfoHash(v1=info_hash))

    def __str__(self) -> str:
        salt = f"&s={self.salt.hex()}" if self.salt else ""
        return f"magnet:?xs={_POINTER}{self.public_key.hex()}{salt}{'&' if self.parts else ''}{self.parts}"


def read_link(text: str) -> MagnetLink | PointerLink:
    """Reads a link of one torrent, a bare info-hash, or a link to a changing one (BEP 46). Raises LinkError."""
    return _pointer(_clean(text)) or MagnetLink.parse(text)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().strip().strip("<>\"'").strip()  # lone surrogates become '?'


def _pointer(text: str) -> PointerLink | None:
    """The link as a pointer, if it is one: with a public key, and without a torrent of its own."""
    if len(text) > MAX_LINK_CHARS or text[: len(_SCHEME) + 1].lower() != _SCHEME + "?":
        return None
    if _POINTER_KIND not in unquote(text).lower():  # most are none
        return None
    key: str | None = None
    salt, rest = "", []
    for part in text[len(_SCHEME) + 1 :].split("&"):
        name, _, raw = part.partition("=")
        value = unquote(raw).strip()
        match unquote(name).lower().removeprefix("amp;"):
            case "xt":
                return None
            case "xs" if value.lower().startswith(_POINTER):
                if key is not None and key != value[len(_POINTER) :].lower():
                    raise LinkError("the link points at two torrents: it has two different urn:btpk: keys")
                key = value[len(_POINTER) :].lower()
            case "s":
                salt = value
            case _ if part:
                rest.append(part)
    if key is None:
        return None
    if len(key) != 2 * PUBLIC_KEY_BYTES or not is_hex(key):
        raise LinkError(f"xs=urn:btpk: takes a public key of {2 * PUBLIC_KEY_BYTES} hex digits, not {short(key)!r}")
    if not is_hex(salt) or len(salt) > 2 * MAX_SALT_BYTES:
        raise LinkError(f"s= takes a salt of at most {MAX_SALT_BYTES} bytes in hex, not {short(salt)!r}")
    return PointerLink(bytes.fromhex(key), bytes.fromhex(salt), "&".join(rest))


def examine(text: str) -> tuple[MagnetLink, tuple[Remark, ...]]:
    """Reads a link like `MagnetLink.parse`, and tells what in it was rewritten, repaired, left out or without use.

    Raises LinkError where there is no link left.
    """
    text = _clean(text)
    if not text:
        raise LinkError("the link is empty")
    if len(text) > MAX_LINK_CHARS:
        raise LinkError(f"the link is {len(text)} characters long; at most {MAX_LINK_CHARS} are read")
    if text[: len(_SCHEME)].lower() != _SCHEME:
        return _bare(text), ()
    if _pointer(text) is not None:
        raise LinkError("the link names no one torrent, but points at one that may change (BEP 46)")
    reader = _Reader()
    query = text[len(_SCHEME) :]
    if not query.startswith("?"):
        raise LinkError("a magnet link begins with 'magnet:?'")
    for part in query[1:].split("&"):
        reader.part(part)
    return reader.link(), tuple(reader.remarks)


def _bare(text: str) -> MagnetLink:
    try:
        return MagnetLink(info_hash=InfoHash.parse(text))
    except ProtocolError as error:
        if "://" in text[:20]:
            raise LinkError(f"{short(text)!r} is no magnet link") from None
        raise LinkError(f"no magnet link, and {error}") from None


class _Reader:
    """Collects the parameters of one link and what there is to remark on them."""

    def __init__(self) -> None:
        self.remarks: list[Remark] = []
        self._v1: bytes | None = None
        self._v2: bytes | None = None
        self._name: str | None = None
        self._size: int | None = None
        self._urls: dict[str, list[str]] = {"tr": [], "ws": [], "xs": []}
        self._peers: list[tuple[str, int]] = []
        self._ranges: list[tuple[int, int]] = []
        self._foreign: list[str] = []

    def remark(self, text: str, *, fault: bool = True) -> None:
        remark = Remark(text, fault)
        if len(self.remarks) < MAX_URLS and remark not in self.remarks:
            self.remarks.append(remark)

    def part(self, part: str) -> None:
        key, equals, raw = part.partition("=")
        key = unquote(key).lower()
        if key.startswith("amp;"):  # copied out of a page's source
            self.remark("'&amp;' was read as '&'")
            key = key[4:]
        if not equals or not raw:
            if part:
                self.remark(f"{short(part)!r} has no value and was left out")
            return
        stem, dot, number = key.partition(".")
        if dot and number.isdigit():  # xt.1, tr.2: the form that the first draft of magnet links had
            key = stem
        match key:
            case "xt":
                self._topic(unquote(raw).strip())
            case "dn":
                name = clean_name(unquote_plus(raw, errors="replace"))
                if self._name is None:
                    self._name = name
            case "xl":
                self._length(unquote(raw).strip())
            case "tr":
                self._url("tr", raw, _TRACKER_SCHEMES)
            case "ws":
                self._url("ws", raw, _WEB_SCHEMES)
            case "xs" | "as":
                self._url("xs", raw, _WEB_SCHEMES)
            case "x.pe":
                self._peer(unquote(raw).strip())
            case "so":
                self._selection(unquote(raw))
            case _:
                if key not in _KEPT_UNREAD:
                    self.remark(f"{short(key)!r} is not a parameter that is used here", fault=False)

    def link(self) -> MagnetLink:
        if self._v1 is None and self._v2 is None:
            if self._foreign:
                raise LinkError(
                    f"the link names no torrent: its xt is {short(self._foreign[0])!r}, "
                    "not urn:btih:INFO-HASH or urn:btmh:MULTIHASH"
                )
            raise LinkError("the link names no torrent: it has no xt=urn:btih:INFO-HASH")
        return MagnetLink(
            info_hash=InfoHash(self._v1, self._v2),
            name=self._name,
            trackers=tuple(self._urls["tr"]),
            web_seeds=tuple(self._urls["ws"]),
            peers=tuple(self._peers),
            select=merged(self._ranges),
            size=self._size,
            sources=tuple(self._urls["xs"]),
        )

    def _topic(self, topic: str) -> None:
        kind, _, text = topic.rpartition(":")
        kind = kind.lower()
        if kind not in ("urn:btih", "urn:btmh"):
            self._foreign.append(topic)
            self.remark(f"xt={short(topic)} is of another network and was left out", fault=False)
            return
        try:
            value = InfoHash.parse(text.strip())
        except ProtocolError as error:
            raise LinkError(str(error)) from None
        if value.v1 is not None:
            if kind == "urn:btmh":
                raise LinkError(f"xt=urn:btmh: takes a v2 multihash (1220 and 64 hex digits), not {short(text)!r}")
            if self._v1 is not None and self._v1 != value.v1:
                raise LinkError("the link names two torrents: it has two different urn:btih: hashes")
            if len(text) == 32 or text != text.lower():
                self.remark("the info-hash was rewritten as 40 lower-case hex digits", fault=False)
            self._v1 = value.v1
        else:
            if self._v2 is not None and self._v2 != value.v2:
                raise LinkError("the link names two torrents: it has two different urn:btmh: hashes")
            if kind == "urn:btih":
                self.remark("a v2 hash belongs into xt=urn:btmh:1220..., not into urn:btih:")
            elif len(text) == 64:
                self.remark("the multihash prefix 1220 was missing and was added")
            self._v2 = value.v2

    def _length(self, text: str) -> None:
        if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_SIZE_BYTES:
            self._size = int(text)
        else:
            self.remark(f"xl={short(text)} is no size in bytes and was left out")

    def _url(self, key: str, raw: str, schemes: Sequence[str]) -> None:
        url = unquote(raw, errors="replace").strip()
        if "://" not in url and "%3a%2f%2f" in url.lower():
            url = unquote(url, errors="replace").strip()
            self.remark(f"{key}={short(url)} was percent-encoded twice")
        if not is_url(url, schemes):
            self.remark(f"{key}={short(url)} is no URL of {', '.join(schemes)} and was left out")
            return
        kept = self._urls[key]
        if url in kept:
            self.remark(f"{key}={short(url)} is there twice", fault=False)
        elif len(kept) >= MAX_URLS:
            self.remark(f"only the first {MAX_URLS} of {key} are kept")
        else:
            kept.append(url)

    def _peer(self, text: str) -> None:
        try:
            host, port = parse_host_port(text)
        except MisuseError as error:
            self.remark(f"x.pe: {error}; left out")
            return
        if port == 0 or not is_host(host):
            self.remark(f"x.pe={short(text)} cannot be dialled and was left out")
        elif len(self._peers) < MAX_PEERS and (host, port) not in self._peers:
            self._peers.append((host, port))

    def _selection(self, text: str) -> None:
        for item in text.split(","):
            first, dash, last = item.strip().partition("-")
            last = last if dash else first
            if not (is_index(first) and is_index(last)) or int(first) > int(last):
                self.remark(f"so={short(item)!r} is no file index or range and was left out")
            elif len(self._ranges) < MAX_RANGES:
                self._ranges.append((int(first), int(last)))
