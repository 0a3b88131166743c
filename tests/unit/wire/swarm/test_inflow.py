"""Bytes of a stretch, put to where their blocks belong however they are cut, and whatever others do meanwhile."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.swarm.test_webseed import PIECE, exchange_of
from wire.bencode import encode
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.metainfo import Info
from wire.peer.messages import BLOCK_BYTES as B
from wire.swarm.exchange import Exchange
from wire.swarm.inflow import Inflow
from wire.swarm.source import Source
from wire.swarm.webseed import Stretch, WebSeed
from wire.swarm.webtrade import MAX_PLACES


def everything(exchange: Exchange, piece_length: int = PIECE) -> tuple[WebSeed, Inflow]:
    """A web seed that is believed and asked for all there is, in one request."""
    (seed,) = exchange.web.add(["http://w/"], 0.0)
    seed.source.proven = True
    seed.source.depth = seed.source.limit = 1 << 20
    found = exchange.web.ask(seed, 0.0)
    while more := exchange.web.ask(seed, 0.0):
        found += more
    assert sum(one.length for one in found) == exchange.info.size
    return seed, Inflow(exchange.web, seed, Stretch(0, exchange.info.size), piece_length, lambda: 1.0)


def put(inflow: Inflow, data: bytes) -> int:
    """As the kernel does: fills the places with what is there."""
    count = 0
    for place in inflow.places(len(data)):
        place[:] = data[count : count + len(place)]
        count += len(place)
    inflow.came(count)
    return count


cuts = st.lists(st.tuples(st.integers(1, 3 * PIECE) | st.integers(1, 50), st.booleans()), max_size=40)


@given(cuts)
def test_however_they_are_cut_all_pieces_come_right(cuts: list[tuple[int, bool]]) -> None:
    exchange, _, data = exchange_of(6)
    seed, inflow = everything(exchange)
    at = 0
    for most, poured in [*cuts, (len(data), True)]:
        if at == len(data):
            break
        assert not inflow.is_over
        assert inflow.is_awaited
        if poured:
            part = data[at : at + most]
            inflow.pour(part)
            at += len(part)
        else:
            at += put(inflow, data[at : at + most])
    if at < len(data):
        inflow.pour(data[at:] + b"beyond")
    assert inflow.is_over
    assert not inflow.is_awaited
    jobs = exchange.jobs()
    assert [bytes(job.data) for job in jobs] == [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    assert seed.source.meter.total == exchange.down.total == len(data)
    assert not seed.source.asked
    assert exchange.wasted_bytes == 0


def test_one_read_reaches_as_far_as_it_may_and_no_further() -> None:
    exchange, _, data = exchange_of(6)
    _, inflow = everything(exchange)
    assert [len(place) for place in inflow.places(2 * PIECE + 1)] == [PIECE, PIECE, 1]
    inflow.came(B + 10)
    assert [len(place) for place in inflow.places(7)] == [7]
    assert sum(map(len, inflow.places(1 << 40))) == len(data) - B - 10


def test_what_a_read_ended_in_is_no_ones_place_until_the_next() -> None:
    exchange, _, data = exchange_of(2)
    _, inflow = everything(exchange)
    put(inflow, data[: B + 100])
    piece = exchange._requests._open[0]
    assert piece.view is not None
    piece.view[B : B + 100] = b"#" * 100  # as one does who was asked for the same, and whose read ended in it too
    inflow.pour(data[B + 100 :])
    assert b"".join(bytes(job.data) for job in exchange.jobs()) == data


@pytest.mark.parametrize("begun", [False, True])
def test_a_block_that_a_peer_gave_meanwhile_is_not_written_again(begun: bool) -> None:
    exchange, _, data = exchange_of(2)
    seed, inflow = everything(exchange)
    peer = Source(Endpoint("80.0.0.1", 1), 0.0)
    requests = exchange._requests
    requests.join(peer)
    piece = requests._open[0]
    at = put(inflow, data[: B + 100]) if begun else put(inflow, data[:B])
    piece.doubled[1] = [seed.source, peer]  # as the end game does
    peer.asked[B] = 0.0
    places = inflow.places(PIECE)
    assert sum(map(len, places)) == 2 * B - at, "the block alone, aside"
    requests.take(peer, 0, B, memoryview(data)[B : 2 * B], 1.0)
    for place in places:
        place[:] = b"#" * len(place)
    inflow.came(2 * B - at)
    assert exchange.wasted_bytes == B, "it was asked for, and came twice"
    inflow.pour(data[2 * B :])
    assert b"".join(bytes(job.data) for job in exchange.jobs()) == data


def test_what_was_asked_of_others_since_is_passed_over() -> None:
    exchange, trade, data = exchange_of(2)
    seed, inflow = everything(exchange)
    put(inflow, data[: B + 9])
    trade.pause(seed)
    seed.source.late.clear()
    assert not inflow.is_awaited
    inflow.pour(data[B + 9 :])
    assert inflow.is_over
    assert exchange.jobs() == []
    assert seed.source.meter.total == B


def test_what_is_late_is_taken_where_nobody_gave_it() -> None:
    exchange, trade, data = exchange_of(2)
    seed, inflow = everything(exchange)
    trade.pause(seed)
    inflow.pour(data)
    assert b"".join(bytes(job.data) for job in exchange.jobs()) == data
    assert exchange.wasted_bytes == 0


def test_pieces_of_any_length_and_no_more_places_than_a_system_takes() -> None:
    length = 1000
    data = random.Random(2).randbytes(3 * MAX_PLACES * length - 1)
    items = {b"length": len(data), b"name": b"f", b"piece length": length, b"pieces": bytes(20) * (3 * MAX_PLACES)}
    info = Info.from_bytes(encode(items))
    none = Bitfield(info.piece_count)
    exchange = Exchange(info, none, None, rng=random.Random(1), slots=4, super_seed=False, dirty={}, now=0.0)
    _, inflow = everything(exchange, length)
    assert len(inflow.places(len(data))) == MAX_PLACES
    at = 0
    while at < len(data):
        at += put(inflow, data[at : at + 700_001])
    assert b"".join(bytes(job.data) for job in exchange.jobs()) == data
