"""Message Stream Encryption, the handshake that hides a peer connection, without I/O (MSE/PE).

`Dialler` and `Acceptor` take the bytes that came and give the bytes to send; at the end stands a `Secured`: the
ciphers of both directions (None where plain text was selected), and what of the peer's own stream came already.
It hides the protocol from simple filters; it authenticates nobody and is no secrecy against one who knows the
info-hash. RC4 comes from the cryptography library, which is imported by the first connection that needs it.
"""

from __future__ import annotations

import enum
import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from wire.errors import MisuseError, ProtocolError
from wire.peer.power import power

__all__ = ["Acceptor", "Cipher", "Dialler", "KeyPair", "Methods", "Secured", "looks_plain"]

_PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
    16,
)
_GENERATOR = 2
_PRIVATE_BITS = 160
KEY_BYTES = 96
MAX_PAD_BYTES = 512
_DISCARDED_BYTES = 1024
"""RC4's first output is biased; the protocol throws it away."""
_VC = bytes(8)
"""The verification constant: eight zeros show that both have one key."""
MAX_INITIAL_BYTES = 65535
_PLAIN_HEAD = b"\x13BitTorrent protocol"


class Methods(enum.Flag):
    """What may carry the stream after the handshake: the bits of `crypto_provide` and `crypto_select`."""

    PLAIN = 1
    RC4 = 2


class Cipher(Protocol):
    """One direction of RC4, in step with the stream."""

    def apply(self, data: bytes | bytearray | memoryview) -> bytes | bytearray:
        """Encrypts or decrypts the next bytes into a buffer of their own."""
        ...

    def apply_in_place(self, data: memoryview) -> None:
        """The same, overwriting `data`."""
        ...


class _Rc4:
    __slots__ = ("_context",)

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
        from cryptography.hazmat.primitives.ciphers import Cipher as LibraryCipher

        self._context = LibraryCipher(ARC4(key), mode=None).encryptor()
        self._context.update(bytes(_DISCARDED_BYTES))

    def apply(self, data: bytes | bytearray | memoryview) -> bytearray:
        changed = bytearray(len(data))
        self._context.update_into(data, changed)  # `update` gives bytes, but copies them once more
        return changed

    def apply_in_place(self, data: memoryview) -> None:
        self._context.update_into(data, data)


class KeyPair(NamedTuple):
    """Of one exchange, for one side; to be used once."""

    private: int
    public: int

    @classmethod
    def make(cls, rng: random.Random) -> KeyPair:
        """A new one: a tenth of a millisecond, half of one where OpenSSL cannot be reached (`wire.peer.power`)."""
        private = rng.getrandbits(_PRIVATE_BITS) | (1 << (_PRIVATE_BITS - 1))
        return cls(private, power(_GENERATOR, private, _PRIME))


@dataclass(frozen=True, slots=True)
class Secured:
    """The handshake is done."""

    info_hash: bytes
    """What the dialler wants: 20 bytes."""
    inbound: Cipher | None
    outbound: Cipher | None
    received: bytes
    """The beginning of the peer's stream, as far as it came, decrypted."""


def looks_plain(head: bytes) -> bool | None:
    """Whether a stream that begins so is a plain handshake (BEP 3); None: more bytes are needed."""
    if len(head) >= len(_PLAIN_HEAD):
        return head.startswith(_PLAIN_HEAD)
    return None if _PLAIN_HEAD.startswith(head) else False


def _sha1(*parts: bytes) -> bytes:
    return hashlib.sha1(b"".join(parts)).digest()


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


