"""The blocking twin on real sockets and files of this machine: what a script of a few lines does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

import magnet
from magnet import Config, DownloadError, MagnetLink, ResolveError, Verdict
from tests.shell.kit import link_of, make_torrent
from wire.compact import Endpoint
from wire.errors import MisuseError, ProtocolError

TORRENT, DATA = make_torrent("shared", {"a.bin": 200_000, "b/c.bin": 70_001, "empty": 0})
HERE = (Endpoint("127.0.0.1", 0),)


@contextmanager
def seeding(folder: Path) -> Iterator[MagnetLink]:
    """A session in another thread that shares the torrent; gives the link with its address."""
    for file in TORRENT.info.files:
        path = folder.joinpath(*file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DATA[file.offset : file.offset + file.size])
    ready, stop, where = threading.Event(), trio.Event(), []

    async def main() -> None:
        async with magnet.Session(Config(listen=HERE, dht=False, state_dir=None)) as session:
            handle = await session.add(TORRENT, directory=folder, seed=True)
            await handle.finished()
            where.extend([session.endpoints[0], trio.lowlevel.current_trio_token()])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(60)
    try:
        yield link_of(TORRENT, where[0])
    finally:
        trio.from_thread.run_sync(stop.set, trio_token=where[1])
        thread.join()


def config(state: Path | None = None, **more: object) -> Config:
    return Config(**{"listen": HERE, "dht": False, "state_dir": state, **more})


def test_a_link_becomes_a_torrent_and_its_files(tmp_path):
    state = tmp_path / "state"
    with seeding(tmp_path / "seed") as link:
        torrent = magnet.resolve(str(link), timeout=60, config=config(state))
        assert torrent.info == TORRENT.info
        path = magnet.download(str(link), tmp_path / "got", timeout=60, config=config(state))
    assert path == tmp_path / "got" / "shared"
    for file in TORRENT.info.files:
        assert tmp_path.joinpath("got", *file.path).read_bytes() == DATA[file.offset : file.offset + file.size]
    # All of it is there and remembered: without any peer it is done, and the metadata is known.
    assert magnet.download(str(link), tmp_path / "got", timeout=60, config=config(state)) == path
    assert magnet.resolve(TORRENT.info.info_hash.v1.hex(), timeout=60, config=config(state)).info == TORRENT.info


def test_a_torrent_file_will_do_and_only_some_files(tmp_path):
    with seeding(tmp_path / "seed") as link:
        file = tmp_path / "x.torrent"
        file.write_bytes(TORRENT.to_bytes())
        peers = config(peers=link.peers)
        path = magnet.download(file, tmp_path / "got", timeout=60, only=("a.*",), config=peers)
        again = magnet.download(str(file), tmp_path / "text", timeout=60, config=peers)
    assert [p.name for p in path.iterdir()] == ["a.bin"]
    assert (path / "a.bin").read_bytes() == DATA[:200_000]
    assert (again / "b" / "c.bin").stat().st_size == 70_001


def test_what_is_changed_on_disk_is_fetched_again(tmp_path):
    with seeding(tmp_path / "seed") as link:
        path = magnet.download(link, tmp_path / "got", timeout=60, config=config(tmp_path / "state"))
        (path / "a.bin").write_bytes(bytes(200_000))
        magnet.download(link, tmp_path / "got", timeout=60, config=config(tmp_path / "state"))
        assert (path / "a.bin").read_bytes() == DATA[:200_000]


def test_failures_say_why(tmp_path):
    with pytest.raises(ResolveError) as resolve_error:
        magnet.resolve("00" * 20, timeout=0.3, config=config())
    assert resolve_error.value.verdict is Verdict.NO_PEERS
    assert resolve_error.value.counts.found_total == 0
    with pytest.raises(DownloadError) as download_error:
        magnet.download(TORRENT, tmp_path, timeout=0.3, config=config())
    assert download_error.value.verdict is Verdict.NO_PEERS
    with pytest.raises(ProtocolError):
        magnet.resolve("magnet:?xt=urn:btih:123", config=config())
    with pytest.raises(MisuseError, match=r"nowhere\.torrent"):
        magnet.download(Path("nowhere.torrent"), config=config())


def test_a_folder_that_cannot_be_written_is_a_disk_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with seeding(tmp_path / "seed") as link, pytest.raises(DownloadError) as caught:
        magnet.download(link, tmp_path / "file", timeout=60, config=config())
    assert caught.value.verdict is Verdict.DISK


def test_it_cannot_be_called_within_trio():
    async def main() -> None:
        magnet.resolve("00" * 20, config=config())

    with pytest.raises(RuntimeError):
        trio.run(main)
