"""A face against scrapes, items and sample questions: every error code, every cap, every size (BEP 33, 44, 51)."""

from __future__ import annotations

import random

import pytest

from kademlia_bt.dht.core import Face
from kademlia_bt.dht.gather import ScrapeGather
from kademlia_bt.dht.krpc import Answer, parse
from kademlia_bt.dht.peer_store import MAX_PEERS_PER_TORRENT, PEER_LIFE_S, PeerStore
from kademlia_bt.items.bloom import BloomFilter
from kademlia_bt.items.sampling import SAMPLES
from kademlia_bt.items.signing import KeyPair
from kademlia_bt.items.store import MAX_ITEMS, MAX_ITEMS_PER_NETWORK
from kademlia_bt.items.values import ImmutableItem, MutableItem
from tests.unit.kademlia_bt.dht.test_face import ASKER, HASH, SENDER, ask, error_code, face_of, fill, length, returned
from wire.bencode import Encodable, Value, decode, encode
from wire.compact import IPV4, IPV6, Endpoint

KEYS = KeyPair(bytes(31) + b"\x07")
LARGEST = ImmutableItem(b"996:" + bytes(996))


def token_for(face: Face, target: bytes, *, source: Endpoint = ASKER, now: float = 1.0) -> Value:
    return returned(ask(face, b"get", {b"target": target}, source=source, now=now))[b"token"]


def put(
    face: Face,
    item: ImmutableItem | MutableItem,
    changes: dict[bytes, Encodable] | None = None,
    *,
    source: Endpoint = ASKER,
    now: float = 1.0,
) -> dict[bytes, Value] | None:
    """Sends an item's bytes as they are, valid or not."""
    arguments: dict[bytes, Encodable] = {b"token": token_for(face, item.target, source=source, now=now)}  # type: ignore[dict-item]
    if isinstance(item, MutableItem):
        arguments |= {b"k": item.public_key, b"sig": item.signature, b"seq": item.seq}
        if item.salt:
            arguments[b"salt"] = item.salt
    arguments |= changes or {}
    head = encode({b"id": SENDER, **arguments})
    # `v` is put in by hand, since a value that is not canonical could not be encoded.
    message = b"d1:a" + head[:-1] + b"1:v" + item.raw_value + b"e1:q3:put1:t2:aa1:y1:qe"
    face.receive(message, source, now)
    answers = [decode(data) for data, to in face.outgoing() if to == source]
    replies = [answer for answer in answers if isinstance(answer, dict) and answer[b"y"] != b"q"]
    return replies[0] if replies else None


def get(face: Face, target: bytes, seq: int | None = None, *, source: Endpoint = ASKER) -> dict[bytes, Value]:
    arguments: dict[bytes, Encodable] = {b"target": target}
    if seq is not None:
        arguments[b"seq"] = seq
    return returned(ask(face, b"get", arguments, source=source))


