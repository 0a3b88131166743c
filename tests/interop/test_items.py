"""Items and samples between our nodes and libtorrent's, each way: what one puts the other reads (BEP 44, BEP 51)."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from kademlia_bt import ImmutableItem, KeyPair, MutableItem, Node
from tests.interop.conftest import LibtorrentDht
from tests.interop.harness import free_port, kademlia_bt, need_libtorrent
from tests.interop.test_dht import in_network_of, our_network
from wire.compact import Endpoint, parse_host_port

pytestmark = pytest.mark.interop

SESSION = """
import hashlib, json, sys, time
import libtorrent as lt
from tests.interop.libtorrent_child import nodes_known, session

listen, bootstrap, steps = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
node = session(listen, bootstrap, is_dht_node=True)
node.apply_settings({"alert_mask": lt.alert.category_t.all_categories})

def wait(kind, good=lambda alert: True, again=lambda: None, limit_s=60):
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        again()
        node.wait_for_alert(500)
        for alert in node.pop_alerts():
            if isinstance(alert, kind) and good(alert):
                return alert
    sys.exit(f"no {kind.__name__}")

def secret_of(seed):
    raw = bytearray(hashlib.sha512(seed).digest())
    raw[0] &= 248
    raw[31] = raw[31] & 63 | 64
    return bytes(raw)

def plain(item):
    item = item.get("value", item) if isinstance(item, dict) else item
    return item.decode() if isinstance(item, bytes) else item

wait(lt.dht_stats_alert, lambda alert: nodes_known(alert) >= 8, node.post_dht_stats)
for step, *arguments in steps:
    if step == "put_immutable":
        target = node.dht_put_immutable_item(arguments[0].encode())
        said = {"target": str(target), "stored": wait(lt.dht_put_alert).num_success}
    elif step == "get_immutable":
        node.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(arguments[0])))
        said = {"value": plain(wait(lt.dht_immutable_item_alert).item)}
    elif step == "put_mutable":
        seed, public, value, salt = arguments
        node.dht_put_mutable_item(secret_of(bytes.fromhex(seed)), bytes.fromhex(public), value.encode(), salt.encode())
        alert = wait(lt.dht_put_alert)
        said = {"stored": alert.num_success, "seq": alert.seq}
    elif step == "get_mutable":
        public, salt = arguments
        node.dht_get_mutable_item(bytes.fromhex(public), salt.encode())
        alert = wait(lt.dht_mutable_item_alert, lambda alert: alert.authoritative)
        said = {"value": plain(alert.item), "seq": alert.seq, "salt": plain(alert.salt)}
    else:
        host, port, target = arguments
        node.dht_sample_infohashes((host, port), lt.sha1_hash(bytes.fromhex(target)))
        alert = wait(lt.dht_sample_infohashes_alert)
        said = {
            "samples": [str(each) for each in alert.samples],
            "total": alert.num_infohashes,
            "interval": getattr(alert.interval, "seconds", alert.interval),
            "nodes": alert.num_nodes,
        }
    print(json.dumps(said), flush=True)
"""


async def libtorrent(host: str, bootstrap: str, *steps: list[Any]) -> list[dict[str, Any]]:
    """Has one libtorrent node do all this, and gives what came of each step."""
    need_libtorrent()
    program = [sys.executable, "-c", SESSION, f"{host}:{free_port(host)}", bootstrap, json.dumps(steps)]
    done = await trio.run_process(program, capture_stdout=True, cwd=Path(__file__).parents[2], check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


async def check_both_ways(node: Node, host: str, bootstrap: str, keys: KeyPair) -> None:
    """Ours reads what libtorrent puts, and the other way round, through whoever's nodes these are."""
    theirs = KeyPair.generate(random.Random(9))
    plain = await node.put(b"plain of ours")
    assert plain.stored >= 8
    for turn in (b"old", b"of ours"):
        unsalted = await node.put(turn, keys=keys)
        salted = await node.put(b"salted " + turn, keys=keys, salt=b"salt")
        assert unsalted.stored >= 8
        assert salted.stored >= 8
    said = await libtorrent(
        host,
        bootstrap,
        ["get_immutable", plain.target.hex()],
        ["get_mutable", keys.public_key.hex(), ""],
        ["get_mutable", keys.public_key.hex(), "salt"],
        ["put_immutable", "plain of theirs"],
        ["put_mutable", theirs.seed.hex(), theirs.public_key.hex(), "of theirs", ""],
        ["put_mutable", theirs.seed.hex(), theirs.public_key.hex(), "salted of theirs", "salt"],
        ["put_mutable", keys.seed.hex(), keys.public_key.hex(), "after ours", ""],
    )
    assert said[0] == {"value": "plain of ours"}
    assert said[1] == {"value": "of ours", "seq": 2, "salt": ""}
    assert said[2] == {"value": "salted of ours", "seq": 2, "salt": "salt"}
    assert min(row["stored"] for row in said[3:]) >= 8
    assert bytes.fromhex(said[3]["target"]) == ImmutableItem.of(b"plain of theirs").target
    assert await node.get(bytes.fromhex(said[3]["target"])) == ImmutableItem.of(b"plain of theirs")
    for salt, value in ((b"", b"of theirs"), (b"salt", b"salted of theirs")):
        item = await node.get(theirs.public_key, salt=salt)
        assert isinstance(item, MutableItem)
        assert item.value == value
    # One key, both programs: the next of ours follows theirs.
    item = await node.get(keys.public_key)
    assert isinstance(item, MutableItem)
    assert (item.value, item.seq) == (b"after ours", said[6]["seq"])
    again = await node.put(b"again", keys=keys)
    assert isinstance(again.item, MutableItem)
    assert again.item.seq == item.seq + 1
    assert again.stored >= 8


