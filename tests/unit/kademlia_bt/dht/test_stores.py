"""Tokens, stored peers, the limit for each address, and votes on ours: bounded and forgetful."""

from __future__ import annotations

import contextlib
import random
import tracemalloc

import pytest

from kademlia_bt.dht.guard import BLOCK_S, WINDOW_S, Guard
from kademlia_bt.dht.peer_store import MAX_PEERS_PER_TORRENT, MAX_TORRENTS, PEER_LIFE_S, PeerStore
from kademlia_bt.dht.tokens import TOKEN_BYTES, Tokens
from kademlia_bt.dht.votes import VOTES_NEEDED, AddressVotes, network_of
from kademlia_bt.items.store import MAX_ITEMS, ItemStore
from kademlia_bt.items.values import ImmutableItem, ItemError
from wire.compact import IPV4, IPV6, Endpoint

HASH = bytes(range(20))
OTHER = bytes(range(1, 21))
IP = bytes([1, 2, 3, 4])


class TestTokens:
    def test_good_for_its_address_and_hash_alone(self) -> None:
        tokens = Tokens(random.Random(1), 0.0)
        token = tokens.make(IP, HASH, 0.0)
        assert len(token) == TOKEN_BYTES
        assert tokens.check(token, IP, HASH, 1.0)
        assert not tokens.check(token, bytes([1, 2, 3, 5]), HASH, 1.0)
        assert not tokens.check(token, IP, OTHER, 1.0)
        for wrong in (b"", token[:-1], token + b"x", bytes(TOKEN_BYTES), bytes(1_000_000)):
            assert not tokens.check(wrong, IP, HASH, 1.0)

    @pytest.mark.parametrize(
        ("made", "used", "good"), [(0, 299, True), (299, 590, True), (0, 599, True), (1, 601, False), (0, 3600, False)]
    )
    def test_lives_five_to_ten_minutes(self, made: float, used: float, good: bool) -> None:
        tokens = Tokens(random.Random(1), 0.0)
        token = tokens.make(IP, HASH, made)
        assert tokens.check(token, IP, HASH, used) is good

    def test_turns_with_every_use(self) -> None:
        tokens = Tokens(random.Random(1), 0.0)
        first = tokens.make(IP, HASH, 0.0)
        second = tokens.make(IP, HASH, 300.0)
        assert first != second
        assert tokens.check(first, IP, HASH, 300.0)
        tokens.make(IP, HASH, 600.0)
        assert not tokens.check(first, IP, HASH, 600.0)
        assert tokens.check(second, IP, HASH, 600.0)


def peer(index: int) -> bytes:
    return Endpoint(f"1.{index // 65536}.{index // 256 % 256}.{index % 256}", 6881).compact()


