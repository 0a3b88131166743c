"""The router over sockets: as an object on a virtual internet, and as a command with its state, workers and signals."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_one_way_pair

from kademlia_bt import Node
from kademlia_bt.dht.node_id import make_node_id
from kademlia_bt.router.node import RouterNode
from kademlia_bt.router.pool import RouterPool, can_share_a_port
from kademlia_bt.router.state import RouterState, files_for, load, save
from kademlia_bt.router.stats import RouterStats
from tests.interop.harness import Program, kademlia_bt
from tests.sim.net import Internet
from wire.compact import IPV4, IPV6, Endpoint
from wire.errors import MisuseError, NetworkError, ProtocolError

LOOPBACK = ("--listen", "127.0.0.1:0", "--json")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
shares = pytest.mark.skipif(not can_share_a_port(), reason="this system does not share ports")


def entry(n: int) -> bytes:
    ip = bytes((20, n >> 8 & 255, n & 255, 9))  # in a /24 of its own
    return make_node_id(ip, random.Random(n)) + ip + b"\x1a\xe1"


async def test_nodes_meet_through_a_router_and_another_learns_from_it(autojump_clock: MockClock) -> None:
    internet = Internet(random.Random(1), delay_s=0.02)
    internet.names["router.example"] = ["80.1.0.1", "2a01:1::1"]
    where = [Endpoint("0.0.0.0", 6881), Endpoint("::", 6881)]
    async with AsyncExitStack() as stack:
        host = internet.host("80.1.0.1", "2a01:1::1")
        router = await stack.enter_async_context(RouterNode(listen=where, network=host, rng=random.Random(2)))
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(5):
                await router.wait_joined()
        nodes = []
        for n in range(12):
            host = internet.host(f"80.2.{n}.1", f"2a02:{n:x}::1")
            nodes.append(
                await stack.enter_async_context(
                    Node(bootstrap=[("router.example", 6881)], network=host, rng=random.Random(n))
                )
            )
            await trio.sleep(1)
        with trio.fail_after(60):
            await router.wait_joined()
            for node in nodes:
                await node.wait_joined()
            assert await nodes[3].announce(b"x" * 20, 7000) >= 8
            assert [peer async for peer in nodes[9].get_peers(b"x" * 20)] != []
        assert [face.nodes for face in router.stats().faces] == [12, 12]
        assert router.stats().alive_share == 1.0
        host = internet.host("80.3.0.1")
        other = await stack.enter_async_context(
            RouterNode(listen=where[:1], bootstrap=[("router.example", 6881)], network=host, rng=random.Random(3))
        )
        await trio.sleep(120)
        assert other.stats().nodes >= 8
        assert router.stats().nodes == 24  # another router is no node


async def test_the_ring_survives_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    internet = Internet(random.Random(1))
    file = tmp_path / "deep" / "router-0.state"
    host = internet.host("80.1.0.1")
    where = [Endpoint("0.0.0.0", 6881)]
    async with RouterNode(listen=where, state=[file], network=host, rng=random.Random(2)) as router:
        for n in range(2_500):
            router.router.keepers[0][1].ring.add(entry(n)[:20], entry(n)[20:])
        node_id = router.node_id
        await trio.sleep(1)
    async with RouterNode(listen=where, state=[file], network=host, rng=random.Random(3)) as router:
        assert router.node_id == node_id
        with trio.fail_after(1):
            await router.wait_joined()
            while router.stats().nodes < 2_500:
                await trio.sleep(0.01)
    assert len(load(file).nodes[IPV4]) == 2_500 * 26
    # Files of workers that there are no more are taken over, and then gone.
    save(tmp_path / "deep" / "router-3.state", RouterState(nodes={IPV4: entry(9_999)}))
    files = files_for(tmp_path / "deep", 0, 1)
    assert [path.name for path in files] == ["router-0.state", "router-3.state"]
    assert files_for(tmp_path / "deep", 1, 2)[1:] == [tmp_path / "deep" / "router-3.state"]
    async with RouterNode(listen=where, state=files, network=host, rng=random.Random(3)) as router:
        await trio.sleep(1)
        assert router.stats().nodes == 2_501
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["router-0.state"]


def test_state_survives_its_round_trip_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "router-0.state"
    assert load(file) == RouterState()
    state = RouterState(
        {IPV4: (b"i" * 20, b"j" * 20), IPV6: (b"i" * 20,)}, {IPV4: entry(1) + entry(2), IPV6: bytes(38)}
    )
    save(file, state)
    assert load(file) == state
    whole = file.read_bytes()
    rng = random.Random(1)
    for at in [*range(0, len(whole), 7), len(whole) - 1]:
        broken = bytearray(whole)
        broken[at] ^= 1 << rng.randrange(8)
        for damaged in (whole[:at], bytes(broken)):
            file.write_bytes(damaged)
            with pytest.raises(ProtocolError, match="damaged"):
                load(file)
            assert not file.exists()
            assert file.with_name("router-0.state.damaged").read_bytes() == damaged
    with pytest.raises(ProtocolError):
        RouterState.from_bytes(whole + b"more")


async def test_misuse_is_told() -> None:
    with pytest.raises(MisuseError):
        RouterNode(listen=[])
    router = RouterNode(listen=[Endpoint("127.0.0.1", 0)])
    with pytest.raises(MisuseError):
        router.stats()
    async with router:
        with pytest.raises(NetworkError):
            async with RouterNode(listen=router.endpoints):
                pass
        with pytest.raises(MisuseError):
            await router.__aenter__()


# The command


def ask(address: str, *more: str) -> list[dict[str, Any]]:
    with kademlia_bt("find-node", "ab" * 20, "--bootstrap", address, "--json", "--timeout", "5", *more) as program:
        return program.finish(0).events("node")


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_from_start_to_end(tmp_path: Path, number: signal.Signals) -> None:
    words = ("bootstrap", *LOOPBACK, "--state", str(tmp_path))
    with kademlia_bt(*words) as router:
        listening = router.wait_event("listening")
        (address,) = listening["addresses"]
        with kademlia_bt("run", *LOOPBACK, "--bootstrap", address) as node:
            lives_at = node.wait_event("listening")["addresses"][0]
            joined = router.wait_event("joined")
            assert joined["nodes"] == 1
            assert {each["address"] for each in ask(address)} == {address, lives_at}
        stop(router, number)
    with kademlia_bt(*words) as router:
        again = router.wait_event("listening")
        assert again["node_id"] == listening["node_id"]
        assert router.wait_event("joined")["nodes"] == 1
        stop(router, number)
    damaged = tmp_path / "router-0.state"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with kademlia_bt(*words) as router:
        router.wait_event("listening")
        stop(router, number)
        assert len(router.err) == 1
        assert "damaged" in router.err[0]
    assert damaged.with_name("router-0.state.damaged").exists()


def stop(program: Program, number: signal.Signals = signal.SIGTERM) -> None:
    program._process.send_signal(number)
    program.finish(0)
    assert program.events("stopped")


@posix
@shares
def test_workers_share_one_port_and_what_they_know(tmp_path: Path) -> None:
    words = ("bootstrap", *LOOPBACK, "--state", str(tmp_path), "--workers", "2")
    with kademlia_bt(*words) as router:
        (address,) = router.wait_event("listening")["addresses"]
        with AsyncLess() as nodes:
            for n in range(3):
                nodes.add(kademlia_bt("run", "--listen", f"127.0.{n}.1:0", "--json", "--bootstrap", address))
            for node in nodes.programs:
                node.wait_event("joined")
            deadline = time.monotonic() + 60
            while [len(ask(address)) for _ in range(2)] != [4, 4]:  # whichever is asked knows them; and answers itself
                assert time.monotonic() < deadline, "the workers tell each other once a second"
        stop(router)
        assert not router.err
    kept = [load(path) for path in sorted(tmp_path.glob("router-*.state"))]
    assert len(kept) == 2
    assert sum(len(state.nodes[IPV4]) for state in kept) >= 3 * 26
    assert len({state.ids[IPV4] for state in kept}) == 1
    damaged = tmp_path / "router-0.state"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with kademlia_bt(*words) as router:
        router.wait_event("listening")
        stop(router)
        assert len(router.err) == 1
        assert "damaged" in router.err[0]


class AsyncLess:
    """Programs that end with the block."""

    def __init__(self) -> None:
        self.programs: list[Program] = []

    def add(self, program: Program) -> None:
        self.programs.append(program.__enter__())

    def __enter__(self) -> AsyncLess:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self.programs:
            program.__exit__(None, None, None)


@shares
async def test_a_dead_worker_is_noticed_and_the_others_end() -> None:
    with trio.fail_after(100):
        async with RouterPool(workers=2, listen=[Endpoint("127.0.0.1", 0)]) as pool:
            assert pool.stats().workers == 2
            pool._processes[0].kill()
            await pool.wait_failed()
        assert [process.returncode for process in pool._processes] == [-signal.SIGKILL, 0]


@shares
async def test_who_dies_between_his_word_and_the_answer_leaves_nothing_open() -> None:
    """Seldom seen: what was not read to its end was left to the garbage collector, which warned of it."""

    class Gone:
        async def send_all(self, data: bytes) -> None:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError

    pool = RouterPool(workers=1, listen=[Endpoint("127.0.0.1", 0)])
    said, stdout = memory_stream_one_way_pair()
    await said.send_all(json.dumps({"stats": RouterStats().to_json(), "lend": {}}).encode() + b"\n")
    await pool._hear(0, SimpleNamespace(stdin=Gone(), stdout=stdout))  # type: ignore[arg-type]
    with trio.fail_after(60):
        await pool.wait_failed()


@posix
@shares
def test_no_worker_outlives_its_parent() -> None:
    with kademlia_bt("bootstrap", *LOOPBACK, "--workers", "2") as router:
        router.wait_event("listening")
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(router._process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) == 2
        router._process.kill()
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    "words",
    [
        ("--listen", "nowhere"),
        ("--listen", "192.0.2.7:5"),
        ("--workers", "0"),
        ("--workers", "many"),
        ("--nodes", "0"),
        ("--upload-limit", "lots"),
        ("--per-ip-limit", "-1"),
        ("--bootstrap", "host"),
        ("--network", ""),
        ("surplus",),
    ],
)
def test_bad_words_are_one_line(words: tuple[str, ...]) -> None:
    listen = () if "--listen" in words else LOOPBACK[:2]
    with kademlia_bt("bootstrap", *listen, *words) as program:
        program.finish(2)
        assert len(program.err) == 1
        assert "Traceback" not in program.err[0]
