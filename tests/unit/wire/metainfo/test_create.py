from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from wire.errors import DiskError, MisuseError
from wire.metainfo import Torrent, create
from wire.metainfo.create import Version, choose_piece_length


def test_a_folder(tmp_path: Path) -> None:
    top = tmp_path / "album"
    (top / "b" / "deep").mkdir(parents=True)
    (top / "b" / "deep" / "2.bin").write_bytes(b"two" * 10_000)
    (top / "b" / "empty").touch()
    (top / "a.bin").write_bytes(os.urandom(100_000))
    (top / "Z").write_bytes(b"z")
    torrent = create(
        top, piece_length=32768, trackers=[["http://t/a"], []], web_seeds=["http://w/"], private=True, comment="c"
    )
    info = torrent.info
    assert [entry.shown_path for entry in info.files] == [
        "album/Z",
        "album/a.bin",
        "album/b/deep/2.bin",
        "album/b/empty",
    ]
    assert (info.private, info.piece_length, info.size, info.version) == (True, 32768, 130_001, "1")
    data = b"".join(tmp_path.joinpath(*entry.path).read_bytes() for entry in info.files)
    assert [info.piece_hash(n) for n in range(info.piece_count)] == [
        hashlib.sha1(data[at : at + 32768]).digest() for at in range(0, len(data), 32768)
    ]
    assert torrent.trackers == (("http://t/a",),)
    assert Torrent.from_bytes(torrent.to_bytes()) == torrent
    assert create(top, piece_length=32768, private=True).info == info


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "one.bin"
    path.write_bytes(b"hello")
    torrent = create(str(path))
    assert (torrent.name, torrent.size, torrent.info.single_file) == ("one.bin", 5, True)
    assert torrent.info.piece_hash(0) == hashlib.sha1(b"hello").digest()
    path.write_bytes(b"")
    assert create(path).info.piece_count == 0


def test_piece_lengths() -> None:
    assert choose_piece_length(0) == choose_piece_length(1 << 20) == 16384
    assert choose_piece_length(1 << 30) == 1 << 20
    assert choose_piece_length(1 << 50) == 16 << 20


@pytest.mark.parametrize("length", [0, 1, 16383, 20000, 1 << 29, -16384])
def test_odd_piece_lengths_are_misuse(tmp_path: Path, length: int) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(MisuseError, match="power of two"):
        create(tmp_path / "x", piece_length=length)


def test_what_cannot_be_shared(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="no such"):
        create(tmp_path / "nowhere")
    folder = tmp_path / "f"
    folder.mkdir()
    with pytest.raises(MisuseError, match="no files"):
        create(folder)
    for name in ("aux.c", "line\nbreak", "turned\u202e"):
        (folder / name).touch()
        with pytest.raises(MisuseError, match=r"rename|cannot be shared"):
            create(folder)
        (folder / name).unlink()
    (folder / "x").touch()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(MisuseError, match="links are not followed"):
        create(folder)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(MisuseError, match="no regular file"):
        create(folder)


def test_names_that_collide_on_other_disks(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "X").touch()
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this disk does not tell them apart")
    with pytest.raises(MisuseError, match="collide"):
        create(tmp_path)


@pytest.mark.parametrize("version", ["2", "hybrid"])
def test_v2_says_each_file_by_its_tree(version: Version, tmp_path: Path) -> None:
    """BEP 52: each file on a piece of its own, equal files of one root, layers where there are several pieces."""
    top = tmp_path / "top"
    top.mkdir()
    for name, data in {"a": b"x" * 40_000, "b": b"", "c": b"x" * 40_000, "d": b"y"}.items():
        (top / name).write_bytes(data)
    torrent = create(top, version=version, piece_length=32768)
    info = torrent.info
    assert info.version == version
    files = [entry for entry in info.files if not entry.pad]
    assert [(entry.size, entry.offset) for entry in files if entry.size] == [(40_000, 0), (40_000, 65536), (1, 131072)]
    assert [entry.pad for entry in info.files].count(True) == (3 if version == "hybrid" else 0)
    assert files[0].pieces_root == files[2].pieces_root
    assert files[1].pieces_root is None
    assert files[3].pieces_root == hashlib.sha256(b"y").digest()
    assert info.layers.complete
    assert [root for root, _ in torrent.piece_layers] == [files[0].pieces_root]
    assert Torrent.from_bytes(torrent.to_bytes()) == torrent
    assert Torrent.from_bytes(torrent.to_bytes()).piece_layers == torrent.piece_layers
    if version == "2":
        assert [info.piece_size(index) for index in range(5)] == [32768, 7232, 32768, 7232, 1]
