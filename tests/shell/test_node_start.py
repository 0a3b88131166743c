"""How a node starts on the virtual internet: whom it asks first, a network that comes late, what it says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kademlia_bt import Node
from tests.shell.test_node import BOOT, INFO_HASH, a_network, internet, node_on
from tests.sim.net import Host, Internet
from wire.compact import Endpoint
from wire.errors import MisuseError

Clock = trio.testing.MockClock
__all__ = ["internet"]  # the fixture


async def test_a_lookup_has_its_answer_within_a_second_of_the_first_answer(
    autojump_clock: Clock, internet: Internet
) -> None:
    async with a_network(internet) as nodes:
        await nodes[3].announce(INFO_HASH, 4000)
        host = internet.host("81.0.0.1")
        host.refuse_names = True
        async with node_on(host, bootstrap=BOOT) as late:
            search = late.get_peers(INFO_HASH)
            await trio.sleep(3)
            assert late.stats().nodes_asked == 0
            host.refuse_names = False
            while not late.stats().nodes_answered:
                await trio.sleep(0.01)
            first_answer = trio.current_time()
            assert await anext(search) == Endpoint("80.3.0.1", 4000)
            assert trio.current_time() - first_answer <= 1


async def test_saved_nodes_are_asked_before_any_router(
    autojump_clock: Clock, internet: Internet, tmp_path: Path
) -> None:
    state = tmp_path / "dht.state"
    async with a_network(internet):
        host = internet.host("81.0.0.1")
        async with node_on(host, bootstrap=BOOT, state=state) as node:
            await node.wait_health("good")
        host.datagrams_to.clear()
        async with node_on(host, bootstrap=[("80.0.0.1", 6881), ("80.0.9.9", 6881)], state=state) as node:
            start = trio.current_time()
            await node.wait_joined()
            assert trio.current_time() - start <= 1
            assert host.datagrams_to[Endpoint("80.0.9.9", 6881)] == 0  # there was no need


async def test_every_address_of_a_name_is_asked_in_both_families(autojump_clock: Clock, internet: Internet) -> None:
    internet.names["router.example"] = ["80.0.0.1", "80.0.0.2", "2a01:1::1", "2a01:1::2"]
    here = internet.host("81.0.0.1", "2a02::1")
    there = internet.host("80.0.0.2")
    async with (
        node_on(there, listen=[Endpoint("0.0.0.0", 6881)], bootstrap=[]),
        node_on(here, bootstrap=BOOT) as node,
    ):
        with trio.fail_after(5):
            await node.wait_joined()
        await trio.sleep(10)
        said = {str(attempt.endpoint): attempt.outcome for attempt in node.attempts()}
        assert said == {
            "80.0.0.1:6881": "no answer",
            "80.0.0.2:6881": "answered",
            "[2a01:1::1]:6881": "no answer",
            "[2a01:1::2]:6881": "no answer",
        }
        assert {attempt.place for attempt in node.attempts()} == {"router.example:6881"}


async def test_why_nobody_answers_is_known_for_each_place(autojump_clock: Clock, internet: Internet) -> None:
    internet.names["dead.example"] = ["80.9.9.9"]
    places = [("dead.example", 1), ("unknown.example", 2), ("2a01::9", 3), ("127.0.0.1", 4), ("80.8.8.8", 5)]
    host = internet.host("81.0.0.1")
    async with node_on(host, listen=[Endpoint("0.0.0.0", 0)], bootstrap=places) as node:
        await trio.sleep(12)
        said = [str(attempt) for attempt in node.attempts()]
    assert [line for line in said if "unknown" not in line] == [
        "[2a01::9]:3: not asked: no socket for ipv6",
        "127.0.0.1:4: not asked: a local address, and such are not allowed here",
        "80.8.8.8:5: no answer",
        "dead.example:1 (80.9.9.9:1): no answer",
    ]
    assert any(line.startswith("unknown.example:2: cannot resolve unknown.example") for line in said)


async def test_health_can_be_awaited(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet):
        host = internet.host("81.0.0.1")
        async with node_on(host, bootstrap=BOOT) as node:
            assert node.health == "broken"
            with trio.fail_after(5):
                assert await node.wait_health() in ("poor", "good")
                assert await node.wait_health("good", "firewalled") == "good"
            host.unplug()
            with trio.fail_after(1200):
                assert await node.wait_health("broken") == "broken"
            await trio.sleep(60)
            host.plug()
            with trio.fail_after(30):
                await node.wait_health("good")


async def test_who_waits_for_health_hears_of_the_end(autojump_clock: Clock, internet: Internet) -> None:
    node = node_on(internet.host("80.0.0.1"), bootstrap=[])
    heard: list[str] = []

    async def wait() -> None:
        with pytest.raises(MisuseError):
            await node.wait_health("good")
        heard.append("closed")

    async with trio.open_nursery() as nursery, node:
        nursery.start_soon(wait)
        await trio.sleep(1)
    assert heard == ["closed"]


async def test_a_network_that_comes_late_is_used(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet):
        host = internet.host("81.0.0.1")
        host.unplug()
        host.refuse_names = True
        async with node_on(host, bootstrap=BOOT) as node:
            await trio.sleep(300)
            assert node.health == "broken"
            host.plug()
            host.refuse_names = False
            with trio.fail_after(65):
                await node.wait_joined()


async def test_a_private_network_has_no_built_in_routers_and_its_own_state(
    autojump_clock: Clock, internet: Internet, tmp_path: Path
) -> None:
    state = tmp_path / "dht.state"
    first, second, plain = (internet.host(f"81.{at}.0.1") for at in range(3))
    listen = [Endpoint("0.0.0.0", 6881)]

    def node(host: Host, **options: Any) -> Node:
        return node_on(host, listen=listen, **options)

    async with node(first, network_name="acme") as a, node(plain, bootstrap=[("81.0.0.1", 6881)]) as other:
        assert a.attempts() == []
        async with node(second, network_name="acme", bootstrap=[("81.0.0.1", 6881)], state=state) as b:
            with trio.fail_after(5):
                await b.wait_joined()
            await trio.sleep(30)
            assert a.stats().nodes == b.stats().nodes == 1
            assert other.stats().nodes == 0
            assert dict(a.stats().refused)["foreign"] > 0
            assert [each.outcome for each in other.attempts()] == ["no answer"]
    assert not state.exists()
    assert [path.suffix for path in tmp_path.glob("dht-*.state")] == [".state"]
    with pytest.raises(MisuseError, match="network's name"):
        Node(network_name="")
