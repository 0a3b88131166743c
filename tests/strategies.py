"""Hypothesis strategies that several rooms share: bencoded values, and small torrents with their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from wire.bencode import Encodable, Value, encode
from wire.metainfo import Info

__all__ = ["MadeTorrent", "bencode_values", "made_torrents", "near_bencode", "torrent_of"]


def bencode_values(max_leaves: int = 30) -> st.SearchStrategy[Value]:
    """Any value that bencode can hold."""
    leaves = st.integers() | st.integers(-(2**70), 2**70) | st.binary(max_size=40)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.binary(max_size=8), inner, max_size=6),
        max_leaves=max_leaves,
    )


def near_bencode() -> st.SearchStrategy[bytes]:
    """Bytes that look like bencode for a while: tokens strung together, and real values with a few bytes changed."""
    tokens = b"d l e i i0e i-0e i03e i-5e 0: 1:a 1:b 2:a 01:a -1: -5: 3:key 9999999999: i1_0e +1:a \xff".split()
    pieces = st.sampled_from([*tokens, b"i 1e", b"1 :a"])
    strung = st.lists(pieces, max_size=30).map(b"".join)

    def spoil(value: Value, changes: list[tuple[int, int]]) -> bytes:
        data = bytearray(encode(value))
        for at, byte in changes:
            data[at % len(data)] = byte
        return bytes(data)

    changes = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3)
    return strung | st.builds(spoil, bencode_values(), changes) | st.binary(max_size=60)


@dataclass(frozen=True)
class MadeTorrent:
    """A torrent and all its bytes, pieces laid end to end, pads included."""

    info: Info
    data: bytes

    def piece(self, index: int) -> bytes:
        start = index * self.info.piece_length
        return self.data[start : start + self.info.piece_size(index)]

    def file(self, index: int) -> bytes:
        entry = self.info.files[index]
        return self.data[entry.offset : entry.offset + entry.size]


def torrent_of(
    sizes: Sequence[int], piece_length: int = 16, *, pads: Sequence[int] = (), seed: int = 0, name: bytes = b"top"
) -> MadeTorrent:
    """A multi-file v1 torrent with files of these sizes; `pads` are the indices of pads. Same seed, same bytes."""
    data = bytearray()
    files: list[Encodable] = []
    for index, size in enumerate(sizes):
        if index in pads:
            data += bytes(size)
            files.append({"attr": b"p", "length": size, "path": [b".pad", str(size).encode()]})
        else:
            data += hashlib.shake_128(f"{seed} {index}".encode()).digest(size)
            folder = [b"sub", b"deep"][: index % 3]
            files.append({"length": size, "path": [*folder, f"file{index}".encode()]})
    hashes = [
        hashlib.sha1(data[at : at + piece_length], usedforsecurity=False).digest()
        for at in range(0, len(data), piece_length)
    ]
    info: dict[str, Encodable] = {"name": name, "piece length": piece_length, "files": files}
    info["pieces"] = b"".join(hashes)
    return MadeTorrent(Info.from_bytes(encode(info)), bytes(data))


def made_torrents(max_files: int = 5, max_size: int = 70) -> st.SearchStrategy[MadeTorrent]:
    """Small torrents: some files, empty ones among them, some pads, pieces of 8 to 32 bytes."""
    sizes = st.lists(st.integers(0, max_size) | st.sampled_from([0, 16, 32]), min_size=1, max_size=max_files)
    return st.builds(
        lambda sizes, length, pads, seed: torrent_of(sizes, length, pads=pads, seed=seed),
        sizes,
        st.sampled_from([8, 13, 16, 32]),
        st.sets(st.integers(1, max_files), max_size=2).map(sorted),
        st.integers(0, 3),
    )
