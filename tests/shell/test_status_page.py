"""`kademlia-bt run` with its status page, several addresses, a private network, bad luck: on loopback."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
import trio
import trio.testing

from kademlia_bt.commands.node import _telling_unreachable
from tests.shell.test_dht_commands import INFO_HASH, Running, command, environment, events, running
from tests.shell.test_node import node_on
from tests.sim.net import Internet

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
LOOPBACK = ("--listen", "127.0.0.1:0")


def port_of(node: Running) -> int:
    return int(str(node.listening["status"]).removesuffix("/").rpartition(":")[2])


def get(
    node: Running, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", port_of(node), timeout=60)
    connection.request(method, path, headers=dict(headers or {}))
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


def test_the_page_shows_a_live_node(tmp_path: Path) -> None:
    with running(tmp_path, *LOOPBACK, "--status", "0") as node:
        assert node.listening["status"].startswith("http://127.0.0.1:")
        response, body = get(node, "/healthz")
        assert (response.status, body) == (503, "broken\n")
        with running(tmp_path, *LOOPBACK, "--bootstrap", node.address) as other:
            assert other.line()["event"] == "joined"
            assert (
                command(tmp_path, "announce", INFO_HASH, "--port", "4000", "--bootstrap", node.address).returncode == 0
            )
            deadline = time.monotonic() + 60
            while get(node, "/healthz")[0].status != 200 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert get(node, "/healthz")[1] == "poor\n"

            response, page = get(node, "/")
            assert (response.status, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "script-src 'self'" in response.headers["content-security-policy"]
            assert "unsafe" not in response.headers["content-security-policy"]
            assert response.headers["cross-origin-resource-policy"] == "same-origin"
            for wanted in (node.listening["node_id"], node.address, "Key space, ipv4", "announce_peer", "find_node"):
                assert wanted in page
            assert other.listening["node_id"] in page  # as a dot with its title
            live = get(node, "/live")[1]
            assert live.startswith("<h1>")
            assert other.listening["node_id"] in live
            for path, kind in (("/status.css", "text/css"), ("/status.js", "text/javascript")):
                response, text = get(node, path)
                assert response.headers["content-type"].startswith(kind)
                assert len(text) > 200
            looked_up = 'kademlia_bt_lookup_hops_total{method="find_node"}'
            while looked_up not in get(node, "/metrics")[1] and time.monotonic() < deadline:
                time.sleep(0.1)  # who joins by being asked looks for its own neighbours a moment later
            response, metrics = get(node, "/metrics")
            assert response.headers["content-type"].startswith("text/plain; version=")
            values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
            assert float(values['kademlia_bt_table_nodes{family="ipv4",socket="0",state="good"}']) == 1
            assert float(values['kademlia_bt_queries_received_total{method="announce_peer"}']) == 1
            assert float(values["kademlia_bt_stored_peers"]) == 1
            assert float(values[looked_up]) >= 1
            assert float(values["process_resident_memory_bytes"]) > 1 << 20
        assert get(node, "/nothing")[0].status == 404
        assert get(node, "/", method="POST")[0].status == 405
        code, said, err = node.stop()
        assert (code, said[-1], err) == (0, {"event": "stopped"}, "")


def test_only_our_own_names_are_answered(tmp_path: Path) -> None:
    with running(tmp_path, *LOOPBACK, "--status", "localhost:0", "--status-name", "dht.example") as node:
        port = port_of(node)
        for host in ("127.0.0.1", f"localhost:{port}", f"[::1]:{port}", "LOCALHOST", "dht.example:80", "10.1.2.3"):
            assert get(node, "/healthz", {"Host": host})[0].status == 503, host
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "",
            "127.0.0.1:x",
        ):
            for path in ("/", "/live", "/metrics", "/healthz", "/status.js"):
                response, body = get(node, path, {"Host": host})
                assert response.status == 421, host
                assert node.listening["node_id"] not in body
        with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            assert raw.recv(4096).split()[1] in (b"400", b"421")
        code, _, err = node.stop(signal.SIGINT)
        assert (code, err) == (0, "")


def test_rude_visitors_do_not_stop_it(tmp_path: Path) -> None:
    with running(tmp_path, *LOOPBACK, "--status", "0") as node:
        at = ("127.0.0.1", port_of(node))
        idle = [socket.create_connection(at, timeout=60) for _ in range(20)]
        for line in (b"\x16\x03\x01\x02\x00\x01" * 20, b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 70_000):
            with socket.create_connection(at, timeout=60) as raw:
                raw.sendall(line)
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
        assert get(node, "/", upgrade)[0].status >= 400
        assert get(node, "/healthz")[0].status == 503
        code, _, err = node.stop()  # it does not wait for those who say nothing, and stay
        assert (code, err) == (0, "")
        for sock in idle:
            sock.close()


def test_a_taken_port_and_bad_values_are_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = command(tmp_path, "run", *LOOPBACK, "--status", address, "--state", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"kademlia-bt: cannot serve the status page on {address}")
    for words in (
        ["--status", "nobody.example:80"],
        ["--status", "x"],
        ["--status", "127.0.0.1:99999"],
        ["--network", ""],
    ):
        done = command(tmp_path, "run", *LOOPBACK, *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), words


def test_the_web_server_is_loaded_only_when_it_is_wanted(tmp_path: Path) -> None:
    code = "import sys, kademlia_bt.commands.node, kademlia_bt.commands.cli; print([m for m in sys.modules if m in %r])"
    done = subprocess.run(
        [sys.executable, "-c", code % (["starlette", "hypercorn", "prometheus_client", "h2"],)],
        capture_output=True, text=True, timeout=100, env=environment(tmp_path), check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_several_addresses_are_several_nodes(tmp_path: Path) -> None:
    words = ("--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0", "--state", str(tmp_path / "state"))
    with running(tmp_path, *words) as node:
        ids = []
        for address in node.listening["addresses"]:
            ids.append(events(command(tmp_path, "ping", address, "--json").stdout)[0]["node_id"])
        assert len(set(ids)) == 2
        assert int(ids[0][0], 16) >> 3 != int(ids[1][0], 16) >> 3  # far apart: in the first bit
        node.stop()
    with running(tmp_path, *words) as again:
        kept = [
            events(command(tmp_path, "ping", address, "--json").stdout)[0]["node_id"]
            for address in again.listening["addresses"]
        ]
    assert kept == ids


def test_a_private_network_keeps_to_itself(tmp_path: Path) -> None:
    name = ("--network", "acme ci")
    with (
        running(tmp_path, *LOOPBACK, *name) as first,
        running(tmp_path, *LOOPBACK, *name, "--bootstrap", first.address) as second,
    ):
        assert second.line()["event"] == "joined"
        here = ("--bootstrap", second.address)
        assert command(tmp_path, "announce", INFO_HASH, "--port", "4000", *name, *here).returncode == 0
        assert command(tmp_path, "get-peers", INFO_HASH, *name, *here).stdout == "127.0.0.1:4000\n"
        for other in ((), ("--network", "acme")):
            outside = command(tmp_path, "get-peers", INFO_HASH, *other, *here, "--json", "--timeout", "1")
            assert (outside.returncode, events(outside.stdout)[0]["verdict"]) == (3, "dht_unreachable")


def test_each_place_tried_in_vain_is_named_within_15_s(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        places = ("--bootstrap", address, "--bootstrap", "no-such-name.invalid:6881")
        start = time.monotonic()
        done = command(tmp_path, "find-node", INFO_HASH, *places, "--json")
        assert time.monotonic() - start < 15
    assert done.returncode == 3
    failed = events(done.stdout)[-1]
    assert (failed["event"], failed["verdict"]) == ("failed", "dht_unreachable")
    tried = {attempt["place"]: attempt for attempt in failed["tried"]}
    assert tried[address] == {"place": address, "address": address, "answered": False, "outcome": "no answer"}
    assert "cannot resolve no-such-name.invalid" in tried["no-such-name.invalid:6881"]["outcome"]
    last = done.stderr.splitlines()[-1]
    assert f"{address}: no answer" in last
    assert "no-such-name.invalid" in last


async def test_a_node_that_runs_tells_of_it_once_and_goes_on(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    internet = Internet(random.Random(1))
    async with node_on(internet.host("81.0.0.1"), bootstrap=[("80.0.0.1", 6881)]) as node:
        async with _telling_unreachable(node, json=False):
            await trio.sleep(14)
            said = capsys.readouterr().err
            assert said == "kademlia-bt: no DHT node answered; still trying (80.0.0.1:6881: no answer)\n"
            await trio.sleep(100)
        async with _telling_unreachable(node, json=True):
            await trio.sleep(14)
        said = capsys.readouterr().out
        assert '"verdict":"dht_unreachable"' in said
        async with node_on(internet.host("80.0.0.1"), bootstrap=[]):
            pass


def test_a_damaged_state_is_set_aside_and_said_once(tmp_path: Path) -> None:
    state = tmp_path / "dht.state"
    with running(tmp_path, *LOOPBACK, "--state", str(tmp_path)) as node:
        node.stop()
    whole = state.read_bytes()
    for damaged in (whole[:-1], b"\xff" * 300_000):
        state.write_bytes(damaged)
        with running(tmp_path, *LOOPBACK, "--state", str(tmp_path)) as node:
            code, _, err = node.stop()
        assert code == 0
        assert err.count("is damaged") == err.count("\n") == 1
        assert (tmp_path / "dht.state.damaged").read_bytes() == damaged
        assert state.read_bytes() != damaged
