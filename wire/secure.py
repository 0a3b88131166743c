"""Who speaks first and whether it is encrypted, on a stream that was just opened: the shell around `wire.peer.mse`.

Afterwards both kinds are a `wire.net.Stream` on which the peer's words come as BEP 3 has them. Received bytes are
decrypted where the kernel put them. Which kind is tried on whom is the dialler's business.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Literal

from wire.compact import Endpoint
from wire.errors import NetworkError, ProtocolError
from wire.ids import ID_BYTES
from wire.net import Buffer, Stream, prompt, scattering
from wire.peer.handshake import HANDSHAKE_BYTES
from wire.peer.mse import Acceptor, Cipher, Dialler, KeyPair, Methods, looks_plain
from wire.utp.stream import UtpStream

__all__ = ["Encryption", "SecureStream", "accept_any", "dial_plain", "dial_secure", "methods_of"]

Encryption = Literal["prefer", "require", "off"]
"""prefer: encrypted where the peer can, plain else. require: RC4 for the whole stream, or nothing. off: plain alone."""

_READ_BYTES = 4096
"""At a time, while shaking hands: nothing of the handshake is larger, and who connects only to wait costs no more."""
_INFO_HASH_AT = HANDSHAKE_BYTES - 2 * ID_BYTES


def methods_of(encryption: Encryption) -> Methods:
    """What may carry a stream whose handshake is encrypted."""
    return Methods.RC4 if encryption == "require" else Methods.RC4 | Methods.PLAIN


class SecureStream:
    """A stream past its opening: with the first words of the peer that were read already, and the ciphers, if any."""

    __slots__ = ("_inbound", "_outbound", "_prompt", "_received", "_scatter", "_stream", "_unsent")

    def __init__(
        self, stream: Stream, received: bytes = b"", inbound: Cipher | None = None, outbound: Cipher | None = None
    ) -> None:
        """`received` is decrypted already; without ciphers the rest passes as it is."""
        self._stream = stream
        self._scatter = scattering(stream)
        self._prompt = prompt(stream)
        self._unsent: Sequence[Buffer] = ()
        """What `send_now` left, encrypted where that is due."""
        self._received = received
        self._inbound = inbound
        self._outbound = outbound

    @property
    def remote(self) -> Endpoint:
        """The other end."""
        return self._stream.remote

    @property
    def over_utp(self) -> bool:
        """Whether it runs over uTP, not TCP."""
        return isinstance(self._stream, UtpStream)

    @property
    def encrypted(self) -> bool:
        """Whether all that passes is encrypted, not only the handshake."""
        return self._inbound is not None

    async def receive_into(self, buffer: memoryview) -> int:
        """Waits for bytes and puts them into `buffer`; 0 at the end. Raises NetworkError."""
        if self._received:  # once in its life: it costs no turn
            count = min(len(buffer), len(self._received))
            buffer[:count] = self._received[:count]
            self._received = self._received[count:]
            return count
        count = await self._stream.receive_into(buffer)
        if count and self._inbound is not None:
            self._inbound.apply_in_place(buffer[:count])
        return count

    @property
    def scatters(self) -> bool:
        """Whether `readable` and `receive_scattered` may be used now, as in `wire.net.ScatterStream`."""
        return not self._received and self._scatter is not None and self._scatter.scatters

    async def readable(self) -> None:
        """Waits until there may be bytes. Raises NetworkError."""
        assert self._scatter is not None
        await self._scatter.readable()

    def receive_scattered(self, buffers: Sequence[memoryview]) -> int | None:
        """Fills the buffers in order; 0 at the end, None where nothing is there. Raises NetworkError."""
        assert self._scatter is not None
        count = self._scatter.receive_scattered(buffers)
        if count and self._inbound is not None:
            left = count
            for buffer in buffers:
                if left <= 0:
                    break
                self._inbound.apply_in_place(buffer[:left])
                left -= len(buffer)
        return count

    def send_now(self, buffers: Sequence[Buffer]) -> bool:
        """Sends without waiting what can be sent so. False: the rest lies here, and `send_all` sends it first.

        Raises NetworkError.
        """
        buffers = self._due(buffers)
        if self._prompt is not None:
            buffers = self._prompt.send_now(buffers)
        self._unsent = buffers
        return not buffers

    @property
    def has_sent_all(self) -> bool:
        """Whether nothing of `send_now` waits for `send_all`."""
        return not self._unsent

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        """Sends the buffers in order, whole. Raises NetworkError. Once it was cancelled the stream is of no use."""
        buffers = self._due(buffers)
        self._unsent = ()
        await self._stream.send_all(buffers)

    def _due(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        if self._outbound is not None:
            encrypt = self._outbound.apply
            buffers = [encrypt(buffer) for buffer in buffers if len(buffer)]
        return [*self._unsent, *buffers] if self._unsent else buffers

    @property
    def lets_go(self) -> bool:
        """Whether what `send_all` was given may be changed when it has returned: uTP sends again what got lost."""
        return not self.over_utp or self._outbound is not None

    def close(self) -> None:
        """Closes at once. May be called twice."""
        self._stream.close()


async def dial_plain(stream: Stream, opening: bytes) -> Stream:
    """Says our handshake (BEP 3) and waits until the peer begins his.

    Raises NetworkError or ProtocolError where he does not; closing the stream is the caller's.
    """
    await stream.send_all([opening])
    head, plain = await _head(stream)
    if not plain:
        raise ProtocolError("not a BitTorrent handshake")
    return SecureStream(stream, head)


async def dial_secure(
    stream: Stream, opening: bytes, encryption: Encryption, rng: random.Random, keys: KeyPair | None = None
) -> Stream:
    """Opens a stream with the encrypted handshake, which carries `opening`, our own one (BEP 3).

    `keys` were made before, for this stream alone. Raises NetworkError or ProtocolError where the peer cannot or will
    not; closing the stream is the caller's.
    """
    machine = Dialler(opening[_INFO_HASH_AT : _INFO_HASH_AT + ID_BYTES], methods_of(encryption), opening, rng, keys)
    return await _shake(stream, machine)


async def accept_any(
    stream: Stream, info_hashes: Iterable[bytes], encryption: Encryption, rng: random.Random
) -> Stream:
    """Takes a stream that somebody opened to us, plain or encrypted: his first bytes tell which.

    Raises NetworkError or ProtocolError, also where `encryption` forbids it; closing the stream is the caller's.
    """
    head, plain = await _head(stream)
    if plain:
        if encryption == "require":
            raise ProtocolError("a plain handshake, where encryption is required")
        return SecureStream(stream, head)
    if encryption == "off":
        raise ProtocolError("not a BitTorrent handshake, and encryption is off")
    return await _shake(stream, Acceptor(info_hashes, methods_of(encryption), Methods.RC4, rng), head)


async def _shake(stream: Stream, machine: Dialler | Acceptor, head: bytes = b"") -> Stream:
    room = memoryview(bytearray(_READ_BYTES))
    secured = machine.receive(head) if head else None
    while True:
        if data := machine.outgoing():
            await stream.send_all([data])
        if secured is not None:
            return SecureStream(stream, secured.received, secured.inbound, secured.outbound)
        secured = machine.receive(await _some(stream, room))


async def _head(stream: Stream) -> tuple[bytes, bool]:
    """The first bytes, as many as it takes to tell whether they are a plain handshake, and whether they are."""
    room = memoryview(bytearray(_READ_BYTES))
    head = b""
    while (plain := looks_plain(head)) is None:
        head += await _some(stream, room)
    return head, plain


async def _some(stream: Stream, room: memoryview) -> bytes:
    count = await stream.receive_into(room)
    if not count:
        raise NetworkError(f"{stream.remote} closed the connection")
    return bytes(room[:count])
