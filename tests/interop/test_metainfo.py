"""Torrents beside libtorrent: it makes them and we read them, we make them and it reads them, in every version."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.examples import examples
from tests.strategies import bencode_values
from wire.bencode import Value, encode
from wire.ids import InfoHash
from wire.metainfo import Info, Torrent, create

lt: Any = pytest.importorskip("libtorrent", reason="libtorrent is not installed here")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # its old names are there in all versions of the wheel
]

VERSIONS = {"1": 64, "2": 32, "hybrid": 0}  # create_torrent's flags v1_only and v2_only
PIECE = 32768


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("made") / "album"
    (top / "sub" / "deep").mkdir(parents=True)
    sizes = {"a.bin": 100_000, "b": 1, "sub/empty": 0, "sub/c": PIECE, "sub/deep/d": 3 * PIECE + 5, "zü": 70_000}
    for name, size in sizes.items():
        (top / name).write_bytes(os.urandom(size))
    return top


def made_by_libtorrent(path: Path, version: str) -> bytes:
    files = lt.file_storage()
    lt.add_files(files, str(path))
    maker = lt.create_torrent(files, PIECE, VERSIONS[version])
    maker.add_tracker("http://one.example/announce", 0)
    maker.add_tracker("udp://two.example:80", 1)
    maker.add_url_seed("http://seed.example/")
    maker.add_node("router.example", 6881)
    maker.set_comment("a comment")
    lt.set_piece_hashes(maker, str(path.parent))
    return bytes(lt.bencode(maker.generate()))


def assert_same(torrent: Torrent, theirs: Any) -> None:
    """`theirs` is libtorrent's torrent_info of the same bytes."""
    info = torrent.info
    hashes = theirs.info_hashes()
    v1 = hashes.v1.to_bytes() if hashes.has_v1() else None
    v2 = hashes.v2.to_bytes() if hashes.has_v2() else None
    assert (torrent.info_hash_v1, torrent.info_hash_v2) == (v1, v2)
    assert torrent.name == theirs.name()
    assert (info.piece_length, info.piece_count) == (theirs.piece_length(), theirs.num_pieces())
    files = theirs.files()
    ours = [(entry.shown_path, entry.size, entry.offset) for entry in info.files if not entry.pad]
    pads = [bool(int(files.file_flags(index)) & 1) for index in range(files.num_files())]
    assert ours == [
        (files.file_path(index).replace("\\", "/"), files.file_size(index), files.file_offset(index))
        for index in range(files.num_files())
        if not pads[index]
    ]
    assert info.private == theirs.priv()
    if info.version != "2":
        assert [entry.pad for entry in info.files] == pads
        assert (info.size, info.content_size) == (theirs.total_size(), files.size_on_disk())
        for index in range(info.piece_count):
            assert info.piece_hash(index) == theirs.hash_for_piece(index)
            assert info.piece_size(index) == theirs.piece_size(index)
            mapped = [(s.file_index, s.offset, s.size) for s in theirs.map_block(index, 0, info.piece_size(index))]
            assert list(info.spans(index * PIECE, info.piece_size(index))) == mapped
    for index, entry in enumerate(info.files):
        if entry.pieces_root is not None and info.version == "hybrid":
            assert entry.pieces_root == files.root(index).to_bytes()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", [".", "a.bin", "sub/deep/d"])
def test_what_libtorrent_makes_we_read(folder: Path, version: str, which: str) -> None:
    data = made_by_libtorrent(folder / which, version)
    torrent = Torrent.from_bytes(data)
    theirs = lt.torrent_info(lt.bdecode(data))
    assert torrent.info.version == version
    assert_same(torrent, theirs)
    assert torrent.trackers == (("http://one.example/announce",), ("udp://two.example:80",))
    assert (torrent.web_seeds, torrent.nodes) == (("http://seed.example/",), (("router.example", 6881),))
    assert torrent.comment == "a comment"
    assert Info.from_bytes(torrent.info.raw, InfoHash(torrent.info_hash_v1, torrent.info_hash_v2)) == torrent.info
    if version != "1" and which != "a.bin":
        assert torrent.piece_layers, "its piece layers were there, and verified"
    # and back: what we write is the same torrent to libtorrent, its v2 side included
    again = torrent.to_bytes()
    assert_same(torrent, lt.torrent_info(lt.bdecode(again)))
    assert Torrent.from_bytes(again) == torrent


@pytest.mark.parametrize("which", [".", "zü"])
def test_what_we_make_libtorrent_reads(folder: Path, which: str) -> None:
    torrent = create(
        folder / which, piece_length=PIECE, trackers=[["http://one.example/a"]], web_seeds=["http://w/"], private=True
    )
    theirs = lt.torrent_info(lt.bdecode(torrent.to_bytes()))
    assert_same(torrent, theirs)
    assert [tracker.url for tracker in theirs.trackers()] == ["http://one.example/a"]
    assert torrent.info.raw == bytes(theirs.info_section())


@settings(max_examples=examples(50))
@given(bencode_values())
def test_bencode_is_read_alike(value: Value) -> None:
    data = encode(_within_64_bits(value))
    assert lt.bdecode(data) == _within_64_bits(value)
    assert lt.bencode(lt.bdecode(data)) == data


def _within_64_bits(value: Value) -> Value:
    if isinstance(value, int):
        return value % (1 << 63)
    if isinstance(value, list):
        return [_within_64_bits(item) for item in value]
    if isinstance(value, dict):
        return {key: _within_64_bits(item) for key, item in value.items()}
    return value
