"""Whether a packed address is one of the open internet, fast: for who answers strangers by the thousand a second.

`wire.compact.reach` knows the whole truth, and is asked where the first byte does not settle it.
"""

from __future__ import annotations

import socket

from wire.compact import reach

__all__ = ["is_global", "is_local"]

_GLOBAL, _LOCAL, _NEITHER, _UNSETTLED = range(4)
_SPECIAL_V4 = {0: _UNSETTLED, 10: _LOCAL, 127: _LOCAL}
_SPECIAL_V4.update(dict.fromkeys((100, 169, 172, 192, 198, 203), _UNSETTLED))  # where special ranges lie (IANA)
_V4 = bytes(_SPECIAL_V4.get(first, _GLOBAL) if first < 224 else _NEITHER for first in range(256))
_V6 = bytes(_GLOBAL if 0x24 <= first <= 0x2F else _UNSETTLED for first in range(256))


def _place(ip: bytes) -> int:
    place = (_V4 if len(ip) == 4 else _V6)[ip[0]]
    if place != _UNSETTLED:
        return place
    where = reach(socket.inet_ntop(socket.AF_INET if len(ip) == 4 else socket.AF_INET6, ip))
    return _GLOBAL if where == "global" else _LOCAL if where in ("loopback", "private") else _NEITHER


def is_global(ip: bytes) -> bool:
    """Whether a packed address (4 or 16 bytes) is of the open internet."""
    return _place(ip) == _GLOBAL


def is_local(ip: bytes) -> bool:
    """Whether a packed address is one of a private network, or of this machine."""
    return _place(ip) == _LOCAL
