"""uTP between two muxes on a simulated path: what gets lost, late or double, who floods, who falls silent."""

from __future__ import annotations

import random

import pytest

from tests.sim.path import A, B, Path, TcpFlow
from wire.compact import Endpoint
from wire.utp.connection import Ended, UtpConnection
from wire.utp.inbound import RECEIVE_BUFFER_BYTES
from wire.utp.mtu import CEILING_BYTES, FLOOR_BYTES, LOOPBACK_BYTES, MtuSearch
from wire.utp.mux import MAX_HALF_OPEN, UtpMux
from wire.utp.packet import HEADER_BYTES, Kind, pack, parse, seq_distance


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"loss": 0.01},
        {"loss": 0.05, "jitter_s": 0.05},
        {"loss": 0.30},
        {"jitter_s": 0.1, "duplicate": 0.05},
    ],
    ids=["clean", "1 %", "5 % and reordering", "30 %", "reordering and duplicates"],
)
def test_every_byte_arrives(faults: dict[str, float], seed: int) -> None:
    size = 60_000 if faults.get("loss", 0) > 0.2 else 400_000
    Path(seed, **faults).transfer(random.Random(seed).randbytes(size))


def test_both_ways_at_once() -> None:
    Path(9, loss=0.02).transfer(random.Random(9).randbytes(200_000), both_ways=True)


