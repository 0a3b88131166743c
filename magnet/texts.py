"""What is said of a torrent to people: sizes, times, and one line each on how it stands and what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from magnet.status import TorrentStatus, waiting_line
from magnet.verdict import Phase

if TYPE_CHECKING:
    from wire.metainfo import Torrent

__all__ = [
    "MAX_NAME_CHARS",
    "batch_line",
    "counts_line",
    "done_line",
    "file_count",
    "format_duration",
    "format_size",
    "format_time",
    "label",
    "many_line",
    "metadata_line",
    "progress_line",
]

MAX_NAME_CHARS = 32
"""Of a name in a line or bar; the whole name stands in the line that announces the metadata."""
_HASH_CHARS = 12
_ORIGINS = {
    "dht": "by the DHT",
    "peer": "from the given peer",
    "incoming": "from a peer that connected to us",
}


def format_size(size_bytes: float) -> str:
    """`1536` as `1.5 KiB`: powers of 1,024, three digits or so."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def format_time(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `4:05` (minutes), `1:02:03` (hours)."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_duration(seconds: float) -> str:
    """A span that need not be exact, such as the time that is left: `8 s`, `4 min`, `2 h 10 min`, `3 days`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def progress_line(status: TorrentStatus) -> str:
    """One line on how a torrent stands."""
    name = label(status)
    if (
        status.size is None
        or status.phase is Phase.CHECKING
        or (status.phase is Phase.DOWNLOADING and not (status.peers or status.web_seeds))
    ):
        at = f"{status.progress:.0%}, " if status.size and status.phase is Phase.DOWNLOADING else ""
        return f"{name}: {at}{waiting_line(status)} ({format_duration(status.elapsed_s)})"
    if status.phase is Phase.SEEDING:
        return (
            f"{name}: seeding to {_n(status.peers, 'peer')}, "
            f"{format_size(status.up_rate)}/s up, {format_size(status.uploaded)} sent"
        )
    if status.down_rate < 1:
        return f"{name}: {status.progress:.0%}, {waiting_line(status)} ({format_duration(status.elapsed_s)})"
    left = f", {format_duration(status.eta_s)} left" if status.eta_s is not None else ""
    return (
        f"{name}: {status.progress:.0%} of {format_size(status.size)}, "
        f"{format_size(status.down_rate)}/s from {status.givers}{left}"
    )


def counts_line(status: TorrentStatus) -> str:
    """Every count that is not zero, for `-v`."""
    row = status.counts.as_dict()
    found = row.pop("found")
    row.pop("dht")
    parts = [f"{name.replace('_', ' ')} {value}" for name, value in row.items() if value]
    if isinstance(found, dict):
        parts[4:4] = [f"found by {via} {n}" for via, n in sorted(found.items()) if n]
    if status.wasted:
        parts.append(f"wasted {format_size(status.wasted)}")
    return "counts: " + (", ".join(parts) or "nothing yet")


def batch_line(finished: int, failed: int, total: int, working: Sequence[TorrentStatus]) -> str:
    """One line on how far many links are, and what the oldest waits for."""
    head = f"{finished} of {total} resolved" + (f", {failed} failed" if failed else "")
    if not working:
        return head
    oldest = max(working, key=lambda status: status.elapsed_s)
    return f"{head}; {label(oldest)}: {waiting_line(oldest)}"


def many_line(summary: str, statuses: Sequence[TorrentStatus]) -> str:
    """One line on how several torrents stand together."""
    size = sum(status.size or 0 for status in statuses)
    done = sum(status.done for status in statuses)
    parts = [summary]
    if any(status.phase is not Phase.SEEDING for status in statuses):
        part = f"{done / size:.0%} of {format_size(size)}" if size else f"waiting for metadata of {len(statuses)}"
        parts.append(f"{part}, {format_size(sum(status.down_rate for status in statuses))}/s down")
    if up_rate := sum(status.up_rate for status in statuses):
        parts.append(f"{format_size(up_rate)}/s up")
    parts.append(_n(sum(status.peers for status in statuses), "peer"))
    return "; ".join(parts)


def done_line(status: TorrentStatus) -> str:
    """One line on what came and how fast."""
    size = status.size or 0
    line = f"done: {format_size(size)} in {format_time(status.elapsed_s)}"
    if not status.downloaded:
        return f"{line}; all of it was there and is verified"
    spent_s = max(status.elapsed_s - (status.metadata_s or 0.0), 1e-3)
    kept = max(0, size - status.downloaded)
    line += f", {format_size(min(status.downloaded, size) / spent_s)}/s"
    return f"{line}; {format_size(kept)} was there already" if kept else line


def metadata_line(torrent: Torrent, seconds: float, source: str, selected: int | None) -> str:
    """One line on what a torrent is and where its metadata came from; `selected`: bytes that are wanted."""
    files = file_count(torrent)
    size = format_size(torrent.size)
    if selected is not None and selected != torrent.size:
        size = f"{format_size(selected)} of {size}"
    if source in ("cache", "file", "url"):
        origin = f"from the {source if source != 'url' else 'URL'}"
    else:
        origin = f"metadata in {format_time(seconds)} {_ORIGINS.get(source, f'by {source}')}"
    return f"{torrent.name}: {size} in {_n(files, 'file')}, {origin}"


def file_count(torrent: Torrent) -> int:
    """Without those that only pad (BEP 47)."""
    return sum(not entry.pad for entry in torrent.info.files)


def label(status: TorrentStatus) -> str:
    """The name, as far as it fits, or the beginning of the hash, which is enough to tell torrents apart."""
    if status.name is None:
        return f"{status.info_hash}"[:_HASH_CHARS]
    return status.name if len(status.name) <= MAX_NAME_CHARS else status.name[: MAX_NAME_CHARS - 1] + "…"


def _n(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"
