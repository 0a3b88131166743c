"""The piece hashes of a version 2 torrent, as far as they are known (BEP 52).

A file of one piece needs none: its root in the info dictionary is the piece's hash. Of a larger one the layer of piece
hashes stands beside the info dictionary in a .torrent, or comes from peers, or follows from the pieces themselves
once all are there. Nothing gets in here that does not give the file's root.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wire.errors import MetainfoError
from wire.metainfo.files import FileEntry, shown
from wire.metainfo.merkle import HASH_BYTES, root_of_layer

__all__ = ["PieceLayers"]


class PieceLayers:
    """The layers of one torrent, by pieces root. It only grows; threads may use it side by side."""

    def __init__(self, files: Iterable[FileEntry], piece_length: int) -> None:
        """Raises MetainfoError where two files of different sizes have one root, which no two such files have."""
        self.piece_length = piece_length
        self._counts: dict[bytes, int] = {}
        """Of each file larger than a piece, how many pieces it has."""
        self._names: dict[bytes, str] = {}
        self._known: dict[bytes, bytes] = {}
        self._computed: dict[bytes, dict[int, bytes]] = {}
        sizes: dict[bytes, int] = {}
        for entry in files:
            root = entry.pieces_root
            if root is None:
                continue
            if sizes.setdefault(root, entry.size) != entry.size:
                raise MetainfoError(f"{shown(entry.shown_path)} has the pieces root of a file of another size")
            if entry.size > piece_length:
                self._counts[root] = -(-entry.size // piece_length)
                self._names.setdefault(root, entry.shown_path)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Pieces root and layer, in the order of the roots: as a .torrent has them."""
        return iter(sorted(self._known.items()))

    def __len__(self) -> int:
        return len(self._known)

    def pieces_of(self, root: bytes) -> int | None:
        """How many pieces the file of this root has; None where no file here needs a layer of that name."""
        return self._counts.get(root)

    def get(self, root: bytes) -> bytes | None:
        """The hashes of the file's pieces laid end to end, where they are known."""
        return self._known.get(root)

    def missing(self) -> list[bytes]:
        """The roots of the files whose layer is needed and not known."""
        return [root for root in self._counts if root not in self._known]

    @property
    def complete(self) -> bool:
        """Every file that needs a layer has one."""
        return len(self._known) == len(self._counts)

    def add(self, root: bytes, layer: bytes) -> None:
        """Takes in the layer of a file. Raises MetainfoError where it is not the one, or none is needed."""
        count = self._counts.get(root)
        if count is None:
            raise MetainfoError("the torrent has a piece layer for a file of a single piece")
        if len(layer) != count * HASH_BYTES:
            raise MetainfoError(f"a piece layer of the torrent does not hold the {count} hashes of its file")
        if root not in self._known:
            if root_of_layer(layer, self.piece_length) != root:
                raise MetainfoError("a piece layer of the torrent does not give its file's pieces root")
            self._known[root] = bytes(layer)
            self._computed.pop(root, None)

    def compute(self, root: bytes, number: int, piece_hash: bytes) -> None:
        """Takes the hash of a piece of a file whose layer is not known; the piece was found right another way.

        Once all of a file's are there they are its layer. Raises MetainfoError where they do not give its root: then
        the two sides of the hybrid torrent are not about the same bytes.
        """
        if root in self._known:
            return
        # Without a lock: each step is whole by itself, and two threads that both see the last piece find the same.
        hashes = self._computed.setdefault(root, {})
        hashes[number] = piece_hash
        if len(hashes) < self._counts[root]:
            return
        self._computed.pop(root, None)
        layer = b"".join(hashes[at] for at in range(len(hashes)))
        if root_of_layer(layer, self.piece_length) != root:
            raise MetainfoError(
                f"the hybrid torrent contradicts itself: what its version 1 hashes say of {shown(self._names[root])} "
                "is not what its version 2 hashes say"
            )
        self._known[root] = layer
