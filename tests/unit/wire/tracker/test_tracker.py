"""Trackers without I/O: URLs, answers in all their forms, UDP conversations, tiers."""

import contextlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import bencode
from wire.compact import Endpoint
from wire.errors import MisuseError, ProtocolError
from wire.tracker.http_codec import announce_url, parse_announce, parse_scrape, scrape_url
from wire.tracker.tiers import MAX_TRACKERS, Tiers
from wire.tracker.udp_codec import ConnectionIds, UdpAnnounce, UdpScrape
from wire.tracker.values import MAX_PEERS, Announce, AnnounceEvent, TrackerError

HASH, PEER = bytes(range(20)), b"-KB0100-abcdefghijkl"
SAID = Announce(HASH, PEER, 6881, 1, 2, 3, AnnounceEvent.STARTED, key=0xABC)
TRACKER = Endpoint("127.0.0.1", 8000)


def test_the_query_is_escaped_byte_by_byte_and_keeps_what_was_there() -> None:
    url = announce_url("http://t.example/announce?pass=x#frag", SAID)
    assert url.startswith("http://t.example/announce?pass=x&info_hash=%00%01%02%03")
    assert "&event=started" in url
    assert "&key=00000abc" in url
    assert "#" not in url
    assert "event" not in announce_url("http://t/a", Announce(HASH, PEER, 1, 0, 0, 0))


@pytest.mark.parametrize(
    ("announce", "scrape"),
    [
        ("http://t/announce", "http://t/scrape?"),
        ("http://t/x/announce.php?a=b", "http://t/x/scrape.php?a=b&"),
        ("http://t/a/announce/", None),
        ("http://t/ann", None),
        ("http://t/x/announce?p=a/b", "http://t/x/scrape?p=a/b&"),
    ],
)
def test_scrape_urls(announce: str, scrape: str | None) -> None:
    if scrape is None:
        with pytest.raises(MisuseError):
            scrape_url(announce, [HASH])
    else:
        assert scrape_url(announce, [HASH]).startswith(scrape + "info_hash=%00")


def test_compact_and_plain_peers_and_both_families() -> None:
    four, six = Endpoint("1.2.3.4", 5), Endpoint("2001:db8::1", 6)
    compact = {b"interval": 900, b"peers": four.compact(), b"peers6": six.compact(), b"complete": 7}
    reply = parse_announce(bencode.encode(compact))
    assert reply.peers == (four, six)
    assert (reply.interval_s, reply.seeders, reply.leechers) == (900, 7, None)
    rows = [{b"ip": b"1.2.3.4", b"port": 5}, {b"ip": b"2001:db8::1", b"port": 6}, {b"ip": b"name", b"port": 1}, 7, {}]
    assert parse_announce(bencode.encode({b"peers": rows})).peers == (four, six)


def test_odd_answers_are_bounded() -> None:
    many = b"".join(Endpoint(f"10.{n >> 8}.{n & 255}.1", 1).compact() for n in range(5000))
    fields = {
        b"interval": -5,
        b"min interval": 1 << 62,
        b"peers": many,
        b"complete": -1,
        b"warning message": b"\x1b[31m" + b"x" * 1000,
        b"tracker id": bytes(300),
        b"external ip": b"\x01\x02\x03\x04",
    }
    reply = parse_announce(bencode.encode(fields))
    assert len(reply.peers) == MAX_PEERS
    assert (reply.interval_s, reply.min_interval_s, reply.seeders, reply.tracker_id) == (60, 86400, None, None)
    assert reply.warning
    assert reply.warning.isprintable()
    assert len(reply.warning) <= 200
    assert reply.external_ip == "1.2.3.4"


@pytest.mark.parametrize(
    ("retry", "in_s", "never"), [(None, None, False), (5, 300, False), (b"7", 420, False), (b"never", None, True)]
)
def test_refusals(retry: object, in_s: int | None, never: bool) -> None:
    body: dict[bytes, object] = {b"failure reason": b"not\nhere"}
    if retry is not None:
        body[b"retry in"] = retry
    with pytest.raises(TrackerError) as caught:
        parse_announce(bencode.encode(body))  # type: ignore[arg-type]
    assert (str(caught.value), caught.value.retry_in_s, caught.value.never) == ("not here", in_s, never)


def test_scrape_rows() -> None:
    body = bencode.encode({b"files": {HASH: {b"complete": 1, b"downloaded": 2, b"incomplete": 3}}})
    row = parse_scrape(body, HASH)
    assert row is not None
    assert (row.seeders, row.completed, row.leechers, row.downloaders) == (1, 2, 3, None)
    assert parse_scrape(body, PEER) == row
    two = {HASH: {b"complete": 1}, HASH[::-1]: {b"complete": 2}}
    assert parse_scrape(bencode.encode({b"files": two}), PEER) is None
    assert parse_scrape(bencode.encode({b"files": {}}), HASH) is None


@given(st.binary(max_size=200))
def test_any_answer_gives_only_the_servers_fault(body: bytes) -> None:
    for parse in (parse_announce, lambda data: parse_scrape(data, HASH)):
        with contextlib.suppress(ProtocolError):
            parse(body)