class TestItems:
    def test_nodes_and_token_always_come(self) -> None:
        face = face_of(nodes=30)
        for item in (ImmutableItem.of(b"x"), MutableItem.sign(KEYS, b"x", 1)):
            before = get(face, item.target)
            assert set(before) == {b"id", b"nodes", b"token"}
            returned(put(face, item))
            assert {b"nodes", b"token", b"v"} <= set(get(face, item.target))
            assert length(get(face, item.target)[b"nodes"]) == 8 * 26

    def test_an_immutable_item_comes_back_as_it_was_put(self) -> None:
        face = face_of()
        returned(put(face, LARGEST))
        assert get(face, LARGEST.target) == {
            b"id": face.node_id,
            b"nodes": b"",
            b"token": token_for(face, LARGEST.target),
            b"v": bytes(996),
        }

    def test_a_mutable_item_comes_back_signed_and_without_its_salt(self) -> None:
        face = face_of()
        item = MutableItem.sign(KEYS, {b"a": 1}, 4, b"salt")
        returned(put(face, item))
        answer = get(face, item.target)
        assert set(answer) == {b"id", b"k", b"nodes", b"seq", b"sig", b"token", b"v"}
        assert (answer[b"k"], answer[b"sig"], answer[b"seq"], answer[b"v"]) == (
            KEYS.public_key,
            item.signature,
            4,
            {b"a": 1},
        )

    @pytest.mark.parametrize(("seq", "full"), [(3, True), (4, False), (5, False), (-1, True)])
    def test_who_has_it_is_told_the_sequence_number_alone(self, seq: int, full: bool) -> None:
        face = face_of()
        item = MutableItem.sign(KEYS, b"x", 4)
        returned(put(face, item))
        answer = get(face, item.target, seq)
        assert answer[b"seq"] == 4
        assert (b"v" in answer, b"k" in answer, b"sig" in answer) == (full, full, full)
        assert {b"token", b"nodes"} <= set(answer)

    def test_refusals_by_code(self) -> None:
        face = face_of()
        item = MutableItem.sign(KEYS, b"five", 5)
        returned(put(face, item))
        for code, bad, changes in [
            (203, item, {b"token": b"12345678"}),
            (203, item, {b"token": 5}),
            (203, item, {b"seq": b"5"}),
            (203, item, {b"cas": b"5"}),
            (203, item, {b"k": 5}),
            (203, ImmutableItem(b"d1:b0:1:a0:e"), {}),
            (203, ImmutableItem(b"d1:a0:1:a0:e"), {}),
            (203, MutableItem.sign(KEYS, b"x", 7), {b"seq": -1}),
            (205, ImmutableItem(b"997:" + bytes(997)), {}),
            (205, MutableItem(b"997:" + bytes(997), KEYS.public_key, bytes(64), 6), {}),
            (206, MutableItem(b"1:x", KEYS.public_key, bytes(64), 6), {}),
            (206, MutableItem(b"1:x", KEYS.public_key, b"", 6), {}),
            (207, MutableItem(b"1:x", KEYS.public_key, bytes(64), 6, bytes(65)), {}),
            (301, MutableItem.sign(KEYS, b"six", 6), {b"cas": 4}),
            (302, MutableItem.sign(KEYS, b"four", 4), {}),
            (302, MutableItem.sign(KEYS, b"other", 5), {}),
        ]:
            assert error_code(put(face, bad, changes)) == code, (code, bad, changes)  # type: ignore[arg-type]
        assert get(face, item.target)[b"v"] == b"five"
        returned(put(face, item))
        returned(put(face, MutableItem.sign(KEYS, b"six", 6), {b"cas": 5}))
        assert get(face, item.target)[b"v"] == b"six"

    def test_no_value_and_no_target(self) -> None:
        face = face_of()
        assert error_code(ask(face, b"put", {b"token": b"x"})) == 203
        assert error_code(ask(face, b"put", {b"v": b"x"})) == 203
        assert error_code(ask(face, b"get", {})) == 203
        assert error_code(ask(face, b"get", {b"target": b"short"})) == 203

    def test_a_token_is_good_for_its_target_and_address_alone(self) -> None:
        face = face_of()
        item = ImmutableItem.of(b"mine")
        other = token_for(face, ImmutableItem.of(b"other").target)
        assert error_code(put(face, item, {b"token": other})) == 203  # type: ignore[dict-item]
        elsewhere = token_for(face, item.target, source=Endpoint("9.8.7.5", 5555))
        assert error_code(put(face, item, {b"token": elsewhere})) == 203  # type: ignore[dict-item]

    def test_an_answer_with_the_largest_item_passes_any_path(self) -> None:
        for family, source in ((IPV4, ASKER), (IPV6, Endpoint("2a01:7::7", 5555))):
            face = face_of(nodes=60, family=family)
            item = MutableItem.sign(KEYS, bytes(995), (1 << 63) - 1)
            returned(put(face, item, source=source))
            face.receive(
                encode({b"a": {b"id": SENDER, b"target": item.target}, b"q": b"get", b"t": b"tran", b"y": b"q"}),
                source,
                1.0,
            )
            size = max(len(data) for data, to in face.outgoing())
            assert 1_300 < size <= 1_400

    def test_700_items_and_a_tenth_for_one_network(self) -> None:
        face = face_of()
        codes = []
        for n in range(MAX_ITEMS_PER_NETWORK + 30):
            message = put(face, ImmutableItem.of(n))
            assert message is not None
            codes.append(message[b"y"])
        assert codes == [b"r"] * MAX_ITEMS_PER_NETWORK + [b"e"] * 30
        local = face_of(allow_local=True)
        for n in range(MAX_ITEMS + 100):
            put(local, ImmutableItem.of(n), source=Endpoint("127.0.0.1", 5555))
        kept = [n for n in range(MAX_ITEMS + 100) if b"v" in get(local, ImmutableItem.of(n).target)]
        # Beyond the cap the nearest stay.
        own = int.from_bytes(local.node_id, "big")
        targets = sorted(range(MAX_ITEMS + 100), key=lambda n: int.from_bytes(ImmutableItem.of(n).target, "big") ^ own)
        assert kept == sorted(targets[:MAX_ITEMS])


