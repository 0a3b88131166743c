"""Our DHT node and libtorrent's, each way: lookups in its network, its bootstrap and lookups in ours."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kademlia_bt import Contact, Node
from kademlia_bt.dht.candidate import Candidate
from kademlia_bt.dht.lookup import Walk
from tests.interop.conftest import LibtorrentDht
from tests.interop.harness import free_port, kademlia_bt, need_libtorrent
from wire.bencode import decode
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
        with trio.fail_after(200):
            await node.wait_joined()
            others = [c.endpoint for c in await node.find_node(rng.randbytes(20))]

            async def ask(endpoint: Endpoint) -> None:
                for _ in range(1000 // len(others) + 1):
                    pong = await node.ping(endpoint)
                    assert pong.endpoint == endpoint
                    assert pong.own_address == node.endpoints[0]
                    answered["ping"] += 1
                    assert len(await node.find_node(rng.randbytes(20), endpoint)) == 8
                    answered["find_node"] += 1

            async with trio.open_nursery() as nursery:
                for endpoint in others:
                    nursery.start_soon(ask, endpoint)
    assert min(answered.values()) >= 1000


async def test_lookups_end_at_the_closest_of_its_nodes(
    libtorrent_dht: LibtorrentDht, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that answer: on a busy machine one is silent, now and then, for as long as it is asked."""
    rng = random.Random(2)
    silent: set[Endpoint] = set()
    slow = Walk.slow

    def remembering(walk: Walk, candidate: Candidate) -> bool:
        given_up = slow(walk, candidate)
        if given_up:
            silent.add(candidate.endpoint)
        return given_up

    monkeypatch.setattr(Walk, "slow", remembering)
    async with in_network_of(libtorrent_dht) as node:
        with trio.fail_after(200):
            everyone: dict[bytes, Contact] = {}
            for first in range(0, 256, 16):  # from all sides: 60 nodes, and a few of other tests
                for contact in await node.find_node(bytes([first]) + rng.randbytes(19)):
                    everyone[contact.id] = contact
            assert len(everyone) >= 55
            for _ in range(10):
                target = rng.randbytes(20)
                silent.clear()
                found = await node.find_node(target)
                everyone |= {contact.id: contact for contact in found}
                truth = sorted(everyone.values(), key=lambda c, t=target: distance(c, t))[:8]  # type: ignore[misc]
                assert found == sorted(found, key=lambda c, t=target: distance(c, t))  # type: ignore[misc]
                assert {contact.endpoint for contact in truth} - {contact.endpoint for contact in found} <= silent


async def test_what_we_announce_its_nodes_keep_and_name(libtorrent_dht: LibtorrentDht) -> None:
    rng = random.Random(3)
    async with in_network_of(libtorrent_dht) as one, in_network_of(libtorrent_dht) as two:

        async def announce_and_search(number: int, info_hash: bytes) -> None:
            assert await one.announce(info_hash, 5000 + number) == 8
            search = two.get_peers(info_hash)
            assert [endpoint async for endpoint in search] == [Endpoint("127.0.0.1", 5000 + number)]
            assert search.answered >= 8

        with trio.fail_after(200):
            for first in range(0, 130, 26):  # each waits for the nodes of earlier tests, which are gone
                async with trio.open_nursery() as nursery:
                    for number in range(first, first + 26):
                        nursery.start_soon(announce_and_search, number, rng.randbytes(20))
            info_hash = rng.randbytes(20)
            assert await one.announce(info_hash, None) == 8
            assert [endpoint async for endpoint in two.get_peers(info_hash)] == [one.endpoints[0]]
        for method in ("get_peers", "announce_peer"):
            row = next(row for row in one.stats().messages if row.method == method)
            assert row.answered >= 1000
            assert row.refused == 0


