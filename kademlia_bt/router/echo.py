"""Stateless proof that who answers was asked: a transaction id is a keyed hash of the address that is asked. No I/O.

So a router remembers nothing of the thousand pings that are on their way, and any process on its port can
check an answer. The key turns every ten minutes; ids of the turn before are still taken.
"""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["ECHO_BYTES", "Echoes"]

ECHO_BYTES = 8
_TURN_S = 600.0


class Echoes:
    """Makes and checks transaction ids."""

    __slots__ = ("_key", "_offset_s", "_previous", "_secret", "_turn")

    def __init__(self, secret: bytes, now: float, *, offset_s: float = 0.0) -> None:
        """Takes a root secret of 16 to 64 bytes. `offset_s` is added to every `now`: processes that share the secret
        choose it so that their clocks agree."""
        self._secret = secret
        self._offset_s = offset_s
        self._turn = -1
        self._key = self._previous = b""
        self._turn_to(now)

    def make(self, address: bytes, now: float) -> bytes:
        """The id of a question to a compact address: `ECHO_BYTES` bytes."""
        self._turn_to(now)
        return hashlib.blake2b(address, digest_size=ECHO_BYTES, key=self._key).digest()

    def check(self, echo: bytes, address: bytes, now: float) -> bool:
        """Whether the id is of a question to that address, ten to twenty minutes old at most."""
        if len(echo) != ECHO_BYTES:
            return False
        self._turn_to(now)
        return any(
            hmac.compare_digest(echo, hashlib.blake2b(address, digest_size=ECHO_BYTES, key=key).digest())
            for key in (self._key, self._previous)
        )

    def _turn_to(self, now: float) -> None:
        turn = int((now + self._offset_s) // _TURN_S)
        if turn != self._turn:
            self._turn = turn
            self._key, self._previous = self._derive(turn), self._derive(turn - 1)

    def _derive(self, turn: int) -> bytes:
        return hashlib.blake2b(turn.to_bytes(8, "big", signed=True), key=self._secret, digest_size=32).digest()
