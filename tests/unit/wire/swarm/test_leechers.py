"""Who is put off by a seed, and when it is served all the same."""

from __future__ import annotations

import random

from tests.unit.wire.swarm.test_thrift import PIECE, PIECES, make_peers
from wire.swarm.leechers import HUNGER_PIECES, HUNGER_S, LOOK_S, Leechers
from wire.swarm.meter import Meter
from wire.swarm.peer import Peer
from wire.swarm.picker import Picker

B = 16384


class Desk:
    """A crowd of ten, each of which asks for the same as the others."""

    def __init__(self, asks: range, leechers: int = 10) -> None:
        self.now = 0.0
        self.picker = Picker(PIECES, random.Random(1))
        self.up = Meter(0.0)
        self.peers = make_peers(leechers)
        for peer in self.peers:
            peer.connection.outgoing()  # its greeting is on its way
        self.leechers = Leechers(self.picker, PIECE, self.peers, self.up, {})
        self.leechers.gather(0.0)
        for peer in self.peers:
            for index in asks:
                self.ask(peer, index)

    def ask(self, peer: Peer, index: int) -> None:
        for begin in range(0, PIECE, B):
            if not self.leechers.puts_off(peer, index, [(index, begin, B)]):
                peer.queue[(index, begin, B)] = None

    def got(self, peer: Peer, index: int, *, passed_on: bool = False) -> None:
        peer.source.has = self.picker.gained(peer.source.has, index)
        self.leechers.appeared(peer, index, self.now, passed_on=passed_on)

    def give(self, peer: Peer) -> int:
        """All that is queued for it is given. Returns how many blocks."""
        count = len(peer.queue)
        self.up.total += count * B
        for index, begin, _ in peer.queue:
            if begin + B == PIECE:
                self.leechers.gave(peer, index)
        peer.queue.clear()
        return count

    def second(self) -> list[int]:
        """A second goes by; how many blocks each is given then."""
        self.now += 1.0
        self.up.measure(self.now)
        self.leechers.tick(self.now)
        return [self.give(peer) for peer in self.peers]