class _Side:
    """What both roles share: the key exchange, the inbox and the outbox."""

    def __init__(self, rng: random.Random, keys: KeyPair | None = None) -> None:
        self._rng = rng
        self._private, public = keys or KeyPair.make(rng)
        self._secret: bytes | None = None
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._outbox += public.to_bytes(KEY_BYTES, "big") + self._pad()
        self.secured: Secured | None = None

    def outgoing(self) -> bytes:
        """What is to be sent, drained."""
        data = bytes(self._outbox)
        self._outbox.clear()
        return data

    def receive(self, data: bytes) -> Secured | None:
        """Takes what came; gives the result once there is one, then takes nothing more.

        Raises ProtocolError where it is no handshake of this kind, or one for a torrent that we do not have.
        """
        if self.secured is not None:
            raise MisuseError("the encrypted handshake is over")
        self._inbox += data
        if self._secret is None and len(self._inbox) >= KEY_BYTES:
            theirs = int.from_bytes(self._take(KEY_BYTES), "big")
            if not 1 < theirs < _PRIME - 1:
                raise ProtocolError("an encrypted handshake with a worthless public key")
            self._secret = power(theirs, self._private, _PRIME).to_bytes(KEY_BYTES, "big")
            self._agreed(self._secret)
        if self._secret is not None:
            self.secured = self._advance(self._secret)
        return self.secured

    def _agreed(self, secret: bytes) -> None:
        raise NotImplementedError

    def _advance(self, secret: bytes) -> Secured | None:
        raise NotImplementedError

    def _pad(self) -> bytes:
        return self._rng.randbytes(self._rng.randint(0, MAX_PAD_BYTES))

    def _take(self, count: int) -> bytes:
        data = bytes(self._inbox[:count])
        del self._inbox[:count]
        return data

    def _skip_to(self, mark: bytes) -> bool:
        """Drops the padding before `mark` and the mark itself; False: it has not come yet."""
        at = self._inbox.find(mark)
        if at < 0 and len(self._inbox) >= MAX_PAD_BYTES + len(mark):
            raise ProtocolError("an encrypted handshake that does not go on after its padding")
        if at < 0:
            return False
        if at > MAX_PAD_BYTES:
            raise ProtocolError(f"an encrypted handshake with more than {MAX_PAD_BYTES} bytes of padding")
        del self._inbox[: at + len(mark)]
        return True


def _pad_length(field: bytes | bytearray) -> int:
    length = int.from_bytes(field, "big")
    if length > MAX_PAD_BYTES:
        raise ProtocolError(f"an encrypted handshake announces {length} bytes of padding, more than {MAX_PAD_BYTES}")
    return length


class Dialler(_Side):
    """The side that opens the connection and names the torrent."""

    def __init__(
        self, info_hash: bytes, provide: Methods, initial: bytes, rng: random.Random, keys: KeyPair | None = None
    ) -> None:
        """`initial` is the beginning of our own stream (our BEP 3 handshake): it goes along, always encrypted.
        `keys` were made before, for this alone; None: they are made now.

        Raises MisuseError where nothing is provided or `initial` is too long.
        """
        if not provide:
            raise MisuseError("an encrypted handshake must provide a method")
        if len(initial) > MAX_INITIAL_BYTES:
            raise MisuseError(f"the initial payload has at most {MAX_INITIAL_BYTES} bytes")
        super().__init__(rng, keys)
        self._info_hash = info_hash
        self._provide = provide
        self._initial = initial
        self._inbound: Cipher | None = None
        self._outbound: Cipher | None = None
        self._mark = b""
        self._fields: bytes | bytearray | None = None

    def _agreed(self, secret: bytes) -> None:
        self._outbound = _Rc4(_sha1(b"keyA", secret, self._info_hash))
        self._inbound = _Rc4(_sha1(b"keyB", secret, self._info_hash))
        self._mark = bytes(self._inbound.apply(_VC))  # what the peer's encrypted part begins with
        named = _xor(_sha1(b"req2", self._info_hash), _sha1(b"req3", secret))
        pad = self._pad()
        fields = b"".join(
            (
                _VC,
                self._provide.value.to_bytes(4, "big"),
                len(pad).to_bytes(2, "big"),
                pad,
                len(self._initial).to_bytes(2, "big"),
                self._initial,
            )
        )
        self._outbox += b"".join((_sha1(b"req1", secret), named, self._outbound.apply(fields)))

    def _advance(self, secret: bytes) -> Secured | None:
        assert self._inbound is not None
        if self._mark:
            if not self._skip_to(self._mark):
                return None
            self._mark = b""
        if self._fields is None:
            if len(self._inbox) < 6:
                return None
            self._fields = self._inbound.apply(self._take(6))
        pad_length = _pad_length(self._fields[4:])
        if len(self._inbox) < pad_length:
            return None
        selected = int.from_bytes(self._fields[:4], "big")
        if selected not in (1, 2) or Methods(selected) not in self._provide:
            raise ProtocolError(f"an encrypted handshake selects method {selected}, which was not offered")
        self._inbound.apply(self._take(pad_length))
        rest = self._take(len(self._inbox))
        if Methods(selected) is Methods.PLAIN:
            return Secured(self._info_hash, None, None, rest)
        return Secured(self._info_hash, self._inbound, self._outbound, bytes(self._inbound.apply(rest)))


