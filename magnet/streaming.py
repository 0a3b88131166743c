"""Reading a torrent's files while they are fetched: what is read next is needed first. No HTTP here.

A `FileReader` stands at one place of one file. It tells the swarm by when it needs the pieces ahead of it,
waits for each, and reads what is verified from the store. What two readers need is not forgotten when one leaves.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import trio

from magnet.subtitles import goes_with, is_subtitle
from wire.errors import MisuseError
from wire.metainfo import Info

__all__ = ["FileReader", "PieceSource", "StreamedFile", "Streams", "choose_files", "files_that_match", "is_media"]

_AHEAD_BYTES = 16 << 20
"""How far ahead of a reader pieces have a deadline: some seconds of the best video, a fraction of any memory."""
_MIN_AHEAD_PIECES = 3
"""However large the pieces are."""
_PACE_S = 0.25
"""Between the deadlines of neighbouring pieces: only their order and what comes within a second matters."""
_LEAD_BYTES = 1 << 20
_TAIL_BYTES = 256 << 10
"""Players look at the begin and the end of a file first: fetched early, whether somebody asks yet or not."""
_MAX_SUBTITLES = 50
"""Languages of one film."""
_EARLY_S = 30.0
"""The deadline of these: after all that is really asked for."""
CHUNK_BYTES = 256 << 10
"""Read from the store at a time."""
_MEDIA = re.compile(
    r"\.(mkv|mp4|m4v|webm|avi|mov|mpe?g|ts|m2ts|wmv|flv|og[gva]|opus|mp3|m4[ab]|flac|wav|aac|wma)$", re.IGNORECASE
)


class PieceSource(Protocol):
    """What a reader asks of a torrent that is being downloaded."""

    def has(self, piece: int) -> bool:
        """Whether it is verified and stored."""
        ...

    async def wait(self, piece: int) -> None:
        """Returns when it is. Raises MagnetError where the torrent ended before."""
        ...

    def need(self, at: Mapping[int, float | None]) -> None:
        """By when each of these pieces is needed, on trio's clock; None: not any more."""
        ...

    async def read(self, piece: int, begin: int, length: int) -> bytes:
        """Bytes of a piece that is stored. Raises DiskError."""
        ...


