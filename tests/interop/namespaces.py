"""Two network namespaces joined by a pair of virtual cables: two machines, one kernel, no way out.

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

__all__ = ["Machine", "two_machines"]


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
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def two_machines(addresses_each: int = 1) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that reach each other at 10.213.1.N and 10.213.2.N, and nothing else."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed")
    machines = [
        Machine(f"kbt{os.getpid()}-{side}", tuple(f"10.213.{side}.{number + 1}" for number in range(addresses_each)))
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
                    _ip("-n", machine.name, "address", "add", f"{address}/16", "dev", "wire")
                _ip("-n", machine.name, "link", "set", "wire", "up")
        except OSError as error:
            pytest.skip(f"this machine gives no network namespaces: {error}")
        yield machines[0], machines[1]
    finally:
        for machine in machines:  # the cable goes with them
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False, timeout=20)
