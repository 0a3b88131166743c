from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from wire.errors import MisuseError
from wire.ids import InfoHash
from wire.peer.metadata import FetchEvent, MetadataFetch, MetadataFetched, MetadataPeerFailed, MetadataServe

BLOCK = 16384
RAW = random.Random(9).randbytes(5 * BLOCK + 100)
INFO_HASH = InfoHash(v1=hashlib.sha1(RAW).digest(), v2=hashlib.sha256(RAW).digest())
WRONG = bytes(len(RAW))

Answer = Callable[[int], bytes | None]
"""A peer's manner: the block it sends, None for a reject; `SILENT` does not answer."""


def honest(piece: int) -> bytes | None:
    return RAW[piece * BLOCK : (piece + 1) * BLOCK]


def liar(piece: int) -> bytes | None:
    return WRONG[piece * BLOCK : (piece + 1) * BLOCK]


def lies_once(piece: int) -> bytes | None:
    return liar(piece) if piece == 3 else honest(piece)


def rejecter(piece: int) -> bytes | None:
    return None


def silent(piece: int) -> bytes | None:
    raise AssertionError("never called")


class Swarm:
    """Peers that answer in 0.1 s, each after its manner; time goes on by the fetch's own timers."""

    def __init__(self, manners: dict[str, Answer], info_hash: InfoHash = INFO_HASH) -> None:
        self.fetch: MetadataFetch[str] = MetadataFetch(info_hash)
        self.manners = manners
        self.now = 0.0
        self.raw: bytes | None = None
        self.lied: list[str] = []
        self.useless: list[str] = []
        self.requests: list[tuple[str, int]] = []
        for name in manners:
            assert self.fetch.offer(name, len(RAW), 0.0)

    def run(self, until: float) -> None:
        while not self.fetch.done:
            asked = self.fetch.assign(self.now)
            self.requests += asked
            answers = [(peer, piece) for peer, piece in asked if self.manners[peer] is not silent]
            if not answers:
                timer = self.fetch.next_timer()
                assert timer is None or timer > self.now
                if timer is None or timer > until:
                    return
                self.now = timer
                continue
            self.now += 0.1
            for peer, piece in answers:
                data = self.manners[peer](piece)
                if data is None:
                    self.take(self.fetch.reject(peer, piece, self.now))
                else:
                    self.take(self.fetch.data(peer, piece, len(RAW), data, self.now))

    def take(self, events: list[FetchEvent[str]]) -> None:
        for event in events:
            if isinstance(event, MetadataFetched):
                self.raw = event.raw
            else:
                (self.lied if event.lied else self.useless).append(event.peer)


def test_one_peer_two_blocks_at_a_time() -> None:
    swarm = Swarm({"a": honest})
    assert swarm.fetch.assign(0.0) == [("a", 0), ("a", 1)]
    assert swarm.fetch.assign(0.1) == []
    assert swarm.fetch.data("a", 1, len(RAW), RAW[BLOCK : 2 * BLOCK], 0.2) == []
    assert swarm.fetch.assign(0.2) == [("a", 2)]
    swarm = Swarm({"a": honest})
    swarm.run(1.0)
    assert swarm.raw == RAW
    assert swarm.fetch.done
    assert swarm.fetch.next_timer() is None
    assert swarm.fetch.assign(2.0) == []
    assert not swarm.fetch.offer("b", len(RAW), 2.0)


def test_several_peers_share_the_blocks() -> None:
    swarm = Swarm({"a": honest, "b": honest, "c": honest})
    swarm.run(1.0)
    assert swarm.raw == RAW
    assert sorted(swarm.requests) == [("a", 0), ("a", 1), ("b", 2), ("b", 3), ("c", 4), ("c", 5)]
    assert swarm.now == pytest.approx(0.1)


