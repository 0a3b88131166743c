"""Finished files of other torrents that hold what a torrent lacks (BEP 38, BEP 52): found, tried, read, linked.

Blocking. What is offered here is likely, never certain: whoever takes it hashes it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from magnet.finished import MIN_FILE_BYTES, KeptFile, records
from wire.bitfield import Bitfield
from wire.errors import DiskError, MetainfoError
from wire.metainfo import Info, Torrent
from wire.metainfo.judge import is_right
from wire.metainfo.merkle import leaves_of, root_of
from wire.storage.pool import FilePool, Place
from wire.storage.raw import read_into

__all__ = ["Finder"]

_MAX_OFFERS = 64
"""Finished files that are thought of for one file, and"""
_MAX_TRIED = 8
"""those of them, the likeliest, of which a piece is read and hashed."""
_MAX_COMPARED = 200_000
"""Pairs of files: thousands of one size in both torrents must not keep a download waiting."""


@dataclass(frozen=True, slots=True, eq=False)
class _Donor:
    pool: FilePool
    place: Place

    def read(self, view: memoryview, offset: int) -> bool:
        try:
            with self.pool.use(self.place) as fd:
                return read_into(fd, view, offset) == len(view)
        except (OSError, DiskError):
            return False


class Finder:
    """The donors of one torrent's files. Blocking; `piece` for many threads."""

    def __init__(self, torrent: Torrent, directory: Path, have: Bitfield, wanted: Sequence[bool]) -> None:
        self._torrent, self._directory, self._have, self._wanted = torrent, directory, have, wanted
        self._info: Info = torrent.info
        self._pools: dict[str, FilePool] = {}
        self._donors: dict[int, _Donor] = {}

    def link(self, folder: Path) -> None:
        """Shares the content of donors with files that are not there yet, and closes the files."""
        ours = FilePool(self._directory)
        try:
            absent = {index for index in self._lacking() if not os.path.lexists(self._path(index))}
            offered = self._offers(folder, absent) if absent else {}
            for index in sorted(absent):
                entry = self._info.files[index]
                place = Place(entry.path, entry.size, 0o777 if entry.executable else 0o666)
                likely = (donor for _, donor in sorted(offered.get(index, []), key=lambda offer: offer[0])[:_MAX_TRIED])
                # The first that can be: any() asks no further.
                any(self._is_the_same(donor, index) and ours.share(place, donor.pool, donor.place) for donor in likely)
        finally:
            ours.close()
            self.close()

    def find(self, folder: Path) -> list[int]:
        """Finds a donor for each file that has one; the missing pieces that can be put together, ascending."""
        info, have = self._info, self._have
        lacking = self._lacking()
        if not lacking:
            return []
        offered = self._offers(folder, lacking)
        for index in sorted(lacking):
            for _, donor in sorted(offered.get(index, []), key=lambda offer: offer[0])[:_MAX_TRIED]:
                if self._fits(index, donor) is not False:
                    self._donors[index] = donor
                    break
        pieces = {piece for index in self._donors for piece in info.layout.pieces_of(index) if not have[piece]}
        return [piece for piece in sorted(pieces) if self._is_covered(piece)]

    def piece(self, index: int) -> bytearray | None:
        """The bytes of a piece out of the donors' files, not verified; None where they do not reach."""
        data = bytearray(self._info.piece_size(index))
        view, at = memoryview(data), 0
        for file_index, offset, length in self._info.spans(index * self._info.piece_length, len(data)):
            donor = self._donors.get(file_index)
            if donor is not None and not donor.read(view[at : at + length], offset):
                return None
            at += length  # a pad is zeros
        return data

    def close(self) -> None:
        """Closes the files."""
        for pool in self._pools.values():
            pool.close()

    def _lacking(self) -> set[int]:
        """The wanted files that are worth looking for."""
        return {
            index
            for index, entry in enumerate(self._info.files)
            if self._wanted[index]
            and entry.on_disk
            and entry.size >= MIN_FILE_BYTES
            and not all(self._have[piece] for piece in self._info.layout.pieces_of(index))
        }

    def _offers(self, folder: Path, lacking: set[int]) -> dict[int, list[tuple[int, _Donor]]]:
        """For each file those that may be the same, with how likely that is: the less, the better."""
        info, hints = self._info, self._torrent.hints
        hashes = {one for one in (info.info_hash.v1, info.info_hash.v2) if one is not None}
        offers: dict[int, list[tuple[int, _Donor]]] = {index: [] for index in lacking}
        alike: dict[bytes | int | str, list[int]] = {}  # by root, by size, by name
        for index in sorted(lacking):
            entry = info.files[index]
            for key in (entry.pieces_root, entry.size, entry.path[-1]):
                if key is not None:
                    alike.setdefault(key, []).append(index)
        left = _MAX_COMPARED
        for record in records(folder):
            hinted = bool(
                hashes.intersection((*record.hashes, *record.hints.similar))
                or set(hints.similar).intersection(record.hashes)
                or set(hints.collections).intersection(record.hints.collections)
            )
            for file in record.files:
                named = alike.get(file.path[-1], []) if hinted else []
                for index in {*alike.get(file.root, []), *alike.get(file.size, []), *named}:
                    left -= 1
                    rank = self._rank(index, file, hinted)
                    if rank is None or len(offers[index]) >= _MAX_OFFERS:
                        continue
                    donor = self._donor(record.directory, file)
                    if not self._is_itself(donor, index):
                        offers[index].append((rank, donor))
                if left <= 0:
                    return offers
        return offers

    def _rank(self, index: int, file: KeptFile, hinted: bool) -> int | None:
        """How likely a finished file is the wanted one, 0 being sure; None where it is another."""
        entry = self._info.files[index]
        same_name = file.path[-1] == entry.path[-1]
        if file.root and entry.pieces_root:
            if (file.root == entry.pieces_root) != (file.size == entry.size):
                return None
            if file.root == entry.pieces_root:
                return 0
        if hinted:
            return 1 if same_name else 2
        return 3 if same_name else 4

    def _donor(self, directory: str, file: KeptFile) -> _Donor:
        pool = self._pools.setdefault(directory, FilePool(Path(directory)))
        return _Donor(pool, Place(file.path, file.size))

    def _path(self, index: int) -> Path:
        return self._directory.joinpath(*self._info.files[index].path)

    def _is_the_same(self, donor: _Donor, index: int) -> bool:
        """By its size, now too, and its first piece."""
        try:
            with donor.pool.use(donor.place) as fd:
                size = os.fstat(fd).st_size
        except (OSError, DiskError):
            return False
        return size == donor.place.max_size == self._info.files[index].size and self._fits(index, donor) is True

    def _is_itself(self, donor: _Donor, index: int) -> bool:
        try:
            return os.path.samefile(donor.pool.path(donor.place), self._path(index))
        except (OSError, ValueError):
            return False

    def _fits(self, index: int, donor: _Donor) -> bool | None:
        """Whether the first piece that lies in the file alone is right; None where that cannot be told."""
        info = self._info
        for piece in info.layout.pieces_of(index):
            spans = list(info.spans(piece * info.piece_length, info.piece_size(piece)))
            if not all(file == index or info.files[file].pad for file, _, _ in spans):
                continue
            data = bytearray(info.piece_size(piece))
            view, at = memoryview(data), 0
            for file, offset, length in spans:
                if file == index and not donor.read(view[at : at + length], offset):
                    return False
                at += length
            tree = info.tree_piece(piece)
            if info.info_hash.v1 is None and (tree is None or tree.hash is None):
                return self._learn(index, donor)
            return is_right(info, piece, data)
        return None

    def _learn(self, index: int, donor: _Donor) -> bool:
        """Whether it is the file, whose piece hashes nobody has told yet (BEP 52): then they are known."""
        info, entry = self._info, self._info.files[index]
        view = memoryview(bytearray(info.piece_length))
        hashes = []
        for piece in info.layout.pieces_of(index):
            tree = info.tree_piece(piece)
            if tree is None or not donor.read(view[: tree.size], tree.number * info.piece_length):
                return False
            hashes.append(root_of(leaves_of(view[: tree.size]), tree.height))
        try:
            info.layers.add(entry.pieces_root or b"", b"".join(hashes))
        except MetainfoError:
            return False
        return True

    def _is_covered(self, piece: int) -> bool:
        info = self._info
        return all(
            file in self._donors or info.files[file].pad
            for file, _, _ in info.spans(piece * info.piece_length, info.piece_size(piece))
        )
