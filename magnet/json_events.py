"""One JSON object a line on stdout, for scripts: the events of a command and their fields."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kademlia_bt.commands.console import emit
from magnet.link import MagnetLink
from magnet.reporter import PlainReporter
from magnet.status import TorrentStatus
from magnet.texts import file_count
from magnet.verdict import MagnetError, Phase, Verdict

if TYPE_CHECKING:
    from wire.ids import InfoHash
    from wire.metainfo import Torrent

__all__ = ["JsonReporter", "failed_event"]

_JSON_EVERY_S = 1.0


class JsonReporter(PlainReporter):
    """One JSON object a line on stdout (the contract's events); what it waits for, and errors, on stderr."""

    def __init__(
        self, *, verbose: bool = False, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(verbose=verbose, clock=clock)
        self._quiet = quiet
        self._event_at: dict[object, float] = {}
        self._made_at = clock()

    def _emit(self, info_hash: InfoHash, event: Mapping[str, object]) -> None:
        emit({**event, "info_hash": str(info_hash)} if self.several else event)

    def started(self, info_hash: InfoHash, name: str | None) -> None:
        emit({"event": "started", "info_hash": str(info_hash), "name": name})

    def metadata(self, torrent: Torrent, seconds: float, source: str, selected: int | None = None) -> None:
        self._emit(
            torrent.info.info_hash,
            {
                "event": "metadata",
                "seconds": round(seconds, 3),
                "name": torrent.name,
                "size": torrent.size,
                "files": file_count(torrent),
                "source": _json_source(source),
            },
        )

    def progress(self, status: TorrentStatus) -> None:
        if status.size is None:
            super().progress(status)
            return
        now = self._clock()
        if now < self._event_at.get(status.info_hash, self._made_at):
            return
        self._event_at[status.info_hash] = now + _JSON_EVERY_S
        self._emit(
            status.info_hash,
            {
                "event": "progress",
                "done": status.done,
                "size": status.size,
                "down_rate": round(status.down_rate),
                "up_rate": round(status.up_rate),
                "peers": status.peers,
            }
            | ({"web_seeds": status.web_seeds} if status.counts.web_seeds else {}),
        )

    def many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        known = [status for status in statuses if status.size is not None]
        for status in known:
            self.progress(status)
        if not known:
            super().many(summary, statuses)

    def resolved(self, torrent: Torrent, seconds: float, source: str, path: Path) -> None:
        emit(
            {
                "event": "resolved",
                "info_hash": str(torrent.info.info_hash),
                "name": torrent.name,
                "size": torrent.size,
                "seconds": round(seconds, 3),
                "source": _json_source(source),
                "torrent": str(path),
            },
        )

    def done(self, status: TorrentStatus, path: Path) -> None:
        event = {"event": "done", "seconds": round(status.elapsed_s, 3), "bytes": status.size, "path": str(path)}
        self._emit(status.info_hash, event)

    def seeding(self, addresses: Sequence[str], link: MagnetLink, status: TorrentStatus) -> None:
        event = {
            "event": "seeding",
            "address": next(iter(addresses), None),
            "addresses": list(addresses),
            "magnet": str(link),
        }
        self._emit(status.info_hash, event)

    def streaming(self, url: str, path: str, size: int) -> None:
        emit({"event": "streaming", "url": url, "path": path, "size": size})

    def failed(self, error: MagnetError, subject: str | None = None) -> None:
        emit(failed_event(error, subject))
        super().failed(error, subject)

    def interrupted(self, status: TorrentStatus | None) -> None:
        if status is not None:
            self._cancelled(status)
        super().interrupted(status)

    def interrupted_many(self, summary: str, statuses: Sequence[TorrentStatus]) -> None:
        for status in statuses:
            self._cancelled(status)
        super().interrupted_many(summary, statuses)

    def _cancelled(self, status: TorrentStatus) -> None:
        if status.phase is not Phase.SEEDING:
            emit(failed_event(MagnetError(Verdict.CANCELLED, status.counts, status.info_hash, "interrupted"), None))

    def _line(self, text: str) -> None:
        if not self._quiet:
            super()._line(text)


def failed_event(error: MagnetError, subject: str | None) -> Mapping[str, object]:
    """The contract's `failed` event."""
    event: dict[str, object] = {
        "event": "failed",
        "info_hash": None if error.info_hash is None else str(error.info_hash),
        "verdict": str(error.verdict),
        "reason": str(error),
    }
    if subject is not None:
        event["source"] = subject
    return event | error.counts.as_dict()


def _json_source(via: str) -> str:
    """In the words that scripts know: who connected to us, and was named by nobody, is a peer; what a .torrent file
    holds was here already, as what is in the cache."""
    return {"incoming": "peer", "file": "cache"}.get(via, via)