def test_alone_it_fills_the_link_and_keeps_its_queue_short() -> None:
    path = Path(1, rate=1_000_000, delay_s=0.025, queue_s=2.0)
    queue: list[float] = []
    path.at_each_instant = lambda: queue.append(path.queue_of(A))
    took = path.transfer(random.Random(1).randbytes(12_000_000))
    assert 12.0 < took < 14.0  # 12 s are the link's own
    late = sorted(queue[len(queue) // 2 :])
    assert late[len(late) // 2] < 0.130  # the target is 100 ms
    assert late[-1] < 0.200


@pytest.mark.parametrize(("delay_s", "queue_s", "within_s"), [(0.025, 0.1, 2.2), (0.1, 0.05, 6.0)])
def test_a_queue_that_overflows_costs_half_the_window_and_no_more(
    delay_s: float, queue_s: float, within_s: float
) -> None:
    """A thousand packets of one flight lost, of which no loss says more than the first; and none is sent twice."""
    path = Path(1, rate=10_000_000, delay_s=delay_s, queue_s=queue_s)
    assert path.transfer(bytes(12_000_000)) < within_s  # 1.2 s are the link's own
    assert path.sent_bytes[A] < 1.1 * 12_000_000


def test_beside_a_tcp_flow_it_takes_little_and_takes_over_when_that_ends() -> None:
    path = Path(2, rate=400_000, delay_s=0.025, queue_s=0.4)
    dialled = path.muxes[A].dial(B, path.now)
    got = 0
    room = memoryview(bytearray(65536))
    data = memoryview(bytes(1 << 20))
    accepted: list[UtpConnection] = []

    def step(until: float) -> bool:
        nonlocal got
        accepted.extend(path.muxes[B].accepted())
        for connection in accepted:
            while count := connection.read_into(room):
                got += count
            path.muxes[B].touch(connection)
        dialled.write(data)
        path.muxes[A].touch(dialled)
        return path.now >= until

    begun = path.now
    path.run(lambda: step(begun + 10))
    alone = got / 10
    tcp = TcpFlow(path)
    tcp.start()
    path.run(lambda: step(begun + 15))  # time to make room
    before, before_tcp = got, tcp.delivered_bytes
    path.run(lambda: step(begun + 35))
    beside, of_tcp = (got - before) / 20, (tcp.delivered_bytes - before_tcp) / 20
    tcp.stop()
    path.run(lambda: step(begun + 40))
    before = got
    path.run(lambda: step(begun + 50))
    after = (got - before) / 10
    assert alone > 340_000, alone
    assert of_tcp > 320_000, (beside, of_tcp)
    assert beside < 60_000, (beside, of_tcp)
    assert after > 340_000, after


class _AlmostWrapped(random.Random):
    def getrandbits(self, k: int) -> int:
        return 65530 & ((1 << k) - 1)


@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_the_sequence_number_wraps(loss: float) -> None:
    path = Path(3, loss=loss, delay_s=0.001)
    path.muxes[B]._rng = _AlmostWrapped()
    path.transfer(random.Random(3).randbytes(200_000), both_ways=True)


@pytest.mark.parametrize("mtu", [548, 576, 1000, 1400, 1464, 1472, 9000])
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_the_path_mtu_is_found_and_nothing_falls_into_a_black_hole(mtu: int, loss: float) -> None:
    path = Path(mtu, mtu=mtu, loss=loss, delay_s=0.005, rate=3_000_000)
    took = path.transfer(random.Random(mtu).randbytes(1_500_000))
    most = max(size for size in path.sizes if size <= mtu)
    assert sum(count for size, count in path.sizes.items() if size > mtu) <= 16
    assert most <= CEILING_BYTES[4]
    if not loss and mtu != 576:  # that close to the floor the search takes more round trips than this transfer
        assert most > min(mtu, CEILING_BYTES[4]) - 20
        assert took < 1.5, "a lost probe must not be taken for a full queue"


def test_a_path_that_gets_narrower_does_not_hold_the_next_connection_up() -> None:
    path = Path(7, delay_s=0.005)
    path.transfer(bytes(100_000))
    path.mtu = FLOOR_BYTES[4]
    path.transfer(bytes(100_000))


def test_what_was_never_proved_is_never_needed() -> None:
    """No datagram above the floor is sent twice: a probe that got lost comes again without its padding."""
    path = Path(8, mtu=FLOOR_BYTES[4], delay_s=0.005)
    seen: dict[int, int] = {}
    flush = path.muxes[A].outgoing

    def outgoing(now: float) -> list[tuple[bytes, Endpoint]]:
        out = flush(now)
        for data, _ in out:
            packet = parse(data)
            if packet.kind is Kind.DATA and len(data) > FLOOR_BYTES[4]:
                assert len(packet.payload) + HEADER_BYTES <= FLOOR_BYTES[4]
                seen[packet.seq] = seen.get(packet.seq, 0) + 1
        return out

    path.muxes[A].outgoing = outgoing  # type: ignore[method-assign]
    path.transfer(bytes(300_000))
    assert seen
    assert max(seen.values()) == 1


def test_the_end_is_told() -> None:
    path = Path(4, loss=0.1)
    dialled = path.muxes[A].dial(B, path.now)
    accepted: list[UtpConnection] = []
    path.run(
        lambda: accepted.extend(path.muxes[B].accepted()) or (dialled.connected and _push(path, dialled, accepted))
    )
    dialled.write(b"last words")
    dialled.close(path.now)
    path.muxes[A].touch(dialled)
    path.run(lambda: bool(accepted) and accepted[0]._inbound.finished)
    room = memoryview(bytearray(100))
    assert bytes(room[: accepted[0].read_into(room)]) == b"last words"
    assert accepted[0].at_end
    path.run(lambda: dialled.ended is Ended.CLOSED)


def _push(path: Path, dialled: UtpConnection, accepted: list[UtpConnection]) -> bool:
    """The dialler speaks first: only then does the other side believe its address."""
    if not accepted and dialled._outbound.is_empty:
        dialled.write(b"")
        dialled._inbound.must_ack = True
        path.muxes[A].touch(dialled)
    return bool(accepted)


def test_nobody_there_is_found_out() -> None:
    path = Path(5, loss=1.0)
    dialled = path.muxes[A].dial(B, path.now)
    path.run(lambda: dialled.ended is not None, limit_s=20)
    assert dialled.ended is Ended.TIMED_OUT
    assert len(path.muxes[A]) == 0 or path.muxes[A].outgoing(path.now) == []


def test_a_forged_syn_gets_one_small_answer_and_no_more() -> None:
    mux = UtpMux(random.Random(6), 0.0)
    syn = pack(Kind.SYN, 77, 1, 0, 0, 1, 0)
    mux.receive(syn, A, 0.0)
    answer = mux.outgoing(0.0)
    assert sum(len(data) for data, _ in answer) <= len(syn)
    for at in range(1, 30):
        mux.tick(float(at))
        assert mux.outgoing(float(at)) == []
    assert len(mux) == 0


def test_a_guessed_ack_opens_nothing() -> None:
    mux = UtpMux(random.Random(6), 0.0)
    mux.receive(pack(Kind.SYN, 77, 1, 0, 0, 1, 0), A, 0.0)
    seq = parse(mux.outgoing(0.0)[0][0]).seq
    mux.receive(pack(Kind.DATA, 78, 1, 0, 1 << 20, 2, seq + 5, b"x"), A, 0.1)
    assert mux.accepted() == []
    mux.receive(pack(Kind.DATA, 78, 1, 0, 1 << 20, 2, seq - 1, b"x"), A, 0.1)
    assert len(mux.accepted()) == 1


def test_a_flood_of_syns_is_bounded() -> None:
    mux = UtpMux(random.Random(7), 0.0)
    for n in range(5000):
        mux.receive(pack(Kind.SYN, n & 0xFFFF, 1, 0, 0, 1, 0), Endpoint("10.1.2.3", 1 + n % 60000), 0.0)
    assert len(mux) == MAX_HALF_OPEN
    assert len(mux.outgoing(0.0)) <= MAX_HALF_OPEN


def test_what_is_not_read_stops_the_sender() -> None:
    path = Path(8, delay_s=0.001)
    dialled = path.muxes[A].dial(B, path.now)
    data = memoryview(bytes(RECEIVE_BUFFER_BYTES * 3))
    sent = 0
    deadline = path.now + 30

    def step() -> bool:
        nonlocal sent
        path.muxes[B].accepted()
        sent += dialled.write(data[sent:])
        path.muxes[A].touch(dialled)
        return path.now >= deadline

    with pytest.raises(AssertionError):  # nothing moves any more, long before the deadline
        path.run(step, limit_s=29)
    other = next(iter(path.muxes[B]._connections.values()))
    assert other.held_bytes <= RECEIVE_BUFFER_BYTES


def test_any_bytes_are_survived() -> None:
    rng = random.Random(10)
    mux = UtpMux(rng, 0.0)
    dialled = mux.dial(B, 0.0)
    good = mux.outgoing(0.0)[0][0]
    for n in range(20_000):
        data = bytearray(good if n % 2 else rng.randbytes(rng.randrange(80)))
        if n % 2:
            data += rng.randbytes(rng.randrange(40))
            for _ in range(3):
                data[rng.randrange(len(data))] = rng.getrandbits(8)
            data[2:4] = dialled.receive_id.to_bytes(2, "big")
        mux.receive(bytes(data), B, n / 1000)
        mux.outgoing(n / 1000)
    assert len(mux) <= MAX_HALF_OPEN + 1


def test_seq_distance_wraps() -> None:
    assert seq_distance(1, 65535) == 2
    assert seq_distance(65535, 1) == -2
    assert seq_distance(5, 5) == 0


def test_between_programs_of_one_machine_packets_get_large_and_only_where_they_arrive() -> None:
    search = MtuSearch(4, loopback=True)
    assert search.probe(0.0) == CEILING_BYTES[4]
    search.arrived()
    assert search.probe(0.0) == LOOPBACK_BYTES
    search.arrived()
    assert (search.size, search.probe(0.0)) == (LOOPBACK_BYTES, 0)
    search = MtuSearch(4, loopback=True)
    search.probe(0.0)
    search.arrived()
    for _ in range(2):  # as with a peer that has room for Ethernet's packets alone
        assert search.probe(0.0) == LOOPBACK_BYTES
        search.lost()
    assert (search.size, search.probe(1e6)) == (CEILING_BYTES[4], 0)


@pytest.mark.parametrize("size", [22, 300, 1472, LOOPBACK_BYTES])
def test_a_padded_probe_is_read(size: int) -> None:
    packet = pack(Kind.DATA, 1, 2, 3, 4, 5, 6, b"payload" if size > 100 else b"", size=size)
    assert len(packet) == size
    assert parse(packet).payload == (b"payload" if size > 100 else b"")
