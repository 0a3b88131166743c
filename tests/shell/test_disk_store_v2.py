"""Version 2 torrents on disk (BEP 52): written, remembered, rechecked; layers found in files that are there whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reading import read_blocks
from wire.errors import MetainfoError, MisuseError
from wire.metainfo import Info, Torrent, create
from wire.metainfo.create import Version
from wire.metainfo.merkle import leaves_of
from wire.storage.disk import DiskStore

PIECE = 32768
FILES = {"a": bytes(range(256)) * 400, "b": b"", "c": b"c" * PIECE, "d/e": b"e" * (2 * PIECE + 1)}


def made(tmp_path: Path, version: Version) -> Torrent:
    for name, data in FILES.items():
        path = tmp_path / "there" / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return create(tmp_path / "there" / "top", version=version, piece_length=PIECE)


def piece(info: Info, index: int) -> bytes:
    names = {
        entry.path[1:]: data for entry in info.files for name, data in FILES.items() if "/".join(entry.path[1:]) == name
    }
    parts = []
    for file_index, offset, length in info.spans(index * PIECE, info.piece_size(index)):
        entry = info.files[file_index]
        parts.append(bytes(length) if entry.pad else names[entry.path[1:]][offset : offset + length])
    return b"".join(parts)


@pytest.mark.parametrize("version", ["2", "hybrid"])
async def test_written_remembered_and_checked(version: Version, tmp_path: Path) -> None:
    info = made(tmp_path, version).info
    root, resume = tmp_path / "got", tmp_path / "x.resume"
    store = DiskStore(info, root, resume=resume)
    assert (await store.load()).count == 0
    for index in reversed(range(info.piece_count)):
        data = piece(info, index)
        assert not await store.put(index, data[:-1] + bytes([data[-1] ^ 1]))
        assert not await store.put(index, data + b"\0")
        if index != 2:
            assert await store.put(index, data)
    await store.aclose()
    for remembers in (resume, None):
        store = DiskStore(info, root, resume=remembers)
        assert list((await store.load()).indices()) == [index for index in range(info.piece_count) if index != 2]
        await store.aclose()
    store = DiskStore(info, root, resume=resume)
    await store.load()
    assert await store.put(2, piece(info, 2))
    assert await read_blocks(store, [(2, 0, 100)]) == [piece(info, 2)[:100]]
    await store.aclose()
    for name, data in FILES.items():
        assert (root / "top" / name).read_bytes() == data


async def test_layers_follow_from_whole_files(tmp_path: Path) -> None:
    torrent = made(tmp_path, "2")
    bare = Info.from_bytes(torrent.info.raw)
    (tmp_path / "there" / "top" / "a").write_bytes(b"?" + FILES["a"][1:])
    store = DiskStore(bare, tmp_path / "there", read_only=True)
    have = await store.load()
    await store.aclose()
    assert [root for root, _ in bare.layers] == [bare.files[3].pieces_root], "of the damaged file nothing follows"
    assert dict(bare.layers).items() <= dict(torrent.info.layers).items()
    first = bare.layout.pieces_of(1).start if bare.files[1].size else bare.layout.pieces_of(2).start
    assert list(have.indices()) == list(range(first, bare.piece_count))


async def test_files_of_a_hybrid_that_contradicts_itself(tmp_path: Path) -> None:
    torrent = made(tmp_path, "hybrid")
    entry = torrent.info.files[0]
    assert entry.pieces_root is not None
    info = Info.from_bytes(torrent.info.raw.replace(entry.pieces_root, b"?" * 32))
    store = DiskStore(info, tmp_path / "there", read_only=True)
    with pytest.raises(MetainfoError, match="contradicts itself"):
        await store.load()
    await store.aclose()


async def test_what_was_there_is_found_when_its_layer_comes(tmp_path: Path) -> None:
    """Half a file lies there from somewhere, nothing is remembered, and its piece hashes come only later."""
    torrent = made(tmp_path, "2")
    bare, root = Info.from_bytes(torrent.info.raw), tmp_path / "there"
    (root / "top" / "a").write_bytes(FILES["a"][: PIECE + 5])
    (root / "top" / "d" / "e").unlink()
    store = DiskStore(bare, root, resume=tmp_path / "x.resume")
    have = await store.load()
    unknown = [index for index in range(bare.piece_count) if not have[index]]
    assert await store.recheck(unknown) == [], "nobody can say what is right"
    for pieces_root, layer in torrent.info.layers:
        bare.layers.add(pieces_root, layer)
    found = await store.recheck(unknown)
    assert found == [0]
    assert await read_blocks(store, [(0, 0, 9)]) == [FILES["a"][:9]]
    await store.aclose()
    again = DiskStore(bare, root, resume=tmp_path / "x.resume")
    assert list((await again.load()).indices()) == sorted([*have.indices(), 0]), "it is remembered"
    await again.aclose()


async def test_the_leaves_of_a_piece(tmp_path: Path) -> None:
    info = made(tmp_path, "2").info
    store = DiskStore(info, tmp_path / "there", read_only=True)
    await store.load()
    for index in range(info.piece_count):
        assert await store.leaves(index) == b"".join(leaves_of(piece(info, index)))
    (tmp_path / "there" / "top" / "a").write_bytes(b"?" + FILES["a"][1:])
    assert await store.leaves(0) is None, "it is not what it was"
    assert await store.leaves(1) is not None
    await store.aclose()
    nothing = DiskStore(info, tmp_path / "elsewhere", read_only=True)
    await nothing.load()
    with pytest.raises(MisuseError):
        await nothing.leaves(0)
    await nothing.aclose()
