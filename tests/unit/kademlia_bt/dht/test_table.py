"""The routing table: who comes in, who waits, who goes, who is handed out."""

from __future__ import annotations

import random

from kademlia_bt.dht.contact import Contact, unpack_contacts
from kademlia_bt.dht.node_id import make_node_id, number, random_id, random_id_sharing, shared_bits
from kademlia_bt.dht.table import GOOD_S, K, Table
from wire.compact import IPV4, IPV6, Endpoint

RNG = random.Random(7)
OWN = random_id(RNG)


def local(index: int, bits: int | None = None) -> Contact:
    node_id = random_id(RNG) if bits is None else random_id_sharing(OWN, bits, RNG)
    return Contact(node_id, Endpoint(f"127.0.{index // 250}.{index % 250 + 1}", 6881))


def public(host: str, bits: int, own: bytes = OWN) -> Contact:
    """A node whose id does not fit its address, as they are so far from one another."""
    return Contact(random_id_sharing(own, bits, RNG), Endpoint(host, 6881))


def filled(count: int, now: float = 0.0) -> tuple[Table, list[Contact]]:
    table = Table(IPV4, OWN)
    contacts = [local(index) for index in range(count)]
    for contact in contacts:
        table.answered(contact, 0.1, now)
    return table, contacts


def given(table: Table, target: bytes) -> list[Contact]:
    return unpack_contacts(table.closest_compact(target), table.family, 100)


def test_closest_are_the_true_closest() -> None:
    table, contacts = filled(300)
    inside = [contact for contact in contacts if table.get(contact.endpoint)]
    assert len(inside) > 150
    for _ in range(300):
        target = random_id(RNG)
        true = sorted(inside, key=lambda c: number(c.id) ^ number(target))[:K]
        assert given(table, target) == true
        assert table.closest(target, K) == true


def test_close_to_our_own_id_too() -> None:
    table = Table(IPV4, OWN)
    contacts = [local(index, bits) for bits in range(40) for index in (bits * 8, bits * 8 + 1, bits * 8 + 2)]
    assert all(table.answered(contact, 0.1, 0.0) for contact in contacts)
    for bits in (0, 5, 20, 39, 100):
        target = random_id_sharing(OWN, bits, RNG)
        assert given(table, target) == sorted(contacts, key=lambda c: number(c.id) ^ number(target))[:K]


def test_few_nodes_are_all_given() -> None:
    table, contacts = filled(3)
    assert set(given(table, random_id(RNG))) == set(contacts)
    assert Table(IPV4, OWN).closest_compact(OWN) == b""


def test_a_full_bucket_keeps_its_live_nodes() -> None:
    table = Table(IPV4, OWN)
    first = [local(index, 10) for index in range(K)]
    assert all(table.answered(contact, 0.1, 0.0) for contact in first)
    late = [local(100 + index, 10) for index in range(K + 5)]
    assert not any(table.answered(contact, 0.1, 1.0) for contact in late)
    assert not table.wants(late[0].id, Endpoint("127.0.9.9", 1))
    assert (len(table), table.replacements) == (K, K)
    # One falls silent: it is replaced by the one that answered last.
    assert table.wants(late[0].id, Endpoint("127.0.9.9", 1)) is False
    assert table.failed(first[3].endpoint) == first[3]
    assert table.get(first[3].endpoint) is None
    assert table.get(late[-1].endpoint) is not None
    assert (len(table), table.replacements) == (K, K - 1)


def test_without_a_replacement_silence_is_forgiven_for_a_while() -> None:
    table, contacts = filled(5)
    silent = contacts[0]
    assert table.failed(silent.endpoint) is None
    assert silent not in given(table, silent.id)  # handed out no more,
    assert table.closest(silent.id, K)[-1] == silent  # but still asked where others are few
    assert table.good(1.0) == 4
    assert table.answered(silent, 0.1, 2.0)
    assert given(table, silent.id)[0] == silent
    assert [table.failed(silent.endpoint) for _ in range(3)] == [None, None, silent]
    assert len(table) == 4
    assert table.failed(silent.endpoint) is None


def test_a_newcomer_takes_a_silent_nodes_place() -> None:
    table = Table(IPV4, OWN)
    first = [local(index, 10) for index in range(K)]
    for contact in first:
        table.answered(contact, 0.1, 0.0)
    table.failed(first[2].endpoint)
    new = local(99, 10)
    assert table.wants(new.id, new.endpoint)
    assert table.answered(new, 0.1, 1.0)
    assert table.get(first[2].endpoint) is None
    assert len(table) == K


def test_it_remembers_by_the_first_byte_who_finds_no_place() -> None:
    table = Table(IPV4, OWN)
    first = [local(index, 5) for index in range(K)]
    for contact in first:
        table.answered(contact, 0.1, 0.0)
    late = local(99, 5)
    assert not any(table.full)
    assert not table.wants(late.id, late.endpoint)
    assert [byte for byte in range(256) if table.full[byte]] == [late.id[0]]
    table.failed(first[2].endpoint)  # a silent node's place is to be had
    assert not any(table.full)
    assert table.wants(late.id, late.endpoint)
    assert table.answered(late, 0.1, 1.0)
    assert not table.wants(first[2].id, first[2].endpoint)
    assert table.full[first[2].id[0]]
    table.rekey(random_id(RNG))
    assert not any(table.full)


def test_our_own_first_byte_does_not_say_who_finds_a_place() -> None:
    table = Table(IPV4, OWN)
    for index in range(K):
        table.answered(local(index, 10), 0.1, 0.0)
    late = local(99, 10)
    assert not table.wants(late.id, late.endpoint)
    assert not any(table.full)
    assert table.wants(local(100, 11).id, late.endpoint)


