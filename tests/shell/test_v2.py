"""Version 2 and hybrid torrents (BEP 52) in whole sessions: layers asked of peers, both swarms joined, liars caught."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from magnet import DownloadError, MagnetLink, Session, Verdict
from magnet.resolver import resolve_one
from tests.shell.kit import Store, a_world, link_of
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.ids import InfoHash
from wire.metainfo import Info, Torrent, create
from wire.metainfo.create import Version
from wire.net import Stream
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import UT_METADATA_ID, ExtendedHandshake
from wire.peer.hash_serve import HashServe
from wire.peer.hashes import HashAsk
from wire.storage.store import Progress

PIECE = 16384
FILES = {"a/b.bin": 100_000, "c": 0, "d": 16384, "e.bin": 40_000, "z": 1}


def made(tmp_path: Path, version: Version, files: Mapping[str, int] = FILES) -> tuple[Torrent, bytes]:
    """A torrent of random files, and its pieces laid end to end."""
    rng = random.Random(version)
    top = tmp_path / version / "top"
    for name, size in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size))
    torrent = create(top, version=version, piece_length=PIECE)
    data = bytearray(torrent.info.size)
    for entry in torrent.info.files:
        if entry.on_disk:
            content = (tmp_path / version).joinpath(*entry.path).read_bytes()
            data[entry.offset : entry.offset + entry.size] = content
    return torrent, bytes(data)


def half(torrent: Torrent, which: str) -> MagnetLink:
    """The barest link by one of its two hashes."""
    info_hash = torrent.info.info_hash
    one = InfoHash(v1=info_hash.v1) if which == "v1" else InfoHash(v2=info_hash.v2)
    return MagnetLink(info_hash=one)


@pytest.mark.parametrize(("version", "which"), [("2", "v2"), ("hybrid", "v1"), ("hybrid", "v2")])
async def test_a_bare_hash_brings_the_files(
    version: Version, which: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    torrent, data = made(tmp_path, version)
    async with a_world() as world:
        for _ in range(2):
            await world.seeder(torrent, data)
        session = await world.session()
        handle = await session.add(half(torrent, which))
        found = await handle.metadata()
        assert found.info == torrent.info
        with trio.fail_after(120):
            await handle.finished()
        assert bytes(world.stores[session].last.data) == data
        assert found.piece_layers == torrent.piece_layers, "asked for, or known from the pieces of a hybrid"
        assert handle.info_hash == torrent.info.info_hash
        assert handle.status().done == sum(FILES.values())


async def announced_as(session: Session, name: bytes) -> set[Endpoint]:
    assert session.node is not None
    return {peer async for peer in session.node.get_peers(name)}


@pytest.mark.parametrize("which", ["v1", "v2"])
async def test_a_link_of_one_hash_joins_both_swarms(
    which: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    torrent, data = made(tmp_path, "hybrid")
    async with a_world() as world:
        await world.seeder(torrent, data)
        session = await world.session()
        handle = await session.add(half(torrent, which))
        with trio.fail_after(120):
            await handle.finished()
        await trio.sleep(30)
        here = Endpoint(world.hosts[session].addresses[0], session.endpoints[0].port)
        other = await world.session()
        for name in torrent.info.info_hash.swarm_ids:
            assert here in await announced_as(other, name)
        # and who knows it by the other name alone is let in, though it has no metadata yet
        rest = await world.session(dht=False)
        third = await rest.add(replace(half(torrent, "v1" if which == "v2" else "v2"), peers=(here,)))
        with trio.fail_after(120):
            await third.finished()


@pytest.mark.parametrize("which", ["v1", "v2"])
async def test_a_peer_without_metadata_is_reached_by_the_one_name_it_knows(
    which: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The dialling side has the hybrid whole, and does not know by what name the other waits."""
    torrent, data = made(tmp_path, "hybrid")
    async with a_world(dht_nodes=0) as world:
        waiting = await world.session(dht=False)
        handle = await waiting.add(half(torrent, which))
        there = Endpoint(world.hosts[waiting].addresses[0], waiting.endpoints[0].port)
        seeder = await world.session(dht=False, peers=(there,))
        world.stores[seeder].kept[torrent.info.raw] = data
        await seeder.add(torrent, seed=True)
        with trio.fail_after(120):
            await handle.finished()


