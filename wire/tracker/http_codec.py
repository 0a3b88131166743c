"""Trackers over HTTP: the query that is asked and the bencoded answer (BEP 3, 7, 23, 24, 31, 48). No I/O."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_from_bytes, urlsplit, urlunsplit

from wire import bencode
from wire.compact import IPV4, IPV6, Endpoint, unpack_endpoints
from wire.errors import BencodeError, MisuseError, ProtocolError
from wire.tracker.values import (
    MAX_PEERS,
    Announce,
    AnnounceReply,
    ScrapeReply,
    TrackerError,
    bounded_interval,
    printable,
)

__all__ = ["MAX_REPLY_BYTES", "announce_url", "parse_announce", "parse_scrape", "scrape_url"]

MAX_REPLY_BYTES = 1 << 20
"""Unpacked. As libtorrent's limit; 1,000 compact peers take 18 kB."""
_MAX_DEPTH = 8
_MAX_TRACKER_ID_BYTES = 256
_MAX_HOST_CHARS = 255
_COUNT_LIMIT: Final = 1 << 31


def announce_url(base: str, announce: Announce) -> str:
    """The URL to be asked. Keys that `base` carries already (a passkey) stay in front."""
    fields = [
        ("info_hash", quote_from_bytes(announce.info_hash, safe="")),
        ("peer_id", quote_from_bytes(announce.peer_id, safe="")),
        ("port", str(announce.port)),
        ("uploaded", str(announce.uploaded)),
        ("downloaded", str(announce.downloaded)),
        ("left", str(announce.left)),
        ("compact", "1"),
        ("no_peer_id", "1"),
        ("numwant", str(announce.numwant)),
        ("key", f"{announce.key:08x}"),
    ]
    if announce.event.word:
        fields.append(("event", announce.event.word))
    if announce.tracker_id is not None:
        fields.append(("trackerid", quote_from_bytes(announce.tracker_id, safe="")))
    return _with_query(base, fields)


def scrape_url(base: str, info_hashes: list[bytes]) -> str:
    """The scrape URL of an announce URL (BEP 48). Raises MisuseError where the announce URL does not offer one."""
    parts = urlsplit(base)
    head, slash, last = parts.path.rpartition("/")
    if not last.startswith("announce"):
        raise MisuseError("this tracker offers no scrape: the last part of its path is not “announce…” (BEP 48)")
    path = f"{head}{slash}scrape{last.removeprefix('announce')}"
    fields = [("info_hash", quote_from_bytes(info_hash, safe="")) for info_hash in info_hashes]
    return _with_query(urlunsplit(parts._replace(path=path)), fields)


def _with_query(base: str, fields: list[tuple[str, str]]) -> str:
    parts = urlsplit(base)
    query = "&".join(f"{name}={value}" for name, value in fields)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query, fragment=""))


def parse_announce(body: bytes) -> AnnounceReply:
    """Reads an answer. Raises TrackerError for a refusal, ProtocolError for what is no answer."""
    items = _dictionary(body)
    peers = [*_peers(items.get(b"peers")), *_compact(items.get(b"peers6"), six=True)]
    tracker_id = bencode.get_bytes(items, b"tracker id")
    external = bencode.get_bytes(items, b"external ip")
    warning = bencode.get_str(items, b"warning message")
    minimum = bencode.get_int(items, b"min interval")
    return AnnounceReply(
        peers=tuple(dict.fromkeys(peer for peer in peers if peer.port))[:MAX_PEERS],
        interval_s=bounded_interval(bencode.get_int(items, b"interval")),
        min_interval_s=None if minimum is None else bounded_interval(minimum),
        seeders=_count(items, b"complete"),
        leechers=_count(items, b"incomplete"),
        tracker_id=tracker_id if tracker_id and len(tracker_id) <= _MAX_TRACKER_ID_BYTES else None,
        warning=None if warning is None else printable(warning),
        external_ip=Endpoint.from_compact(external + b"\0\0").host if external and len(external) in (4, 16) else None,
    )


def parse_scrape(body: bytes, info_hash: bytes) -> ScrapeReply | None:
    """Reads the counts of one torrent; None where the answer does not hold it. Raises as `parse_announce`."""
    items = _dictionary(body)
    files = bencode.get_dict(items, b"files") or {}
    # Some trackers write the raw bytes of the key as if they were text: where one torrent was asked for, one row is it.
    row = next(iter(files.values())) if len(files) == 1 else files.get(info_hash)
    if not isinstance(row, dict):
        return None
    return ScrapeReply(
        seeders=_count(row, b"complete") or 0,
        completed=_count(row, b"downloaded") or 0,
        leechers=_count(row, b"incomplete") or 0,
        downloaders=_count(row, b"downloaders"),
    )


def _dictionary(body: bytes) -> dict[bytes, bencode.Value]:
    try:
        items = bencode.decode(body, max_depth=_MAX_DEPTH)
    except BencodeError:
        raise ProtocolError("the tracker's answer is no bencode") from None
    if not isinstance(items, dict):
        raise ProtocolError("the tracker's answer is no dictionary")
    reason = bencode.get_str(items, b"failure reason")
    if reason is not None:
        retry = items.get(b"retry in")  # minutes, or the word “never” (BEP 31)
        minutes = retry if isinstance(retry, int) else None
        if isinstance(retry, bytes) and retry.isdigit() and len(retry) < 6:
            minutes = int(retry)
        in_s = None if minutes is None else bounded_interval(minutes * 60)
        raise TrackerError(printable(reason), in_s, never=retry == b"never")
    return items


def _count(items: dict[bytes, bencode.Value], key: bytes) -> int | None:
    value = bencode.get_int(items, key)
    return value if value is not None and 0 <= value < _COUNT_LIMIT else None


def _compact(value: bencode.Value | None, *, six: bool) -> list[Endpoint]:
    family = IPV6 if six else IPV4
    return unpack_endpoints(value[: MAX_PEERS * family.endpoint_bytes], family) if isinstance(value, bytes) else []


def _peers(value: bencode.Value | None) -> list[Endpoint]:
    """`peers` in either form: a compact string (BEP 23), or a list of dictionaries (BEP 3), names left out."""
    if not isinstance(value, list):
        return _compact(value, six=False)
    found = []
    for row in value[:MAX_PEERS]:
        if not isinstance(row, dict):
            continue
        host, port = bencode.get_str(row, b"ip"), bencode.get_int(row, b"port")
        if host is None or port is None or len(host) > _MAX_HOST_CHARS:
            continue
        try:
            found.append(Endpoint.of(host, port))
        except MisuseError:
            continue  # a name, or nonsense: names from strangers are not looked up
    return found
