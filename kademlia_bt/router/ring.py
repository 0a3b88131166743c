"""The nodes that a bootstrap router hands out: a million of them in flat memory, each for its turn. No I/O.

Entries stand densely in one bytearray, so that handing out the next sixteen is one slice. An open hash table of
entry numbers finds one by its address; counters bound what one network (a /24, or a /48) may hold. All tables have
their final size from the start, in memory that costs nothing before it is touched: nothing here ever stops to grow.
Only nodes that answered a ping come in; whoever misses one is not handed out until it answers again, and whoever
misses two in a row goes. When to ping whom is the router's to decide.
"""

from __future__ import annotations

import hashlib
import mmap
import random
from collections.abc import Callable, Iterator
from typing import Final, Literal

from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.places import is_global
from kademlia_bt.router.scatter import scatter
from wire.compact import Endpoint, Family
from wire.errors import MisuseError
from wire.ids import ID_BYTES

__all__ = ["MAX_NODES", "PER_NETWORK", "Admission", "NodeRing"]

MAX_NODES: Final = 1_000_000
PER_NETWORK: Final = 4
"""Nodes of one /24 or /48: an operator of many addresses cannot fill the ring."""

_NETWORKS = 1 << 24
"""A counter for each /24 of IPv4."""
_SEEN_AT_ONCE = 8
"""How many times the wanted number of entries a hand-out looks at, where many of them are in doubt."""
_PORT_BYTES = 2

_IN_DOUBT = 0x03
"""Marks of an entry: pings missed in a row, or, for a node of a saved state, 1 until it answers."""
_ASKED = 0x80
"""A ping is on its way."""
_MISSES_TO_GO = 2

Admission = Literal["new", "known", "network"]