@dataclass(frozen=True, slots=True)
class StreamedFile:
    """A file that can be read."""

    index: int
    path: tuple[str, ...]
    """Safe parts, relative to the folder of the download."""
    size: int
    offset: int
    """Where it starts in the pieces laid end to end, in bytes."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path[-1]


class Streams:
    """The files of one torrent for readers, and who needs which piece."""

    def __init__(self, info: Info, wanted: Sequence[bool], source: PieceSource) -> None:
        """`wanted`: a flag a file of the torrent; only these can be read."""
        self.info = info
        self.files = tuple(
            StreamedFile(index, entry.path, entry.size, entry.offset)
            for index, entry in enumerate(info.files)
            if wanted[index] and entry.on_disk
        )
        self.source = source
        self._needed: dict[FileReader | None, dict[int, float]] = {}
        self._prepare()

    def file(self, index: int) -> StreamedFile | None:
        """The file of that index in the torrent; None where it cannot be read."""
        return next((file for file in self.files if file.index == index), None)

    @property
    def in_order(self) -> list[StreamedFile]:
        """The files as people look for them: what is played first, then its subtitles and all else."""
        return sorted(self.files, key=lambda file: not is_media(file.name))

    def subtitles(self, film: StreamedFile) -> list[StreamedFile]:
        """Those of one of its files."""
        found = subtitles_of(self.files.index(film), [(file.path, file.size) for file in self.files])
        return [self.files[place] for place in found]

    def reader(self, file: StreamedFile, start: int) -> FileReader:
        """A reader at a place of a file; use it as a context manager."""
        return FileReader(self, file, start)

    def pieces(self, file: StreamedFile, start: int, stop: int) -> range:
        """The pieces that hold a part of a file."""
        if start >= stop:
            return range(0)
        length = self.info.piece_length
        return range((file.offset + start) // length, (file.offset + stop - 1) // length + 1)

    def need(self, reader: FileReader | None, pieces: Sequence[int], start_at: float) -> None:
        """A reader needs these next and no others any more, the first at `start_at`."""
        before = self._needed.get(reader, {})
        now = {
            piece: before.get(piece, start_at + _PACE_S * place)
            for place, piece in enumerate(pieces)
            if not self.source.has(piece)
        }
        if pieces and pieces[0] in now:
            now[pieces[0]] = start_at
        self._needed[reader] = now
        if not now:
            del self._needed[reader]
        changed = [piece for piece in before.keys() | now.keys() if before.get(piece) != now.get(piece)]
        if changed:
            others = self._needed.values()
            self.source.need(
                {
                    piece: min((times[piece] for times in others if piece in times), default=None)
                    for piece in changed
                    if not self.source.has(piece)
                }
            )

    def _prepare(self) -> None:
        early: dict[int, None] = {}
        for file in self.in_order[:1]:
            early.update(dict.fromkeys(self.pieces(file, 0, min(file.size, _LEAD_BYTES))))
            early.update(dict.fromkeys(self.pieces(file, max(0, file.size - _TAIL_BYTES), file.size)))
        self.need(None, list(early), trio.current_time() + _EARLY_S)


class FileReader:
    """A place in a file, from which one task reads on, by `read` or `async for`.

    A context manager: outside it nothing is needed for it.
    """

    def __init__(self, streams: Streams, file: StreamedFile, start: int) -> None:
        self._streams = streams
        self._file = file
        self.at = start
        """Where the next byte comes from."""

    def __enter__(self) -> Self:
        self._look_ahead()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._streams.need(self, (), 0.0)

    def seek(self, at: int) -> None:
        """Goes to a place of the file, in bytes from its begin; what is there is asked for at once, before all else.

        Beyond the end nothing is read. Raises MisuseError where `at` is negative.
        """
        if at < 0:
            raise MisuseError(f"there is no byte {at} of a file")
        self.at = at
        self._look_ahead()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """What `read` gives, until the end of the file."""
        if data := await self.read():
            return data
        raise StopAsyncIteration

    async def read(self, most_bytes: int = CHUNK_BYTES) -> bytes:
        """The next bytes, of one piece at most; waits for them; empty at the end of the file.

        Raises MagnetError where the torrent ended, DiskError where the store cannot be read.
        """
        streams, length = self._streams, self._streams.info.piece_length
        piece, begin = divmod(self._file.offset + self.at, length)
        count = min(most_bytes, length - begin, self._file.size - self.at)
        if count <= 0:
            return b""
        if not streams.source.has(piece):
            self._look_ahead()
            await streams.source.wait(piece)
        data = await streams.source.read(piece, begin, count)
        before = self.at
        self.at += len(data)
        if before // length != self.at // length:
            self._look_ahead()
        return data

    def _look_ahead(self) -> None:
        streams, file = self._streams, self._file
        reach = max(_AHEAD_BYTES, _MIN_AHEAD_PIECES * streams.info.piece_length)
        streams.need(self, streams.pieces(file, self.at, min(file.size, self.at + reach)), trio.current_time())


def is_media(name: str) -> bool:
    """Whether it looks like something that is played."""
    return _MEDIA.search(name) is not None


def files_that_match(info: Info, patterns: Sequence[str]) -> list[bool]:
    """A flag a file: whether one of the shell patterns matches its path or name, in any case.

    Raises MisuseError where no file does.
    """
    folded = [pattern.casefold() for pattern in patterns]
    chosen = [
        file.on_disk
        and any(
            fnmatch.fnmatchcase(name.casefold(), pattern)
            for pattern in folded
            for name in ("/".join(file.path), "/".join(file.path[1:]), file.path[-1])
        )
        for file in info.files
    ]
    if not any(chosen):
        raise MisuseError(f"no file of {info.name!r} matches {' or '.join(patterns)}")
    return chosen


def choose_files(info: Info, patterns: Sequence[str]) -> list[bool]:
    """Which files are streamed: those that match. Without patterns the largest that can be played, or of all; and what
    subtitles it has.
    """
    if patterns:
        return files_that_match(info, patterns)
    best = max(
        (index for index, entry in enumerate(info.files) if entry.on_disk),
        key=lambda index: (is_media(info.files[index].path[-1]), info.files[index].size),
        default=None,
    )
    chosen = [index == best for index in range(len(info.files))]
    if best is not None and is_media(info.files[best].path[-1]):
        for index in subtitles_of(best, [(entry.path, entry.size) for entry in info.files]):
            chosen[index] = info.files[index].on_disk
    return chosen


def subtitles_of(film: int, files: Sequence[tuple[tuple[str, ...], int]]) -> list[int]:
    """Which of the files, each a path and a size, are the subtitles of one of them; the first 50."""
    path = files[film][0]
    beside = [other for other, _ in files if other[: len(path) - 1] == path[:-1] and is_media(other[-1])]
    return [
        index
        for index, (other, size) in enumerate(files)
        if is_subtitle(other[-1], size) and goes_with(other, path, len(beside) - 1)
    ][:_MAX_SUBTITLES]
