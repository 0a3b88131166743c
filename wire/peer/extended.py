"""The extended handshake (BEP 10) and the header of ut_metadata messages (BEP 9), as values and bytes.

Bytes in, values out: whether a message may come now, and what follows from it, is the connection's and the
swarm's business. What a peer leaves out or writes with a wrong type is as good as not said; only what breaks
the form (no dictionary, a size that cannot be) is the peer's fault.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UT_METADATA_ID", "UT_PEX_ID", "ExtendedHandshake"]

UT_METADATA_ID = 1
"""The id under which peers send us ut_metadata messages."""
UT_PEX_ID = 2
"""The id under which peers send us ut_pex messages."""


@dataclass(frozen=True, slots=True)
class ExtendedHandshake:
    """What a side says of itself in its extended handshakes (BEP 10); the names are those of the BEP."""

    ut_metadata: int = 0
    """The id that its ut_metadata messages (BEP 9) must be sent with; 0: it does not take any."""
    ut_pex: int = 0
    """The same for ut_pex (BEP 11)."""
    metadata_size: int | None = None
    """Bytes of the info dictionary, 1..2^31-1, where it is known."""
    reqq: int | None = None
    """Outstanding requests that it keeps; 1 at least."""
    v: str = ""
    """Client and version: printable characters only, at most 64."""
    p: int | None = None
    """Its TCP listening port, 1..65535."""
    yourip: str | None = None
    """Our address, as it sees us: an IP literal."""
    upload_only: bool = False
    """It will not download anything (BEP 21)."""

    def encode(self) -> bytes:
        """The payload of the extended handshake message, without its id."""
        raise NotImplementedError

    def updated(self, payload: bytes) -> ExtendedHandshake:
        """What is known after this handshake too: later ones add to and replace what earlier ones said.

        Raises ProtocolError where `payload` is no dictionary or names a metadata size that cannot be.
        """
        raise NotImplementedError