async def test_resolving_waits_for_the_layers(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    for version, which in (("2", "v2"), ("hybrid", "v1"), ("hybrid", "v2")):
        torrent, data = made(tmp_path / which, version)  # type: ignore[arg-type]
        async with a_world() as world:
            await world.seeder(torrent, data)
            result = await resolve_one(await world.session(), half(torrent, which))
            assert result.torrent is not None
            assert result.torrent.piece_layers == torrent.piece_layers
            assert Torrent.from_bytes(result.torrent.to_bytes()).info.layers.complete


def hash_peer(
    torrent: Torrent, answer: Callable[[PeerConnection, HashAsk], None], asked: list[HashAsk], data: bytes = b""
) -> Callable[[Stream], object]:
    """Gives the metadata, and answers for hashes as it likes; without `data` it has no pieces."""
    info_hash, raw = torrent.info.info_hash, torrent.info.raw
    assert info_hash.v2 is not None

    async def behave(stream: Stream) -> None:
        mine = ExtendedHandshake(ut_metadata=UT_METADATA_ID, metadata_size=len(raw))
        peer_id = random.Random(repr(answer)).randbytes(20)
        connection = PeerConnection(
            peer_id=peer_id,
            info_hash=None,
            extended=mine,
            now=trio.current_time(),
            piece_count=torrent.info.piece_count,
        )
        while count := await stream.receive_into(connection.buffer()):
            for event in connection.received(count, trio.current_time()):
                if isinstance(event, m.HandshakeReceived):
                    connection.accept(event.info_hash)
                    connection.bitfield(Bitfield.full(torrent.info.piece_count) if data else None)
                elif isinstance(event, m.Interested):
                    connection.unchoke()
                elif isinstance(event, m.Request):
                    at = event.index * PIECE + event.begin
                    connection.piece(event.index, event.begin, data[at : at + event.length])
                elif isinstance(event, m.MetadataRequest):
                    at = event.piece * 16384
                    connection.metadata_data(event.piece, len(raw), raw[at : at + 16384])
                elif isinstance(event, m.HashRequest):
                    asked.append(event.ask)
                    answer(connection, event.ask)
            if out := connection.outgoing():
                await stream.send_all(out)

    return behave


def lies(torrent: Torrent) -> Callable[[PeerConnection, HashAsk], None]:
    def answer(connection: PeerConnection, ask: HashAsk) -> None:
        hashes = HashServe(torrent.info).answer(ask)
        assert hashes is not None
        connection.hashes(ask, [bytes(32), *hashes[1:]])

    return answer


def refuses(connection: PeerConnection, ask: HashAsk) -> None:
    connection.hash_reject(ask)


async def test_a_liar_is_banned_and_others_are_asked(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    torrent, data = made(tmp_path, "2")
    async with a_world(dht_nodes=0) as world:
        asked: list[HashAsk] = []
        bad = [
            await world.peer(hash_peer(torrent, lies(torrent), asked)),
            await world.peer(hash_peer(torrent, refuses, asked)),
        ]
        session = await world.session(dht=False)
        handle = await session.add(link_of(torrent, *bad))
        with trio.move_on_after(20):
            await handle.finished()
        assert len(asked) >= 2
        assert handle.status().counts.banned == 1
        honest = await world.seeder(torrent, data, dht=False)
        handle.runner.found([honest], "peer")
        with trio.fail_after(120):
            await handle.finished()
        assert bytes(world.stores[session].last.data) == data


async def test_where_nobody_gives_hashes_the_reason_is_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    torrent, _ = made(tmp_path, "2")
    async with a_world(dht_nodes=0) as world:
        refusing: list[HashAsk] = []
        bad = await world.peer(hash_peer(torrent, refuses, refusing))
        session = await world.session(dht=False, patience_s=60.0)
        handle = await session.add(link_of(torrent, bad))
        with pytest.raises(DownloadError, match=r"hashes of the torrent's pieces.*BEP 52") as caught:
            await handle.finished()
        assert caught.value.verdict is Verdict.NO_METADATA_PEERS
        assert 1 <= len(refusing) <= 12, "a peer that refuses is left alone for a while"


async def test_a_file_of_one_piece_needs_no_layer(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    torrent, data = made(tmp_path, "2", {"small": 9000, "tiny": 3})
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(torrent, data, dht=False)
        session = await world.session(dht=False)
        handle = await session.add(link_of(torrent, seeder))
        with trio.fail_after(60):
            await handle.finished()
        assert bytes(world.stores[session].last.data) == data


async def test_what_can_be_judged_is_fetched_before_all_layers_are_there(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A peer that holds one file's layer back keeps nobody from the other files, and is asked again."""
    torrent, data = made(tmp_path, "2")
    held = next(file.pieces_root for file in torrent.info.files if file.path[-1] == "e.bin")
    gives = {file.pieces_root for file in torrent.info.files} - {held}

    def answer(connection: PeerConnection, ask: HashAsk) -> None:
        hashes = HashServe(torrent.info).answer(ask)
        if ask.root in gives and hashes is not None:
            connection.hashes(ask, hashes)

    async with a_world(dht_nodes=0) as world:
        peer = await world.peer(hash_peer(torrent, answer, [], data))
        session = await world.session(dht=False)
        handle = await session.add(link_of(torrent, peer))
        with trio.fail_after(10):
            while handle.status().done < sum(FILES.values()) - 40_000:
                await trio.sleep(0.1)
        await trio.sleep(5)
        assert handle.status().done == sum(FILES.values()) - 40_000, "what cannot be judged is not asked for"
        gives.add(held)
        with trio.fail_after(60):
            await handle.finished()
        assert bytes(world.stores[session].last.data) == data


async def test_only_the_layers_of_wanted_files_are_waited_for(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    torrent, data = made(tmp_path, "2")
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(torrent, data, dht=False)
        session = await world.session(dht=False)
        handle = await session.add(link_of(torrent, seeder), only=["d", "z"])
        with trio.fail_after(60):
            await handle.finished()
        assert handle.status().size == 16385


class Trusting(Store):
    """Believes that it has everything."""

    async def load(self, progress: Progress | None = None) -> Bitfield:
        self._have = Bitfield.full(self.info.piece_count)
        return self._have.copy()


async def test_a_hybrid_that_contradicts_itself_ends_with_its_reason(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one, data = made(tmp_path / "one", "hybrid", {"x": 50_000, "y": 5})
    other, _ = made(tmp_path / "other", "2", {"x": 50_000, "y": 5})
    raw = one.info.raw
    for entry, twin in zip([entry for entry in one.info.files if not entry.pad], other.info.files, strict=True):
        raw = raw.replace(entry.pieces_root or b"", twin.pieces_root or b"")
    torrent = Torrent.of(Info.from_bytes(raw))
    async with a_world(dht_nodes=0) as world:
        seeder = await world.seeder(Torrent.of(Info.from_bytes(raw)), data, dht=False, store=Trusting)
        session = await world.session(dht=False)
        handle = await session.add(link_of(torrent, seeder))
        with pytest.raises(DownloadError, match="contradicts itself") as caught:
            await handle.finished()
        assert caught.value.verdict is Verdict.BAD_INPUT
        session = await world.session(dht=False)
        world.stores[session].kept[raw] = data
        handle = await session.add(torrent, seed=True)
        with pytest.raises(DownloadError, match="contradicts itself"):
            await handle.finished()
