"""Why a torrent did not come: the counts of what was tried, the verdict they lead to, and the line that says it.

The names of the verdicts and counts are part of the contract with scripts (`--json`, `ResolveError.verdict`).
Everything here is a pure function of values; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from wire.errors import DiskError, MisuseError, NetworkError, ProtocolError, WorldError
from wire.ids import InfoHash

__all__ = ["Counts", "DownloadError", "MagnetError", "Phase", "ResolveError", "Verdict", "decide", "explain"]


class Phase(StrEnum):
    """How far a torrent is. Each goes on to the next; `FAILED` and `CANCELLED` are ends."""

    METADATA = "metadata"
    """Looking for peers and their metadata (BEP 9)."""
    CHECKING = "checking"
    """Verifying what is on the disk already."""
    DOWNLOADING = "downloading"
    SEEDING = "seeding"
    """All wanted files are there and verified; others are served."""
    FAILED = "failed"
    CANCELLED = "cancelled"


class Verdict(StrEnum):
    """Why it ended without what was asked for."""

    DHT_UNREACHABLE = "dht_unreachable"
    """No router and no node ever answered, and no other source gave a peer."""
    NO_PEERS = "no_peers"
    """The DHT answered, but nobody is known to share this torrent."""
    PEERS_UNREACHABLE = "peers_unreachable"
    """Peers are known, but none could be connected to."""
    NO_METADATA_PEERS = "no_metadata_peers"
    """Peers were connected, but none gave the metadata."""
    BAD_METADATA = "bad_metadata"
    """What peers gave as metadata does not match the info-hash."""
    STALLED = "stalled"
    """Peers were there and the download began, but nothing new came any more."""
    DISK = "disk"
    """A file could not be read or written."""
    BAD_INPUT = "bad_input"
    """The link, file, address or option cannot be used."""
    CANCELLED = "cancelled"
    """The user or the program stopped it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was tried for one torrent, and what came of it. All are totals since it was added."""

    dht: bool = True
    """Whether the DHT was asked at all (not with `--no-dht`, not for a private torrent)."""
    routers_tried: int = 0
    """Addresses of bootstrap nodes that were asked, and names of such that could not be resolved."""
    routers_answered: int = 0
    nodes_asked: int = 0
    """DHT nodes asked for this torrent (or, before that, while joining)."""
    nodes_answered: int = 0
    trackers_asked: int = 0
    """Trackers asked for this torrent, and how many of them ever gave an answer."""
    trackers_answered: int = 0
    found: Mapping[str, int] = field(default_factory=dict)
    """Distinct peer addresses by the source that named them first: dht, tracker, peer (a person, a link), pex, lsd."""
    dialled: int = 0
    connected: int = 0
    """Handshakes completed, ever."""
    refused: int = 0
    timed_out: int = 0
    handshake_failed: int = 0
    without_metadata: int = 0
    """Connected peers that do not speak ut_metadata (BEP 9), or do not have the metadata."""
    metadata_rejected: int = 0
    metadata_hash_failures: int = 0
    piece_hash_failures: int = 0
    banned: int = 0
    blocked: int = 0
    """What the block list refused: addresses that were named, dials, connections and datagrams."""
    web_seeds: int = 0
    """Web seeds that were tried (BEP 19), and how many of them failed: are given up, or rest after a failure."""
    web_seeds_failed: int = 0
    web_seed_reason: str | None = None
    """Why the last of these did."""

    @property
    def found_total(self) -> int:
        """Distinct peer addresses from all sources."""
        return sum(self.found.values())

    def as_dict(self) -> dict[str, object]:
        """For JSON: every count by its name, `found` as an object."""
        row: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "web_seed_reason"}
        row["found"] = dict(self.found)
        return row


class MagnetError(WorldError):
    """A torrent that did not come. `str(error)` is one line with the counts and what to do."""

    def __init__(
        self, verdict: Verdict, counts: Counts, info_hash: InfoHash | None = None, reason: str | None = None
    ) -> None:
        super().__init__(reason or explain(verdict, counts))
        self.verdict = verdict
        self.counts = counts
        self.info_hash = info_hash


class ResolveError(MagnetError):
    """The metadata was not found, or not in time."""


class DownloadError(MagnetError):
    """The metadata is there, but the files could not be completed."""


def decide(counts: Counts, phase: Phase, error: BaseException | None = None) -> Verdict:
    """The verdict on a torrent that ends in `phase`: by what failed, else by the first stage that gave nothing.

    A NetworkError is bad input: the only one that reaches a torrent is an address to listen on that cannot be used.
    """
    if error is not None:
        if isinstance(error, MagnetError):
            return error.verdict
        if isinstance(error, (DiskError, OSError)):
            return Verdict.DISK
        if isinstance(error, (ProtocolError, MisuseError, NetworkError)):
            return Verdict.BAD_INPUT
        return Verdict.CANCELLED
    if phase is Phase.CANCELLED:
        return Verdict.CANCELLED
    if phase is not Phase.METADATA and counts.web_seeds:
        return Verdict.STALLED
    if counts.connected == 0:
        if counts.found_total > 0:
            return Verdict.PEERS_UNREACHABLE
        answered = counts.nodes_answered or counts.routers_answered or counts.trackers_answered
        if counts.dht and not answered:
            return Verdict.DHT_UNREACHABLE
        return Verdict.NO_PEERS
    if phase is Phase.METADATA:
        return Verdict.BAD_METADATA if counts.metadata_hash_failures else Verdict.NO_METADATA_PEERS
    return Verdict.STALLED


def explain(verdict: Verdict, counts: Counts) -> str:
    """One line: what happened, the counts that show it, and what to do."""
    match verdict:
        case Verdict.DHT_UNREACHABLE:
            tried = f"{_n(counts.routers_tried, 'router')} and {_n(counts.nodes_asked, 'node')} asked, none answered"
            if counts.routers_tried == 0 and counts.nodes_asked == 0:
                tried = "no router's name could be resolved and no other node is known"
            if counts.trackers_asked:
                tried += f"; {_trackers(counts)}"
            return (
                f"the DHT cannot be reached: {tried}. Check the network and that UDP may pass, "
                "or name a node with --bootstrap HOST:PORT or a peer with --peer HOST:PORT"
            )
        case Verdict.NO_PEERS if not counts.dht:
            trackers = _trackers(counts) if counts.trackers_asked else "no other source named one"
            return f"no peers: the DHT was not asked, {trackers}. Name a peer with --peer HOST:PORT"
        case Verdict.NO_PEERS:
            trackers = f", {_trackers(counts)}" if counts.trackers_asked else ""
            return (
                f"no peers: {_dht(counts)}{trackers}, none of them knows anybody who shares this torrent. "
                "Check the info-hash, try later, or name a peer with --peer HOST:PORT"
            )
        case Verdict.PEERS_UNREACHABLE:
            ways = [
                f"{counts.refused} refused" if counts.refused else "",
                f"{counts.timed_out} did not answer" if counts.timed_out else "",
                f"{counts.handshake_failed} broke off the handshake" if counts.handshake_failed else "",
            ]
            return (
                f"no peer could be connected: {_found(counts)}, {counts.dialled} dialled{_tail(ways)}. "
                "They may be offline or behind a firewall: try later or with a longer --timeout"
            )
        case Verdict.NO_METADATA_PEERS:
            ways = [
                f"{counts.without_metadata} have none to give" if counts.without_metadata else "",
                f"{_n(counts.metadata_rejected, 'request')} rejected" if counts.metadata_rejected else "",
            ]
            return (
                f"no peer gave the metadata: {_found(counts)}, {counts.connected} connected{_tail(ways)}. "
                "Try later or with a longer --timeout; a .torrent file needs no metadata from peers"
            )
        case Verdict.BAD_METADATA:
            return (
                f"the metadata that peers gave does not match the info-hash: {counts.connected} connected, "
                f"{_n(counts.metadata_hash_failures, 'wrong copy', 'wrong copies')}, {counts.banned} banned. "
                "Check the info-hash, or name an honest peer with --peer HOST:PORT"
            )
        case Verdict.STALLED:
            ways = [
                f"{_n(counts.piece_hash_failures, 'corrupt piece')}" if counts.piece_hash_failures else "",
                f"{counts.banned} banned" if counts.banned else "",
                _web_seeds(counts),
            ]
            return (
                f"stalled: nothing new came in time; {_found(counts)}, {counts.connected} connected{_tail(ways)}. "
                "What is verified is kept: run the same command again to go on"
            )
        case Verdict.DISK:
            return "a file could not be read or written; what is verified is kept"
        case Verdict.BAD_INPUT:
            return "the input cannot be used"
        case Verdict.CANCELLED:
            return "cancelled; what is verified is kept: run the same command again to go on"


def _n(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {many or one + 's'}"


def _dht(counts: Counts) -> str:
    return f"{counts.nodes_answered} of {_n(counts.nodes_asked, 'DHT node')} answered"


def _trackers(counts: Counts) -> str:
    return f"{counts.trackers_answered} of {_n(counts.trackers_asked, 'tracker')} answered"


def _web_seeds(counts: Counts) -> str:
    if not counts.web_seeds:
        return ""
    why = f" ({counts.web_seed_reason})" if counts.web_seed_reason else ""
    return f"{counts.web_seeds_failed} of {_n(counts.web_seeds, 'web seed')} failed{why}"


def _found(counts: Counts) -> str:
    by = ", ".join(f"{n} by {via}" for via, n in sorted(counts.found.items()) if n)
    total = f"{_n(counts.found_total, 'peer')} found"
    return f"{total} ({by})" if by else total


def _tail(parts: list[str]) -> str:
    return "".join(f", {part}" for part in parts if part)
