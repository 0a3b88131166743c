"""What a torrent tells its user, step by step: frozen values without behaviour (BEP 9 and BEP 3 lend the words)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from magnet.verdict import DownloadError, ResolveError
from wire.metainfo import Torrent

__all__ = ["Checked", "Failed", "Finished", "MetadataReady", "TorrentEvent"]


@dataclass(frozen=True, slots=True)
class MetadataReady:
    """The info dictionary is known and verified against the info-hash."""

    torrent: Torrent
    seconds: float
    """Since the torrent was added."""
    source: str
    """Where the peer that gave it was found: "dht", "peer", ...; "cache" or "file" where no peer was needed."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was on disk already is verified; the download goes on from there."""

    have_bytes: int
    """Of the wanted files."""


@dataclass(frozen=True, slots=True)
class Finished:
    """All that was wanted is verified and on disk."""

    seconds: float
    """Since the torrent was added."""
    bytes: int
    """Size of the wanted files."""
    path: Path
    """The file, or the folder of a torrent with several."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing more will come; the error names the verdict and the counts behind it."""

    error: ResolveError | DownloadError


TorrentEvent = MetadataReady | Checked | Finished | Failed
