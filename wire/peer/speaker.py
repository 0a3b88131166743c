"""The speaking half of a peer connection: verbs in, bytes in an outbox (BEP 3, 6, 9, 10, 11). No I/O.

It keeps our two flags and what it must know of the peer to speak its dialect. Data are queued as they are, not
copied; small messages are joined. What may be said when is the swarm's business, but that both sides have shaken
hands.
"""

from __future__ import annotations

from collections.abc import Iterable

from wire.bitfield import Bitfield
from wire.errors import MisuseError
from wire.peer import messages as m
from wire.peer.extended import METADATA_DATA, METADATA_REJECT, METADATA_REQUEST, ExtendedHandshake, MetadataMessage
from wire.peer.hashes import HashAsk
from wire.peer.holepunch import HolepunchMessage
from wire.peer.messages import Buffer

__all__ = ["Speaker"]


class Speaker:
    """What we say on a connection. `wire.peer.connection.PeerConnection` adds hearing and time."""

    __slots__ = (
        "_extended_spoken",
        "_ours",
        "_out",
        "_spoke",
        "_tail",
        "am_choking",
        "am_interested",
        "dht",
        "fast",
        "open",
        "outgoing_bytes",
        "remote",
    )

    def __init__(self, extended: ExtendedHandshake) -> None:
        """`extended`: what we say of ourselves (BEP 10)."""
        self.am_choking = True
        self.am_interested = False
        self.remote = ExtendedHandshake()
        """Everything that the peer has said in extended handshakes so far."""
        self.fast = False
        """BEP 6 holds on this connection: both sides said so."""
        self.dht = False
        """The peer has a DHT node."""
        self.open = False
        """Both handshakes are done: messages may go out."""
        self.outgoing_bytes = 0
        """How much waits in the outbox."""

        self._ours = extended
        self._extended_spoken = False  # the peer speaks BEP 10
        self._out: list[Buffer] = []
        self._tail = bytearray()  # small messages behind the last of `_out`
        self._spoke = False  # something was sent since the last look at keep-alives

    def outgoing(self) -> list[Buffer]:
        """Takes everything out of the outbox, in order."""
        out = self._out
        if self._tail:
            out.append(self._tail)
            self._tail = bytearray()
        if out:
            self._out = []
            self._spoke = True
            self.outgoing_bytes = 0
        return out

    def choke(self) -> None:
        """Nothing is sent where the state is so already; so too in the next three.

        With `fast` the caller then rejects each request that it drops (BEP 6).
        """
        if not self.am_choking:
            self.am_choking = True
            self._send(m.frame(m.CHOKE))

    def unchoke(self) -> None:
        """The peer's requests will be answered."""
        if self.am_choking:
            self.am_choking = False
            self._send(m.frame(m.UNCHOKE))

    def interested(self) -> None:
        """The peer has something that we want."""
        if not self.am_interested:
            self.am_interested = True
            self._send(m.frame(m.INTERESTED))

    def not_interested(self) -> None:
        """The peer has nothing that we want."""
        if self.am_interested:
            self.am_interested = False
            self._send(m.frame(m.NOT_INTERESTED))

    def have(self, index: int) -> None:
        """We got a piece."""
        self._send(m.index_frame(m.HAVE, index))

    def haves(self, indices: Iterable[int]) -> None:
        """We got several."""
        self._send(m.index_frames(m.HAVE, indices))

    def bitfield(self, pieces: Bitfield | None) -> None:
        """What we have, as the first verb; None: the piece count is not known yet.

        Uses "have all" and "have none" (BEP 6) where it can. An empty bitfield is sent too: rTorrent lets in nobody
        before his first message, and two who have nothing to say would wait for each other's keep-alive.
        """
        if self.fast and (pieces is None or pieces.count == 0):
            self._send(m.frame(m.HAVE_NONE))
        elif pieces is None:
            return
        elif self.fast and pieces.all:
            self._send(m.frame(m.HAVE_ALL))
        else:
            self._send(m.frame(m.BITFIELD, pieces.to_bytes()))

    def request(self, blocks: Iterable[tuple[int, int, int]]) -> None:
        """Asks for (index, begin, length) each."""
        self._send(m.blocks_frames(m.REQUEST, blocks))

    def cancel(self, blocks: Iterable[tuple[int, int, int]]) -> None:
        """Takes requests back."""
        self._send(m.blocks_frames(m.CANCEL, blocks))

    def piece(self, index: int, begin: int, data: Buffer) -> None:
        """Answers a request. `data` is not copied: it must not change before it is sent."""
        self._send_with(m.piece_header(index, begin, len(data)), data)

    def pieces(self, frames: memoryview) -> None:
        """Answers several requests with messages that are written already (`wire.peer.shipment`), not copied either."""
        self._send_with(b"", frames)

    def reject(self, index: int, begin: int, length: int) -> None:
        """Says that a request will not be answered (BEP 6); without `fast` nothing is sent."""
        if self.fast:
            self._send(m.blocks_frames(m.REJECT, ((index, begin, length),)))

    def allowed_fast(self, index: int) -> None:
        """The peer may ask for this piece though we choke it; only with `fast` (BEP 6)."""
        if self.fast:
            self._send(m.index_frame(m.ALLOWED_FAST, index))

    def suggest(self, index: int) -> None:
        """The peer would do well to ask for this piece; only with `fast` (BEP 6)."""
        if self.fast:
            self._send(m.index_frame(m.SUGGEST, index))

    def dont_have(self, index: int) -> None:
        """We have a piece no more (BEP 54); nothing is sent to a peer that does not understand it."""
        if self.remote.lt_donthave:
            self._send(m.frame(m.EXTENDED, bytes((self.remote.lt_donthave,)) + index.to_bytes(4, "big")))

    def port(self, port: int) -> None:
        """Tells our DHT port (BEP 5); nothing is sent to a peer without DHT."""
        if self.dht:
            self._send(m.frame(m.PORT, port.to_bytes(2, "big")))

    def extended(self, handshake: ExtendedHandshake) -> None:
        """Sends one more extended handshake (BEP 10); the ids in it hold from now on."""
        self._ours = handshake
        if self._extended_spoken:
            self._send(m.frame(m.EXTENDED, b"\0" + handshake.encode()))

    def metadata_request(self, piece: int) -> None:
        """Asks for a block of the info dictionary (BEP 9).

        This and the next three send nothing to a peer that has not given an id for such messages.
        """
        self._send_metadata(MetadataMessage(METADATA_REQUEST, piece, None, b""))

    def metadata_data(self, piece: int, total_size: int, data: Buffer) -> None:
        """Sends a block of the info dictionary, of `total_size` bytes in all. `data` is not copied."""
        self._send_metadata(MetadataMessage(METADATA_DATA, piece, total_size, b""), data)

    def metadata_reject(self, piece: int) -> None:
        """Refuses a block of the info dictionary."""
        self._send_metadata(MetadataMessage(METADATA_REJECT, piece, None, b""))

    def pex(self, payload: bytes) -> None:
        """Sends a peer exchange (BEP 11), made by `wire.peer.pex`."""
        if self.remote.ut_pex:
            self._send(m.frame(m.EXTENDED, bytes((self.remote.ut_pex,)) + payload))

    def holepunch(self, message: HolepunchMessage) -> None:
        """Sends a ut_holepunch message (BEP 55); nothing is sent to a peer that does not understand it."""
        if self.remote.ut_holepunch:
            self._send(m.frame(m.EXTENDED, bytes((self.remote.ut_holepunch,)) + message.encode()))

    def hash_request(self, ask: HashAsk) -> None:
        """Asks for hashes of a file's tree (BEP 52)."""
        self._send(m.frame(m.HASH_REQUEST, ask.encode()))

    def hashes(self, ask: HashAsk, hashes: Iterable[bytes]) -> None:
        """Answers a hash request."""
        self._send(m.frame(m.HASHES, m.Hashes.encode(ask, hashes)))

    def hash_reject(self, ask: HashAsk) -> None:
        """Refuses a hash request."""
        self._send(m.frame(m.HASH_REJECT, ask.encode()))

    def _send_metadata(self, message: MetadataMessage, data: Buffer = b"") -> None:
        if self.remote.ut_metadata:
            body = bytes((m.EXTENDED, self.remote.ut_metadata)) + message.header()
            self._send_with((len(body) + len(data)).to_bytes(4, "big") + body, data)

    def _send(self, data: bytes) -> None:
        if not self.open:
            raise MisuseError("no message can be sent before both handshakes are done")
        self._append(data)

    def _append(self, data: bytes) -> None:
        self._tail += data
        self.outgoing_bytes += len(data)

    def _send_with(self, header: bytes, data: Buffer) -> None:
        self._send(header)
        if len(data):
            if self._tail:
                self._out.append(self._tail)
                self._tail = bytearray()
            self._out.append(data)
            self.outgoing_bytes += len(data)
