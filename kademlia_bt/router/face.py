"""One socket of a bootstrap router: judges datagrams, answers queries with nodes whose turn it is. No I/O.

A `wire.udp.AnsweringTenant`. It answers `ping`, and whatever asks for nodes (BEP 5; also BEP 44 `get`, BEP 51 and
methods that it does not know but that have a target) with nodes alone: it holds no peers, so it gives no tokens, and
whoever stores or announces here gets no answer. An answer is at most three times as long as the question, unless the
asker has answered a ping.
"""

from __future__ import annotations

import random
from collections import Counter
from socket import inet_pton
from typing import TYPE_CHECKING, Final

from kademlia_bt.dht.guard import Guard
from kademlia_bt.dht.krpc import WANT_IPV4, WANT_IPV6, Answer, Query, parse
from kademlia_bt.dht.node_id import fits, random_id
from kademlia_bt.dht.places import is_global, is_local
from kademlia_bt.dht.private import Envelope
from kademlia_bt.dht.usual import FORM_HEAD, FORM_TAIL, FORMS, usual_query
from kademlia_bt.dht.votes import AddressVotes
from kademlia_bt.dht.writing import encode_answer, encode_query
from kademlia_bt.router.ring_keeper import MOST_NODES, RingKeeper
from wire.bencode import Encodable
from wire.compact import IPV6, Address, Endpoint, Family
from wire.errors import ProtocolError
from wire.net import Buffer

if TYPE_CHECKING:
    from kademlia_bt.router.core import Router

__all__ = ["AMPLIFICATION", "MAX_ANSWER_BYTES", "MOST_NODES", "REPEAT_NODES", "RouterFace"]

REPEAT_NODES: Final = 4
"""For who asked in the last ten minutes: it has been helped already."""
AMPLIFICATION: Final = 3
"""An answer to an unproven address is at most so many times as long as the question, lest forged questions turn us
against a third party."""
MAX_ANSWER_BYTES: Final = 1_024
"""What BEP 32 allows to be sent."""

