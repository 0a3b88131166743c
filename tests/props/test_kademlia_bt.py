"""Properties of the DHT's parts, over inputs that nobody thought of."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.contact import Contact, unpack_contacts
from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.krpc import Answer, Query, Refusal, parse
from kademlia_bt.dht.node_id import fits, make_node_id, number, random_id_sharing, shared_bits
from kademlia_bt.dht.peer_store import MAX_PEERS_PER_TORRENT, PEER_LIFE_S, PeerStore
from kademlia_bt.dht.table import K, Table
from kademlia_bt.dht.tokens import Tokens
from kademlia_bt.dht.transactions import DEAD_S, Pending, Transactions
from kademlia_bt.dht.writing import encode_answer, encode_error
from tests.examples import examples
from wire.bencode import decode, encode
from wire.compact import IPV4, IPV6, Endpoint
from wire.errors import ProtocolError

ids = st.binary(min_size=20, max_size=20)
ASKER = Endpoint("9.8.7.6", 5555)

values = st.recursive(
    st.integers(-(2**70), 2**70) | st.binary(max_size=40) | ids,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=6), inner, max_size=5),
    max_leaves=12,
)
keys = st.sampled_from(
    [b"id", b"target", b"info_hash", b"token", b"port", b"implied_port", b"want", b"nodes", b"values"]
)
messages = st.fixed_dictionaries(
    {},
    optional={
        b"t": st.binary(max_size=8) | values,
        b"y": st.sampled_from([b"q", b"r", b"e"]) | values,
        b"q": st.sampled_from([b"ping", b"find_node", b"get_peers", b"announce_peer", b"vote"]) | values,
        b"a": st.dictionaries(keys, ids | values, max_size=6) | values,
        b"r": st.dictionaries(keys, ids | values, max_size=6) | values,
        b"e": values,
        b"ip": values,
        b"v": values,
        b"ro": values,
    },
)


def read_whole(data: bytes) -> None:
    """Reads all there is to read; only ProtocolError may come of it."""
    try:
        message = parse(data)
    except ProtocolError:
        return
    assert isinstance(message, Query | Answer | Refusal)
    if isinstance(message, Answer):
        for family in (IPV4, IPV6):
            assert all(len(contact.id) == 20 for contact in message.contacts(family))
        assert all(isinstance(peer, Endpoint) for peer in message.peers)
        assert message.token is None or isinstance(message.token, bytes)
        assert message.own_address is None or isinstance(message.own_address, Endpoint)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    read_whole(data)


@given(messages)
def test_any_dictionary_is_a_message_or_a_protocol_error(message: dict[bytes, object]) -> None:
    read_whole(encode(message))  # type: ignore[arg-type]


@given(messages, st.data())
def test_a_damaged_message_is_one_or_a_protocol_error(message: dict[bytes, object], data: st.DataObject) -> None:
    raw = bytearray(encode(message))  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    read_whole(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@settings(max_examples=examples(60))
@given(st.lists(messages.map(encode) | st.binary(max_size=100), max_size=20), st.booleans())  # type: ignore[arg-type]
def test_a_face_survives_any_datagrams_and_answers_after(datagrams: list[bytes], read_only: bool) -> None:
    dht = Dht(DhtConfig(per_ip_limit=0, upload_limit=0), random.Random(1), 0.0)
    face = dht.add_face(IPV4, None, 0.0)
    dht.add_bootstrap([ASKER], 0.0)
    for data in datagrams:
        face.receive(data, ASKER, 1.0)
        # The same as an answer to what was really asked.
        for sent, _ in face.outgoing():
            message = decode(bytes(sent))
            assert isinstance(message, dict)
            if message[b"y"] == b"q":
                tid = message[b"t"]
                assert isinstance(tid, bytes)
                face.receive(b"d1:r" + encode({b"id": bytes(20)}) + b"1:t4:" + tid + b"1:y1:re", ASKER, 1.0)
    face.outgoing()
    face.receive(encode({b"a": {b"id": bytes(20)}, b"q": b"ping", b"t": b"z", b"y": b"q"}), ASKER, 2.0)
    assert any(b"1:y1:re" in bytes(data) for data, _ in face.outgoing())
    assert len(face.table) <= 1


@given(ids, st.binary(max_size=40), st.sampled_from(["1.2.3.4", "2a02::1"]), st.integers(1, 65535))
def test_what_we_answer_is_canonical(node_id: bytes, tid: bytes, host: str, port: int) -> None:
    address = Endpoint(host, port).compact()
    data = encode_answer(tid, b"2:id20:" + node_id, address, b"KB\x01\x00")
    assert encode(decode(data)) == data
    error = parse(encode_error(tid, 203, "no", address, b"KB\x01\x00"))
    assert error == Refusal(tid, 203, "no")
    answer = parse(data)
    assert isinstance(answer, Answer)
    assert (answer.tid, answer.id, answer.own_address) == (tid, node_id, Endpoint(host, port))


@given(ids, ids, ids)
def test_distance_is_a_metric(a: bytes, b: bytes, c: bytes) -> None:
    x, y, z = number(a), number(b), number(c)
    assert (x ^ y == 0) == (a == b)
    assert x ^ z <= (x ^ y) + (y ^ z)
    assert shared_bits(x, y) == shared_bits(y, x)


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), st.integers())
def test_a_made_id_fits(ip: bytes, seed: int) -> None:
    assert fits(make_node_id(ip, random.Random(seed)), ip)


@given(ids, st.integers(0, 159), st.integers())
def test_a_random_id_shares_what_it_should(own: bytes, bits: int, seed: int) -> None:
    assert shared_bits(number(own), number(random_id_sharing(own, bits, random.Random(seed)))) == bits


@given(st.binary(min_size=4, max_size=16), ids, st.floats(0, 1e5), st.floats(0, 1e4), st.integers())
def test_a_token_is_good_for_five_minutes_and_bad_after_ten(
    ip: bytes, info_hash: bytes, made: float, later: float, seed: int
) -> None:
    tokens = Tokens(random.Random(seed), 0.0)
    token = tokens.make(ip, info_hash, made)
    good = tokens.check(token, ip, info_hash, made + later)
    assert good or later >= 299
    assert not good or later <= 600.001


@given(st.lists(st.binary(min_size=26, max_size=26), max_size=12), st.binary(max_size=25), st.integers(0, 20))
def test_compact_nodes_round_trip(entries: list[bytes], rest: bytes, limit: int) -> None:
    contacts = unpack_contacts(b"".join(entries) + rest, IPV4, limit)
    assert [contact.compact() for contact in contacts] == entries[:limit]


class TableMachine(RuleBasedStateMachine):
    """The table against a plain list: who is in it, who is handed out, and in what order."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(1)
        self.own = bytes(20)
        self.table = Table(IPV4, self.own)
        self.now = 0.0
        self.known: list[Contact] = []

    @rule(seed=st.integers(0, 2**32), bits=st.integers(0, 12) | st.integers(0, 159), local=st.booleans())
    def newcomer(self, seed: int, bits: int, local: bool) -> None:
        rng = random.Random(seed)
        host = (
            f"127.0.{rng.randrange(4)}.{rng.randrange(1, 9)}"
            if local
            else f"20.0.{rng.randrange(4)}.{rng.randrange(9)}"
        )
        contact = Contact(random_id_sharing(self.own, bits, rng), Endpoint(host, rng.randrange(1, 9)))
        inside = self.table.answered(contact, 0.1, self.now)
        node = self.table.get(contact.endpoint)
        assert inside == (node is not None and node.contact == contact)
        self.known.append(contact)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        contact = data.draw(st.sampled_from(self.known))
        node = self.table.get(contact.endpoint)
        known = node is not None and node.contact == contact
        assert self.table.answered(contact, 0.1, self.now) or not known

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def silence(self, data: st.DataObject) -> None:
        contact = data.draw(st.sampled_from(self.known))
        before = self.table.get(contact.endpoint)
        gone = self.table.failed(contact.endpoint)
        assert (gone is None) or (before is not None and gone == before.contact)
        assert (gone is None) or self.table.get(contact.endpoint) is not before

    @rule(seconds=st.floats(0, 1_000))
    def time(self, seconds: float) -> None:
        self.now += seconds

    @rule(own=ids)
    def move(self, own: bytes) -> None:
        self.own = own
        self.table.rekey(own)

    @rule(wanted=ids)
    def hand_out(self, wanted: bytes) -> None:
        alive = [node.contact for node in self.table.nodes if not node.fails]
        true = sorted(alive, key=lambda contact: number(contact.id) ^ number(wanted))[:K]
        assert unpack_contacts(self.table.closest_compact(wanted), IPV4, 99) == true
        assert set(true) <= set(self.table.closest(wanted, K))

    @rule(node_id=ids, host=st.integers(1, 250))
    def ask_whether_wanted(self, node_id: bytes, host: int) -> None:
        contact = Contact(node_id, Endpoint(f"30.1.{host}.1", 5))
        if self.table.wants(node_id, contact.endpoint):
            before = len(self.table)
            inside = self.table.answered(contact, 0.1, self.now)
            taken = any(node.contact.id == node_id for node in self.table.nodes) or len(self.table) <= before
            assert inside or taken
            self.known.append(contact)

    @invariant()
    def sound(self) -> None:
        nodes = self.table.nodes
        assert len(nodes) == len(self.table) == len({node.contact.id for node in nodes})
        assert self.own not in {node.contact.id for node in nodes}
        public = [node.contact.endpoint.host for node in nodes if not node.contact.endpoint.host.startswith("127.")]
        assert len(public) == len(set(public))
        for depth, bucket in enumerate(self.table._buckets):
            assert len(bucket.nodes) <= bucket.capacity
            assert len(bucket.replacements) <= K
            assert bucket.silent == sum(bool(node.fails) for node in bucket.nodes)
            assert all(shared_bits(node.number, number(self.own)) == depth for node in bucket.nodes)
        assert sum(len(bucket.nodes) for bucket in self.table._buckets) == len(nodes)
        for first in (first for first in range(256) if self.table.full[first]):
            bucket = self.table._buckets[8 - (first ^ self.own[0]).bit_length()]
            assert first != self.own[0]
            assert len(bucket.nodes) == bucket.capacity
            assert not bucket.silent


