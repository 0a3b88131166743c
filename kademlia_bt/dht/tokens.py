"""Write tokens: the proof that whoever announces has asked from that address before (BEP 5). Holds no state a node.

A token is a keyed hash of address and info-hash. The secret turns every five minutes and the last one
is still taken, so a token is good for five to ten minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import random

__all__ = ["TOKEN_BYTES", "Tokens"]

TOKEN_BYTES = 8
"""Guessing one takes 2^63 tries on average, within ten minutes; longer ones only cost bandwidth."""

_TURN_S = 300.0
_SECRET_BYTES = 20


class Tokens:
    """Makes and checks tokens."""

    __slots__ = ("_keyed", "_previous", "_rng", "_secret", "_turns_at")

    def __init__(self, rng: random.Random, now: float) -> None:
        self._rng = rng
        self._secret = rng.randbytes(_SECRET_BYTES)
        self._keyed = hashlib.sha256(self._secret)
        self._previous = rng.randbytes(_SECRET_BYTES)
        self._turns_at = now + _TURN_S

    def make(self, ip: bytes, info_hash: bytes, now: float) -> bytes:
        """The token for a packed address and an info-hash (or other target): `TOKEN_BYTES` bytes."""
        if now >= self._turns_at:
            self._turn(now)
        keyed = self._keyed.copy()  # cheaper than a hash begun anew
        keyed.update(ip + info_hash)
        return keyed.digest()[:TOKEN_BYTES]

    def check(self, token: bytes, ip: bytes, info_hash: bytes, now: float) -> bool:
        """Whether the token was made for just these, and not too long ago."""
        if now >= self._turns_at:
            self._turn(now)
        if len(token) != TOKEN_BYTES:
            return False
        return any(
            hmac.compare_digest(token, hashlib.sha256(secret + ip + info_hash).digest()[:TOKEN_BYTES])
            for secret in (self._secret, self._previous)
        )

    def _turn(self, now: float) -> None:
        # After a sleep of two turns or more, the secret of before is too old as well.
        slept = now >= self._turns_at + _TURN_S
        self._previous = self._rng.randbytes(_SECRET_BYTES) if slept else self._secret
        self._secret = self._rng.randbytes(_SECRET_BYTES)
        self._keyed = hashlib.sha256(self._secret)
        self._turns_at = now + _TURN_S
