"""A .torrent file: an info dictionary and what stands around it (BEP 3, 5, 12, 19, 38, 52).

Only the info dictionary is covered by the info-hash. The rest is advice: what of it is malformed is
left out and does not make the torrent unreadable, and lists are capped. The info bytes are written
back as they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from wire.bencode import Encodable, Value, decode, encode, get_bytes, get_dict, get_int, get_list, get_str, split_item
from wire.errors import BencodeError, MetainfoError
from wire.metainfo.hints import Hints
from wire.metainfo.info import Info

__all__ = ["MAX_TORRENT_BYTES", "Torrent"]

MAX_TORRENT_BYTES = 32 << 20
"""Of a .torrent file. The largest that were seen have 15 MB; libtorrent reads 10 MB."""

_MAX_URLS = 200
"""Trackers, and web seeds: more are only there to keep a client busy."""
_MAX_URL_CHARS = 2048
_MAX_NODES = 100
_MAX_TEXT_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Torrent:
    """What a .torrent file holds; `Torrent.of` makes one of an `Info` that came another way."""

    info: Info
    trackers: tuple[tuple[str, ...], ...] = ()
    """Announce URLs, tier by tier (BEP 12)."""
    web_seeds: tuple[str, ...] = ()
    """URLs of the content itself (BEP 19)."""
    nodes: tuple[tuple[str, int], ...] = ()
    """DHT nodes to start from: host or address, and port (BEP 5)."""
    comment: str | None = None
    created_by: str | None = None
    creation_date: int | None = None
    """Seconds since 1970, UTC."""
    outer_hints: Hints = field(default_factory=Hints)
    """Those of BEP 38 that stand outside the info dictionary."""

    @classmethod
    def of(cls, info: Info, trackers: Iterable[Iterable[str]] = (), web_seeds: Iterable[str] = ()) -> Torrent:
        """A torrent of an info dictionary and, where known, the trackers' tiers and web seeds of its link."""
        tiers = tuple(tier for tier in (tuple(urls) for urls in trackers) if tier)
        return cls(info, trackers=tiers, web_seeds=tuple(web_seeds))

    @classmethod
    def from_bytes(cls, data: bytes) -> Torrent:
        """Reads a whole .torrent file. Raises MetainfoError, in one line, where it is broken or unsafe."""
        if len(data) > MAX_TORRENT_BYTES:
            raise MetainfoError(f"this .torrent has {len(data)} bytes; at most {MAX_TORRENT_BYTES} are read")
        try:
            raw_info, rest = split_item(data, b"info")
            items = decode(rest)
        except BencodeError as error:
            raise MetainfoError(f"this is no .torrent: {error}") from None
        if not isinstance(items, dict) or raw_info is None:
            raise MetainfoError("this is no .torrent: it has no info dictionary")
        info = Info.from_bytes(raw_info)
        _read_layers(items, info)
        return cls(
            info=info,
            trackers=_read_trackers(items),
            web_seeds=tuple(_urls(_text_or_list(items.get(b"url-list")))),
            nodes=_read_nodes(get_list(items, b"nodes") or []),
            comment=_text(items, b"comment"),
            created_by=_text(items, b"created by"),
            creation_date=get_int(items, b"creation date"),
            outer_hints=Hints.read(items),
        )

    def to_bytes(self) -> bytes:
        """The .torrent file: canonical bencode around the info dictionary's own bytes."""
        items: dict[bytes, Encodable] = self.outer_hints.items()
        if self.trackers:
            items[b"announce"] = self.trackers[0][0]
            if len(self.trackers) > 1 or len(self.trackers[0]) > 1:
                items[b"announce-list"] = self.trackers
        if self.web_seeds:
            items[b"url-list"] = self.web_seeds
        if self.nodes:
            items[b"nodes"] = self.nodes
        if self.comment is not None:
            items[b"comment"] = self.comment
        if self.created_by is not None:
            items[b"created by"] = self.created_by
        if self.creation_date is not None:
            items[b"creation date"] = self.creation_date
        if self.info.info_hash.v2 is not None and (self.piece_layers or self.info.layers.complete):
            items[b"piece layers"] = dict(self.piece_layers)
        parts = {key: encode(value) for key, value in items.items()}
        parts[b"info"] = self.info.raw
        return b"d" + b"".join(encode(key) + parts[key] for key in sorted(parts)) + b"e"

    @property
    def piece_layers(self) -> tuple[tuple[bytes, bytes], ...]:
        """For v2 files larger than a piece: pieces root, and the piece hashes that give it, where known (BEP 52)."""
        return tuple(self.info.layers)

    @property
    def hints(self) -> Hints:
        """Torrents and collections that it says it shares files with, in the info dictionary or around it (BEP 38)."""
        items = decode(self.info.raw)
        return Hints.read(items).merged(self.outer_hints) if isinstance(items, dict) else self.outer_hints

    @property
    def info_hash_v1(self) -> bytes | None:
        """SHA-1 of the info dictionary, 20 bytes; None for a v2-only torrent."""
        return self.info.info_hash.v1

    @property
    def info_hash_v2(self) -> bytes | None:
        """SHA-256 of the info dictionary, 32 bytes; None for a v1-only torrent (BEP 52)."""
        return self.info.info_hash.v2

    @property
    def name(self) -> str:
        """The name of the file, or of the folder of several; safe to show."""
        return self.info.name

    @property
    def size(self) -> int:
        """Bytes of the files on disk, pads not counted."""
        return self.info.content_size


