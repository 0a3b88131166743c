"""The gateway of this machine: where it is, whether it offers to map ports, and who maps them for a session.

`find_gateways` asks for NAT-PMP (RFC 6886) and UPnP (SSDP) and maps nothing: blocking, for two seconds at most. Answers
are only looked at for being answers; no address in them is followed. Mapping is done by `wire.portmap`.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from magnet.config import Config
from wire.compact import IPV4, Endpoint, reach
from wire.net import Network
from wire.routes import source_towards
from wire.trio_net import TrioNetwork

if TYPE_CHECKING:
    from wire.portmap.mapper import PortMapper

__all__ = ["default_gateway", "find_gateways", "mapper_for"]

_WAIT_S = 1.0
_NAT_PMP_PORT = 5351
_SSDP = ("239.255.255.250", 1900)
_SEARCH = (
    b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
    b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
)
_ROUTES = Path("/proc/net/route")


def find_gateways() -> list[str]:
    """What answers: `NAT-PMP`, `UPnP`, both or nothing."""
    found = []
    gateway = default_gateway()
    if gateway is not None and _asks(b"\x00\x00", (gateway, _NAT_PMP_PORT), _is_nat_pmp):
        found.append("NAT-PMP")
    if _asks(_SEARCH, _SSDP, _is_ssdp):
        found.append("UPnP")
    return found


def default_gateway(routes: Path = _ROUTES) -> str | None:
    """The IPv4 gateway; None where the system does not tell it so (only Linux does)."""
    try:
        lines = routes.read_text(encoding="ascii").splitlines()[1:]
    except (OSError, UnicodeError):
        return None
    for line in lines:
        parts = line.split()
        if len(parts) > 3 and parts[1] == "00000000" and int(parts[3], 16) & 2:
            return socket.inet_ntoa(struct.pack("=I", int(parts[2], 16)))
    return None


def mapper_for(
    config: Config, network: Network, endpoints: Sequence[Endpoint], rng: random.Random
) -> PortMapper | None:
    """Who maps the port of a session that listens at `endpoints`; None where there is nothing to be mapped."""
    outward = [at for at in endpoints if at.family is IPV4 and reach(at.host) in ("unspecified", "private")]
    nearby = any(reach(host) in ("loopback", "private") for host, _ in config.bootstrap or ())
    if not config.port_mapping or config.proxy is not None or nearby or not outward:
        return None
    if not isinstance(getattr(network, "inner", network), TrioNetwork):  # a simulated machine has no gateway
        return None
    gateway = default_gateway()
    own = source_towards(Endpoint(gateway or _SSDP[0], _NAT_PMP_PORT))
    if own is None or reach(own) != "private":  # no network, or no NAT
        return None
    from wire.portmap.mapper import PortMapper

    return PortMapper(network, outward[0].port, rng, own=own, gateway=gateway)


def _asks(question: bytes, address: tuple[str, int], is_answer: Callable[[bytes], bool]) -> bool:
    end = time.monotonic() + _WAIT_S
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(question, address)
            while (left := end - time.monotonic()) > 0:
                sock.settimeout(left)
                data, sender = sock.recvfrom(2048)
                if is_answer(data) and (address == _SSDP or sender == address):
                    return True
    except OSError:
        pass  # no route, or nobody there
    return False


def _is_nat_pmp(data: bytes) -> bool:
    return len(data) >= 12 and data[:2] == b"\x00\x80" and data[2:4] == b"\x00\x00"


def _is_ssdp(data: bytes) -> bool:
    return data.startswith(b"HTTP/1.1 200") and b"internetgatewaydevice" in data.lower()
