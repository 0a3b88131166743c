"""Files that another torrent brought are used, not fetched (BEP 38): what is found, refused and remembered."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from magnet import Config, Session, twins
from magnet.finished import KeptFile, Record
from magnet.shelf import Shelf
from tests.shell.kit import make_torrent
from wire.bencode import Encodable, decode, encode
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.errors import DiskError, ProtocolError
from wire.metainfo import Info, Torrent, create
from wire.metainfo.hints import Hints
from wire.storage import DiskStore

BIG, SMALL = os.urandom(300_000), os.urandom(70_000)


def laid_out(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def with_hints(torrent: Torrent, inside: Hints) -> Torrent:
    items = decode(torrent.info.raw)
    assert isinstance(items, dict)
    changed: dict[bytes, Encodable] = {**items, **inside.items()}
    return replace(torrent, info=Info.from_bytes(encode(dict(sorted(changed.items())))))


async def finished(
    tmp_path: Path, files: Mapping[str, bytes], version: str = "1", hints: Hints | None = None
) -> Torrent:
    """A torrent that lies in `old` and is on the shelf."""
    torrent = create(laid_out(tmp_path / "old" / "first", files), version=version, piece_length=16384)  # type: ignore[arg-type]
    torrent = with_hints(torrent, hints or Hints())
    await Shelf(tmp_path / "state").keep(torrent, tmp_path / "old", Bitfield.full(torrent.info.piece_count))
    return torrent


async def filled(tmp_path: Path, torrent: Torrent) -> int:
    """Bytes of a torrent that come from the shelf; and the store agrees."""
    info, new = torrent.info, tmp_path / "new"
    store = DiskStore(info, new)
    have = await store.load()
    got = await Shelf(tmp_path / "state").fill(torrent, store, new, have, [file.on_disk for file in info.files])
    await store.aclose()
    store = DiskStore(info, new, read_only=True)
    assert await store.load() == have | got
    await store.aclose()
    return sum(info.piece_size(index) for index in got.indices())


def another(tmp_path: Path, files: Mapping[str, bytes], version: str = "1") -> Torrent:
    return create(laid_out(tmp_path / "made" / "second", files), version=version, piece_length=16384)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["1", "2", "hybrid"])
async def test_a_file_of_the_same_content_is_copied_whatever_it_is_called(tmp_path: Path, version: str) -> None:
    await finished(tmp_path, {"a": BIG, "b": SMALL}, version)
    torrent = another(tmp_path, {"new.bin": os.urandom(50_000), "other": BIG}, version)
    whole = len(BIG) // 16384 * 16384
    assert whole - 16384 <= await filled(tmp_path, torrent) <= len(BIG) + 16384


@pytest.mark.parametrize(("first", "second"), [("2", "2"), ("hybrid", "2"), ("1", "2"), ("2", "hybrid"), ("2", "1")])
async def test_versions_share_a_file_also_by_a_link_whose_piece_hashes_nobody_told(
    tmp_path: Path, first: str, second: str
) -> None:
    await finished(tmp_path, {"a": BIG, "b": SMALL}, first)
    whole = another(tmp_path, {"a": BIG, "new.bin": os.urandom(50_000)}, second)
    torrent = replace(whole, info=Info.from_bytes(whole.info.raw))
    assert len(BIG) - 16384 <= await filled(tmp_path, torrent) <= len(BIG) + 16384


async def test_a_file_of_the_same_size_teaches_no_wrong_layer(tmp_path: Path) -> None:
    await finished(tmp_path, {"a": BIG[::-1]}, "1")
    whole = another(tmp_path, {"a": BIG}, "2")
    torrent = replace(whole, info=Info.from_bytes(whole.info.raw))
    assert await filled(tmp_path, torrent) == 0
    assert not torrent.info.layers.complete


async def test_a_whole_torrent_of_finished_files_needs_no_peer(tmp_path: Path) -> None:
    await finished(tmp_path, {"a": BIG, "b": SMALL})
    torrent = another(tmp_path, {"x/a": BIG, "y/b": SMALL})
    config = Config(
        listen=(Endpoint("127.0.0.1", 0),),
        dht=False,
        lsd=False,
        use_trackers=False,
        state_dir=tmp_path / "state",
        patience_s=5,
    )
    async with Session(config) as session:
        handle = await session.add(torrent, directory=tmp_path / "new")
        await handle.finished()
        assert (handle.path / "x" / "a").read_bytes() == BIG
        assert (handle.path / "y" / "b").read_bytes() == SMALL
        assert handle.status().downloaded == 0
        both = [(tmp_path / "old" / "first" / "a").stat(), (handle.path / "x" / "a").stat()]
        assert both[0].st_ino == both[1].st_ino or both[1].st_nlink == 1, "linked, or a reflink"
    # And it is remembered in its turn.
    assert len(list((tmp_path / "state" / "finished").iterdir())) == 2


@pytest.mark.parametrize("hint", ["none", "similar", "similar, the other way", "collections", "outside"])
async def test_a_file_that_grew_is_used_as_far_as_it_goes_where_torrents_hint_at_each_other(
    tmp_path: Path, hint: str
) -> None:
    torrent = another(tmp_path, {"log": BIG + SMALL, "z": os.urandom(20_000)})
    same = Hints(collections=(b"logs",))
    theirs = {
        "collections": same,
        "outside": same,
        "similar, the other way": Hints((torrent.info.info_hash.v1 or b"",)),
    }
    old = await finished(tmp_path, {"log": BIG}, hints=theirs.get(hint))
    if hint == "similar":
        torrent = with_hints(torrent, Hints(similar=(old.info.info_hash.v1 or b"",)))
    elif hint == "collections":
        torrent = with_hints(torrent, same)
    elif hint == "outside":
        torrent = Torrent.from_bytes(replace(torrent, outer_hints=same).to_bytes())
    expected = 0 if hint == "none" else len(BIG) // 16384 * 16384
    assert await filled(tmp_path, torrent) == expected


@pytest.fixture
def _no_reflinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on ext4, whatever disk the tests run on."""
    monkeypatch.setattr("wire.storage.share._clone", lambda *_: False)


