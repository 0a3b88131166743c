"""From which of its addresses this machine would send: asked of the system, which sends nothing for it. Shell."""

from __future__ import annotations

import contextlib
import socket
import sys

from wire.compact import IPV6, Endpoint, reach

__all__ = ["global_ipv6", "source_towards"]

_FAR = Endpoint("2400::1", 53)
"""Somewhere in the global IPv6 space, so that the way there is the way out."""

# Linux's numbers (RFC 5014), which Python's socket module does not name.
_IPV6_ADDR_PREFERENCES = 72
_IPV6_PREFER_SRC_PUBLIC = 2


def source_towards(to: Endpoint, *, lasting: bool = False) -> str | None:
    """The address of this machine from which it reaches another; None without a route. No packet is sent.

    `lasting`: not one of those that a system makes anew each day for privacy (RFC 8981), as far as it can be asked.
    """
    try:
        with socket.socket(to.family.af, socket.SOCK_DGRAM) as sock:
            if lasting and to.family is IPV6 and sys.platform == "linux":
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_ADDR_PREFERENCES, _IPV6_PREFER_SRC_PUBLIC)
            sock.connect((to.host, to.port))
            return str(sock.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


def global_ipv6() -> str | None:
    """The global IPv6 address to be known by (BEP 32); None where there is none, or a tunnel's alone."""
    host = source_towards(_FAR, lasting=True)
    return host if host is not None and reach(host) == "global" else None