@pytest.mark.parametrize(
    "info_hash",
    [InfoHash(v1=INFO_HASH.v1), InfoHash(v2=INFO_HASH.v2), INFO_HASH],
)
def test_each_hash_that_is_known_must_match(info_hash: InfoHash) -> None:
    swarm = Swarm({"a": honest}, info_hash)
    swarm.run(1.0)
    assert swarm.raw == RAW
    assert info_hash.v1 is None or info_hash.v1 == INFO_HASH.v1
    for half_wrong in (InfoHash(v1=bytes(20), v2=INFO_HASH.v2), InfoHash(v1=INFO_HASH.v1, v2=bytes(32))):
        swarm = Swarm({"a": honest}, half_wrong)
        swarm.run(1.0)
        assert (swarm.raw, swarm.lied, swarm.fetch.hash_failures) == (None, ["a"], 1)


@pytest.mark.parametrize("size", [0, -1, (16 << 20) + 1, 1 << 40])
def test_sizes_that_are_not_believed(size: int) -> None:
    fetch: MetadataFetch[str] = MetadataFetch(INFO_HASH)
    assert not fetch.offer("a", size, 0.0)
    assert fetch.assign(0.0) == []
    assert fetch.next_timer() is None


def test_a_size_takes_no_memory_until_data_come() -> None:
    fetch: MetadataFetch[int] = MetadataFetch(INFO_HASH)
    for peer in range(100):
        assert fetch.offer(peer, 16 << 20, 0.0)
    assert len(fetch.assign(0.0)) == 200
    assert fetch._buffered == 0
    assert sum(len(lane.blocks) for lane in fetch._lanes.values()) == 0


def test_a_peer_that_sent_everything_wrong_alone_is_named_at_once() -> None:
    swarm = Swarm({"bad": liar})
    swarm.run(1.0)
    assert (swarm.raw, swarm.lied, swarm.fetch.hash_failures) == (None, ["bad"], 1)
    assert not swarm.fetch.offer("bad", len(RAW), 1.0)
    assert swarm.fetch.offer("good", len(RAW), 1.0)
    swarm.manners["good"] = honest
    swarm.run(2.0)
    assert swarm.raw == RAW


@pytest.mark.parametrize("bad", [liar, lies_once])
def test_of_several_the_liar_is_found_and_no_honest_one_blamed(bad: Answer) -> None:
    for order in (["bad", "a", "b"], ["a", "bad", "b"], ["a", "b", "bad"]):
        swarm = Swarm({name: bad if name == "bad" else honest for name in order})
        swarm.run(60.0)
        assert swarm.raw == RAW
        assert swarm.useless == []
        had_part = any(bad(piece) != honest(piece) for peer, piece in swarm.requests if peer == "bad")
        assert swarm.lied == (["bad"] if had_part else [])


def test_one_honest_among_twenty_bad_ones() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        manners: dict[str, Answer] = {f"bad{at}": rng.choice([liar, lies_once, rejecter, silent]) for at in range(20)}
        names = [*manners, "good"]
        rng.shuffle(names)
        swarm = Swarm({name: manners.get(name, honest) for name in names})
        swarm.run(30.0)
        assert swarm.raw == RAW, seed
        assert "good" not in swarm.lied + swarm.useless


@pytest.mark.parametrize("good_at", [0, 1, 10, 19, 20])
def test_one_honest_among_twenty_that_never_answer(good_at: int) -> None:
    """After each three seconds twice as many are asked: who is silent cannot make the others wait for their turn."""
    names = [f"bad{at}" for at in range(20)]
    names.insert(good_at, "good")
    swarm = Swarm({name: honest if name == "good" else silent for name in names})
    swarm.run(16.0)
    assert swarm.raw == RAW
    assert swarm.lied == swarm.useless == []


def test_as_many_again_are_asked_for_a_block_as_were_in_vain() -> None:
    fetch: MetadataFetch[int] = MetadataFetch(INFO_HASH)
    for peer in range(40):
        fetch.offer(peer, 100, 0.0)
    counts = []
    for step in range(6):
        counts.append(len(fetch.assign(3.0 * step)))
        assert fetch.assign(3.0 * step + 1.0) == []
    assert counts == [1, 1, 2, 4, 8, 16]


def test_only_some_tries_go_on_side_by_side() -> None:
    fetch: MetadataFetch[int] = MetadataFetch(INFO_HASH)
    for peer in range(20):
        fetch.offer(peer, 100 + peer, 0.0)
    assert [peer for peer, _ in fetch.assign(0.0)] == [0, 1, 2, 3]
    assert fetch.next_timer() == 3.0
    assert fetch.assign(2.9) == []
    assert [peer for peer, _ in fetch.assign(3.0)] == [4, 5, 6, 7]


