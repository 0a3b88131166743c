"""One conversation that wants nothing of a peer but the info dictionary (BEP 3, 9, 10). No I/O.

For who knows a peer of a torrent and needs no swarm for it yet: both handshakes, the extended ones, `ut_metadata`; all
else that the peer says is skipped unread. One peer is asked for all, and whatever goes wrong ends the errand: then a
swarm may be asked, which knows how to wait, whom to ask else and whom to blame (`wire.peer.metadata`).
"""

from __future__ import annotations

from wire.errors import ProtocolError
from wire.ids import InfoHash
from wire.peer import messages as m
from wire.peer.extended import (
    METADATA_BLOCK_BYTES,
    METADATA_DATA,
    METADATA_REJECT,
    METADATA_REQUEST,
    UT_METADATA_ID,
    ExtendedHandshake,
    MetadataMessage,
    read_offer,
)
from wire.peer.handshake import HANDSHAKE_BYTES, Handshake, check_start
from wire.peer.metadata import MAX_OUTSTANDING

__all__ = ["MAX_ERRAND_BYTES", "MetadataErrand"]

MAX_ERRAND_BYTES = 1 << 20
"""The largest info dictionary that is asked of one peer alone, some 50,000 piece hashes: larger ones come faster from
several, and many errands at once must not take much memory, whatever peers claim."""
_HEADER_BYTES = 5
"""Of a message that has an id."""
_HAVE_NONE = m.frame(m.HAVE_NONE)
_HELLO = m.frame(m.EXTENDED, b"\0" + ExtendedHandshake(ut_metadata=UT_METADATA_ID).encode())
"""All that we say of ourselves. No port: nobody waits there for peers of that torrent."""


class MetadataErrand:
    """Asks one peer for one info dictionary. After a ProtocolError, or once `raw` is there, it must not be used."""

    __slots__ = (
        "_asked",
        "_blocks",
        "_got",
        "_id",
        "_inbox",
        "_info_hash",
        "_opening",
        "_size",
        "_skip",
        "raw",
        "shaken",
    )

    def __init__(self, info_hash: InfoHash, peer_id: bytes) -> None:
        """`peer_id` is ours, 20 bytes."""
        self.raw: bytes | None = None
        """The info dictionary as the peer sent it, once it is whole: nobody has compared it with the info-hash yet."""
        self.shaken = False
        """The peer's handshake came, and is right."""
        self._info_hash = info_hash
        self._opening = Handshake(info_hash.swarm_ids[0], peer_id, extended=True, fast=True, dht=False)
        self._inbox = bytearray()
        self._skip = 0
        """Bytes that still belong to a message which is not read."""
        self._id = self._size = 0
        """Of the peer's ut_metadata messages, and of the info dictionary in bytes, as he says."""
        self._blocks: list[bytes | None] = []
        self._asked = 0
        """Blocks that were asked for, from the first on, and how many of them came."""
        self._got = 0

    @property
    def done(self) -> bool:
        """The info dictionary is here."""
        return self.raw is not None

    def opening(self) -> bytes:
        """What is said first."""
        return self._opening.encode()

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Takes what came; gives what is to be answered.

        Raises ProtocolError where the peer breaks the rules, or has not, or does not give, what is wanted.
        """
        inbox = self._inbox
        inbox += data
        said = b""
        at = 0
        if not self.shaken:
            if len(inbox) < HANDSHAKE_BYTES:
                check_start(inbox)
                return b""
            said = self._shake(bytes(inbox[:HANDSHAKE_BYTES]))
            at = HANDSHAKE_BYTES
        end = len(inbox)
        while self.raw is None:
            at += self._skip
            self._skip = 0
            if end - at < _HEADER_BYTES:
                break
            length = int.from_bytes(inbox[at : at + 4], "big")
            if not length:
                at += 4
                continue
            kind = inbox[at + 4]
            if length > m.MAX_FRAME_BYTES:
                raise ProtocolError(f"a peer message of {length} bytes")
            after = at + 4 + length
            if kind != m.EXTENDED:
                self._skip = 4 + length
            elif length > m.MAX_EXTENDED_BYTES:
                raise ProtocolError(f"an extended message of {length} bytes")
            elif after > end:
                break
            else:
                said += self._extended(bytes(inbox[at + _HEADER_BYTES : after]))
                at = after
        if at > end:
            self._skip, at = at - end, end
        del inbox[:at]
        return said

    def _shake(self, head: bytes) -> bytes:
        theirs = Handshake.parse(head)
        if theirs.info_hash not in self._info_hash.swarm_ids:
            raise ProtocolError("the peer answered for another info-hash")
        if theirs.peer_id == self._opening.peer_id:
            raise ProtocolError("the peer has our own id: this is a connection to ourselves")
        if not theirs.extended:
            raise ProtocolError("the peer does not speak the extension protocol (BEP 10)")
        self.shaken = True
        return _HELLO + _HAVE_NONE if theirs.fast else _HELLO

    def _extended(self, payload: bytes) -> bytes:
        if payload[:1] == b"\0":
            return self._offered(payload[1:])
        if not payload or payload[0] != UT_METADATA_ID:
            return b""
        message = MetadataMessage.parse(payload[1:])
        if message.kind == METADATA_DATA:
            self._take(message)
        elif message.kind == METADATA_REJECT and message.piece < self._asked:
            raise ProtocolError("the peer refuses to send its metadata")
        elif message.kind == METADATA_REQUEST and self._id:
            return self._say(MetadataMessage(METADATA_REJECT, message.piece, None, b""))
        return self._ask() if self.raw is None else b""

    def _offered(self, payload: bytes) -> bytes:
        before, (number, size) = self._size, read_offer(payload)
        self._id, self._size = number or self._id, size or before  # a later one need not say all again
        if not self._id or not self._size:
            raise ProtocolError("the peer has no metadata to give (BEP 9)")
        if self._size > MAX_ERRAND_BYTES:
            raise ProtocolError(f"the peer names {self._size} bytes of metadata, too many for one to send")
        if before not in (0, self._size):
            raise ProtocolError("the peer names two sizes of one info dictionary")
        return self._ask()

    def _ask(self) -> bytes:
        said = b""
        while self._asked - self._got < MAX_OUTSTANDING and self._asked * METADATA_BLOCK_BYTES < self._size:
            said += self._say(MetadataMessage(METADATA_REQUEST, self._asked, None, b""))
            self._blocks.append(None)
            self._asked += 1
        return said

    def _say(self, message: MetadataMessage) -> bytes:
        return m.frame(m.EXTENDED, bytes((self._id,)) + message.header())

    def _take(self, message: MetadataMessage) -> None:
        size, piece = self._size, message.piece
        if piece >= self._asked or self._blocks[piece] is not None:
            return
        if message.total_size not in (None, size):
            raise ProtocolError(f"it said {size} bytes of metadata first, then {message.total_size}")
        if len(message.data) != min(METADATA_BLOCK_BYTES, size - piece * METADATA_BLOCK_BYTES):
            raise ProtocolError(f"a metadata block of {len(message.data)} bytes is not of {size} in all")
        self._blocks[piece] = message.data
        self._got += 1
        if self._got * METADATA_BLOCK_BYTES >= size:
            self.raw = b"".join(block for block in self._blocks if block is not None)
