"""The three branches of errors: somebody else's fault, our caller's misuse, the world's failure.

From hostile bytes (a datagram, a stream, a file, a saved state) only `ProtocolError` may come.
Every message is one line for people: what happened, to what, and where it helps, what to do.
"""

from __future__ import annotations

__all__ = [
    "BencodeError",
    "DiskError",
    "MetainfoError",
    "MisuseError",
    "NetworkError",
    "ProtocolError",
    "WireError",
    "WorldError",
]


class WireError(Exception):
    """The root of every error that these packages raise on purpose."""


class ProtocolError(WireError):
    """Bytes from outside broke a rule: the fault of the peer, the file or the link they came from."""


class BencodeError(ProtocolError):
    """Bytes that are not bencode (BEP 3), or go past the depth, size or count that the reader allows."""


class MetainfoError(ProtocolError):
    """A .torrent or info dictionary that is broken, unsafe, or does not match its info-hash."""


class MisuseError(WireError):
    """Our caller asked for what cannot be: a wrong state, a value out of range."""


class WorldError(WireError):
    """The outer world failed: nobody's message was wrong, the thing just could not be done."""


class NetworkError(WorldError):
    """A socket could not be opened, connected, read or written."""


class DiskError(WorldError):
    """A file or folder could not be read or written (full, read-only, gone, too many open)."""
