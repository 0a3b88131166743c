"""`magnet seed` to leechers that nobody here wrote, found through our own DHT nodes alone."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.harness import (
    AWKWARD,
    assert_same_tree,
    free_port,
    libtorrent,
    magnet,
    need_libtorrent,
    torrent_of,
    wait_named,
)

pytestmark = pytest.mark.interop


def test_libtorrent_resolves_and_downloads_through_our_nodes_alone(tmp_path: Path, our_dht: str) -> None:
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD)
    ours = f"127.0.0.1:{free_port()}"
    with magnet(
        "seed",
        torrent,
        "--data",
        root.parent,
        "--bootstrap",
        our_dht,
        "--listen",
        ours,
        "--json",
        state=tmp_path / "state",
    ) as seed:
        seeding = seed.wait_event("seeding")
        assert seeding["address"] == ours
        assert info_hash in seeding["magnet"]
        link = f"magnet:?xt=urn:btih:{info_hash}"
        leech = f"127.0.0.1:{free_port()}"
        with libtorrent("get", link, tmp_path / "got", "--listen", leech, "--dht", our_dht) as get:
            get.wait_event("metadata")
            get.wait_event("done")
        assert_same_tree(root, tmp_path / "got" / "things")
        seed.terminate()
        assert seed.wait() in (0, 130), seed.story()
    assert "Traceback" not in "\n".join(seed.err)


def test_our_link_alone_through_our_own_nodes(tmp_path: Path, our_dht: str) -> None:
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD, seed=2)
    ours = f"127.0.0.1:{free_port()}"
    with magnet(
        "seed",
        torrent,
        "--data",
        root.parent,
        "--bootstrap",
        our_dht,
        "--listen",
        ours,
        "--json",
        state=tmp_path / "state",
    ) as seed:
        seed.wait_event("seeding")
        wait_named(ours, info_hash, our_dht)  # else it may hear of who asks, and dial him first
        there = ("--bootstrap", our_dht, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "40", "--json")
        with magnet("get", info_hash, "-o", tmp_path / "got", *there, state=tmp_path / "other") as get:
            get.finish(0)
        assert get.events("metadata")[0]["source"] == "dht"
    assert_same_tree(root, tmp_path / "got" / "things")


def test_ten_leechers_of_one_seed_all_finish(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, {"big.bin": 6 << 20})
    ours = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        seed = stack.enter_context(
            magnet(
                "seed", torrent, "--data", root.parent, "--no-dht", "--listen", ours, "--json", state=tmp_path / "state"
            )
        )
        seed.wait_event("seeding")
        leechers = []
        for index in range(10):
            host = f"127.0.{10 + index}.1"
            listen = f"{host}:{free_port(host)}"
            leechers.append(
                stack.enter_context(
                    libtorrent("get", torrent, tmp_path / f"got{index}", "--listen", listen, "--peer", ours)
                )
            )
        for leecher in leechers:
            leecher.wait_event("done", timeout_s=90)
        for index in range(10):
            assert_same_tree(root, tmp_path / f"got{index}" / "things")


def test_whoever_downloads_uploads_too(tmp_path: Path) -> None:
    """A leecher of ours that has everything goes on sharing with `--seed`: another gets it all from it."""
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, {"big.bin": 3 << 20, "tail": 99})
    first = f"127.0.0.1:{free_port()}"
    ours = f"127.0.0.1:{free_port()}"
    link = f"magnet:?xt=urn:btih:{info_hash}"
    with libtorrent("seed", torrent, root.parent, "--listen", first) as seeder:
        seeder.wait_event("seeding")
        where = ("--no-dht", "--peer", first, "--listen", ours, "--timeout", "20", "--seed", "--json")
        with magnet("get", link, "-o", tmp_path / "got", *where, state=tmp_path / "state") as get:
            get.wait_event("seeding")
            seeder.kill()
            there = f"127.0.0.1:{free_port()}"
            with libtorrent("get", link, tmp_path / "again", "--listen", there, "--peer", ours) as leecher:
                leecher.wait_event("done")
            assert_same_tree(root, tmp_path / "again" / "things")


def test_a_seed_whose_data_is_not_whole_says_so(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, {"a.bin": 300_000, "b.bin": 300_000})
    (root / "b.bin").write_bytes(b"gone")
    with magnet("check", torrent, "--data", root.parent, state=tmp_path / "state") as check:
        check.finish(1)
    assert "b.bin" in "\n".join(check.out + check.err)
    assert "Traceback" not in "\n".join(check.err)
