"""Nodes over the virtual internet: joining, searching, saving, closing, and every way that a start can go wrong."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kademlia_bt import Node, QueryError
from kademlia_bt.bootstrap import ROUTERS
from tests.sim.net import Host, Internet
from wire.compact import Endpoint
from wire.errors import MisuseError, NetworkError
from wire.udp import News, UdpPump

Clock = trio.testing.MockClock
INFO_HASH = bytes(range(20))


@pytest.fixture
def internet() -> Internet:
    return Internet(random.Random(1), delay_s=0.03, jitter_s=0.05)


def node_on(host: Host, **options: Any) -> Node:
    return Node(network=host, rng=random.Random(repr(host.addresses)), **options)


@asynccontextmanager
async def a_network(internet: Internet, size: int = 24) -> AsyncIterator[list[Node]]:
    """Nodes on addresses of their own, all joined and met; the first is known as `router.example`."""
    internet.names["router.example"] = ["80.0.0.1"]
    async with AsyncExitStack() as stack:
        nodes = []
        for index in range(size):
            host = internet.host(f"80.{index}.0.1")
            bootstrap = [("80.0.0.1", 6881)] if index else []
            listen = [Endpoint("0.0.0.0", 6881)]
            nodes.append(await stack.enter_async_context(node_on(host, listen=listen, bootstrap=bootstrap)))
        with trio.fail_after(120):
            for node in nodes[1:]:
                await node.wait_joined()
        for node in nodes:  # who joins early has met few of those who came after: now each meets its closest
            await node.find_node(node.node_id)
        yield nodes


BOOT = [("router.example", 6881)]


async def test_one_announces_and_another_finds(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet) as nodes:
        assert await nodes[3].announce(INFO_HASH, 4000) == 8
        async with node_on(internet.host("81.0.0.1"), bootstrap=BOOT) as late:
            start = trio.current_time()
            search = late.get_peers(INFO_HASH)  # at once: nothing is joined yet, not even a name resolved
            assert await anext(search) == Endpoint("80.3.0.1", 4000)
            assert trio.current_time() - start < 2
            assert [endpoint async for endpoint in search] == []
            assert search.done
            assert search.found == 1
            assert search.asked >= search.answered >= 8
            assert len(search.closest) == 8
            await late.wait_joined()
            assert late.joined
            assert late.stats().routers_answered == 1
            assert late.stats().nodes >= 8


async def test_an_implied_port_is_the_one_that_is_seen(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 10) as nodes, node_on(internet.host("81.0.0.1"), bootstrap=BOOT) as node:
        await node.wait_joined()
        assert await node.announce(INFO_HASH, None) == 8
        found = [endpoint async for endpoint in nodes[5].get_peers(INFO_HASH)]
        assert found == [Endpoint("81.0.0.1", node.endpoints[0].port)]


async def test_single_questions(autojump_clock: Clock, internet: Internet) -> None:
    # Too few to tell a node where it is seen (BEP 42): its id would change at the twelfth.
    async with a_network(internet, 10) as nodes, node_on(internet.host("81.0.0.1"), bootstrap=[]) as node:
        await trio.sleep(60)
        pong = await node.ping(nodes[4].endpoints[0]._replace(host="80.4.0.1"))
        assert pong.node_id == nodes[4].node_id
        assert pong.own_address == Endpoint("81.0.0.1", node.endpoints[0].port)
        assert 0.06 <= pong.rtt_s <= 0.16
        assert len(await node.find_node(INFO_HASH, Endpoint("80.4.0.1", 6881))) == 8
        closest = await nodes[2].find_node(nodes[7].node_id)
        assert closest[0].id == nodes[7].node_id
        start = trio.current_time()
        with pytest.raises(QueryError, match=r"81\.9\.9\.9:1 did not answer in time") as caught:
            await node.ping(Endpoint("81.9.9.9", 1))
        assert caught.value.reason == "timed_out"
        assert trio.current_time() - start <= 15
        with pytest.raises(QueryError, match="cannot be asked"):
            await node.ping(Endpoint("127.0.0.1", 1))
        with pytest.raises(MisuseError, match="20 bytes"):
            node.get_peers(b"short")


async def test_a_search_has_its_pumps_go_after_who_asked(
    autojump_clock: Clock, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for longer where a peer is known at once, as he announced himself to us."""
    let_go: list[News] = []
    monkeypatch.setattr(UdpPump, "go_after", lambda _, news: let_go.append(news))
    async with (
        node_on(internet.host("80.0.0.1"), listen=[Endpoint("0.0.0.0", 6881)], bootstrap=[]) as one,
        node_on(internet.host("80.1.0.1"), bootstrap=[("80.0.0.1", 6881)]) as other,
    ):
        await other.wait_joined()
        async with one.get_peers(INFO_HASH):
            pass
        assert let_go == [News.NONE]
        async with one.get_peers(INFO_HASH, ready=True):  # who is ready has answers read at once
            pass
        assert let_go == [News.NONE]
        assert await other.announce(INFO_HASH, 4000) == 1
        let_go.clear()
        for ready in (False, True):
            async with one.get_peers(INFO_HASH, ready=ready):
                pass
        assert let_go == [News.PRESSING] * 2


