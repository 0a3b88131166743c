"""One connection to a peer, without I/O: bytes in, events out; verbs in, bytes out (BEP 3, 6, 9, 10, 11, 54, 55).

The shell reads the socket straight into `buffer()` and says how much came with `received`; it sends what
`outgoing()` gives. The connection knows the handshake, the framing, and how long a peer may be silent; what messages
mean is in `hearer`, how they are said in `speaker`. It does not know what was asked for, what is wanted, or whom to
trust: that is `wire.swarm`.

Blocks are the hot path: they are read where the kernel put them and handed on as views.
"""

from __future__ import annotations

import enum

from wire.errors import MisuseError, ProtocolError
from wire.ids import ID_BYTES
from wire.peer import messages as m
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import HANDSHAKE_BYTES, Handshake, SelfConnectionError, check_start, client_of
from wire.peer.hearer import Hearer
from wire.peer.landing import FRAME_BYTES, Landing
from wire.peer.messages import Event
from wire.peer.receive_buffer import ReceiveBuffer

__all__ = ["Event", "PeerConnection", "TimedOut", "opening"]

HANDSHAKE_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 180.0
"""Peers keep a connection alive every two minutes (BEP 3); a lost or late one is forgiven."""
KEEP_ALIVE_CHECK_S = 50.0
"""Where nothing was sent for a whole such span, a keep-alive is: after 100 s at the latest; some give up at 120."""

SHRINK_AFTER_S = 30.0
"""A large receive buffer goes when no block has come for so long."""

_BLOCK_FRAME_HEADER_BYTES = m.BLOCK_HEADER.size
_MAX_PIECE_LENGTH = m.BLOCK_OVERHEAD + m.BLOCK_BYTES


class TimedOut(enum.Enum):
    """Why `tick` wants the connection closed."""

    HANDSHAKE = "no handshake within 10 s"
    IDLE = "nothing came for 3 minutes"


