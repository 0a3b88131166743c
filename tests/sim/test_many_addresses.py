"""One node on several addresses (BEP 45), and private networks beside the mainline DHT, in small worlds."""

from __future__ import annotations

from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.lookups import GetPeers
from kademlia_bt.dht.node_id import number, shared_bits
from kademlia_bt.dht.private import network_tag
from tests.sim.world import SimNode, World
from wire.compact import IPV4, IPV6, Endpoint

HASH = bytes(range(20))


def world_of(size: int, seed: int = 3) -> tuple[World, SimNode]:
    world = World(seed)
    first = world.add()
    for _ in range(size - 1):
        world.add(bootstrap=[first.endpoint])
    world.run(30)
    return world, first


def grow(world: World, count: int, tag: bytes, bootstrap: Endpoint | None = None) -> list[SimNode]:
    config = DhtConfig(per_ip_limit=0, upload_limit=0, network=tag)
    nodes: list[SimNode] = []
    for _ in range(count):
        start = bootstrap or (nodes[0].endpoint if nodes else None)
        nodes.append(world.add(config=config, bootstrap=[start] if start else []))
    world.run(30)
    return nodes


def test_each_address_has_an_id_of_its_own_far_from_the_others() -> None:
    world, first = world_of(20)
    many = world.add(IPV4, IPV4, IPV6, IPV4, hosts=["90.1.0.1", "91.1.0.1", "2a00:ffff::1", "92.1.0.1"], fresh_ids=True)
    ids = [number(face.node_id) for face in many.faces.values() if face.family is IPV4]
    # Of three ids two have their first bit in common; the second one then differs.
    assert max(shared_bits(a, b) for a in ids for b in ids if a != b) <= 1
    many.dht.add_bootstrap([first.endpoint], world.now)
    world.poke(many)
    world.run(60)
    assert [face.keeper.joined for face in many.faces.values()] == [True, True, False, True]


def test_ids_stay_apart_when_the_external_addresses_are_known() -> None:
    world, first = world_of(40)
    many = world.add(IPV4, IPV4, hosts=["90.1.0.1", "91.1.0.1"], fresh_ids=True, bootstrap=[first.endpoint])
    world.run(600)
    faces = list(many.faces.values())
    assert [face.external and face.external.host for face in faces] == ["90.1.0.1", "91.1.0.1"]
    assert shared_bits(number(faces[0].node_id), number(faces[1].node_id)) <= 1


def test_a_lookup_asks_from_one_address_and_spends_its_tokens_there() -> None:
    world, first = world_of(40)
    many = world.add(IPV4, IPV4, hosts=["90.1.0.1", "91.1.0.1"], bootstrap=[first.endpoint])
    world.run(60)
    sent: list[tuple[bytes, Endpoint, Endpoint]] = []
    world.on_datagram = lambda data, source, to: sent.append((data, source, to))
    from_hosts = set()
    for _ in range(8):
        sent.clear()
        done = world.finish(many, world.start(many, GetPeers(HASH, announce_port=4000)))
        assert done.stored == 8
        for method in (b"9:get_peers", b"13:announce_peer"):
            sources = {source.host for data, source, _ in sent if method in data and source in many.faces}
            assert len(sources) == 1
            from_hosts |= sources
    assert from_hosts == {"90.1.0.1", "91.1.0.1"}  # and over time from all
    other = world.nodes[5]
    lookup = world.start(other, GetPeers(HASH))
    world.finish(other, lookup)
    assert set(other.peers(lookup)) == {Endpoint("90.1.0.1", 4000), Endpoint("91.1.0.1", 4000)}


def test_an_address_that_nobody_started_learns_from_the_others() -> None:
    world, _ = world_of(20)
    many = world.add(IPV4, IPV4, hosts=["90.1.0.1", "91.1.0.1"])
    first, second = many.faces.values()
    # Only the first is ever spoken to.
    world.inject(
        b"d1:ad2:id20:" + world.nodes[3].face.node_id + b"e1:q4:ping1:t2:aa1:y1:qe",
        world.nodes[3].endpoint,
        many.endpoint,
    )
    world.run(90)
    assert first.keeper.joined
    assert second.keeper.joined


def test_two_networks_over_one_net_do_not_hear_each_other() -> None:
    world, first = world_of(20)
    ours = grow(world, 12, network_tag("acme"))
    others = grow(world, 12, network_tag("rival"))
    mainline = world.nodes[:20]
    # One of each is sent to the other networks, by whoever names it there.
    for stranger, target in ((ours[3], first), (mainline[5], ours[0]), (others[2], ours[0]), (others[4], first)):
        for _ in range(3):
            stranger.dht.add_node(target.endpoint, world.now)
            stranger.dht.add_bootstrap([target.endpoint], world.now)
            world.poke(stranger)
            world.run(70)
    world.run(300)
    groups = [mainline, ours, others]
    for group in groups:
        members = {node.endpoint for node in group}
        for node in group:
            assert {each.contact.endpoint for each in node.face.table.nodes} <= members
            assert len(node.face.table) >= 8
    assert first.face.traffic.dropped["foreign"] > 0
    assert ours[0].face.traffic.dropped["foreign"] > 0

    world.finish(ours[5], world.start(ours[5], GetPeers(HASH, announce_port=4000)))
    inside, outside = world.start(ours[7], GetPeers(HASH)), world.start(mainline[7], GetPeers(HASH))
    assert world.finish(ours[7], inside).closest
    world.finish(mainline[7], outside)
    assert ours[7].peers(inside) == [Endpoint(ours[5].endpoint.host, 4000)]
    assert mainline[7].peers(outside) == []


def test_a_foreign_message_is_not_answered() -> None:
    world, first = world_of(3)
    ours = grow(world, 2, network_tag("acme"))
    answered: list[Endpoint] = []
    stranger = Endpoint("99.1.1.1", 7)
    world.on_datagram = lambda data, source, to: answered.append(source) if to == stranger else None
    plain = b"d1:ad2:id20:" + HASH + b"e1:q4:ping1:t2:aa1:y1:qe"
    tagged = b"d1:N8:" + network_tag("acme") + plain[1:]
    wrong = b"d1:N8:" + network_tag("other") + plain[1:]
    broken = b"d1:N8:" + network_tag("acme") + b"1:y1:q1:t2:aae"
    for data, receiver, answers in (
        (plain, first, 1), (tagged, first, 0), (wrong, first, 0), (broken, first, 0),
        (plain, ours[0], 0), (tagged, ours[0], 1), (wrong, ours[0], 0), (broken, ours[0], 1),
    ):  # fmt: skip
        answered.clear()
        world.inject(data, stranger, receiver.endpoint)
        assert answered.count(receiver.endpoint) >= answers
        assert bool(answered) == bool(answers), (data, receiver.endpoint)