async def linked(tmp_path: Path, torrent: Torrent) -> tuple[DiskStore, Bitfield]:
    store = DiskStore(torrent.info, tmp_path / "new")
    await Shelf(tmp_path / "state").link(
        torrent, store, tmp_path / "new", [file.on_disk for file in torrent.info.files]
    )
    return store, await store.load()


@pytest.mark.usefixtures("_no_reflinks")
async def test_a_whole_file_is_linked_and_parted_before_it_is_written(tmp_path: Path) -> None:
    await finished(tmp_path, {"a": BIG})
    torrent = another(tmp_path, {"b": BIG})
    old, new = tmp_path / "old" / "first" / "a", tmp_path / "new" / "second" / "b"
    store, have = await linked(tmp_path, torrent)
    assert have.all
    assert old.samefile(new)
    assert old.stat().st_nlink == 2
    await store.aclose()

    with old.open("r+b") as file:  # one of the two is edited: the other with it, and it is noticed and repaired
        file.seek(100_000)
        file.write(b"edited")
    edited = old.read_bytes()
    store = DiskStore(torrent.info, tmp_path / "new")
    have = await store.load()
    assert have.count == torrent.info.piece_count - 1
    index = 100_000 // 16384
    assert await store.put(index, BIG[index * 16384 : (index + 1) * 16384])
    await store.aclose()
    assert new.read_bytes() == BIG
    assert old.read_bytes() == edited, "never written to through the link"
    assert (old.stat().st_nlink, new.stat().st_nlink) == (1, 1)
    assert [path.name for path in new.parent.iterdir()] == ["b"]


@pytest.mark.usefixtures("_no_reflinks")
async def test_a_disk_too_full_to_part_a_file_changes_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await finished(tmp_path, {"a": BIG})
    torrent = another(tmp_path, {"b": BIG})
    old, new = tmp_path / "old" / "first" / "a", tmp_path / "new" / "second" / "b"
    store, _ = await linked(tmp_path, torrent)
    await store.aclose()
    old.write_bytes(bytes(len(BIG)))
    store = DiskStore(torrent.info, tmp_path / "new")
    assert not (await store.load()).count

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wire.storage.share.write_all", full)
    with pytest.raises(DiskError, match="the disk is full"):
        await store.put(0, BIG[:16384])
    assert old.read_bytes() == new.read_bytes() == bytes(len(BIG))
    assert [path.name for path in new.parent.iterdir()] == ["b"]
    monkeypatch.undo()
    assert await store.put(0, BIG[:16384]), "on again when there is room"
    await store.aclose()
    assert old.read_bytes() == bytes(len(BIG))


