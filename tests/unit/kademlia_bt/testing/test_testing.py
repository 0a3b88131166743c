"""The worlds that others test with: the pytest fixture, islands, taps, and that nothing heavy is loaded for them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kademlia_bt.dht.lookups import FindNode
from kademlia_bt.dht.table import K
from kademlia_bt.testing import Impostor, World
from wire.compact import IPV4, IPV6, Endpoint
from wire.errors import MisuseError

ROOT = Path(__file__).parents[4]


def child(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=200, check=False
    )


def test_neither_trio_nor_pytest_is_needed() -> None:
    heavy = "{'trio', 'pytest', 'httpx', 'click', 'rich'} & set(sys.modules)"
    run = child("-c", f"import sys, kademlia_bt.testing; print({heavy} or 'none')")
    assert run.stdout.strip() == "none", run.stderr


def test_pytest_finds_the_plugin() -> None:
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert entry_points == {"pytest11": {"kademlia_bt": "kademlia_bt.testing.plugin"}}


def test_the_fixture_and_the_seed_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        """
def test_good(dht_world):
    world = dht_world(50, loss=0.1)
    assert world.find(world.nodes[0], bytes(20)).closest

def test_bad(dht_world):
    assert len(dht_world(20).nodes) == 21
"""
    )
    run = child("-m", "pytest", "-q", "-p", "kademlia_bt.testing.plugin", "--dht-seed", "77", cwd=tmp_path)
    assert "1 failed, 1 passed" in run.stdout
    assert "seed 77; 20 nodes, 0 datagrams" in run.stdout


def test_a_grown_network_finds_the_true_closest_and_costs_nothing_before() -> None:
    world = World(1)
    nodes = world.populate(300)
    assert world.datagrams == 0
    assert not any(node.is_awake for node in nodes)
    rng = random.Random(1)
    for _ in range(10):
        asker, target = rng.choice(nodes), rng.randbytes(20)
        done = world.find(asker, target)
        assert [contact.endpoint for contact in done.closest] == world.true_closest(target, asker)
        (confidence,) = done.confidence
        assert confidence.network_size is not None
        assert 200 < confidence.network_size < 450
        assert not confidence.eclipse_likely
    world.run(300)
    calm = world.datagrams
    world.run(300)
    assert world.datagrams == calm


def test_upkeep_begins_when_all_are_woken() -> None:
    world = World(1)
    world.populate(30)
    world.wake_all()
    world.run(60)
    assert world.datagrams > 100


def test_islands_of_both_families_meet_on_those_that_have_both() -> None:
    world = World(2)
    four, six, both = world.populate(90, families=[(IPV4,), (IPV6,), (IPV4, IPV6)])[:3]
    assert [len(node.endpoints) for node in (four, six, both)] == [1, 1, 2]
    info_hash = bytes(range(20))
    world.announce(six, info_hash, 7000)
    assert world.search(four, info_hash).peers == []
    assert world.search(both, info_hash).peers == [Endpoint(six.endpoint.host, 7000)]


def test_a_cut_makes_islands_and_ends() -> None:
    world = World(3)
    nodes = world.populate(100)
    west = {node.endpoint for node in nodes[:50]}
    world.passes = lambda source, to: (source in west) == (to in west)
    info_hash = bytes(range(20))
    world.announce(nodes[1], info_hash, 7000)
    assert world.search(nodes[2], info_hash).peers
    assert not world.search(nodes[98], info_hash).peers
    world.passes = None
    assert world.search(nodes[99], info_hash).peers


def test_nodes_behind_nat_are_in_nobodys_table() -> None:
    world = World(4)
    nodes = world.populate(100, nat_share=0.5)
    hidden = {node.endpoint for node in nodes if node.nat}
    assert 30 < len(hidden) < 70
    world.wake_all()
    assert not any(entry.contact.endpoint in hidden for node in nodes for entry in node.face.table.nodes)
    asker = next(node for node in nodes if node.nat)
    assert len(world.find(asker, bytes(20)).closest) == K


def test_a_late_and_doubled_datagram_does_no_harm() -> None:
    world = World(5, duplicate=0.5, jitter_s=0.5)
    nodes = world.populate(60)
    info_hash = bytes(range(20))
    world.announce(nodes[1], info_hash, 7000)
    assert world.search(nodes[2], info_hash).peers == [Endpoint(nodes[1].endpoint.host, 7000)]


def test_something_else_at_an_address() -> None:
    world = World(6)
    nodes = world.populate(20)
    impostor = Impostor(world, Endpoint("66.1.1.1", 6881), bytes(20))
    impostor.say_hello(nodes[:4])
    world.run(1)
    assert impostor.asked[b"ping"] == 4  # whom one does not know, one asks back
    with pytest.raises(MisuseError):
        world.tap(nodes[0].endpoint, lambda data, source: None)


def test_a_lookup_that_does_not_end_is_told() -> None:
    world = World(7, loss=1.0)
    nodes = world.populate(20)
    with pytest.raises(AssertionError, match="did not end within 1 s"):
        world.finish(nodes[0], world.start(nodes[0], FindNode(bytes(20))), 1)
