"""uTP on a path that does everything wrong at once, with clocks that disagree, and what is no sign of a full queue."""

from __future__ import annotations

import random

import pytest

from tests.sim.path import A, B, Path
from wire.compact import Endpoint
from wire.utp.connection import Ended, UtpConnection
from wire.utp.inbound import FIRST_BUFFER_BYTES, RECEIVE_BUFFER_BYTES
from wire.utp.mtu import FLOOR_BYTES
from wire.utp.packet import HEADER_BYTES, Kind, parse


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.30])
def test_a_quarter_out_of_order_some_lost_some_double_and_a_small_mtu_together(loss: float) -> None:
    """MTU 576; every fourth datagram comes after those that were sent behind it, one in twenty comes twice."""
    for seed in range(2):
        path = Path(seed, loss=loss, late_every=4, late_s=0.015, duplicate=0.05, mtu=576 - 28, rate=1_000_000)
        path.transfer(random.Random(seed).randbytes(60_000 if loss > 0.2 else 200_000), both_ways=True)


def test_at_5_percent_loss_it_gets_a_tenth_of_the_link_and_more() -> None:
    for seed in range(3):
        path = Path(seed, rate=1_000_000, delay_s=0.025, loss=0.05)
        size = 1_000_000
        took = path.transfer(bytes(size))
        assert size / took > 0.15 * path.rate, took


def test_packets_that_overtake_each_other_are_not_taken_for_lost() -> None:
    """Three later ones must have arrived (BEP 29), however many earlier ones the same acknowledgement brings."""
    path = Path(3, rate=1_000_000, delay_s=0.025, late_every=4, late_s=0.0028)  # by two others of full size
    seqs: dict[int, int] = {}
    flush = path.muxes[A].outgoing

    def outgoing(now: float) -> list[tuple[bytes, Endpoint]]:
        out = flush(now)
        for data, _ in out:
            packet = parse(data)
            if packet.kind is Kind.DATA:
                seqs[packet.seq] = seqs.get(packet.seq, 0) + 1
        return out

    path.muxes[A].outgoing = outgoing  # type: ignore[method-assign]
    took = path.transfer(bytes(3_000_000))
    assert max(list(seqs.values())[200:]) == 1  # the first ones are small, and more of them overtake
    assert took < 4.5


