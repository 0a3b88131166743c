"""What holds for every test: no packet leaves the machine, no file lands in the user's own folders.

An audit hook looks at each address that this process connects, sends to or resolves, and each address must be
loopback. A name that is not `localhost` is answered as a resolver answers an unknown one. Child processes of the
interop tests are given loopback addresses alone (tests/interop/harness.py).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, settings

from tests.examples import PROFILE, examples
from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.net import Datagrams
from wire.trio_net import TrioNetwork

# A deadline measures the machine, not the code; what `explain` adds to a failure costs all others a trace of each line.
# Other examples, and many, are for long runs at home: HYPOTHESIS_PROFILE=explore pytest tests/props --timeout 0
_QUIET = [HealthCheck.too_slow]
_PHASES = [phase for phase in Phase if phase is not Phase.explain]
settings.register_profile("steady", deadline=None, derandomize=True, phases=_PHASES, suppress_health_check=_QUIET)
settings.register_profile("explore", deadline=None, max_examples=examples(100), suppress_health_check=_QUIET)
settings.load_profile(PROFILE)

# The commands are started some hundred times: where no bytecode may be kept, each would compile all of its files anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_SENDS = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def _stays_here(address: Any) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path, or no address at all
        return True
    try:
        host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return address[0] in ("", "localhost")
    return host.is_loopback or host.is_unspecified


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _SENDS and not _stays_here(arguments[1]):
        raise AssertionError(f"a test would send to {arguments[1]}, outside this machine")
    if event == "socket.getaddrinfo" and arguments[0] is not None:
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
        if not _stays_here((host, 0)) and not _is_literal(host):
            raise socket.gaierror(socket.EAI_NONAME, "tests resolve no names")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


sys.addaudithook(_watch)


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Points the platform's user folders at a temporary one, for this process and its children."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "LOCALAPPDATA", "APPDATA"):
            patch.setenv(name, str(home / name.lower()))
        patch.setattr(TrioNetwork, "multicast", _no_group)
        patch.setattr("magnet.mapping.source_towards", lambda to: None)  # else the gateway would be asked for a port
        patch.setattr("magnet.gateways.source_towards", lambda to: None)  # nor is one looked for
        patch.setattr(TrioNetwork, "global_ipv6", lambda network: None)  # it would be listened at
        yield home


@pytest.fixture(autouse=True)
def _no_thread_under_a_virtual_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clock jumps when all tasks wait, it would jump while a thread works: hours pass in a slow write."""
    if "autojump_clock" in request.fixturenames:
        monkeypatch.setattr(trio.to_thread, "run_sync", _at_once)


@pytest.fixture(autouse=True)
def _one_order_of_tasks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tasks that are ready together trio runs any first. On a virtual network each order is another run of it.

    So it is drawn from a seed: what is green here is green everywhere. Other orders: TASK_ORDER=7 pytest tests/shell
    """
    if "autojump_clock" in request.fixturenames:
        monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        trio._core._run._r.seed(os.environ.get("TASK_ORDER", "1"))


async def _at_once(work: Callable[..., Any], *args: Any, **_: Any) -> Any:
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        return work(*args)
    finally:
        await trio.lowlevel.cancel_shielded_checkpoint()


async def _no_group(network: TrioNetwork, group: Endpoint, at: str) -> Datagrams:
    """A session on the wildcard would call into the network around this machine (BEP 14)."""
    raise NetworkError(f"cannot join {group}: this is a test")
