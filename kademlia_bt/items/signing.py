"""Ed25519 as BEP 44 uses it: the one file that knows the cryptography library. No I/O.

The library costs some 50 ms to import, so only those who sign or verify pay for it.
"""

from __future__ import annotations

import random

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kademlia_bt.items.values import PUBLIC_KEY_BYTES
from wire.errors import MisuseError

__all__ = ["SEED_BYTES", "SIGNATURE_BYTES", "KeyPair", "verify"]

SEED_BYTES = 32
SIGNATURE_BYTES = 64


class KeyPair:
    """A private key and its public one, from a seed of 32 bytes, which is the whole secret."""

    __slots__ = ("_private", "public_key", "seed")

    def __init__(self, seed: bytes) -> None:
        """Raises MisuseError for a seed that is not 32 bytes long."""
        if len(seed) != SEED_BYTES:
            raise MisuseError(f"an Ed25519 seed is {SEED_BYTES} bytes long, not {len(seed)}")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.seed = seed
        self.public_key = self._private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, rng: random.Random) -> KeyPair:
        """A new one; `rng` must be `random.SystemRandom()` wherever the key is to keep a secret."""
        return cls(rng.randbytes(SEED_BYTES))

    def sign(self, data: bytes) -> bytes:
        """The signature of 64 bytes."""
        return self._private.sign(data)


def verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the owner of `public_key` (32 bytes) signed `data`; False too for keys and signatures of wrong form."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
