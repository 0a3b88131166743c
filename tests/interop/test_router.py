"""Networks of libtorrent nodes that know nothing but our router: they join, announce and find each other."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from tests.interop.harness import REPOSITORY, free_port, kademlia_bt, need_libtorrent

pytestmark = pytest.mark.interop

NODES = 8

SESSIONS = """
import json, sys, time
import libtorrent as lt
from tests.interop.libtorrent_child import nodes_known, session

router, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
info_hash = lt.sha1_hash(bytes.fromhex(sys.argv[4]))
until = time.monotonic() + 60
nodes = []
for index in range(count):
    nodes.append(session(f"127.61.{index}.1:{port}", router, is_dht_node=True))
    nodes[-1].apply_settings({"alert_mask": lt.alert.category_t.all_categories})
    time.sleep(0.2)
known, peers = [0] * count, []
while time.monotonic() < until and not peers:
    if min(known) >= 2:
        nodes[0].dht_announce(info_hash, 7777, 0)
        nodes[-1].dht_get_peers(info_hash)
    for index, node in enumerate(nodes):
        node.post_dht_stats()
        for alert in node.pop_alerts():
            if isinstance(alert, lt.dht_stats_alert):
                known[index] = nodes_known(alert)
            elif isinstance(alert, lt.dht_get_peers_reply_alert) and alert.peers():
                peers = [list(peer) for peer in alert.peers()]
    time.sleep(0.5)
print(json.dumps({"known": known, "peers": peers}))
"""


def test_libtorrent_nodes_find_each_other_through_our_router_alone() -> None:
    need_libtorrent()
    info_hash = random.Random(61).randbytes(20).hex()
    with kademlia_bt("bootstrap", "--listen", "127.60.0.1:0", "--json") as router:
        (address,) = router.wait_event("listening")["addresses"]
        port = free_port("127.61.0.1")
        program = [sys.executable, "-c", SESSIONS, address, str(port), str(NODES), info_hash]
        done = subprocess.run(program, capture_output=True, text=True, cwd=REPOSITORY, timeout=100, check=True)
        said = json.loads(done.stdout)
        assert router.wait_event("joined")["nodes"] >= 1
    assert said["peers"] == [["127.61.0.1", 7777]]
    assert min(said["known"]) >= 2
