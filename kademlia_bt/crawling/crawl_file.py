"""The file of a crawl: one JSON line a node that answered. The result, and all that a later run needs to go on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO

from kademlia_bt.crawling.crawl import Finding
from wire.errors import DiskError, ProtocolError

__all__ = ["CrawlFile"]

_MAX_LINE_BYTES = 1 << 16
"""A line has some 5,000 bytes at the most."""
_BEGIN = b'{"at":'


class CrawlFile:
    """Open from `with` to its end. What is not whole lines of a crawl is never written over. Raises DiskError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> CrawlFile:
        try:
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def read(self) -> Iterator[Finding]:
        """What earlier runs wrote; a last line that was cut off when one was killed is removed from the file.

        Raises DiskError, and ProtocolError where the file is another's: then nothing was changed.
        """
        assert self._file is not None
        if not self.path.is_file():  # a pipe, a terminal: nothing of earlier runs is in it
            return
        try:
            with self.path.open("rb") as file:
                whole_bytes = 0
                for number in count(1):
                    line = file.readline(_MAX_LINE_BYTES)
                    if not line:
                        return
                    if not line.endswith(b"\n") and (whole_bytes or _BEGIN.startswith(line[: len(_BEGIN)])):
                        self._file.truncate(whole_bytes)
                        return
                    yield self._finding(line, number)
                    whole_bytes += len(line)
        except OSError as error:
            raise DiskError(f"cannot read {self.path}: {error.strerror or error}") from None

    def _finding(self, line: bytes, number: int) -> Finding:
        try:
            return Finding.from_line(line.decode())
        except (ProtocolError, UnicodeDecodeError):
            raise ProtocolError(f"{self.path} is no file of a crawl: see its line {number}") from None

    def write(self, finding: Finding) -> None:
        """Adds a line, at once."""
        assert self._file is not None
        data = finding.to_line().encode() + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror or error}") from None
