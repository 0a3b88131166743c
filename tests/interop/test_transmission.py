"""transmission-daemon as a seeder and as a leecher. It refuses loopback peers, so each side gets a namespace."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.interop.harness import (
    AWKWARD,
    Program,
    assert_same_tree,
    free_port,
    kademlia_bt,
    magnet,
    need_client,
    need_libtorrent,
    torrent_of,
    wait_named,
)
from tests.interop.namespaces import Machine, two_machines
from wire.bencode import encode
from wire.compact import Endpoint, pack_endpoints

pytestmark = pytest.mark.interop

DHT_NODES = 12
"""transmission holds a DHT of eight nodes or fewer for broken."""


@contextmanager
def transmission(
    machine: Machine, folder: Path, data: Path, *, dht: Sequence[Endpoint] = (), lsd: bool = False, pex: bool = False
) -> Iterator[Daemon]:
    """A transmission-daemon in `machine`, in the foreground, with its files in `folder`."""
    daemon = need_client("transmission-daemon")
    need_client("transmission-remote")
    folder.mkdir(parents=True)
    settings = {
        "dht-enabled": bool(dht),
        "lpd-enabled": lsd,
        "pex-enabled": pex,
        "utp-enabled": False,
        "port-forwarding-enabled": False,
        "bind-address-ipv4": machine.address,
        "peer-port": 51413,
        "rpc-port": 9091,
        "rpc-whitelist-enabled": False,
        "download-dir": str(data),
        "incomplete-dir-enabled": False,
        "encryption": 0,
        "cache-size-mb": 1,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    # As if it had run before: these nodes it asks one every two seconds, others one every quarter of a minute.
    nodes = pack_endpoints(dht)
    (folder / "dht.dat").write_bytes(encode({b"id": random.Random(str(folder)).randbytes(20), b"nodes": nodes}))
    command = [*machine.prefix, daemon, "--foreground", "--config-dir", str(folder), "--log-info"]
    with Program(command) as program:
        yield Daemon(machine, program)
        program.kill()  # told to end, it takes ten seconds to say goodbye to nobody


class Daemon:
    """What a test asks of a running daemon, through its own remote."""

    def __init__(self, machine: Machine, program: Program) -> None:
        self.machine = machine
        self.program = program
        self.until(lambda: "VERSION" in self.remote("-si", check=False))

    def remote(self, *arguments: str, check: bool = True) -> str:
        command = [*self.machine.prefix, "transmission-remote", f"{self.machine.address}:9091", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def wait_says(self, line: str, *, timeout_s: float) -> None:
        """Waits until `transmission-remote -t 1 -i` has this line."""
        self.until(lambda: line in self.remote("-t", "1", "-i"), timeout_s=timeout_s)

    def until(self, true: object, *, timeout_s: float = 60.0) -> None:
        """Waits until a question to it is answered with something true."""
        until = time.monotonic() + timeout_s
        while not true():  # type: ignore[operator]
            shown = self.remote("-t", "1", "-i", "-ip", check=False)
            assert time.monotonic() < until, f"{shown}\n{self.program.story()}"
            time.sleep(0.1)  # its remote can only be asked, it never calls


def test_we_download_from_transmission(tmp_path: Path) -> None:
    need_client("transmission-daemon")
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD)
    with two_machines() as (here, there), transmission(there, tmp_path / "daemon", root.parent) as daemon:
        daemon.remote("--add", str(torrent))
        daemon.wait_says("Percent Done: 100%", timeout_s=60)
        options = ("--no-dht", "--peer", f"{there.address}:51413", "--listen", f"{here.address}:{free_port()}")
        link = f"magnet:?xt=urn:btih:{info_hash}"
        with magnet(
            "get", link, "-o", tmp_path / "got", *options, "--timeout", "20", "--json",
            state=tmp_path / "state", prefix=here.prefix,
        ) as get:  # fmt: skip
            get.finish(0)
    assert_same_tree(root, tmp_path / "got" / "things")


def test_transmission_downloads_from_us_through_our_dht(tmp_path: Path) -> None:
    need_client("transmission-daemon")
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD)
    with two_machines(DHT_NODES) as (here, there), ExitStack() as stack:
        port = free_port()
        bootstrap = f"{here.address}:{port}"
        ours = f"{here.address}:{free_port()}"
        common = ("--bootstrap", bootstrap, "--json")
        nodes = [
            stack.enter_context(
                kademlia_bt("run", "--listen", f"{address}:{port}", *common, "--per-ip-limit", "0", prefix=here.prefix)
            )
            for address in here.addresses
        ]
        for node in nodes[1:]:
            node.wait_event("joined")
        seed = stack.enter_context(
            magnet(
                "seed", torrent, "--data", root.parent, *common, "--listen", ours,
                state=tmp_path / "state", prefix=here.prefix,
            )
        )  # fmt: skip
        seed.wait_event("seeding")
        wait_named(ours, info_hash, bootstrap, prefix=here.prefix)  # it searches once, and then not for long
        known = [Endpoint(address, port) for address in here.addresses]
        daemon = stack.enter_context(transmission(there, tmp_path / "daemon", tmp_path / "got", dht=known))
        daemon.remote("--add", f"magnet:?xt=urn:btih:{info_hash}")
        daemon.wait_says("Percent Done: 100%", timeout_s=150)  # it takes some 20 s to know the nodes and to search
        assert "Traceback" not in "\n".join(line for node in [*nodes, seed] for line in node.err)
    assert_same_tree(root, tmp_path / "got" / "things", but_empty=True)  # it makes no empty files


@pytest.mark.parametrize("we_seed", [False, True])
def test_each_finds_the_other_in_the_local_network(tmp_path: Path, we_seed: bool) -> None:
    need_client("transmission-daemon")
    need_libtorrent()
    root, torrent, info_hash = torrent_of(tmp_path, AWKWARD)
    with two_machines() as (here, there), ExitStack() as stack:
        for machine in (here, there):
            command = [*machine.prefix, "ip", "route", "add", "224.0.0.0/4", "dev", "wire"]
            subprocess.run(command, check=True, timeout=60)
        ours = ("--no-dht", "--no-trackers", "--listen", f"{here.address}:{free_port()}", "--json", "--timeout", "60")
        data = tmp_path / "got" if we_seed else root.parent
        daemon = stack.enter_context(transmission(there, tmp_path / "daemon", data, lsd=True))
        if we_seed:
            daemon.remote("--add", f"magnet:?xt=urn:btih:{info_hash}")
            command = ("seed", torrent, "--data", root.parent)
        else:
            daemon.remote("--add", str(torrent))
            daemon.wait_says("Percent Done: 100%", timeout_s=60)
            command = ("get", f"magnet:?xt=urn:btih:{info_hash}", "-o", tmp_path / "got")  # type: ignore[assignment]
        program = stack.enter_context(magnet(*command, *ours, state=tmp_path / "state", prefix=here.prefix))
        if we_seed:
            daemon.wait_says("Percent Done: 100%", timeout_s=60)
        else:
            program.finish(0)
            assert program.events("metadata")[0]["source"] in ("lsd", "peer")  # who dials first is chance
    assert_same_tree(root, tmp_path / "got" / "things", but_empty=True)


def test_we_name_a_peer_to_transmission(tmp_path: Path) -> None:
    need_client("transmission-daemon")
    need_libtorrent()
    root, torrent, _ = torrent_of(tmp_path, {"big.bin": 8_000_000})
    with two_machines(3) as (here, there), ExitStack() as stack:
        seed_at, middle_at = f"{here.addresses[1]}:{free_port()}", f"{here.addresses[2]}:{free_port()}"
        common = ("--no-dht", "--no-lsd", "--json", "--up-limit", "20K")
        seed = stack.enter_context(
            magnet(
                "seed", torrent, "--data", root.parent, *common, "--listen", seed_at,
                state=tmp_path / "s1", prefix=here.prefix,
            )
        )  # fmt: skip
        seed.wait_event("seeding")
        daemon = stack.enter_context(transmission(there, tmp_path / "daemon", tmp_path / "theirs", pex=True))
        daemon.remote("--add", str(torrent))
        middle = ("--peer", seed_at, "--peer", f"{there.address}:51413", "--listen", middle_at)
        stack.enter_context(
            magnet("get", torrent, "-o", tmp_path / "ours", *common, *middle, state=tmp_path / "s2", prefix=here.prefix)
        )
        daemon.until(lambda: here.addresses[1] in daemon.remote("-t", "1", "-ip"), timeout_s=90)