_FULL_BYTES: Final = -(-MAX_ANSWER_BYTES // AMPLIFICATION)
"""So long a question may have the longest answer."""
_ASKER_BYTES = 8
"""Of an IPv6 address: a /64 is one asker (`ring_keeper.source_of`)."""

_KRPC_FIRST_BYTE = ord("d")
_MIN_BYTES = 20
_MAX_BYTES = 2_048
"""Questions have some 100 bytes, and answers to ours at most 1,500."""
_OTHER = b"other"
_COUNTED = (b"ping", b"find_node", b"get_peers", b"get", b"sample_infohashes", _OTHER)
_UNANSWERED = (b"announce_peer", b"put")
"""They need a token, which nobody has of us."""
_NODES_KEY_BYTES = len(b"6:nodes6608:")
_UDP_OVERHEAD_BYTES = 28
_BEAT_S = 0.2
_SWEEP_S = 60.0


class RouterFace:
    """One socket's part of a router. Made by `Router.add_face`."""

    def __init__(
        self,
        router: Router,
        keeper: RingKeeper,
        node_id: bytes,
        now: float,
        *,
        allow_local: bool,
        bound: Endpoint | None,
        per_ip_limit: float,
    ) -> None:
        self.family: Family = keeper.family
        self._af = self.family.af
        self.bound = bound
        self.keeper = keeper
        self.votes = AddressVotes()
        self._heard = dict.fromkeys(_COUNTED, 0)
        self.dropped: Counter[str] = Counter()
        self.answers = self.repeats = self.read_only = self.handed_out = self.pings = 0
        self.received_bytes = self.sent_bytes = 0
        self._router = router
        self._version = router.config.version
        self.allow_local = allow_local
        self._envelope = Envelope(router.config.network_tag)
        self._guard = Guard(per_ip_limit)
        self._default = WANT_IPV6 if self.family is IPV6 else WANT_IPV4
        self._outbox: list[tuple[Buffer, Endpoint]] = []
        # Of a private network, a query without its tag is none: all are looked at whole.
        self._forms = {} if self._envelope.overhead_bytes else FORMS
        self._beat_at = now
        self._sweep_at = now + _SWEEP_S
        self.node_id = node_id

    @property
    def node_id(self) -> bytes:
        """The id that answers and pings carry."""
        return self._node_id

    @node_id.setter
    def node_id(self, node_id: bytes) -> None:
        self._node_id = node_id
        self._id_item = b"2:id20:" + node_id
        # What an answer has beside nodes and transaction id, whose length may take two digits more.
        tag_bytes = self._envelope.overhead_bytes
        self._empty_bytes = (
            len(encode_answer(b"", self._id_item, bytes(self.family.endpoint_bytes), self._version)) + 2 + tag_bytes
        )

    @property
    def queries(self) -> Counter[str]:
        """Queries looked at, by method; those that are not standard count as `other`."""
        return Counter({method.decode(): count for method, count in self._heard.items() if count})

    # What the pump calls

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing` has something to give."""
        return bool(self._outbox)

    def claims(self, first_byte: int) -> bool:
        """KRPC datagrams begin with `d`."""
        return first_byte == _KRPC_FIRST_BYTE

    def outgoing(self) -> list[tuple[Buffer, Endpoint]]:
        """What is to be sent, drained."""
        outbox = self._outbox
        if outbox:
            self._outbox = []
        return outbox

    def next_timer(self) -> float:
        """When `tick` is wanted next."""
        return self._beat_at

    def tick(self, now: float) -> None:
        """Sends the pings that are due."""
        if now < self._beat_at:
            return
        self._beat_at = now + _BEAT_S
        self._router.beat(self, now)
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            self._guard.sweep(now)

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        """Takes a datagram, as `answer` does; its answer comes from `outgoing`. Never raises for what is in it."""
        answer = self.answer(data, address, now)
        if answer is not None:
            self._outbox.append((answer, address))

    def answer(self, data: bytes, source: Address, now: float) -> Buffer | None:
        """Takes a datagram; gives what is to be sent back, if anything. Never raises for what is in it.

        One flat function, as nearly all that a router hears are questions of strangers (see `dht/intake.py`).
        """
        size = len(data)
        self.received_bytes += size
        keeper = self.keeper
        keeper.heard_at = now
        host, port = source
        ip = inet_pton(self._af, host)
        far = is_global(ip)
        if not port or not (far or (self.allow_local and is_local(ip))):
            self.dropped["martian"] += 1
            return None
        compact = ip + port.to_bytes(2, "big")
        form = self._forms.get(size)
        if form is not None and form.key:
            head, sender, key, target, middle, tid, version_key, tail = form.cut(data)
            fits = (
                middle == form.middle
                and key == form.key
                and head == FORM_HEAD
                and version_key == form.version_key
                and tail == FORM_TAIL
            )
        else:
            fits = False
        if fits:
            assert form is not None
            method, want, read_only = form.method, self._default, False
        else:
            query = self._read(data, compact, Endpoint(host, port), now)
            if query is None:
                return None
            tid, method, sender, target, want, read_only = query[:6]
            want = want or self._default
        if self._guard.is_on and not self._guard.allows(source, now):
            self.dropped["per_ip"] += 1
            return None
        if method in _UNANSWERED:
            self.dropped["unknown"] += 1
            return None
        self._heard[method if method in self._heard else _OTHER] += 1
        # One hash finds the asker in all tables but where it counts as one of its network.
        key = ip if far else compact
        place = ring_place = keeper.place(key)
        if far and len(ip) > _ASKER_BYTES:
            place = keeper.place(ip[:_ASKER_BYTES])
        again = keeper.askers.note_at(place, now)
        missed = keeper.ring.standing(compact, key, ring_place)
        proven = not again and missed == 0
        items, nodes = self._id_item, b""
        if target is not None:
            room = MAX_ANSWER_BYTES if proven or size >= _FULL_BYTES else AMPLIFICATION * size
            room -= self._empty_bytes + len(tid)
            if want == self._default:
                nodes, item = self._nodes(keeper, room, again)
                items += item
            else:
                items += self._nodes_of(want, room, again)
        answer: Buffer = encode_answer(tid, items, compact, self._version)
        if self._envelope.overhead_bytes:
            answer = self._envelope.seal(answer)
        if not self._router.may_send(len(answer) + _UDP_OVERHEAD_BYTES, now):
            self.dropped["upload"] += 1
            return None
        self.answers += 1
        self.repeats += again
        self.sent_bytes += len(answer)
        if read_only:
            self.read_only += 1
        elif (
            missed is None
            and sender != self._node_id
            and compact not in self._router.others
            and keeper.take_up(compact, place, now, again=again)
        ):
            self.ping(compact, now)
        if nodes and now >= keeper.sample_at:
            self.ping(keeper.sample(nodes, now), now)
        return answer

    def _read(self, data: bytes, compact: bytes, source: Endpoint, now: float) -> Query | None:
        """Reads a datagram of no usual form; None where it is no query, and is dealt with."""
        opened = self._envelope.open(data)
        if opened is None:
            self.dropped["foreign"] += 1
            return None
        query = usual_query(opened)
        if query is not None:
            return query
        try:
            if not _MIN_BYTES <= len(data) <= _MAX_BYTES:
                raise ProtocolError("of no length that a message has")
            message = parse(opened)
        except ProtocolError:
            self.dropped["malformed"] += 1
            return None
        if isinstance(message, Query):
            return message
        if not self._router.echoes.check(message.tid, compact, now):
            self.dropped["unknown"] += 1
        elif isinstance(message, Answer):
            self._answered(message, compact, source, now)
        return None

    # What core.py calls

    def ping(self, address: bytes, now: float) -> None:
        """Asks a compact address whether a node is there."""
        self._ask(address, b"ping", {}, now)
        self.pings += 1

    def ask_for_nodes(self, address: bytes, rng: random.Random, now: float) -> None:
        """Asks another router for nodes of both families."""
        self._ask(address, b"find_node", {b"target": random_id(rng)}, now, want=WANT_IPV4 | WANT_IPV6)

    def _ask(
        self, address: bytes, method: bytes, arguments: dict[bytes, Encodable], now: float, *, want: int = 0
    ) -> None:
        query = encode_query(
            self._router.echoes.make(address, now),
            method,
            self._node_id,
            arguments,
            version=self._version,
            read_only=True,  # a router is in nobody's table, and in no other router's ring (BEP 43)
            want=want,
        )
        sealed = self._envelope.seal(query)
        self.sent_bytes += len(sealed)
        self._outbox.append((sealed, Endpoint.from_compact(address)))

    def _answered(self, answer: Answer, compact: bytes, address: Endpoint, now: float) -> None:
        seen = answer.own_address
        if seen is not None and seen.family is self.family and self.votes.vote(seen, address):
            self._fit(seen)
        if compact in self._router.others:
            self._router.named(answer, address, now)
        elif answer.id != self._node_id:
            self.keeper.answered(answer.id, compact, now)

    def _fit(self, seen: Endpoint) -> None:
        """Enough nodes agree on where they see us: an id that does not fit is made anew (BEP 42)."""
        if not fits(self._node_id, seen.ip):
            self.node_id = self._router.id_for(seen.ip)

    def _nodes(self, keeper: RingKeeper, room: int, again: bool) -> tuple[bytes, bytes]:
        """Nodes of ours whose turn it is, and the item of the answer, with these and some that are lent."""
        width = keeper.node_bytes
        count = (room - _NODES_KEY_BYTES) // width
        most = REPEAT_NODES if again else MOST_NODES
        if count > most:
            count = most
        own = nodes = keeper.ring.hand_out(count)
        if keeper.lent and len(own) < count * width:
            nodes = keeper.with_lent(own, count)
        found = len(nodes) // width
        self.handed_out += found
        return own, keeper.nodes_heads[found] + nodes

    def _nodes_of(self, want: int, room: int, again: bool) -> bytes:
        """The items for an asker that says what it wants (BEP 32): both families share the room."""
        keepers = [keeper for bit, keeper in self._router.keepers if want & bit]
        return b"".join(self._nodes(keeper, room // len(keepers), again)[1] for keeper in keepers)