async def test_items_through_our_nodes() -> None:
    async with our_network(14, net=44) as nodes:
        with trio.fail_after(200):
            await check_both_ways(nodes[3], "127.45.0.1", str(nodes[0].endpoints[0]), KeyPair(bytes(range(32))))


async def test_items_through_its_nodes(libtorrent_dht: LibtorrentDht) -> None:
    async with in_network_of(libtorrent_dht) as node:
        with trio.fail_after(200):
            keys = KeyPair.generate(random.Random(8))
            await check_both_ways(node, "127.46.0.1", libtorrent_dht.bootstrap, keys)


def traffic(node: Node, method: str) -> tuple[int, int]:
    """Answers and errors that came to our questions."""
    row = next(row for row in node.stats().messages if row.method == method)
    return row.answered, row.refused


async def test_a_thousand_questions_of_each_kind_are_answered(libtorrent_dht: LibtorrentDht) -> None:
    rng = random.Random(10)
    async with in_network_of(libtorrent_dht) as one, in_network_of(libtorrent_dht) as two:
        with trio.fail_after(200):
            await two.wait_joined()
            for _ in range(128):
                value = rng.randbytes(rng.randrange(1, 990))
                assert (await one.put(value)).stored >= 7
                assert await two.get(ImmutableItem.of(value).target) == ImmutableItem.of(value)
            others = [contact.endpoint for contact in await one.find_node(rng.randbytes(20))]
            for number in range(1000):
                assert (await one.sample(others[number % len(others)])).nodes
        for method in ("get", "put", "sample_infohashes"):
            answered, refused = traffic(one, method)
            assert answered >= 1000
            assert refused == 0


async def test_it_samples_us() -> None:
    rng = random.Random(11)
    hashes = [rng.randbytes(20) for _ in range(30)]
    async with our_network(9, net=47) as nodes:  # so few that each info-hash is announced to every other node
        for info_hash in hashes:
            await nodes[2].announce(info_hash, 4000)
        at = nodes[5].endpoints[0]
        held = nodes[5].stats().torrents
        entry = str(nodes[0].endpoints[0])
        said = await libtorrent("127.48.0.1", entry, ["sample", at.host, at.port, rng.randbytes(20).hex()])
    assert said[0]["total"] == held == len(hashes)
    assert len(said[0]["samples"]) == 20
    assert set(said[0]["samples"]) <= {info_hash.hex() for info_hash in hashes}
    assert 0 < said[0]["interval"] <= 21_600
    assert said[0]["nodes"] == 8


async def test_we_sample_it(libtorrent_dht: LibtorrentDht) -> None:
    rng = random.Random(12)
    async with in_network_of(libtorrent_dht) as node:
        with trio.fail_after(200):
            info_hash = rng.randbytes(20)
            assert await node.announce(info_hash, 4000) == 8
            shown = set()
            for contact in await node.find_node(info_hash):
                answer = await node.sample(contact.endpoint, info_hash)
                assert answer.total >= 1
                assert answer.nodes
                shown |= set(answer.info_hashes)
            assert info_hash in shown


def test_a_crawl_of_its_network(libtorrent_dht: LibtorrentDht, tmp_path: Path) -> None:
    info_hash = random.Random(13).randbytes(20).hex()
    entry = ("--bootstrap", libtorrent_dht.bootstrap)
    with kademlia_bt("announce", info_hash, "--port", "4321", *entry) as program:
        program.finish(0)
    lines = tmp_path / "crawl.jsonl"
    with kademlia_bt("crawl", "-o", str(lines), "--rate", "100", *entry) as program:
        program.finish(0)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    nodes = [row["node"] for row in rows]
    assert len(nodes) == len(set(nodes)) >= 55
    found = [each for row in rows for each in row["info_hashes"]]
    assert len(found) == len(set(found))
    assert info_hash in found
    assert all(Endpoint.of(*parse_host_port(node)) for node in nodes)
