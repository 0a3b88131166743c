"""What a torrent is: .torrent files and info dictionaries (BEP 3, BEP 52)."""

from __future__ import annotations

from wire.metainfo.create import create
from wire.metainfo.files import FileEntry
from wire.metainfo.info import Info
from wire.metainfo.torrent import MAX_TORRENT_BYTES, Torrent

__all__ = ["MAX_TORRENT_BYTES", "FileEntry", "Info", "Torrent", "create"]
