"""Fixtures of the interop tests: a DHT of sixty libtorrent nodes, and one of our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.harness import Program, free_port, kademlia_bt, libtorrent, need_libtorrent

DHT_NODES = 60
OUR_NODES = 8


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` a file's tests share a process, as they share what it started; the matrix does not."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.name != "test_matrix.py":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@dataclass(frozen=True)
class LibtorrentDht:
    """A running DHT: its child process and the address to bootstrap from."""

    program: Program
    bootstrap: str

    def wait_announced(self, info_hash: str, *, port: int | None = None, timeout_s: float = 60.0) -> None:
        """Waits until one of its nodes has taken an announce of this torrent (and of this peer port)."""
        fields = {"info_hash": info_hash} if port is None else {"info_hash": info_hash, "port": port}
        self.program.wait_event("announced", timeout_s=timeout_s, **fields)

    def announce(self, info_hash: str, listen: str) -> None:
        """Announces the peer at `listen` (127.0.0.1:PORT) to its nodes for it: libtorrent's first announce may miss,
        and its next is a quarter of a minute later."""
        port = listen.rpartition(":")[2]
        with kademlia_bt("announce", info_hash, "--port", port, "--bootstrap", self.bootstrap) as program:
            program.finish(0)


@pytest.fixture(scope="session")
def libtorrent_dht() -> Iterator[LibtorrentDht]:
    """Sixty libtorrent nodes on 127.1.0.1, 127.1.1.1, ..., settled."""
    need_libtorrent()
    port = free_port("127.1.0.1")
    with libtorrent("dht", str(DHT_NODES), str(port)) as program:
        ready = program.wait_event("ready", timeout_s=60)
        yield LibtorrentDht(program, ready["bootstrap"])


@pytest.fixture(scope="module")
def our_dht() -> Iterator[str]:
    """Eight `kademlia-bt run` processes; the address to bootstrap from."""
    need_libtorrent()
    port = free_port("127.3.0.1")
    bootstrap = f"127.3.0.1:{port}"
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                kademlia_bt(
                    "run",
                    "--listen",
                    f"127.3.{index}.1:{port}",
                    "--bootstrap",
                    bootstrap,
                    "--per-ip-limit",
                    "0",
                    "--json",
                )
            )
            for index in range(OUR_NODES)
        ]
        for node in nodes:
            node.wait_event("listening")
        for node in nodes[1:]:
            node.wait_event("joined")
        yield bootstrap
        for node in nodes:
            node.terminate()
        for node in nodes:
            node.finish(0)
            assert "Traceback" not in "\n".join(node.err)
