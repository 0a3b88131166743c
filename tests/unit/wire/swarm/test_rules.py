"""The brain of a torrent, met by a guest that says what it likes over a real connection."""

from __future__ import annotations

import hashlib
import random

import pytest

from tests.reading import shipped
from wire.bencode import encode
from wire.bitfield import Bitfield
from wire.compact import Endpoint
from wire.errors import MisuseError, ProtocolError
from wire.ids import InfoHash
from wire.metainfo import Info
from wire.peer import messages as m
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.messages import BLOCK_BYTES as B
from wire.peer.pex import PexMessage, PexPeer
from wire.swarm import ledger, requests
from wire.swarm.peer import Peer
from wire.swarm.rules import Finished, MetadataComplete, PeerDropped, PiecesDone, Settings, Swarm
from wire.swarm.values import SwarmEvent

DATA = random.Random(3).randbytes(6 * B + 100)
PIECE = 2 * B


def info_dict(private: bool = False, **more: object) -> bytes:
    hashes = b"".join(hashlib.sha1(DATA[at : at + PIECE]).digest() for at in range(0, len(DATA), PIECE))
    items: dict[bytes, object] = {b"length": len(DATA), b"name": b"f", b"piece length": PIECE, b"pieces": hashes}
    if private:
        items[b"private"] = 1
    items.update({key.encode(): value for key, value in more.items()})
    return encode(items)  # type: ignore[arg-type]


INFO = Info.from_bytes(info_dict())
OURS = b"-KB0100-usususususus"
THEIRS = b"-XX0100-themthemthem"


class Table:
    """A brain, its clock, and what it told."""

    def __init__(
        self, info: Info | None = INFO, *, have: Bitfield | None = None, begin: bool = True, **settings: object
    ):
        self.now = 50.0
        self.info = info
        self.swarm = Swarm(
            (info or INFO).info_hash,
            peer_id=OURS,
            rng=random.Random(1),
            now=self.now,
            info=info,
            settings=Settings(**settings),  # type: ignore[arg-type]
        )
        if info is not None and begin:
            self.swarm.begin(have or Bitfield(info.piece_count), None, self.now)
        self.guests: list[Guest] = []

    def guest(self, host: str = "80.0.0.1", *, peer_id: bytes = THEIRS, dialled: bool = False, **says: object) -> Guest:
        guest = Guest(self, host, peer_id, dialled, **says)
        self.guests.append(guest)
        guest.pump()
        return guest

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, max(self.swarm.next_timer(self.now), self.now + 0.01))
            self.swarm.tick(self.now)
            for guest in self.guests:
                guest.pump()

    def events(self) -> list[SwarmEvent]:
        return list(self.swarm.events())

    def drops(self) -> list[PeerDropped]:
        return [event for event in self.swarm.events() if isinstance(event, PeerDropped)]


