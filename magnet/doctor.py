"""`magnet doctor`: what of the network works from here, what does not, and what to do about it.

It opens a DHT node for some seconds, asks every place to start from by address, joins, asks nodes of many networks
where they see us (BEP 42), and looks for a gateway that maps ports (NAT-PMP, UPnP). It keeps and changes nothing.
All of it is bounded in time. What was found is told as `Finding`s as it comes.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import trio

from kademlia_bt.answers import QueryError
from kademlia_bt.bootstrap import ROUTERS
from kademlia_bt.commands.console import ExitCode, emit, run_async
from kademlia_bt.node import Node
from magnet.config import Config
from magnet.findings import Finding, Sight, judge_nat, majority, voice_of
from magnet.gateways import Gateways, find_gateways
from magnet.network import check_proxy, network_of, trouble_of
from magnet.nursery import open_plain_nursery
from magnet.reporter import Reporter
from wire.compact import IPV4, IPV6, Endpoint, Family, reach
from wire.errors import NetworkError, WireError
from wire.net import Network
from wire.routes import source_towards
from wire.socks import Proxy
from wire.trio_net import TrioNetwork

__all__ = ["DEFAULT_DEADLINE_S", "doctor", "examine"]

DEFAULT_DEADLINE_S = 25.0
"""For all of it: a first join takes a few seconds where the network works."""
_RESOLVE_S = 5.0
_PING_S = 5.0
_ASKED_OF_FAMILY = 16
"""Nodes asked where they see us: more than BEP 42 wants voices, in one round trip."""


@dataclass(frozen=True, slots=True)
class _Probe:
    place: str
    endpoint: Endpoint | None
    answered: bool
    outcome: str
    rtt_s: float | None = None


def doctor(config: Config, *, json: bool, quiet: bool) -> int:
    """`magnet doctor`: exit code 1 where something is broken."""
    reporter = Reporter()
    broken = 0

    def tell(finding: Finding) -> None:
        nonlocal broken
        broken += finding.state == "broken"
        if json:
            emit({"event": "finding", **{name: getattr(finding, name) for name in ("name", "state", "text", "mend")},
                  **finding.facts})  # fmt: skip
        elif not quiet or finding.state == "broken":
            reporter.result(f"{finding.state:>8}  {finding.name}: {finding.text}")
            if finding.mend is not None:
                reporter.result(f"{'':>8}  -> {finding.mend}")

    async def main() -> int:
        await examine(config, tell)
        if json:
            emit({"event": "done", "broken": broken})
        return ExitCode.CHECK_FAILED if broken else ExitCode.DONE

    return run_async(main)


async def examine(
    config: Config,
    tell: Callable[[Finding], None],
    *,
    network: Network | None = None,
    rng: random.Random | None = None,
    find_mappings: bool = True,
) -> None:
    """Looks at everything, within `config.deadline_s` (or `DEFAULT_DEADLINE_S`), and tells each finding as it comes."""
    ends_at = trio.current_time() + (config.deadline_s or DEFAULT_DEADLINE_S)
    tell(await trio.to_thread.run_sync(_state_folder, config))
    network = network_of(config, network)
    if config.proxy is not None:
        finding = await _look_at_proxy(network, config.proxy)
        tell(finding)
        if finding.state == "broken":
            return  # and nothing goes around it
    hosts = [endpoint.host for endpoint in config.listen] + [host for host, _ in config.bootstrap or ()]
    local = any(reach(host) in ("loopback", "private") for host in hosts)
    node = Node(
        listen=config.listen or None,
        bootstrap=config.bootstrap,
        network=network,
        rng=rng,
        network_name=config.network,
        allow_local=local if config.allow_local is None else config.allow_local,
    )
    try:
        async with node:
            await _Examination(config, node, network, tell, ends_at, local).run(
                find_mappings and config.proxy is None  # no gateway is asked around a proxy
            )
    except NetworkError as error:
        mend = "another program has the port, or the address is none of this machine: give another with --listen"
        tell(Finding("udp", "broken", str(error), mend))


async def _look_at_proxy(network: Network, proxy: Proxy) -> Finding:
    try:
        await check_proxy(network)
    except NetworkError as error:
        mend = "start it, or check the address, user and password given with --proxy; nothing goes around it"
        return Finding("proxy", "broken", str(error), mend)
    return Finding("proxy", "ok", f"{proxy} lets us in; all that follows goes through it")


class _Examination:
    """One visit, with an open node."""

    def __init__(
        self,
        config: Config,
        node: Node,
        network: Network,
        tell: Callable[[Finding], None],
        ends_at: float,
        local: bool,
    ) -> None:
        self._config, self._node, self._network, self._tell, self._ends_at = config, node, network, tell, ends_at
        self._local = local
        self._probes: dict[tuple[str, Endpoint | None], _Probe] = {}
        """By place and address. Until its end is known one says that there was no time for it."""
        self._sights: list[Sight] = []

    async def run(self, find_mappings: bool) -> None:
        self._tell_udp()
        gateways, looked = Gateways(), trio.Event()

        async def look_for_gateways() -> None:
            nonlocal gateways
            if find_mappings and not self._local:
                gateways = await find_gateways()
            looked.set()

        with trio.move_on_at(self._ends_at):
            async with open_plain_nursery() as nursery:
                nursery.start_soon(look_for_gateways)
                try:
                    await self._probe_all()
                finally:  # also those for whom there was no time
                    self._tell_routers()
                with trio.move_on_at(self._ends_at - _PING_S):  # time for the last questions
                    await self._node.wait_joined()
                await self._ask_where_seen()
                await looked.wait()
        self._tell_dht()
        for family in (IPV4, IPV6):
            await self._tell_family(family)
        self._tell_mapping(gateways, find_mappings and not self._local)
        self._tell_reachability()

    def _tell_udp(self) -> None:
        if self._config.proxy is None:
            where = [str(endpoint) for endpoint in self._node.endpoints]
            self._tell(Finding("udp", "ok", f"bound to {', '.join(where)}", facts={"addresses": where}))
        elif (trouble := trouble_of(self._network)) is None:
            self._tell(Finding("udp", "ok", "the proxy takes datagrams", facts={"addresses": []}))
        else:
            mend = "without them there is no DHT, uTP or UDP tracker: take a proxy that knows UDP ASSOCIATE"
            self._tell(Finding("udp", "broken", trouble, mend))

    # places to start from

    async def _probe_all(self) -> None:
        places = self._config.bootstrap
        if places is None:
            places = () if self._config.network is not None else ROUTERS
        async with trio.open_nursery() as nursery:
            for host, port in places:
                nursery.start_soon(self._probe_place, host, port)

    async def _probe_place(self, host: str, port: int) -> None:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._note(_Probe(place, None, False, "its name was not resolved in time"))
        try:
            with trio.fail_after(_RESOLVE_S):
                endpoints = await self._network.resolve(host, port)
        except trio.TooSlowError:
            self._note(_Probe(place, None, False, f"its name was not resolved in {_RESOLVE_S:g} s"))
            return
        except NetworkError as error:
            self._note(_Probe(place, None, False, str(error)))
            return
        del self._probes[place, None]
        for endpoint in endpoints:
            self._note(_Probe(place, endpoint, False, "no answer in time"))
        async with trio.open_nursery() as nursery:
            for endpoint in endpoints:
                nursery.start_soon(self._probe, place, endpoint)

    async def _probe(self, place: str, endpoint: Endpoint) -> None:
        rtt_s, outcome = await self._ping(endpoint)
        self._note(_Probe(place, endpoint, rtt_s is not None, outcome, rtt_s))

    def _note(self, probe: _Probe) -> None:
        self._probes[probe.place, probe.endpoint] = probe

    async def _ping(self, endpoint: Endpoint) -> tuple[float | None, str]:
        """(Round trip, None where there was none; outcome); keeps where it saw us."""
        try:
            with trio.fail_after(_PING_S):
                pong = await self._node.ping(endpoint)
        except trio.TooSlowError:
            return None, f"no answer in {_PING_S:g} s"
        except QueryError as error:
            return None, str(error).removeprefix(f"{endpoint} ")
        if pong.own_address is not None:
            self._sights.append(Sight(endpoint, pong.own_address))
        return pong.rtt_s, f"answered in {pong.rtt_s * 1000:.0f} ms"

    def _tell_routers(self) -> None:
        for probe in sorted(self._probes.values(), key=lambda probe: (probe.place, str(probe.endpoint))):
            where = probe.place if probe.endpoint is None or str(probe.endpoint) == probe.place else (
                f"{probe.place} ({probe.endpoint})"
            )  # fmt: skip
            self._tell(
                Finding(
                    "router",
                    "ok" if probe.answered else "warning",
                    f"{where}: {probe.outcome}",
                    facts={
                        "place": probe.place,
                        "address": None if probe.endpoint is None else str(probe.endpoint),
                        "answered": probe.answered,
                        "rtt_ms": None if probe.rtt_s is None else round(probe.rtt_s * 1000, 1),
                    },
                )
            )

    # the DHT and where it sees us

    async def _ask_where_seen(self) -> None:
        asked = {sight.voter for sight in self._sights}
        voices: set[object] = set()
        chosen: list[Endpoint] = []
        for table in self._node.tables():
            room = _ASKED_OF_FAMILY
            for view in table.nodes:
                endpoint = view.endpoint
                voice = voice_of(endpoint)
                if room and endpoint not in asked and voice not in voices:
                    voices.add(voice)
                    chosen.append(endpoint)
                    room -= 1
        async with trio.open_nursery() as nursery:
            for endpoint in chosen:
                nursery.start_soon(self._ping, endpoint)

    def _tell_dht(self) -> None:
        stats = self._node.stats()
        facts: dict[str, object] = {
            "nodes_asked": stats.nodes_asked,
            "nodes_answered": stats.nodes_answered,
            "good": stats.good,
        }
        counts = f"{stats.nodes_answered} of {stats.nodes_asked} questions answered, {stats.good} good nodes known"
        if self._node.joined:
            self._tell(Finding("dht", "ok", f"joined: {counts}", facts=facts))
            return
        if any(probe.answered for probe in self._probes.values()) or stats.nodes_answered:
            mend = "a small or a young network is often so; else some nodes are filtered on the way: try --bootstrap"
            self._tell(Finding("dht", "warning", f"it answers, but is not joined yet: {counts}", mend, facts))
            return
        if not self._probes:
            mend = "give a node of the network with --bootstrap HOST:PORT"
        elif any(probe.endpoint is not None for probe in self._probes.values()):
            mend = (
                "UDP is blocked: allow UDP out in the firewall, or try another network; VPNs and offices often block it"
            )
        else:
            mend = "names are not resolved: check the machine's DNS, or give an address with --bootstrap HOST:PORT"
        self._tell(Finding("dht", "broken", f"nobody answers: {counts}", mend, facts))

    async def _tell_family(self, family: Family) -> None:
        name = {"ipv4": "IPv4", "ipv6": "IPv6"}[family.name]
        bound = next((endpoint for endpoint in self._node.endpoints if endpoint.family is family), None)
        sights = [sight for sight in self._sights if sight.voter.family is family]
        good = sum(face.good for face in self._node.stats().faces if face.family is family)
        if bound is None:
            self._tell(Finding(name, "unknown", "not used: no socket of that family is open", facts={"works": False}))
            return
        works = bool(sights) or good > 0 or any(
            probe.answered and probe.endpoint is not None and probe.endpoint.family is family
            for probe in self._probes.values()
        )  # fmt: skip
        if not works:
            mend = None if family is IPV6 else "see what is said of the DHT"
            why = "nobody answers over it" + (": this network may not have it" if family is IPV6 else "")
            self._tell(Finding(name, "warning", why, mend, {"works": False}))
            return
        self._tell(Finding(name, "ok", "works", facts={"works": True}))
        host = majority(sights)
        if host is None:
            self._tell(Finding(f"{name} address", "unknown", "nobody said where they see us (BEP 42)"))
            return
        votes = sum(sight.seen.host == host for sight in sights)
        self._tell(
            Finding(
                f"{name} address",
                "ok",
                f"others see us at {host}: {votes} of {len(sights)} say so",
                facts={"address": host, "votes": votes, "asked": len(sights)},
            )
        )
        own = [bound.host]
        if isinstance(self._network, TrioNetwork) and (source := source_towards(sights[0].voter)) is not None:
            own.append(source)
        if self._config.proxy is not None:
            return  # it is the proxy that they see
        kind, state, text, mend = judge_nat(bound.port, sights, own)
        self._tell(Finding(f"{name} NAT", state, text, mend, {"kind": kind}))

    # how others reach us

    def _tell_mapping(self, gateways: Gateways, looked: bool) -> None:
        if not looked:
            where = (
                "on a local network"
                if self._config.proxy is None
                else "around a proxy, behind which nobody can dial us"
            )
            self._tell(Finding("port mapping", "unknown", f"not looked for {where}"))
            return
        facts: dict[str, object] = {"offers": list(gateways.offers), "upnp": gateways.upnp_trouble}
        if gateways.offers:
            offers = " and ".join(gateways.offers)
            text = f"the gateway offers {offers}: a port is mapped while a download or a seed runs"
            self._tell(Finding("port mapping", "ok", text, facts=facts))
        else:
            text = f"no gateway answered to NAT-PMP; UPnP: {gateways.upnp_trouble}"
            self._tell(Finding("port mapping", "unknown", text, facts=facts))

    def _tell_reachability(self) -> None:
        stats = self._node.stats()
        facts: dict[str, object] = {"queries": stats.queries, "health": stats.health}
        if stats.queries:
            text = f"others have asked us {stats.queries} times"
            self._tell(Finding("reachability", "ok", text, facts=facts))
        else:
            text = "nobody has asked us anything in these seconds: that may be chance, or a firewall"
            mend = "downloads work all the same; 'kademlia-bt run --status 8080' tells after 15 minutes for certain"
            self._tell(Finding("reachability", "unknown", text, mend, facts))


def _state_folder(config: Config) -> Finding:
    folder = config.state_dir
    if folder is None:
        return Finding("state", "unknown", "nothing is kept between runs")
    try:
        # Not made here: to look is not to leave traces.
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError, WireError) as error:
        reason = getattr(error, "strerror", None) or error
        return Finding("state", "warning", f"cannot write to {folder}: {reason}", "give a folder with --state DIR")
    return Finding("state", "ok", f"kept in {folder}", facts={"folder": str(folder)})