def connect_reply(query: bytes, number: int = 0x1122334455667788) -> bytes:
    protocol, action, transaction = struct.unpack(">QII", query)
    assert (protocol, action) == (0x41727101980, 0)
    return struct.pack(">IIQ", 0, transaction, number)


def test_a_udp_announce_connects_first_and_the_id_is_used_again() -> None:
    ids, rng = ConnectionIds(), random.Random(1)
    talk = UdpAnnounce(TRACKER, SAID, "/announce?pass=x", ids, rng, 0.0)
    (query,) = talk.outgoing()
    assert talk.receive(connect_reply(query) + b"longer", 0.1) is None
    (query,) = talk.outgoing()
    number, action, transaction = struct.unpack_from(">QII", query)
    assert (number, action) == (0x1122334455667788, 1)
    assert query[16:56] == HASH + PEER
    assert struct.unpack_from(">QQQI", query, 56) == (2, 3, 1, 2)
    assert query[98:] == b"\x02\x10/announce?pass=x"
    peer = Endpoint("1.2.3.4", 5)
    reply = talk.receive(struct.pack(">IIIII", 1, transaction, 700, 8, 9) + peer.compact(), 0.2)
    assert reply is not None
    assert (reply.peers, reply.interval_s, reply.leechers, reply.seeders) == ((peer,), 700, 8, 9)
    again = UdpScrape(TRACKER, [HASH], ids, rng, 59.0)
    (query,) = again.outgoing()
    number, action, transaction = struct.unpack_from(">QII", query)
    assert (number, action) == (0x1122334455667788, 2)
    rows = again.receive(struct.pack(">IIIII", 2, transaction, 1, 2, 3), 59.1)
    assert rows is not None
    assert (rows[0].seeders, rows[0].completed, rows[0].leechers) == (1, 2, 3)
    assert struct.unpack_from(">Q", UdpScrape(TRACKER, [HASH], ids, rng, 61.0).outgoing()[0])[0] == 0x41727101980


def test_udp_retries_double_and_end() -> None:
    talk = UdpAnnounce(TRACKER, SAID, "", ConnectionIds(), random.Random(2), 0.0)
    times = []
    now = 0.0
    while not talk.failed:
        if talk.outgoing():
            times.append(now)
        now = talk.next_timer()
        talk.tick(now)
    assert times == [15.0 * (2**n - 1) for n in range(9)]


def test_udp_takes_only_its_own_answer() -> None:
    talk = UdpAnnounce(TRACKER, SAID, "", ConnectionIds(), random.Random(3), 0.0)
    (query,) = talk.outgoing()
    good = connect_reply(query)
    for wrong in (b"", good[:7], good[:4] + b"\0\0\0\0" + good[8:], struct.pack(">I", 1) + good[4:], good[:12]):
        assert talk.receive(wrong, 0.1) is None
        assert talk.outgoing() == []
    with pytest.raises(TrackerError, match="go away"):
        talk.receive(struct.pack(">I", 3) + good[4:8] + b"go\x00away", 0.1)


def urls(tiers: Tiers) -> list[str]:
    return [tracker.url for tracker in tiers.trackers]


def test_a_tier_is_shuffled_once_and_who_answers_comes_first() -> None:
    tiers = Tiers([[f"http://{n}" for n in range(8)], ["udp://last"]], random.Random(4), 0.0)
    order = urls(tiers)
    assert order != sorted(order)
    first = tiers.next(0.0)
    assert first is not None
    tiers.failed(first, "silent", 0.0)
    second = tiers.next(0.0)
    assert second is not None
    assert second.url == order[1]
    tiers.answered(second, 1800, 0.0)
    assert urls(tiers)[0] == order[1]
    assert tiers.next(1.0) is None
    assert tiers.next_timer() == 1800
    again = tiers.next(1800)
    assert again is second


def test_the_next_tier_is_asked_where_the_first_fails_and_never_means_never() -> None:
    tiers = Tiers([["http://a"], ["http://b"]], random.Random(5), 0.0)
    first = tiers.next(0.0)
    assert first is not None
    tiers.failed(first, "gone", 0.0, never=True)
    second = tiers.next(0.0)
    assert second is not None
    assert second.url == "http://b"
    tiers.failed(second, "later", 0.0, retry_in_s=120)
    assert tiers.next(119) is None
    assert tiers.next(120) is second


def test_failures_back_off_to_an_hour() -> None:
    tiers = Tiers([["http://a"]], random.Random(6), 0.0)
    waits = []
    now = 0.0
    for _ in range(10):
        tracker = tiers.next(now)
        assert tracker is not None
        tiers.failed(tracker, "silent", now)
        waits.append(tracker.due - now)
        now = tracker.due
    assert waits[:3] == [30, 60, 120]
    assert waits[-1] == 3600


def test_thousands_of_trackers_are_capped_and_each_stands_once() -> None:
    tiers = Tiers([[f"http://{n % 500}" for n in range(1000)], ["http://1"]], random.Random(7), 0.0)
    assert len(urls(tiers)) == MAX_TRACKERS == len(set(urls(tiers)))
