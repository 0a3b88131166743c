"""`magnet get` against real seeders: from a link alone through a real DHT to files that are equal byte by byte."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.conftest import LibtorrentDht
from tests.interop.harness import (
    AWKWARD,
    PIECE,
    assert_same_tree,
    free_port,
    magnet,
    make_torrent,
    make_tree,
    need_libtorrent,
    seeder,
    torrent_of,
)

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("form", ["hex", "base32", "upper-case hex", "bare"])
def test_a_link_alone_gets_the_files_through_a_libtorrent_dht(
    tmp_path: Path, libtorrent_dht: LibtorrentDht, form: str
) -> None:
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD, seed=len(form))
    source = {
        "hex": f"magnet:?xt=urn:btih:{info_hash}",
        "base32": "magnet:?xt=urn:btih:" + base64.b32encode(bytes.fromhex(info_hash)).decode(),
        "upper-case hex": f"magnet:?xt=urn:btih:{info_hash.upper()}",
        "bare": info_hash,
    }[form]
    announces_itself = form == "hex"  # once is enough: libtorrent takes its time
    # It waits, else it may hear of us in the DHT and dial us before we have found it.
    options = ("--dht", libtorrent_dht.bootstrap, "--waits") if announces_itself else ()
    program, listen = seeder(torrent, root, *options)
    with program:
        if announces_itself:
            libtorrent_dht.wait_announced(info_hash, port=int(listen.rpartition(":")[2]))
        else:
            program.wait_event("seeding")
            libtorrent_dht.announce(info_hash, listen)
        options = ("--bootstrap", libtorrent_dht.bootstrap, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "30")
        with magnet("get", source, "-o", tmp_path / "got", *options, "--json", state=tmp_path / "state") as get:
            get.finish(0)
    assert_same_tree(root, tmp_path / "got" / "things")
    names = [event["event"] for event in get.events()]
    assert names[0] == "started"
    assert names[-1] == "done"
    assert len(get.out) == len(names), "with --json nothing but JSON may be on stdout"
    assert get.events("started")[0]["info_hash"] == info_hash
    metadata = get.events("metadata")[0]
    assert (metadata["name"], metadata["size"], metadata["files"]) == ("things", sum(AWKWARD.values()), len(AWKWARD))
    assert metadata["source"] == "dht"
    done = get.events("done")[0]
    assert done["bytes"] == sum(AWKWARD.values())
    assert Path(done["path"]).resolve() == (tmp_path / "got" / "things").resolve()


def test_a_single_file_from_a_torrent_file_and_a_named_peer(tmp_path: Path) -> None:
    need_libtorrent()
    root = make_tree(tmp_path / "seeds", {"one file.bin": 3_000_123})
    torrent = tmp_path / "one.torrent"
    make_torrent(root / "one file.bin", torrent, piece_bytes=PIECE)
    program, listen = seeder(torrent, root / "one file.bin")
    with program:
        program.wait_event("seeding")
        options = ("--no-dht", "--peer", listen, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20")
        with magnet("get", torrent, "-o", tmp_path / "got", *options, state=tmp_path / "state") as get:
            get.finish(0)
    assert_same_tree(root / "one file.bin", tmp_path / "got" / "one file.bin")
    assert [Path(line).resolve() for line in get.out] == [(tmp_path / "got" / "one file.bin").resolve()]
    assert get.err, "people are told on stderr how it goes"


def test_several_seeders_share_the_work(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, {"big.bin": 24 << 20}, piece_bytes=1 << 18)
    seeders = [seeder(torrent, root, "--rate", "6000000", host=f"127.0.{index}.1") for index in range(3)]
    options: list[str] = []
    with ExitStack() as stack:
        for program, listen in seeders:
            stack.enter_context(program)
            program.wait_event("seeding")
            options += ["--peer", listen]
        link = f"magnet:?xt=urn:btih:{info_hash}"
        where = ("--no-dht", "--listen", f"127.0.0.1:{free_port()}", "--timeout", "20", "--json")
        with magnet("get", link, "-o", tmp_path / "got", *where, *options, state=tmp_path / "state") as get:
            get.finish(0)
        uploaded = [program.ask("stats", "stats")["uploaded"] for program, _ in seeders]
    assert_same_tree(root, tmp_path / "got" / "things")
    assert min(uploaded) > (24 << 20) // 10, uploaded
    assert sum(uploaded) < (24 << 20) * 1.1, f"the end game fetched more than a tenth twice: {uploaded}"
    assert get.events("metadata")[0]["source"] == "peer"


def test_only_the_files_asked_for(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(
        tmp_path, {"a.bin": 300_000, "b.txt": 70_000, "sub/c.txt": 10, "z.bin": 200_000}
    )
    program, listen = seeder(torrent, root)
    with program:
        program.wait_event("seeding")
        options = (
            "--no-dht",
            "--peer",
            listen,
            "--listen",
            f"127.0.0.1:{free_port()}",
            "--timeout",
            "20",
            "--only",
            "*.txt",
        )
        link = f"magnet:?xt=urn:btih:{info_hash}"
        with magnet("get", link, "-o", tmp_path / "got", *options, "--json", state=tmp_path / "state") as get:
            get.finish(0)
    got = tmp_path / "got" / "things"
    for name in ("b.txt", "sub/c.txt"):
        assert_same_tree(root / name, got / name)
    assert not (got / "z.bin").exists()
    assert not (got / "a.bin").exists()


@pytest.mark.parametrize("ending", ["kill -9", "SIGTERM", "Ctrl-C"])
def test_a_download_that_was_stopped_goes_on_where_it_was(tmp_path: Path, ending: str) -> None:
    need_libtorrent()
    size, piece = 24 << 20, 1 << 17
    root, torrent, info_hash = torrent_of(tmp_path, {"big.bin": size - 77, "small": 77}, piece_bytes=piece)
    program, listen = seeder(torrent, root, "--rate", "8000000")
    arguments = ["get", f"magnet:?xt=urn:btih:{info_hash}", "-o", tmp_path / "got", "--no-dht", "--peer", listen]
    arguments += ["--listen", f"127.0.0.1:{free_port()}", "--timeout", "20", "--json"]

    def kept(line: str) -> bool:
        return '"progress"' in line and f'"done":{size}' not in line and _done(line) >= size // 3

    with program:
        program.wait_event("seeding")
        with magnet(*arguments, state=tmp_path / "state") as first:
            seen = _done(first.wait_line(kept))
            if ending == "kill -9":
                first.kill()
            else:
                first.terminate() if ending == "SIGTERM" else first.interrupt()
                assert first.wait() == 130, first.story()
                assert "Traceback" not in "\n".join(first.err)
        before = program.ask("stats", "stats")["uploaded"]
        with magnet(*arguments, state=tmp_path / "state") as second:
            second.finish(0)
        fetched = program.ask("stats", "stats")["uploaded"] - before
    assert_same_tree(root, tmp_path / "got" / "things")
    assert size - fetched >= seen * 0.99 - piece, f"{seen} bytes were verified, {size - fetched} were kept"


def _done(line: str) -> int:
    return int(json.loads(line)["done"])


def test_what_was_changed_on_disk_in_between_is_fetched_again(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD)
    program, listen = seeder(torrent, root)
    arguments = ["get", f"magnet:?xt=urn:btih:{info_hash}", "-o", tmp_path / "got", "--no-dht", "--peer", listen]
    arguments += ["--listen", f"127.0.0.1:{free_port()}", "--timeout", "20", "--json"]
    with program:
        program.wait_event("seeding")
        with magnet(*arguments, state=tmp_path / "state") as get:
            get.finish(0)
        broken = tmp_path / "got" / "things" / "deep" / "er" / "spans.bin"
        with broken.open("r+b") as file:
            file.seek(400_000)
            file.write(b"not what was here")
        (tmp_path / "got" / "things" / "edge.bin").unlink()
        with magnet(*arguments, state=tmp_path / "state") as get:
            get.finish(0)
    assert_same_tree(root, tmp_path / "got" / "things")


def test_a_seeder_that_lies_is_overcome_by_one_that_does_not(tmp_path: Path) -> None:
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, {"big.bin": 12 << 20}, piece_bytes=1 << 18)
    lies = make_tree(tmp_path / "lies" / "things", {"big.bin": 12 << 20}, seed=99)
    liar, lying = seeder(torrent, lies, "--lie", "--rate", "4000000", host="127.0.7.1")
    honest, telling = seeder(torrent, root, "--rate", "6000000", host="127.0.8.1")
    with liar, honest:
        liar.wait_event("seeding")
        honest.wait_event("seeding")
        options = ("--no-dht", "--peer", lying, "--peer", telling, "--listen", f"127.0.0.1:{free_port()}")
        link = f"magnet:?xt=urn:btih:{info_hash}"
        with magnet(
            "get", link, "-o", tmp_path / "got", *options, "--timeout", "20", "--json", state=tmp_path / "s"
        ) as get:
            get.finish(0)
        lied = liar.ask("stats", "stats")["uploaded"]
    assert_same_tree(root, tmp_path / "got" / "things")
    assert lied < 6 << 20, f"it went on believing the liar for {lied} bytes"


def test_a_liar_alone_is_dropped_and_named_as_the_reason(tmp_path: Path) -> None:
    need_libtorrent()
    _, torrent, info_hash = torrent_of(tmp_path, {"big.bin": 2 << 20})
    lies = make_tree(tmp_path / "lies" / "things", {"big.bin": 2 << 20}, seed=99)
    liar, lying = seeder(torrent, lies, "--lie")
    with liar:
        liar.wait_event("seeding")
        options = ("--no-dht", "--peer", lying, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "3", "--json")
        link = f"magnet:?xt=urn:btih:{info_hash}"
        with magnet("get", link, "-o", tmp_path / "got", *options, state=tmp_path / "state") as get:
            get.finish(3)
    failed = get.events("failed")[0]
    assert failed["verdict"] == "stalled"
    assert failed["info_hash"] == info_hash
    assert len(get.err) == 0 or "Traceback" not in "\n".join(get.err)


def test_a_dht_without_the_torrent_says_no_peers(tmp_path: Path, libtorrent_dht: LibtorrentDht) -> None:
    link = "magnet:?xt=urn:btih:" + "5a" * 20
    options = ("--bootstrap", libtorrent_dht.bootstrap, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "3")
    with magnet("get", link, "-o", tmp_path / "got", *options, "--json", state=tmp_path / "state") as get:
        get.finish(3)
    assert get.events("failed")[0]["verdict"] == "no_peers"


def test_a_dead_bootstrap_says_dht_unreachable_and_names_it_for_people(tmp_path: Path) -> None:
    link = "magnet:?xt=urn:btih:" + "5a" * 20
    dead = f"127.0.0.1:{free_port()}"
    options = ("--bootstrap", dead, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "3")
    with magnet("get", link, "-o", tmp_path / "got", *options, "--json", state=tmp_path / "state") as get:
        get.finish(3)
    assert get.events("failed")[0]["verdict"] == "dht_unreachable"
    with magnet("get", link, "-o", tmp_path / "got", *options, state=tmp_path / "state") as get:
        get.finish(3)
    assert get.out == []
    assert "Traceback" not in "\n".join(get.err)
    assert "dht" in get.err[-1].lower()


def test_a_peer_that_nobody_is_says_peers_unreachable(tmp_path: Path) -> None:
    link = "magnet:?xt=urn:btih:" + "5a" * 20
    nobody = f"127.0.0.1:{free_port()}"
    options = ("--no-dht", "--peer", nobody, "--listen", f"127.0.0.1:{free_port()}", "--timeout", "3", "--json")
    with magnet("get", link, "-o", tmp_path / "got", *options, state=tmp_path / "state") as get:
        get.finish(3)
    assert get.events("failed")[0]["verdict"] == "peers_unreachable"
