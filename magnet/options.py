"""The options that the commands of `magnet` share which talk to others, and what they give: `Settings`.

Only what is needed to read the command line is imported here, so that help and errors come at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import click

from kademlia_bt.commands.console import endpoint, host_port, network_name, proxy_url, size
from kademlia_bt.commands.front import Argument, Option
from magnet.config import DEFAULT_PATIENCE_S, Config, default_state_dir
from wire.blocklist import BlockList
from wire.errors import MisuseError

__all__ = ["HOST_PORT", "Json", "LinksFrom", "Settings", "Source", "Sources", "seconds", "settings"]


class Encryption(StrEnum):
    prefer = "prefer"
    require = "require"
    off = "off"


class Transport(StrEnum):
    both = "both"
    tcp = "tcp"
    utp = "utp"


@dataclass(frozen=True, slots=True)
class Settings:
    """What every command that talks to others is told."""

    config: Config
    json: bool
    quiet: bool
    verbose: bool


def seconds(text: str | float) -> float:
    """The value of an option that takes a time. Raises click.BadParameter."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise click.BadParameter(f"{text!r} is no number of seconds")
    return value


HOST_PORT = "HOST:PORT"  # such lists are typed Any: their parsers give the types
Source = Annotated[
    str, Argument(metavar="SOURCE", help="A magnet link, a bare info-hash, a .torrent file, or a URL of one.")
]
Sources = Annotated[
    list[str] | None,
    Argument(metavar="SOURCE...", help="Magnet links, bare info-hashes, .torrent files, or URLs of such."),
]
LinksFrom = Annotated[Path | None, Option("--from", metavar="FILE", help="Sources, one a line; '-' reads stdin.")]
Json = Annotated[bool, Option("--json", help="Machine-readable: JSON on stdout.")]


def settings(
    listen: Annotated[
        list[Any] | None,
        Option(parser=endpoint, metavar=HOST_PORT, help="Address for TCP and UDP alike. Default: all, on a free port."),
    ] = None,
    bootstrap: Annotated[
        list[Any] | None,
        Option(parser=host_port, metavar=HOST_PORT, help="DHT node to join by, instead of the public routers."),
    ] = None,
    network: Annotated[
        str | None,
        Option(parser=network_name, metavar="NAME", help="A private DHT of that name, not the mainline DHT."),
    ] = None,
    peer: Annotated[list[Any] | None, Option(parser=host_port, metavar=HOST_PORT, help="A peer to connect to.")] = None,
    tracker: Annotated[
        list[str] | None, Option(metavar="URL", help="A tracker to ask too: http, https or udp.")
    ] = None,
    no_dht: Annotated[bool, Option("--no-dht", help="Do not use the DHT.")] = False,
    no_pex: Annotated[bool, Option("--no-pex", help="Do not exchange peers with peers.")] = False,
    no_lsd: Annotated[bool, Option("--no-lsd", help="Do not look for peers in the local network.")] = False,
    no_trackers: Annotated[bool, Option("--no-trackers", help="Do not ask trackers.")] = False,
    no_web_seeds: Annotated[bool, Option("--no-web-seeds", help="Do not fetch from web seeds.")] = False,
    no_port_mapping: Annotated[
        bool, Option("--no-port-mapping", help="Do not ask the gateway to let our port in.")
    ] = False,
    encryption: Annotated[
        Encryption,
        Option(help="Of connections to peers: encrypted where the peer can, always (RC4), or never."),
    ] = Encryption.prefer,
    transport: Annotated[
        Transport, Option(help="To peers: whichever of TCP and uTP answers first, or one alone.")
    ] = Transport.both,
    block_list: Annotated[
        Path | None,
        Option(metavar="FILE", help="Addresses not to talk to: P2P, DAT or CIDR lines; may be gzipped."),
    ] = None,
    proxy: Annotated[
        Any,
        Option(
            parser=proxy_url,
            metavar="URL",
            help="SOCKS5 for all of it, names too: socks5://[USER:PASSWORD@]HOST:PORT. Nothing goes around it.",
        ),
    ] = None,
    down_limit: Annotated[
        int,
        Option(parser=size, metavar="N", help="Bytes a second, such as 500K or 2M. 0: no limit.", show_default=False),
    ] = 0,
    up_limit: Annotated[
        int,
        Option(parser=size, metavar="N", help="Bytes a second, such as 500K or 2M. 0: no limit.", show_default=False),
    ] = 0,
    timeout: Annotated[
        float,
        Option(
            parser=seconds,
            metavar="SECONDS",
            help="Give up when nothing new has come for so long: no peer, no metadata, no byte. 0: never. "
            f"Default: {DEFAULT_PATIENCE_S:.0f}.",
            show_default=False,
        ),
    ] = DEFAULT_PATIENCE_S,
    deadline: Annotated[
        float | None, Option(parser=seconds, metavar="SECONDS", help="Give up after so long, whatever came.")
    ] = None,
    preallocate: Annotated[
        bool, Option("--preallocate", help="Set the disk space aside first; else files grow, with holes.")
    ] = False,
    state: Annotated[
        Path | None,
        Option(metavar="DIR", help="Keeps DHT nodes, metadata and progress between runs. Default: a user folder."),
    ] = None,
    json: Json = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Only results and errors.")] = False,
    verbose: Annotated[bool, Option("--verbose", "-v", help="More lines, with all counts.")] = False,
) -> Settings:
    """The options that every command shares which talks to others; gives their values as one."""
    if deadline == 0:
        raise MisuseError("--deadline 0 leaves no time at all; leave it out for no deadline")
    config = Config(
        listen=tuple(listen or ()),
        bootstrap=None if bootstrap is None else tuple(bootstrap),
        network=network,
        peers=tuple(peer or ()),
        trackers=tuple(tracker or ()),
        dht=not no_dht,
        pex=not no_pex,
        lsd=not no_lsd,
        use_trackers=not no_trackers,
        web_seeds=not no_web_seeds,
        port_mapping=not no_port_mapping,
        encryption=encryption.value,
        transport=transport.value,
        proxy=proxy,
        block_list=None if block_list is None else BlockList.load(block_list),
        down_limit=down_limit,
        up_limit=up_limit,
        patience_s=timeout,
        deadline_s=deadline,
        preallocate=preallocate,
        state_dir=default_state_dir() if state is None else state,
    )
    return Settings(config, json, quiet, verbose)
