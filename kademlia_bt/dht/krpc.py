"""KRPC messages read: bytes to values (BEP 5; BEP 32 `want`, BEP 33, BEP 42 `ip`, BEP 43 `ro`, BEP 44, BEP 51).

The border where datagrams are verified: only `ProtocolError` comes out of it. Queries are parsed whole,
as many are answered; an answer is parsed as far as its transaction wants. Written are they in writing.py.
What a message means is decided in responder.py, intake.py and seeker.py.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kademlia_bt.dht.contact import Contact, unpack_contacts
from kademlia_bt.items.bloom import FILTER_BYTES, BloomFilter
from wire.bencode import Value, decode, encode, get_bytes, get_int, raw_item
from wire.compact import Endpoint, Family
from wire.errors import BencodeError, ProtocolError
from wire.ids import ID_BYTES

__all__ = [
    "GENERIC_ERROR",
    "MAX_VALUES",
    "METHOD_UNKNOWN",
    "PROTOCOL_ERROR",
    "SERVER_ERROR",
    "WANT_IPV4",
    "WANT_IPV6",
    "Answer",
    "Held",
    "More",
    "PutArguments",
    "Query",
    "QueryError",
    "Refusal",
    "Samples",
    "parse",
]

GENERIC_ERROR: Final = 201
SERVER_ERROR: Final = 202
PROTOCOL_ERROR: Final = 203
METHOD_UNKNOWN: Final = 204

WANT_IPV4: Final = 1
WANT_IPV6: Final = 2

_MAX_DEPTH = 32
"""A message needs 4. Each `d` or `l` byte of an id counts as one in the fast check, so a higher bound is the faster."""
_MAX_TOKENS = 1_000
"""An answer of 100 peers has some 120."""
_MAX_TID_BYTES = 255
"""BEP 5: arbitrary bytes, echoed as they came; usual are 2 to 8."""
_MAX_CONTACTS = 32
"""Of one list: nodes send 8, routers 16, some 20."""
MAX_VALUES = 300
"""Peers of one answer: more than a datagram of 1,500 bytes holds."""
_MAX_ERROR_TEXT = 200
_MAX_INTERVAL_S = 21_600
"""BEP 51."""
_MAX_SAMPLES = 100
"""More than a datagram of 1,500 bytes holds."""


class QueryError(ProtocolError):
    """A query that is broken, but whole enough to be told so."""

    def __init__(self, tid: bytes, code: int, text: str) -> None:
        super().__init__(text)
        self.tid = tid
        self.code = code


class PutArguments(NamedTuple):
    """What a `put` brings, of the right types and no more than that (BEP 44)."""

    raw_value: bytes
    """`v`, as it stood in the datagram: bencoded, of any size."""
    public_key: bytes | None
    """None for an immutable item, and the rest then means nothing."""
    signature: bytes
    seq: int
    salt: bytes
    cas: int | None


class More(NamedTuple):
    """What few queries have: apart, so that the others are read the faster."""

    scrape: bool = False
    """`get_peers` that asks for the size of the swarm (BEP 33)."""
    no_seeds: bool = False
    """`get_peers` by one who needs no seeds (BEP 33)."""
    seq: int | None = None
    """`get` by one who has the item of this `seq` (BEP 44)."""
    put: PutArguments | None = None


class Query(NamedTuple):
    """A question that came in; what its method does not use is None, 0 or False."""

    tid: bytes
    method: bytes
    sender: bytes
    target: bytes | None
    """`target` or `info_hash`, 20 bytes; required by every method that we know but ping and put."""
    want: int
    """`WANT_IPV4` | `WANT_IPV6`, 0 where nothing was said (BEP 32)."""
    read_only: bool
    token: bytes | None = None
    port: int = 0
    """0 where the UDP source port is meant (implied_port)."""
    seed: bool = False
    more: More | None = None
    """What later BEPs added, where any of it is there."""


class Held(NamedTuple):
    """An item as an answer to `get` brings it, nothing of it verified (BEP 44)."""

    raw_value: bytes | None
    """None where only `seq` was told, since the asker has that item or a newer one."""
    public_key: bytes | None
    signature: bytes
    seq: int | None


class Samples(NamedTuple):
    """What a node shows of its store (BEP 51)."""

    info_hashes: tuple[bytes, ...]
    """Some of the info-hashes that it has peers of, 20 bytes each; at most 100."""
    total: int
    """How many it says that it has."""
    interval_s: int
    """After how long it would show others: 0 to 21,600 s. Do not ask again before."""


class Answer:
    """An answer that came in (`y` = `r`): its parts are read as they are asked for."""

    __slots__ = ("_ip", "_return", "id", "tid", "version")

    def __init__(self, tid: bytes, node_id: bytes, returned: dict[bytes, Value], ip: Value, version: Value) -> None:
        self.tid = tid
        self.id = node_id
        self._return = returned
        self._ip = ip
        self.version = version[:32] if isinstance(version, bytes) else None

    @property
    def token(self) -> bytes | None:
        """The write token, of any length that fits a datagram."""
        token = self._return.get(b"token")
        return token if isinstance(token, bytes) and len(token) <= _MAX_TID_BYTES else None

    @property
    def own_address(self) -> Endpoint | None:
        """Where the sender saw us (BEP 42); None where it does not say, or nonsense."""
        return _endpoint_or_none(self._ip)

    def contacts(self, family: Family) -> list[Contact]:
        """The nodes of one family; none where the list is absent or of another type."""
        nodes = self._return.get(family.nodes_key)
        return unpack_contacts(nodes, family, _MAX_CONTACTS) if isinstance(nodes, bytes) else []

    @property
    def peers(self) -> list[Endpoint]:
        """The `values` of both widths (BEP 32); what is neither is passed over."""
        values = self._return.get(b"values")
        if not isinstance(values, list):
            return []
        found = (_endpoint_or_none(value) for value in values[:MAX_VALUES])
        return [endpoint for endpoint in found if endpoint is not None]

    @property
    def filters(self) -> tuple[BloomFilter, BloomFilter] | None:
        """The seeds and the others of a swarm as the node counts them (BEP 33); None where it does not say."""
        seeds, others = self._return.get(b"BFsd"), self._return.get(b"BFpe")
        if not isinstance(seeds, bytes) or not isinstance(others, bytes):
            return None
        if len(seeds) != FILTER_BYTES or len(others) != FILTER_BYTES:
            return None
        return BloomFilter.from_bytes(seeds), BloomFilter.from_bytes(others)

    @property
    def held(self) -> Held | None:
        """The item that the node keeps, or its `seq` (BEP 44); None where it has none."""
        returned = self._return
        value, seq = returned.get(b"v"), get_int(returned, b"seq")
        if value is None and seq is None:
            return None
        raw_value = None if value is None else encode(value)
        return Held(raw_value, get_bytes(returned, b"k"), get_bytes(returned, b"sig") or b"", seq)

    @property
    def samples(self) -> Samples | None:
        """What it shows of its store (BEP 51); None where it does not know the question."""
        joined = self._return.get(b"samples")
        if not isinstance(joined, bytes):
            return None
        end = min(len(joined) // ID_BYTES, _MAX_SAMPLES) * ID_BYTES
        hashes = tuple(joined[at : at + ID_BYTES] for at in range(0, end, ID_BYTES))
        total, interval = get_int(self._return, b"num") or 0, get_int(self._return, b"interval") or 0
        return Samples(hashes, min(max(total, len(hashes)), 1 << 31), min(max(interval, 0), _MAX_INTERVAL_S))


class Refusal(NamedTuple):
    """An error that came in (`y` = `e`)."""

    tid: bytes
    code: int
    text: str


def _endpoint_or_none(value: Value) -> Endpoint | None:
    if isinstance(value, bytes) and len(value) in (6, 18):
        return Endpoint.from_compact(value)
    return None


def parse(data: bytes) -> Query | Answer | Refusal:
    """Reads a datagram.

    Raises:
        QueryError: A query that is owed an error: its code and text.
        ProtocolError: No KRPC message; nothing is owed.
    """
    message = decode(data, max_depth=_MAX_DEPTH, max_tokens=_MAX_TOKENS)
    if type(message) is not dict:
        raise ProtocolError("a KRPC message is a dictionary")
    tid = message.get(b"t")
    if type(tid) is not bytes or len(tid) > _MAX_TID_BYTES:
        raise ProtocolError("a KRPC message without a transaction id")
    kind = message.get(b"y")
    if kind == b"q":
        return _query(message, tid, data)
    if kind == b"r":
        returned = message.get(b"r")
        node_id = returned.get(b"id") if type(returned) is dict else None
        if type(returned) is not dict or type(node_id) is not bytes or len(node_id) != ID_BYTES:
            raise ProtocolError("an answer without a node id")
        return Answer(tid, node_id, returned, message.get(b"ip", 0), message.get(b"v", 0))
    if kind == b"e":
        return _refusal(message, tid)
    raise ProtocolError("a KRPC message that is neither query, answer nor error")


def _query(message: dict[bytes, Value], tid: bytes, data: bytes) -> Query:
    method = message.get(b"q")
    arguments = message.get(b"a")
    if type(method) is not bytes or type(arguments) is not dict:
        raise QueryError(tid, PROTOCOL_ERROR, "a query needs a method and arguments")
    sender = arguments.get(b"id")
    if type(sender) is not bytes or len(sender) != ID_BYTES:
        raise QueryError(tid, PROTOCOL_ERROR, "id must be 20 bytes")
    read_only = message.get(b"ro") == 1
    if method == b"ping":
        return Query(tid, method, sender, None, 0, read_only)
    key = _TARGET_KEYS.get(method)
    if key is not None:
        target = arguments.get(key)
        if type(target) is not bytes or len(target) != ID_BYTES:
            raise QueryError(tid, PROTOCOL_ERROR, f"{key.decode()} must be 20 bytes")
    elif method == b"put":
        return _put(arguments, tid, sender, read_only, data)
    else:
        target = arguments.get(b"target", arguments.get(b"info_hash"))
        if type(target) is not bytes or len(target) != ID_BYTES:
            raise QueryError(tid, METHOD_UNKNOWN, "method unknown")
    want = 0
    if b"want" in arguments:
        wanted = arguments[b"want"]
        if type(wanted) is list:
            want = (WANT_IPV4 if b"n4" in wanted else 0) | (WANT_IPV6 if b"n6" in wanted else 0)
    if method != b"announce_peer":
        if len(arguments) == _USUAL_ARGUMENTS:
            return Query(tid, method, sender, target, want, read_only)
        scrape, no_seeds = arguments.get(b"scrape") == 1, arguments.get(b"noseed") == 1
        seq = get_int(arguments, b"seq")
        more = More(scrape, no_seeds, seq) if scrape or no_seeds or seq is not None else None
        return Query(tid, method, sender, target, want, read_only, more=more)
    token = arguments.get(b"token")
    if type(token) is not bytes:
        raise QueryError(tid, PROTOCOL_ERROR, "announce_peer needs a token")
    port = 0
    if not arguments.get(b"implied_port"):
        stated = arguments.get(b"port")
        if type(stated) is not int or not 0 < stated < 65536:
            raise QueryError(tid, PROTOCOL_ERROR, "port must be 1 to 65535")
        port = stated
    return Query(tid, method, sender, target, want, read_only, token, port, arguments.get(b"seed") == 1)


_USUAL_ARGUMENTS = 2
"""Our own id and a target: most queries have no more."""
_TARGET_KEYS = {
    b"find_node": b"target",
    b"get_peers": b"info_hash",
    b"announce_peer": b"info_hash",
    b"get": b"target",
    b"sample_infohashes": b"target",
}


def _put(arguments: dict[bytes, Value], tid: bytes, sender: bytes, read_only: bool, data: bytes) -> Query:
    token = arguments.get(b"token")
    if type(token) is not bytes:
        raise QueryError(tid, PROTOCOL_ERROR, "put needs a token")
    try:
        # What is hashed and signed is what was sent, in whatever order its keys are.
        raw_value = raw_item(raw_item(data, b"a") or b"de", b"v")
    except BencodeError as error:
        raise QueryError(tid, PROTOCOL_ERROR, str(error)) from None
    if raw_value is None:
        raise QueryError(tid, PROTOCOL_ERROR, "put needs a value")
    public_key = arguments.get(b"k")
    if public_key is None:
        immutable = PutArguments(raw_value, None, b"", 0, b"", None)
        return Query(tid, b"put", sender, None, 0, read_only, token, more=More(put=immutable))
    signature, seq, salt = arguments.get(b"sig"), arguments.get(b"seq"), arguments.get(b"salt", b"")
    cas = arguments.get(b"cas")
    if type(public_key) is not bytes or type(signature) is not bytes or type(salt) is not bytes:
        raise QueryError(tid, PROTOCOL_ERROR, "k, sig and salt are byte strings")
    if type(seq) is not int or not (cas is None or type(cas) is int):
        raise QueryError(tid, PROTOCOL_ERROR, "seq and cas are numbers")
    put = PutArguments(raw_value, public_key, signature, seq, salt, cas)
    return Query(tid, b"put", sender, None, 0, read_only, token, more=More(put=put))


def _refusal(message: dict[bytes, Value], tid: bytes) -> Refusal:
    error = message.get(b"e")
    code, text = (error[0], error[1]) if isinstance(error, list) and len(error) >= 2 else (GENERIC_ERROR, b"")
    return Refusal(
        tid,
        code if isinstance(code, int) and abs(code) < 1_000_000 else GENERIC_ERROR,
        text[:_MAX_ERROR_TEXT].decode("utf-8", "replace") if isinstance(text, bytes) else "",
    )