def announce(face: Face, count: int, *, seeds: int = 0, first: int = 0) -> None:
    for index in range(first, first + count):
        source = Endpoint(f"30.{index >> 8}.{index & 255}.1", 6881)
        token = returned(ask(face, b"get_peers", {b"info_hash": HASH}, source=source))[b"token"]
        seed: dict[bytes, Encodable] = {b"seed": 1} if index < seeds else {}
        arguments: dict[bytes, Encodable] = {b"info_hash": HASH, b"port": 5000, b"token": token, **seed}  # type: ignore[dict-item]
        returned(ask(face, b"announce_peer", arguments, source=source))


def scrape(face: Face, **more: Encodable) -> dict[bytes, Value]:
    arguments: dict[bytes, Encodable] = {b"info_hash": HASH, b"scrape": 1}
    return returned(ask(face, b"get_peers", arguments | {key.encode(): value for key, value in more.items()}))


class TestScrape:
    def test_seeds_are_told_apart(self) -> None:
        face = face_of(nodes=30)
        announce(face, 60, seeds=20)
        answer = scrape(face)
        for key, first, last in ((b"BFsd", 0, 20), (b"BFpe", 20, 60)):
            expected = BloomFilter()
            expected.update(bytes([30, n >> 8, n & 255, 1]) for n in range(first, last))
            assert answer[key] == expected.to_bytes()
        assert length(answer[b"nodes"]) == 8 * 26
        assert {b"token", b"values"} <= set(answer)

    def test_an_unknown_torrent_has_no_filters(self) -> None:
        assert set(scrape(face_of(nodes=3))) == {b"id", b"nodes", b"token"}

    def test_without_scrape_there_are_none(self) -> None:
        face = face_of()
        announce(face, 3)
        assert b"BFsd" not in returned(ask(face, b"get_peers", {b"info_hash": HASH}))
        assert b"BFsd" not in returned(ask(face, b"get_peers", {b"info_hash": HASH, b"scrape": 0}))

    def test_noseed_leaves_seeds_out(self) -> None:
        face = face_of()
        announce(face, 12, seeds=8)
        answer = returned(ask(face, b"get_peers", {b"info_hash": HASH, b"noseed": 1}))
        values = answer[b"values"]
        assert isinstance(values, list)
        assert {value[:4] for value in values if isinstance(value, bytes)} == {
            bytes([30, 0, n, 1]) for n in range(8, 12)
        }

    @pytest.mark.parametrize("want", [[], [b"n4", b"n6"]])
    def test_no_answer_is_larger_than_1024_bytes(self, want: list[bytes]) -> None:
        face = face_of(nodes=60)
        ipv6 = face._dht.add_face(IPV6, None, 0.0)
        fill(ipv6, 60)
        announce(face, 100)
        arguments: dict[bytes, Encodable] = {b"id": SENDER, b"info_hash": HASH, b"scrape": 1, b"want": want}
        face.receive(encode({b"a": arguments, b"q": b"get_peers", b"t": b"aaaa", b"y": b"q"}), ASKER, 1.0)
        sizes = [len(data) for data, to in face.outgoing() if to == ASKER]
        assert 900 < max(sizes) <= 1_024

    def test_who_lost_his_place_is_still_counted_for_his_time(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        for n in range(2_000):
            store.add(HASH, bytes([9, 1, n >> 8, n & 255, 1, 1]), 0.0, seed=n % 4 == 0)
        assert store.peers == MAX_PEERS_PER_TORRENT
        filters = store.filters(HASH, 1.0)
        assert filters is not None
        seeds, others = (each.estimate for each in filters)
        assert abs(seeds.size - 500) < 4 * seeds.error
        assert abs(others.size - 1_500) < 4 * others.error
        assert store.filters(HASH, PEER_LIFE_S + 1) is None

    def test_above_6000_no_token_is_given_until_they_are_gone(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        told_off = None
        for n in range(8_000):
            if not store.accepts(HASH):
                told_off = n
                break
            store.add(HASH, bytes([9, n >> 8, n & 255, 1, 1, 1]), 0.0)
        assert told_off is not None
        assert 5_400 < told_off < 6_600
        store.add(HASH, bytes([9, 200, 200, 1, 1, 1]), PEER_LIFE_S - 1)
        store.sweep(PEER_LIFE_S + 1)
        store.sweep(2 * PEER_LIFE_S - 2)
        assert store.accepts(HASH)

    def test_an_address_is_one_peer_whose_port_and_role_may_change(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        for n in range(MAX_PEERS_PER_TORRENT):
            store.add(HASH, bytes([9, 1, n >> 8, n & 255, 1, 1]), 0.0)
        for port in range(1_000):
            store.add(HASH, bytes([66, 6, 6, 6]) + port.to_bytes(2, "big"), 1.0, seed=port < 999)
        peers = store.peers_of(HASH, 2.0)
        assert [peer for peer in peers if peer.host == "66.6.6.6"] == [Endpoint("66.6.6.6", 999)]
        assert len(peers) == MAX_PEERS_PER_TORRENT
        filters = store.filters(HASH, 2.0)
        assert filters is not None
        assert filters[0].estimate.size == 0  # it is no seed any more
        six = PeerStore(IPV6, random.Random(1))
        for port in (1, 2):
            six.add(HASH, Endpoint("2a02::5", port).compact(), 0.0)
        assert six.peers_of(HASH, 1.0) == [Endpoint("2a02::5", 2)]

    def test_a_local_address_may_be_many(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        for port in range(1, 9):
            store.add(HASH, Endpoint("127.0.0.1", port).compact(), 0.0)
        assert len(store.peers_of(HASH, 1.0)) == 8

    def test_nodes_that_only_name_peers_are_counted_too(self) -> None:
        def answer(**returned: Encodable) -> Answer:
            parts = {key.encode(): value for key, value in returned.items()}
            message = parse(encode({b"r": {b"id": SENDER, **parts}, b"t": b"aaaa", b"y": b"r"}))
            assert isinstance(message, Answer)
            return message

        seeds = BloomFilter()
        seeds.add(bytes([30, 0, 0, 1]))
        gather = ScrapeGather()
        gather.take(answer(values=[bytes([30, 0, n, 1, 1, 1]) for n in range(4)]), ASKER)
        gather.take(answer(values=[bytes([30, 0, n, 1, 1, 9]) for n in range(4)]), ASKER)  # the same, by other ports
        gather.take(answer(BFsd=seeds.to_bytes(), BFpe=bytes(256)), ASKER)
        gather.take(answer(nodes=b""), ASKER)
        size = gather.size
        assert [round(each.size) for each in (size.seeds, size.downloaders, size.total)] == [1, 3, 4]
        assert size.nodes == 3


class TestSamples:
    def torrents(self, count: int) -> Face:
        face = face_of(nodes=60)
        for n in range(count):
            face.responder._store.add(n.to_bytes(20, "big"), bytes([9, 9, 9, 9, 1, 1]), 0.0)
        return face

    def sample(self, face: Face, now: float = 1.0) -> dict[bytes, Value]:
        return returned(ask(face, b"sample_infohashes", {b"target": HASH}, now=now))

    def test_an_empty_store_says_so(self) -> None:
        answer = self.sample(self.torrents(0))
        assert (answer[b"samples"], answer[b"num"], answer[b"interval"]) == (b"", 0, 0)
        assert length(answer[b"nodes"]) == 8 * 26

    def test_a_small_store_is_shown_whole(self) -> None:
        answer = self.sample(self.torrents(12))
        assert (length(answer[b"samples"]), answer[b"num"], answer[b"interval"]) == (12 * 20, 12, 0)

    def test_a_large_one_in_part_and_another_part_after_the_interval(self) -> None:
        face = self.torrents(500)
        first = self.sample(face)
        assert (length(first[b"samples"]), first[b"num"], first[b"interval"]) == (SAMPLES * 20, 500, 21_600)
        again = self.sample(face, 1_000.0)
        assert (again[b"samples"], again[b"interval"]) == (first[b"samples"], 21_600 - 999)

    def test_its_size_is_kept(self) -> None:
        face = self.torrents(500)
        fill(face._dht.add_face(IPV6, None, 0.0), 60)
        arguments: dict[bytes, Encodable] = {b"id": SENDER, b"target": HASH, b"want": [b"n4", b"n6"]}
        query = encode({b"a": arguments, b"q": b"sample_infohashes", b"t": b"aaaa", b"y": b"q"})
        face.receive(query, ASKER, 1.0)
        assert 900 < max(len(data) for data, to in face.outgoing() if to == ASKER) <= min(1_024, 10 * len(query))
