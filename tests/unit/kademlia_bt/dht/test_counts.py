"""What the core counts for those who watch: messages, refusals by reason, lookups and their hops."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.firewall import CLOSED_AFTER_S, Firewall
from kademlia_bt.dht.lookups import FindNode, GetPeers
from kademlia_bt.dht.private import Envelope, network_tag
from kademlia_bt.dht.traffic import METHODS, MessageStats, Traffic, merge_messages, merge_refusals
from tests.sim.world import World
from wire.bencode import decode, encode
from wire.compact import Endpoint
from wire.errors import MisuseError

HASH = bytes(range(20))
STRANGER = Endpoint("99.1.1.1", 7)


def query(method: bytes, more: bytes = b"") -> bytes:
    return b"d1:ad2:id20:%b%be1:q%d:%b1:t2:aa1:y1:qe" % (HASH, more, len(method), method)


def rows(world: World, at: int) -> dict[str, MessageStats]:
    return {row.method: row for row in world.nodes[at].dht.stats().messages}


def test_every_message_is_counted_by_its_method() -> None:
    world = World(1)
    first = world.add()
    second = world.add(bootstrap=[first.endpoint])
    world.run(30)
    world.finish(second, world.start(second, GetPeers(HASH, announce_port=5)))
    asked, heard = rows(world, 1), rows(world, 0)
    for method in ("ping", "find_node", "get_peers", "announce_peer"):
        assert asked[method].asked == heard[method].heard == asked[method].answered, method
    assert asked["get_peers"].asked >= asked["announce_peer"].asked == 1
    assert sum(row.heard for row in heard.values()) == first.dht.stats().queries == first.dht.stats().answers


def test_names_of_strangers_make_no_rows() -> None:
    world = World(1)
    node = world.add()
    for number in range(500):
        world.inject(query(b"<b>%d" % number, b"6:target20:" + HASH), STRANGER, node.endpoint)
    stats = node.dht.stats()
    assert [row.method for row in stats.messages] == [method.decode() for method in METHODS]
    assert stats.messages[-1].heard == 500


def test_errors_that_come_to_us_are_told_from_answers() -> None:
    world = World(1)
    first = world.add()
    second = world.add()
    for length in second.face.responder.pongs:
        second.face.responder.pongs[length] = lambda ip, port, tid: (
            b"d1:eli201e4:oopse1:t%d:%b1:y1:ee"
            % (
                len(tid),
                tid,
            )
        )
    first.dht.add_node(second.endpoint, world.now)
    world.poke(first)
    world.run(3)
    assert (rows(world, 0)["ping"].answered, rows(world, 0)["ping"].refused) == (0, 1)


@pytest.mark.parametrize(
    ("reason", "data", "source", "config"),
    [
        ("malformed", b"short", STRANGER, {}),
        ("malformed", b"d" + b"x" * 50, STRANGER, {}),
        ("malformed", b"d" + b"x" * 10_000, STRANGER, {}),
        ("address", query(b"ping"), Endpoint("10.0.0.1", 7), {}),
        ("address", query(b"ping"), Endpoint("99.1.1.1", 0), {}),
        ("foreign", b"d1:N8:12345678" + query(b"ping")[1:], STRANGER, {}),
        ("foreign", query(b"ping"), STRANGER, {"network": network_tag("acme")}),
        ("unasked", b"d1:rd2:id20:" + HASH + b"e1:t2:aa1:y1:re", STRANGER, {}),
        ("read_only", query(b"ping"), STRANGER, {"read_only": True}),
        ("error 204", query(b"nonsense"), STRANGER, {}),
        ("error 203", query(b"find_node"), STRANGER, {}),
        ("error 203", query(b"announce_peer", b"9:info_hash20:%b4:porti5e5:token1:x" % HASH), STRANGER, {}),
    ],
)
def test_each_refusal_has_its_reason(reason: str, data: bytes, source: Endpoint, config: dict[str, object]) -> None:
    world = World(1)
    node = world.add(config=DhtConfig(**{"per_ip_limit": 0, "upload_limit": 0, **config}))  # type: ignore[arg-type]
    world.inject(data, source, node.endpoint)
    stats = node.dht.stats()
    assert {name: count for name, count in stats.refused if count} == {reason: 1}
    assert stats.dropped == (not reason.startswith("error"))
    assert stats.limited == 0


def test_the_cap_of_answers_is_counted_apart() -> None:
    world = World(1)
    node = world.add(config=DhtConfig(per_ip_limit=0, upload_limit=1))
    for _ in range(2):  # the first one is let through on credit
        world.inject(query(b"ping"), STRANGER, node.endpoint)
    stats = node.dht.stats()
    assert dict(stats.refused)["upload"] == stats.limited == stats.dropped == 1


def test_who_asks_too_much_is_counted_apart() -> None:
    world = World(1)
    node = world.add(config=DhtConfig(per_ip_limit=2, upload_limit=0))
    for _ in range(30):
        world.inject(query(b"ping"), STRANGER, node.endpoint)
    stats = node.dht.stats()
    assert dict(stats.refused)["limit"] == stats.limited == stats.dropped == 10


def test_hops_are_counted_from_whom_we_knew() -> None:
    world = World(4)
    first = world.add()
    for _ in range(40):
        world.add(bootstrap=[first.endpoint])
    world.run(20)
    late = world.add(bootstrap=[first.endpoint])
    lookup = world.start(late, FindNode(HASH))
    running = [each for each in late.dht.lookups(world.now) if not each.internal]
    assert [(each.state, each.method, each.target, each.hops) for each in running] == [
        ("running", "find_node", HASH, 0)
    ]
    done = world.finish(late, lookup)
    report = next(each for each in late.dht.lookups(world.now) if not each.internal)
    assert report.state == "done"
    assert 2 <= report.hops <= 5  # the starter is the first hop
    assert report.asked >= report.answered >= len(done.closest) == 8
    assert 0 < report.took_s <= report.age_s
    totals = {each.method: each for each in late.dht.stats().lookups}["find_node"]
    assert totals.hops >= report.hops
    assert totals.asked >= totals.answered >= report.answered
    world.run(10)
    again = next(each for each in late.dht.lookups(world.now) if not each.internal)
    assert (again.took_s, again.age_s) == (report.took_s, pytest.approx(report.age_s + 10))


def test_only_the_latest_lookups_are_kept() -> None:
    world = World(1)
    node = world.add()
    for at in range(70):
        lookup = world.start(node, FindNode(bytes([at]) * 20))
        node.dht.cancel(lookup, world.now)
        world.run(1)
    reports = [each for each in node.dht.lookups(world.now) if not each.internal]
    assert len(reports) == 50
    assert {each.state for each in reports} == {"cancelled"}
    assert reports[0].target == bytes([69]) * 20
    assert reports == sorted(reports, key=lambda each: each.age_s)
    (totals,) = node.dht.stats().lookups
    assert (totals.method, totals.lookups) == ("find_node", 70)


def test_counts_of_faces_add_up() -> None:
    one, two = Traffic(), Traffic()
    one.hear(b"ping")
    two.hear(b"ping")
    two.ask(b"nobody knows this")
    two.end(b"get_peers", answered=True)
    one.refuse(203)
    two.refuse(203)
    one.dropped["limit"] += 3
    merged = {row.method: row for row in merge_messages([one.messages, two.messages])}
    assert merged["ping"].heard == 2
    assert merged["other"].asked == 1
    assert merged["get_peers"].answered == 1
    refused = dict(merge_refusals([one.refusals, two.refusals]))
    assert (refused["limit"], refused["error 203"], refused["foreign"]) == (3, 2, 0)
    assert merge_messages([]) == ()


def test_a_firewall_forgets_whom_we_asked_long_ago_and_stays_small() -> None:
    wall = Firewall(0.0)
    wall.asked(STRANGER, 0.0)
    wall.heard(STRANGER._replace(port=9), 100.0)  # another port of whom we asked: no proof
    assert wall.is_closed(CLOSED_AFTER_S)
    wall.heard(STRANGER, 400.0)
    assert not wall.is_closed(400.0 + CLOSED_AFTER_S - 1)
    assert wall.is_closed(400.0 + CLOSED_AFTER_S)
    rng = random.Random(1)
    for _ in range(10_000):
        wall.asked(Endpoint(f"{rng.randrange(11, 99)}.{rng.randrange(256)}.{rng.randrange(256)}.1", 1), 500.0)
    assert len(wall._asked) == 4096


def test_a_seal_is_put_on_and_taken_off() -> None:
    acme, rival, mainline = Envelope(network_tag("acme")), Envelope(network_tag("rival")), Envelope(b"")
    message = query(b"ping")
    sealed = bytes(acme.seal(message))
    assert acme.open(sealed) == message
    assert rival.open(sealed) is None
    assert mainline.open(sealed) is None
    assert acme.open(message) is None
    assert mainline.open(message) == message == mainline.seal(message)
    assert len(sealed) - len(message) == acme.overhead_bytes == 13
    assert encode(decode(sealed)) == sealed  # its keys are in order: any reader takes it
    assert network_tag("acme") == network_tag("acme") != network_tag("Acme")
    for name in ("", "x" * 256, "a\nb"):
        with pytest.raises(MisuseError):
            network_tag(name)
    with pytest.raises(MisuseError):
        Envelope(b"short")
