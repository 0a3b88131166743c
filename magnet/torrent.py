"""One torrent from its link to its finished files, as its user holds it: the handle, and what it tells.

The work is done by tasks of the session; a handle waits for them, asks them and ends them. The
connections that brought the metadata (BEP 9) go on to bring the pieces (BEP 3).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from magnet.link import MagnetLink
from magnet.status import TorrentStatus
from magnet.verdict import DownloadError, ResolveError
from wire.ids import InfoHash
from wire.metainfo import Torrent

__all__ = ["Checked", "Failed", "Finished", "MetadataReady", "TorrentEvent", "TorrentHandle"]


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


class TorrentHandle:
    """A torrent in a session. Made by `Session.add`; all its methods are for trio tasks of the same run."""

    @property
    def info_hash(self) -> InfoHash:
        """Names the torrent; a link's hash gains its other version once the metadata is known."""
        raise NotImplementedError

    @property
    def link(self) -> MagnetLink:
        """The link that leads here: the given one, or one made of the metadata (BEP 9)."""
        raise NotImplementedError

    @property
    def path(self) -> Path:
        """The file or folder that is written: below the directory given to `add`; the directory itself
        until the metadata is known."""
        raise NotImplementedError

    @property
    def metadata_via(self) -> str | None:
        """Where the peer that gave the metadata was found ("dht", "peer", ...), or "cache" or "file"; None before."""
        raise NotImplementedError

    async def metadata(self) -> Torrent:
        """Waits for the verified metadata. Raises ResolveError."""
        raise NotImplementedError

    async def finished(self) -> None:
        """Waits until all that is wanted is verified and on disk; the torrent goes on seeding until removed.

        Raises ResolveError where the metadata never came, DownloadError for what failed later.
        """
        raise NotImplementedError

    def status(self) -> TorrentStatus:
        """A snapshot of now."""
        raise NotImplementedError

    def events(self) -> AsyncIterator[TorrentEvent]:
        """What happens, from the beginning, each event once for each caller; ends after `Failed` or `remove`."""
        raise NotImplementedError

    async def remove(self) -> None:
        """Stops it: connections closed, resume data saved; files stay. Returns when nothing of it is left running."""
        raise NotImplementedError
