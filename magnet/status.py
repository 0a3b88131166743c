"""What a torrent is doing, as one frozen snapshot; and the line that says what it waits for.

The session makes snapshots, commands show them. BEP 9 and BEP 5 lend the words; no I/O here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from magnet.verdict import Counts, Phase, Verdict
from wire.ids import InfoHash

__all__ = ["TorrentStatus", "waiting_line"]


@dataclass(frozen=True, slots=True)
class TorrentStatus:
    """A torrent at one moment. Sizes in bytes, rates in bytes a second, times in seconds since it was added."""

    info_hash: InfoHash
    phase: Phase
    elapsed_s: float = 0.0
    name: str | None = None
    """None until it is known from the link or the metadata."""
    size: int | None = None
    """Bytes of the wanted files; None until the metadata is there."""
    done: int = 0
    """Verified bytes of the wanted files."""
    files: int | None = None
    """Number of files in the torrent, padding left out."""
    pieces_done: int = 0
    pieces_total: int = 0
    checked: float = 0.0
    """While checking: how much of the data was looked at, 0 to 1."""
    down_rate: float = 0.0
    up_rate: float = 0.0
    downloaded: int = 0
    """Payload bytes received in this run, wasted ones included."""
    uploaded: int = 0
    wasted: int = 0
    peers: int = 0
    """Connected now."""
    seeds: int = 0
    """Those of them that have everything."""
    web_seeds: int = 0
    """Web seeds that give what they are asked for, as far as is known (BEP 19); no peers."""
    metadata_s: float | None = None
    """When the metadata was verified; None before that."""
    metadata_source: str | None = None
    """Where the metadata came from: dht, tracker, peer, pex, lsd, cache or url (contract)."""
    trouble: str | None = None
    """Why the proxy lets nothing through now, or no datagrams; None where all is well."""
    quiet_s: float = 0.0
    """How long nothing new has come: no peer, no metadata, no byte."""
    counts: Counts = field(default_factory=Counts)
    verdict: Verdict | None = None
    """Set when the phase is FAILED or CANCELLED."""
    reason: str | None = None
    """The line for people that goes with the verdict."""

    @property
    def progress(self) -> float:
        """Part of the wanted bytes that is verified, 0 to 1; 0 while the size is unknown."""
        if self.size is None:
            return 0.0
        return 1.0 if self.size == 0 else min(1.0, self.done / self.size)

    @property
    def givers(self) -> str:
        """Who gives, for people: `2 peers and 1 web seed`."""
        web = _n(self.web_seeds, "web seed")
        if not self.web_seeds:
            return _n(self.peers, "peer")
        return f"{_n(self.peers, 'peer')} and {web}" if self.peers else web

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the present rate; None where that cannot be said."""
        if self.size is None or self.down_rate < 1.0:
            return None
        return max(0.0, (self.size - self.done) / self.down_rate)


def waiting_line(status: TorrentStatus) -> str:
    """What it is doing or waiting for, with the counts: one line without the name, for people."""
    counts = status.counts
    if status.phase is Phase.CHECKING:
        return f"checking what is there: {status.checked:.0%}"
    if status.phase is Phase.SEEDING:
        return f"seeding: {_n(status.peers, 'peer')} connected"
    if status.phase in (Phase.FAILED, Phase.CANCELLED):
        return status.reason or str(status.verdict or status.phase)
    if status.trouble is not None and not status.peers:
        return status.trouble
    if status.web_seeds and not status.peers and status.phase is Phase.DOWNLOADING:
        return f"{_n(status.web_seeds, 'web seed')}, waiting for data"
    if status.peers:
        if status.phase is Phase.DOWNLOADING:
            return f"{_n(status.peers, 'peer')} connected ({_n(status.seeds, 'seed')}), waiting for data"
        extra = "".join(
            f", {n} {what}"
            for n, what in (
                (counts.without_metadata, "without it"),
                (counts.metadata_rejected, "rejections"),
                (counts.metadata_hash_failures, "wrong copies"),
            )
            if n
        )
        return f"waiting for metadata: {_n(status.peers, 'peer')} connected{extra}"
    if counts.found_total:
        failed = counts.refused + counts.timed_out + counts.handshake_failed
        tail = f", {failed} failed" if failed else ""
        return f"waiting for a peer: {counts.found_total} found, {counts.dialled} dialled{tail}"
    if counts.trackers_asked and not (counts.nodes_answered or counts.routers_answered):
        return (
            f"waiting for a peer: {counts.trackers_answered} of {_n(counts.trackers_asked, 'tracker')} answered, "
            "no peers yet"
        )
    if not counts.dht:
        return "waiting for a peer: the DHT is off, no other source named one yet"
    if counts.nodes_answered or counts.routers_answered:
        return f"searching the DHT: {counts.nodes_answered} of {_n(counts.nodes_asked, 'node')} answered, no peers yet"
    if not counts.nodes_asked and not counts.routers_tried:
        return "joining the DHT: no node's address is known yet"
    return (
        f"joining the DHT: {_n(counts.routers_tried, 'router')} and {_n(counts.nodes_asked, 'node')} asked, "
        "no answer yet"
    )


def _n(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"
