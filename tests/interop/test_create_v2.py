"""`create --version 2|hybrid` beside libtorrent's create_torrent: the same info dictionary, the same piece layers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from wire.metainfo import Torrent, create
from wire.metainfo.create import Version

lt: Any = pytest.importorskip("libtorrent", reason="libtorrent is not installed here")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # its old names are there in all versions of the wheel
]

FLAGS: dict[Version, int] = {"2": 32, "hybrid": 0}  # create_torrent's v2_only, and none
K = 1024

SHAPES: dict[str, dict[str, int]] = {
    "one byte": {"a": 1},
    "a block": {"a": 16 * K},
    "a block and a byte": {"a": 16 * K + 1},
    "three blocks": {"a": 48 * K},
    "a piece of 64 KiB": {"a": 64 * K, "b": 64 * K},
    "just under and over": {"a": 64 * K - 1, "b": 64 * K + 1, "c": 128 * K - 1, "d": 128 * K + 1},
    "empty ones": {"a": 0, "b": 5, "c": 0, "d": 100 * K, "e": 0},
    "empty at the end": {"a": 70 * K, "b": 0},
    "folders": {"z": 3, "b/x": 20 * K, "b/a/deep": 33 * K, "c": 1, "a": 200 * K, "b/b": 16 * K},
    "equal files": {"a": 90 * K, "b/a": 90 * K},
    "odd piece counts": {"a": 16 * K * 3, "b": 16 * K * 5, "c": 16 * K * 7 + 1, "d": 16 * K * 65},
    "many": {f"{n % 7}/{n:03}": (n * 7919) % (40 * K) for n in range(120)},
    "large": {"a": 3 * K * K + 17, "b": 1024 * K},
}


def laid(folder: Path, sizes: dict[str, int], rng: random.Random) -> Path:
    top = folder / "top"
    for name, size in sizes.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size) if name != "b/a" else b"\0" * size)
    return top


def made_by_libtorrent(path: Path, version: Version, piece_length: int) -> dict[bytes, Any]:
    files = lt.file_storage()
    lt.add_files(files, str(path))
    maker = lt.create_torrent(files, piece_length, FLAGS[version])
    lt.set_piece_hashes(maker, str(path.parent))
    made: dict[bytes, Any] = maker.generate()
    return made


def assert_equal(path: Path, version: Version, piece_length: int) -> None:
    theirs = made_by_libtorrent(path, version, piece_length)
    ours = create(path, version=version, piece_length=piece_length)
    assert ours.info.raw == lt.bencode(theirs[b"info"])
    assert dict(ours.piece_layers) == theirs.get(b"piece layers", {})
    assert Torrent.from_bytes(ours.to_bytes()).piece_layers == ours.piece_layers


@pytest.mark.parametrize("version", list(FLAGS))
@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_folder(shape: str, version: Version, tmp_path: Path) -> None:
    top = laid(tmp_path, SHAPES[shape], random.Random(shape))
    for piece_length in (16 * K, 64 * K, 1024 * K):
        assert_equal(top, version, piece_length)


@pytest.mark.parametrize("version", list(FLAGS))
@pytest.mark.parametrize("size", [1, 16 * K, 16 * K + 1, 64 * K, 64 * K + 1, 5 * 64 * K + 3])
def test_a_single_file(size: int, version: Version, tmp_path: Path) -> None:
    path = tmp_path / "one.bin"
    path.write_bytes(random.Random(size).randbytes(size))
    for piece_length in (16 * K, 64 * K, 256 * K):
        assert_equal(path, version, piece_length)


def test_names_below_the_slash(tmp_path: Path) -> None:
    """`b.c` and `b/x`: in a file tree `b` comes first, and libtorrent lists `b.c` first: it refuses its own hybrid."""
    top = laid(tmp_path, {"b/x": 20 * K, "b.c": 1, "b-": 5}, random.Random(1))
    assert_equal(top, "2", 16 * K)
    with pytest.raises(RuntimeError, match="does not match"):
        lt.torrent_info(lt.bdecode(lt.bencode(made_by_libtorrent(top, "hybrid", 16 * K))))
    ours = create(top, version="hybrid", piece_length=16 * K)
    theirs = lt.torrent_info(lt.bdecode(ours.to_bytes())).info_hashes()
    assert (theirs.v1.to_bytes(), theirs.v2.to_bytes()) == (ours.info_hash_v1, ours.info_hash_v2)