def test_who_rejects_makes_room_at_once() -> None:
    fetch: MetadataFetch[int] = MetadataFetch(INFO_HASH)
    for peer in range(20):
        fetch.offer(peer, 100 + peer, 0.0)
    asked = []
    while requests := fetch.assign(0.0):
        asked += [peer for peer, _ in requests]
        for peer, piece in requests:
            fetch.reject(peer, piece, 0.0)
    assert asked == list(range(20))


def test_liars_that_keep_everybody_waiting_cannot_hold_all_places() -> None:
    """Twenty that drip a block every two seconds, for a large size of their own each."""
    fetch: MetadataFetch[str] = MetadataFetch(INFO_HASH)
    for at in range(20):
        fetch.offer(f"slow{at}", (8 << 20) + at, 0.0)
    fetch.offer("good", len(RAW), 0.0)
    pending: list[tuple[str, int]] = []
    now = 0.0
    while not fetch.done and now < 60.0:
        for peer, piece in pending:
            if peer == "good":
                fetch.data(peer, piece, len(RAW), honest(piece) or b"", now)
            else:
                fetch.data(peer, piece, None, bytes(BLOCK), now)
        pending = fetch.assign(now)
        now += 2.0
    assert fetch.done
    assert now <= 45.0


def test_a_block_is_asked_again_elsewhere_after_three_seconds_not_before() -> None:
    swarm = Swarm({"a": silent})
    fetch = swarm.fetch
    assert fetch.assign(0.0) == [("a", 0), ("a", 1)]
    fetch.offer("b", len(RAW), 1.0)
    assert fetch.assign(1.0) == [("b", 2), ("b", 3)]
    fetch.data("b", 2, None, RAW[2 * BLOCK : 3 * BLOCK], 1.1)
    fetch.data("b", 3, None, RAW[3 * BLOCK : 4 * BLOCK], 1.1)
    assert fetch.assign(1.1) == [("b", 4), ("b", 5)]
    fetch.data("b", 4, None, RAW[4 * BLOCK : 5 * BLOCK], 1.2)
    fetch.data("b", 5, None, RAW[5 * BLOCK :], 1.2)
    assert fetch.assign(1.2) == []
    assert fetch.next_timer() == 3.0
    assert fetch.assign(2.9) == []
    assert fetch.assign(3.0) == [("b", 0), ("b", 1)]
    fetch.data("b", 0, None, RAW[:BLOCK], 3.1)
    # the slow one may still answer, once
    assert fetch.data("a", 0, None, WRONG[:BLOCK], 3.2) == []
    assert fetch.data("a", 1, None, RAW[BLOCK : 2 * BLOCK], 3.2) == [MetadataFetched(RAW)]


def test_who_does_not_answer_is_left_alone_then_tried_again() -> None:
    fetch = Swarm({"a": silent}).fetch
    fetch.assign(0.0)
    times = []
    for _ in range(20):
        now = fetch.next_timer()
        assert now is not None
        if fetch.assign(now):
            times.append(now)
    assert times[:2] == [50.0, 100.0]


def test_who_rejects_is_left_alone_then_given_up() -> None:
    swarm = Swarm({"a": rejecter})
    swarm.run(29.0)
    assert swarm.requests == [("a", 0), ("a", 1)]
    assert swarm.fetch.rejects == 2
    swarm.run(1000.0)
    assert swarm.useless == ["a"]
    assert swarm.lied == []
    assert len(swarm.requests) == 6
    assert swarm.fetch.next_timer() is None


def test_who_had_no_metadata_at_first_may_send_it_later() -> None:
    swarm = Swarm({"a": rejecter})
    swarm.run(10.0)
    swarm.manners["a"] = honest
    swarm.run(100.0)
    assert swarm.raw == RAW