class PeerConnection(Hearer):
    """The state machine of one peer connection. After a ProtocolError it must not be used any more.

    Dialling side: `info_hash` is what we want; our handshake lies in `outgoing()` at once.
    Accepting side: `info_hash` is None; after the event `HandshakeReceived` call `accept`, or close.
    Verbs may be called once `open` is true (after the event HandshakeReceived, and `accept`); our extended
    handshake, where the peer speaks BEP 10, is then already queued, and the first verb should be `bitfield`.
    """

    __slots__ = (
        "_buffer",
        "_keep_alive_at",
        "_last_block_at",
        "_opening_ends_at",
        "_our_dht",
        "_our_id",
        "_rest",
        "_upgradable",
        "_upgrade",
        "info_hash",
        "peer_id",
    )

    def __init__(
        self,
        *,
        peer_id: bytes,
        info_hash: bytes | None,
        extended: ExtendedHandshake,
        now: float,
        dht: bool = False,
        piece_count: int | None = None,
        greeted: bool = False,
        upgrade: bytes | None = None,
    ) -> None:
        """`peer_id` is ours; `extended` is what we say of ourselves; `dht`: we have a DHT node.

        `upgrade`: the torrent is a hybrid, `info_hash` its v1 name, and the peer may answer with this, the v2 one.
        `greeted`: our handshake, `opening`, was said already when the stream was opened.
        """
        if len(peer_id) != ID_BYTES or (info_hash is not None and len(info_hash) != ID_BYTES):
            raise MisuseError("a peer id and an info-hash in a handshake are 20 bytes long")
        super().__init__(extended, piece_count, now)
        self.peer_id: bytes | None = None
        """The peer's, once its handshake came."""
        self.info_hash = info_hash

        self._our_id = peer_id
        self._our_dht = dht
        self._upgrade = upgrade
        self._upgradable = False
        self._buffer = ReceiveBuffer()
        self._rest = 0  # of a frame that `scattered` is to complete
        self._last_block_at = now
        self._opening_ends_at = now + HANDSHAKE_TIMEOUT_S
        self._keep_alive_at = now + KEEP_ALIVE_CHECK_S
        if info_hash is not None and not greeted:
            self._send_handshake(info_hash)

    @property
    def client(self) -> str:
        """What the peer calls itself, else what its peer id says, else "": printable, for people."""
        return self.remote.v or client_of(self.peer_id or b"")

    # In

    def buffer(self) -> memoryview:
        """Free space to receive into, never empty. Makes the data of earlier Block events invalid."""
        return self._buffer.space(shrink=self._heard_at - self._last_block_at > SHRINK_AFTER_S)

    def received(self, count: int, now: float) -> list[Event]:
        """Takes the `count` bytes that were put into `buffer()`. Raises ProtocolError on a breach."""
        buffer = self._buffer
        if not 0 <= count <= len(buffer.data) - buffer.end:
            raise MisuseError(f"{count} bytes were not received into the buffer")
        buffer.end += count
        self._heard_at = now
        events: list[Event] = []
        if not self.open:
            self._read_handshake(events)
        if self.open:
            self._read_frames(events)
        return events

    @property
    def in_block(self) -> int:
        """1 where a part of the next block is here already, else 0."""
        return int(self._buffer.end > self._buffer.start)

    def scattered(self, landing: Landing) -> list[memoryview] | None:
        """Where to receive to, in place of `buffer`, where the blocks of `landing` are due next; then `landed`.

        What is there of a frame already is completed first. None: use `buffer`, it is not clear where that ends.
        """
        buffer = self._buffer
        pending = buffer.end - buffer.start
        if not pending:
            self._rest = 0
            return landing.buffers()
        if pending < _BLOCK_FRAME_HEADER_BYTES or not self.open:
            return None
        self._rest = 4 + int.from_bytes(buffer.data[buffer.start : buffer.start + 4], "big") - pending
        if not 0 < self._rest < FRAME_BYTES:
            return None
        return [buffer.reserve(self._rest), *landing.buffers()]

    def landed(self, landing: Landing, count: int, now: float) -> list[Event]:
        """Takes the `count` bytes that were put into what `scattered` gave. Raises ProtocolError on a breach."""
        buffer, rest = self._buffer, self._rest
        self._heard_at = now
        events: list[Event] = []
        if rest:
            buffer.end += min(count, rest)
            self._read_frames(events)
            count -= rest
        if count > 0:
            places, strays, taken = landing.landed(count)
            if places:
                events.append(m.Landed([landing.blocks[at] for at in places], [landing.views[at] for at in places]))
            for index, begin, data in strays:
                if index >= (self._pieces.count or 0):
                    raise ProtocolError(f"a block of piece {index}")
                events.append(m.Block(index, begin, memoryview(data)))
            if taken:
                self._last_block_at = now
            if count > taken:
                buffer.append(landing.rest(taken, count), count - taken)
                self._read_frames(events)
        return events

    def accept(
        self, info_hash: bytes, extended: ExtendedHandshake | None = None, *, dht: bool | None = None
    ) -> list[Event]:
        """Accepting side: answers the handshake; returns the events of what came behind it already.

        `extended` and `dht` replace what the constructor was given (what the torrent is, is known only now).
        `info_hash` is the one that came, or, where the handshake allows it (`v2`), the v2 one of the same torrent.
        Raises ProtocolError as `received` does.
        """
        if self.open or self.peer_id is None or (info_hash != self.info_hash and not self._upgradable):
            raise MisuseError("only a handshake that was received can be accepted, with its own info-hash")
        self.info_hash = info_hash
        if extended is not None:
            self._ours = extended
        if dht is not None:
            self._our_dht = dht
        self._send_handshake(info_hash)
        self._open()
        events: list[Event] = []
        self._read_frames(events)
        return events

    def _read_handshake(self, events: list[Event]) -> None:
        if self.peer_id is not None:
            return  # it waits for `accept`
        came = self._buffer.view[self._buffer.start : self._buffer.end]
        if len(came) < HANDSHAKE_BYTES:
            check_start(came)
            return
        theirs = Handshake.parse(came[:HANDSHAKE_BYTES])
        self._buffer.start += HANDSHAKE_BYTES
        if theirs.peer_id == self._our_id:
            raise SelfConnectionError("the peer has our own id: this is a connection to ourselves")
        if self.info_hash is not None and theirs.info_hash not in (self.info_hash, self._upgrade):
            raise ProtocolError("the peer answered for another info-hash")
        dialled = self.info_hash is not None
        self.info_hash = theirs.info_hash
        self.peer_id = theirs.peer_id
        self.fast = theirs.fast
        self.dht = theirs.dht
        self._upgradable = theirs.v2
        self._extended_spoken = theirs.extended
        events.append(m.HandshakeReceived(*theirs))
        if dialled:
            self._open()

    def _open(self) -> None:
        self.open = True
        if self._extended_spoken:
            self.extended(self._ours)

    def _read_frames(self, events: list[Event]) -> None:
        received = self._buffer
        buffer, view = received.data, received.view
        at, end = received.start, received.end
        unpack_block = m.BLOCK_HEADER.unpack_from
        new, block = tuple.__new__, m.Block  # a fifth faster than calling the class
        append = events.append
        piece_count = self._pieces.count or 0  # unknown: nothing was asked for, no block can be right
        blocks_seen = False
        while end - at >= 4:
            if end - at >= _BLOCK_FRAME_HEADER_BYTES:
                length, kind, index, begin = unpack_block(buffer, at)
                if kind == m.PIECE and length:  # of an empty frame, the keep-alive, `kind` is the next one's
                    if not m.BLOCK_OVERHEAD < length <= _MAX_PIECE_LENGTH or index >= piece_count:
                        raise ProtocolError(f"a block of {length - m.BLOCK_OVERHEAD} bytes of piece {index}")
                    after = at + 4 + length
                    if after > end:
                        break
                    append(new(block, (index, begin, view[at + _BLOCK_FRAME_HEADER_BYTES : after])))
                    at = after
                    blocks_seen = True
                    continue
                if kind == m.REQUEST and length == m.REQUEST_LENGTH:  # a seed reads little else
                    requests = m.requests(view[at:end], piece_count)
                    if requests:
                        events += requests
                        at += len(requests) * m.REQUEST_FRAME_BYTES
                        continue
            else:
                length = int.from_bytes(buffer[at : at + 4], "big")
            if length == 0:  # keep-alive
                at += 4
                continue
            if length > m.MAX_FRAME_BYTES:
                raise ProtocolError(f"a peer message of {length} bytes")
            if end - at < 5:
                break
            kind = buffer[at + 4]
            m.check_length(kind, length, None if self._pieces.count is None else (piece_count + 7) // 8)
            after = at + 4 + length
            if after > end:
                break
            message = m.parse(kind, view[at + 5 : after])
            at = after
            if message is not None:
                self._take(message, events)
        received.start = at
        if blocks_seen:
            self._last_block_at = self._heard_at
        # The buffer grows only as data fill it: a mere promise of a long frame takes no memory.
        if received.is_full and (blocks_seen or at == 0):
            received.grow()

    # Time

    def next_timer(self) -> float:
        """When `tick` should be called, at the latest."""
        if not self.open:
            return self._opening_ends_at
        return min(self._keep_alive_at, self._heard_at + IDLE_TIMEOUT_S)

    def tick(self, now: float) -> TimedOut | None:
        """Queues a keep-alive where one is due; says why the connection should be closed, if it should."""
        if not self.open:
            return TimedOut.HANDSHAKE if now >= self._opening_ends_at else None
        if now >= self._heard_at + IDLE_TIMEOUT_S:
            return TimedOut.IDLE
        if now >= self._keep_alive_at:
            self._keep_alive_at = now + KEEP_ALIVE_CHECK_S
            if not self._spoke and not self.outgoing_bytes:
                self._send(bytes(4))
            self._spoke = False
        return None

    def _send_handshake(self, info_hash: bytes) -> None:
        self._append(opening(info_hash, self._our_id, dht=self._our_dht, v2=self._upgrade is not None))


def opening(info_hash: bytes, peer_id: bytes, *, dht: bool, v2: bool = False) -> bytes:
    """Our handshake: the first words on every connection that we open (BEP 3).

    `v2`: the torrent is a hybrid, and `info_hash` its v1 name (BEP 52).
    """
    return Handshake(info_hash, peer_id, extended=True, fast=True, dht=dht, v2=v2).encode()