async def test_leaving_a_search_ends_it(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet) as nodes:
        async with nodes[1].get_peers(INFO_HASH) as search:
            pass
        assert search.done
        with trio.fail_after(0.001):
            assert [endpoint async for endpoint in search] == []


async def test_closing_the_node_ends_what_waits(autojump_clock: Clock, internet: Internet) -> None:
    outcomes: list[object] = []

    async with trio.open_nursery() as nursery:
        node = node_on(internet.host("80.0.0.1"), bootstrap=[("80.9.9.9", 1)])

        async def ping() -> None:
            try:
                await node.ping(Endpoint("80.9.9.9", 1))
            except QueryError as error:
                outcomes.append(error.reason)

        async def search() -> None:
            outcomes.append([endpoint async for endpoint in node.get_peers(INFO_HASH)])

        async with node:
            nursery.start_soon(ping)
            nursery.start_soon(search)
            await trio.sleep(0.5)
    assert outcomes in ([[], "cancelled"], ["cancelled", []])
    with pytest.raises(MisuseError, match="not open"):
        node.get_peers(INFO_HASH)
    with pytest.raises(MisuseError, match="opened once"):
        await node.__aenter__()


async def test_the_bodys_error_leaves_as_it_came(autojump_clock: Clock, internet: Internet) -> None:
    with pytest.raises(KeyError):
        async with node_on(internet.host("80.0.0.1"), bootstrap=[]):
            raise KeyError("mine")
    with trio.move_on_after(1) as scope:
        async with node_on(internet.host("80.0.0.2"), bootstrap=[]):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_the_network_comes_late(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 10):
        host = internet.host("81.0.0.1")
        host.unplug()
        async with node_on(host, bootstrap=BOOT) as node:
            await trio.sleep(300)
            assert not node.joined
            host.plug()
            with trio.fail_after(70):
                await node.wait_joined()


async def test_the_built_in_routers_are_asked_by_name(autojump_clock: Clock, internet: Internet) -> None:
    for index, (name, port) in enumerate(ROUTERS):
        internet.names[name] = [f"82.{index}.0.1"]
        if index == 0:
            router = internet.host("82.0.0.1")
            routers = await (node := node_on(router, listen=[Endpoint("0.0.0.0", port)], bootstrap=[])).__aenter__()
    asker = internet.host("81.0.0.1")
    async with node_on(asker) as node_of_asker:
        await trio.sleep(30)
        stats = node_of_asker.stats()
        assert stats.routers_tried == len(ROUTERS)
        assert stats.routers_answered == 1
        assert stats.nodes == 0  # a router never enters the table
    assert routers is node
    await node.__aexit__(None, None, None)
    assert {to.host for to in asker.datagrams_to} == {f"82.{index}.0.1" for index in range(len(ROUTERS))}


async def test_by_default_both_families_share_a_port(autojump_clock: Clock, internet: Internet) -> None:
    async with node_on(internet.host("80.0.0.1", "2a01::1"), bootstrap=[]) as node:
        assert [endpoint.host for endpoint in node.endpoints] == ["0.0.0.0", "2a01::1"]
        assert len({endpoint.port for endpoint in node.endpoints}) == 1
        assert len({face.node_id for face in node.stats().faces}) == 1
    for only in ("80.0.0.2", "2a01::2"):
        async with node_on(internet.host(only), bootstrap=[]) as node:
            assert len(node.endpoints) == 1


async def test_addresses_that_are_one_to_others_are_told_of(
    autojump_clock: Clock, internet: Internet, caplog: pytest.LogCaptureFixture
) -> None:
    """BEP 45: at once where they are bound to one, and else when twelve networks see them as one."""
    home = internet.host("10.0.0.1", "10.0.0.2", behind=internet.nat("90.0.0.1"))
    bootstrap = [("80.0.0.1", 6881)]
    async with a_network(internet):
        with caplog.at_level(logging.WARNING):
            same = [Endpoint("81.0.0.1", 1), Endpoint("81.0.0.1", 2)]
            async with node_on(internet.host("81.0.0.1"), bootstrap=bootstrap, listen=same):
                (told,) = caplog.messages
                assert told.startswith("81.0.0.1:1 and 81.0.0.1:2 are both 81.0.0.1 to others")
            apart = [Endpoint("10.0.0.1", 7000), Endpoint("10.0.0.2", 7000)]
            async with node_on(home, bootstrap=bootstrap, listen=apart) as node:
                assert len(caplog.messages) == 1
                await trio.sleep(600)
                assert [face.external and face.external.host for face in node.stats().faces] == ["90.0.0.1"] * 2
    assert [line.partition(" to others")[0] for line in caplog.messages[1:]] == [
        "10.0.0.1:7000 and 10.0.0.2:7000 are both 90.0.0.1"
    ]


