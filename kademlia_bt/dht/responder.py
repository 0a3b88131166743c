"""Answers queries: nodes from the tables, peers and tokens from the stores (BEP 5, 32). Sends nothing itself.

The hot path of a node that others use: everything that can be is made once and joined. Who may ask at all
(limits, addresses, read-only mode) is decided in intake.py before. What BEP 33, 44 and 51 ask for: extras.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from kademlia_bt.dht.extras import Extras
from kademlia_bt.dht.krpc import (
    METHOD_UNKNOWN,
    PROTOCOL_ERROR,
    SERVER_ERROR,
    WANT_IPV4,
    WANT_IPV6,
    Query,
)
from kademlia_bt.dht.peer_store import PeerStore
from kademlia_bt.dht.table import Table
from kademlia_bt.dht.tokens import Tokens
from kademlia_bt.dht.usual import FORM_TID_BYTES
from kademlia_bt.dht.writing import answer_writer, encode_answer, encode_error
from kademlia_bt.items.store import ItemStore
from kademlia_bt.items.values import ItemError
from wire.compact import IPV6

__all__ = ["MAX_ANSWER_BYTES", "Responder"]

MAX_ANSWER_BYTES = 1_024
"""What BEP 32 allows to be sent; never fragmented on any path."""
_AMPLIFICATION = 6
"""An answer to an address that has proved nothing is at most this many times the question, lest forged questions
turn us against a third party. Eight nodes of both families fit."""
_NODES_HEAD_BYTES = 12
"""Key and length of a list of nodes, and no less."""
_ENVELOPE_BYTES = 96
"""What an answer has beside nodes, token and values, for ids and versions of usual lengths."""


class Responder:
    """Answers for one face."""

    def __init__(
        self,
        table: Table,
        store: PeerStore,
        items: ItemStore,
        tokens: Tokens,
        version: bytes,
        rng: random.Random,
    ) -> None:
        self._table = table
        self._store = store
        self._tokens = tokens
        self._version = version
        self._extras = Extras(store, items, tokens, rng)
        self._default = WANT_IPV6 if table.family is IPV6 else WANT_IPV4
        self._tables: dict[int, Table] = {self._default: table}
        self.node_id = table.own_id

    @property
    def node_id(self) -> bytes:
        """The id that answers carry."""
        return self._id_item[-20:]

    @node_id.setter
    def node_id(self, node_id: bytes) -> None:
        self._id_item = b"2:id20:" + node_id
        self.pongs = {
            tid_bytes: answer_writer(self._id_item, self._version, self._table.family, tid_bytes)
            for tid_bytes in FORM_TID_BYTES
        }
        """Write the answer to a ping, by the length of its transaction id."""

    def serve(self, tables: Sequence[Table]) -> None:
        """Says which tables there are, so that askers of both families are served (BEP 32)."""
        for table in tables:
            self._tables.setdefault(WANT_IPV6 if table.family is IPV6 else WANT_IPV4, table)

    def answer(self, query: Query, ip: bytes, port: int, asked_bytes: int, proven: bool, now: float) -> bytes:
        """The datagram to send back.

        Args:
            query: What was asked.
            ip: The asker's packed address.
            port: Its port.
            asked_bytes: How long the query was.
            proven: Whether the asker is known to receive what we send there, so that it may get more than it sent.
            now: Monotonic seconds.
        """
        address = ip + port.to_bytes(2, "big")
        method = query.method
        if method == b"get_peers":
            if query.more is not None and (query.more.scrape or query.more.no_seeds):
                return self._extended(query, ip, address, asked_bytes, proven, now)
            assert query.target is not None
            returned = self._with_peers(self._id_item + self._nodes(query), query.target, ip, asked_bytes, proven, now)
        elif method == b"find_node":
            returned = self._id_item + self._nodes(query)
        elif method == b"ping":
            returned = self._id_item
        elif method == b"announce_peer":
            return self._announce(query, ip, address, now)
        elif method in Extras.METHODS:
            return self._extended(query, ip, address, asked_bytes, proven, now)
        elif query.target is not None:  # an extension that we do not know is asked in lookups: the nodes help it on
            returned = self._id_item + self._nodes(query)
        else:
            return encode_error(query.tid, METHOD_UNKNOWN, "method unknown", address, self._version)
        return encode_answer(query.tid, returned, address, self._version)

    def usual(
        self, method: bytes, target: bytes, tid: bytes, ip: bytes, port: int, asked_bytes: int, proven: bool, now: float
    ) -> bytes:
        """As `answer`, for a `find_node` or `get_peers` that asks for a target and for nothing beside it."""
        items = self._id_item + self._table.closest_item(target)
        if method == b"get_peers":
            items = self._with_peers(items, target, ip, asked_bytes, proven, now)
        return encode_answer(tid, items, ip + port.to_bytes(2, "big"), self._version)

    def _nodes(self, query: Query) -> bytes:
        target = query.target
        assert target is not None
        want = query.want or self._default
        if want == self._default:
            return self._table.closest_item(target)
        tables = [self._tables.get(bit) for bit in (WANT_IPV4, WANT_IPV6) if want & bit]
        return b"".join([table.closest_item(target) for table in tables if table is not None])

    def _with_peers(
        self, items: bytes, info_hash: bytes, ip: bytes, asked_bytes: int, proven: bool, now: float
    ) -> bytes:
        store = self._store
        if info_hash not in store:  # as is most often so
            return items if store.is_full else items + b"5:token8:" + self._tokens.make(ip, info_hash, now)
        if store.accepts(info_hash):
            items += b"5:token8:" + self._tokens.make(ip, info_hash, now)
        most = MAX_ANSWER_BYTES if proven else min(MAX_ANSWER_BYTES, _AMPLIFICATION * asked_bytes)
        room = (most - len(items) - _ENVELOPE_BYTES) // store.entry_bytes
        if room > 0:
            values = store.sample(info_hash, room, now)
            if values:
                items += b"6:valuesl%be" % values
        return items

    def _extended(self, query: Query, ip: bytes, address: bytes, asked_bytes: int, proven: bool, now: float) -> bytes:
        try:
            parts = self._extras.answer(query, ip, address, asked_bytes, proven, now)
        except ItemError as error:
            return encode_error(query.tid, error.code, error.text, address, self._version)
        returned = parts.before + self._id_item + parts.between
        if query.target is not None:
            room = parts.room - len(self._id_item)
            nodes = self._nodes_within(query, room)
            returned += nodes + parts.after
            if query.method == b"get_peers":
                returned += self._extras.values(query, room - len(nodes), now)
        return encode_answer(query.tid, returned, address, self._version)

    def _nodes_within(self, query: Query, room: int) -> bytes:
        """As `_nodes`, in so many bytes: first those of the family that is asked over, the closest first."""
        target = query.target
        assert target is not None
        want = query.want or self._default
        items = {}
        for bit in sorted((WANT_IPV4, WANT_IPV6), key=lambda bit: bit != self._default):
            table = self._tables.get(bit) if want & bit else None
            if table is not None:
                width = table.family.node_bytes
                found = table.closest_compact(target)[: max(room - _NODES_HEAD_BYTES, 0) // width * width]
                items[bit] = b"%b%d:%b" % (_NODES_KEYS[bit], len(found), found)
                room -= len(items[bit])
        return b"".join(items[bit] for bit in sorted(items))

    def _announce(self, query: Query, ip: bytes, address: bytes, now: float) -> bytes:
        info_hash, token = query.target, query.token
        assert info_hash is not None
        assert token is not None
        if not self._tokens.check(token, ip, info_hash, now):
            return encode_error(query.tid, PROTOCOL_ERROR, "bad token", address, self._version)
        peer = ip + query.port.to_bytes(2, "big") if query.port else address
        if not self._store.add(info_hash, peer, now, seed=query.seed):
            return encode_error(query.tid, SERVER_ERROR, "store is full", address, self._version)
        return encode_answer(query.tid, self._id_item, address, self._version)


_NODES_KEYS = {WANT_IPV4: b"5:nodes", WANT_IPV6: b"6:nodes6"}
