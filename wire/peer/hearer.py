"""The hearing half of a peer connection: what each message changes, and what the swarm is told of it. No I/O.

It knows the peer's two flags, what the peer has, and which rules a message breaks (BEP 3, 6, 9, 10, 11, 54, 55). Where
messages come from, and when, is the business of `wire.peer.connection`; blocks are read there.
"""

from __future__ import annotations

from wire.bitfield import Bitfield
from wire.errors import ProtocolError
from wire.peer import messages as m
from wire.peer.extended import (
    METADATA_DATA,
    METADATA_REJECT,
    METADATA_REQUEST,
    ExtendedHandshake,
    MetadataMessage,
)
from wire.peer.holepunch import HolepunchMessage
from wire.peer.messages import Event
from wire.peer.pex import PexMessage
from wire.peer.pieces import RemotePieces
from wire.peer.speaker import Speaker

__all__ = ["Hearer"]

PEX_INTERVAL_S = 45.0
"""Peer exchanges that come faster are ignored: one a minute is the rule (BEP 11), clocks and queues shift it."""
_FAST = {
    m.HaveAll: "have all",
    m.HaveNone: "have none",
    m.Suggest: "a suggestion",
    m.AllowedFast: "allowed fast",
    m.Reject: "a reject",
}
"""What a peer that did not set the bit in its handshake must not send: the connection is to be closed (BEP 6)."""


class Hearer(Speaker):
    """What a peer says on a connection. `wire.peer.connection.PeerConnection` adds bytes and time."""

    __slots__ = ("_heard_at", "_pex_ignored_until", "_pieces", "peer_choking", "peer_interested")

    def __init__(self, extended: ExtendedHandshake, piece_count: int | None, now: float) -> None:
        """`extended`: what we say of ourselves; `piece_count`: None where it is not known yet."""
        super().__init__(extended)
        self.peer_choking = True
        self.peer_interested = False
        self._pieces = RemotePieces(piece_count)
        self._heard_at = now
        self._pex_ignored_until = now

    @property
    def is_seed(self) -> bool:
        """The peer is known to have every piece."""
        return self._pieces.is_all

    @property
    def peer_has(self) -> Bitfield | None:
        """What the peer has, kept up to date; None until the piece count is known."""
        return self._pieces.has

    def set_piece_count(self, count: int) -> list[Event]:
        """Says how many pieces there are, once. Returns a HasPieces event if the peer has told of pieces before.

        Raises ProtocolError where that does not fit `count`.
        """
        told = self._pieces.set_count(count)
        return [] if told is None else [m.HasPieces(told)]

    def _take(self, message: m.Message, events: list[Event]) -> None:
        """Changes the state by any message but a block, and adds what the swarm is to know."""
        if not self.fast and type(message) in _FAST:
            raise ProtocolError(f"sends {_FAST[type(message)]} (BEP 6) without having agreed to such messages")
        count = self._pieces.count
        match message:
            case m.Request() | m.Cancel() | m.Reject():
                if count is None:
                    if isinstance(message, m.Request):
                        self.reject(message.index, message.begin, message.length)
                elif message.index >= count:
                    raise ProtocolError(f"a request for piece {message.index} of {count}")
                else:
                    events.append(message)
            case m.Have(index):
                if self._pieces.have(index):
                    events.append(message)
            case m.Choked() | m.Unchoked():
                choking = isinstance(message, m.Choked)
                if choking != self.peer_choking:
                    self.peer_choking = choking
                    events.append(message)
            case m.Interested() | m.NotInterested():
                interested = isinstance(message, m.Interested)
                if interested != self.peer_interested:
                    self.peer_interested = interested
                    events.append(message)
            case m.RawBitfield(bits):
                self._declared(self._pieces.declare(bits), events)
            case m.HaveAll() | m.HaveNone():
                everything = isinstance(message, m.HaveAll)
                self._declared(self._pieces.declare(None, everything=everything), events)
            case m.Extended(kind, payload):
                self._take_extended(kind, payload, events)
            case m.Port(port):
                if port:
                    events.append(message)
            case m.Suggest(index) | m.AllowedFast(index):
                # Advice: worthless before the piece count is known, or for a piece that is not there.
                if count is not None and index < count:
                    events.append(message)
            case m.HashRequest() | m.Hashes() | m.HashReject():
                events.append(message)

    def _declared(self, gained: Bitfield | None, events: list[Event]) -> None:
        if gained is not None:
            events.append(m.HasPieces(gained))

    def _take_extended(self, kind: int, payload: bytes, events: list[Event]) -> None:
        if kind == 0:
            self.remote = self.remote.updated(payload)
            events.append(m.ExtendedReceived(self.remote))
        elif kind == self._ours.ut_metadata:
            message = MetadataMessage.parse(payload)
            if message.kind == METADATA_REQUEST:
                events.append(m.MetadataRequest(message.piece))
            elif message.kind == METADATA_DATA:
                events.append(m.MetadataData(message.piece, message.total_size, message.data))
            elif message.kind == METADATA_REJECT:
                events.append(m.MetadataReject(message.piece))
        elif kind == self._ours.lt_donthave:
            if len(payload) != 4:
                raise ProtocolError(f"a lt_donthave message of {len(payload)} bytes")
            index = int.from_bytes(payload, "big")
            if self._pieces.lose(index):
                events.append(m.HaveNot(index))
        elif kind == self._ours.ut_holepunch and self.remote.ut_holepunch:  # BEP 55: else it is to be ignored
            if (punch := HolepunchMessage.parse(payload)) is not None:
                events.append(m.HolepunchReceived(punch))
        elif kind == self._ours.ut_pex and self._heard_at >= self._pex_ignored_until:
            self._pex_ignored_until = self._heard_at + PEX_INTERVAL_S
            events.append(m.PexReceived(*PexMessage.parse(payload)))
