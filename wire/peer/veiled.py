"""A talk behind the encrypted handshake (MSE/PE): the same verbs, with the bytes of the wire. No I/O.

The dialling side alone, for talks that are short; `wire.secure` does the same for streams.
"""

from __future__ import annotations

import random

from wire.peer.errand import MetadataErrand
from wire.peer.mse import Dialler, KeyPair, Methods, Secured

__all__ = ["VeiledErrand"]


class VeiledErrand:
    """See `MetadataErrand`, whose opening goes along with the encrypted handshake."""

    __slots__ = ("_errand", "_machine", "_secured")

    def __init__(
        self,
        errand: MetadataErrand,
        swarm_id: bytes,
        provide: Methods,
        rng: random.Random,
        keys: KeyPair | None = None,
    ) -> None:
        """`swarm_id`: the info-hash of the handshake. `provide`: what may carry the stream. `keys`: see `Dialler`."""
        self._errand = errand
        self._machine = Dialler(swarm_id, provide, errand.opening(), rng, keys)
        self._secured: Secured | None = None

    @property
    def done(self) -> bool:
        """The info dictionary is here."""
        return self._errand.done

    @property
    def raw(self) -> bytes | None:
        """As of `MetadataErrand`."""
        return self._errand.raw

    def opening(self) -> bytes:
        """What is said first: our key."""
        return self._machine.outgoing()

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Takes what came; gives what is to be answered. Raises ProtocolError as `MetadataErrand.receive` does."""
        said = b""
        if self._secured is None:
            self._secured = self._machine.receive(bytes(data))
            said = self._machine.outgoing()
            if self._secured is None:
                return said
            data = self._secured.received
        elif self._secured.inbound is not None:
            data = self._secured.inbound.apply(data)
        answer = self._errand.receive(data)
        if self._secured.outbound is not None and answer:
            answer = bytes(self._secured.outbound.apply(answer))
        return said + answer
