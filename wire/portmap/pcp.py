"""PCP and its elder NAT-PMP as bytes: a mapping asked for, an answer read (RFC 6887, RFC 6886). No I/O."""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass

from wire.errors import ProtocolError

__all__ = ["PORT", "Answer", "Transport", "nat_pmp_address", "nat_pmp_map", "pcp_map", "read", "read_nat_pmp_address"]

PORT = 5351
NONCE_BYTES = 12
_PCP_VERSION, _MAP, _REPLY = 2, 1, 0x80
_PCP_BYTES = 60
_UNSUPPORTED_VERSION = 1
_PCP_REASONS = {
    2: "it is not allowed",
    3: "it understood nothing of it",
    4: "it does not do that",
    7: "the network behind it fails",
    8: "it has no more of them",
    9: "it knows no such protocol",
    10: "others have too many already",
    11: "the port is taken",
    12: "another address is asked for than ours",
}
_NAT_PMP_REASONS = {2: "it is not allowed", 3: "the network behind it fails", 4: "it has no more of them"}


class Transport(enum.IntEnum):
    """By its number in IP headers."""

    TCP = 6
    UDP = 17


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway says to a request for one mapping."""

    transport: Transport
    internal_port: int
    external_port: int
    lifetime_s: int
    host: str | None
    """The gateway's own address outside; None where the protocol does not say (NAT-PMP)."""
    refusal: str | None
    """Why there is no mapping; None where there is."""
    other_version: bool = False
    """It speaks NAT-PMP alone."""


def pcp_map(client: str, nonce: bytes, transport: Transport, port: int, lifetime_s: int) -> bytes:
    """A request for a mapping to `port` of `client` by the same number outside; lifetime 0 takes it back."""
    address = ipaddress.ip_address(client)
    packed = address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
    any_outside = b"\0" * 16 if address.version == 6 else b"\0" * 10 + b"\xff\xff" + b"\0" * 4
    head = struct.pack(">BBHI16s", _PCP_VERSION, _MAP, 0, lifetime_s, packed)
    return head + struct.pack(">12sB3xHH16s", nonce, transport, port, port, any_outside)


def nat_pmp_map(transport: Transport, port: int, lifetime_s: int) -> bytes:
    """The same in NAT-PMP."""
    taken_back = lifetime_s == 0
    return struct.pack(
        ">BBHHHI", 0, 1 if transport is Transport.UDP else 2, 0, port, 0 if taken_back else port, lifetime_s
    )


def nat_pmp_address() -> bytes:
    """Asks for the gateway's address outside."""
    return b"\0\0"


def read(data: bytes, nonce: bytes) -> Answer:
    """Reads an answer to a request for a mapping, of either protocol. Raises ProtocolError for all else."""
    if len(data) >= 4 and data[0] == 0 and data[1] in (0x80, 0x81, 0x82):
        return _read_nat_pmp(data)
    if len(data) < 24 or data[0] != _PCP_VERSION or not data[1] & _REPLY:
        raise ProtocolError("no answer of a gateway")
    result = data[3]
    if result == _UNSUPPORTED_VERSION:
        return Answer(Transport.TCP, 0, 0, 0, None, "it speaks another version", other_version=True)
    if len(data) < _PCP_BYTES or data[1] != _MAP | _REPLY or data[24:36] != nonce:
        raise ProtocolError("an answer to another question")
    protocol, internal, external, outside = struct.unpack_from(">B3xHH16s", data, 36)
    if protocol not in (Transport.TCP, Transport.UDP):
        raise ProtocolError("an answer to another question")
    (lifetime_s,) = struct.unpack_from(">I", data, 4)
    address = ipaddress.IPv6Address(outside)
    host = str(address.ipv4_mapped or address)
    refusal = None if result == 0 else _PCP_REASONS.get(result, f"error {result}")
    return Answer(Transport(protocol), internal, external, lifetime_s, host, refusal)


def _read_nat_pmp(data: bytes) -> Answer:
    result = int.from_bytes(data[2:4], "big")
    if result == _UNSUPPORTED_VERSION:  # to a request of PCP
        return Answer(Transport.TCP, 0, 0, 0, None, "it speaks another version", other_version=True)
    if len(data) < 16 or data[1] == 0x80:
        raise ProtocolError("an answer to another question")
    internal, external, lifetime_s = struct.unpack_from(">HHI", data, 8)
    refusal = None if result == 0 else _NAT_PMP_REASONS.get(result, f"error {result}")
    transport = Transport.UDP if data[1] == 0x81 else Transport.TCP
    return Answer(transport, internal, external, lifetime_s, None, refusal)


def read_nat_pmp_address(data: bytes) -> str | None:
    """The gateway's address outside; None for whatever else came."""
    if len(data) < 12 or data[:4] != b"\x00\x80\x00\x00":
        return None
    return str(ipaddress.IPv4Address(data[8:12]))