async def test_a_lookup_runs_on_both_families(autojump_clock: Clock, internet: Internet) -> None:
    async with AsyncExitStack() as stack:
        nodes = []
        for index in range(12):
            host = internet.host(f"80.{index}.0.1", f"2a01:{index + 1:x}::1")
            listen = [Endpoint("0.0.0.0", 6881), Endpoint("::", 6881)]
            bootstrap = [("80.0.0.1", 6881), ("2a01:1::1", 6881)] if index else []
            nodes.append(await stack.enter_async_context(node_on(host, listen=listen, bootstrap=bootstrap)))
        with trio.fail_after(60):
            for node in nodes[1:]:
                await node.wait_joined()
            await trio.sleep(5)
            assert await nodes[3].announce(INFO_HASH, 4000) == 16
            found = {endpoint async for endpoint in nodes[8].get_peers(INFO_HASH)}
    assert found == {Endpoint("80.3.0.1", 4000), Endpoint("2a01:4::1", 4000)}


async def test_a_port_in_use_is_an_error_and_leaves_nothing_open(autojump_clock: Clock, internet: Internet) -> None:
    host = internet.host("80.0.0.1")
    async with node_on(host, listen=[Endpoint("0.0.0.0", 5)], bootstrap=[]):
        with pytest.raises(NetworkError, match="in use"):
            async with node_on(host, listen=[Endpoint("0.0.0.0", 6), Endpoint("0.0.0.0", 5)], bootstrap=[]):
                raise AssertionError("it opened")
    assert host.udp_sockets == {}
    with pytest.raises(MisuseError):
        Node(listen=[])
    with pytest.raises(MisuseError, match="port"):
        Node(bootstrap=[("a", 0)])


async def test_the_table_survives_and_the_routers_are_not_needed(
    autojump_clock: Clock, internet: Internet, tmp_path: Path
) -> None:
    state = tmp_path / "dht.state"
    async with a_network(internet, 16) as nodes:
        host = internet.host("81.0.0.1")
        async with node_on(host, bootstrap=BOOT, state=state) as node:
            await node.wait_joined()
            first_id = node.node_id
        await nodes[2].announce(INFO_HASH, 4000)
        internet.names.clear()
        async with node_on(host, bootstrap=BOOT, state=state) as again:
            assert again.node_id == first_id
            start = trio.current_time()
            assert [endpoint async for endpoint in again.get_peers(INFO_HASH)] == [Endpoint("80.2.0.1", 4000)]
            assert trio.current_time() - start < 3
            async with node_on(internet.host("81.0.0.2"), bootstrap=[], state=state) as borrower:
                assert borrower.node_id != first_id
                with trio.fail_after(30):
                    await borrower.wait_joined()


async def test_a_damaged_state_is_said_once(
    autojump_clock: Clock, internet: Internet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "dht.state"
    state.write_bytes(b"d3:xxx")
    with caplog.at_level(logging.WARNING):
        async with node_on(internet.host("80.0.0.1"), bootstrap=[], state=state) as node:
            assert len(node.node_id) == 20
    assert [record.getMessage().count("is damaged") for record in caplog.records] == [1]


async def test_local_addresses_are_for_local_nodes(autojump_clock: Clock, internet: Internet) -> None:
    machine = internet.host("127.0.0.1", "80.0.0.1")
    async with node_on(machine, listen=[Endpoint("127.0.0.1", 5)], bootstrap=[]) as local:
        async with node_on(machine, listen=[Endpoint("0.0.0.0", 6)], bootstrap=[]) as wide:
            with pytest.raises(QueryError, match="cannot be asked"):
                await wide.ping(local.endpoints[0])
        options: dict[str, Any] = {"listen": [Endpoint("0.0.0.0", 6)], "bootstrap": [], "allow_local": True}
        async with node_on(machine, **options) as open_minded:
            assert (await open_minded.ping(local.endpoints[0])).node_id == local.node_id


async def test_a_read_only_node_asks_and_does_not_answer(autojump_clock: Clock, internet: Internet) -> None:
    async with a_network(internet, 10) as nodes:
        listen = [Endpoint("0.0.0.0", 6881)]
        async with node_on(internet.host("81.0.0.1"), listen=listen, bootstrap=BOOT, read_only=True) as node:
            await node.wait_joined()
            assert await node.announce(INFO_HASH, 1) == 8
            with pytest.raises(QueryError, match="in time"):
                await nodes[1].ping(Endpoint("81.0.0.1", 6881))
