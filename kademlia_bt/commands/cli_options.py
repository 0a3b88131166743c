"""The options and arguments that several commands of `kademlia-bt` share, and the readers of their values.

Only what is needed to read the command line is imported here, so that help and errors come at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from kademlia_bt.commands.console import endpoint, host_port, network_name, proxy_url, status_address
from kademlia_bt.commands.front import Argument, Option
from kademlia_bt.commands.options import Options
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.ids import ID_BYTES, InfoHash

if TYPE_CHECKING:
    from wire.net import Network
    from wire.socks import Proxy

__all__ = [
    "AllowLocal",
    "Bootstrap",
    "InfoHashArgument",
    "Json",
    "Listen",
    "NetworkName",
    "ProxyUrl",
    "State",
    "Status",
    "StatusNames",
    "Timeout",
    "Verbose",
    "node_id",
    "of_a_lookup",
    "of_a_node",
    "of_a_question",
    "options_of",
    "queries",
    "seconds",
    "swarm_id",
    "whole",
]

_MAX_INT64 = (1 << 63) - 1
_MAX_DIGITS = 20
_WEB_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,20}\.?", re.ASCII)


def swarm_id(text: str) -> bytes:
    try:
        return InfoHash.parse(text).swarm_ids[0]
    except ProtocolError as error:
        raise click.BadParameter(str(error)) from None


def node_id(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES:
        raise click.BadParameter(f"{text[:80]!r} is no id: it has {2 * ID_BYTES} hex digits")
    return raw


def seconds(text: str) -> float:
    """A time."""
    return _number(text, f"{text!r} is no number of seconds")


def _number(text: str, complaint: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise click.BadParameter(complaint)
    return value


def queries(text: str) -> float:
    """A limit of queries a second."""
    return _number(text, f"{text[:40]!r} is no number of queries a second: 0 for no limit, or more")


def whole(least: int, most: int = _MAX_INT64) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str | int) -> int:
        try:
            value = int(text) if len(str(text)) <= _MAX_DIGITS else least - 1
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            said = f"of {least} or more" if most >= _MAX_INT64 else f"from {least} to {most}"
            raise click.BadParameter(f"{str(text)[:40]!r} is no whole number {said}")
        return value

    return read


def web_name(text: str) -> str:
    """A host name, as a browser sends it."""
    if not _WEB_NAME.fullmatch(text):
        raise click.BadParameter(f"{text[:80]!r} is no host name")
    return text


Listen = Annotated[
    list[Endpoint] | None,
    Option(
        parser=endpoint,
        metavar="HOST:PORT",
        help="Address to bind; may be repeated. Default: all, IPv4 and IPv6, on a free port.",
    ),
]
Bootstrap = Annotated[
    list[Any] | None,  # of (host, port), which a type could not tell from two values
    Option(
        parser=host_port,
        metavar="HOST:PORT",
        help="Node to start from; may be repeated. Replaces the built-in routers.",
    ),
]
AllowLocal = Annotated[
    bool,
    Option("--allow-local", help="Talk to loopback and private addresses though bound to a public one."),
]
State = Annotated[
    Path | None,
    Option(metavar="DIR", help="Folder that keeps the node's id and the nodes it knew."),
]
Timeout = Annotated[float, Option(parser=seconds, metavar="SECONDS", help="Gives up after so long; 0 waits for ever.")]
NetworkName = Annotated[
    str | None,
    Option(
        "--network",
        parser=network_name,
        metavar="NAME",
        help="A private network, apart from the mainline DHT: all of its nodes are given the same name.",
    ),
]
ProxyUrl = Annotated[
    Any,
    Option(
        "--proxy",
        parser=proxy_url,
        metavar="URL",
        help="SOCKS5 for all of it, names too: socks5://[USER:PASSWORD@]HOST:PORT. Nothing goes around it.",
    ),
]
Status = Annotated[
    Endpoint | None,
    Option(
        parser=status_address,
        metavar="[HOST:]PORT",
        help="Serve a status page, /metrics and /healthz there. Default host: loopback.",
    ),
]
StatusNames = Annotated[
    list[str] | None,
    Option("--status-name", parser=web_name, metavar="NAME", help="A host name by which the page may be asked for."),
]
Json = Annotated[bool, Option("--json", help="One JSON object a line on stdout, nothing else there.")]
Verbose = Annotated[bool, Option("--verbose", "-v", help="Says more on stderr.")]
InfoHashArgument = Annotated[
    bytes, Argument(parser=swarm_id, metavar="INFOHASH", help="40 hex digits or 32 base32 letters.")
]


def options_of(
    listen: list[Endpoint] | None = None,
    bootstrap: list[Any] | None = None,
    allow_local: bool = False,
    network: str | None = None,
    proxy: Proxy | None = None,
    state: Path | None = None,
    timeout: float = 0.0,
    json: bool = False,
    verbose: bool = False,
) -> Options:
    """What the words say, as the commands want it; what a command does not have, it leaves out."""
    outer: Network | None = None
    if proxy is not None:
        from wire.proxied import ProxiedNetwork
        from wire.trio_net import TrioNetwork

        outer = ProxiedNetwork(TrioNetwork(), proxy)

    return Options(
        listen=tuple(listen) if listen else None,
        bootstrap=tuple(bootstrap) if bootstrap else None,
        allow_local=allow_local or None,
        state_dir=state,
        json=json,
        verbose=verbose,
        timeout_s=timeout,
        network=network,
        outer=outer,
    )


# What commands share: their functions name one of these, and get what it returns as `settings`.


def of_a_node(
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    proxy: ProxyUrl = None,
    json: Json = False,
    verbose: Verbose = False,
) -> Options:
    """Of a node that stays."""
    return options_of(listen, bootstrap, allow_local, network, proxy, json=json, verbose=verbose)


def of_a_lookup(
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    proxy: ProxyUrl = None,
    state: State = None,
    timeout: Timeout = 60.0,
    json: Json = False,
    verbose: Verbose = False,
) -> Options:
    """Of a question to the whole DHT."""
    return options_of(listen, bootstrap, allow_local, network, proxy, state, timeout, json, verbose)


def of_a_question(
    listen: Listen = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    proxy: ProxyUrl = None,
    timeout: Timeout = 15.0,
    json: Json = False,
    verbose: Verbose = False,
) -> Options:
    """Of a question to one node."""
    return options_of(listen, None, allow_local, network, proxy, None, timeout, json, verbose)