class TestPeerStore:
    def test_keeps_and_hands_out_in_wire_form(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        assert store.sample(HASH, 10, 0.0) == b""
        store.add(HASH, peer(1), 0.0)
        store.add(HASH, peer(2), 0.0)
        store.add(HASH, peer(1), 5.0)
        assert store.sample(HASH, 10, 6.0) == b"6:" + peer(1) + b"6:" + peer(2)
        assert store.peers == 2
        assert store.peers_of(HASH, 6.0) == [Endpoint("1.0.0.1", 6881), Endpoint("1.0.0.2", 6881)]

    def test_the_other_family(self) -> None:
        store = PeerStore(IPV6, random.Random(1))
        compact = Endpoint("2a02::5", 77).compact()
        store.add(HASH, compact, 0.0)
        assert store.sample(HASH, 10, 0.0) == b"18:" + compact
        assert store.peers_of(HASH, 0.0) == [Endpoint("2a02::5", 77)]

    def test_an_entry_is_not_found_across_two(self) -> None:
        # The bytes of a third peer stand in the middle of these two, at no entry's start.
        store = PeerStore(IPV4, random.Random(1))
        first, second = b"ab6:cd", b"xyzwuv"
        store.add(HASH, first, 0.0)
        store.add(HASH, second, 0.0)
        straddling = (b"6:" + first + b"6:" + second)[6:12]
        store.add(HASH, straddling, 0.0)
        assert store.peers == 3

    def test_forgets_after_its_time(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        store.add(HASH, peer(1), 0.0)
        store.add(HASH, peer(2), 100.0)
        store.add(HASH, peer(3), 200.0)
        store.add(HASH, peer(1), 300.0)
        assert store.sample(HASH, 10, 100.0 + PEER_LIFE_S) == b"6:" + peer(1) + b"6:" + peer(3)
        store.sweep(200.0 + PEER_LIFE_S)
        assert store.peers == 1
        store.sweep(300.0 + PEER_LIFE_S)
        assert (store.peers, store.info_hashes) == (0, [])

    def test_a_sample_is_random_without_repeats_and_fair(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        for index in range(40):
            store.add(HASH, peer(index), 0.0)
        seen = dict.fromkeys((peer(index) for index in range(40)), 0)
        for _ in range(400):
            sample = store.sample(HASH, 10, 1.0)
            assert len(sample) == 80
            entries = [sample[at + 2 : at + 8] for at in range(0, 80, 8)]
            assert len(set(entries)) == 10
            for entry in entries:
                seen[entry] += 1
        assert min(seen.values()) > 50
        assert store.sample(HASH, 0, 1.0) == b""

    def test_caps_are_exact(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        for index in range(MAX_PEERS_PER_TORRENT + 50):
            store.add(HASH, peer(index), float(index))
        assert store.peers == MAX_PEERS_PER_TORRENT
        kept = store.sample(HASH, 1000, 600.0)
        assert b"6:" + peer(49) not in kept  # the oldest went
        assert b"6:" + peer(50) in kept
        for index in range(MAX_TORRENTS + 10):
            assert store.add(index.to_bytes(20, "big"), peer(1), 0.0) is (index < MAX_TORRENTS - 1)
        assert len(store.info_hashes) == MAX_TORRENTS
        assert store.accepts(HASH)
        assert not store.accepts(OTHER)

    def test_full_stores_of_both_families_take_less_than_50_mb(self) -> None:
        """A hundredth of a flood of 2,000 torrents each, with more peers each than are kept; all scraped too."""
        taken = 0
        for family in (IPV4, IPV6):
            peers = [
                Endpoint(f"9.{n >> 8}.{n & 255}.1" if family is IPV4 else f"2a02:{n + 16:x}::1", 1) for n in range(600)
            ]
            compacts = [peer.compact() for peer in peers]
            tracemalloc.start()
            store = PeerStore(family, random.Random(1))
            for torrent in range(MAX_TORRENTS // 100):
                for index, compact in enumerate(compacts):
                    store.add(torrent.to_bytes(20, "big"), compact, float(index), seed=index % 3 == 0)
                assert store.filters(torrent.to_bytes(20, "big"), 600.0) is not None
            taken += tracemalloc.get_traced_memory()[0] * 100
            tracemalloc.stop()
            assert store.peers == MAX_PEERS_PER_TORRENT * MAX_TORRENTS // 100
        assert taken < 50_000_000

    def test_all_items_take_less_than_2_mb(self) -> None:
        tracemalloc.start()
        items = ItemStore(bytes(20))
        for index in range(2 * MAX_ITEMS):
            with contextlib.suppress(ItemError):
                items.put(ImmutableItem(b"996:" + index.to_bytes(996, "big")), None, 0.0)
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(items) == MAX_ITEMS
        assert taken < 2_000_000

    def test_seeds_are_remembered_with_their_peer(self) -> None:
        store = PeerStore(IPV4, random.Random(1))
        assert store.add(HASH, peer(1), 0.0, seed=True)
        assert store.add(HASH, peer(1), 1.0, seed=False)
        assert store.peers == 1


class TestGuard:
    SOURCE = Endpoint("9.9.9.9", 1)

    def test_a_burst_passes_and_a_flood_is_cut(self) -> None:
        guard = Guard(5)
        assert all(guard.allows(self.SOURCE, 0.0) for _ in range(50))
        assert not guard.allows(self.SOURCE, 0.1)
        assert not guard.allows(Endpoint("9.9.9.9", 2), BLOCK_S - 1)  # the port does not matter
        assert guard.allows(Endpoint("9.9.9.8", 1), 0.1)
        assert guard.allows(self.SOURCE, BLOCK_S + 1)

    def test_a_steady_asker_below_the_limit_is_never_cut(self) -> None:
        guard = Guard(5)
        assert all(guard.allows(self.SOURCE, index / 4.9) for index in range(5_000))

    def test_an_ipv6_network_counts_as_one(self) -> None:
        guard = Guard(1)
        allowed = sum(guard.allows(Endpoint(f"2a02:1:2:3::{index:x}", 1), 0.0) for index in range(100))
        assert allowed == 10
        assert guard.allows(Endpoint("2a02:1:2:4::1", 1), 0.0)

    def test_zero_is_no_limit(self) -> None:
        guard = Guard(0)
        assert all(guard.allows(self.SOURCE, 0.0) for _ in range(1_000))

    def test_forged_sources_fill_no_memory(self) -> None:
        guard = Guard(5)
        for index in range(20_000):
            guard.allows(Endpoint(f"9.{index // 65536}.{index // 256 % 256}.{index % 256}", 1), 0.0)
        assert len(guard._sources) <= 8_192
        guard.sweep(WINDOW_S)
        assert not guard._sources

    def test_who_came_first_is_forgotten_first(self) -> None:
        guard = Guard(0.1)
        source = [Endpoint(f"9.{index // 65536}.{index // 256 % 256}.{index % 256}", 1) for index in range(8_194)]
        assert guard.allows(source[0], 0.0)
        guard.sweep(WINDOW_S)  # it is gone, and comes anew
        for each in source[1:8_192]:
            assert guard.allows(each, WINDOW_S)
        assert guard.allows(source[0], WINDOW_S)
        assert not guard.allows(source[1], WINDOW_S)  # known, and over its limit
        assert guard.allows(source[8_192], WINDOW_S)
        assert guard.allows(source[1], WINDOW_S)  # forgotten for the one before
        assert guard.allows(source[2], WINDOW_S)  # and so on
        assert not guard.allows(source[0], WINDOW_S)

    def test_a_sweep_does_not_pardon(self) -> None:
        guard = Guard(5)
        for _ in range(60):
            guard.allows(self.SOURCE, 0.0)
        guard.sweep(BLOCK_S - 1)
        assert not guard.allows(self.SOURCE, BLOCK_S - 1)


def voter(index: int) -> Endpoint:
    return Endpoint(f"9.{index // 256}.{index % 256}.1", 6881)


class TestVotes:
    OURS = Endpoint("8.8.4.4", 6881)

    def test_enough_networks_agree(self) -> None:
        votes = AddressVotes()
        changed = [votes.vote(self.OURS, voter(index)) for index in range(VOTES_NEEDED + 3)]
        assert changed.index(True) == VOTES_NEEDED - 1
        assert sum(changed) == 1
        assert votes.agreed == self.OURS

    def test_one_network_has_one_voice(self) -> None:
        votes = AddressVotes()
        for index in range(200):
            votes.vote(self.OURS, Endpoint(f"9.9.9.{index}", 1))
            votes.vote(self.OURS, Endpoint(f"2a02:1:2:3::{index:x}", 1))
        assert votes.agreed is None

    def test_ten_liars_flip_nothing(self) -> None:
        votes = AddressVotes()
        lie = Endpoint("6.6.6.6", 1)
        assert not any(votes.vote(lie, voter(index)) for index in range(10))
        for index in range(100, 130):
            votes.vote(self.OURS, voter(index))
        assert votes.agreed == self.OURS
        assert not any(votes.vote(lie, voter(index)) for index in range(10))
        assert votes.agreed == self.OURS

    def test_a_real_change_wins_in_the_end(self) -> None:
        votes = AddressVotes()
        for index in range(40):
            votes.vote(self.OURS, voter(index))
        new = Endpoint("8.8.9.9", 6881)
        assert any(votes.vote(new, voter(index)) for index in range(40))
        assert votes.agreed == new

    def test_local_and_impossible_addresses_are_no_voices(self) -> None:
        votes = AddressVotes()
        for index in range(40):
            for seen in ("127.0.0.1", "10.0.0.1", "0.0.0.0", "224.0.0.1"):
                assert not votes.vote(Endpoint(seen, 5), voter(index))
            assert not votes.vote(Endpoint("8.8.4.4", 0), voter(index))
        assert votes.agreed is None

    def test_networks(self) -> None:
        assert network_of(Endpoint("1.2.3.4", 5)) == network_of(Endpoint("1.2.3.9", 6))
        assert network_of(Endpoint("1.2.3.4", 5)) != network_of(Endpoint("1.2.4.4", 5))
        assert network_of(Endpoint("2a02:1:2:3:4::", 5)) == network_of(Endpoint("2a02:1:2:3:9::", 5))
        assert network_of(Endpoint("2a02:1:2:3::", 5)) != network_of(Endpoint("2a02:1:2:4::", 5))