def test_a_lookup_from_a_cold_start_finds_what_was_announced(libtorrent_dht: LibtorrentDht) -> None:
    info_hash = random.Random(4).randbytes(20).hex()
    common = ("--bootstrap", libtorrent_dht.bootstrap, "--json")
    with kademlia_bt("announce", info_hash, "--port", "4321", *common) as program:
        done = program.finish(0).events("done")[0]
        assert done["found"] == 8
    with kademlia_bt("get-peers", info_hash, *common) as program:
        assert program.wait_event("peer")["address"] == "127.0.0.1:4321"
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
    until = time.monotonic() + 60
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
        with trio.fail_after(60):
            for node in nodes[1:]:
                await node.wait_joined()
            for node in nodes:  # who joins early has met few of the others: now each meets the closest, and names them
                while len(await node.find_node(node.node_id)) < 8:
                    await trio.sleep(0.02)
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
        with trio.fail_after(60):
            assert Endpoint("127.41.0.1", 7777) in [peer async for peer in nodes[7].get_peers(info_hash)]
            assert sum(node.stats().peers for node in nodes) >= 6


THOUSANDS = """
import json, sys, time
import libtorrent as lt
from tests.interop.libtorrent_child import nodes_known, session

listen, bootstrap, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
node = session(listen, bootstrap, is_dht_node=True)
node.apply_settings({"alert_mask": lt.alert.category_t.all_categories, "alert_queue_size": 100_000})

def gather(kind, wanted, key, again=lambda: None, limit_s=60):
    found, until, ask_at = {}, time.monotonic() + limit_s, 0.0
    while len(found) < wanted:
        if time.monotonic() > until:
            sys.exit(f"{len(found)} of {wanted} {kind.__name__}")
        if time.monotonic() > ask_at:
            again()
            ask_at = time.monotonic() + 0.3
        node.wait_for_alert(200)
        for alert in node.pop_alerts():
            if isinstance(alert, kind):
                found.update(key(alert))
    return found

gather(lt.dht_stats_alert, 1, lambda alert: {1: 1} if nodes_known(alert) >= 8 else {}, node.post_dht_stats)
hashes = [lt.sha1_hash(index.to_bytes(2, "big") * 10) for index in range(count)]

def peers_of(alert):
    return {str(alert.info_hash): [list(peer) for peer in alert.peers()]} if alert.peers() else {}

def value_of(alert):
    item = alert.item
    item = item.get("value", item) if isinstance(item, dict) else item
    return {str(alert.target): item.decode() if isinstance(item, bytes) else item}

peers, puts, items, targets = {}, {}, {}, []
for first in range(0, count, 10):  # some at once, as one loop here is all twelve nodes
    some = hashes[first : first + 10]
    for info_hash in some:
        node.dht_announce(info_hash, 7000, 0)
    peers |= gather(
        lt.dht_get_peers_reply_alert, 10, peers_of, lambda: [node.dht_get_peers(info_hash) for info_hash in some]
    )
    put = [str(node.dht_put_immutable_item(f"value {index}".encode())) for index in range(first, first + 10)]
    puts |= gather(lt.dht_put_alert, 10, lambda alert: {str(alert.target): alert.num_success})
    for target in put:
        node.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(target)))
    items |= gather(lt.dht_immutable_item_alert, 10, value_of)
    targets += put
host, _, port = bootstrap.rpartition(":")
samples = 0
for turn in range(10):
    for number in range(100):
        node.dht_sample_infohashes((f"{host[:-3]}{number % 12}.1", int(port)), hashes[0])
    heard = []
    gather(lt.dht_sample_infohashes_alert, 100, lambda alert: (heard.append(alert), {len(heard): 1})[1])
    samples += len(heard)
print(json.dumps({"peers": peers, "puts": puts, "items": items, "targets": targets, "samples": samples}))
"""


