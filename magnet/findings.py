"""What a visit of the doctor may find, as values, and the judgement on where others see us. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from kademlia_bt.dht.votes import network_of as neighbourhood
from wire.compact import Endpoint, reach

__all__ = ["Finding", "Sight", "State", "judge_nat", "majority", "voice_of"]

State = Literal["ok", "warning", "broken", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    text: str
    """What was seen, for people: one line."""
    mend: str | None = None
    """What to do, where there is something."""
    facts: dict[str, object] = field(default_factory=dict)
    """The same for programs."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Where one node saw us."""

    voter: Endpoint
    seen: Endpoint


def judge_nat(bound_port: int, sights: Sequence[Sight], own_hosts: Sequence[str]) -> tuple[str, State, str, str | None]:
    """(kind, state, text, mend): what stands between us and those who saw us.

    `own_hosts` are addresses of this machine. The kinds: `none`, `same port`, `one port` (an address and port for all
    that we reach), `symmetric` (a port of its own for each), and `unknown`.
    """
    host = majority(sights)
    if host is None:
        return "unknown", "unknown", "nobody said where they see us", None
    ports = Counter(sight.seen.port for sight in sights if sight.seen.host == host)
    if host in own_hosts:
        return "none", "ok", f"none: {host} is an address of this machine", None
    forward = f"forward UDP and TCP port {bound_port} in the router to this machine, and give it with --listen"
    if len(ports) > 1 and sum(ports.values()) - max(ports.values()) > 1:
        text = (
            f"symmetric: {len(ports)} ports for {sum(ports.values())} nodes; peers that do not know us cannot reach us"
        )
        return "symmetric", "warning", text, forward
    if max(ports, key=ports.__getitem__) == bound_port:
        return "same port", "ok", f"there is one, and it keeps our port {bound_port}", None
    text = f"there is one, and it shows all others the same port {max(ports, key=ports.__getitem__)}"
    return "one port", "ok", text, f"for peers that dial us, {forward}"


def majority(sights: Sequence[Sight]) -> str | None:
    """The address that most networks name: one voice each."""
    voices = {voice_of(sight.voter): sight for sight in sights}
    hosts = Counter(sight.seen.host for sight in voices.values())
    return max(hosts, key=hosts.__getitem__, default=None)


def voice_of(voter: Endpoint) -> object:
    """Whose voice a node's is: that of its network, so that many nodes of one owner have one."""
    return neighbourhood(voter) if reach(voter.host) == "global" else voter
