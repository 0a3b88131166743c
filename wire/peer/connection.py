"""One connection to a peer, without I/O: bytes in, events out; verbs in, bytes out (BEP 3, 6, 9, 10, 11).

The shell reads the socket straight into `buffer()` and says how much came with `received`; it sends what
`outgoing()` gives. The connection knows the handshake, the framing, both sides' four flags, what the peer has,
and how long a peer may be silent. It does not know what was asked for, what is wanted, or whom to trust:
that is `wire.swarm`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from wire.bitfield import Bitfield
from wire.net import Buffer
from wire.peer.extended import ExtendedHandshake
from wire.peer.messages import Event

__all__ = ["PeerConnection", "TimedOut"]


class TimedOut(enum.Enum):
    """Why `tick` wants the connection closed."""

    HANDSHAKE = "no handshake within 10 s"
    IDLE = "nothing came for 3 minutes"


class PeerConnection:
    """The state machine of one peer connection. After a ProtocolError it must not be used any more.

    Dialling side: `info_hash` is what we want; our handshake lies in `outgoing()` at once.
    Accepting side: `info_hash` is None; after the event `HandshakeReceived` call `accept`, or close.
    Verbs may be called once `open` is true (after the event HandshakeReceived, and `accept`); our extended
    handshake, where the peer speaks BEP 10, is then already queued, and the first verb should be `bitfield`.
    """

    am_choking: bool
    am_interested: bool
    peer_choking: bool
    peer_interested: bool
    peer_has: Bitfield | None
    """None until the piece count is known."""
    remote: ExtendedHandshake
    fast: bool
    """BEP 6 holds on this connection (both sides said so)."""
    dht: bool
    """The peer has a DHT node."""
    open: bool
    peer_id: bytes | None
    """The peer's id, once its handshake came."""
    info_hash: bytes | None
    outgoing_bytes: int
    """How much waits in the outbox."""

    def __init__(
        self,
        *,
        peer_id: bytes,
        info_hash: bytes | None,
        extended: ExtendedHandshake,
        now: float,
        dht: bool = False,
        piece_count: int | None = None,
    ) -> None:
        """`peer_id` is ours; `extended` is what we say of ourselves; `dht`: we have a DHT node."""
        raise NotImplementedError

    @property
    def client(self) -> str:
        """What the peer calls itself, else what its peer id says: printable, for people."""
        raise NotImplementedError

    @property
    def is_seed(self) -> bool:
        """The peer is known to have every piece."""
        raise NotImplementedError

    # in

    def buffer(self) -> memoryview:
        """Free space to receive into, never empty. Makes the data of earlier Block events invalid."""
        raise NotImplementedError

    def received(self, count: int, now: float) -> list[Event]:
        """Takes the `count` bytes that were put into `buffer()`. Raises ProtocolError on a breach."""
        raise NotImplementedError

    def accept(self, info_hash: bytes, extended: ExtendedHandshake | None = None) -> list[Event]:
        """Accepting side: answers the handshake; returns the events of what came behind it already.

        `extended` replaces what the constructor was given (the metadata's size is known only now).
        Raises ProtocolError as `received` does.
        """
        raise NotImplementedError

    def set_piece_count(self, count: int) -> list[Event]:
        """Says how many pieces there are, once. Returns a HasPieces event if the peer has told of pieces before.

        Raises ProtocolError where that does not fit `count`.
        """
        raise NotImplementedError

    # time

    def next_timer(self) -> float:
        """When `tick` should be called, at the latest."""
        raise NotImplementedError

    def tick(self, now: float) -> TimedOut | None:
        """Queues a keep-alive where one is due; says why the connection should be closed, if it should."""
        raise NotImplementedError

    # out

    def outgoing(self) -> list[Buffer]:
        """Takes everything out of the outbox, in order."""
        raise NotImplementedError

    def choke(self) -> None:
        """Nothing is sent where the state is so already; so too the next three. With `fast` the caller then
        rejects each request that it drops."""

    def unchoke(self) -> None: ...

    def interested(self) -> None: ...

    def not_interested(self) -> None: ...

    def have(self, index: int) -> None:
        """We got a piece."""

    def bitfield(self, pieces: Bitfield | None) -> None:
        """What we have, as the first verb; None: the piece count is not known yet. Uses "have all" and "have
        none" (BEP 6) where it can, and sends nothing where nothing is to be said."""

    def request(self, blocks: Iterable[tuple[int, int, int]]) -> None:
        """Asks for (index, begin, length) each."""

    def cancel(self, blocks: Iterable[tuple[int, int, int]]) -> None:
        """Takes requests back."""

    def piece(self, index: int, begin: int, data: Buffer) -> None:
        """Answers a request. `data` is not copied: it must not change before it is sent."""

    def reject(self, index: int, begin: int, length: int) -> None:
        """Says that a request will not be answered (BEP 6); without `fast` nothing is sent."""

    def port(self, port: int) -> None:
        """Tells our DHT port (BEP 5); nothing is sent to a peer without DHT."""

    def extended(self, handshake: ExtendedHandshake) -> None:
        """Sends one more extended handshake (BEP 10); ids in it hold from now on."""

    def metadata_request(self, piece: int) -> None:
        """Asks for a block of the info dictionary (BEP 9). This and the next three send nothing to a peer that
        has not given an id for such messages."""

    def metadata_data(self, piece: int, total_size: int, data: Buffer) -> None:
        """Sends a block of the info dictionary. `data` is not copied."""

    def metadata_reject(self, piece: int) -> None:
        """Refuses a block of the info dictionary."""

    def pex(self, payload: bytes) -> None:
        """Sends a peer exchange (BEP 11), made by `wire.peer.pex`."""