@pytest.mark.usefixtures("_no_reflinks")
async def test_another_disk_another_file_and_another_mode_are_not_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await finished(tmp_path, {"a": BIG})
    torrent = another(tmp_path, {"b": BIG})
    old, new = tmp_path / "old" / "first" / "a", tmp_path / "new" / "second" / "b"
    real_link = os.link

    def other_disk(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def swapped(name: str, target: str, **folders: Any) -> None:
        old.unlink()
        old.write_bytes(bytes(len(BIG)))
        real_link(name, target, **folders)

    old.chmod(0o755)
    store, have = await linked(tmp_path, torrent)
    assert not have.count
    old.chmod(0o644)
    for broken in (other_disk, swapped):
        monkeypatch.setattr("wire.storage.share.os.link", broken)
        await store.aclose()
        store, have = await linked(tmp_path, torrent)
        assert not have.count
        assert not new.exists()
    await store.aclose()
    monkeypatch.undo()
    old.write_bytes(BIG)
    assert await filled(tmp_path, torrent) == len(BIG), "copied then"
    assert old.stat().st_nlink == 1


async def test_a_reflink_comes_before_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    await finished(tmp_path, {"a": BIG})

    def ficlone(fd: int, request: int, donor: int) -> int:  # as btrfs and XFS do it, without sharing blocks
        assert request == 0x40049409
        os.pwrite(fd, os.pread(donor, len(BIG), 0), 0)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ficlone)
    store, have = await linked(tmp_path, another(tmp_path, {"b": BIG}))
    await store.aclose()
    assert have.all
    assert (tmp_path / "old" / "first" / "a").stat().st_nlink == 1


async def test_what_changed_meanwhile_is_not_taken(tmp_path: Path) -> None:
    await finished(tmp_path, {"a": BIG, "b": SMALL})
    torrent = another(tmp_path, {"a": BIG, "b": SMALL})
    with (tmp_path / "old" / "first" / "a").open("r+b") as file:
        file.seek(100_000)
        file.write(b"not what it was")
    (tmp_path / "old" / "first" / "b").unlink()
    assert await filled(tmp_path, torrent) == len(BIG) // 16384 * 16384 - 16384


async def test_no_link_is_followed_and_the_file_itself_is_no_donor(tmp_path: Path) -> None:
    torrent = await finished(tmp_path, {"a": BIG})
    (tmp_path / "secret").write_bytes(BIG)
    (tmp_path / "old" / "first" / "a").unlink()
    (tmp_path / "old" / "first" / "a").symlink_to(tmp_path / "secret")
    assert await filled(tmp_path, another(tmp_path, {"a": BIG})) == 0
    laid_out(tmp_path / "new" / "first", {"a": bytes(len(BIG))})  # the place that is to be written
    record = Record(str(tmp_path / "new"), (b"h" * 20,), Hints(), (KeptFile(("first", "a"), len(BIG)),))
    (tmp_path / "state" / "finished" / "x.record").write_bytes(record.to_bytes())
    assert await filled(tmp_path, torrent) == 0


async def test_without_a_state_folder_nothing_is_remembered(tmp_path: Path) -> None:
    torrent, _ = make_torrent("t", {"t": 100_000})
    await Shelf(None).keep(torrent, tmp_path, Bitfield.full(torrent.info.piece_count))
    store = DiskStore(torrent.info, tmp_path)
    assert not (await Shelf(None).fill(torrent, store, tmp_path, await store.load(), [True])).count
    await store.aclose()
    (tmp_path / "file").touch()
    await Shelf(tmp_path / "file").keep(torrent, tmp_path, Bitfield.full(torrent.info.piece_count))


async def test_the_oldest_record_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magnet.finished._MAX_RECORDS", 2)
    shelf = Shelf(tmp_path)
    made = [make_torrent(name, {name: 100_000})[0] for name in ("one", "two", "three")]
    for at, torrent in enumerate(made):
        await shelf.keep(torrent, tmp_path, Bitfield.full(torrent.info.piece_count))
        for path in (tmp_path / "finished").iterdir():
            if path.name.startswith(str(torrent.info.info_hash)):
                os.utime(path, (at, at))
    names = sorted(path.name[:40] for path in (tmp_path / "finished").iterdir())
    assert names == sorted(str(torrent.info.info_hash) for torrent in made[1:])


