"""One connection and a peer that says what it likes: acks of what was never sent, resets by guess, endless holes."""

from __future__ import annotations

import random

import pytest

from tests.sim.path import A, B
from wire.compact import Endpoint
from wire.utp.connection import Ended
from wire.utp.inbound import FIRST_BUFFER_BYTES
from wire.utp.mux import UtpMux
from wire.utp.outbound import SEND_BUFFER_BYTES
from wire.utp.packet import Kind, Packet, pack, parse

THEIRS = 7000
"""The number of the peer's first data packet."""


class Talk:
    """A dialler of ours and the packets of its peer."""

    def __init__(self, seed: int = 1) -> None:
        self.mux = UtpMux(random.Random(seed), 0.0)
        self.now = 0.0
        self.connection = self.mux.dial(B, 0.0)
        self.syn = parse(self.mux.outgoing(0.0)[0][0])
        self.say(Kind.STATE, THEIRS, self.syn.seq)
        assert self.connection.connected

    def say(
        self, kind: Kind, seq: int, ack: int, payload: bytes = b"", *, window: int = 1 << 20, sack: bytes = b""
    ) -> list[Packet]:
        """The peer says this; our answer."""
        self.now += 0.05
        packet = pack(kind, self.syn.connection_id, int(self.now * 1e6), 1000, window, seq, ack, payload, sack=sack)
        self.mux.receive(packet, B, self.now)
        return self.ours()

    def ours(self) -> list[Packet]:
        """What we have to say."""
        self.mux.touch(self.connection)
        return [parse(data) for data, _ in self.mux.outgoing(self.now)]

    def acked(self, ack: int, *, window: int = 1 << 20, sack: bytes = b"") -> list[Packet]:
        """A packet without data that acknowledges so much."""
        return self.say(Kind.STATE, THEIRS, ack, window=window, sack=sack)


