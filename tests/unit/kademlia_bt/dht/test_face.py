"""A face against single datagrams: what it answers, to whom, how much, and what it does not."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.core import Dht, Face
from kademlia_bt.dht.node_id import number, random_id, random_id_sharing
from kademlia_bt.dht.table import K
from wire.bencode import Encodable, Value, decode, encode
from wire.compact import IPV4, IPV6, Endpoint, Family

RNG = random.Random(11)
ASKER = Endpoint("9.8.7.6", 5555)
SENDER = random_id(RNG)
HASH = random_id(RNG)


def face_of(
    config: DhtConfig | None = None, nodes: int = 0, family: Family = IPV4, *, allow_local: bool = False
) -> Face:
    dht = Dht(config or DhtConfig(per_ip_limit=0, upload_limit=0), random.Random(2), 0.0)
    face = dht.add_face(family, None, 0.0, allow_local=allow_local)
    fill(face, nodes)
    return face


def fill(face: Face, nodes: int) -> None:
    for index in range(nodes):
        host = f"20.{index}.1.1" if face.family is IPV4 else f"2a00:{index + 1:x}::1"
        face.table.answered(Contact(random_id(RNG), Endpoint(host, 6881)), 0.1, 0.0)


def ask(
    face: Face,
    method: bytes,
    arguments: dict[bytes, Encodable] | None = None,
    *,
    source: Endpoint = ASKER,
    now: float = 1.0,
    extra: dict[bytes, Encodable] | None = None,
    tid: bytes = b"aa",
) -> dict[bytes, Value] | None:
    """Sends a query and gives the answer back, leaving out what the face sends of its own accord."""
    message: dict[bytes, Encodable] = {
        b"a": {b"id": SENDER, **(arguments or {})},
        b"q": method,
        b"t": tid,
        b"y": b"q",
        **(extra or {}),
    }
    face.receive(encode(message), source, now)
    return answer_to(face, source)


def answer_to(face: Face, source: Endpoint = ASKER) -> dict[bytes, Value] | None:
    for data, to in face.outgoing():
        message = decode(data)
        assert isinstance(message, dict)
        if message[b"y"] != b"q" and to == source:
            return message
    return None


def returned(message: dict[bytes, Value] | None) -> dict[bytes, Value]:
    assert message is not None
    assert message[b"y"] == b"r"
    value = message[b"r"]
    assert isinstance(value, dict)
    return value


def error_code(message: dict[bytes, Value] | None) -> Value:
    assert message is not None
    assert message[b"y"] == b"e"
    error = message[b"e"]
    assert isinstance(error, list)
    return error[0]


def length(value: Value) -> int:
    assert isinstance(value, bytes)
    return len(value)


def test_pong_says_who_we_are_and_where_you_are() -> None:
    face = face_of()
    message = ask(face, b"ping", tid=b"\x00any length\xff")
    assert message == {
        b"ip": ASKER.compact(),
        b"r": {b"id": face.node_id},
        b"t": b"\x00any length\xff",
        b"v": b"KB\x01\x00",
        b"y": b"r",
    }


def test_find_node_gives_the_eight_closest() -> None:
    face = face_of(nodes=60)
    target = random_id(RNG)
    nodes = returned(ask(face, b"find_node", {b"target": target}))[b"nodes"]
    true = sorted((node.contact for node in face.table.nodes), key=lambda c: number(c.id) ^ number(target))[:8]
    assert nodes == b"".join(contact.compact() for contact in true)


def test_get_peers_gives_nodes_token_and_then_values_too() -> None:
    face = face_of(nodes=60)
    first = returned(ask(face, b"get_peers", {b"info_hash": HASH}))
    assert set(first) == {b"id", b"nodes", b"token"}
    announce = {b"info_hash": HASH, b"port": 6881, b"token": first[b"token"]}
    assert returned(ask(face, b"announce_peer", announce)) == {b"id": face.node_id}
    second = returned(ask(face, b"get_peers", {b"info_hash": HASH}, source=Endpoint("9.9.9.9", 1)))
    assert second[b"values"] == [Endpoint("9.8.7.6", 6881).compact()]
    assert length(second[b"nodes"]) == 8 * 26


def test_an_implied_port_is_the_udp_port() -> None:
    face = face_of()
    token = returned(ask(face, b"get_peers", {b"info_hash": HASH}))[b"token"]
    ask(face, b"announce_peer", {b"info_hash": HASH, b"implied_port": 1, b"port": 1, b"token": token})
    assert returned(ask(face, b"get_peers", {b"info_hash": HASH}))[b"values"] == [ASKER.compact()]


@pytest.mark.parametrize("source", [Endpoint("9.8.7.5", 5555), ASKER])
def test_a_token_is_good_for_nobody_else_and_nothing_else(source: Endpoint) -> None:
    face = face_of()
    token = returned(ask(face, b"get_peers", {b"info_hash": HASH}))[b"token"]
    info_hash = random_id(RNG) if source == ASKER else HASH
    announce = {b"info_hash": info_hash, b"port": 5, b"token": token}
    assert error_code(ask(face, b"announce_peer", announce, source=source)) == 203
    assert b"values" not in returned(ask(face, b"get_peers", {b"info_hash": info_hash}))


@pytest.mark.parametrize("token", [b"", b"x" * 8, b"x" * 1_000])
def test_a_made_up_token_is_refused(token: bytes) -> None:
    face = face_of()
    assert error_code(ask(face, b"announce_peer", {b"info_hash": HASH, b"port": 5, b"token": token})) == 203
    assert face._dht.stats().peers == 0


def test_an_old_token_is_refused() -> None:
    face = face_of()
    token = returned(ask(face, b"get_peers", {b"info_hash": HASH}))[b"token"]
    announce = {b"info_hash": HASH, b"port": 5, b"token": token}
    assert error_code(ask(face, b"announce_peer", announce, now=602.0)) == 203


def test_errors_carry_code_and_address() -> None:
    face = face_of()
    message = ask(face, b"announce_peer", {b"info_hash": HASH, b"port": 0, b"token": b"x"})
    assert error_code(message) == 203
    assert message is not None
    assert message[b"ip"] == ASKER.compact()
    assert error_code(ask(face, b"dance")) == 204


def test_an_unknown_extension_is_helped_on() -> None:
    face = face_of(nodes=20)
    assert length(returned(ask(face, b"get_gold", {b"target": HASH}))[b"nodes"]) == 8 * 26


def test_both_families_where_they_are_wanted() -> None:
    face = face_of(nodes=20)
    six = face._dht.add_face(IPV6, None, 0.0)
    fill(six, 20)
    plain = returned(ask(face, b"find_node", {b"target": HASH}))
    assert set(plain) == {b"id", b"nodes"}
    both = returned(ask(face, b"find_node", {b"target": HASH, b"want": [b"n4", b"n6"]}))
    assert (length(both[b"nodes"]), length(both[b"nodes6"])) == (8 * 26, 8 * 38)
    only = returned(ask(face, b"find_node", {b"target": HASH, b"want": [b"n6"]}))
    assert set(only) == {b"id", b"nodes6"}
    over_six = returned(ask(six, b"find_node", {b"target": HASH}, source=Endpoint("2a02::1", 5)))
    assert set(over_six) == {b"id", b"nodes6"}
    assert b"nodes6" not in returned(ask(face_of(nodes=3), b"find_node", {b"target": HASH, b"want": [b"n6"]}))


def test_the_values_are_of_the_askers_family() -> None:
    face = face_of()
    six = face._dht.add_face(IPV6, None, 0.0)
    source = Endpoint("2a02::1", 5)
    token = returned(ask(six, b"get_peers", {b"info_hash": HASH}, source=source))[b"token"]
    ask(six, b"announce_peer", {b"info_hash": HASH, b"port": 9, b"token": token}, source=source)
    assert returned(ask(six, b"get_peers", {b"info_hash": HASH}, source=source))[b"values"] == [
        Endpoint("2a02::1", 9).compact()
    ]
    assert b"values" not in returned(ask(face, b"get_peers", {b"info_hash": HASH}))


@pytest.mark.parametrize("family", [IPV4, IPV6])
def test_an_answer_is_never_far_larger_than_the_question(family: Family) -> None:
    dht = Dht(DhtConfig(per_ip_limit=0, upload_limit=0), random.Random(2), 0.0)
    faces = {each: dht.add_face(each, None, 0.0) for each in (IPV4, IPV6)}
    for each in faces.values():
        fill(each, 60)
    face = faces[family]
    source = ASKER if family is IPV4 else Endpoint("2a02:9::9", 5)
    for n in range(400):
        peer = Endpoint(f"40.{n >> 8}.{n & 255}.1", 5) if family is IPV4 else Endpoint(f"2a02:{n + 16:x}::9", 5)
        token = returned(ask(face, b"get_peers", {b"info_hash": HASH}, source=peer))[b"token"]
        ask(face, b"announce_peer", {b"info_hash": HASH, b"port": 9, b"token": token}, source=peer)
    for want in ([], [b"n4"], [b"n4", b"n6"]):
        for method, key in ((b"get_peers", b"info_hash"), (b"find_node", b"target")):
            arguments: dict[bytes, Encodable] = {b"id": SENDER, key: HASH}
            if want:
                arguments[b"want"] = want
            query = encode({b"a": arguments, b"q": method, b"t": b"aa", b"y": b"q"})
            face.outgoing()
            face.receive(query, source, 1.0)
            answers = [data for data, to in face.outgoing() if to == source and b"1:y1:r" in bytes(data)]
            assert len(answers) == 1
            assert len(answers[0]) <= 6 * len(query)
    # One that has answered us before may have more, up to what BEP 32 allows.
    known = face.table.nodes[0].contact.endpoint
    values = returned(ask(face, b"get_peers", {b"info_hash": HASH, b"want": [b"n4", b"n6"]}, source=known))[b"values"]
    assert isinstance(values, list)
    assert len(values) > (30 if family is IPV4 else 10)
    face.receive(query, known, 1.0)
    assert all(len(data) <= 1_024 for data, _ in face.outgoing())


def test_a_full_store_gives_no_token() -> None:
    face = face_of()
    store = face._dht._stores[IPV4]
    for index in range(2_000):
        store.add(index.to_bytes(20, "big"), ASKER.compact(), 0.0)
    assert b"token" not in returned(ask(face, b"get_peers", {b"info_hash": HASH}))
    assert b"token" in returned(ask(face, b"get_peers", {b"info_hash": bytes(20)}))


def test_read_only_answers_nothing() -> None:
    face = face_of(DhtConfig(read_only=True), nodes=20)
    assert ask(face, b"ping") is None
    assert ask(face, b"dance") is None
    assert face.outgoing() == []


def test_a_read_only_asker_is_served_but_not_pinged() -> None:
    face = face_of()
    face.receive(encode({b"a": {b"id": SENDER}, b"q": b"ping", b"ro": 1, b"t": b"a", b"y": b"q"}), ASKER, 1.0)
    assert len(face.outgoing()) == 1
    face.receive(encode({b"a": {b"id": SENDER}, b"q": b"ping", b"t": b"a", b"y": b"q"}), ASKER, 1.0)
    sent = [decode(data) for data, _ in face.outgoing()]
    assert [message[b"y"] for message in sent if isinstance(message, dict)] == [b"r", b"q"]


def test_an_unknown_asker_enters_the_table_only_by_answering() -> None:
    face = face_of()
    face.receive(encode({b"a": {b"id": SENDER}, b"q": b"ping", b"t": b"a", b"y": b"q"}), ASKER, 1.0)
    ping = decode(face.outgoing()[1][0])
    assert isinstance(ping, dict)
    assert len(face.table) == 0
    pong = {b"r": {b"id": SENDER}, b"t": ping[b"t"], b"y": b"r"}
    face.receive(encode(pong), Endpoint("9.8.7.6", 5556), 1.1)  # not from where it was asked
    face.receive(encode({**pong, b"t": b"zzzz"}), ASKER, 1.1)  # not what was asked
    assert len(face.table) == 0
    face.receive(encode(pong), ASKER, 1.1)
    assert [node.contact for node in face.table.nodes] == [Contact(SENDER, ASKER)]


def test_an_asker_is_pinged_as_soon_as_its_bucket_has_room() -> None:
    face = face_of()
    sender = random_id_sharing(face.node_id, 5, RNG)
    ping = b"d1:ad2:id20:" + sender + b"e1:q4:ping1:t2:aa1:y1:qe"
    inside = [Endpoint(f"20.{index}.1.1", 6881) for index in range(K)]
    for endpoint in inside:
        face.table.answered(Contact(random_id_sharing(face.node_id, 5, RNG), endpoint), 0.1, 0.0)
    for _ in range(3):
        assert face.answer(ping, ASKER, 1.0)
        assert not face.outgoing()
    face.table.failed(inside[3])
    assert face.answer(ping, ASKER, 2.0)
    assert [to for _, to in face.outgoing()] == [ASKER]


def test_a_node_that_asks_by_another_id_is_pinged_though_its_bucket_is_full() -> None:
    face = face_of()
    inside = [Endpoint(f"20.{index}.1.1", 6881) for index in range(K)]
    for endpoint in inside:
        face.table.answered(Contact(random_id_sharing(face.node_id, 5, RNG), endpoint), 0.1, 0.0)
    other = random_id_sharing(face.node_id, 5, RNG)
    assert not face.table.wants(other, ASKER)
    assert face.answer(b"d1:ad2:id20:" + other + b"e1:q4:ping1:t2:aa1:y1:qe", inside[0], 1.0)
    assert [to for _, to in face.outgoing()] == [inside[0]]


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255"])
def test_local_and_impossible_sources_get_no_answer(host: str) -> None:
    face = face_of()
    assert ask(face, b"ping", source=Endpoint(host, 5)) is None
    assert face.dropped == 1


def test_local_sources_are_answered_where_that_is_allowed() -> None:
    face = face_of(allow_local=True)
    assert ask(face, b"ping", source=Endpoint("127.0.0.1", 5), now=1.0) is not None
    assert ask(face, b"ping", source=Endpoint("10.0.0.1", 5), now=1.0) is not None
    assert ask(face, b"ping", source=Endpoint("127.0.0.1", 0), now=1.0) is None


def test_a_flood_from_one_address_is_cut() -> None:
    face = face_of(DhtConfig(upload_limit=0))
    answers = sum(ask(face, b"ping", now=1.0 + index / 1000) is not None for index in range(1_000))
    assert answers == 50
    assert face.limited == 950
    assert ask(face, b"ping", source=Endpoint("9.8.7.7", 1), now=2.0) is not None
    assert error_code(ask(face, b"dance", source=Endpoint("9.8.7.7", 1), now=2.0)) == 204
    assert ask(face, b"ping", now=310.0) is not None


def test_a_flood_from_many_addresses_is_answered_within_the_upload_limit() -> None:
    face = face_of(DhtConfig(upload_limit=8_000), nodes=60)
    for index in range(10_000):
        source = Endpoint(f"30.{index // 250}.{index % 250}.1", 5)
        query = {b"a": {b"id": SENDER, b"target": HASH}, b"q": b"find_node", b"t": b"a", b"y": b"q"}
        face.receive(encode(query), source, 1.0 + index / 1_000)
    answered = sum(len(data) for data, _ in face.outgoing() if b"1:y1:r" in bytes(data)[-12:])
    assert answered <= 8_000 * 14  # ten seconds, and the burst of four
    assert answered > 60_000


def test_a_local_face_is_generous_by_default() -> None:
    face = face_of(DhtConfig(), allow_local=True)
    source = Endpoint("127.0.0.1", 5)
    assert all(ask(face, b"ping", source=source) is not None for _ in range(2_000))


@pytest.mark.parametrize("data", [b"", b"d", b"de", b"d1:y1:q", b"x" * 100, bytes(9_000), b"d" * 60, b"l" * 60_000])
def test_garbage_is_dropped_in_silence(data: bytes) -> None:
    face = face_of()
    face.receive(data, ASKER, 1.0)
    assert face.outgoing() == []
    assert face.dropped == 1


def test_claims_what_begins_with_d() -> None:
    face = face_of()
    assert [first for first in range(256) if face.claims(first)] == [ord("d")]


def test_sources_without_number_fill_no_memory() -> None:
    face = face_of(DhtConfig(upload_limit=1))
    for index in range(20_000):
        source = Endpoint(f"{30 + index // 65536}.{index // 256 % 256}.{index % 256}.1", 5)
        face.receive(encode({b"a": {b"id": random_id(RNG)}, b"q": b"ping", b"t": b"a", b"y": b"q"}), source, 1.0)
    assert len(face.keeper._queue) <= 128
    assert len(face.keeper._tried) <= 1_024
    assert len(face.outgoing()) < 100