async def test_we_answer_a_thousand_of_its_questions_of_each_kind() -> None:
    """Of each kind that its Python interface lets it ask; of pings and find_node below."""
    need_libtorrent()
    async with our_network(12, net=50) as nodes:
        program = [sys.executable, "-c", THOUSANDS, f"127.51.0.1:{free_port('127.51.0.1')}", str(nodes[0].endpoints[0])]
        done = await trio.run_process([*program, "150"], capture_stdout=True, cwd=Path(__file__).parents[2], check=True)
        said = json.loads(done.stdout)
        assert list(said["peers"].values()) == [[["127.51.0.1", 7000]]] * 150
        assert sum(said["puts"].values()) >= 0.95 * 8 * 150  # it leaves out who is slow, as on a busy machine
        assert {said["items"][target] for target in said["targets"]} == {f"value {n}" for n in range(150)}
        assert said["samples"] == 1000
        heard: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for node in nodes:
            stats = node.stats()
            assert stats.answers == stats.queries
            refused.update(dict(stats.refused))
            heard.update({row.method: row.heard for row in stats.messages})
        for method in ("get_peers", "announce_peer", "get", "put", "sample_infohashes"):
            assert heard[method] >= 1000
        # Its transaction ids have two bytes: now and then it takes two answers for one another, and spends the token
        # of one info-hash on the other, which must be refused.
        assert refused.pop("error 203", 0) < 20
        refused.pop("unasked", 0)  # an answer that came too late
        assert refused.total() == 0


def asking_program(folder: Path) -> Path:
    """ask_dht.cpp, built against the libtorrent of the system."""
    compiler, finder = shutil.which("g++"), shutil.which("pkg-config")
    if compiler is None or finder is None:
        pytest.skip("g++ and pkg-config are not installed")
    found = subprocess.run(
        [finder, "--cflags", "--libs", "libtorrent-rasterbar"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip("libtorrent's headers are not installed (Debian: libtorrent-rasterbar-dev)")
    program, source = folder / "ask_dht", Path(__file__).with_name("ask_dht.cpp")
    subprocess.run([compiler, "-std=c++17", str(source), "-o", str(program), *found.stdout.split()], check=True)
    return program


async def test_we_answer_a_thousand_pings_and_find_nodes_of_its(tmp_path: Path) -> None:
    """What its Python interface has no call for, by a program in C++; each answer is read and checked here."""
    program = await trio.to_thread.run_sync(asking_program, tmp_path)
    async with our_network(12, net=60) as nodes:
        compact = {str(node.endpoints[0]): node.endpoints[0].compact() for node in nodes}
        asker = Endpoint("127.61.0.1", free_port("127.61.0.1"))
        with trio.fail_after(200):
            for node in nodes:
                for other in nodes:
                    node.add_node(other.endpoints[0])
            while any(node.stats().faces[0].good < 11 for node in nodes):  # everybody knows everybody
                await trio.sleep(0.05)
            everyone = {node.endpoints[0].compact(): node.node_id for node in nodes}
            command = [str(program), str(asker), "1000", *compact]
            done = await trio.run_process(command, capture_stdout=True, check=True)
    asked: Counter[str] = Counter()
    for line in done.stdout.decode().splitlines():
        kind, place, target, answer = line.split()
        message: Any = decode(bytes.fromhex(answer))
        at = compact[place]
        assert message[b"y"] == b"r"
        assert message[b"ip"] == asker.compact()
        returned = message[b"r"]
        assert returned.pop(b"id") == everyone[at]
        if kind == "find_node":
            others = [node_id + each for each, node_id in everyone.items() if each != at]
            check_closest(returned.pop(b"nodes"), bytes.fromhex(target), others, asker)
        assert not returned
        asked[kind] += 1
    assert asked == {"ping": 1000, "find_node": 1000}


def check_closest(nodes: bytes, target: bytes, others: list[bytes], asker: Endpoint) -> None:
    """The answer names the 8 closest of all others, the closest first; the asker may have become one of them."""
    named = [nodes[at : at + 26] for at in range(0, len(nodes), 26)]

    def far(node: bytes) -> int:
        return int.from_bytes(node[:20], "big") ^ int.from_bytes(target, "big")

    assert len(named) == 8
    assert named == sorted(named, key=far)
    named = [node for node in named if node[20:] != asker.compact()]
    assert len(named) >= 7
    assert named == sorted(others, key=far)[: len(named)]