async def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.shell.kit import Store

    await finished(tmp_path, {"a": BIG})
    torrent = another(tmp_path, {"a": BIG})
    store = Store(torrent.info)
    store.fails_after = 3
    with pytest.raises(DiskError, match="No space"):
        await Shelf(tmp_path / "state").fill(torrent, store, tmp_path, await store.load(), [True])


RECORD = Record(
    "/d", (b"h" * 20,), Hints((b"s" * 20,), (b"c",)), (KeptFile(("t", "é"), 5), KeptFile(("t", "b"), 6, b"r" * 32))
)


def test_cut_or_changed_at_any_byte_it_is_no_record() -> None:
    data = RECORD.to_bytes()
    assert Record.from_bytes(data) == RECORD
    for at in range(len(data)):
        for broken in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            with pytest.raises(ProtocolError):
                Record.from_bytes(broken)


@pytest.mark.parametrize("path", [("..", "passwd"), ("/etc", "passwd"), ("a/b",), (), ("",), ("a\0",)])
def test_a_record_leads_nowhere_else(path: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError):
        Record.from_bytes(replace(RECORD, files=(KeptFile(path, 5),)).to_bytes())


def test_hints_are_capped_and_what_is_none_is_left_out() -> None:
    many = [bytes([at, n]) * 10 for at in range(10) for n in range(100)]
    assert len(Hints.read({b"similar": many}).similar) == 200  # type: ignore[dict-item]
    assert Hints.read({b"similar": [b"short", 5, b"x" * 20], b"collections": b"no list"}) == Hints((b"x" * 20,))


def from_one_seed(tmp_path: Path) -> Config:
    return Config(listen=(Endpoint("127.0.0.1", 0),), dht=False, lsd=False, use_trackers=False,
                  state_dir=tmp_path / "state", patience_s=20)  # fmt: skip


@pytest.mark.parametrize("versions", [("2", "2"), ("2", "hybrid"), ("hybrid", "2")])
async def test_two_torrents_of_one_session_fetch_the_file_that_they_share_once(
    tmp_path: Path, versions: tuple[str, str]
) -> None:
    made = [create(laid_out(tmp_path / "there" / "one", {"a": BIG}), version=versions[0], piece_length=16384),  # type: ignore[arg-type]
            create(laid_out(tmp_path / "there" / "two", {"b": BIG, "c": SMALL}), version=versions[1],  # type: ignore[arg-type]
                   piece_length=16384)]  # fmt: skip
    async with Session(replace(from_one_seed(tmp_path), state_dir=tmp_path / "theirs")) as seeds:
        for torrent in made:
            await (await seeds.add(torrent, directory=tmp_path / "there", seed=True)).finished()
        config = replace(from_one_seed(tmp_path), peers=(("127.0.0.1", seeds.endpoints[0].port),))
        async with Session(config) as session:
            handles = [await session.add(torrent, directory=tmp_path / "here") for torrent in made]
            for handle in handles:
                await handle.finished()
            fetched = sum(handle.status().downloaded for handle in handles)
    assert (tmp_path / "here" / "one" / "a").read_bytes() == (tmp_path / "here" / "two" / "b").read_bytes() == BIG
    assert fetched < len(BIG) + len(SMALL) + 2 * 16384


async def test_who_brings_nothing_is_not_waited_for(tmp_path: Path) -> None:
    """The earlier torrent has no peer; the later one has, and does not wait for ever."""
    one = create(laid_out(tmp_path / "there" / "one", {"a": BIG}), version="2", piece_length=16384)
    two = create(laid_out(tmp_path / "there" / "two", {"b": BIG}), version="2", piece_length=16384)
    twins.STALLED_S, stalled_s = 0.2, twins.STALLED_S
    try:
        async with Session(replace(from_one_seed(tmp_path), state_dir=tmp_path / "theirs")) as seeds:
            await (await seeds.add(two, directory=tmp_path / "there", seed=True)).finished()
            config = replace(from_one_seed(tmp_path), peers=(("127.0.0.1", seeds.endpoints[0].port),))
            async with Session(config) as session:
                await session.add(one, directory=tmp_path / "here")
                later = await session.add(two, directory=tmp_path / "here")
                with trio.fail_after(60):
                    await later.finished()
    finally:
        twins.STALLED_S = stalled_s
