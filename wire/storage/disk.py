"""A torrent's pieces in files: written whole and verified, read in batches, remembered between runs (BEP 3, BEP 47).

Each call is one hop into a thread of a small pool of its own, where hashing, reading and writing let go
of the interpreter's lock. What is remembered, and how far it is believed, is `resume`'s business; how
files are opened without ever leaving the folder is `pool`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wire.bitfield import Bitfield
from wire.metainfo import Info
from wire.storage.store import Progress

__all__ = ["DiskStore"]


class DiskStore:
    """A `Store` below a folder."""

    def __init__(
        self,
        info: Info,
        root: Path,
        *,
        resume: Path | None = None,
        wanted: Sequence[bool] | None = None,
        read_only: bool = False,
    ) -> None:
        """Nothing is touched before `load`.

        Args:
            info: The torrent; one with a v1 side.
            root: The folder of the download; the torrent's own folder or file comes to lie in it.
            resume: Where to remember what was verified; None rechecks everything each time.
            wanted: For each file entry, whether it is to be written; None wants all. What a wanted piece holds of
                another file goes to a file beside `resume`.
            read_only: Nothing is made, changed or remembered, as for seeding and checking; `put` is misuse then.

        Raises:
            MisuseError: The torrent is v2-only, or `wanted` is not as long as the list of files.
        """
        raise NotImplementedError

    @property
    def info(self) -> Info:
        """The torrent."""
        raise NotImplementedError

    async def load(self, progress: Progress | None = None) -> Bitfield:
        """See `Store.load`: believes what is remembered and unchanged, rechecks the rest on all cores."""
        raise NotImplementedError

    async def put(self, index: int, data: memoryview | bytearray | bytes) -> bool:
        """See `Store.put`: hashed, written and remembered in one thread hop."""
        raise NotImplementedError

    async def read_many(self, requests: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """See `Store.read_many`: one thread hop for all."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        raise NotImplementedError
