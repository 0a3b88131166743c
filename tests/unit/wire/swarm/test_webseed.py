"""Web seeds without I/O: URLs, what answers mean, and which blocks are asked for in one go (BEP 19)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import accumulate

import pytest

from wire.bencode import Value, encode
from wire.bitfield import Bitfield
from wire.metainfo import Info
from wire.peer.messages import BLOCK_BYTES as B
from wire.swarm.exchange import Exchange
from wire.swarm.pieces import BlockId
from wire.swarm.requests import MAX_UNPROVEN
from wire.swarm.webseed import MAX_REQUEST_BYTES, Refusal, Stretch, WebSeed, blocks_of, file_urls, judge, stretches
from wire.swarm.webtrade import MAX_URLS, MAX_WEB_SEEDS, WebTrade

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def info_of(files: list[dict[bytes, Value]] | None, name: bytes = b"top dir", length: int = 5) -> Info:
    size = length if files is None else sum(int(item[b"length"]) for item in files)  # type: ignore[call-overload]
    items: dict[bytes, Value] = {b"name": name, b"piece length": 4 * B, b"pieces": bytes(20) * -(-size // (4 * B))}
    items |= {b"length": length} if files is None else {b"files": files}
    return Info.from_bytes(encode({key: items[key] for key in sorted(items)}))


def file(*path: bytes, length: int = 1, **more: bytes) -> dict[bytes, Value]:
    return {**{k.encode(): v for k, v in more.items()}, b"length": length, b"path": list(path)}


def test_the_urls_of_one_file() -> None:
    info = info_of(None, "é&.bin".encode())
    assert file_urls(info, "http://w/dir/") == ["http://w/dir/%C3%A9%26.bin"]
    assert file_urls(info, "http://w/other.bin") == ["http://w/other.bin"]


def test_the_urls_of_many_files_are_root_name_and_path_percent_encoded() -> None:
    info = info_of([file(b"a b", b"c?.txt"), {b"attr": b"p", **file(b".pad", b"1")}, file(b"x:y")])
    urls = ["http://w/r/top%20dir/a%20b/c%3F.txt", None, "http://w/r/top%20dir/x%3Ay"]
    assert file_urls(info, "http://w/r/") == urls
    assert file_urls(info, "http://w/r") == urls


def test_names_go_out_as_the_torrent_has_them_not_as_disks_do() -> None:
    raw = b"caf\xe9\x07/x"
    info = info_of([file(raw)])
    assert file_urls(info, "http://w/") == ["http://w/top%20dir/caf%E9%07%2Fx"]
    assert info.files[0].path[-1] != raw.decode("latin-1")


def test_blocks_in_a_row_are_one_stretch() -> None:
    blocks = [(4, 0, 7), (1, 0, B), (2, 0, B), (0, B, B)]
    assert stretches(blocks, 2 * B) == [
        Stretch(8 * B, 7),
        Stretch(B, 2 * B),
        Stretch(4 * B, B),
    ], "what was asked for first comes first"
    assert [found.offset for found in stretches([(3, 0, B), (2, 0, B), (4, 0, B)], B)] == [3 * B, 2 * B]
    blocks = [(3, B, B), (3, 0, B), (4, 0, B), (2, 0, B), (2, B, B)]
    assert [(found.offset, found.length) for found in stretches(blocks, 2 * B)] == [(6 * B, 3 * B), (4 * B, 2 * B)]
    runs = [(7, 0, 2 * B), (5, B, B), (6, 0, 2 * B), (8, 0, 9)]
    assert stretches(runs, 2 * B) == [Stretch(14 * B, 2 * B + 9), Stretch(11 * B, 3 * B)], "also where runs are told"
    assert stretches([], B) == []


@pytest.mark.parametrize("piece_length", [4 * B, 3 * B + 5, 1000])
def test_the_blocks_of_a_stretch_begin_anew_in_each_piece(piece_length: int) -> None:
    size = 3 * piece_length - 7
    blocks = list(blocks_of(0, size, piece_length))
    assert [index * piece_length + begin for index, begin, _ in blocks[1:]] == list(
        accumulate(length for _, _, length in blocks[:-1])
    )
    assert sum(length for _, _, length in blocks) == size
    assert all(begin % B == 0 and length <= B for _, begin, length in blocks)
    assert list(blocks_of(piece_length, 2 * piece_length, piece_length)) == [one for one in blocks if one[0] == 1]


def refused(status: int, **headers: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        judge(status, {k.replace("_", "-"): v for k, v in headers.items()}, 100, 50, 1000, NOW)
    return caught.value


def test_a_range_as_it_was_asked_for_or_the_whole_file() -> None:
    said = {"content-range": "bytes 100-149/1000"}
    assert judge(206, said, 100, 50, 1000, NOW) == 0
    assert judge(206, {"content-range": "bytes 100-120/*"}, 100, 50, 1000, NOW) == 0, "less at a time may be"
    assert judge(200, {"content-length": "1000"}, 100, 50, 1000, NOW) == 100
    assert judge(200, {}, 0, 1000, 1000, NOW) == 0


@pytest.mark.parametrize(
    "said",
    ["", "bytes 100-149/1001", "bytes 0-149/1000", "bytes 100-150/1000", "bytes 100-99/1000", "bytes 101-149/1000",
     "bytes */1000", "bytes 100-149/1000 ,", "bytes ٣00-149/1000", "bytes 1e2-149/1000", "x" * 100_000],
)  # fmt: skip
def test_another_range_or_another_file_is_never_taken(said: str) -> None:
    assert refused(206, content_range=said).lasting


def test_what_lasts_and_what_passes() -> None:
    assert refused(200, content_length="999").lasting
    assert refused(200, content_encoding="gzip").lasting
    assert refused(404).lasting
    assert refused(416).lasting
    for status in (408, 429, 500, 503):
        assert not refused(status).lasting
    assert refused(503, retry_after="7").retry_s == 7.0
    assert refused(503, retry_after="Thu, 01 Jan 2026 00:01:00 GMT").retry_s == 60.0
    assert refused(503, retry_after="Thu, 01 Jan 1970 00:00:00 GMT").retry_s == 1.0
    assert refused(429, retry_after="9" * 40).retry_s == 3600.0
    for nonsense in ("soon", "-1", "", "99999999999999 Jan", "Thu, 99 Foo 2026 00:01:00 GMT"):
        assert refused(503, retry_after=nonsense).retry_s is None


def test_a_seed_rests_longer_and_longer() -> None:
    seed = WebSeed(info_of(None), "http://w/", 0.0)
    rests = []
    for _ in range(9):
        seed.rest("away", 1000.0)
        rests.append(seed.rests_until - 1000.0)
    assert rests == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    seed.worked()
    seed.rest("busy", 0.0, 77.0)
    assert seed.rests_until == 77.0


PIECE = 4 * B


def exchange_of(pieces: int, have: list[int] | None = None) -> tuple[Exchange, WebTrade, bytes]:
    data = random.Random(1).randbytes(pieces * PIECE - 5)
    hashes = b"".join(hashlib.sha1(data[at : at + PIECE]).digest() for at in range(0, len(data), PIECE))
    info = Info.from_bytes(encode({b"length": len(data), b"name": b"f", b"piece length": PIECE, b"pieces": hashes}))
    exchange = Exchange(
        info, Bitfield.of(pieces, have or []), None, rng=random.Random(1), slots=4, super_seed=False, dirty={}, now=0.0
    )
    return exchange, exchange.web, data


def within(found: Iterable[Stretch]) -> list[BlockId]:
    return [block for one in found for block in blocks_of(one.offset, one.offset + one.length, PIECE)]


def give(exchange: Exchange, seed: WebSeed, data: bytes, blocks: list[Stretch], now: float) -> None:
    part = memoryview(data)
    exchange.web.received(seed, [(i, b, part[i * PIECE + b : i * PIECE + b + n]) for i, b, n in within(blocks)], now)
    for job in exchange.jobs():
        right = hashlib.sha1(job.data).digest() == exchange.info.piece_hash(job.index)
        exchange.piece_stored(job.index, right, now)


def test_it_is_asked_for_runs_and_for_little_until_it_has_proved_itself() -> None:
    exchange, trade, data = exchange_of(200)
    (seed,) = trade.add(["http://w/"], 0.0)
    first = trade.ask(seed, 0.0)
    assert len(first) == 1, "neighbouring pieces are one request"
    rest = trade.ask(seed, 0.0)
    assert len(within(first + rest)) <= 3 * 4, "three pieces at most until one of them was right"
    give(exchange, seed, data, first + rest, 1.0)
    seed.source.depth = 10_000
    many = trade.ask(seed, 1.0)
    assert len(many) <= 3
    assert 20 * PIECE < sum(one.length for one in many) <= MAX_REQUEST_BYTES
    give(exchange, seed, data, many, 2.0)
    for at in range(400):
        give(exchange, seed, data, trade.ask(seed, 2.0 + at), 2.0 + at)
        if exchange.finished:
            break
    assert exchange.finished
    assert exchange.hash_failures == exchange.wasted_bytes == 0


def test_only_pieces_that_nobody_fetches() -> None:
    _, trade, _ = exchange_of(10, have=[0, 1, 2, 3])
    one, two = trade.add(["http://w/", "http://x/"], 0.0)
    one.source.proven = two.source.proven = True
    asked = [block for seed in (one, two, one, two, one, two) for block in within(trade.ask(seed, 0.0))]
    assert len(asked) == len(set(asked))
    assert min(index for index, _, _ in asked) == 4


def test_a_wrong_piece_is_the_end_of_its_url_and_what_it_gave_is_not_believed() -> None:
    exchange, trade, data = exchange_of(10)
    liar, honest = trade.add(["http://w/", "http://x/"], 0.0)
    wrong = bytes(len(data))
    give(exchange, liar, wrong, trade.ask(liar, 0.0), 0.0)
    assert liar.given_up
    assert liar.reason is not None
    assert "wrong data" in liar.reason
    assert trade.ask(liar, 1e9) == []
    for at in range(100):
        give(exchange, honest, data, trade.ask(honest, float(at)), float(at))
    assert exchange.finished
    assert not honest.given_up


def test_of_a_piece_that_is_not_whole_a_liars_part_is_fetched_anew() -> None:
    exchange, trade, data = exchange_of(3)
    liar, honest = trade.add(["http://w/", "http://x/"], 0.0)
    blocks = sorted(within(trade.ask(liar, 0.0)))
    first = [block for block in blocks if block[0] == blocks[0][0]]
    part = next(block for block in blocks if block[0] != first[0][0])
    for index, begin, length in (part, *first):
        trade.received(liar, [(index, begin, memoryview(bytes(length)))], 0.0)
    (job,) = exchange.jobs()
    exchange.piece_stored(job.index, False, 0.0)
    assert liar.given_up
    for at in range(50):
        give(exchange, honest, data, trade.ask(honest, float(at)), float(at))
    assert exchange.finished
    assert exchange.hash_failures == 1


def test_a_server_that_is_away_rests_and_its_blocks_are_free_for_others() -> None:
    _, trade, _ = exchange_of(2)
    one, two = trade.add(["http://w/", "http://x/"], 0.0)
    asked = set(within(trade.ask(one, 0.0) + trade.ask(one, 0.0)))
    trade.failed(one, Refusal("the server says 503", retry_s=30.0), 0, 1.0)
    assert trade.ask(one, 30.0) == []
    assert asked <= {block for _ in range(9) for block in within(trade.ask(two, 2.0))}
    trade.pause(two)
    assert trade.ask(one, 31.0)


def test_a_file_that_is_not_there_is_not_asked_for_again() -> None:
    info = info_of([file(b"a", length=8 * B), file(b"b", length=8 * B), file(b"c", length=8 * B)])
    exchange = Exchange(info, Bitfield(6), None, rng=random.Random(1), slots=4, super_seed=False, dirty={}, now=0.0)
    (seed,) = exchange.web.add(["http://w/"], 0.0)
    seed.source.proven = True
    exchange.web.failed(seed, Refusal("the server says 404", lasting=True), 1, 0.0)
    asked = {index for _ in range(9) for index, _, _ in within(exchange.web.ask(seed, 0.0))}
    assert asked == {0, 1, 4, 5}
    assert not seed.given_up
    for other in (0, 2):
        exchange.web.failed(seed, Refusal("the server says 404", lasting=True), other, 0.0)
    assert seed.given_up


def test_three_work_at_once_and_hostile_lists_are_cut() -> None:
    _, trade, _ = exchange_of(100)
    seeds = trade.add([f"http://w{n}/" for n in range(5000)], 0.0)
    assert len(seeds) == MAX_URLS
    working = [seed for seed in seeds if trade.ask(seed, 0.0)]
    assert len(working) == MAX_WEB_SEEDS
    trade.failed(working[0], Refusal("away"), 0, 0.0)
    assert len([seed for seed in seeds[3:] if trade.ask(seed, 0.0)]) == 1
    assert trade.add(["http://w1/"], 0.0) == []


def test_what_is_needed_now_breaks_a_long_request_off() -> None:
    exchange, trade, _ = exchange_of(100)
    (seed,) = trade.add(["http://w/"], 0.0)
    seed.source.proven = True
    seed.source.depth = 100
    (stretch,) = trade.ask(seed, 0.0)
    trade.ask(seed, 0.0)
    taken = {key >> 32 for key in seed.source.asked}
    needed = next(index for index in range(100) if index not in taken)
    exchange.set_deadlines({needed: 0.5}, 0.0)
    assert not trade.awaits(seed, stretch.offset, stretch.offset + stretch.length)
    assert trade.ask(seed, 0.0)[0].offset == needed * PIECE


@pytest.mark.parametrize(("place", "is_asked_anew"), [(1, False), (25, True)])
def test_what_is_needed_and_comes_late_in_a_request_is_asked_for_anew(place: int, is_asked_anew: bool) -> None:
    exchange, trade, data = exchange_of(200)
    (seed,) = trade.add(["http://w/"], 0.0)
    give(exchange, seed, data, trade.ask(seed, 0.0), 0.0)  # from now on it is believed
    seed.source.depth = 400
    seed.source.meter.rate = 40.0 * PIECE
    found = trade.ask(seed, 1.0)
    pieces = list(dict.fromkeys(index for index, _, _ in within(found)))
    exchange.set_deadlines({pieces[place]: 1.0}, 1.0)
    is_awaited = any(trade.awaits(seed, one.offset, one.offset + one.length) for one in found)
    assert is_awaited is not is_asked_anew
    if is_asked_anew:
        assert trade.ask(seed, 1.0)[0].offset == pieces[place] * PIECE


def test_who_sends_whole_files_is_waited_for_while_nothing_of_it_is_judged() -> None:
    exchange, trade, data = exchange_of(20)
    (seed,) = trade.add(["http://w/"], 0.0)
    assert trade.next_whole(seed, 0.0) == 0
    for index in range(MAX_UNPROVEN):
        assert not trade.must_prove(seed)
        assert trade.claim(seed, index, 0.0)
        blocks = [(index, begin, memoryview(data)[index * PIECE + begin :][:B]) for begin in range(0, PIECE, B)]
        trade.received(seed, blocks, 0.0)
    assert trade.must_prove(seed)
    exchange.piece_stored(exchange.jobs()[0].index, True, 0.0)
    assert not trade.must_prove(seed)
