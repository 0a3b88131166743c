"""Keeps a port mapped at the gateway for as long as it runs, by the first way that works. A shell.

PCP, NAT-PMP, then UPnP. Only the same port number outside is of use: it is what peers are told. Nothing that a gateway
says ends it, and where there is none it looks again after a while. What was mapped is taken back at the end.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from wire.compact import IPV4, Endpoint
from wire.errors import NetworkError, ProtocolError
from wire.net import Datagrams, Network
from wire.portmap import pcp
from wire.portmap.pcp import Transport
from wire.portmap.upnp import run_errand
from wire.portmap.upnp_words import Answer, Errand, Verb

__all__ = ["Mapping", "PortMapper"]

LEASE_S = 3600
MIN_LEASE_S = 120
"""Renewed after half of it: not more often than each minute, whatever the gateway says."""
LOOK_AGAIN_S = 900.0
"""Where no gateway maps ports."""
WAITS_S = (0.25, 0.5, 1.0)
"""For an answer of PCP or NAT-PMP, before it is asked again (RFC 6886, 3.1). The gateway is one hop away, and UPnP
waits for both to be given up."""
BYE_S = 3.0
"""To take mappings back, all together: who presses Ctrl-C waits for it. UPnP starts a process in it."""
_BOTH = (Transport.TCP, Transport.UDP)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A port that the gateway lets in."""

    way: str
    """`PCP`, `NAT-PMP` or `UPnP`."""
    port: int
    host: str | None
    """The gateway's address outside, as it says."""


class _Refused(Exception):  # noqa: N818 - what a gateway says
    pass


class PortMapper:
    """One port, TCP and UDP. `gateway`: where PCP and NAT-PMP are asked; None: UPnP alone. `own`: our address there.

    `upnp`: who runs the errands of UPnP, in place of a process of its own.
    """

    def __init__(
        self,
        network: Network,
        port: int,
        rng: random.Random,
        *,
        own: str,
        gateway: str | None,
        upnp: Callable[[Errand], Awaitable[Answer]] = run_errand,
    ) -> None:
        self.mapping: Mapping | None = None
        self.trouble: str | None = None
        """Why there is no mapping: one line; None where there is one, or nothing was tried yet."""
        self._network = network
        self._port = port
        self._nonce = rng.randbytes(pcp.NONCE_BYTES)
        self._own = own
        self._gateway = None if gateway is None else Endpoint(gateway, pcp.PORT)
        self._upnp = upnp
        self._location: str | None = None
        """Where the UPnP gateway describes itself, once it mapped the port."""
        self.news = trio.Event()
        """Set once it is known whether there is a mapping."""

    async def run(self) -> None:
        """Maps, renews, and takes back when cancelled."""
        try:
            while True:
                lease_s = await self._map()
                self.news.set()
                await trio.sleep(max(lease_s, MIN_LEASE_S) / 2 if lease_s else LOOK_AGAIN_S)
        finally:
            if self.mapping is not None:
                with trio.CancelScope(shield=True), trio.move_on_after(BYE_S):
                    await self._take_back(self.mapping.way)
                self.mapping = None

    async def _map(self) -> float:
        """How long the mapping holds, in seconds; 0 where there is none."""
        reasons: list[str] = []
        ways: list[tuple[str, Callable[[int], Awaitable[tuple[float, str | None]]]]] = [("UPnP", self._by_upnp)]
        if self._gateway is not None:
            ways = [("PCP", self._by_pcp), ("NAT-PMP", self._by_nat_pmp), *ways]
        if self.mapping is not None:  # renewed by the way that worked
            ways.sort(key=lambda way: self.mapping is not None and way[0] != self.mapping.way)
        for way, ask in ways:
            try:
                lease_s, host = await ask(LEASE_S)
            except (_Refused, NetworkError, ProtocolError) as error:
                reasons.append(f"{way}: {error}")
                continue
            self.mapping, self.trouble = Mapping(way, self._port, host), None
            return lease_s
        self.mapping, self.trouble = None, "; ".join(reasons)
        return 0.0

    async def _take_back(self, way: str) -> None:
        with suppress(_Refused, NetworkError, ProtocolError):  # then it ends by itself, with its lease
            await {"PCP": self._by_pcp, "NAT-PMP": self._by_nat_pmp, "UPnP": self._by_upnp}[way](0)

    # --- PCP and NAT-PMP

    async def _by_pcp(self, lease_s: int) -> tuple[float, str | None]:
        return await self._ask_both(lambda t, s: pcp.pcp_map(self._own, self._nonce, t, self._port, s), lease_s)

    async def _by_nat_pmp(self, lease_s: int) -> tuple[float, str | None]:
        found = await self._ask_both(lambda t, s: pcp.nat_pmp_map(t, self._port, s), lease_s)
        return (found[0], await self._nat_pmp_address()) if lease_s else found

    async def _ask_both(self, words: Callable[[Transport, int], bytes], lease_s: int) -> tuple[float, str | None]:
        assert self._gateway is not None
        socket = await self._network.udp(Endpoint(IPV4.any_host, 0))
        lease, host = float(lease_s), None
        try:
            for transport in _BOTH:
                answer = await self._answer(socket, words(transport, lease_s), transport)
                if answer.refusal is not None:
                    raise _Refused(answer.refusal)
                if lease_s and answer.external_port != self._port:
                    raise _Refused(f"it gives port {answer.external_port} in place of {self._port}")
                lease, host = min(lease, answer.lifetime_s), answer.host
        except _Refused:
            for transport in _BOTH:  # half of it, or another port, is of no use
                socket.send(words(transport, 0), self._gateway)
            raise
        finally:
            socket.close()
        return lease, host

    async def _answer(self, socket: Datagrams, words: bytes, transport: Transport) -> pcp.Answer:
        assert self._gateway is not None
        for wait_s in WAITS_S:
            socket.send(words, self._gateway)
            with trio.move_on_after(wait_s):
                while True:
                    for data, sender in await socket.receive():
                        if sender != self._gateway:
                            continue
                        try:
                            answer = pcp.read(data, self._nonce)
                        except ProtocolError:
                            continue
                        if answer.other_version or (
                            answer.transport is transport and answer.internal_port == self._port
                        ):
                            return answer
        raise _Refused("the gateway does not answer")

    async def _nat_pmp_address(self) -> str | None:
        assert self._gateway is not None
        socket = await self._network.udp(Endpoint(IPV4.any_host, 0))
        try:
            socket.send(pcp.nat_pmp_address(), self._gateway)
            with trio.move_on_after(WAITS_S[-1]):
                while True:
                    for data, sender in await socket.receive():
                        if sender == self._gateway and (host := pcp.read_nat_pmp_address(data)) is not None:
                            return host
        finally:
            socket.close()
        return None

    # --- UPnP

    async def _by_upnp(self, lease_s: int) -> tuple[float, str | None]:
        verb, location = (Verb.MAP if lease_s else Verb.UNMAP), self._location
        if not lease_s and location is None:
            return 0.0, None
        try:
            answer = await self._upnp(Errand(verb, self._own, self._port, lease_s, location))
        except (NetworkError, ProtocolError):
            self._location = None
            if location is None or not lease_s:
                raise
            answer = await self._upnp(Errand(verb, self._own, self._port, lease_s))  # it may have moved: searched for
        self._location = answer.location
        return float(lease_s), answer.host