class TransactionsMachine(RuleBasedStateMachine):
    """Each question ends once: matched, or dead at its time; slow comes at most once before."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.box: Transactions[int] = Transactions(random.Random(1))
        self.open: dict[bytes, tuple[Pending[int], float]] = {}
        self.was_slow: set[bytes] = set()

    @rule(port=st.integers(1, 3), slow_s=st.floats(0.1, 3.0))
    def begin(self, port: int, slow_s: float) -> None:
        pending = self.box.begin(Endpoint("1.2.3.4", port), 0, self.now, slow_s)
        assert pending.tid not in self.open
        self.open[pending.tid] = (pending, self.now + slow_s)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), port=st.integers(1, 3))
    def answer(self, data: st.DataObject, port: int) -> None:
        tid = data.draw(st.sampled_from(sorted(self.open)))
        pending, _ = self.open[tid]
        matched = self.box.match(tid, Endpoint("1.2.3.4", port))
        assert (matched is pending) == (pending.endpoint.port == port)
        if matched is not None:
            del self.open[tid]

    @rule(seconds=st.floats(0, 20))
    def time(self, seconds: float) -> None:
        self.now += seconds
        for pending, dead in self.box.expire(self.now):
            held, slow_at = self.open[pending.tid]
            assert held is pending
            if dead:
                assert pending.sent_at + DEAD_S <= self.now
                del self.open[pending.tid]
            else:
                assert slow_at <= self.now
                assert pending.tid not in self.was_slow
                self.was_slow.add(pending.tid)

    @invariant()
    def none_is_forgotten(self) -> None:
        assert len(self.box) == len(self.open)
        timer = self.box.next_timer()
        assert (timer is None) == (not self.open)
        if timer is not None:
            due = [p.sent_at + DEAD_S if t in self.was_slow else slow for t, (p, slow) in self.open.items()]
            assert abs(timer - min(due)) < 1e-9


class PeerStoreMachine(RuleBasedStateMachine):
    """Stored peers against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store = PeerStore(IPV4, random.Random(1))
        self.model: dict[bytes, dict[bytes, float]] = {}

    @rule(which=st.integers(0, 3), peer=st.binary(min_size=6, max_size=6) | st.sampled_from([b"6:6:6:", b":6:6:6"]))
    def add(self, which: int, peer: bytes) -> None:
        info_hash = bytes([which]) * 20
        assert self.store.add(info_hash, peer, self.now)
        self.model.setdefault(info_hash, {})[peer] = self.now + PEER_LIFE_S

    @rule(seconds=st.integers(0, int(PEER_LIFE_S)))  # what it counts by
    def time(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        self.store.sweep(self.now)
        assert self.store.peers == sum(len(self._live(info_hash)) for info_hash in self.model)

    @rule(which=st.integers(0, 3), limit=st.integers(0, 30))
    def sample(self, which: int, limit: int) -> None:
        info_hash = bytes([which]) * 20
        live = self._live(info_hash)
        raw = self.store.sample(info_hash, limit, self.now)
        peers = [raw[at + 2 : at + 8] for at in range(0, len(raw), 8)]
        assert all(raw[at : at + 2] == b"6:" for at in range(0, len(raw), 8))
        assert len(peers) == len(set(peers)) == min(limit, len(live))
        assert set(peers) <= live

    def _live(self, info_hash: bytes) -> set[bytes]:
        return {peer for peer, until in self.model.get(info_hash, {}).items() if until > self.now}

    @invariant()
    def bounded(self) -> None:
        assert self.store.peers <= 4 * MAX_PEERS_PER_TORRENT


for machine in (TableMachine, TransactionsMachine, PeerStoreMachine):
    machine.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=40, deadline=None)

TestTable = TableMachine.TestCase
TestTransactions = TransactionsMachine.TestCase
TestPeerStore = PeerStoreMachine.TestCase