def test_each_piece_is_queued_for_one_alone() -> None:
    desk = Desk(range(30))
    queued = [index for peer in desk.peers for index in {index for index, *_ in peer.queue}]
    assert sorted(queued) == list(range(30))
    assert all(len(peer.queue) + len(peer.waiting) == 30 * PIECE // B for peer in desk.peers)


def test_what_was_asked_for_before_they_were_many_is_shared_out() -> None:
    desk = Desk(range(PIECES), leechers=7)
    assert all(len(peer.queue) == PIECES * PIECE // B for peer in desk.peers)
    desk.peers.append(make_peers(8)[-1])
    desk.leechers.gather(1.0)
    pieces = [{index for index, *_ in peer.queue} for peer in desk.peers]
    assert sum(map(len, pieces)) == len(set().union(*pieces))
    assert all(len(own) == -(-PIECES // 8) for own in pieces[:7])


def test_what_the_first_takes_back_is_for_the_next_who_waits() -> None:
    desk = Desk(range(1))
    one, other = desk.peers[:2]
    for block in list(one.queue):
        del one.queue[block]
        desk.leechers.took_back(one, block[0])
    desk.leechers.tick(1.0)
    assert len(other.queue) == PIECE // B


def test_who_gets_nothing_from_others_is_given_more_and_more() -> None:
    desk = Desk(range(30))
    for peer in desk.peers:
        desk.give(peer)
    for peer in desk.peers:
        desk.got(peer, desk.peers.index(peer))
    desk.got(desk.peers[1], 0, passed_on=True)  # these two know each other, and nobody else anybody
    desk.got(desk.peers[0], 1, passed_on=True)
    lone = desk.peers[5]
    given = [desk.second()[5] for _ in range(8)]
    assert not any(given[: int(HUNGER_S)]), "it is no sooner hungry"
    grows = given[int(HUNGER_S) :]
    assert grows[0] >= 1
    assert sum(grows) > 20
    desk.got(lone, 0, passed_on=True)
    assert lone.hunger == 0
    assert desk.second()[5] == 0


def test_those_who_feed_each_other_are_given_what_there_is_to_spare() -> None:
    desk = Desk(range(30))
    for peer in desk.peers:
        desk.give(peer)
    for index in range(30):
        desk.got(desk.peers[0], index)
        desk.got(desk.peers[1], index, passed_on=True)
    for peer in desk.peers[:2]:
        peer.waiting.clear()  # they have it
    spared = 0
    for index in range(30):
        for peer in desk.peers[2:]:
            desk.got(peer, index, passed_on=True)
        spared += sum(desk.second())
    assert 0 < spared * B < 0.25 * 30 * PIECE


def test_who_kept_a_piece_for_itself_is_fed_after_the_others() -> None:
    desk = Desk(range(30))
    for peer in desk.peers:
        desk.give(peer)
    mean, other, busy = desk.peers[:3]
    for peer in desk.peers[2:]:
        peer.waiting.clear()
    desk.got(mean, 0)
    desk.got(busy, 0)  # of us, for the other kept it
    desk.got(busy, 1, passed_on=True)
    other.served_at = 0.5  # the mean one waits longer
    busy.queue[(60, 0, B)] = None
    desk.up.total = 0  # from here on it is a slow line, and busy
    fed = []
    for second in range(1, int(HUNGER_S) + 2):
        desk.up.total += B
        desk.up.measure(float(second))
        desk.leechers.tick(float(second))
        fed.append((len(mean.queue), len(other.queue)))
    assert fed == [(0, 0)] * int(HUNGER_S) + [(0, 1)]


def test_where_pieces_take_long_to_be_passed_on_nobody_is_hungry_sooner() -> None:
    desk = Desk(range(20))
    for peer in desk.peers:
        desk.give(peer)
    desk.now = 4.0  # so long the first piece took
    desk.got(desk.peers[0], 0)
    desk.got(desk.peers[1], 0, passed_on=True)
    desk.got(desk.peers[0], 2, passed_on=True)
    desk.now = 0.0
    fed_after = next(second for second in range(1, 30) if desk.second()[5])
    assert fed_after > HUNGER_PIECES * 4.0


def test_an_idle_seed_lets_each_be_the_first_for_more() -> None:
    desk = Desk(range(0))
    one = desk.peers[0]
    for index in range(30):
        desk.ask(one, index)
    assert desk.give(one) == 10 * PIECE // B
    desk.leechers.look(LOOK_S)
    assert desk.give(one) == 10 * PIECE // B
    desk.got(one, 0)
    desk.got(desk.peers[1], 0, passed_on=True)  # no doubt is left, and once a second it is looked at
    for index in range(1, 5):
        desk.got(desk.peers[1], index, passed_on=True)
    assert desk.second()[0] == 5 * PIECE // B


def test_who_passes_most_on_is_the_first_for_what_is_free() -> None:
    desk = Desk(range(1))
    first, _, third, *_ = desk.peers
    third.spread = 5.0
    first.queue.clear()
    desk.leechers.choked(first)
    desk.leechers.tick(1.0)
    assert [bool(peer.queue) for peer in desk.peers] == [peer is third for peer in desk.peers]


def test_what_one_was_given_before_they_were_many_is_waited_for() -> None:
    desk = Desk(range(0), leechers=7)
    desk.ask(desk.peers[0], 5)
    desk.give(desk.peers[0])
    desk.peers.append(make_peers(8)[-1])
    desk.leechers.gather(1.0)
    desk.ask(desk.peers[1], 5)
    assert not desk.peers[1].queue
    assert len(desk.peers[1].waiting) == PIECE // B


def test_who_feed_each_other_after_all_wait_for_each_other_again() -> None:
    desk = Desk(range(30))
    desk.got(desk.peers[0], 0)
    for peer in desk.peers:
        desk.give(peer)
    for at in (1.0, 9.0):
        desk.leechers.look(at)
    assert not any(peer.waiting for peer in desk.peers), "nothing was passed on"
    desk.give(desk.peers[1])
    desk.now = 10.0
    desk.leechers.tick(desk.now)  # what was given is counted
    desk.up.total += PIECE
    for peer in desk.peers[2:]:
        for index in range(30, 60):
            desk.got(peer, index, passed_on=True)
    assert desk.peers[3].queue
    for second in range(11, 60):
        desk.leechers.tick(float(second))
        for index in range(60, 90):
            desk.got(desk.peers[3], index)
        if desk.peers[4].waiting:
            break
    assert desk.peers[4].waiting


def test_a_crowd_that_disperses_is_served_whole() -> None:
    desk = Desk(range(30))
    desk.leechers.disperse()
    assert all(len(peer.queue) == 30 * PIECE // B and not peer.waiting for peer in desk.peers)
