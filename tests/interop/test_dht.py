"""Our DHT node and libtorrent's, each way: lookups in its network, its bootstrap and lookups in ours."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kademlia_bt import Contact, Node
from tests.interop.conftest import LibtorrentDht
from tests.interop.harness import free_port, kademlia_bt, need_libtorrent
from wire.compact import Endpoint, parse_host_port

pytestmark = pytest.mark.interop


def bootstrap_of(dht: LibtorrentDht) -> tuple[str, int]:
    return parse_host_port(dht.bootstrap)


@asynccontextmanager
async def in_network_of(dht: LibtorrentDht, **options: Any) -> AsyncIterator[Node]:
    async with Node(listen=[Endpoint("127.0.0.1", 0)], bootstrap=[bootstrap_of(dht)], **options) as node:
        yield node


def distance(contact: Contact, target: bytes) -> int:
    return int.from_bytes(contact.id, "big") ^ int.from_bytes(target, "big")


async def test_its_nodes_answer_a_thousand_questions_of_ours(libtorrent_dht: LibtorrentDht) -> None:
    rng = random.Random(1)
    answered = {"ping": 0, "find_node": 0}
    async with in_network_of(libtorrent_dht) as node:
        with trio.fail_after(20):
            await node.wait_joined()
            others = [c.endpoint for c in await node.find_node(rng.randbytes(20))]

            async def ask(endpoint: Endpoint) -> None:
                for _ in range(1000 // 2 // len(others) + 1):
                    pong = await node.ping(endpoint)
                    assert pong.endpoint == endpoint
                    assert pong.own_address == node.endpoints[0]
                    answered["ping"] += 1
                    assert len(await node.find_node(rng.randbytes(20), endpoint)) == 8
                    answered["find_node"] += 1

            async with trio.open_nursery() as nursery:
                for endpoint in others:
                    nursery.start_soon(ask, endpoint)
    assert answered["ping"] + answered["find_node"] >= 1000


async def test_lookups_end_at_the_closest_of_its_nodes(libtorrent_dht: LibtorrentDht) -> None:
    rng = random.Random(2)
    async with in_network_of(libtorrent_dht) as node:
        with trio.fail_after(90):
            everyone: dict[bytes, Contact] = {}
            for first in range(0, 256, 16):  # from all sides: 60 nodes, and a few of other tests
                for contact in await node.find_node(bytes([first]) + rng.randbytes(19)):
                    everyone[contact.id] = contact
            assert len(everyone) >= 55
            right = 0
            for _ in range(10):
                target = rng.randbytes(20)
                found = await node.find_node(target)
                truth = sorted(everyone.values(), key=lambda c, t=target: distance(c, t))[:8]  # type: ignore[misc]
                assert found == sorted(found, key=lambda c, t=target: distance(c, t))  # type: ignore[misc]
                right += len(set(found) & set(truth)) >= 7
            assert right >= 9


async def test_what_we_announce_its_nodes_keep_and_name(libtorrent_dht: LibtorrentDht) -> None:
    rng = random.Random(3)
    async with in_network_of(libtorrent_dht) as one, in_network_of(libtorrent_dht) as two:
        with trio.fail_after(20):
            for number in range(10):
                info_hash = rng.randbytes(20)
                assert await one.announce(info_hash, 5000 + number) == 8
                search = two.get_peers(info_hash)
                assert [endpoint async for endpoint in search] == [Endpoint("127.0.0.1", 5000 + number)]
                assert search.answered >= 8
            info_hash = rng.randbytes(20)
            assert await one.announce(info_hash, None) == 8
            assert [endpoint async for endpoint in two.get_peers(info_hash)] == [one.endpoints[0]]


def test_a_lookup_from_a_cold_start_finds_what_was_announced(libtorrent_dht: LibtorrentDht) -> None:
    info_hash = random.Random(4).randbytes(20).hex()
    common = ("--bootstrap", libtorrent_dht.bootstrap, "--json")
    with kademlia_bt("announce", info_hash, "--port", "4321", *common) as program:
        done = program.finish(0).events("done")[0]
        assert done["found"] == 8
    with kademlia_bt("get-peers", info_hash, *common) as program:
        assert program.wait_event("peer", timeout_s=10)["address"] == "127.0.0.1:4321"
        program.finish(0)


def test_nothing_found_says_why(libtorrent_dht: LibtorrentDht) -> None:
    info_hash = random.Random(5).randbytes(20).hex()
    with kademlia_bt("get-peers", info_hash, "--bootstrap", libtorrent_dht.bootstrap, "--json") as program:
        failed = program.finish(3).events("failed")[0]
        assert failed["verdict"] == "no_peers"
        assert failed["routers_answered"] == 1
        assert failed["nodes_answered"] >= 8
        assert len(program.err) == 1


SESSION = """
import json, sys, time
import libtorrent as lt
from tests.interop.libtorrent_child import session

port, bootstrap = int(sys.argv[1]), sys.argv[2]
info_hash = lt.sha1_hash(bytes.fromhex(sys.argv[3]))
nodes = [session(f"127.{net}.0.1:{port}", bootstrap, is_dht_node=True) for net in (41, 42)]

def wait(node, kind, good=lambda alert: True, again=lambda: None):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        again()
        node.wait_for_alert(500)
        for alert in node.pop_alerts():
            if isinstance(alert, kind) and good(alert):
                return alert
    sys.exit(f"no {kind.__name__}")

def known(alert):
    return sum(bucket["num_nodes"] for bucket in alert.routing_table)

for node in nodes:
    node.apply_settings({"alert_mask": lt.alert.category_t.all_categories})
    wait(node, lt.dht_bootstrap_alert)
tables = [known(wait(node, lt.dht_stats_alert, lambda a: known(a) >= 4, node.post_dht_stats)) for node in nodes]
nodes[0].dht_announce(info_hash, 7777, 0)
ask = lambda: nodes[1].dht_get_peers(info_hash)
reply = wait(nodes[1], lt.dht_get_peers_reply_alert, lambda alert: alert.peers(), ask)
print(json.dumps({"tables": tables, "peers": [list(peer) for peer in reply.peers()]}))
"""


@asynccontextmanager
async def our_network(size: int, net: int) -> AsyncIterator[list[Node]]:
    port = free_port(f"127.{net}.0.1")
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                Node(
                    listen=[Endpoint(f"127.{net}.{index}.1", port)],
                    bootstrap=[(f"127.{net}.0.1", port)] if index else [],
                )
            )
            for index in range(size)
        ]
        with trio.fail_after(20):
            for node in nodes[1:]:
                await node.wait_joined()
        yield nodes


async def test_libtorrent_joins_announces_and_finds_through_our_nodes_alone() -> None:
    need_libtorrent()
    info_hash = random.Random(6).randbytes(20)
    async with our_network(12, net=40) as nodes:
        entry = str(nodes[0].endpoints[0])
        port = free_port("127.41.0.1")
        program = [sys.executable, "-c", SESSION, str(port), entry, info_hash.hex()]
        done = await trio.run_process(program, capture_stdout=True, cwd=Path(__file__).parents[2], check=True)
        said = json.loads(done.stdout)
        assert said["peers"] == [["127.41.0.1", 7777]]
        assert min(said["tables"]) >= 4
        # What it told our nodes, they tell us.
        with trio.fail_after(10):
            assert Endpoint("127.41.0.1", 7777) in [peer async for peer in nodes[7].get_peers(info_hash)]
            assert sum(node.stats().peers for node in nodes) >= 6
