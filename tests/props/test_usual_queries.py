"""The fast way to read a query and the whole one, side by side: where the fast one answers, both say the same."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kademlia_bt.dht.krpc import Query, parse
from kademlia_bt.dht.usual import usual_query

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