@pytest.mark.parametrize("drift", [0.003, -0.0003])
def test_a_clock_that_drifts_is_no_queue(drift: float) -> None:
    """Far faster than real ones do: 0.3 % are three times the target of 100 ms in 100 s."""
    path = Path(4, rate=100_000, delay_s=0.025, queue_s=3.0, drift=drift)
    queue: list[float] = []
    path.at_each_instant = lambda: queue.append(path.queue_of(A))
    assert path.transfer(bytes(8_000_000)) < 95
    late = sorted(queue[len(queue) // 2 :])
    assert late[len(late) // 2] < 0.2, "nor must it hide one"


def test_a_clock_that_is_set_forward_does_not_stop_the_sender() -> None:
    path = Path(5, rate=300_000, delay_s=0.01)
    begun = path.now

    def jump() -> None:
        if path.now - begun > 3:
            path.step_s[B] = 5.0

    path.at_each_instant = jump
    assert path.transfer(bytes(3_000_000)) < 13


class Pair:
    """A dialler with much to say and a reader that can pause; `run` goes on for so many seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sender = path.muxes[A].dial(B, path.now)
        self.receiver: UtpConnection | None = None
        self.reads = True
        self.got = 0
        self._room = memoryview(bytearray(65536))
        self._data = memoryview(bytes(1 << 20))

    def run(self, seconds: float) -> int:
        """How many bytes were read in them."""
        path, before = self.path, self.got
        until = path.now + seconds
        path.later(until, lambda: None)

        def step() -> bool:
            for connection in path.muxes[B].accepted():
                self.receiver = connection
            if self.reads and self.receiver is not None:
                while count := self.receiver.read_into(self._room):
                    self.got += count
                if self.receiver.has_news:
                    path.muxes[B].touch(self.receiver)
            if self.sender.writable:
                self.sender.write(self._data)
                path.muxes[A].touch(self.sender)
            return path.now >= until

        path.run(step)
        return self.got - before


def test_a_reader_that_pauses_is_served_again_at_once() -> None:
    path = Path(6, rate=1_000_000)
    pair = Pair(path)
    pair.run(5)
    pair.reads = False
    pair.run(40)  # the sender asks less and less often
    assert pair.sender.ended is None
    pair.reads = True
    assert pair.run(1) > RECEIVE_BUFFER_BYTES + 100_000, "it waited for its timer"
    assert pair.run(2) > 1_500_000, "a full reader is no full queue"


def test_the_news_that_there_is_room_may_get_lost() -> None:
    path = Path(7, rate=1_000_000)
    pair = Pair(path)
    pair.run(5)
    pair.reads = False
    pair.run(20)
    pair.reads = True
    path.loss = 1.0
    pair.run(0.1)
    path.loss = 0.0
    assert pair.run(35) > 10_000_000


def test_a_time_out_sends_one_packet_however_often_it_is_asked() -> None:
    path = Path(8, rate=1_000_000)
    pair = Pair(path)
    pair.run(3)
    path.loss = 1.0
    before = path.sent_count[A]
    pair.run(0.4)  # what the window lets through
    before = path.sent_count[A]
    connection = pair.sender
    for _ in range(30):
        pair.run(0.05)
        path.muxes[A].touch(connection)
    assert 1 <= path.sent_count[A] - before <= 3


def test_the_window_grows_with_what_is_read() -> None:
    path = Path(9, rate=20_000_000)
    pair = Pair(path)
    pair.reads = False
    pair.run(5)
    assert pair.receiver is not None
    assert pair.receiver.held_bytes <= FIRST_BUFFER_BYTES
    pair.reads = True
    pair.run(2)
    assert pair.receiver._inbound.window_bytes() > RECEIVE_BUFFER_BYTES // 2


def test_a_few_words_are_no_probe() -> None:
    """What a downloader asks for must not wait for the time-out of a size that the path does not carry."""
    path = Path(10, rate=1_000_000, mtu=FLOOR_BYTES[4])
    pair = Pair(path)
    pair._data = memoryview(b"")
    pair.run(0.5)
    pair.sender.write(b"handshake")
    path.muxes[A].touch(pair.sender)
    pair.run(0.2)
    for _ in range(20):
        pair.sender.write(bytes(2000))
        path.muxes[A].touch(pair.sender)
        assert pair.run(0.1) >= 2000
    assert max(path.sizes) <= FLOOR_BYTES[4]


def test_a_small_packet_waits_for_none_but_another_small_one() -> None:
    path = Path(11, rate=1_000_000, delay_s=0.1)
    pair = Pair(path)
    pair._data = memoryview(b"")
    pair.run(1)
    sent: list[int] = []
    flush = path.muxes[A].outgoing

    def outgoing(now: float) -> list[tuple[bytes, Endpoint]]:
        out = flush(now)
        sent.extend(len(data) - HEADER_BYTES for data, _ in out if parse(data).kind is Kind.DATA)
        return out

    path.muxes[A].outgoing = outgoing  # type: ignore[method-assign]
    pair.sender.write(bytes(528 * 2 + 100))
    path.muxes[A].touch(pair.sender)
    pair.run(0.01)
    assert sent == [528, 528, 100]
    pair.sender.write(bytes(50))
    path.muxes[A].touch(pair.sender)
    pair.run(0.01)
    assert sent == [528, 528, 100]
    pair.run(0.5)
    assert sent == [528, 528, 100, 50]


def test_who_closes_on_the_end_of_the_other_is_heard_and_not_reset() -> None:
    path = Path(12)
    pair = Pair(path)
    pair._data = memoryview(b"")
    pair.run(0.2)
    pair.sender.write(b"hello")
    path.muxes[A].touch(pair.sender)
    pair.run(1)
    receiver = pair.receiver
    assert receiver is not None
    kinds: set[Kind] = set()
    for mux in path.muxes.values():
        flush = mux.outgoing

        def outgoing(now: float, flush=flush) -> list[tuple[bytes, Endpoint]]:  # type: ignore[no-untyped-def]
            out = flush(now)
            kinds.update(parse(data).kind for data, _ in out)
            return out

        mux.outgoing = outgoing  # type: ignore[method-assign]
    pair.sender.close(path.now)
    path.muxes[A].touch(pair.sender)
    until = path.now + 60
    path.later(until, lambda: None)

    def step() -> bool:
        if receiver.at_end and receiver.ended is None:
            receiver.close(path.now)  # its end goes out with the acknowledgement of the other's
            path.muxes[B].touch(receiver)
        return path.now >= until

    path.run(step)
    assert pair.sender.ended is receiver.ended is Ended.CLOSED
    assert len(path.muxes[A]) == len(path.muxes[B]) == 0
    assert Kind.RESET not in kinds