class NodeRing:
    """Live nodes of one family, handed out in turn."""

    def __init__(
        self,
        family: Family,
        rng: random.Random,
        *,
        max_nodes: int = MAX_NODES,
        per_network: int = PER_NETWORK,
        place: Callable[[bytes], int] | None = None,
    ) -> None:
        """Makes an empty ring.

        Args:
            family: Of all its nodes.
            rng: For keys, so that nobody can choose addresses that collide.
            max_nodes: Where the ring is full, the newest takes the place of the one whose turn was the longest ago.
            per_network: Nodes of one /24 or /48, and then one node an IP address; 0 for no bound. Local addresses
                know no bound: there it is a network of one's own, whose nodes may share an address.
            place: Says where a key stands in the hash table; if None, one is drawn. See `standing`.

        Raises MisuseError for no room at all.
        """
        if max_nodes < 1 or not 0 <= per_network <= 255:
            raise MisuseError("a ring holds at least one node, and at most 255 of one network")
        self.family = family
        self._width = family.node_bytes
        self._max = max_nodes
        self._per_network = per_network
        self._place = place or scatter(rng)
        self._network_key = rng.randbytes(16)
        self._ip_bytes = family.ip_bytes
        self._entries = bytearray()
        self._marks = bytearray()
        # At most half full, so that an entry is found within a step or two.
        self._slots = memoryview(mmap.mmap(-1, 4 << (2 * max_nodes - 1).bit_length())).cast("I")
        self._mask = len(self._slots) - 1
        self._shares = mmap.mmap(-1, _NETWORKS if per_network else 1)
        self._hand_at = 0
        self._check_at = -1
        """The entry that was checked last; all before it were, in this round."""

    def __len__(self) -> int:
        return len(self._marks)

    def __contains__(self, address: bytes) -> bool:
        """Whether the node at this compact address is here."""
        return self._index(address) is not None

    def is_proven(self, address: bytes) -> bool:
        """Whether the node at this compact address answered its last ping."""
        index = self._index(address)
        return index is not None and not self._marks[index] & _IN_DOUBT

    def standing(self, address: bytes, key: bytes, place: int) -> int | None:
        """The pings in a row that the node at this compact address missed (1 too where it is of a saved state); None
        where there is none.

        For who has at hand what `address` is found by: `key`, its IP address, or, where that is local, all of it; and
        the `place` of this key. Only for a ring that is bounded by networks.
        """
        slot = self._slots[place & self._mask]
        if not slot:  # as is so for most
            return None
        at = self._find_key(key, place)
        if at is None:
            return None
        index = self._slots[at] - 1
        return self._marks[index] & _IN_DOUBT if self._address(index) == address else None

    def add(self, node_id: bytes, address: bytes, *, proven: bool = True) -> Admission:
        """Takes in a node that just answered (or, not `proven`, did so in a life before), by its compact address.

        Returns `new`, `known` where it was here, `network` where its /24, its /48 or its IP address has its share.
        """
        at = self._find(address)
        if at is not None:
            start = (self._slots[at] - 1) * self._width + ID_BYTES
            if self._entries[start : start + len(address)] != address:
                return "network"  # another port of an address that is here
            if proven:
                self._entries[start - ID_BYTES : start] = node_id
                self._marks[self._slots[at] - 1] = 0
            return "known"
        network = self._network(address) if self._is_bounded(address) else None
        if network is not None and self._shares[network] >= self._per_network:
            return "network"
        if len(self) >= self._max:
            # The one whose turn is next was handed out the longest ago, as were those behind it.
            self._remove(self._hand_at % len(self))
        self._entries += node_id + address
        self._marks.append(0 if proven else 1)
        if network is not None:
            self._shares[network] += 1
        self._insert(address, len(self))
        return "new"

    def doubt(self, node_id: bytes, address: bytes) -> Admission:
        """Takes in, or keeps, a node that answers but is not what it should be: it is handed out where others are few,
        and goes when it misses a ping."""
        admission = self.add(node_id, address, proven=False)
        if admission == "known":
            index = self._slots[self._find(address) or 0] - 1
            self._entries[index * self._width : index * self._width + ID_BYTES] = node_id
            self._marks[index] = 1
        return admission

    def asked(self, address: bytes) -> None:
        """A ping goes out to a node, which has until `overdue` to answer."""
        index = self._index(address)
        if index is not None:
            self._marks[index] |= _ASKED

    def overdue(self, address: bytes) -> Literal["answered", "missed", "gone"]:
        """The time of a ping is over: says whether it was answered, was not, or was not for the second time."""
        index = self._index(address)
        if index is None or not self._marks[index] & _ASKED:
            return "answered"
        misses = (self._marks[index] & _IN_DOUBT) + 1
        if misses >= _MISSES_TO_GO:
            self._remove(index)
            return "gone"
        self._marks[index] = misses
        return "missed"

    def hand_out(self, count: int) -> bytes:
        """The compact nodes whose turn it is, at most `count`, each once; those in doubt only where others are few."""
        total = len(self._marks)
        start = self._hand_at
        end = start + count
        if count > 0 and end <= total and not self._marks[start:end].strip(_FINE):
            self._hand_at = end
            return bytes(self._entries[start * self._width : end * self._width])
        count = min(count, total)
        return self._choose(count, start % total, total) if count > 0 else b""

    def _choose(self, count: int, start: int, total: int) -> bytes:
        fine: list[int] = []
        doubted: list[int] = []
        for step in range(min(total, count * _SEEN_AT_ONCE)):
            if self._marks[(start + step) % total] & _IN_DOUBT:
                doubted.append(step)
            else:
                fine.append(step)
                if len(fine) == count:
                    break
        chosen = fine + doubted[: count - len(fine)]
        self._hand_at = (start + max(chosen) + 1) % total
        entries, width = self._entries, self._width
        starts = [(start + step) % total * width for step in chosen]
        return b"".join(bytes(entries[at : at + width]) for at in starts)

    def next_to_check(self) -> bytes | None:
        """The compact address of the next node to be pinged again, round and round; None where there is none."""
        if not self._marks:
            return None
        self._check_at = self._check_at + 1 if self._check_at + 1 < len(self) else 0
        return self._address(self._check_at)

    def nodes(self) -> Iterator[Contact]:
        """All of them. The ring must not change meanwhile."""
        for index in range(len(self)):
            start = index * self._width
            entry = bytes(self._entries[start : start + self._width])
            yield Contact(entry[:ID_BYTES], Endpoint.from_compact(entry[ID_BYTES:]))

    def dump(self) -> bytes:
        """All entries in their compact form, for a state file."""
        return bytes(self._entries)

    def newest(self, count: int) -> bytes:
        """The compact nodes that came in last."""
        return bytes(self._entries[-count * self._width :])

    # The hash table: linear probing; a slot holds 0 or an entry's index + 1. Removal closes the gap, so there are
    # no tombstones, and no table ever needs to be rebuilt.

    def _is_bounded(self, address: bytes) -> bool:
        return bool(self._per_network) and is_global(address[:-_PORT_BYTES])

    def _home(self, address: bytes) -> int:
        return self._place(address[: self._ip_bytes] if self._is_bounded(address) else address) & self._mask

    def _find(self, address: bytes) -> int | None:
        key = address[: self._ip_bytes] if self._is_bounded(address) else address
        return self._find_key(key, self._place(key))

    def _find_key(self, key: bytes, place: int) -> int | None:
        slots, mask, entries, width = self._slots, self._mask, self._entries, self._width
        at = place & mask
        length = len(key)
        while slot := slots[at]:
            start = (slot - 1) * width + ID_BYTES
            if entries[start : start + length] == key:
                return at
            at = (at + 1) & mask
        return None

    def _index(self, address: bytes) -> int | None:
        """The number of the entry with just this address and port."""
        at = self._find(address)
        if at is None:
            return None
        index = self._slots[at] - 1
        return index if self._address(index) == address else None

    def _insert(self, address: bytes, slot: int) -> None:
        at = self._home(address)
        while self._slots[at]:
            at = (at + 1) & self._mask
        self._slots[at] = slot

    def _clear(self, hole: int) -> None:
        """Frees a slot and moves up those behind it that would not be found over the gap."""
        slots, mask = self._slots, self._mask
        at = hole
        while slot := slots[at := (at + 1) & mask]:
            home = self._home(self._address(slot - 1))
            if (at - home) & mask >= (at - hole) & mask:
                slots[hole] = slot
                hole = at
        slots[hole] = 0

    def _address(self, index: int) -> bytes:
        start = index * self._width
        return bytes(self._entries[start + ID_BYTES : start + self._width])

    def _remove(self, index: int) -> None:
        """Closes the gap with the last entry, so that all stay dense."""
        address = self._address(index)
        at = self._find(address)
        assert at is not None
        self._clear(at)
        if self._is_bounded(address):
            self._shares[self._network(address)] -= 1
        last = len(self) - 1
        if index <= self._check_at < last:
            # Those up to here were checked in this round and those behind were not: the gap moves to the border, so
            # that the last entry, which fills it, is still checked.
            self._move(self._check_at, index)
            index = self._check_at
            self._check_at -= 1
        self._move(last, index)
        del self._entries[last * self._width :]
        del self._marks[last]

    def _move(self, source: int, to: int) -> None:
        if source == to:
            return
        at = self._find(self._address(source))
        assert at is not None
        self._slots[at] = to + 1
        width = self._width
        self._entries[to * width : (to + 1) * width] = self._entries[source * width : (source + 1) * width]
        self._marks[to] = self._marks[source]

    def _network(self, address: bytes) -> int:
        """Which counter its /24 has, or its /48: of these more than one may share a counter, which only bounds them
        more tightly, and nobody can choose which."""
        if self.family.ip_bytes == 4:
            return int.from_bytes(address[:3], "big")
        return int.from_bytes(hashlib.blake2b(address[:6], key=self._network_key, digest_size=3).digest(), "big")


_FINE = bytes((0, _ASKED))
"""Marks of a node that is handed out gladly."""
