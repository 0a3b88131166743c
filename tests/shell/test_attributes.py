"""Programs and symbolic links of a torrent (BEP 47): made where they are harmless, and nowhere else."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

import pytest

from wire.bencode import Encodable, encode
from wire.metainfo import Info
from wire.storage import DiskStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")

DATA = os.urandom(40)


def torrent(*links: dict[str, Encodable]) -> Info:
    files: list[Encodable] = [
        {"length": 20, "path": ["bin", "run.sh"], "attr": "x"},
        {"length": 20, "path": ["notes"], "attr": "hq"},
        *({"attr": "l", "length": 0, **link} for link in links),
    ]
    pieces = b"".join(hashlib.sha1(DATA[at : at + 16]).digest() for at in range(0, 40, 16))
    return Info.from_bytes(encode({"files": files, "name": "top", "piece length": 16, "pieces": pieces}))


async def laid_out(info: Info, root: Path, *, wanted: list[bool] | None = None) -> Path:
    store = DiskStore(info, root, wanted=wanted)
    await store.load()
    for index in range(3):
        assert await store.put(index, DATA[index * 16 : index * 16 + 16])
    await store.aclose()
    return root / "top"


async def test_a_program_runs_and_nothing_else_does(tmp_path: Path) -> None:
    top = await laid_out(torrent(), tmp_path)
    assert top.joinpath("bin", "run.sh").stat().st_mode & stat.S_IXUSR
    assert not top.joinpath("notes").stat().st_mode & stat.S_IXUSR


async def test_a_link_to_a_file_of_the_torrent_is_made(tmp_path: Path) -> None:
    info = torrent(
        {"path": ["deep", "er", "link"], "symlink path": ["bin", "run.sh"]},
        {"path": ["bin", "beside"], "symlink path": ["notes"]},
    )
    top = await laid_out(info, tmp_path / "d")
    (tmp_path / "d").rename(tmp_path / "moved")
    top = tmp_path / "moved" / "top"
    assert top.joinpath("deep", "er", "link").read_bytes() == DATA[:20]
    assert top.joinpath("bin", "beside").read_bytes() == DATA[20:]
    assert os.readlink(top / "bin" / "beside") == "../notes"
    await laid_out(info, tmp_path / "moved")  # they are there already


STRAY = {
    "out of it": ["..", "..", "etc", "passwd"],
    "absolute": ["/etc/passwd"],
    "to a folder": ["bin"],
    "to its own folder": [],
    "to nothing": ["nowhere"],
    "to itself": ["link"],
    "to another link": ["other"],
    "no text": [5],
}


@pytest.mark.parametrize("where", STRAY)
async def test_any_other_link_is_not_made(tmp_path: Path, where: str) -> None:
    info = torrent({"path": ["link"], "symlink path": STRAY[where]}, {"path": ["other"], "symlink path": ["notes"]})
    top = await laid_out(info, tmp_path)
    assert not os.path.lexists(top / "link")
    assert (top / "other").is_symlink()


async def test_what_lies_there_stays_and_no_folder_that_is_a_link_is_gone_through(tmp_path: Path) -> None:
    (tmp_path / "d" / "top").mkdir(parents=True)
    (tmp_path / "d" / "top" / "mine").write_bytes(b"mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "d" / "top" / "deep").symlink_to(tmp_path / "elsewhere")
    info = torrent({"path": ["mine"], "symlink path": ["notes"]}, {"path": ["deep", "link"], "symlink path": ["notes"]})
    await laid_out(info, tmp_path / "d")
    assert (tmp_path / "d" / "top" / "mine").read_bytes() == b"mine"
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_link_to_a_file_that_is_not_wanted_is_not_made(tmp_path: Path) -> None:
    info = torrent({"path": ["link"], "symlink path": ["notes"]})
    top = await laid_out(info, tmp_path, wanted=[True, False, True])
    assert not os.path.lexists(top / "link")
