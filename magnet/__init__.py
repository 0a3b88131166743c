"""From a magnet link to the files.

    import magnet
    torrent = magnet.resolve(link, timeout=60)      # blocking: the metadata, verified
    magnet.download(link, "downloads")              # blocking: the files

    async with magnet.Session() as session:         # trio
        handle = await session.add(link, directory="downloads")
        torrent = await handle.metadata()
        await handle.finished()

Names are imported when they are first used, so that a command that needs no network starts without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magnet.blocking import download, resolve
    from magnet.config import Config
    from magnet.events import Checked, Failed, Finished, MetadataReady, TorrentEvent
    from magnet.link import LinkError, MagnetLink
    from magnet.session import Session
    from magnet.status import TorrentStatus
    from magnet.torrent import TorrentHandle
    from magnet.verdict import Counts, DownloadError, Phase, ResolveError, Verdict
    from wire.swarm.values import Priority

__all__ = [
    "Checked",
    "Config",
    "Counts",
    "DownloadError",
    "Failed",
    "Finished",
    "LinkError",
    "MagnetLink",
    "MetadataReady",
    "Phase",
    "Priority",
    "ResolveError",
    "Session",
    "TorrentEvent",
    "TorrentHandle",
    "TorrentStatus",
    "Verdict",
    "download",
    "resolve",
]

_HOMES = {
    "magnet.blocking": ("download", "resolve"),
    "magnet.config": ("Config",),
    "magnet.events": ("Checked", "Failed", "Finished", "MetadataReady", "TorrentEvent"),
    "magnet.link": ("LinkError", "MagnetLink"),
    "magnet.session": ("Session",),
    "magnet.status": ("TorrentStatus",),
    "magnet.torrent": ("TorrentHandle",),
    "magnet.verdict": ("Counts", "DownloadError", "Phase", "ResolveError", "Verdict"),
    "wire.swarm.values": ("Priority",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
