"""Answers to what came after BEP 5: scrapes (BEP 33), items (BEP 44), samples (BEP 51). Sends nothing itself.

Off the hot path. Gives the items of an answer and how many bytes are left for nodes; dht/responder.py joins them.
Errors are raised as `ItemError`, whose code goes to the asker.
"""

from __future__ import annotations

import random
from typing import ClassVar, NamedTuple

from kademlia_bt.dht.krpc import More, Query
from kademlia_bt.dht.peer_store import PeerStore
from kademlia_bt.dht.tokens import Tokens
from kademlia_bt.dht.votes import network_of
from kademlia_bt.dht.writing import byte_string
from kademlia_bt.items.sampling import INTERVAL_S, SampleSet
from kademlia_bt.items.store import ItemStore
from kademlia_bt.items.values import (
    PROTOCOL_ERROR,
    ImmutableItem,
    Item,
    ItemError,
    MutableItem,
    mutable_target,
    value_target,
)
from wire.compact import Endpoint, reach

__all__ = ["Extras", "Parts"]

MAX_EXTRA_BYTES = 1_024
"""BEP 32, as for other answers."""
MAX_ITEM_ANSWER_BYTES = 1_400
"""An item alone may have 1,000 bytes (BEP 44), so its answer may be larger than others: what passes over IPv6, through
tunnels too, unfragmented."""
_AMPLIFICATION = 10
"""Filters and samples are large against their question. To an address that has proved nothing, an answer has at most
this many times its bytes; upload and per-address limits bound the rest."""
_ENVELOPE_BYTES = 96
"""What an answer has beside the parts, for ids and versions of usual lengths."""
_NOTHING_MORE = More()
_NODES_HEAD_BYTES = 12
"""Key and length of a list of nodes."""
_ONE_FAMILY_NODES_BYTES = 8 * 26 + _NODES_HEAD_BYTES


class Parts(NamedTuple):
    """The items of an `r` dictionary that stand before `id`, between it and `nodes`, and after these."""

    before: bytes = b""
    between: bytes = b""
    after: bytes = b""
    room: int = 0
    """Bytes left for nodes and `values`."""


class Extras:
    """Answers for one face."""

    METHODS: ClassVar = frozenset((b"get", b"put", b"sample_infohashes"))
    """Those that are answered here whatever they say; and `get_peers` of BEP 33."""

    def __init__(self, store: PeerStore, items: ItemStore, tokens: Tokens, rng: random.Random) -> None:
        self._store = store
        self._items = items
        self._tokens = tokens
        self._samples = SampleSet(rng)

    def answer(self, query: Query, ip: bytes, address: bytes, asked_bytes: int, proven: bool, now: float) -> Parts:
        """The parts of the answer; a `put` is done. Arguments as of `Responder.answer`. Raises ItemError."""
        if query.method == b"get_peers":
            return self._scrape(query, ip, _limit(asked_bytes, proven), now)
        if query.method == b"get":
            return self._get(query, ip, now)
        if query.method == b"put":
            self._put(query, ip, address, now)
            return Parts()
        return self._sample(_limit(asked_bytes, proven), now)

    def values(self, query: Query, room: int, now: float) -> bytes:
        """The `values` of a `get_peers`, in so many bytes; empty where there are none."""
        assert query.target is not None
        more = query.more or _NOTHING_MORE
        sample = self._store.sample_others if more.no_seeds else self._store.sample
        found = sample(query.target, (room - len(b"6:valuesle")) // self._store.entry_bytes, now)
        return b"6:valuesl%be" % found if found else b""

    def _scrape(self, query: Query, ip: bytes, limit: int, now: float) -> Parts:
        assert query.target is not None
        filters = self._store.filters(query.target, now) if (query.more or _NOTHING_MORE).scrape else None
        before = b""
        if filters is not None:
            before = b"4:BFpe256:%b4:BFsd256:%b" % (filters[1].to_bytes(), filters[0].to_bytes())
        after = self._token(ip, query.target, now) if self._store.accepts(query.target) else b""
        return Parts(before, b"", after, limit - len(before) - len(after) - _ENVELOPE_BYTES)

    def _get(self, query: Query, ip: bytes, now: float) -> Parts:
        assert query.target is not None
        item = self._items.get(query.target, now)
        token = self._token(ip, query.target, now)
        between, after = b"", token
        if isinstance(item, MutableItem):
            after = b"3:seqi%de" % item.seq
            known = None if query.more is None else query.more.seq
            if known is None or known < item.seq:
                between = b"1:k32:" + item.public_key
                after += b"3:sig64:%b%b1:v%b" % (item.signature, token, item.raw_value)
            else:
                after += token
        elif item is not None:
            after = b"%b1:v%b" % (token, item.raw_value)
        limit = MAX_ITEM_ANSWER_BYTES if item is not None else MAX_EXTRA_BYTES
        return Parts(b"", between, after, limit - len(between) - len(after) - _ENVELOPE_BYTES)

    def _put(self, query: Query, ip: bytes, address: bytes, now: float) -> None:
        put, token = (query.more or _NOTHING_MORE).put, query.token
        assert put is not None
        assert token is not None
        # The token before anything that costs: it shows that the sender is where it says.
        target = value_target(put.raw_value) if put.public_key is None else mutable_target(put.public_key, put.salt)
        if not self._tokens.check(token, ip, target, now):
            raise ItemError(PROTOCOL_ERROR, "bad token")
        item: Item
        if put.public_key is None:
            item = ImmutableItem.checked(put.raw_value)
        else:
            item = MutableItem.checked(put.raw_value, put.public_key, put.signature, put.seq, put.salt)
        source = Endpoint.from_compact(address)
        network = network_of(source) if reach(source.host) == "global" else None
        self._items.put(item, network, now, put.cas)

    def _sample(self, limit: int, now: float) -> Parts:
        stored = self._store.info_hashes
        hashes, interval_s = self._samples.take(stored, now)
        room = limit - _ENVELOPE_BYTES - _ONE_FAMILY_NODES_BYTES - len(b"8:intervali21600e3:numi2000e7:samples400:")
        fitting = hashes[: max(room, 0) // 20]
        if len(fitting) < len(hashes):
            interval_s = interval_s or INTERVAL_S
        between = b"8:intervali%de" % interval_s
        after = b"3:numi%de7:samples%b" % (len(stored), byte_string(b"".join(fitting)))
        return Parts(b"", between, after, limit - len(between) - len(after) - _ENVELOPE_BYTES)

    def _token(self, ip: bytes, target: bytes, now: float) -> bytes:
        return b"5:token" + byte_string(self._tokens.make(ip, target, now))


def _limit(asked_bytes: int, proven: bool) -> int:
    return MAX_EXTRA_BYTES if proven else min(MAX_EXTRA_BYTES, _AMPLIFICATION * asked_bytes)
