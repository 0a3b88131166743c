"""Whether a packed address is one of the open internet, fast: for who answers strangers by the thousand a second.

`wire.compact.reach` knows the whole truth, and is asked where the first byte does not settle it.
"""

from __future__ import annotations

import socket

from wire.compact import reach

__all__ = ["is_global", "is_local"]

_SETTLED_V4 = bytes(
    first not in {0, 10, 100, 127, 169, 172, 192, 198, 203} and first < 224  # where special ranges lie (IANA)
    for first in range(256)
)
_SETTLED_V6 = bytes(0x24 <= first <= 0x2F for first in range(256))


def _text(ip: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(ip) == 4 else socket.AF_INET6, ip)


def is_global(ip: bytes) -> bool:
    """Whether a packed address (4 or 16 bytes) is of the open internet."""
    settled = _SETTLED_V4 if len(ip) == 4 else _SETTLED_V6
    return bool(settled[ip[0]]) or reach(_text(ip)) == "global"


def is_local(ip: bytes) -> bool:
    """Whether a packed address is one of a private network, or of this machine."""
    return reach(_text(ip)) in ("loopback", "private")