def test_we_are_not_in_our_own_table() -> None:
    table = Table(IPV4, OWN)
    assert not table.answered(Contact(OWN, Endpoint("127.0.0.1", 1)), 0.1, 0.0)
    assert not table.wants(OWN, Endpoint("127.0.0.1", 1))


def test_a_node_with_a_new_id_is_a_new_node() -> None:
    table, contacts = filled(5)
    new = Contact(random_id(RNG), contacts[0].endpoint)
    assert table.answered(new, 0.1, 1.0)
    assert len(table) == 5
    assert contacts[0] not in given(table, contacts[0].id)
    assert given(table, new.id)[0] == new


def test_an_id_belongs_to_the_first_who_answers_with_it() -> None:
    table, contacts = filled(5)
    thief = Contact(contacts[0].id, Endpoint("127.0.7.7", 7))
    assert not table.answered(thief, 0.1, 1.0)
    assert table.get(contacts[0].endpoint) is not None
    table.failed(contacts[0].endpoint)
    assert table.answered(thief, 0.1, 2.0)  # it moved
    assert table.get(contacts[0].endpoint) is None


def test_one_node_an_address_and_one_a_network_in_a_bucket() -> None:
    table = Table(IPV4, OWN)
    first = public("8.8.4.4", 1)
    assert table.answered(first, 0.1, 0.0)
    assert not table.answered(Contact(random_id(RNG), Endpoint("8.8.4.4", 7000)), 0.1, 0.0)
    assert not table.wants(random_id(RNG), Endpoint("8.8.4.4", 7000))
    assert not table.answered(public("8.8.4.9", 1), 0.1, 0.0)
    assert table.answered(public("8.8.4.9", 2), 0.1, 0.0)  # another bucket
    assert table.answered(public("8.8.5.9", 1), 0.1, 0.0)  # another network
    v6 = Table(IPV6, OWN)
    assert v6.answered(Contact(random_id_sharing(OWN, 1, RNG), Endpoint("2a02:1:2:3::1", 1)), 0.1, 0.0)
    assert not v6.answered(Contact(random_id_sharing(OWN, 1, RNG), Endpoint("2a02:1:2:3::2", 1)), 0.1, 0.0)
    assert v6.answered(Contact(random_id_sharing(OWN, 1, RNG), Endpoint("2a02:1:2:4::1", 1)), 0.1, 0.0)


def test_an_id_that_fits_its_address_displaces_one_that_does_not() -> None:
    endpoint = Endpoint("8.10.1.1", 6881)
    new = Contact(make_node_id(endpoint.ip, RNG), endpoint)
    own = random_id_sharing(new.id, 10, RNG)
    table = Table(IPV4, own)
    for index in range(K):
        assert table.answered(public(f"8.8.{index}.1", 10, own), 0.1, 0.0)
    assert not table.answered(public("8.9.1.1", 10, own), 0.1, 0.0)
    assert table.answered(new, 0.1, 0.0)
    assert len(table) == K
    assert table.get(endpoint) is not None


def test_good_is_a_question_of_time() -> None:
    table, contacts = filled(2)
    assert table.good(GOOD_S - 1) == 2
    assert table.has_good(GOOD_S - 1)
    assert table.good(GOOD_S) == 0
    assert not table.has_good(GOOD_S)
    node = table.get(contacts[0].endpoint)
    assert node is not None
    node.last_query = GOOD_S  # it answered once, and asks us now (BEP 5)
    assert table.good(GOOD_S + 1) == 1


def test_the_stalest_is_found() -> None:
    table, contacts = filled(4)
    assert table.stalest(59.0, 60.0) is None
    for contact in (contacts[0], contacts[1], contacts[3]):
        table.answered(contact, 0.1, 30.0)
    node = table.stalest(60.0, 60.0)
    assert node is not None
    assert node.contact == contacts[2]
    node.probed_at = 60.0
    assert table.stalest(61.0, 60.0) is None


def test_buckets_are_refreshed_in_turn() -> None:
    table = Table(IPV4, OWN)
    assert table.refresh_target(0.0, RNG) is None
    for bits in (0, 1, 2, 5):
        table.answered(local(bits, bits), 0.1, 0.0)
    seen = []
    while (target := table.refresh_target(0.0, RNG)) is not None:
        seen.append(shared_bits(number(target), number(OWN)))
        table.looked_up(target, 0.0)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert table.refresh_target(GOOD_S - 1, RNG) is None
    assert table.refresh_target(GOOD_S, RNG) is not None


def test_another_own_id_sorts_everybody_anew() -> None:
    table, contacts = filled(100)
    new = random_id(RNG)
    before = len(table)
    table.rekey(new)
    assert table.own_id == new
    assert len(table) <= before
    inside = [contact for contact in contacts if table.get(contact.endpoint)]
    assert len(inside) == len(table) > 60
    target = random_id(RNG)
    assert given(table, target) == sorted(inside, key=lambda c: number(c.id) ^ number(target))[:K]


def test_contacts_in_compact_form() -> None:
    v4 = Contact(OWN, Endpoint("1.2.3.4", 5))
    v6 = Contact(OWN, Endpoint("2a02::1", 5))
    assert (len(v4.compact()), len(v6.compact())) == (26, 38)
    assert unpack_contacts(v4.compact() * 3 + b"rest", IPV4, 2) == [v4, v4]
    assert unpack_contacts(v6.compact(), IPV6, 8) == [v6]
    assert unpack_contacts(b"", IPV4, 8) == []