def _text(items: dict[bytes, Value], key: bytes) -> str | None:
    """Text for people: without what could steer a terminal, and not endless."""
    text = get_str(items, key)
    if text is None:
        return None
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_TEXT_CHARS])


def _text_or_list(value: Value | None) -> list[Value]:
    """`url-list` comes as one string or as a list of them (BEP 19)."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, bytes) else []


def _urls(values: Iterable[Value]) -> list[str]:
    urls: list[str] = []
    for value in values:
        if isinstance(value, bytes) and 0 < len(value) <= _MAX_URL_CHARS:
            url = value.decode("utf-8", "replace").strip()
            if url.isprintable() and "://" in url and url not in urls:
                urls.append(url)
        if len(urls) == _MAX_URLS:
            break
    return urls


def _read_trackers(items: dict[bytes, Value]) -> tuple[tuple[str, ...], ...]:
    """`announce-list` where it holds anything, else `announce` (BEP 12)."""
    tiers: list[tuple[str, ...]] = []
    left = _MAX_URLS
    for tier in get_list(items, b"announce-list") or []:
        urls = tuple(_urls(_text_or_list(tier))[:left])
        if urls:
            tiers.append(urls)
            left -= len(urls)
        if not left:
            break
    if not tiers:
        tiers = [(url,) for url in _urls(_text_or_list(get_bytes(items, b"announce")))]
    return tuple(tiers)


def _read_nodes(values: list[Value]) -> tuple[tuple[str, int], ...]:
    nodes: list[tuple[str, int]] = []
    for value in values[:_MAX_NODES]:
        if isinstance(value, list) and len(value) == 2:
            host, port = value
            if isinstance(host, bytes) and isinstance(port, int) and 0 < port < 65536 and 0 < len(host) <= 255:
                text = host.decode("ascii", "replace")
                if text.isascii() and text.isprintable():
                    nodes.append((text, port))
    return tuple(nodes)


def _read_layers(items: dict[bytes, Value], info: Info) -> None:
    """The piece layers that are there. A missing one can be had from peers; a wrong one is a broken file; one that
    belongs to no file is nobody's."""
    if info.info_hash.v2 is None or b"piece layers" not in items:
        return
    layers = get_dict(items, b"piece layers")
    if layers is None:
        raise MetainfoError("the torrent's piece layers are no dictionary")
    for root in {entry.pieces_root for entry in info.files if entry.pieces_root in layers}:
        layer = layers[root] if root is not None else None
        if root is None or not isinstance(layer, bytes):
            raise MetainfoError("a piece layer of the torrent is no string")
        info.layers.add(root, layer)
