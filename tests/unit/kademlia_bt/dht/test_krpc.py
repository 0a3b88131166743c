"""KRPC messages: the examples of BEP 5, what is tolerated, what is refused, what is written."""

from __future__ import annotations

import pytest

from kademlia_bt.dht import krpc
from kademlia_bt.dht.krpc import WANT_IPV4, WANT_IPV6, Answer, Query, QueryError, Refusal, parse
from kademlia_bt.dht.writing import encode_answer, encode_error, encode_query
from wire.bencode import decode, encode
from wire.compact import IPV4, IPV6, Endpoint
from wire.errors import ProtocolError

ID = b"abcdefghij0123456789"
TARGET = b"mnopqrstuvwxyz123456"


def query_of(data: bytes) -> Query:
    message = parse(data)
    assert isinstance(message, Query)
    return message


def answer_of(data: bytes) -> Answer:
    message = parse(data)
    assert isinstance(message, Answer)
    return message


def test_ping_of_bep5() -> None:
    assert query_of(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe") == Query(
        b"aa", b"ping", ID, None, 0, False
    )


def test_find_node_of_bep5() -> None:
    query = query_of(b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe")
    assert (query.method, query.target) == (b"find_node", TARGET)


def test_get_peers_of_bep5() -> None:
    query = query_of(b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe")
    assert (query.method, query.target) == (b"get_peers", TARGET)


def test_announce_peer_of_bep5() -> None:
    data = (
        b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e"
        b"5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe"
    )
    query = query_of(data)
    assert (query.token, query.port) == (b"aoeusnth", 0)
    assert query_of(data.replace(b"implied_porti1e", b"implied_porti0e")).port == 6881


def test_answers_of_bep5() -> None:
    answer = answer_of(b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re")
    assert (answer.tid, answer.id, answer.token) == (b"aa", ID, b"aoeusnth")
    assert answer.peers == [Endpoint("97.120.106.101", 11893), Endpoint("105.100.104.116", 28269)]
    assert answer.contacts(IPV4) == []
    assert answer.own_address is None
    assert answer.version is None


def test_an_error_of_bep5() -> None:
    assert parse(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee") == Refusal(
        b"aa", 201, "A Generic Error Ocurred"
    )


@pytest.mark.parametrize("error", [[], [203], "text", [b"a", b"b"], [203, 204], 7])
def test_odd_errors_are_still_errors(error: object) -> None:
    message = parse(encode({b"e": error, b"t": b"aa", b"y": b"e"}))  # type: ignore[dict-item]
    assert isinstance(message, Refusal)
    assert message.tid == b"aa"


def test_nodes_and_values_of_both_families() -> None:
    v4 = ID + bytes([1, 2, 3, 4]) + b"\x1a\xe1"
    v6 = ID + Endpoint("2a02::1", 6882).compact()
    answer = answer_of(
        encode(
            {
                b"ip": Endpoint("9.8.7.6", 5).compact(),
                b"r": {
                    b"id": ID,
                    b"nodes": v4 + b"rest",
                    b"nodes6": v6,
                    b"values": [Endpoint("1.2.3.4", 5).compact(), Endpoint("2a02::2", 6).compact(), b"bad", 7, [b"x"]],
                },
                b"t": b"aa",
                b"v": b"LT\x01\x02",
                b"y": b"r",
            }
        )
    )
    assert [c.endpoint for c in answer.contacts(IPV4)] == [Endpoint("1.2.3.4", 6881)]
    assert [c.endpoint for c in answer.contacts(IPV6)] == [Endpoint("2a02::1", 6882)]
    assert answer.peers == [Endpoint("1.2.3.4", 5), Endpoint("2a02::2", 6)]
    assert answer.own_address == Endpoint("9.8.7.6", 5)
    assert answer.version == b"LT\x01\x02"


def test_an_answer_is_bounded() -> None:
    answer = answer_of(
        encode({b"r": {b"id": ID, b"nodes": bytes(26 * 1000), b"values": [bytes(6)] * 900}, b"t": b"aa", b"y": b"r"})
    )
    assert len(answer.contacts(IPV4)) <= 32
    assert len(answer.peers) <= krpc.MAX_VALUES


@pytest.mark.parametrize(
    ("returned", "what"),
    [({b"id": ID, b"nodes": 5, b"values": b"x", b"token": [b"t"]}, "wrong types")],
)
def test_parts_of_a_wrong_type_are_absent(returned: dict[bytes, object], what: str) -> None:
    answer = answer_of(encode({b"ip": 5, b"r": returned, b"t": b"aa", b"v": [b"x"], b"y": b"r"}))  # type: ignore[dict-item]
    assert (answer.contacts(IPV4), answer.peers, answer.token, answer.own_address) == ([], [], None, None), what


def test_unsorted_keys_are_read() -> None:
    assert query_of(b"d1:y1:q1:q4:ping1:t2:aa1:ad2:id20:abcdefghij0123456789ee").method == b"ping"


def test_any_transaction_id_is_kept() -> None:
    for tid in (b"", b"a", bytes(range(200))):
        assert query_of(encode({b"a": {b"id": ID}, b"q": b"ping", b"t": tid, b"y": b"q"})).tid == tid


def test_want_and_read_only() -> None:
    def asking(want: object) -> int:
        arguments = {b"id": ID, b"target": TARGET, b"want": want}
        return query_of(encode({b"a": arguments, b"q": b"find_node", b"t": b"a", b"y": b"q"})).want  # type: ignore[dict-item]

    assert asking([b"n4"]) == WANT_IPV4
    assert asking([b"n6", b"n4", b"n9"]) == WANT_IPV4 | WANT_IPV6
    assert asking([b"n9"]) == 0
    assert asking(b"n6") == 0
    assert asking([[b"n4"], 4]) == 0
    ping = {b"a": {b"id": ID}, b"q": b"ping", b"t": b"a", b"y": b"q"}
    assert query_of(encode({**ping, b"ro": 1})).read_only
    assert not query_of(encode({**ping, b"ro": 0})).read_only


def test_an_unknown_method_with_a_target_is_a_query_for_nodes() -> None:
    for key in (b"target", b"info_hash"):
        query = query_of(encode({b"a": {b"id": ID, key: TARGET}, b"q": b"get_gold", b"t": b"a", b"y": b"q"}))
        assert query.target == TARGET


@pytest.mark.parametrize(
    ("method", "arguments", "code"),
    [
        (b"ping", {}, 203),
        (b"ping", {b"id": b"short"}, 203),
        (b"ping", {b"id": 5}, 203),
        (b"find_node", {b"id": ID}, 203),
        (b"find_node", {b"id": ID, b"target": b"short"}, 203),
        (b"find_node", {b"id": ID, b"info_hash": TARGET}, 203),
        (b"get_peers", {b"id": ID, b"info_hash": [b"x"]}, 203),
        (b"announce_peer", {b"id": ID, b"info_hash": TARGET, b"port": 5}, 203),
        (b"announce_peer", {b"id": ID, b"info_hash": TARGET, b"port": 0, b"token": b"t"}, 203),
        (b"announce_peer", {b"id": ID, b"info_hash": TARGET, b"port": 65536, b"token": b"t"}, 203),
        (b"announce_peer", {b"id": ID, b"info_hash": TARGET, b"port": -1, b"token": b"t"}, 203),
        (b"announce_peer", {b"id": ID, b"info_hash": TARGET, b"token": b"t"}, 203),
        (b"dance", {b"id": ID}, 204),
        (5, {b"id": ID}, 203),
        (b"ping", 5, 203),
    ],
)
def test_broken_queries_are_told_so(method: object, arguments: object, code: int) -> None:
    with pytest.raises(QueryError) as caught:
        parse(encode({b"a": arguments, b"q": method, b"t": b"xy", b"y": b"q"}))  # type: ignore[dict-item]
    assert (caught.value.code, caught.value.tid) == (code, b"xy")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"de",
        b"i5e",
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:q",
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qeX",
        b"d1:t2:aa1:y1:xe",
        b"d1:q4:ping1:y1:qe",
        b"d1:q4:ping1:ti5e1:y1:qe",
        b"d1:rd2:id3:abce1:t2:aa1:y1:re",
        b"d1:rle1:t2:aa1:y1:re",
        b"d1:t2:aa1:y1:re",
        b"d1:t2:aae",
        encode({b"a": {b"id": ID}, b"q": b"ping", b"t": bytes(300), b"y": b"q"}),
        b"l" * 5_000,
        b"d1:a" * 2_000,
        b"d1:y99999999999:",
    ],
)
def test_what_is_no_message_raises_only_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(data)
    assert not isinstance(caught.value, QueryError)


def test_answers_are_written_sorted_and_with_the_askers_address() -> None:
    address = Endpoint("1.2.3.4", 0x1A2B).compact()
    data = encode_answer(b"aa", b"2:id20:" + ID, address, b"KB\x01\x00")
    assert data == encode({b"ip": address, b"r": {b"id": ID}, b"t": b"aa", b"v": b"KB\x01\x00", b"y": b"r"})


def test_errors_carry_the_address_too() -> None:
    address = Endpoint("1.2.3.4", 5).compact()
    message = decode(encode_error(b"t", 203, "bad token", address, b"KB\x01\x00"))
    assert message == {b"e": [203, b"bad token"], b"ip": address, b"t": b"t", b"v": b"KB\x01\x00", b"y": b"e"}


def test_queries_round_trip() -> None:
    data = encode_query(
        b"tid!",
        b"get_peers",
        ID,
        {b"info_hash": TARGET},
        version=b"KB\x01\x00",
        read_only=True,
        want=WANT_IPV4 | WANT_IPV6,
    )
    assert query_of(data) == Query(b"tid!", b"get_peers", ID, TARGET, WANT_IPV4 | WANT_IPV6, True)
    plain = encode_query(b"tid!", b"ping", ID, {}, version=b"KB\x01\x00", read_only=False)
    assert plain == b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t4:tid!1:v4:KB\x01\x001:y1:qe"
