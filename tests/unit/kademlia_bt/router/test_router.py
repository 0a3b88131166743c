"""The bootstrap router without I/O: who gets what, who comes in and who stays out, how it is measured."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.node_id import make_node_id
from kademlia_bt.dht.places import is_global, is_local
from kademlia_bt.router.core import Router, RouterConfig
from kademlia_bt.router.echo import Echoes
from kademlia_bt.router.face import MAX_ANSWER_BYTES, REPEAT_NODES
from kademlia_bt.router.ping_queue import PingQueue, Recent
from kademlia_bt.router.ring_keeper import PING_DELAY_S, PING_WAIT_S, RECHECK_S, RETRY_S, SMALL
from kademlia_bt.router.scatter import scatter
from kademlia_bt.router.stats import RouterStats
from tests.examples import examples
from wire.bencode import decode, encode
from wire.compact import IPV4, IPV6, Endpoint, Family, reach
from wire.errors import MisuseError

START = 5_000.0
TARGET = b"t" * 20


def node(n: int) -> Contact:
    """A node of the open internet, in a /24 of its own, whose id fits."""
    endpoint = Endpoint(f"{20 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.9", 6881)
    return Contact(make_node_id(endpoint.ip, random.Random(n)), endpoint)


def question(who: Contact, method: bytes = b"find_node", *, tid: bytes = b"aa", ro: int = 0, **more: Any) -> bytes:
    arguments = {b"id": who.id, b"target": TARGET, **{key.encode(): value for key, value in more.items()}}
    if method == b"get_peers":
        arguments[b"info_hash"] = arguments.pop(b"target")
    return encode({b"a": arguments, b"q": method, b"t": tid, b"y": b"q", **({b"ro": 1} if ro else {})})


class Bench:
    """A router with one face (or more), the time, and nodes that answer its pings or do not."""

    def __init__(self, *families: Family, allow_local: bool = False, seed: int = 1, **config: Any) -> None:
        self.now = START
        self.router = Router(RouterConfig(**config), random.Random(seed), self.now)
        for family in families or (IPV4,):
            self.router.add_face(family, None, self.now, allow_local=allow_local)
        self.face = self.router.faces[0]
        self.keeper = self.face.keeper
        self.live: dict[Endpoint, bytes] = {}
        self.pinged: list[Endpoint] = []

    def ask(self, who: Contact, method: bytes = b"find_node", **more: Any) -> dict[bytes, Any] | None:
        return self.send(question(who, method, **more), who.endpoint)

    def send(self, data: bytes, source: Endpoint) -> dict[bytes, Any] | None:
        """The answer to a datagram; pings that go out meanwhile are answered by who lives."""
        self.face.receive(data, source, self.now)
        answers = self.pump()
        assert len(answers) <= 1
        return answers[0] if answers else None

    def pump(self) -> list[dict[bytes, Any]]:
        answers = []
        for face in self.router.faces:
            for data, to in face.outgoing():
                message: Any = decode(bytes(data))
                if message[b"y"] != b"q":
                    assert message[b"ip"] == to.compact()
                    answers.append({**message, b"bytes": len(data)})
                    continue
                self.pinged.append(to)
                assert message[b"ro"] == 1
                if to in self.live:
                    self.pong(to, self.live[to], message[b"t"])
        return answers

    def pong(self, source: Endpoint, node_id: bytes, tid: bytes, **more: Any) -> None:
        face = next(face for face in self.router.faces if face.family is source.family)
        face.receive(encode({b"r": {b"id": node_id, **more}, b"t": tid, b"y": b"r"}), source, self.now)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, max(self.now, self.face.next_timer()))
            for face in self.router.faces:
                face.tick(self.now)
            self.pump()

    def populate(self, count: int, first: int = 1) -> list[Contact]:
        """Nodes that ask, are pinged and come in."""
        nodes = [node(n) for n in range(first, first + count)]
        for each in nodes:
            self.live[each.endpoint] = each.id
            self.ask(each)
        return nodes

    def stock(self, count: int, first: int = 1) -> list[Contact]:
        """Nodes that are simply there."""
        nodes = [node(n) for n in range(first, first + count)]
        for each in nodes:
            self.live[each.endpoint] = each.id
            assert self.keeper.ring.add(each.id, each.endpoint.compact()) == "new"
        return nodes

    @property
    def stats(self) -> RouterStats:
        return self.router.stats(self.now)


def nodes_of(answer: dict[bytes, Any] | None, family: Family = IPV4) -> list[bytes]:
    assert answer is not None
    nodes = answer[b"r"].get(family.nodes_key, b"")
    return [nodes[at : at + family.node_bytes] for at in range(0, len(nodes), family.node_bytes)]


def test_who_answers_its_ping_is_handed_out() -> None:
    bench = Bench()
    first, second = node(1), node(2)
    bench.live[first.endpoint] = first.id
    answer = bench.ask(first)
    assert answer is not None
    assert answer[b"r"] == {b"id": bench.face.node_id, b"nodes": b""}
    assert bench.pinged == [first.endpoint]
    assert nodes_of(bench.ask(second)) == [first.compact()]
    bench.wait(PING_WAIT_S)
    assert bench.stats.nodes == 1  # the second never answered
    assert nodes_of(bench.ask(node(3))) == [first.compact()]


@pytest.mark.parametrize("method", [b"find_node", b"get_peers", b"get", b"sample_infohashes", b"new_fangled"])
def test_every_question_for_nodes_is_answered_with_nodes_alone(method: bytes) -> None:
    bench = Bench()
    bench.stock(30)
    answer = bench.ask(node(99), method)
    assert answer is not None
    assert answer[b"r"].keys() == {b"id", b"nodes"}
    assert len(nodes_of(answer)) >= 4
    assert answer[b"t"] == b"aa"


def test_ping_is_answered_and_what_it_does_not_serve_is_not() -> None:
    bench = Bench()
    assert bench.ask(node(1), b"ping")[b"r"] == {b"id": bench.face.node_id}  # type: ignore[index]
    assert bench.ask(node(2), b"announce_peer", info_hash=TARGET, port=5, token=b"12345678") is None
    assert bench.ask(node(2), b"put", token=b"1", v=b"x") is None
    for junk in (b"", b"d", b"d1:y1:qe", b"x" * 50, b"d1:q4:ping1:t2:aa1:y1:qe", b"d1:t2:aa1:y1:re" + b"z" * 2000):
        assert bench.send(junk, node(3).endpoint) is None
    no_target = encode({b"a": {b"id": bytes(20)}, b"q": b"whatever", b"t": b"aa", b"y": b"q"})
    assert bench.send(no_target, node(3).endpoint) is None
    assert bench.stats.queries == {"ping": 1}
    assert bench.stats.dropped == {"unknown": 2, "malformed": 7}


@given(st.binary(max_size=300))
@settings(max_examples=examples(200), deadline=None)
def test_any_bytes_are_survived(data: bytes) -> None:
    bench = BYTES_BENCH
    bench.face.receive(b"d" + data, Endpoint("9.8.7.6", 5), bench.now)
    for out, _ in bench.face.outgoing():
        assert len(out) <= 3 * (len(data) + 1)


BYTES_BENCH = Bench()


@given(st.binary(max_size=40), st.sampled_from([None, [b"n4"], [b"n6"], [b"n4", b"n6"]]), st.binary(max_size=200))
@settings(max_examples=examples(60), deadline=None)
def test_an_answer_is_at_most_three_times_the_question(tid: bytes, want: list[bytes] | None, more: bytes) -> None:
    for family in (IPV4, IPV6):
        bench = FULL[family]
        FULL_COUNT[0] += 1
        n = FULL_COUNT[0]
        host = f"77.{n >> 8 & 255}.{n & 255}.1" if family is IPV4 else f"2a77:{n:x}::1"
        who = Contact(bytes(20), Endpoint(host, 99))
        data = question(who, tid=tid, x=more, **({} if want is None else {"want": want}))
        answer = bench.send(data, who.endpoint)
        assert answer is not None
        assert answer[b"bytes"] <= min(MAX_ANSWER_BYTES, 3 * len(data))
        has = {key for key in (b"nodes", b"nodes6") if key in answer[b"r"]}
        default = {family.nodes_key}
        assert has == (default if want is None else {b"nodes" if name == b"n4" else b"nodes6" for name in want})


def full(family: Family) -> Bench:
    bench = Bench(family, IPV6 if family is IPV4 else IPV4, per_ip_limit=0, upload_limit=0)
    for _, keeper in bench.router.keepers:
        for n in range(1, 300):
            ip = node(n).endpoint.ip if keeper.family is IPV4 else bytes((0x2A, 0, n >> 8, n & 255)) + bytes(12)
            keeper.ring.add(bytes(20), ip + b"\x1a\xe1")
    return bench


FULL = {family: full(family) for family in (IPV4, IPV6)}
FULL_COUNT = [0]


def test_who_has_proved_itself_gets_more_and_who_repeats_gets_less() -> None:
    bench = Bench()
    members = bench.stock(300)
    stranger = nodes_of(bench.ask(node(900)))
    assert 5 <= len(stranger) <= 8
    assert len(nodes_of(bench.ask(members[0]))) == 16
    assert len(nodes_of(bench.ask(node(900)))) == REPEAT_NODES
    assert len(nodes_of(bench.ask(members[0]))) == REPEAT_NODES
    assert bench.stats.repeats == 2
    bench.wait(660)
    assert nodes_of(bench.ask(node(900))) != []
    assert len(nodes_of(bench.ask(node(900)))) == REPEAT_NODES
    assert bench.stats.repeats == 3


def test_in_a_grown_ring_an_asker_is_pinged_a_quarter_of_an_hour_later() -> None:
    bench = Bench()
    bench.stock(SMALL)
    late = node(5_000)
    bench.live[late.endpoint] = late.id
    bench.ask(late)
    bench.ask(late)
    assert bench.stats.waiting == 1
    bench.wait(PING_DELAY_S - 5)
    assert late.endpoint not in bench.pinged
    bench.wait(7)
    assert late.endpoint in bench.pinged
    assert late.endpoint.compact() in bench.keeper.ring


def test_read_only_nodes_are_answered_and_never_pinged() -> None:
    bench = Bench()
    bench.stock(5)
    assert len(nodes_of(bench.ask(node(50), ro=1))) == 5
    bench.pinged.clear()
    bench.wait(30)
    assert node(50).endpoint not in bench.pinged
    assert bench.stats.read_only == 1


def test_an_id_must_fit_its_address_unless_that_is_local() -> None:
    bench = Bench(allow_local=True)
    bench.stock(SMALL)
    liar = Contact(b"x" * 20, node(1000).endpoint)
    bench.live[liar.endpoint] = liar.id
    assert bench.ask(liar) is not None  # answered all the same (BEP 42)
    bench.wait(PING_DELAY_S + 1)
    assert bench.pinged.count(liar.endpoint) == 1
    assert bench.stats.nodes == SMALL
    assert bench.stats.refused == {"id": 1}
    bench = Bench(allow_local=True)
    local = Contact(b"x" * 20, Endpoint("192.168.1.7", 5))
    bench.live[local.endpoint] = local.id
    bench.ask(local)
    assert bench.stats.nodes == 1
    bench.live[liar.endpoint] = liar.id
    bench.ask(liar)  # the first nodes of a network cannot know their address
    assert bench.stats.nodes == 2
    assert nodes_of(bench.ask(node(50))) == [local.compact(), liar.compact()]
    bench.stock(16)
    for n in range(60, 70):
        assert liar.compact() not in nodes_of(bench.ask(node(n)))
    bench.ask(liar)
    bench.wait(RECHECK_S)
    assert bench.stats.nodes == 18
    del bench.live[liar.endpoint]
    bench.wait(RECHECK_S + PING_WAIT_S)
    assert liar.endpoint.compact() not in bench.keeper.ring
    lax = Bench(verify_ids=False)
    lax.live[liar.endpoint] = liar.id
    lax.ask(liar)
    assert lax.stats.nodes == 1


def test_martians_are_dropped() -> None:
    bench = Bench()
    for host in ("127.0.0.1", "10.0.0.1", "192.168.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "203.0.113.5"):
        assert bench.send(question(node(1)), Endpoint(host, 5)) is None
    assert bench.send(question(node(1)), Endpoint("9.9.9.9", 0)) is None
    assert bench.stats.dropped == {"martian": 8}
    local = Bench(allow_local=True)
    assert local.send(question(node(1)), Endpoint("127.0.0.1", 5)) is not None
    assert local.send(question(node(1)), Endpoint("224.0.0.1", 5)) is None


def test_pongs_are_believed_only_where_a_ping_went() -> None:
    bench = Bench()
    bench.ask(node(1))
    echo = bench.router.echoes.make(node(1).endpoint.compact(), bench.now)
    bench.pong(node(2).endpoint, node(2).id, echo)
    bench.pong(Endpoint(node(1).endpoint.host, 7), node(1).id, echo)
    bench.pong(node(1).endpoint, node(1).id, b"aaaaaaaa")
    bench.pong(node(1).endpoint, node(1).id, b"")
    assert bench.stats.nodes == 0
    assert bench.stats.dropped == {"unknown": 4}
    bench.now += 1300  # two turns of the key later
    bench.pong(node(1).endpoint, node(1).id, echo)
    assert bench.stats.nodes == 0
    bench.pong(node(1).endpoint, node(1).id, bench.router.echoes.make(node(1).endpoint.compact(), bench.now))
    assert bench.stats.nodes == 1


def test_processes_that_share_a_secret_believe_each_other() -> None:
    secret = b"s" * 32
    one, two = Echoes(secret, 100.0, offset_s=1_000_000.0), Echoes(secret, 777_100.0, offset_s=223_000.0)
    assert two.check(one.make(b"abcdef", 100.0), b"abcdef", 777_100.0)
    assert not Echoes(b"t" * 32, 100.0).check(one.make(b"abcdef", 100.0), b"abcdef", 100.0)
    routers = [Router(RouterConfig(), random.Random(n), START, secret=secret) for n in (1, 2)]
    assert routers[0].id_for(b"\x09\x08\x07\x06") == routers[1].id_for(b"\x09\x08\x07\x06")


def test_the_dead_leave_after_two_misses_and_the_living_stay() -> None:
    bench = Bench()
    members = bench.stock(40)
    for dead in members[:10]:
        del bench.live[dead.endpoint]
    bench.wait(RECHECK_S + 3 * RETRY_S)
    assert {contact.endpoint for contact in bench.keeper.ring.nodes()} == {m.endpoint for m in members[10:]}
    assert bench.stats.lost == 10


def test_nobody_is_blamed_while_our_own_network_is_down() -> None:
    bench = Bench()
    bench.stock(40)
    bench.live.clear()
    bench.wait(RECHECK_S * 3)
    assert bench.stats.nodes >= 37


def test_the_share_that_answers_is_measured() -> None:
    bench = Bench(per_ip_limit=0)
    members = bench.stock(1000)
    for dead in members[::4]:
        del bench.live[dead.endpoint]
    assert bench.stats.alive_share is None
    for n in range(60):
        bench.ask(node(5_000 + n))
        bench.wait(1.1)
    bench.wait(PING_WAIT_S + 1)
    assert 50 <= bench.stats.sampled <= 60
    assert 0.55 < (bench.stats.alive_share or 0) < 0.95


def test_saved_nodes_are_handed_out_at_once_and_checked_soon() -> None:
    bench = Bench()
    saved = [node(n) for n in range(1, 101)]
    for each in saved[:80]:
        bench.live[each.endpoint] = each.id
    local = Contact(bytes(20), Endpoint("127.0.0.1", 5))
    unusable = [local, Contact(bytes(20), Endpoint("9.9.9.9", 0))]
    bench.router.restore(IPV4, b"".join(each.compact() for each in [*saved, *unusable]) + b"a rest")
    bench.router.restore(IPV6, bytes(38))  # of a family that has no socket any more
    assert bench.stats.nodes == 100
    assert len(nodes_of(bench.ask(node(700)))) >= 5
    bench.wait(2)
    assert {each.endpoint for each in saved} <= set(bench.pinged)
    for n in range(4):
        bench.wait(PING_WAIT_S)
        bench.ask(node(800 + n))
    assert {contact.endpoint for contact in bench.keeper.ring.nodes()} == {each.endpoint for each in saved[:80]}
    dump = bench.router.dump()[IPV4]
    assert {dump[at : at + 26] for at in range(0, len(dump), 26)} == {each.compact() for each in saved[:80]}


def test_a_flood_from_one_address_is_cut_and_from_many_is_bounded() -> None:
    bench = Bench(upload_limit=8_000)
    bench.stock(300)
    answered = sum(bench.ask(node(600)) is not None for _ in range(1000))
    assert answered <= 50
    bench.wait(5)
    before = bench.stats.sent_bytes
    pings = bench.stats.pings
    begun = bench.now
    for n in range(20_000):
        bench.now += 0.0005
        bench.face.receive(question(node(10_000 + n)), node(10_000 + n).endpoint, bench.now)
        bench.face.outgoing()
    ping_bytes = 110 * (bench.stats.pings - pings)
    assert bench.stats.sent_bytes - before - ping_bytes <= 8_000 * (1 + bench.now - begun)
    assert bench.stats.dropped["upload"] > 15_000


def test_another_router_is_asked_and_what_it_names_is_pinged_first() -> None:
    bench = Bench(IPV4, IPV6)
    other = node(9_999)
    bench.router.add_others([other.endpoint], bench.now)
    bench.face.tick(bench.now)
    ((data, to),) = bench.face.outgoing()
    asked: Any = decode(bytes(data))
    assert (to, asked[b"q"], asked[b"a"][b"want"], asked[b"ro"]) == (other.endpoint, b"find_node", [b"n4", b"n6"], 1)
    live, dead, local = node(1), node(2), Contact(bytes(20), Endpoint("10.0.0.1", 5))
    six = Contact(bytes(20), Endpoint("2a00::1", 5))
    bench.live[live.endpoint] = live.id
    four = b"".join(each.compact() for each in (live, dead, local, other))
    bench.pong(other.endpoint, other.id, asked[b"t"], nodes=four, nodes6=six.compact())
    assert bench.stats.nodes == 0
    bench.wait(2)
    assert {contact.endpoint for contact in bench.keeper.ring.nodes()} == {live.endpoint}
    assert {live.endpoint, dead.endpoint, six.endpoint} <= set(bench.pinged)
    assert local.endpoint not in bench.pinged
    bench.ask(other)  # a router that asks is answered, and never handed out
    bench.pong(other.endpoint, other.id, bench.router.echoes.make(other.endpoint.compact(), bench.now))
    bench.wait(30)
    assert bench.stats.nodes == 1


def test_enough_voices_change_the_id() -> None:
    bench = Bench()
    before = bench.face.node_id
    seen = Endpoint("81.2.69.142", 6881)
    for n in range(1, 14):
        echo = bench.router.echoes.make(node(n).endpoint.compact(), bench.now)
        data = encode({b"ip": seen.compact(), b"r": {b"id": node(n).id}, b"t": echo, b"y": b"r"})
        bench.face.receive(data, node(n).endpoint, bench.now)
    assert bench.face.node_id == bench.router.id_for(seen.ip) != before
    assert bench.stats.faces[0].external == seen
    assert bench.ask(node(50), b"ping")[b"r"][b"id"] == bench.face.node_id  # type: ignore[index]


def test_small_rings_of_one_port_lend_each_other_nodes() -> None:
    rich, poor = Bench(), Bench(seed=2)
    members = rich.stock(10)
    poor.router.borrow(rich.router.to_lend())
    assert {bytes(n) for n in nodes_of(poor.ask(node(50)))} <= {m.compact() for m in members}
    assert len(nodes_of(poor.ask(node(51)))) >= 5
    poor.stock(2)
    got = nodes_of(poor.ask(node(52)))
    assert len(got) == len(set(got)) >= 5
    assert poor.router.to_lend()[IPV4] == members[0].compact() + members[1].compact()


def test_stats_add_up_and_travel() -> None:
    bench = Bench(IPV4, IPV6)
    bench.populate(5)
    one = bench.stats
    assert RouterStats.from_json(one.to_json()) == one
    both = RouterStats.total([one, one])
    assert (both.nodes, both.answers, both.workers) == (2 * one.nodes, 2 * one.answers, 2)
    assert both.queries == {"find_node": 10}
    assert len(both.faces) == 2
    assert RouterStats.total([]) == RouterStats()


# Its flat tables


@given(st.lists(st.integers(0, 2**24), max_size=60))
@settings(deadline=None)
def test_the_queue_is_first_in_first_out(addresses: list[int]) -> None:
    queue = PingQueue(6, 200, random.Random(1), 50.0)
    for at, n in enumerate(addresses):
        assert queue.push(n.to_bytes(6, "big"), 50.0 + at)
    assert queue.pop(49.0) is None
    for at, n in enumerate(addresses):
        assert queue.next_due() == 50.0 + at
        assert queue.pop(50.0 + at - 0.2) is None
        assert queue.pop(50.0 + at) == n.to_bytes(6, "big")
    assert queue.next_due() is None
    assert len(queue) == 0


def test_a_filling_queue_takes_fewer_and_fewer() -> None:
    queue = PingQueue(6, 1000, random.Random(1), 0.0)
    assert all(queue.push(bytes(6), 1.0) for _ in range(500))
    first = sum(queue.push(bytes(6), 1.0) for _ in range(500))
    second = sum(queue.push(bytes(6), 1.0) for _ in range(500))
    assert 200 < first < 450
    assert second < first / 2
    assert len(queue) <= 1000
    with pytest.raises(MisuseError):
        PingQueue(6, 0, random.Random(1), 0.0)


def test_a_filling_queue_asks_nobody_for_chance() -> None:
    rng = random.Random(1)
    queue = PingQueue(6, 100, rng, 0.0)
    before = rng.getstate()
    assert sum(queue.push(bytes(6), 1.0) for _ in range(200)) < 100
    assert rng.getstate() == before  # in life each number is a call of the system


def test_recent_forgets_after_its_minutes_and_never_confuses_hours() -> None:
    recent = Recent(random.Random(1), minutes=10)
    assert not recent.note(b"one", 600.0)
    assert recent.note(b"one", 1100.0)
    assert not recent.note(b"two", 1100.0)
    assert not recent.note(b"one", 1260.0)
    assert recent.note(b"one", 1270.0)
    for minute in range(30, 600, 5):
        recent.sweep(minute * 60.0)
    assert not recent.note(b"one", 1260.0 + 255 * 60)


def test_places_agree_with_reach() -> None:
    rng = random.Random(1)
    for first in range(256):
        for _ in range(20):
            ip = bytes((first, *rng.randbytes(3)))
            where = reach(".".join(map(str, ip)))
            assert is_global(ip) == (where == "global"), ip
            assert is_local(ip) == (where in ("loopback", "private")), ip
    for first in range(0x1F, 0x41):
        for _ in range(20):
            ip = bytes((first, *rng.randbytes(15)))
            assert is_global(ip) == (reach(Endpoint.from_compact(ip + b"\0\1").host) == "global"), ip
    for host in ("2001:db8::1", "2002::1", "fe80::1", "::1", "fc00::1", "ff02::1", "2001:10::1", "3fff::1"):
        ip = Endpoint.of(host, 1).ip
        assert is_global(ip) == (reach(host) == "global"), host


@pytest.mark.parametrize("family", [IPV4, IPV6])
@pytest.mark.parametrize("config", [{}, {"per_ip_limit": 0.3, "upload_limit": 2_000}, {"network_tag": b"a tag   "}])
def test_usual_questions_are_answered_in_one_go_as_all_others_are(family: Family, config: dict[str, Any]) -> None:
    """Byte for byte, and with the same in the ring, the queue and the counts; so for questions with a byte changed."""
    quick, slow = (Bench(family, allow_local=True, **config) for _ in range(2))
    slow.face._forms = {}
    chance = random.Random(3)
    hosts = ["127.0.0.1", "9.9.9.9", "9.9.9.8", "224.0.0.1"]
    if family is IPV6:
        hosts = ["::1", "2a01::1", "2a01::2", "ff02::1"]
    for n in range(40):
        host = f"9.9.{n}.9" if family is IPV4 else f"2a01:{n:x}::1"
        for bench in (quick, slow):
            bench.keeper.ring.add(bytes((n,)) * 20, Endpoint(host, 6881).compact())
    hosts += [f"9.9.{n}.9" if family is IPV4 else f"2a01:{n:x}::1" for n in range(4)]
    for turn in range(1_500):
        key = chance.choice((b"6:target20:%be1:q9:find_node", b"9:info_hash20:%be1:q9:get_peers")) % TARGET
        data = (
            b"d1:ad2:id20:" + bytes((turn & 255,)) * 20 + key
            + chance.choice((b"1:t2:aa", b"1:t4:abcd")) + chance.choice((b"", b"1:v4:LT01")) + b"1:y1:qe"
        )  # fmt: skip
        if chance.random() < 0.4:
            at = chance.randrange(len(data))
            data = data[:at] + chance.choice((b"1", b"e", b":", b"")) + data[at + 1 :]
        source = Endpoint(chance.choice(hosts), chance.choice((6881, 6881, 7000, 0)))
        now = START + turn / 5
        assert quick.face.answer(data, tuple(source), now) == slow.face.answer(data, source, now), data
        assert quick.face.outgoing() == slow.face.outgoing()
    assert quick.router.stats(now) == slow.router.stats(now)
    assert quick.keeper.ring.dump() == slow.keeper.ring.dump()
    assert "network_tag" in config or quick.face.answers >= 10
    assert (quick.face.dropped["per_ip"] > 50) == ("per_ip_limit" in config)


def test_an_ipv6_network_is_one_asker() -> None:
    bench = Bench(IPV6)
    asker = Contact(b"a" * 20, Endpoint("2a01:1:2:3::1", 6881))
    bench.ask(asker)
    bench.ask(Contact(b"b" * 20, Endpoint("2a01:1:2:3::2", 6882)))
    assert bench.stats.repeats == 1
    bench.ask(Contact(b"c" * 20, Endpoint("2a01:1:2:4::1", 6881)))
    assert bench.stats.repeats == 1


def test_a_member_of_the_ring_that_asks_is_not_pinged_for_it() -> None:
    bench = Bench()
    member, stranger = node(1), node(2)
    bench.keeper.ring.add(member.id, member.endpoint.compact())
    bench.keeper.sample_at = START + 100.0
    assert bench.face.answer(question(member), member.endpoint, START)
    assert bench.face.outgoing() == []
    assert bench.face.answer(question(stranger), stranger.endpoint, START)
    assert [to for _, to in bench.face.outgoing()] == [stranger.endpoint]


def test_a_scatter_gives_two_keys_one_place_no_more_often_than_chance_does() -> None:
    keys = [bytes((127, 0, low, high, 26, 225)) for low in range(32) for high in range(32)]
    met = 0
    for seed in range(20):
        place = scatter(random.Random(seed))
        assert all(0 <= place(key) < 1 << 32 for key in keys)
        met += len(keys) - len({place(key) & 0xFFFF for key in keys})
    assert met / 20 < 16  # 8 are to be expected of 1,024 keys in 65,536 places
