"""The routing table: live nodes, more of them the closer to our own id (Kademlia, BEP 5). One family, no I/O.

Bucket i holds nodes that share exactly i leading bits with us, which is what "split only the bucket that
holds our own id" comes to. The first ones are larger, so that lookups start closer. Only nodes that answered
a query of ours come in; where a bucket is full, they wait as replacements for one that stops answering.
One node an address and, in a bucket, one a network, so that one owner cannot fill it; loopback and private
addresses are exempt, as whole test networks live there.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from itertools import islice

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.node_id import ID_BITS, is_secure, number, random_id_sharing, shared_bits
from kademlia_bt.dht.votes import network_of
from wire.compact import Address, Endpoint, Family, reach

__all__ = ["GOOD_S", "K", "Node", "Table", "bucket_capacity"]

K = 8
"""Nodes a bucket holds and an answer names (BEP 5)."""
GOOD_S = 15 * 60.0
"""A node heard of within this time is good; a bucket not looked up in it is refreshed (BEP 5)."""

_FIRST_CAPACITIES = (128, 64, 32, 16)
_MAX_REPLACEMENTS = K
_MAX_FAILS = 3
"""A node silent this often goes even without a replacement; until then it may be our network that is down."""
_INDEX_BITS = 12
"""4,096 ready answers, a megabyte at most: a few hundred nodes seldom have as many leading bits in common."""
_BELOW_INDEX = ID_BITS - _INDEX_BITS
_RTT_GAIN = 0.25
_FIRST_BYTE_BITS = 8
"""With a first byte other than ours, an id shares fewer bits with us; that byte alone says how many."""


class Node:
    """What is known of a node that answered us."""

    __slots__ = (
        "compact", "contact", "fails", "last_query", "last_reply", "network", "number", "probed_at", "rtt_s", "secure",
    )  # fmt: skip

    def __init__(self, contact: Contact, rtt_s: float, now: float) -> None:
        self.contact = contact
        self.number = number(contact.id)
        self.compact = contact.compact()
        self.secure = is_secure(contact.id, contact.endpoint)
        self.network = network_of(contact.endpoint)
        self.last_reply = now
        self.last_query = now - GOOD_S
        """When it last asked us something."""
        self.probed_at = now
        """When we last asked it, answered or not."""
        self.fails = 0
        """Exchanges in a row, each of several tries, that it left unanswered."""
        self.rtt_s = rtt_s

    def is_good(self, now: float) -> bool:
        """BEP 5: answered lately, or answered once and asked us lately; and no question is left open since."""
        return not self.fails and (now - self.last_reply < GOOD_S or now - self.last_query < GOOD_S)


class _Bucket:
    __slots__ = ("capacity", "nodes", "refreshed_at", "replacements", "silent")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.nodes: list[Node] = []
        self.silent = 0
        """How many of the nodes have failed and not answered since."""
        self.replacements: list[Node] = []
        self.refreshed_at = float("-inf")


class Table:
    """The nodes that one face knows."""

    def __init__(self, family: Family, own_id: bytes) -> None:
        self.family = family
        self.by_endpoint: dict[Address, Node] = {}
        """All nodes, in the order they came in. To be looked into by whoever asks often; not to be changed."""
        self.full = bytearray(256)
        """By the first byte of an id: 1 where `wants` has found the bucket of all such ids full, and it still is. To be
        looked into, as `by_endpoint`: most who ask a node that has joined are of those."""
        self._item_head = b"%d:%b" % (len(family.nodes_key), family.nodes_key)
        self._reset(own_id)

    def _reset(self, own_id: bytes) -> None:
        self.own_id = own_id
        self._own = number(own_id)
        self._buckets = [_Bucket(bucket_capacity(depth)) for depth in range(ID_BITS)]
        self.by_endpoint.clear()
        self._have_room()
        self._by_host: dict[str, Node] = {}
        # The index of nodes to hand out, built anew when one came or went: their numbers in order, their compact
        # forms, and for the first bits of a target the ready answer, or else the numbers among which it is.
        self._stale = True
        self._numbers: list[int] = []
        self._compact: dict[int, bytes] = {}
        self._near: list[bytes | list[int] | None] = []

    def __len__(self) -> int:
        return len(self.by_endpoint)

    @property
    def nodes(self) -> list[Node]:
        """All nodes, in the order they came in."""
        return list(self.by_endpoint.values())

    @property
    def replacements(self) -> int:
        """Nodes that wait for a place."""
        return sum(len(bucket.replacements) for bucket in self._buckets)

    def good(self, now: float, at_most: int | None = None) -> int:
        """How many nodes are good; counted no further than `at_most`."""
        good = (node for node in self.by_endpoint.values() if node.is_good(now))
        return sum(1 for _ in islice(good, at_most))

    def has_good(self, now: float) -> bool:
        """Whether any node is good."""
        return self.good(now, 1) > 0

    def get(self, endpoint: Endpoint) -> Node | None:
        """The node at an endpoint."""
        return self.by_endpoint.get(endpoint)

    def wants(self, node_id: bytes, endpoint: Endpoint) -> bool:
        """Whether a node with that id would find a place, so that it is worth a ping. False for those in the table."""
        bits = ID_BITS - (int.from_bytes(node_id, "big") ^ self._own).bit_length()
        if bits == ID_BITS or endpoint in self.by_endpoint:
            return False
        bucket = self._buckets[bits]
        if len(bucket.nodes) >= bucket.capacity and not bucket.silent:
            if bits < _FIRST_BYTE_BITS:
                self.full[node_id[0]] = 1
            return False
        return endpoint.host not in self._by_host

    def answered(self, contact: Contact, rtt_s: float, now: float) -> bool:
        """A node answered a question of ours: it is refreshed, or comes in, or waits. True where it is in the table."""
        node = self.by_endpoint.get(contact.endpoint)
        if node is not None and node.contact.id == contact.id:
            node.last_reply = now
            node.rtt_s += (rtt_s - node.rtt_s) * _RTT_GAIN
            if node.fails:
                node.fails = 0
                self._bucket(node).silent -= 1
                self._stale = True
            return True
        if node is not None:  # it has another id now: the old one is gone
            self._remove(node)
        new = Node(contact, rtt_s, now)
        bits = shared_bits(new.number, self._own)
        if bits == ID_BITS:
            return False
        bucket = self._buckets[bits]
        for rival in self._rivals(new, bucket):
            if not rival.fails:
                return False
            self._remove(rival)
        if len(bucket.nodes) < bucket.capacity:
            self._insert(new, bucket)
            return True
        return self._displace(new, bucket)

    def failed(self, endpoint: Endpoint) -> Contact | None:
        """A node left an exchange unanswered: it is handed out no more. Gives back a node that had to go for it."""
        node = self.by_endpoint.get(endpoint)
        if node is None:
            return None
        bucket = self._bucket(node)
        bucket.silent += not node.fails
        node.fails += 1
        self._stale = True
        self._have_room()
        if not bucket.replacements and node.fails < _MAX_FAILS:
            return None
        self._remove(node)
        while bucket.replacements:
            new = bucket.replacements.pop()
            if not self._rivals(new, bucket):
                self._insert(new, bucket)
                break
        return node.contact

    def closest_compact(self, target: bytes) -> bytes:
        """The compact forms, joined in order of distance, of the up to 8 closest nodes to hand out."""
        item = self.closest_item(target)
        return item[item.index(b":", len(self._item_head)) + 1 :]

    def closest_item(self, target: bytes) -> bytes:
        """`closest_compact` as it stands in an answer, with its key and its length (BEP 5, 32). The hot path."""
        if self._stale:
            self._rebuild()
        slot = target[0] << 4 | target[1] >> 4
        near = self._near[slot]
        if near is None:
            near = self._near[slot] = self._answer_for(slot)
        if type(near) is bytes:
            return near
        at = int.from_bytes(target, "big")
        compact = self._compact
        return self._item([compact[distance ^ at] for distance in sorted([node ^ at for node in near])[:K]])

    def _item(self, nodes: list[bytes]) -> bytes:
        joined = b"".join(nodes)
        return b"%b%d:%b" % (self._item_head, len(joined), joined)

    def closest(self, target: bytes, count: int) -> list[Contact]:
        """The closest nodes to start a lookup from; those that failed last time only where others are few."""
        at = number(target)
        by_distance = {node.number ^ at: node for node in self.by_endpoint.values()}  # no two have one id
        nodes = [by_distance[distance] for distance in sorted(by_distance)]
        alive = [node for node in nodes if not node.fails][:count]
        if len(alive) < K:
            alive += [node for node in nodes if node.fails][: K - len(alive)]
        return [node.contact for node in alive]

    def stalest(self, now: float, age_s: float) -> Node | None:
        """The node longest unheard of and not asked since, if that is `age_s` ago or more."""
        if not self.by_endpoint:
            return None
        node = min(self.by_endpoint.values(), key=_last_heard)
        return node if now - _last_heard(node) >= age_s else None

    def looked_up(self, target: bytes, now: float) -> None:
        """A lookup towards `target` began: its bucket counts as refreshed."""
        bits = min(shared_bits(number(target), self._own), ID_BITS - 1)
        self._buckets[bits].refreshed_at = now

    def refresh_target(self, now: float, rng: random.Random) -> bytes | None:
        """An id to look up, in the bucket that waits longest for a refresh; None where none is due."""
        deepest = max((bits for bits in range(ID_BITS) if self._buckets[bits].nodes), default=-1)
        if deepest < 0:
            return None
        bits = min(range(deepest + 1), key=lambda bits: self._buckets[bits].refreshed_at)
        if now - self._buckets[bits].refreshed_at < GOOD_S:
            return None
        return random_id_sharing(self.own_id, bits, rng)

    def rekey(self, own_id: bytes) -> None:
        """Takes another id as our own: every node is sorted in anew; who finds no place is dropped."""
        nodes = self.nodes
        waiting = [node for bucket in self._buckets for node in bucket.replacements]
        self._reset(own_id)
        for node in [*nodes, *waiting]:
            bits = shared_bits(node.number, self._own)
            if bits == ID_BITS:
                continue
            bucket = self._buckets[bits]
            if len(bucket.nodes) < bucket.capacity and not self._rivals(node, bucket):
                self._insert(node, bucket)

    def _bucket(self, node: Node) -> _Bucket:
        return self._buckets[shared_bits(node.number, self._own)]

    def _rivals(self, new: Node, bucket: _Bucket) -> list[Node]:
        """Nodes that may not be in the table together with `new`."""
        rivals = [node for node in bucket.nodes if node.number == new.number]
        endpoint = new.contact.endpoint
        if reach(endpoint.host) != "global":
            return rivals
        same_host = self._by_host.get(endpoint.host)
        if same_host is not None and same_host not in rivals:
            rivals.append(same_host)
        network = new.network
        neighbours = [node for node in bucket.nodes if node.network == network]
        return rivals + [node for node in neighbours if node not in rivals]

    def _displace(self, new: Node, bucket: _Bucket) -> bool:
        """Finds `new` a place in a full bucket: that of a silent node, else of one whose id fits worse (BEP 42)."""
        silent = [node for node in bucket.nodes if node.fails]
        loser = max(silent, key=lambda node: node.fails, default=None)
        if loser is None and new.secure:
            loser = next((node for node in bucket.nodes if not node.secure), None)
        if loser is not None:
            self._remove(loser)
            self._insert(new, bucket)
            return True
        endpoint = new.contact.endpoint
        bucket.replacements = [node for node in bucket.replacements if node.contact.endpoint != endpoint]
        bucket.replacements = [*bucket.replacements, new][-_MAX_REPLACEMENTS:]
        return False

    def _insert(self, node: Node, bucket: _Bucket) -> None:
        bucket.nodes.append(node)
        bucket.silent += bool(node.fails)
        self.by_endpoint[node.contact.endpoint] = node
        if reach(node.contact.endpoint.host) == "global":
            self._by_host[node.contact.endpoint.host] = node
        self._stale = True

    def _remove(self, node: Node) -> None:
        bucket = self._bucket(node)
        bucket.nodes.remove(node)
        bucket.silent -= bool(node.fails)
        del self.by_endpoint[node.contact.endpoint]
        self._by_host.pop(node.contact.endpoint.host, None)
        self._stale = True
        self._have_room()

    def _have_room(self) -> None:
        """Some bucket may take nodes again."""
        self.full[:] = bytes(len(self.full))

    def _rebuild(self) -> None:
        alive = [node for node in self.by_endpoint.values() if not node.fails]
        self._numbers = sorted(node.number for node in alive)
        self._compact = {node.number: node.compact for node in alive}
        self._near = [None] * (1 << _INDEX_BITS)
        self._stale = False

    def _answer_for(self, slot: int) -> bytes | list[int]:
        """The answer to every target whose first bits are `slot`, or the few numbers to choose from.

        The first bits alone put nodes in order of distance where no two of them have these in common.
        """
        block = self._block(slot)
        nearest = sorted(block, key=lambda node: (node >> _BELOW_INDEX) ^ slot)[: K + 1]
        if len({node >> _BELOW_INDEX for node in nearest}) < len(nearest):
            return block
        return self._item([self._compact[node] for node in nearest[:K]])

    def _block(self, slot: int) -> list[int]:
        """The numbers under the longest prefix of `slot` that 8 nodes share: no other node is closer to its targets."""
        for bits in range(_INDEX_BITS, 0, -1):
            below = ID_BITS - bits
            prefix = slot >> (_INDEX_BITS - bits)
            low = bisect_left(self._numbers, prefix << below)
            high = bisect_left(self._numbers, (prefix + 1) << below)
            if high - low >= K:
                return self._numbers[low:high]
        return self._numbers


def bucket_capacity(bits: int) -> int:
    """How many nodes are kept that share exactly so many leading bits with us."""
    return _FIRST_CAPACITIES[bits] if bits < len(_FIRST_CAPACITIES) else K


def _last_heard(node: Node) -> float:
    return max(node.last_reply, node.last_query, node.probed_at)