def test_what_was_not_asked_for_is_ignored() -> None:
    fetch = Swarm({"a": honest}).fetch
    fetch.assign(0.0)
    assert fetch.data("a", 5, None, RAW[5 * BLOCK :], 0.1) == []
    assert fetch.data("stranger", 0, None, RAW[:BLOCK], 0.1) == []
    assert fetch.reject("a", 4, 0.1) == []
    assert fetch.reject("stranger", 0, 0.1) == []
    assert fetch.data("a", 0, None, RAW[:BLOCK], 0.1) == []
    assert fetch.data("a", 0, None, b"", 0.1) == []
    assert fetch._buffered == BLOCK
    assert fetch.rejects == 0


@pytest.mark.parametrize("data", [b"", RAW[: BLOCK - 1], RAW[: BLOCK + 1]])
def test_a_block_of_another_length_is_a_lie(data: bytes) -> None:
    swarm = Swarm({"a": honest})
    swarm.fetch.assign(0.0)
    swarm.take(swarm.fetch.data("a", 0, len(RAW), data, 0.1))
    assert swarm.lied == ["a"]


def test_sizes_that_contradict_each_other_end_it_without_a_charge() -> None:
    swarm = Swarm({"a": honest})
    swarm.fetch.assign(0.0)
    swarm.take(swarm.fetch.data("a", 0, len(RAW) + 1, RAW[:BLOCK], 0.1))
    assert (swarm.useless, swarm.lied) == (["a"], [])
    swarm = Swarm({"a": honest})
    assert swarm.fetch.offer("a", len(RAW), 1.0)
    assert not swarm.fetch.offer("a", len(RAW) + 1, 1.0)
    assert swarm.fetch.assign(1.0) == []


def test_each_size_is_a_try_of_its_own() -> None:
    swarm = Swarm({"a": honest, "b": honest})
    swarm.fetch.offer("big", len(RAW) * 2, 0.0)
    swarm.fetch.offer("small", 10, 0.0)
    swarm.manners |= {"big": silent, "small": silent}
    swarm.run(1.0)
    assert swarm.raw == RAW


def test_a_peer_that_leaves_keeps_nobody_waiting() -> None:
    swarm = Swarm({"a": silent, "b": honest})
    fetch = swarm.fetch
    fetch.assign(0.0)
    fetch.gone("a")
    fetch.gone("a")
    for piece in (2, 3):
        fetch.data("b", piece, None, RAW[piece * BLOCK : (piece + 1) * BLOCK], 0.1)
    assert fetch.assign(0.1) == [("b", 0), ("b", 1)]


def test_memory_stays_within_twice_the_limit() -> None:
    limit = 64 * BLOCK
    fetch: MetadataFetch[int] = MetadataFetch(INFO_HASH, max_bytes=limit)
    for peer in range(40):
        assert fetch.offer(peer, limit - peer, 0.0)
    now = 0.0
    for _ in range(2000):
        now += 0.5
        for peer, piece in fetch.assign(now):
            if piece < 60:  # never the whole
                fetch.data(peer, piece, None, bytes(BLOCK), now)
        held = sum(len(block) for lane in fetch._lanes.values() for block in lane.blocks.values())
        assert held == fetch._buffered <= 2 * limit + 80 * BLOCK
    assert fetch._buffered > limit


def test_serving_gives_the_blocks_and_nothing_beyond() -> None:
    serve = MetadataServe(RAW)
    assert serve.size == len(RAW)
    blocks = [serve.block(piece) for piece in range(6)]
    assert b"".join(block or b"" for block in blocks) == RAW
    for piece in (6, -1, 1 << 40):
        assert serve.block(piece) is None
    with pytest.raises(MisuseError):
        MetadataServe(b"")


def test_failures_compare_and_are_not_remembered_for_ever() -> None:
    fetch: MetadataFetch[int] = MetadataFetch(InfoHash(v1=bytes(20)))
    for peer in range(1100):
        fetch.offer(peer, 10, 0.0)
        assert fetch.assign(0.0) == [(peer, 0)]
        (event,) = fetch.data(peer, 0, None, bytes(10), 0.0)
        assert isinstance(event, MetadataPeerFailed)
        assert event.lied
    assert not fetch.offer(1099, 10, 0.0)
    assert fetch.offer(0, 10, 0.0)
