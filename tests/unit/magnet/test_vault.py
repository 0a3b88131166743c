"""What is kept between runs, and how little it is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from magnet.vault import Vault
from tests.shell.kit import make_torrent
from wire.ids import InfoHash
from wire.metainfo import create

TORRENT, _ = make_torrent("kept", {"a": 40_000})
OTHER, _ = make_torrent("other", {"b": 40_000})


async def test_metadata_comes_back_by_its_hash(tmp_path):
    vault = Vault(tmp_path / "state")
    assert await vault.load(TORRENT.info.info_hash) is None
    await vault.save(TORRENT)
    assert await vault.load(TORRENT.info.info_hash) == TORRENT
    assert await vault.load(OTHER.info.info_hash) is None
    assert [file.name for file in (tmp_path / "state" / "torrents").iterdir()] == [f"{TORRENT.info.info_hash}.torrent"]


@pytest.mark.parametrize("spoil", [lambda data: data[:-5], lambda data: b"", lambda data: OTHER.to_bytes()])
async def test_what_was_changed_is_not_believed(tmp_path, spoil):
    vault = Vault(tmp_path)
    await vault.save(TORRENT)
    (path,) = (tmp_path / "torrents").iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    assert await vault.load(TORRENT.info.info_hash) is None


async def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path):
    (tmp_path / "state").write_text("a file where a folder should be")
    vault = Vault(tmp_path / "state")
    await vault.save(TORRENT)
    assert await vault.load(TORRENT.info.info_hash) is None
    assert await vault.resume_path(TORRENT.info.info_hash, tmp_path) is None


async def test_without_a_folder_nothing_is_kept():
    vault = Vault(None)
    await vault.save(TORRENT)
    assert await vault.load(TORRENT.info.info_hash) is None
    assert vault.dht_state is None
    assert await vault.resume_path(TORRENT.info.info_hash, Path.cwd()) is None


async def test_each_folder_of_a_download_has_its_own_resume_data(tmp_path):
    vault = Vault(tmp_path / "state")
    info_hash = InfoHash(v1=b"\x07" * 20)
    first = await vault.resume_path(info_hash, tmp_path / "one")
    second = await vault.resume_path(info_hash, tmp_path / "two")
    assert first is not None
    assert second is not None
    assert first != second
    assert first == await vault.resume_path(info_hash, tmp_path / "two" / ".." / "one")
    assert first.parent.is_dir()


async def test_a_hybrid_is_found_by_either_hash_with_its_piece_layers(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 50_000)
    torrent = create(tmp_path / "f", version="hybrid", piece_length=16384)
    vault = Vault(tmp_path / "state")
    await vault.save(torrent)
    info_hash = torrent.info.info_hash
    for one in (info_hash, InfoHash(v1=info_hash.v1), InfoHash(v2=info_hash.v2)):
        found = await vault.load(one)
        assert found is not None
        assert found.piece_layers == torrent.piece_layers
        assert found.info.layers.complete
