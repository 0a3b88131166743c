"""The gateway of this machine: where it is, and who maps a port at it for a session (`wire.portmap`)."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from magnet.config import Config
from wire.compact import IPV4, Endpoint, reach
from wire.net import Network
from wire.routes import source_towards
from wire.trio_net import TrioNetwork

if TYPE_CHECKING:
    from wire.portmap.mapper import PortMapper

__all__ = ["default_gateway", "mapper_for"]

_NAT_PMP_PORT = 5351
_SSDP_HOST = "239.255.255.250"
_ROUTES = Path("/proc/net/route")


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
    own = source_towards(Endpoint(gateway or _SSDP_HOST, _NAT_PMP_PORT))
    if own is None or reach(own) != "private":  # no network, or no NAT
        return None
    from wire.portmap.mapper import PortMapper

    return PortMapper(network, outward[0].port, rng, own=own, gateway=gateway)
