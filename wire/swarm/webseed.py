"""One web seed of a torrent, without I/O (BEP 19): its URLs, what its answers mean, and whether it may be asked.

A web seed is a `Source` like a peer is: the picker gives it pieces, `requests` keeps its blocks, `blame` judges them.
It has all pieces until the server says otherwise; it is asked for runs of neighbouring pieces, so that one request
fetches a lot. A wrong piece is the end of it; a server that is busy or away is asked again later.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, quote_from_bytes

from wire.bencode import Value, decode, get_bytes, get_dict, get_list
from wire.metainfo import Info
from wire.peer.messages import BLOCK_BYTES
from wire.swarm.pieces import BlockId
from wire.swarm.source import Source

__all__ = ["Refusal", "Stretch", "WebSeed", "blocks_of", "file_urls", "judge", "stretches"]

MAX_REQUEST_BYTES = 16 << 20
"""Of one request, as libtorrent: enough that the way to the server and back does not count."""
FIRST_RETRY_S = 10.0
MAX_RETRY_S = 600.0
MAX_RETRY_AFTER_S = 3600.0
"""However long a server wants to be left alone (RFC 9110, 10.2.3)."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


class Refusal(Exception):  # noqa: N818 - what a server says, not an error of anybody
    """The server does not give what it was asked for."""

    def __init__(self, reason: str, *, retry_s: float | None = None, lasting: bool = False) -> None:
        """`retry_s`: it named a time. `lasting`: the file is not there, or another one."""
        super().__init__(reason)
        self.retry_s = retry_s
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class Stretch:
    """Blocks that lie end to end."""

    offset: int
    """Of the first byte, in all pieces laid end to end."""
    length: int


def stretches(runs: Sequence[BlockId], piece_length: int) -> list[Stretch]:
    """Blocks, or several that lie end to end as one, in few stretches, in the order in which the first of each is told.

    The piece of the very first block begins one: somebody may wait for it.
    """
    urgent = min((run for run in runs if run[0] == runs[0][0]), default=None)
    places = {run: place for place, run in enumerate(runs)}
    found: list[tuple[int, Stretch]] = []
    first = start = end = -1
    for run in sorted(runs):
        offset = run[0] * piece_length + run[1]
        if offset != end or run == urgent:
            if end > start:
                found.append((first, Stretch(start, end - start)))
            first, start = places[run], offset
        first = min(first, places[run])
        end = offset + run[2]
    if end > start:
        found.append((first, Stretch(start, end - start)))
    return [stretch for _, stretch in sorted(found, key=lambda one: one[0])]


def blocks_of(offset: int, end: int, piece_length: int) -> Iterator[BlockId]:
    """The blocks from one byte to another, of all pieces laid end to end: both are borders of blocks."""
    while offset < end:
        index, begin = divmod(offset, piece_length)
        length = min(BLOCK_BYTES, piece_length - begin, end - offset)
        yield index, begin, length
        offset += length


def file_urls(info: Info, base: str) -> list[str | None]:
    """Where each file of the torrent lies below a web seed's URL (BEP 19); None for pads and links."""
    if info.single_file:
        names = _raw_names(info)[0] if info.files else ()
        url = base + _quoted(names[-1:]) if base.endswith("/") else base
        return [url if entry.on_disk else None for entry in info.files]
    root = base if base.endswith("/") else base + "/"
    raw = _raw_names(info)
    return [root + _quoted(names) if entry.on_disk else None for entry, names in zip(info.files, raw, strict=True)]


def _quoted(names: Sequence[bytes | str]) -> str:
    return "/".join(
        quote_from_bytes(name, safe="") if isinstance(name, bytes) else quote(name, safe="") for name in names
    )


def _raw_names(info: Info) -> list[tuple[bytes | str, ...]]:
    """The names of each file as the torrent has them: what was made safe for disks may be called otherwise there."""
    items = decode(info.raw)
    assert isinstance(items, dict)
    top = get_bytes(items, b"name.utf-8") or get_bytes(items, b"name") or b""
    listed = get_list(items, b"files")
    if listed is None or len(listed) != len(info.files):
        tree = get_dict(items, b"file tree")
        if tree is None or get_bytes(items, b"pieces") is not None:
            return [(top,) for _ in info.files]
        leaves = list(_leaf_names(tree, ()))
        prefix: tuple[bytes, ...] = () if info.single_file else (top,)
        return [(*prefix, *names) for names in leaves]
    return [(top, *_path(item)) for item in listed]


def _path(item: Value) -> list[bytes]:
    if not isinstance(item, dict):
        return []
    parts = get_list(item, b"path.utf-8") or get_list(item, b"path") or []
    return [part for part in parts if isinstance(part, bytes) and part not in (b"", b".")]


def _leaf_names(tree: dict[bytes, Value], above: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            if b"" in value:
                yield (*above, key)
            else:
                yield from _leaf_names(value, (*above, key))


def judge(status: int, headers: Mapping[str, str], start: int, length: int, file_size: int, now: datetime) -> int:
    """How many bytes of the answer's body are to be passed over before byte `start` of the file comes.

    0 for a range as it was asked for; `start` where the server sends the whole file instead. Raises Refusal.
    """
    if status in (200, 206) and headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Refusal("it packs what it sends", lasting=True)
    if status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
        if match is None:
            raise Refusal("its answer does not say which range it is", lasting=True)
        first, last = int(match[1]), int(match[2])
        if match[3] != "*" and int(match[3]) != file_size:
            raise Refusal(f"its file has {match[3]} bytes, not {file_size}", lasting=True)
        if first != start or not first <= last < start + length:
            raise Refusal("it sends another range than was asked for", lasting=True)
        return 0
    if status == 200:
        said = headers.get("content-length")
        if said is not None and said != str(file_size):
            raise Refusal(f"its file has {said[:20]} bytes, not {file_size}", lasting=True)
        return start
    if status in (408, 425, 429) or status >= 500:
        raise Refusal(f"the server says {status}", retry_s=_retry_after(headers.get("retry-after"), now))
    if status == 416:
        raise Refusal("its file is shorter", lasting=True)
    raise Refusal(f"the server says {status}", lasting=True)


def _retry_after(text: str | None, now: datetime) -> float | None:
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 1.0), MAX_RETRY_AFTER_S)


class WebSeed:
    """One URL of a torrent's web seeds, and how it stands with it."""

    def __init__(self, info: Info, url: str, now: float) -> None:
        self.url = url
        self.urls = file_urls(info, url)
        self.source = Source(None, now)
        self.source.limit = MAX_REQUEST_BYTES // BLOCK_BYTES
        self.ranges = True
        """The server sends parts of files; else only whole ones."""
        self.rests_until = now
        self.failures = 0
        """In a row."""
        self.reason: str | None = None
        """Why it rests, or was given up."""
        self.given_up = False

    def rest(self, reason: str, now: float, retry_s: float | None = None) -> None:
        """It is away or busy: it is asked again later, after a time that doubles or that it named."""
        self.failures += 1
        self.reason = reason
        wait_s = min(FIRST_RETRY_S * 2.0 ** min(self.failures - 1, 10), MAX_RETRY_S)
        self.rests_until = now + (wait_s if retry_s is None else max(retry_s, 1.0))

    def give_up(self, reason: str) -> None:
        """It is never asked again."""
        self.given_up = True
        self.reason = reason

    def worked(self) -> None:
        """Data came of it."""
        self.failures = 0
        self.reason = None