class Acceptor(_Side):
    """The side that is dialled, and knows the torrent only once it is named."""

    def __init__(self, info_hashes: Iterable[bytes], allow: Methods, prefer: Methods, rng: random.Random) -> None:
        """`info_hashes` are what we have; of what the dialler provides and we `allow`, `prefer` is chosen if there."""
        super().__init__(rng)
        self._known = {_sha1(b"req2", info_hash): info_hash for info_hash in info_hashes}
        self._allow = allow
        self._prefer = prefer
        self._mark = b""
        self._info_hash: bytes | None = None
        self._inbound: Cipher | None = None
        self._outbound: Cipher | None = None
        self._clear = bytearray()

    def _agreed(self, secret: bytes) -> None:
        self._mark = _sha1(b"req1", secret)

    def _advance(self, secret: bytes) -> Secured | None:
        if self._mark:
            if not self._skip_to(self._mark):
                return None
            self._mark = b""
        if self._inbound is None:
            if len(self._inbox) < 20:
                return None
            self._info_hash = self._known.get(_xor(self._take(20), _sha1(b"req3", secret)))
            if self._info_hash is None:
                raise ProtocolError("an encrypted handshake for a torrent that is not here")
            self._inbound = _Rc4(_sha1(b"keyA", secret, self._info_hash))
            self._outbound = _Rc4(_sha1(b"keyB", secret, self._info_hash))
        assert self._outbound is not None
        assert self._info_hash is not None
        # Everything up to the end of IA is encrypted, and IA's length bounds it: no more is decrypted than that.
        if not self._decrypt_to(14):
            return None
        if self._clear[:8] != _VC:
            raise ProtocolError("an encrypted handshake whose verification constant is wrong")
        pad_length = _pad_length(self._clear[12:14])
        if not self._decrypt_to(16 + pad_length):
            return None
        initial_length = int.from_bytes(self._clear[14 + pad_length : 16 + pad_length], "big")
        if not self._decrypt_to(16 + pad_length + initial_length):
            return None
        usable = int.from_bytes(self._clear[8:12], "big") & self._allow.value
        if not usable:
            raise ProtocolError("an encrypted handshake offers no method that we allow")
        chosen = self._prefer if usable & self._prefer.value else Methods(usable)
        pad = self._pad()
        self._outbox += self._outbound.apply(_VC + chosen.value.to_bytes(4, "big") + len(pad).to_bytes(2, "big") + pad)
        initial = bytes(self._clear[16 + pad_length :])
        rest = self._take(len(self._inbox))
        if chosen is Methods.PLAIN:
            return Secured(self._info_hash, None, None, initial + rest)
        return Secured(self._info_hash, self._inbound, self._outbound, initial + bytes(self._inbound.apply(rest)))

    def _decrypt_to(self, length: int) -> bool:
        """Brings the decrypted part up to `length` bytes; False: more must come."""
        missing = length - len(self._clear)
        if missing > len(self._inbox):
            return False
        if missing > 0:
            assert self._inbound is not None
            self._clear += self._inbound.apply(self._take(missing))
        return True
