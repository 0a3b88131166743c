"""Addresses as values, and their compact binary forms (BEP 5, 7, 11, 23, 32).

An address family is a value with widths and keys, so that no code downstream asks "is it IPv6?".
An `Endpoint` is canonical: its text form is the one that the operating system gives, so two
endpoints of one address are equal. What a compact string holds is not to be trusted further
than its form; `reach` says what kind of place an address is before anything is sent there.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from wire.errors import MisuseError, ProtocolError

__all__ = [
    "IPV4",
    "IPV6",
    "Address",
    "Endpoint",
    "Family",
    "Reach",
    "pack_endpoints",
    "parse_host_port",
    "reach",
    "unpack_endpoints",
]

Reach = Literal["global", "private", "loopback", "unspecified", "invalid"]


@dataclass(frozen=True, slots=True)
class Family:
    """An address family: how wide its forms are and what its keys are called on the wire."""

    name: Literal["ipv4", "ipv6"]
    af: socket.AddressFamily
    ip_bytes: int
    any_host: str
    want: bytes
    """Its name in the `want` list of BEP 32."""
    nodes_key: bytes
    """The key of its compact nodes in a KRPC answer (BEP 5, BEP 32)."""
    peers_key: bytes
    """The key of its compact peers in a tracker's answer (BEP 7, BEP 23)."""

    @property
    def endpoint_bytes(self) -> int:
        """Width of an address and its port: 6 or 18."""
        return self.ip_bytes + 2

    @property
    def node_bytes(self) -> int:
        """Width of a node id with its address and port: 26 or 38 (BEP 5, BEP 32)."""
        return self.ip_bytes + 22


IPV4 = Family("ipv4", socket.AF_INET, 4, "0.0.0.0", b"n4", b"nodes", b"peers")  # noqa: S104 - the wildcard's name, not a bind
IPV6 = Family("ipv6", socket.AF_INET6, 16, "::", b"n6", b"nodes6", b"peers6")

_MAX_PORT = 65535
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_DOTTED = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}")
"""An IPv4 address as the system writes it."""

Address = tuple[str, int]
"""Host and port as the system gives them: equal to the `Endpoint` of both, without its methods. For hot paths, where
making an `Endpoint` of each would be a good part of the work."""


class Endpoint(NamedTuple):
    """An IP address in its canonical text form, and a port. Sorts, hashes and compares by value."""

    host: str
    port: int

    @classmethod
    def of(cls, host: str, port: int) -> Endpoint:
        """The canonical endpoint of an IP literal (an IPv4-mapped IPv6 address becomes IPv4).

        Raises MisuseError where `host` is no IP literal or `port` is outside 0..65535.
        """
        if not 0 <= port <= _MAX_PORT:
            raise MisuseError(f"port {port} is outside 0..{_MAX_PORT}")
        if _DOTTED.fullmatch(host):  # the usual kind, in a fifth of the time
            return cls(host, port)
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            raise MisuseError(f"{host!r} is not an IP address") from None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if isinstance(address, ipaddress.IPv6Address):  # the module writes some addresses otherwise than the system
            return cls(socket.inet_ntop(socket.AF_INET6, address.packed), port)
        return cls(str(address), port)

    @classmethod
    def from_compact(cls, data: bytes | memoryview) -> Endpoint:
        """Reads 6 or 18 bytes: the address, then the port in network order. Raises ProtocolError."""
        if len(data) == 6:
            host = socket.inet_ntop(socket.AF_INET, data[:4])
        elif len(data) == 18:
            host = socket.inet_ntop(socket.AF_INET6, data[:16])
            if host.startswith("::ffff:") and "." in host:
                host = host[7:]
        else:
            raise ProtocolError(f"a compact endpoint is 6 or 18 bytes long, not {len(data)}")
        return cls(host, (data[-2] << 8) | data[-1])

    @property
    def family(self) -> Family:
        """`IPV4` or `IPV6`."""
        return IPV6 if ":" in self.host else IPV4

    @property
    def ip(self) -> bytes:
        """The packed address: 4 or 16 bytes, network order."""
        return socket.inet_pton(self.family.af, self.host)

    def compact(self) -> bytes:
        """The packed address and port: 6 or 18 bytes (BEP 5, BEP 32)."""
        return self.ip + self.port.to_bytes(2, "big")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def pack_endpoints(endpoints: Iterable[Endpoint]) -> bytes:
    """Joins the compact forms; the caller sees to it that all are of one family."""
    return b"".join(endpoint.compact() for endpoint in endpoints)


def unpack_endpoints(data: bytes, family: Family) -> list[Endpoint]:
    """Splits a compact string of one family. A rest shorter than an entry is dropped (real trackers send such)."""
    width = family.endpoint_bytes
    return [Endpoint.from_compact(data[at : at + width]) for at in range(0, len(data) - width + 1, width)]


def _settled() -> list[Reach | None]:
    by_first_byte: list[Reach | None] = ["global" if first < 224 else "invalid" for first in range(256)]
    by_first_byte[10], by_first_byte[127] = "private", "loopback"
    for first in (0, 100, 169, 172, 192, 198, 203):  # where the other special ranges lie (IANA)
        by_first_byte[first] = None
    return by_first_byte


_REACH_V4 = _settled()
"""What the first byte of an IPv4 address says of its reach; None where it does not settle it."""
_GLOBAL_V6 = range(0x24, 0x30)
"""First bytes of IPv6 addresses that are global whatever follows: nearly all that are given out begin so."""


@lru_cache(maxsize=4096)  # bounded: an attacker names as many addresses as it likes
def reach(host: str) -> Reach:
    """What kind of place an IP literal is.

    `invalid` is what no unicast packet may be sent to (multicast, broadcast, reserved, documentation).
    """
    # A node meets a new address with nearly every datagram: most of them need not be looked at whole.
    try:
        if ":" not in host:
            settled = _REACH_V4[socket.inet_pton(socket.AF_INET, host)[0]]
            if settled is not None:
                return settled
        elif socket.inet_pton(socket.AF_INET6, host)[0] in _GLOBAL_V6:
            return "global"
    except (OSError, ValueError):  # no address, or one with a zone: looked at whole (ValueError: a NUL in it)
        pass
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "invalid"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        return "unspecified"
    if address.is_loopback:
        return "loopback"
    if address.is_multicast or (address.is_reserved and not address.is_global):
        return "invalid"
    if isinstance(address, ipaddress.IPv4Address) and address.packed[0] in (0, 255):
        return "invalid"
    if address.is_global:
        return "global"
    return "private"


def parse_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Splits `HOST:PORT` or `[IPV6]:PORT` as people write it; the host may be a name.

    Raises MisuseError with one line that says what is wrong.
    """
    host, colon, port_text = text.rpartition(":")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise MisuseError(f"{text!r} is not HOST:PORT; an IPv6 address is written [ADDRESS]:PORT")
        colon, port_text = rest[:1], rest[1:]
    elif ":" in host:
        raise MisuseError(f"{text!r} is not HOST:PORT; an IPv6 address is written [ADDRESS]:PORT")
    elif not colon:
        host = text
    if not colon and default_port is not None:
        port_text = str(default_port)
    if not host or not port_text.isascii() or not port_text.isdigit() or len(port_text) > 5:
        raise MisuseError(f"{text!r} is not HOST:PORT")
    if int(port_text) > _MAX_PORT:
        raise MisuseError(f"{text!r}: a port is at most {_MAX_PORT}")
    return host, int(port_text)
