"""The fast ways to read and answer a query and the whole one, side by side: both say the same, byte for byte."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kademlia_bt.dht import intake
from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.face import Face
from kademlia_bt.dht.krpc import Query, parse
from kademlia_bt.dht.node_id import random_id
from kademlia_bt.dht.usual import FORMS, usual_query
from kademlia_bt.dht.writing import answer_writer, encode_answer
from wire.compact import IPV4, IPV6, Endpoint, Family

ID = b"abcdefghij0123456789"
TARGET = b"mnopqrstuvwxyz123456"

METHODS = (
    b"e1:q4:ping",
    b"6:target20:" + TARGET + b"e1:q9:find_node",
    b"9:info_hash20:" + TARGET + b"e1:q9:get_peers",
    b"6:target20:" + TARGET + b"4:wantl2:n42:n6ee1:q9:find_node",
    b"9:info_hash20:" + TARGET + b"4:wantl2:n6ee1:q9:get_peers",
    b"9:info_hash20:" + TARGET + b"4:wantlee1:q9:get_peers",
    b"6:target20:" + TARGET + b"e1:q9:get_peers",  # of these none is usual
    b"9:info_hash20:" + TARGET + b"e1:q9:find_node",
    b"9:info_hash20:" + TARGET + b"6:noseedi1ee1:q9:get_peers",
    b"6:target20:" + TARGET + b"4:wantl2:n62:n4ee1:q9:find_node",
)
parts = st.tuples(
    st.sampled_from(METHODS),
    st.sampled_from((b"", b"2:roi1e", b"2:roi0e", b"2:roi2e")),
    st.one_of(st.binary(min_size=0, max_size=12), st.binary(min_size=2, max_size=2), st.binary(min_size=4, max_size=4)),
    st.sampled_from((b"", b"1:v4:LT\x02\x01", b"1:v4:e1:y", b"1:v5:KB000", b"1:v0:")),
)


def written(method: bytes, read_only: bytes, tid: bytes, version: bytes, sender: bytes = ID) -> bytes:
    return b"d1:ad2:id20:" + sender + method + read_only + b"1:t%d:%b" % (len(tid), tid) + version + b"1:y1:qe"


@given(parts, st.binary(min_size=20, max_size=20))
def test_both_ways_read_the_same(query: tuple[bytes, bytes, bytes, bytes], sender: bytes) -> None:
    data = written(*query, sender=sender)
    found = usual_query(data)
    if found is not None:
        assert found == parse(data)
        assert type(found) is Query


@given(parts, st.data())
@example((METHODS[1], b"", b"aa", b""), None)
def test_what_is_damaged_is_read_by_both_or_left_to_the_other(
    query: tuple[bytes, bytes, bytes, bytes], data: st.DataObject | None
) -> None:
    """Any byte changed, cut out or put in: never a query that `parse` would not have made."""
    raw = written(*query)
    if data is not None:
        at = data.draw(st.integers(0, len(raw) - 1))
        cut = data.draw(st.integers(0, 2))
        raw = raw[:at] + data.draw(st.binary(max_size=2)) + raw[at + cut :]
    found = usual_query(raw)
    if found is not None:
        assert found == parse(raw)


def test_the_usual_ones_are_known() -> None:
    for method in METHODS[:6]:
        for read_only in (b"", b"2:roi1e"):
            for tid in (b"aa", b"a\ncd", b"12345678"):
                for version in (b"", b"1:v4:LT\x02\x01"):
                    assert usual_query(written(method, read_only, tid, version)) is not None
    for method in METHODS[6:]:
        assert usual_query(written(method, b"", b"aa", b"")) is None


def test_what_is_said_is_taken_over() -> None:
    query = usual_query(written(METHODS[3], b"2:roi1e", b"tidd", b""))
    assert query == Query(b"tidd", b"find_node", ID, TARGET, 3, True)
    assert usual_query(written(METHODS[4], b"", b"tt", b"")) == Query(b"tt", b"get_peers", ID, TARGET, 2, False)
    assert usual_query(written(METHODS[0], b"", b"tt", b"")) == Query(b"tt", b"ping", ID, None, 0, False)


HOSTS = {
    IPV4: ("9.8.7.6", "20.1.1.1", "20.2.1.1", "127.0.0.1", "10.0.0.1", "224.0.0.1", "255.255.255.255"),
    IPV6: ("2a01::1", "2a00:1::1", "2a00:2::1", "::1", "fe80::1", "ff02::1", "2001:db8::1"),
}
HASHES = (TARGET, b"a torrent with peers")


def face_of(family: Family, config: DhtConfig, *, in_calls: bool) -> Face:
    """A face that is as the other one made with the same arguments; `in_calls`: it answers nothing in one go."""
    chance = random.Random(3)
    face = Dht(config, random.Random(4), 0.0).add_face(family, random_id(chance), 0.0)
    for number in range(40):
        host = f"2a00:{number:x}::1" if family is IPV6 else f"20.{number}.1.1"
        face.table.answered(Contact(ID if number == 1 else random_id(chance), Endpoint(host, 6881)), 0.1, 0.0)
    face.responder._store.add(HASHES[1], bytes(range(1, family.endpoint_bytes + 1)), 0.0)
    if in_calls:
        face.intake._forms = {}
    return face


@st.composite
def asked(draw: st.DrawFn) -> tuple[bytes, int, int, float]:
    """A datagram: mostly a usual query, or one that is nearly one; which host it is from, its port, seconds since."""
    method = draw(st.sampled_from(METHODS)).replace(TARGET, draw(st.sampled_from(HASHES)))
    tid = draw(st.sampled_from((b"aa", b"1:yq", b"\0\xff", b"", b"long tid")))
    version = draw(st.sampled_from((b"", b"1:v4:LT\x02\x01", b"1:v4:e1:y", b"1:v5:KB000")))
    read_only, sender = draw(st.sampled_from((b"", b"", b"2:roi1e"))), draw(st.sampled_from((ID, TARGET)))
    data = written(method, read_only, tid, version, sender)
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=1)) + data[at + draw(st.integers(0, 1)) :]
    port, later = draw(st.sampled_from((6881, 6881, 1, 0))), draw(st.sampled_from((0.0, 0.5, 70.0)))
    return data, draw(st.integers(0, 6)), port, later


@given(
    st.sampled_from((IPV4, IPV6)),
    st.sampled_from(
        (
            DhtConfig(per_ip_limit=0, upload_limit=0),
            DhtConfig(per_ip_limit=0.3, upload_limit=150),
            DhtConfig(per_ip_limit=0, upload_limit=0, read_only=True),
            DhtConfig(per_ip_limit=0, upload_limit=0, network=b"a tag   "),
        )
    ),
    st.lists(asked(), max_size=12),
)
def test_both_ways_answer_and_note_the_same(
    family: Family, config: DhtConfig, datagrams: list[tuple[bytes, int, int, float]]
) -> None:
    quick, slow = (face_of(family, config, in_calls=in_calls) for in_calls in (False, True))
    now = 1.0
    for data, host, port, later in datagrams:
        now += later
        source = (HOSTS[family][host], port)
        assert quick.answer(data, source, now) == slow.answer(data, Endpoint(*source), now)
        assert quick.outgoing() == slow.outgoing()
    for what in ("messages", "refusals", "dropped"):
        assert getattr(quick.traffic, what) == getattr(slow.traffic, what)
    for what in ("queries", "answers", "received_bytes", "sent_bytes"):
        assert getattr(quick, what) == getattr(slow, what)
    assert [node.last_query for node in quick.table.nodes] == [node.last_query for node in slow.table.nodes]
    assert quick.keeper._queue == slow.keeper._queue


def test_a_query_of_each_form_is_answered_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "usual_query", None)
    monkeypatch.setattr(intake, "parse", None)
    face = face_of(IPV4, DhtConfig(per_ip_limit=0, upload_limit=0), in_calls=False)
    seen = set()
    for method in METHODS[:3]:
        for tid in (b"aa", b"a\ncd"):
            for version in (b"", b"1:v4:LT\x02\x01"):
                data = written(method, b"", tid, version)
                answer = face.answer(data, ("9.8.7.6", 5), 1.0)
                assert answer is not None
                assert bytes(answer).endswith(b"e1:t%d:%b1:v4:KB\x01\x001:y1:re" % (len(tid), tid))
                seen.add(len(data))
    assert seen == set(FORMS)


@given(st.sampled_from((IPV4, IPV6)), st.data(), st.integers(0, 65535), st.binary(max_size=12), st.binary(max_size=8))
def test_an_answer_writer_writes_what_encode_answer_does(
    family: Family, data: st.DataObject, port: int, tid: bytes, version: bytes
) -> None:
    ip = data.draw(st.binary(min_size=family.ip_bytes, max_size=family.ip_bytes))
    returned = b"2:id20:" + ID
    write = answer_writer(returned, version, family, len(tid))
    assert write(ip, port, tid) == encode_answer(tid, returned, ip + port.to_bytes(2, "big"), version)


def test_a_query_with_any_byte_changed_is_answered_as_the_whole_way_would() -> None:
    config = DhtConfig(per_ip_limit=0, upload_limit=0)
    quick, slow = face_of(IPV4, config, in_calls=False), face_of(IPV4, config, in_calls=True)
    source = Endpoint("9.8.7.6", 5)
    for method in METHODS[:3]:
        for tid in (b"aa", b"abcd"):
            for version in (b"", b"1:v4:LT\x02\x01"):
                whole = written(method, b"", tid, version)
                for at, byte in enumerate(whole):
                    for other in {byte ^ 1, ord("1"), ord("e"), ord(":")} - {byte}:
                        data = whole[:at] + bytes((other,)) + whole[at + 1 :]
                        assert quick.answer(data, source, 1.0) == slow.answer(data, source, 1.0), data
    assert quick.traffic.dropped == slow.traffic.dropped
    assert quick.traffic.refusals == slow.traffic.refusals
    assert quick.queries == slow.queries > 1_000


def test_a_node_that_asks_is_noted() -> None:
    face = face_of(IPV4, DhtConfig(per_ip_limit=0, upload_limit=0), in_calls=False)
    node = face.table.get(Endpoint("20.1.1.1", 6881))
    assert node is not None
    assert node.contact.id == ID
    assert face.answer(written(METHODS[0], b"", b"aa", b"", TARGET), ("20.1.1.1", 6881), 2.0)
    assert node.last_query < 0  # it was not that node, by its id
    assert face.answer(written(METHODS[0], b"", b"aa", b""), ("20.1.1.1", 6881), 3.0)
    assert node.last_query == 3.0
