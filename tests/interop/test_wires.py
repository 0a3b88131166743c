"""Encrypted connections (MSE/PE) and uTP (BEP 29) with libtorrent, in both roles: it insists, we follow, and back."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.harness import assert_same_tree, free_port, libtorrent, magnet, need_libtorrent, torrent_of

pytestmark = pytest.mark.interop

FILES = {"big.bin": 4_000_001, "sub/small.txt": 77}

TCP, UTP = "tcp, {}", "utp, {}"
CLEAR, SHAKEN, RC4 = "plain", "plain after an encrypted handshake", "rc4"

WAYS = {
    # name: what libtorrent is told, what we are told, and what it then says of the connections
    "RC4 forced by it": (["--encrypt", "rc4"], [], TCP.format(RC4)),
    "encrypted handshake forced by it, plain after": (["--encrypt", "plain"], [], TCP.format(SHAKEN)),
    "encryption required by both": (["--encrypt", "both"], ["--encryption", "require"], TCP.format(RC4)),
    "encryption off with us": ([], ["--encryption", "off"], TCP.format(CLEAR)),
    "it has only uTP": (["--utp"], ["--encryption", "off"], UTP.format(CLEAR)),
    "only uTP and RC4 with both": (
        ["--utp", "--encrypt", "rc4"],
        ["--transport", "utp", "--encryption", "require"],
        UTP.format(RC4),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_we_get_from_it(tmp_path: Path, way: str) -> None:
    need_libtorrent()
    its, ours, wire = WAYS[way]
    root, torrent, info_hash = torrent_of(tmp_path, FILES)
    listen = f"127.0.0.1:{free_port()}"
    options = ("--no-dht", "--peer", listen, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20", "--json")
    link = f"magnet:?xt=urn:btih:{info_hash}"
    rate = ("--rate", "12000000")  # long enough to be looked at
    with libtorrent("seed", torrent, root.parent, "--listen", listen, "--wires", *rate, *its) as seed:
        seed.wait_event("seeding")
        with magnet("get", link, "-o", tmp_path / "got", *options, *ours, state=tmp_path / "state") as get:
            get.finish(0)
            assert "Traceback" not in "\n".join(get.err), get.story()
        assert seed.ask("stats", "stats")["wires"] == [wire]
    assert_same_tree(root, tmp_path / "got" / "things")


@pytest.mark.parametrize("way", WAYS)
def test_it_gets_from_us(tmp_path: Path, way: str) -> None:
    need_libtorrent()
    its, ours, wire = WAYS[way]
    root, torrent, _ = torrent_of(tmp_path, FILES)
    listen = f"127.0.0.1:{free_port()}"
    options = ("--no-dht", "--listen", listen, "--json", "--up-limit", "12M")
    with magnet("seed", torrent, "--data", root.parent, *options, *ours, state=tmp_path / "s") as seed:
        seed.wait_event("seeding")
        here = f"127.0.0.1:{free_port()}"
        with libtorrent("get", torrent, tmp_path / "got", "--listen", here, "--peer", listen, "--wires", *its) as get:
            get.wait_event("done")
            assert get.ask("stats", "stats")["wires"] == [wire]
        seed.terminate()
        assert seed.wait() == 0, seed.story()
        assert "Traceback" not in "\n".join(seed.err), seed.story()
    assert_same_tree(root, tmp_path / "got" / "things")


@pytest.mark.parametrize("we_seed", [False, True], ids=["we get", "it gets"])
def test_utp_over_ipv6(tmp_path: Path, we_seed: bool) -> None:
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, FILES)
    there, here = (f"[::1]:{free_port('::1')}" for _ in range(2))
    ours = ("--no-dht", "--json", "--transport", "utp", "--encryption", "off")
    with ExitStack() as stack:  # who gets dials once the other listens: libtorrent dials but once a minute
        if we_seed:
            serving = ("--data", root.parent, "--listen", there, "--up-limit", "12M")
            seed = stack.enter_context(magnet("seed", torrent, *serving, *ours, state=tmp_path / "s"))
            seed.wait_event("seeding")
            fetching = ("--listen", here, "--peer", there, "--utp", "--wires")
            its = get = stack.enter_context(libtorrent("get", torrent, tmp_path / "got", *fetching))
        else:
            serving = ("--listen", there, "--rate", "12000000")  # type: ignore[assignment]
            its = stack.enter_context(libtorrent("seed", torrent, root.parent, *serving, "--utp", "--wires"))
            its.wait_event("seeding")
            fetching = ("-o", tmp_path / "got", "--peer", there, "--listen", here, "--timeout", "20")  # type: ignore[assignment]
            get = stack.enter_context(magnet("get", torrent, *fetching, *ours, state=tmp_path / "state"))
        get.wait_event("done")
        assert its.ask("stats", "stats")["wires"] == [UTP.format(CLEAR)]
    assert_same_tree(root, tmp_path / "got" / "things")


def test_by_default_the_handshake_is_encrypted_where_the_peer_can(tmp_path: Path) -> None:
    """And what follows is as the accepting side likes it: libtorrent likes it plain."""
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, FILES)
    listen = f"127.0.0.1:{free_port()}"
    options = ("--no-dht", "--peer", listen, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20", "--json")
    with libtorrent("seed", torrent, root.parent, "--listen", listen, "--wires", "--rate", "12000000") as seed:
        seed.wait_event("seeding")
        with magnet("get", torrent, "-o", tmp_path / "got", *options, state=tmp_path / "state") as get:
            get.finish(0)
        assert seed.ask("stats", "stats")["wires"] == [TCP.format(SHAKEN)]


def test_who_forbids_encryption_is_not_reached_by_who_requires_it(tmp_path: Path) -> None:
    """The setting is kept even where that means to get nothing."""
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, {"small.bin": 100_000})
    listen = f"127.0.0.1:{free_port()}"
    options = ("--no-dht", "--peer", listen, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "1", "--json")
    with magnet(
        "seed", torrent, "--data", root.parent, "--no-dht", "--listen", listen, "--json", "--encryption", "off",
        state=tmp_path / "s",
    ) as seed:  # fmt: skip
        seed.wait_event("seeding")
        arguments = ("get", torrent, "-o", tmp_path / "got", *options, "--encryption", "require")
        with magnet(*arguments, state=tmp_path / "state") as get:
            get.finish(3)
    failed = get.events("failed")[0]
    assert failed["verdict"] == "peers_unreachable", failed
