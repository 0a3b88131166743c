"""Network namespaces joined by virtual cables: machines of one kernel, with no way out; two, two behind NATs, or one
behind a home's gateway that maps ports.

For clients that refuse loopback peers. Needs root and iproute2; whoever asks is skipped with a reason
otherwise. What is made is removed, also when the test fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

__all__ = ["Machine", "behind_a_gateway", "behind_nats", "two_machines"]


@dataclass(frozen=True)
class Machine:
    """One namespace: its name and its addresses."""

    name: str
    addresses: tuple[str, ...]

    @property
    def address(self) -> str:
        """Its first address."""
        return self.addresses[0]

    @property
    def prefix(self) -> list[str]:
        """What goes before a command that is to run there."""
        return ["ip", "netns", "exec", self.name]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def two_machines(addresses_each: int = 1, *, ipv6: bool = False) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that reach each other at 10.213.1.N and 10.213.2.N, and nothing else; `ipv6`: last, by IPv6 too."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed")
    machines = [
        Machine(
            f"kbt{os.getpid()}-{side}",
            (
                *(f"10.213.{side}.{number + 1}" for number in range(addresses_each)),
                *((f"fd00:213::{side}",) if ipv6 else ()),
            ),
        )
        for side in (1, 2)
    ]
    try:
        try:
            for machine in machines:
                _ip("netns", "add", machine.name)
            one, other = machines
            _ip(
                "link", "add", "wire", "netns", one.name, "type", "veth", "peer", "name", "wire", "netns", other.name,
            )  # fmt: skip
            for machine in machines:
                _ip("-n", machine.name, "link", "set", "lo", "up")
                for address in machine.addresses:
                    how = (
                        (f"{address}/64", "dev", "wire", "nodad")
                        if ":" in address
                        else (f"{address}/16", "dev", "wire")
                    )
                    _ip("-n", machine.name, "address", "add", *how)
                _ip("-n", machine.name, "link", "set", "wire", "up")
        except OSError as error:
            pytest.skip(f"this machine gives no network namespaces: {error}")
        yield machines[0], machines[1]
    finally:
        for machine in machines:  # the cable goes with them
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False, timeout=60)


_NAT = """
table ip nat {
  chain post { type nat hook postrouting priority 100; oifname "out" masquerade; }
}
table ip filter {
  chain input { type filter hook input priority 0; policy drop; ct state established,related accept; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname "in" accept; ct state established,related accept;
  }
}
"""
"""A home's router: out goes anything, under its own address; in comes only what answers."""


@contextmanager
def behind_nats() -> Iterator[tuple[Machine, Machine, Machine]]:
    """A machine on the open network, and two that each are behind a NAT of its own; those have no way to each other.

    The open one is 10.213.3.2; the others are seen as 10.213.1.2 and 10.213.2.2. Needs root, iproute2 and nft.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    net, open_, *inner = (
        Machine(f"kbt{os.getpid()}-{name}", (address,))
        for name, address in (
            ("net", "10.213.3.1"),
            ("open", "10.213.3.2"),
            ("nat1", "10.213.1.2"),
            ("nat2", "10.213.2.2"),
            ("home1", "10.213.11.2"),
            ("home2", "10.213.12.2"),
        )
    )
    routers, homes = inner[:2], inner[2:]
    machines = (net, open_, *routers, *homes)
    try:
        try:
            for machine in machines:
                _ip("netns", "add", machine.name)
                _ip("-n", machine.name, "link", "set", "lo", "up")
            _cable(net, "to3", net.address, open_, "out", open_.address)
            _ip("-n", open_.name, "route", "add", "default", "via", net.address)
            for number, (router, home) in enumerate(zip(routers, homes, strict=True), 1):
                _cable(net, f"to{number}", f"10.213.{number}.1", router, "out", f"10.213.{number}.2")
                _cable(router, "in", f"10.213.1{number}.1", home, "out", f"10.213.1{number}.2")
                _ip("-n", router.name, "route", "add", "default", "via", f"10.213.{number}.1")
                _ip("-n", home.name, "route", "add", "default", "via", f"10.213.1{number}.1")
            for machine in (net, *routers):
                _inside(machine, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
            for router in routers:
                _inside(router, ["nft", "-f", "-"], _NAT)
        except OSError as error:
            pytest.skip(f"this machine gives no network namespaces with NAT: {error}")
        yield open_, homes[0], homes[1]
    finally:
        for machine in machines:
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False, timeout=60)


_PORT_MAPPING_NAT = """
table inet filter {
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname "in" accept; ct state established,related accept; jump miniupnpd;
  }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; oifname "out" masquerade; }
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
table inet deaf {
  chain in { type filter hook input priority -10; }
}
"""
"""The same router with the chains that miniupnpd fills; what `deaf` drops, it does not hear."""


@contextmanager
def behind_a_gateway() -> Iterator[tuple[Machine, Machine, Machine]]:
    """A gateway without its daemon, a machine behind it, and one outside: 192.168.77.1 (80.9.9.9 outside), 192.168.77.2
    and 80.9.9.1. The addresses outside are global ones: miniupnpd maps nothing where it is itself behind a NAT.

    Needs root, iproute2 and nft.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    gateway, home, outside = machines = tuple(
        Machine(f"kbt{os.getpid()}-{name}", addresses)
        for name, addresses in (
            ("gateway", ("192.168.77.1", "80.9.9.9")),
            ("home", ("192.168.77.2",)),
            ("outside", ("80.9.9.1",)),
        )
    )
    try:
        try:
            for machine in machines:
                _ip("netns", "add", machine.name)
                _ip("-n", machine.name, "link", "set", "lo", "up")
            _cable(gateway, "in", gateway.address, home, "out", home.address)
            _cable(gateway, "out", gateway.addresses[1], outside, "in", outside.address)
            _ip("-n", home.name, "route", "add", "default", "via", gateway.address)
            _ip("-n", gateway.name, "route", "add", "224.0.0.0/4", "dev", "in")
            _inside(gateway, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
            _inside(gateway, ["nft", "-f", "-"], _PORT_MAPPING_NAT)
        except OSError as error:
            pytest.skip(f"this machine gives no network namespaces with NAT: {error}")
        yield gateway, home, outside
    finally:
        for machine in machines:
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False, timeout=60)


def _cable(one: Machine, name: str, address: str, other: Machine, its_name: str, its_address: str) -> None:
    _ip("link", "add", name, "netns", one.name, "type", "veth", "peer", "name", its_name, "netns", other.name)
    for machine, link, at in ((one, name, address), (other, its_name, its_address)):
        _ip("-n", machine.name, "address", "add", f"{at}/24", "dev", link)
        _ip("-n", machine.name, "link", "set", link, "up")


def _inside(machine: Machine, command: list[str], stdin: str = "") -> None:
    done = subprocess.run(
        [*machine.prefix, *command], input=stdin, capture_output=True, text=True, check=False, timeout=20
    )
    if done.returncode:
        raise OSError(done.stderr.strip() or f"{command[0]} failed")
