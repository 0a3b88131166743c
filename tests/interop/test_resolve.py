"""`magnet resolve` against a real DHT and real seeders: valid .torrent files, many at a time, one session or many.

How long it takes is measured by benchmarks/resolve.py.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

import magnet as library
from tests.interop.conftest import LibtorrentDht
from tests.interop.harness import AWKWARD, free_port, libtorrent, magnet, need_libtorrent, seeder, torrent_of
from wire.compact import Endpoint, parse_host_port
from wire.metainfo import Torrent

pytestmark = pytest.mark.interop


def test_many_links_at_once(tmp_path: Path, libtorrent_dht: LibtorrentDht) -> None:
    made = [torrent_of(tmp_path / str(index), {f"file {index}": 50_000 + index}, seed=index) for index in range(6)]
    links = tmp_path / "links.txt"
    links.write_text("".join(f"magnet:?xt=urn:btih:{info_hash}\n\n" for _, _, info_hash in made[1:]))
    with ExitStack() as stack:
        for root, torrent, info_hash in made:
            program, listen = seeder(torrent, root)
            stack.enter_context(program)
            program.wait_event("seeding")
            libtorrent_dht.announce(info_hash, listen)
        options = ("--bootstrap", libtorrent_dht.bootstrap, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20")
        with magnet(
            "resolve", made[0][2], "--from", links, "--jobs", "4", "-o", tmp_path / "got", *options, "--json",
            state=tmp_path / "state",
        ) as resolve:  # fmt: skip
            resolve.finish(0)
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == sorted(
        f"{made_of[2]}.torrent" for made_of in made
    )
    for _, torrent, info_hash in made:
        got = Torrent.from_bytes((tmp_path / "got" / f"{info_hash}.torrent").read_bytes())
        assert got.info_hash_v1 == bytes.fromhex(info_hash)
        assert got.info.raw == Torrent.from_bytes(torrent.read_bytes()).info.raw
    resolved = {event["info_hash"]: event for event in resolve.events("resolved")}
    assert set(resolved) == {info_hash for _, _, info_hash in made}
    assert all(Path(event["torrent"]).is_file() for event in resolved.values())


def test_libtorrent_seeds_from_the_torrent_that_was_resolved(tmp_path: Path, libtorrent_dht: LibtorrentDht) -> None:
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD, seed=5)
    program, listen = seeder(torrent, root)
    with program:
        program.wait_event("seeding")
        libtorrent_dht.announce(info_hash, listen)
        options = ("--bootstrap", libtorrent_dht.bootstrap, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20")
        with magnet("resolve", info_hash, "-o", tmp_path / "got", *options, state=tmp_path / "state") as resolve:
            resolve.finish(0)
    written = tmp_path / "got" / f"{info_hash}.torrent"
    assert [Path(line).resolve() for line in resolve.out] == [written.resolve()]
    listen = f"127.0.0.1:{free_port()}"
    with libtorrent("seed", written, root.parent, "--listen", listen) as again:
        again.wait_event("seeding")
        leech = f"127.0.0.1:{free_port()}"
        with libtorrent("get", torrent, tmp_path / "there", "--listen", leech, "--peer", listen) as get:
            get.wait_event("done")


def test_one_good_link_and_one_that_nobody_has(tmp_path: Path, libtorrent_dht: LibtorrentDht) -> None:
    root, torrent, info_hash = torrent_of(tmp_path, {"x": 20_000}, seed=6)
    program, listen = seeder(torrent, root)
    with program:
        program.wait_event("seeding")
        libtorrent_dht.announce(info_hash, listen)
        options = ("--bootstrap", libtorrent_dht.bootstrap, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "4")
        with magnet(
            "resolve", "ab" * 20, info_hash, "-o", tmp_path / "got", *options, "--json", state=tmp_path / "state"
        ) as resolve:
            resolve.finish(3)
    assert (tmp_path / "got" / f"{info_hash}.torrent").is_file()
    assert [(event["info_hash"], event["verdict"]) for event in resolve.events("failed")] == [("ab" * 20, "no_peers")]


async def test_a_session_that_has_joined_resolves_link_after_link(
    tmp_path: Path, libtorrent_dht: LibtorrentDht
) -> None:
    made = [torrent_of(tmp_path / str(index), {f"file {index}": 20_000}, seed=20 + index) for index in range(3)]
    with ExitStack() as stack:
        for root, file, info_hash in made:
            program, listen = seeder(file, root)
            stack.enter_context(program)
            await trio.to_thread.run_sync(program.wait_event, "seeding")
            await trio.to_thread.run_sync(libtorrent_dht.announce, info_hash, listen)
        config = library.Config(
            listen=(Endpoint("127.0.0.1", free_port()),),
            bootstrap=(parse_host_port(libtorrent_dht.bootstrap),),
            state_dir=tmp_path / "state",
        )
        async with library.Session(config) as session:
            await session.node.wait_joined()
            for _, _, info_hash in made:
                handle = await session.add(f"magnet:?xt=urn:btih:{info_hash}", metadata_only=True)
                torrent = await handle.metadata()
                assert torrent.info_hash_v1 == bytes.fromhex(info_hash)


async def test_a_link_that_names_its_peer_is_resolved_by_one_conversation(tmp_path: Path) -> None:
    need_libtorrent()
    made = torrent_of(tmp_path, {f"file {index}": 20_000 for index in range(900)}, seed=30)  # several blocks of it
    root, file, info_hash = made
    program, listen = seeder(file, root)
    with program:
        await trio.to_thread.run_sync(program.wait_event, "seeding")
        for encryption in ("prefer", "require", "off"):
            config = library.Config(
                listen=(Endpoint("127.0.0.1", 0),), dht=False, lsd=False, state_dir=None, encryption=encryption
            )
            async with library.Session(config) as session:
                link = library.MagnetLink.parse(f"magnet:?xt=urn:btih:{info_hash}&x.pe={listen}")
                got = await session.fetch(link)
                assert got is not None
                assert got[0].info.raw == Torrent.from_bytes(file.read_bytes()).info.raw
                assert len(got[0].info.raw) > 2 * 16384