def sending(talk: Talk, size: int = SEND_BUFFER_BYTES) -> list[Packet]:
    """Has much to send; what went out at once."""
    talk.connection.write(bytes(size))
    sent = talk.ours()
    assert sent
    return sent


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    """A receiver that acks ahead (Adamsky 2012) neither speeds us up nor makes us forget what it has not got."""
    talk = Talk()
    sent = sending(talk)
    window, held = talk.connection._outbound._ledbat.window_bytes, talk.connection.held_bytes
    for ahead in (1, 2, 100, 20_000):
        assert not talk.acked(sent[-1].seq + ahead)
    # By selective acks neither: every bit behind what is under way is ignored.
    again = talk.acked(sent[0].seq - 1, sack=bytes([0] * (len(sent) // 8 + 1)) + b"\xff" * 100)
    assert not [packet for packet in again if packet.kind is Kind.DATA]
    assert talk.connection._outbound._ledbat.window_bytes == window
    assert talk.connection.held_bytes == held
    assert talk.acked(sent[-1].seq)
    assert (
        talk.connection.held_bytes == held - sum(len(packet.payload) for packet in sent) or talk.connection.held_bytes
    )


def test_the_same_bytes_acknowledged_twice_count_once() -> None:
    talk = Talk()
    sent = sending(talk)
    talk.acked(sent[1].seq)
    window = talk.connection._outbound._ledbat.window_bytes
    for _ in range(2):
        talk.acked(sent[1].seq)
        talk.acked(sent[0].seq)
    assert talk.connection._outbound._ledbat.window_bytes <= window


def test_three_later_packets_make_one_lost_whatever_came_with_them() -> None:
    talk = Talk()
    sent = sending(talk)
    # All up to the fourth, and the sixth: the fifth is missed by one later packet alone.
    again = talk.acked(sent[3].seq, sack=b"\x01\0\0\0")
    assert sent[4].seq not in [packet.seq for packet in again if packet.kind is Kind.DATA]
    again = talk.acked(sent[3].seq, sack=b"\x03\0\0\0")
    assert sent[4].seq not in [packet.seq for packet in again if packet.kind is Kind.DATA]
    again = talk.acked(sent[3].seq, sack=b"\x07\0\0\0")
    assert next(packet.seq for packet in again if packet.kind is Kind.DATA) == sent[4].seq


def test_three_repeated_acks_make_one_lost_but_news_of_room_are_no_repeated_acks() -> None:
    talk = Talk()
    sent = sending(talk)
    for number in range(1, 7):
        again = talk.acked(sent[0].seq - 1, window=(1 << 20) + number * 5000)
        assert not [packet for packet in again if packet.seq == sent[0].seq]
    for number in range(4):  # the first changes the window once more
        again = talk.acked(sent[0].seq - 1)
        assert (sent[0].seq in [packet.seq for packet in again if packet.kind is Kind.DATA]) == (number == 3), number


def test_a_hole_that_is_never_filled_stops_us_before_the_numbers_run_out() -> None:
    """A peer that acks all but one packet, and always has room: 16 bits of numbers are fewer than it likes."""
    talk = Talk()
    sent = sending(talk)
    first = sent[0].seq
    newest = sent[-1].seq
    for _ in range(400):
        talk.connection.write(bytes(SEND_BUFFER_BYTES))
        got = talk.acked((first - 1) & 0xFFFF, window=1 << 30, sack=b"\xff" * 128)
        for packet in got:
            if packet.kind is Kind.DATA and packet.seq != first:
                newest = packet.seq
    assert (newest - first) & 0xFFFF <= 8192
    assert first in talk.connection._outbound._flight.packets


@pytest.mark.parametrize("wrong", [5000, -5000, 30000])
def test_a_reset_by_guess_is_ignored(wrong: int) -> None:
    talk = Talk()
    sent = sending(talk)
    talk.say(Kind.RESET, 0, (sent[0].seq + wrong) & 0xFFFF)
    # One that names the id that we send with, as a peer does that has forgotten us.
    stale = pack(Kind.RESET, talk.connection._send_id, 0, 0, 0, 0, (sent[0].seq + wrong) & 0xFFFF)
    talk.mux.receive(stale, B, talk.now)
    assert talk.connection.ended is None
    talk.say(Kind.RESET, 0, sent[0].seq)
    assert talk.connection.ended is Ended.RESET


@pytest.mark.parametrize("of", ["the last that it got", "one under way", "a packet without data"])
def test_a_reset_that_names_what_we_said_ends_it(of: str) -> None:
    talk = Talk()
    sent = sending(talk)
    ack = {"the last that it got": sent[0].seq - 1, "one under way": sent[-1].seq}.get(of, sent[-1].seq + 1)
    talk.mux.receive(pack(Kind.RESET, talk.connection._send_id, 0, 0, 0, 0, ack), B, talk.now)
    assert talk.connection.ended is Ended.RESET


def test_who_does_not_see_our_syn_cannot_answer_it() -> None:
    """We may be told to dial somebody else's address: nothing but the SYN goes there, whatever is said in his name."""
    first_numbers = set()
    for seed in range(20):
        mux = UtpMux(random.Random(seed), 0.0)
        connection = mux.dial(B, 0.0)
        syn = parse(mux.outgoing(0.0)[0][0])
        first_numbers.add(syn.seq)
        for guess in (1, 0, syn.seq + 1, syn.seq - 1):
            mux.receive(pack(Kind.STATE, syn.connection_id, 1, 0, 1 << 20, 1, guess), B, 0.1)
            mux.receive(pack(Kind.RESET, syn.connection_id, 1, 0, 1 << 20, 1, guess + 20), B, 0.1)
        assert not connection.connected
        assert connection.ended is None
        mux.receive(pack(Kind.STATE, syn.connection_id, 1, 0, 1 << 20, 1, syn.seq), B, 0.1)
        assert connection.connected
    assert len(first_numbers) == 20


@pytest.mark.parametrize("repeats", [1, 50])
def test_before_the_address_is_proved_no_more_goes_out_than_came_in(repeats: int) -> None:
    mux = UtpMux(random.Random(2), 0.0)
    came = went = 0
    for number in range(repeats):
        for kind, connection_id in ((Kind.SYN, 77), (Kind.DATA, 78), (Kind.STATE, 78), (Kind.FIN, 78), (Kind.DATA, 5)):
            packet = pack(kind, connection_id, 1, 0, 1 << 20, 2, 9, b"x" if kind is Kind.DATA else b"")
            mux.receive(packet, A, number * 0.3)
            came += len(packet)
            mux.tick(number * 0.3)
            went += sum(len(data) for data, _ in mux.outgoing(number * 0.3))
            assert went <= came
    for at in range(60):
        mux.tick(repeats + float(at))
        went += sum(len(data) for data, _ in mux.outgoing(repeats + float(at)))
    assert went <= came
    assert mux.accepted() == []


def test_many_small_packets_take_little_more_memory_than_their_bytes() -> None:
    talk = Talk()
    inbound = talk.connection._inbound
    for number in range(60_000):
        inbound.accept((THEIRS + number) & 0xFFFF, b"x", fin=False)
    assert inbound.held_bytes == 60_000
    assert len(inbound._chunks) < 200
    room = memoryview(bytearray(1 << 17))
    assert talk.connection.read_into(room) == 60_000
    assert set(bytes(room[:60_000])) == {ord("x")}


def test_a_large_packet_is_read_in_parts_and_small_ones_come_behind() -> None:
    talk = Talk()
    room = memoryview(bytearray(1 << 15))
    large = random.Random(3).randbytes(30_000)
    for number, payload in enumerate((b"begin", large, b"small", b"and smaller")):
        packet = pack(Kind.DATA, talk.syn.connection_id, 1, 1, 1 << 20, THEIRS + number, talk.syn.seq, payload)
        talk.mux.receive(packet, B, 1.0)
        if payload is large:
            assert talk.connection.read_into(room[:29_995]) == 29_995
    got = bytes(room[:29_995])
    assert got + bytes(room[: talk.connection.read_into(room)]) == b"begin" + large + b"smalland smaller"


def test_that_there_is_room_again_is_said_until_something_comes() -> None:
    """libtorrent, told once that there is no room, waits for ever where the news of room gets lost."""
    talk = Talk()
    seq = THEIRS
    room = memoryview(bytearray(1 << 17))

    def fill() -> None:
        nonlocal seq
        while talk.say(Kind.DATA, seq, talk.syn.seq, bytes(1000))[-1].window_bytes >= 1000:
            seq += 1
        seq += 1

    def said(seconds: float) -> int:
        """How often it says that there is room, while time passes."""
        times, until = 0, talk.now + seconds
        while (timer := talk.mux.next_timer()) is not None and timer <= until:
            talk.now = timer
            talk.mux.tick(timer)
            times += sum(parse(data).window_bytes > 1500 for data, _ in talk.mux.outgoing(timer))
        talk.now = until
        return times

    fill()
    assert said(20) == 0
    talk.connection.read_into(room)
    assert talk.connection.has_news
    assert talk.ours()[-1].window_bytes > 60_000
    assert said(10) == 3
    talk.say(Kind.DATA, seq, talk.syn.seq, bytes(1000))
    assert said(20) == 0
    assert said(40) <= 2  # what keeps NATs open


def test_a_stranger_fills_little() -> None:
    talk = Talk()
    for number in range(1, 400):  # all but the first, which never comes
        talk.say(Kind.DATA, THEIRS + number, talk.syn.seq, bytes(1400))
    assert talk.connection.held_bytes <= FIRST_BUFFER_BYTES


def test_an_end_that_lies_behind_is_none() -> None:
    talk = Talk()
    talk.say(Kind.DATA, THEIRS, talk.syn.seq, b"one")
    talk.say(Kind.FIN, THEIRS - 5, talk.syn.seq)
    talk.say(Kind.DATA, THEIRS + 1, talk.syn.seq, b"two")
    room = memoryview(bytearray(99))
    assert bytes(room[: talk.connection.read_into(room)]) == b"onetwo"
    assert not talk.connection.at_end


@pytest.mark.parametrize("own", [False, True])
def test_the_quick_way_does_what_the_slow_one_does(own: bool) -> None:
    """Whole streams with every kind of disorder, once as they come and once past the quick way: the same answers."""
    rng = random.Random(5)
    told: list[list[tuple[bytes, Endpoint]]] = []
    script: list[tuple[int, int, bytes]] = []
    disorder = [number + rng.choice((0, 0, 0, 0, 0, 0, 3, 9)) for number in range(2000)]
    for at in sorted(range(2000), key=disorder.__getitem__):
        payload = bytes([at & 0xFF]) * rng.choice((1400, 1400, 1400, 600, 30, 1))
        script += [(at, rng.choice((0, 1, 1, 1)), payload)] * rng.choice((1, 1, 1, 2))
    streams = []
    for quick in (True, False):
        talk = Talk()
        if own:
            sending(talk, 20_000)
        answers: list[tuple[bytes, Endpoint]] = []
        read = bytearray()
        room = memoryview(bytearray(1 << 16))
        for number, (at, window, payload) in enumerate(script):
            now = 1 + number / 1000
            size = (500, 1 << 20)[window]
            ack = talk.syn.seq + (min(number // 300, 2) if own else 0)
            packet = pack(Kind.DATA, talk.syn.connection_id, number, 5, size, THEIRS + at, ack, payload)
            if not quick:
                talk.mux._current = None
            talk.mux.receive(packet, B, now)
            if number % 5 == 0:
                answers += talk.mux.outgoing(now)
                read += room[: talk.connection.read_into(room)]
        told.append(answers)
        streams.append(bytes(read))
    assert told[0] == told[1]
    assert streams[0] == streams[1]
    assert len(streams[0]) > 1_000_000


def test_a_connection_that_is_over_takes_nothing_by_the_quick_way() -> None:
    talk = Talk()
    talk.say(Kind.DATA, THEIRS, talk.syn.seq, bytes(1000))
    connection = talk.connection
    for kind, ahead in ((Kind.DATA, 1), (Kind.RESET, 0), (Kind.DATA, 2)):
        payload = bytes(900) if kind is Kind.DATA else b""
        packet = pack(kind, talk.syn.connection_id, 1, 1, 1 << 20, THEIRS + ahead, talk.syn.seq, payload)
        talk.mux.receive(packet, B, 1.0)
    assert connection.ended is Ended.RESET
    assert connection.held_bytes == 1900
