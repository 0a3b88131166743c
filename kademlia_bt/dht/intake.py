"""What comes in on one face: judged, noted and answered, or handed on (BEP 5, 32, 42, 43). No I/O.

A datagram is judged in this order: where from, well-formed, within limits. This is the hot path of a node that others
use: one flat function takes a query from its bytes to its answer's, with the fewest calls that do it. What its answer
says is decided in responder.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kademlia_bt.dht.guard import Guard
from kademlia_bt.dht.krpc import Query, QueryError, parse
from kademlia_bt.dht.private import Envelope
from kademlia_bt.dht.table import Node
from kademlia_bt.dht.traffic import DropReason, Traffic
from kademlia_bt.dht.usual import FORM_HEAD, FORM_TAIL, FORMS, usual_query
from kademlia_bt.dht.writing import encode_error
from wire.compact import Address, Endpoint
from wire.errors import ProtocolError
from wire.limits import TokenBucket
from wire.net import Buffer

if TYPE_CHECKING:
    from kademlia_bt.dht.config import DhtConfig
    from kademlia_bt.dht.face import Face

__all__ = ["Intake"]

_ERROR = b"d1:eli"
"""How an error begins; its code of three digits follows."""
_MIN_BYTES = 20
"""Shorter than the shortest message."""
_MAX_BYTES = 8_192
"""Nobody sends more than 1,500 on purpose; a larger datagram only costs time."""

_PER_IP_LIMIT = 5.0
_LOCAL_PER_IP_LIMIT = 1_000.0
_UPLOAD_LIMIT = 16_000
_UPLOAD_BURST_S = 4.0
_UDP_OVERHEAD_BYTES = 28


class Intake:
    """One face's. Made by it, last of its parts."""

    def __init__(self, face: Face, config: DhtConfig, now: float) -> None:
        self.traffic = Traffic()
        self.received_bytes = 0
        self.answered_bytes = 0
        """Of answers, UDP headers not counted."""
        self.envelope = Envelope(config.network)
        self._face = face
        self._seeker = face.seeker
        self._keeper = face.keeper
        self._firewall = face.firewall
        self._responder = face.responder
        self._packed = face.border.packed
        self._version = config.version
        self._broken = 0
        """Broken queries that were told so."""
        # Of a private network, a query without its tag is none: all are looked at whole.
        self._forms = {} if self.envelope.overhead_bytes else FORMS
        per_ip = config.per_ip_limit
        if per_ip is None:
            per_ip = _LOCAL_PER_IP_LIMIT if face.allow_local else _PER_IP_LIMIT
        self._read_only = config.read_only
        self._guard = Guard(per_ip)
        self._is_open = not self._read_only and not self._guard.is_on
        upload = config.upload_limit
        if upload is None:
            upload = 0 if face.allow_local else _UPLOAD_LIMIT
        self._is_capped = upload > 0
        self._upload = TokenBucket(upload, upload * _UPLOAD_BURST_S, now)
        # Looked into for each datagram.
        self._hosts = face.border.known
        self._nodes = face.table.by_endpoint
        self._full = face.table.full
        self._heard = self.traffic.heard

    @property
    def queries(self) -> int:
        """Queries that came in, those included that were dropped for a limit."""
        dropped = self.traffic.dropped
        return sum(self._heard.values()) + self._broken + dropped["limit"] + dropped["read_only"]

    @property
    def answers(self) -> int:
        """Answers and errors that were sent."""
        return sum(self._heard.values()) + self._broken - self.traffic.dropped["upload"]

    def sweep(self, now: float) -> None:
        """Forgets sources that were quiet."""
        self._guard.sweep(now)

    def answer(self, data: bytes, source: Address, now: float) -> Buffer | None:
        """Takes a datagram; gives what is to be sent back, if anything. Never raises for what is in it."""
        size = len(data)
        self.received_bytes += size
        form = self._forms.get(size)
        if form is None and not _MIN_BYTES <= size <= _MAX_BYTES:
            self._drop("malformed")
            return None
        host, port = source
        ip = self._hosts.get(host) or self._packed(host)
        if ip is None or not port:
            self._drop("address")
            return None
        query: Query | None = None
        read_only = False
        if form is None:
            fits = False
        elif form.key:
            head, sender, key, target, middle, tid, version_key, tail = form.cut(data)
            fits = (
                middle == form.middle
                and key == form.key
                and head == FORM_HEAD
                and version_key == form.version_key
                and tail == FORM_TAIL
            )
        else:
            head, sender, middle, tid, version_key, tail = form.cut(data)
            fits = middle == form.middle and head == FORM_HEAD and version_key == form.version_key and tail == FORM_TAIL
        if not fits:
            read = self._read(data, source, now)
            if not isinstance(read, Query):
                return read
            query = read
            sender, read_only = query.sender, query.read_only
        if not self._is_open and not self._admits(source, now):
            return None
        if now >= self._firewall.look_again_at:
            self._firewall.heard(Endpoint(*source), now)
        node = self._nodes.get(source)
        if node is not None and node.contact.id == sender:
            node.last_query = now
        elif (
            not read_only
            and (node is not None or not self._full[sender[0]])  # what `wants` would say, without a call
            and self._keeper.would_take(source, now)
        ):
            self._meet(node, sender, source, now)
        if query is not None:
            self.traffic.hear(query.method)
            answer = self._responder.answer(query, ip, port, size, node is not None, now)
            return self._within_limit(answer, now)
        assert form is not None
        self._heard[form.method] += 1
        if form.key:
            answer = self._responder.usual(form.method, target, tid, ip, port, size, node is not None, now)
        else:
            answer = self._responder.pongs[form.tid_bytes](ip, port, tid)
        if self._is_capped:
            return self._within_limit(answer, now)
        self.answered_bytes += len(answer)
        return answer

    def _meet(self, node: Node | None, sender: bytes, source: Address, now: float) -> None:
        """One asks that is not in the table, or is there by another id: it may be worth a ping."""
        face = self._face
        endpoint = Endpoint(*source)
        if sender != face.node_id and (node is not None or face.table.wants(sender, endpoint)):
            self._keeper.suggest(endpoint, now)
            self._seeker.probe(now)

    def _read(self, data: bytes, source: Address, now: float) -> Query | Buffer | None:
        """Reads a datagram of no usual form: gives the query that it is, or the answer that it gets, if any."""
        opened = self.envelope.open(data)
        if opened is None:
            self._drop("foreign")
            return None
        query = usual_query(opened)
        if query is not None:
            return query
        endpoint = Endpoint(*source)
        try:
            message = parse(opened)
        except QueryError as error:
            if not self._is_open and not self._admits(source, now):
                return None
            self._broken += 1
            return self._within_limit(
                encode_error(error.tid, error.code, str(error), endpoint.compact(), self._version), now
            )
        except ProtocolError:
            self._drop("malformed")
            return None
        if isinstance(message, Query):
            return message
        if not self._seeker.response(message, endpoint, now):
            self._drop("unasked")
        return None

    def _admits(self, source: Address, now: float) -> bool:
        if self._read_only:
            self._drop("read_only")
            return False
        if self._guard.is_on and not self._guard.allows(source, now):
            self._drop("limit")
            return False
        return True

    def _within_limit(self, answer: bytes, now: float) -> Buffer | None:
        """An answer as it is sent, if it may be."""
        if self._is_capped and not self._upload.take(len(answer) + _UDP_OVERHEAD_BYTES, now):
            self._drop("upload")
            return None
        if answer.startswith(_ERROR):
            self.traffic.refuse(int(answer[len(_ERROR) : len(_ERROR) + 3]))
        sealed = self.envelope.seal(answer)
        self.answered_bytes += len(sealed)
        return sealed

    def _drop(self, reason: DropReason) -> None:
        self.traffic.dropped[reason] += 1
