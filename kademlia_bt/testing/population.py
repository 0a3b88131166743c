"""What a node of a grown network knows: a routing table filled from the true space of ids, without a datagram.

To let ten thousand nodes join one by one costs minutes. A node that has lived for hours knows of each distance
as many nodes as its table has room for, at random: that is what is drawn here. Only the way there is left out.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from heapq import nsmallest

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.face import Face
from kademlia_bt.dht.node_id import ID_BITS, number, random_id, random_id_sharing
from kademlia_bt.dht.table import GOOD_S, K, bucket_capacity

__all__ = ["IdSpace"]

_HEARD_WITHIN_S = 600.0
"""Upkeep has each node of a table pinged about so often."""
_SIZE_SAMPLES = 16
"""Lookups of random targets that an old node has behind it: as many as it has buckets to refresh."""


class IdSpace:
    """The nodes of one family that others may know, in the order of their ids."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._contacts: list[Contact] = []
        self._samples: list[tuple[bytes, list[Contact]]] = []

    def add(self, contacts: list[Contact], rng: random.Random) -> None:
        """Takes in nodes."""
        self._contacts = sorted([*self._contacts, *contacts], key=lambda contact: contact.id)
        self._numbers = [number(contact.id) for contact in self._contacts]
        self._samples = []
        for _ in range(_SIZE_SAMPLES):
            target = random_id(rng)
            at = number(target)
            near = nsmallest(K, range(len(self._numbers)), key=lambda index: self._numbers[index] ^ at)
            self._samples.append((target, [self._contacts[index] for index in near]))

    def fill(self, dht: Dht, face: Face, rng: random.Random, now: float, rtt_s: float) -> None:
        """Fills a face's table as if it had lived among these nodes for long, and lets it count as joined."""
        for target, closest in self._samples:
            dht.measure(face.family, target, closest)
        own = number(face.node_id)
        depth = 0
        low, high = 0, len(self._numbers)
        while high > low and depth < ID_BITS:
            below = ID_BITS - 1 - depth
            middle = bisect_left(self._numbers, (own >> below | 1) << below, low, high)
            other = (low, middle) if own >> below & 1 else (middle, high)
            low, high = (middle, high) if own >> below & 1 else (low, middle)
            count = min(bucket_capacity(depth), other[1] - other[0])
            for index in rng.sample(range(*other), count):
                face.table.answered(self._contacts[index], rtt_s, now - rng.random() * _HEARD_WITHIN_S)
            face.table.looked_up(random_id_sharing(face.node_id, depth, rng), now - rng.random() * GOOD_S)
            depth += 1
        face.keeper.join_ended(now)
        face.firewall.begin(now)
