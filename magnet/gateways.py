"""Whether the gateway of this machine offers to map ports, for `magnet doctor`: NAT-PMP (RFC 6886) and UPnP. Shell.

Nothing is mapped. That is done by `wire.portmap`, for a session (`mapping.py`).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from magnet.mapping import default_gateway
from wire.compact import Endpoint
from wire.errors import NetworkError, ProtocolError
from wire.portmap.pcp import PORT, nat_pmp_address, read_nat_pmp_address
from wire.portmap.upnp import run_errand
from wire.portmap.upnp_words import GROUP_HOST, GROUP_PORT, Answer, Errand, Verb
from wire.routes import source_towards

__all__ = ["Gateways", "find_gateways"]

_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Gateways:
    """What was found."""

    offers: tuple[str, ...] = ()
    """Of `NAT-PMP` and `UPnP`."""
    upnp_trouble: str | None = "there was no time to ask"
    """Why not UPnP: one line; None where it is offered."""


async def find_gateways(upnp: Callable[[Errand], Awaitable[Answer]] = run_errand) -> Gateways:
    """Asks, for four seconds where nobody answers. `upnp`: who runs its errand, in place of a process of its own."""
    gateway = default_gateway()
    offers: list[str] = []
    if gateway is not None and await trio.to_thread.run_sync(_speaks_nat_pmp, gateway, abandon_on_cancel=True):
        offers.append("NAT-PMP")
    own = source_towards(Endpoint(gateway or GROUP_HOST, GROUP_PORT))
    if own is None:
        return Gateways(tuple(offers), "there is no network")
    try:
        await upnp(Errand(Verb.LOOK, own))
    except (NetworkError, ProtocolError) as error:
        return Gateways(tuple(offers), str(error))
    return Gateways((*offers, "UPnP"), None)


def _speaks_nat_pmp(gateway: str) -> bool:
    end = time.monotonic() + _WAIT_S
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(nat_pmp_address(), (gateway, PORT))
            while (left := end - time.monotonic()) > 0:
                sock.settimeout(left)
                data, sender = sock.recvfrom(2048)
                if sender == (gateway, PORT) and read_nat_pmp_address(data) is not None:
                    return True
    except OSError:
        pass  # no route, or nobody there
    return False
