"""A few whole DHTs in a small world: joining, lookups, announces, single questions, both families, bad company."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.events import (
    Answered,
    DhtEvent,
    ExternalAddress,
    Joined,
    LookupDone,
    NodeIdChanged,
    PeersFound,
    Unanswered,
)
from kademlia_bt.dht.lookup import Lookup
from kademlia_bt.dht.lookups import FindNode, GetPeers
from kademlia_bt.dht.node_id import fits, random_id
from kademlia_bt.dht.questions import Announce, AskNodes, AskPeers, Ping, QuestionKind
from tests.sim.world import Impostor, SimNode, World
from wire.bencode import Encodable, Value, decode, encode
from wire.compact import IPV4, IPV6, Endpoint
from wire.errors import MisuseError

HASH = bytes(range(20))
RNG = random.Random(4)


def small_world(count: int, seed: int = 1) -> World:
    world = World(seed)
    first = world.add()
    for _ in range(count - 1):
        world.add(bootstrap=[first.endpoint])
        world.run(0.1)
    world.run(5)
    return world


def ask(world: World, node: SimNode, endpoint: Endpoint, kind: QuestionKind, seconds: float = 15.0) -> DhtEvent:
    question = node.dht.query(endpoint, kind, world.now)
    world.poke(node)

    def outcome() -> DhtEvent | None:
        return next((e for e in node.events if isinstance(e, Answered | Unanswered) and e.question is question), None)

    world.run(seconds, lambda: outcome() is not None)
    event = outcome()
    assert event is not None
    return event


def test_two_nodes_are_a_network() -> None:
    world = World(1)
    one = world.add()
    two = world.add(bootstrap=[one.endpoint])
    world.run(3)
    assert any(isinstance(event, Joined) for event in two.events)
    announce = world.start(two, GetPeers(HASH, announce_port=7000))
    assert world.finish(two, announce).stored == 1
    search = world.start(one, GetPeers(HASH))
    world.finish(one, search)
    assert one.peers(search) == [Endpoint(two.endpoint.host, 7000)]


def test_each_of_two_tells_the_other_of_itself() -> None:
    # The announcer knows nobody yet, so that nobody takes its announce; who asks it still learns of it.
    world = World(1)
    seed = world.add()
    announce = world.start(seed, GetPeers(HASH, implied_port=True))
    late = world.add(bootstrap=[seed.endpoint])
    search = world.start(late, GetPeers(HASH))
    world.finish(late, search)
    assert late.peers(search) == [seed.endpoint]
    assert world.finish(seed, announce).stored == 0
    assert seed.peers(announce) == []


def test_a_lookup_at_once_with_an_empty_table() -> None:
    world = small_world(12)
    announce = world.start(world.nodes[3], GetPeers(HASH, announce_port=7000))
    assert world.finish(world.nodes[3], announce).stored == 8
    late = world.add(bootstrap=[world.nodes[0].endpoint])
    search = world.start(late, GetPeers(HASH))
    begun = world.now
    assert world.run(5, lambda: search.found > 0)
    assert world.now - begun < 1.5
    done = world.finish(late, search)
    assert (search.asked >= 8, search.answered >= 8, len(done.closest)) == (True, True, 8)
    assert late.peers(search) == [Endpoint(world.nodes[3].endpoint.host, 7000)]


def test_peers_come_before_the_end_and_once() -> None:
    world = small_world(20)
    for index in (1, 2, 3):
        world.finish(world.nodes[index], world.start(world.nodes[index], GetPeers(HASH, announce_port=7000 + index)))
    node = world.nodes[15]
    search = world.start(node, GetPeers(HASH))
    world.finish(node, search)
    peers = node.peers(search)
    assert sorted(peer.port for peer in peers) == [7001, 7002, 7003]
    kinds = [type(e) for e in node.events if isinstance(e, PeersFound | LookupDone)]
    assert kinds[-1] is LookupDone
    assert kinds.count(LookupDone) == 1


def answer_with_peers(world: World) -> tuple[SimNode, Lookup]:
    """A search of which one answer has come, which names a peer; nothing else was done since."""
    world.finish(world.nodes[1], world.start(world.nodes[1], GetPeers(HASH, announce_port=7001)))
    node = next(each for each in world.nodes if not each.dht.stats().peers)
    search = node.dht.start(GetPeers(HASH), world.now)
    for data, to in node.face.outgoing():
        node.face.outgoing()
        other = next(each for each in world.nodes if each.endpoint == to)
        reply = other.face.answer(bytes(data), node.endpoint, world.now)
        assert reply is not None
        node.face.receive(bytes(reply), to, world.now)
        if node.dht.has_events:
            return node, search
    raise AssertionError("nobody named a peer")


def test_peers_are_told_of_before_the_nodes_that_came_with_them_are_looked_at() -> None:
    node, search = answer_with_peers(small_world(20))
    assert [type(event) for event in node.dht.events()] == [PeersFound]
    assert not node.face.seeker.outbox
    assert node.face.has_outgoing
    asked = search.asked
    assert node.face.outgoing()  # and then the search goes on
    assert search.asked > asked
    assert not node.face.has_outgoing


def test_who_needs_no_more_has_no_more_asked() -> None:
    world = small_world(20)
    node, search = answer_with_peers(world)
    asked = search.asked
    node.dht.cancel(search, world.now)
    assert node.face.outgoing() == []
    assert search.asked == asked


@pytest.mark.parametrize("by", ["the next answer", "time"])
def test_what_was_put_off_is_done_before_what_comes_next(by: str) -> None:
    world = small_world(20)
    node, search = answer_with_peers(world)
    asked = search.asked
    if by == "time":
        node.face.tick(world.now)
    else:
        node.face.receive(b"d1:rd2:id20:" + bytes(20) + b"e1:t4:none1:y1:re", world.nodes[2].endpoint, world.now)
    assert search.asked > asked
    assert not node.face.seeker.is_heedless


def test_routers_stay_outside() -> None:
    world = World(1)
    router = world.add()
    others = [world.add(bootstrap=[router.endpoint], routers=True) for _ in range(6)]
    for _ in range(5):
        world.run(10)
    node = others[2]
    assert len(node.face.table) == 5
    assert node.face.table.get(router.endpoint) is None
    announce = world.start(node, GetPeers(HASH, announce_port=5))
    assert world.finish(node, announce).stored == 5
    assert router.dht.stats().peers == 0
    stats = node.dht.stats()
    assert (stats.routers_tried, stats.routers_answered) == (1, 1)


def test_a_lookup_waits_for_the_first_place_to_start_from() -> None:
    world = small_world(10)
    late = world.add()
    search = world.start(late, FindNode(HASH))
    world.run(4)
    assert not search.done
    late.dht.add_bootstrap([world.nodes[0].endpoint], world.now)
    world.poke(late)
    assert len(world.finish(late, search).closest) == 8


def test_a_lookup_with_nobody_to_ask_ends() -> None:
    world = World(1)
    node = world.add()
    begun = world.now
    done = world.finish(node, world.start(node, GetPeers(HASH, announce_port=5)))
    assert (done.closest, done.stored) == ((), 0)
    assert 5 < world.now - begun < 15
    assert node.dht.stats().health == "broken"


def test_dead_bootstrap_nodes_end_a_lookup_soon_and_are_tried_again() -> None:
    world = World(1)
    place = Endpoint("20.9.9.9", 6881)
    node = world.add(bootstrap=[place])
    begun = world.now
    world.finish(node, world.start(node, GetPeers(HASH)))
    assert world.now - begun < 10
    stats = node.dht.stats()
    assert (stats.routers_tried, stats.routers_answered, stats.nodes_answered) == (1, 0, 0)
    world.run(60)
    assert not any(isinstance(event, Joined) for event in node.events)
    there = world.add(hosts=[place.host])
    assert there.endpoint == place
    assert world.run(70, lambda: any(isinstance(event, Joined) for event in node.events))


def test_saved_nodes_are_enough() -> None:
    world = small_world(28)
    saved = world.nodes[5].dht.export_nodes()
    assert len(saved) > 20
    late = world.add(bootstrap=[Endpoint("20.9.9.9", 6881)])
    dead = [Contact(random_id(RNG), Endpoint(f"21.1.{index}.1", 6881)) for index in range(10)]
    late.dht.import_nodes([*dead, *saved], world.now)
    world.poke(late)
    assert len(late.face.table) == 0
    assert world.run(30, lambda: late.dht.stats().good >= 20)
    assert late.dht.stats().health == "good"


def test_an_outage_of_a_minute_is_survived() -> None:
    world = small_world(14)
    node = world.nodes[7]
    world.loss = 1.0
    world.run(200)
    world.finish(node, world.start(node, GetPeers(HASH)))
    assert node.dht.stats().good == 0
    world.loss = 0.0
    assert world.run(30, lambda: node.dht.stats().good >= 8)
    done = world.finish(node, world.start(node, FindNode(HASH)))
    assert len(done.closest) == 8


def test_nodes_named_from_outside_are_pinged_first() -> None:
    world = World(1)
    one, two = world.add(), world.add()
    one.dht.add_node(two.endpoint, world.now)
    one.dht.add_node(Endpoint("20.9.9.9", 5), world.now)
    one.dht.add_node(Endpoint("127.0.0.1", 5), world.now)
    world.poke(one)
    assert len(one.face.table) == 0
    world.run(1)
    assert [node.contact.endpoint for node in one.face.table.nodes] == [two.endpoint]


def test_single_questions() -> None:
    world = small_world(12)
    node, other = world.nodes[2], world.nodes[5]
    pong = ask(world, node, other.endpoint, Ping())
    assert isinstance(pong, Answered)
    assert pong.node == Contact(other.face.node_id, other.endpoint)
    assert 0.04 <= pong.rtt_s <= 0.31
    assert (pong.own_address, pong.version) == (node.endpoint, b"KB\x01\x00")
    nodes = ask(world, node, other.endpoint, AskNodes(HASH))
    assert isinstance(nodes, Answered)
    assert len(nodes.nodes) == 8
    peers = ask(world, node, other.endpoint, AskPeers(HASH))
    assert isinstance(peers, Answered)
    assert peers.peers == ()
    assert peers.token is not None
    assert isinstance(ask(world, node, other.endpoint, Announce(HASH, peers.token, 77)), Answered)
    peers = ask(world, node, other.endpoint, AskPeers(HASH))
    assert isinstance(peers, Answered)
    assert peers.peers == (Endpoint(node.endpoint.host, 77),)


def test_questions_without_an_answer() -> None:
    world = World(1)
    node, other = world.add(), world.add()
    silent = ask(world, node, Endpoint("20.9.9.9", 5), Ping())
    assert isinstance(silent, Unanswered)
    assert silent.reason == "timed_out"
    refused = ask(world, node, other.endpoint, Announce(HASH, b"made up!", None))
    assert isinstance(refused, Unanswered)
    assert (refused.reason, refused.error) == ("refused", (203, "bad token"))
    for endpoint in (Endpoint("2a02::1", 5), Endpoint("127.0.0.1", 5), Endpoint("20.9.9.9", 0)):
        nowhere = ask(world, node, endpoint, Ping())
        assert isinstance(nowhere, Unanswered)
        assert nowhere.reason == "no_route"


def test_a_lost_question_is_repeated() -> None:
    world = World(3, loss=0.4)
    node, other = world.add(), world.add()
    answered = sum(isinstance(ask(world, node, other.endpoint, Ping()), Answered) for _ in range(40))
    assert answered >= 25


def test_cancel() -> None:
    world = small_world(12)
    node = world.nodes[2]
    search = world.start(node, GetPeers(HASH, announce_port=5))
    node.dht.cancel(search, world.now)
    node.dht.cancel(search, world.now)
    world.poke(node)
    done = node.done(search)
    assert done is not None
    assert done.cancelled
    asked = search.asked
    world.run(20)
    assert search.asked == asked
    assert [e for e in node.events if isinstance(e, LookupDone)] == [done]


def test_both_families_from_a_bootstrap_node_of_one() -> None:
    world = World(5)
    first = world.add(IPV4, IPV6)
    for _ in range(15):
        world.add(IPV4, IPV6, bootstrap=[first.endpoint])
        world.run(0.2)
    only_six = world.add(IPV6, bootstrap=[list(first.faces)[1]])
    world.run(20)
    node = world.nodes[9]
    four, six = node.dht.faces
    assert (four.family, six.family) == (IPV4, IPV6)
    assert len(four.table) >= 12
    assert len(six.table) >= 12  # learnt over IPv4 alone
    announce = world.start(only_six, GetPeers(HASH, announce_port=7000))
    assert world.finish(only_six, announce).stored == 8
    search = world.start(node, GetPeers(HASH))
    done = world.finish(node, search)
    assert node.peers(search) == [Endpoint(only_six.endpoint.host, 7000)]
    assert {contact.endpoint.family for contact in done.closest} == {IPV4, IPV6}


def test_a_family_that_leads_nowhere_is_not_waited_for() -> None:
    world = small_world(12)
    node = world.add(IPV4, IPV6, bootstrap=[world.nodes[0].endpoint, Endpoint("2a0f::1", 6881)])
    world.run(20)
    begun = world.now
    world.finish(node, world.start(node, GetPeers(HASH)))
    assert world.now - begun < 2


def test_our_id_follows_the_address_that_many_see() -> None:
    world = World(1)
    node = world.add(node_id=bytes(20))
    for _ in range(20):
        world.add(bootstrap=[node.endpoint])
        world.run(0.2)
    assert world.run(60, lambda: node.face.node_id != bytes(20))
    world.run(5)
    assert fits(node.face.node_id, node.endpoint.ip)
    assert node.face.external == node.endpoint
    told = [event for event in node.events if isinstance(event, ExternalAddress | NodeIdChanged)]
    assert told == [ExternalAddress(IPV4, node.endpoint), NodeIdChanged(IPV4, node.face.node_id)]
    asked = ask(world, world.nodes[3], node.endpoint, Ping())
    assert isinstance(asked, Answered)
    assert asked.node.id == node.face.node_id


def test_ten_liars_do_not_change_our_id() -> None:
    world = small_world(20)
    node = world.nodes[3]
    before = node.face.node_id
    lie = Endpoint("66.6.6.6", 6881).compact()

    class FalseMirror(Impostor):
        """Says that it sees us elsewhere."""

        def respond(self, tid: Value, returned: dict[bytes, Encodable], asker: Endpoint) -> None:
            assert isinstance(tid, bytes)
            answer = encode({b"ip": lie, b"r": returned, b"t": tid, b"y": b"r"})
            self.world.send(answer, self.contact.endpoint, asker)

    liars = [FalseMirror(world, Endpoint(f"66.{n}.1.1", 6881), random_id(RNG)) for n in range(10)]
    for _ in range(20):
        for liar in liars:
            ask(world, node, liar.contact.endpoint, Ping())
    assert sum(liar.asked[b"ping"] for liar in liars) >= 200
    assert node.face.node_id == before
    assert node.face.external in (None, node.endpoint)
    assert not any(isinstance(event, NodeIdChanged) for event in node.events)


class Liar:
    """Answers whatever it is asked with what it is given; speaks for any address."""

    def __init__(self, world: World, victim: SimNode, answer: dict[bytes, Encodable]) -> None:
        self.asked: list[Endpoint] = []
        self._world, self._victim, self._answer = world, victim, answer
        world.on_datagram = self._hear

    def _hear(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        message = decode(data)
        assert isinstance(message, dict)
        if to in self._world._at or message[b"y"] != b"q":
            return
        self.asked.append(to)
        reply = encode({b"r": {b"id": random_id(RNG), **self._answer}, b"t": message[b"t"], b"y": b"r"})
        self._world.call_at(self._world.now + 0.05, lambda: self._world.inject(reply, to, source))


def test_poisoned_answers_enter_no_table() -> None:
    world = World(1)
    place = Endpoint("21.1.1.1", 6881)
    node = world.add()
    own = node.face.node_id
    bad = ["0.0.0.0", "127.0.0.1", "10.0.0.1", "224.1.1.1", "255.255.255.255", "192.168.1.1"]
    contacts = [Contact(random_id(RNG), Endpoint(host, 5)) for host in bad]
    contacts += [Contact(own, Endpoint("22.1.1.1", 5)), Contact(random_id(RNG), Endpoint("22.1.1.2", 0))]
    contacts += [Contact(random_id(RNG), Endpoint(f"23.{i // 250}.{i % 250}.1", 5)) for i in range(1_000)]
    values = [Endpoint(host, 5).compact() for host in bad] + [Endpoint("22.1.1.2", 0).compact(), b"bad"]
    liar = Liar(
        world, node, {b"nodes": b"".join(c.compact() for c in contacts), b"values": values, b"token": b"x" * 900}
    )
    node.dht.add_bootstrap([place], world.now)
    search = world.start(node, GetPeers(HASH, announce_port=5))
    world.finish(node, search)
    assert node.peers(search) == []
    assert not {endpoint.host for endpoint in liar.asked} & {*bad, "22.1.1.1", "22.1.1.2"}
    assert search.asked < 40
    assert all(node.contact.endpoint.host not in bad for node in node.face.table.nodes)


def test_an_answer_to_nobodys_question_is_dropped() -> None:
    world = World(1)
    node = world.add()
    before = node.dht.stats().dropped
    forged = encode({b"r": {b"id": random_id(RNG), b"nodes": bytes(26)}, b"t": b"abcd", b"y": b"r"})
    world.inject(forged, Endpoint("21.1.1.1", 5), node.endpoint)
    world.inject(encode({b"e": [201, b"x"], b"t": b"abcd", b"y": b"e"}), Endpoint("21.1.1.1", 5), node.endpoint)
    assert node.dht.stats().dropped == before + 2
    assert len(node.face.table) == 0


def test_an_error_is_an_answer_too() -> None:
    world = World(1)
    node = world.add()
    place = Endpoint("21.1.1.1", 6881)

    def refuse(data: bytes, source: Endpoint, to: Endpoint) -> None:
        message = decode(data)
        assert isinstance(message, dict)
        reply = encode({b"e": [202, b"busy"], b"t": message[b"t"], b"y": b"e"})
        world.call_at(world.now + 0.05, lambda: world.inject(reply, to, source))

    world.on_datagram = refuse
    node.dht.add_bootstrap([place], world.now)
    begun = world.now
    world.finish(node, world.start(node, GetPeers(HASH)))
    assert world.now - begun < 1
    assert node.dht.stats().routers_answered == 1


def test_misuse() -> None:
    dht = Dht(DhtConfig(), random.Random(1), 0.0)
    with pytest.raises(MisuseError):
        dht.add_face(IPV4, b"short", 0.0)


def test_stats_and_export_are_snapshots() -> None:
    world = small_world(12)
    stats = world.nodes[2].dht.stats()
    assert (stats.good, stats.nodes, stats.health) == (11, 11, "good")
    assert stats.nodes_asked >= stats.nodes_answered > 0
    assert stats.sent_bytes > 0 < stats.received_bytes
    saved = world.nodes[2].dht.export_nodes()
    assert len(saved) == 11
    assert {c.id for c in saved} == {n.face.node_id for n in world.nodes} - {world.nodes[2].face.node_id}