@pytest.fixture(autouse=True)
def strangers_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of a peer at first is short of a torrent of four pieces; see test_requests for that rule."""
    monkeypatch.setattr(requests, "MAX_UNPROVEN", 100)


class Guest:
    """The other end of a connection of the brain."""

    def __init__(self, table: Table, host: str, peer_id: bytes, dialled: bool, **says: object) -> None:
        self.table = table
        says = {"ut_metadata": 3, "ut_pex": 4} | says
        extended = ExtendedHandshake(**says)  # type: ignore[arg-type]
        self.endpoint = Endpoint(host, 6881 if dialled else 50000 + len(table.guests))
        self.heard: list[m.Event] = []
        swarm, now = table.swarm, table.now
        self.peer: Peer | None
        info_hash = swarm.info_hash.swarm_ids[0]
        if dialled:
            self.wire = PeerConnection(peer_id=peer_id, info_hash=None, extended=extended, now=now)
            swarm.found(self.endpoint, "dht", now)
            assert swarm.next_dial(now) == self.endpoint
            self.peer = swarm.dial_opened(self.endpoint, now)
            assert self.peer is not None
            self.pump()
            self.wire.accept(info_hash)
        else:
            self.wire = PeerConnection(peer_id=peer_id, info_hash=info_hash, extended=extended, now=now)
            theirs = PeerConnection(peer_id=OURS, info_hash=None, extended=swarm.handshake(self.endpoint), now=now)
            events = push(self.wire, theirs, now)
            self.peer = swarm.accept(self.endpoint, theirs, events, now)
        self.pump()
        if table.info is not None and self.wire.open:
            self.wire.set_piece_count(table.info.piece_count)

    def pump(self) -> None:
        """Lets bytes flow until both have said everything."""
        peer, now, swarm = self.peer, self.table.now, self.table.swarm
        while peer is not None and not peer.gone:
            for _ in range(2):
                batch = swarm.uploads(peer, 1 << 20)
                if batch:
                    swarm.uploaded(peer, batch, shipped(batch, [self.data(block) for block in batch]))
            sent = bool(peer.connection.outgoing_bytes or self.wire.outgoing_bytes)
            self.heard += push(peer.connection, self.wire, now)
            try:
                events = push(self.wire, peer.connection, now)
            except ProtocolError as error:
                swarm.breached(peer, error, now)
                break
            swarm.receive(peer, events, now)
            if not sent:
                break

    @staticmethod
    def data(block: tuple[int, int, int]) -> bytes:
        index, begin, length = block
        return DATA[index * PIECE + begin :][:length]

    def asked(self) -> list[m.Request]:
        return [event for event in self.heard if isinstance(event, m.Request)]

    def serve(self, spoil: bool = False) -> None:
        """Answers every request that it heard."""
        for request in self.asked():
            data = self.data((request.index, request.begin, request.length))
            self.wire.piece(request.index, request.begin, bytes(len(data)) if spoil else data)
        self.heard.clear()
        self.pump()

    def offer(self) -> None:
        """Has everything and unchokes."""
        self.wire.bitfield(Bitfield.full(INFO.piece_count))
        self.wire.unchoke()
        self.pump()

    @property
    def gone(self) -> bool:
        return self.peer is None or self.peer.gone


def push(source: PeerConnection, to: PeerConnection, now: float) -> list[m.Event]:
    data = b"".join(bytes(part) for part in source.outgoing())
    events: list[m.Event] = []
    while data:
        buffer = to.buffer()
        part = data[: len(buffer)]
        buffer[: len(part)] = part
        data = data[len(part) :]
        # What points into the buffer is valid until the next `buffer()`.
        events += [
            e._replace(data=memoryview(bytes(e.data))) if isinstance(e, m.Block) else e
            for e in to.received(len(part), now)
        ]
    return events


def finish_jobs(table: Table) -> list[int]:
    done = []
    for job in table.swarm.piece_jobs():
        ok = hashlib.sha1(job.data).digest() == INFO.piece_hash(job.index)
        done.append(job.index)
        table.swarm.piece_stored(job.index, ok, table.now)
    return done


# --- the good case


@pytest.mark.parametrize("dialled", [True, False])
def test_a_seed_is_asked_for_everything_and_told_what_came(dialled: bool) -> None:
    table = Table()
    guest = table.guest(dialled=dialled)
    guest.offer()
    assert guest.wire.peer_interested
    assert len(guest.asked()) == 7
    guest.serve()
    assert sorted(finish_jobs(table)) == [0, 1, 2, 3]
    events = table.events()
    assert {index for event in events if isinstance(event, PiecesDone) for index in event.indices} == {0, 1, 2, 3}
    assert Finished() in events
    stats = table.swarm.stats()
    assert (stats.downloaded_bytes, stats.wanted_left_bytes, stats.pieces_done) == (len(DATA), 0, 4)
    assert guest.gone, "two seeds have nothing to give each other"


def test_a_seed_hears_of_each_piece_though_it_has_them_all() -> None:
    table = Table()
    guest = table.guest()
    guest.offer()
    guest.serve()
    job, *_ = table.swarm.piece_jobs()
    table.swarm.piece_stored(job.index, True, table.now)
    guest.pump()
    assert m.Have(job.index) in guest.heard, "it gives first what nobody else has: how would it know"


def test_who_dials_us_first_was_found_by_whoever_named_where_he_listens() -> None:
    table = Table(None)
    table.swarm.found(Endpoint("80.0.0.1", 6881), "dht", table.now)
    guest = table.guest(metadata_size=len(INFO.raw), p=6881)
    (request,) = [event for event in guest.heard if isinstance(event, m.MetadataRequest)]
    guest.wire.metadata_data(request.piece, len(INFO.raw), INFO.raw)
    guest.pump()
    assert table.events() == [MetadataComplete(INFO, "dht")]


def test_metadata_then_pieces() -> None:
    table = Table(None)
    guest = table.guest(metadata_size=len(INFO.raw))
    (request,) = [event for event in guest.heard if isinstance(event, m.MetadataRequest)]
    guest.wire.metadata_data(request.piece, len(INFO.raw), INFO.raw)
    guest.pump()
    assert table.events() == [MetadataComplete(INFO, "incoming")]
    assert table.swarm.info == INFO
    assert guest.wire.remote.metadata_size == len(INFO.raw), "from now on we offer it too"
    table.swarm.begin(Bitfield(4), None, table.now)
    guest.wire.set_piece_count(4)
    guest.offer()
    guest.serve()
    assert len(finish_jobs(table)) == 4


def test_we_serve_what_we_have_to_who_is_interested() -> None:
    table = Table(have=Bitfield.full(4))
    guest = table.guest()
    assert guest.wire.peer_has is not None
    assert guest.wire.is_seed
    guest.wire.interested()
    guest.pump()
    assert not guest.wire.peer_choking, "served at once, not at the next round"
    guest.wire.request([(0, 0, B), (3, 0, 100)])
    guest.pump()
    blocks = [event for event in guest.heard if isinstance(event, m.Block)]
    assert [bytes(block.data) for block in blocks] == [DATA[:B], DATA[6 * B :]]
    assert table.swarm.stats().uploaded_bytes == B + 100


def test_metadata_is_handed_out_but_not_for_ever() -> None:
    table = Table()
    guest = table.guest()
    for _ in range(10):
        guest.wire.metadata_request(0)
    guest.wire.metadata_request(7)
    guest.pump()
    data = [event.data for event in guest.heard if isinstance(event, m.MetadataData)]
    rejects = [event.piece for event in guest.heard if isinstance(event, m.MetadataReject)]
    assert set(data) == {INFO.raw}
    assert 0 < len(data) < 6
    assert 7 in rejects
    assert len(data) + len(rejects) == 11


def test_only_wanted_files_are_asked_for() -> None:
    raw = encode(
        {
            b"files": [{b"length": 2 * PIECE, b"path": [b"a"]}, {b"length": len(DATA) - 2 * PIECE, b"path": [b"b"]}],
            b"name": b"d",
            b"piece length": PIECE,
            b"pieces": b"".join(INFO.piece_hash(index) for index in range(INFO.piece_count)),
        }
    )
    info = Info.from_bytes(raw)
    table = Table(info, begin=False)
    table.swarm.begin(Bitfield(4), [False, True], table.now)
    guest = table.guest()
    guest.offer()
    assert {request.index for request in guest.asked()} == {2, 3}
    assert table.swarm.stats().wanted_left_bytes == len(DATA) - 2 * PIECE


def test_a_peer_that_becomes_a_seed_by_haves_is_of_no_use_to_a_seed() -> None:
    table = Table(have=Bitfield.full(4))
    guest = table.guest()
    guest.wire.bitfield(Bitfield.of(4, [0, 1, 2]))
    guest.pump()
    assert not guest.gone
    guest.wire.have(3)
    guest.pump()
    assert guest.gone


def test_what_a_peer_had_goes_with_it() -> None:
    table = Table()
    guest = table.guest()
    guest.wire.bitfield(Bitfield.of(4, [0, 1]))
    guest.wire.have(2)
    guest.pump()
    picker = table.swarm._begun()._picker
    assert [picker.availability(index) for index in range(4)] == [1, 1, 1, 0]
    assert guest.peer is not None
    table.swarm.lost(guest.peer, "gone", table.now)
    assert [picker.availability(index) for index in range(4)] == [0, 0, 0, 0]


# --- choking and fairness


def test_a_choke_takes_the_requests_back_and_an_unchoke_asks_again() -> None:
    table = Table()
    one, other = table.guest("80.0.0.1"), table.guest("80.0.0.2", peer_id=b"-XX0100-otherotherot")
    one.offer()
    assert len(one.asked()) == 7
    other.wire.bitfield(Bitfield.full(4))
    other.pump()
    one.wire.choke()
    one.pump()
    other.wire.unchoke()
    other.pump()
    assert len(other.asked()) == 7


def test_more_than_the_slots_are_served_in_turn() -> None:
    table = Table(have=Bitfield.full(4), upload_slots=2)
    guests = [table.guest(f"80.0.0.{n}", peer_id=b"-XX0100-" + bytes([n]) * 12) for n in range(1, 6)]
    for guest in guests:
        guest.wire.interested()
        guest.pump()
    assert sum(not guest.wire.peer_choking for guest in guests) == 2
    served = set()
    for _ in range(40):
        table.pass_time(10.0)
        for guest in guests:
            guest.wire.have(0)  # says something, so that it is not idle
            guest.pump()
        served |= {guest.endpoint for guest in guests if not guest.wire.peer_choking}
        assert sum(not guest.wire.peer_choking for guest in guests) == 2
    assert len(served) == 5
    leaver = next(guest for guest in guests if not guest.wire.peer_choking)
    leaver.wire.not_interested()
    leaver.pump()
    for guest in guests:
        guest.pump()
    assert leaver.wire.peer_choking
    assert sum(not guest.wire.peer_choking for guest in guests) == 2, "its slot went to another at once"


def test_requests_while_choked_and_for_what_we_lack_are_rejected() -> None:
    table = Table()
    guest = table.guest()
    guest.wire.request([(0, 0, B)])
    guest.pump()
    assert m.Reject(0, 0, B) in guest.heard
    guest.wire.interested()
    guest.pump()
    guest.wire.request([(1, 0, B)])
    guest.pump()
    assert m.Reject(1, 0, B) in guest.heard


# --- breaches and lies


def test_a_seed_of_wrong_data_is_banned_and_the_next_one_is_asked() -> None:
    table = Table()
    liar = table.guest("80.0.0.1")
    liar.offer()
    liar.serve(spoil=True)
    finish_jobs(table)
    drops = table.drops()
    assert [(drop.endpoint, drop.banned) for drop in drops] == [(liar.endpoint, True)]
    assert "wrong data" in drops[0].reason
    honest = table.guest("80.0.0.2")
    honest.offer()
    honest.serve()
    assert len(finish_jobs(table)) == 4
    assert table.swarm.finished
    stats = table.swarm.stats()
    assert (stats.piece_hash_failures, stats.banned) == (4, 1)
    assert table.guest("80.0.0.1", peer_id=b"-XX0100-againanother").gone, "it is not let in again"
    assert not table.guest("80.0.0.3", peer_id=b"-XX0100-againanother").gone


@pytest.mark.parametrize(
    "request_",
    [(0, B, 2 * B), (0, 2**32 - 1, B), (3, 0, 101), (3, 100, 1)],
)
def test_a_request_outside_the_piece_ends_the_connection(request_: tuple[int, int, int]) -> None:
    table = Table(have=Bitfield.full(4))
    guest = table.guest()
    guest.wire.interested()
    guest.pump()
    guest.wire.request([request_])
    guest.pump()
    assert guest.gone


def test_a_million_requests_end_the_connection() -> None:
    table = Table(have=Bitfield.full(4))
    guest = table.guest()
    for _ in range(100):
        guest.wire.request([(0, 0, n + 1) for n in range(1000)])
        if guest.gone:
            break
        guest.pump()
    assert guest.gone


def test_who_does_not_read_is_dropped() -> None:
    table = Table(have=Bitfield.full(4))
    guest = table.guest()
    peer = guest.peer
    assert peer is not None
    for _ in range(20):
        if peer.gone:
            break
        for _ in range(500):
            guest.wire.metadata_request(9)
        events = push(guest.wire, peer.connection, table.now)
        for _ in range(20):
            table.swarm.receive(peer, events, table.now)
    assert peer.gone
    assert "does not read" in table.drops()[0].reason


def test_unasked_blocks_end_the_connection() -> None:
    table = Table()
    guest = table.guest()
    for _ in range(300):
        guest.wire.piece(0, 0, bytes(B))
        guest.pump()
    assert guest.gone
    assert table.swarm.stats().wasted_bytes >= 256 * B


def test_stray_rejects_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """BEP 6 would have it closed at the first; but rejects and cancels cross on their way."""
    monkeypatch.setattr(ledger, "MAX_STRAY_REJECTS", 256)
    table = Table()
    guest = table.guest()
    for _ in range(200):
        guest.wire.reject(0, 0, B)
        guest.pump()
    table.pass_time(2.0)
    for _ in range(200):
        guest.wire.reject(0, 0, B)
        guest.pump()
    assert not guest.gone
    for _ in range(100):
        guest.wire.reject(0, 0, B)
        guest.pump()
    assert guest.gone
    assert "rejects what it was not asked for" in table.drops()[-1].reason


def test_a_fast_message_without_the_extension_is_told_of() -> None:
    table = Table()
    guest = table.guest()
    assert guest.peer is not None
    guest.peer.connection.fast = False
    guest.wire._send(m.frame(m.HAVE_ALL))
    guest.pump()
    assert guest.gone
    assert table.drops()[-1].reason == "sends have all (BEP 6) without having agreed to such messages"


@pytest.mark.parametrize("survivor_is_ours", [True, False])
def test_who_is_left_without_a_connection_after_a_crossing_is_dialled_again(survivor_is_ours: bool) -> None:
    """The other side may keep the one that we closed."""
    table = Table()
    identity = b"-ZZ0000-" + bytes(12) if survivor_is_ours else b"-AA0000-" + bytes(12)
    there = Endpoint("80.0.0.5", 6881)
    table.swarm.found(there, "dht", table.now)
    assert table.swarm.next_dial(table.now) == there
    came = table.guest("80.0.0.5", peer_id=identity)
    dialled = table.swarm.dial_opened(there, table.now)
    assert dialled is not None
    handshake = m.HandshakeReceived(INFO.info_hash.swarm_ids[0], identity, False, False, False)
    dialled.connection.open, dialled.connection.peer_id = True, identity
    table.swarm.receive(dialled, [handshake], table.now)
    assert (came.peer.gone, dialled.gone) == (survivor_is_ours, not survivor_is_ours)
    survivor = dialled if survivor_is_ours else came.peer
    assert table.swarm.next_dial(table.now) is None
    table.swarm.lost(survivor, "the peer closed the connection", table.now + 0.1)
    assert table.swarm.next_dial(table.now + 0.2) == there


def test_ourselves_and_twins_are_dropped() -> None:
    table = Table()
    first = table.guest("80.0.0.1")
    twin = table.guest("80.0.0.9")
    assert not first.gone
    assert twin.gone
    assert table.swarm.stats().peers == 1
    assert table.swarm.stats().handshake_failed == 0
    # An address that leads to ourselves: the handshake carries our own id.
    swarm = table.swarm
    ours = Endpoint("80.0.0.77", 6881)
    swarm.found(ours, "dht", table.now)
    assert swarm.next_dial(table.now) == ours
    peer = swarm.dial_opened(ours, table.now)
    assert peer is not None
    echo = b"".join(bytes(part) for part in peer.connection.outgoing())
    peer.connection.buffer()[: len(echo)] = echo
    with pytest.raises(ProtocolError) as caught:
        peer.connection.received(len(echo), table.now)
    swarm.breached(peer, caught.value, table.now)
    table.pass_time(3000.0)
    swarm.found(ours, "dht", table.now)
    assert swarm.next_dial(table.now) is None


def test_silence_after_the_dial_is_a_failed_handshake() -> None:
    table = Table()
    swarm = table.swarm
    endpoint = Endpoint("80.0.0.5", 6881)
    swarm.found(endpoint, "dht", table.now)
    assert swarm.next_dial(table.now) == endpoint
    peer = swarm.dial_opened(endpoint, table.now)
    assert peer is not None
    table.pass_time(9.0)
    assert not peer.gone
    table.pass_time(2.0)
    assert peer.gone
    assert swarm.dropped() == [peer]
    stats = swarm.stats()
    assert (stats.dialled, stats.connected, stats.handshake_failed, stats.peers) == (1, 0, 1, 0)


def test_dials_that_fail_are_counted_by_how() -> None:
    table = Table()
    for number, timed_out in enumerate((True, False, False)):
        endpoint = Endpoint(f"80.0.0.{number}", 6881)
        table.swarm.found(endpoint, "tracker", table.now)
        assert table.swarm.next_dial(table.now) == endpoint
        table.swarm.dial_failed(endpoint, table.now, timed_out=timed_out)
    stats = table.swarm.stats()
    assert (stats.timed_out, stats.refused, stats.dialled) == (1, 2, 3)
    assert stats.found == {"tracker": 3}


# --- metadata


def test_a_liar_about_metadata_is_banned_and_another_is_believed() -> None:
    table = Table(None)
    liar = table.guest("80.0.0.1", metadata_size=len(INFO.raw))
    liar.wire.metadata_data(0, len(INFO.raw), bytes(len(INFO.raw)))
    liar.pump()
    assert [drop.banned for drop in table.drops()] == [True]
    honest = table.guest("80.0.0.2", metadata_size=len(INFO.raw))
    honest.wire.metadata_data(0, len(INFO.raw), INFO.raw)
    honest.pump()
    assert table.swarm.info == INFO
    assert table.swarm.stats().metadata_hash_failures == 1


def test_who_has_no_metadata_or_keeps_it_is_counted() -> None:
    table = Table(None)
    table.guest("80.0.0.1", peer_id=b"1" * 20, ut_metadata=0)
    table.guest("80.0.0.2", peer_id=b"2" * 20)  # offers the extension and no size: it has none itself
    keeps = table.guest("80.0.0.3", peer_id=b"3" * 20, metadata_size=len(INFO.raw))
    keeps.wire.metadata_reject(0)
    keeps.pump()
    stats = table.swarm.stats()
    assert (stats.connected, stats.without_metadata, stats.metadata_rejected) == (3, 2, 1)


def test_metadata_with_the_right_hash_that_cannot_be_used_is_told() -> None:
    raw = info_dict(**{"piece length": -5})
    table = Table(None)
    table.swarm = Swarm(
        InfoHash(v1=hashlib.sha1(raw).digest()), peer_id=OURS, rng=random.Random(1), now=table.now, info=None
    )
    guest = table.guest(metadata_size=len(raw))
    guest.wire.metadata_data(0, len(raw), raw)
    guest.pump()
    assert table.swarm.info is None
    assert "piece length" in str(table.swarm.broken)


def test_metadata_only_does_not_dial_any_more_once_it_is_there() -> None:
    table = Table(None, metadata_only=True)
    guest = table.guest(metadata_size=len(INFO.raw))
    guest.wire.metadata_data(0, len(INFO.raw), INFO.raw)
    guest.pump()
    table.swarm.found(Endpoint("80.0.0.50", 6881), "dht", table.now)
    assert table.swarm.next_dial(table.now) is None


# --- peer exchange


def added(*hosts: str) -> bytes:
    return PexMessage(tuple(PexPeer(Endpoint(host, 6881), 0) for host in hosts), ()).encode()


def test_hearsay_of_a_stranger_leads_nowhere_near_home() -> None:
    table = Table()
    guest = table.guest("80.0.0.1")
    guest.wire.pex(added("80.7.7.7", "127.0.0.1", "192.168.1.1", "10.0.0.1"))
    guest.pump()
    assert table.swarm.stats().found == {"pex": 1}
    neighbour = table.guest("192.168.1.7", peer_id=b"-XX0100-neighbouring")
    neighbour.wire.pex(added("192.168.1.8"))
    neighbour.pump()
    assert table.swarm.stats().found == {"pex": 2}


@pytest.mark.parametrize("why", ["private", "switched off"])
def test_where_peer_exchange_is_forbidden_none_is_taken_or_offered(why: str) -> None:
    private = why == "private"
    table = Table(Info.from_bytes(info_dict(private=private)), pex=private)
    guest = table.guest("80.0.0.1")
    assert guest.wire.remote.ut_pex == 0
    guest.wire.pex(added("80.7.7.7"))
    guest.pump()
    assert not table.swarm.stats().found
    other = table.guest("80.0.0.2", peer_id=b"-XX0100-otherotherot", p=7000)
    table.pass_time(130.0)
    assert not [event for event in (*guest.heard, *other.heard) if isinstance(event, m.PexReceived)]


def test_peers_are_told_of_each_other_at_most_once_a_minute() -> None:
    table = Table()
    one = table.guest("80.0.0.1", peer_id=b"1" * 20, p=7001)
    other = table.guest("80.0.0.2", peer_id=b"2" * 20, p=7002)
    table.pass_time(100.0)
    (heard,) = [event for event in one.heard if isinstance(event, m.PexReceived)]
    assert [peer.endpoint for peer in heard.added] == [Endpoint("80.0.0.2", 7002)]
    (heard,) = [event for event in other.heard if isinstance(event, m.PexReceived)]
    assert [peer.endpoint for peer in heard.added] == [Endpoint("80.0.0.1", 7001)]


# --- limits and misuse


def test_there_is_room_for_so_many_peers() -> None:
    table = Table(max_peers=3)
    guests = [table.guest(f"80.0.0.{n}", peer_id=bytes([n]) * 20) for n in range(1, 6)]
    assert [guest.gone for guest in guests] == [False, False, False, True, True]
    table.swarm.found(Endpoint("80.0.0.50", 6881), "dht", table.now)
    assert table.swarm.next_dial(table.now) is None


def test_pieces_begin_once_and_after_the_metadata() -> None:
    table = Table(None)
    with pytest.raises(MisuseError):
        table.swarm.begin(Bitfield(4), None, 0.0)
    with pytest.raises(MisuseError):
        table.swarm.piece_stored(0, True, 0.0)
    table = Table()
    with pytest.raises(MisuseError):
        table.swarm.begin(Bitfield(4), None, 0.0)


def test_haves_found_late_are_told_to_who_is_there_already() -> None:
    table = Table(begin=False)
    guest = table.guest()
    table.swarm.begin(Bitfield.of(4, [1, 3]), None, table.now)
    guest.pump()
    assert guest.wire.peer_has == Bitfield.of(4, [1, 3])


def test_a_disk_that_lags_is_said() -> None:
    table = Table()
    assert not table.swarm.congested
    guest = table.guest()
    guest.offer()
    guest.serve()
    exchange = table.swarm._exchange
    assert exchange is not None
    exchange._max_unwritten = PIECE
    assert table.swarm.congested
    finish_jobs(table)
    assert not table.swarm.congested
