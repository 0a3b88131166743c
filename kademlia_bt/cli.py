"""The command `kademlia-bt`: its words, options and help. What a command does stands in `kademlia_bt.commands`.

Only what is needed to read the command line is imported here, so that help and errors come at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kademlia_bt.console import endpoint, host_port, network_name, size, status_address, version_of
from wire.compact import Endpoint
from wire.errors import ProtocolError
from wire.ids import ID_BYTES, InfoHash

if TYPE_CHECKING:
    from kademlia_bt.commands import Options

__all__ = ["app"]

app = typer.Typer(
    name="kademlia-bt",
    help="A mainline BitTorrent DHT node, and single questions to the DHT.",
    epilog="'kademlia-bt COMMAND --help' tells more.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def _swarm_id(text: str) -> bytes:
    try:
        return InfoHash.parse(text).swarm_ids[0]
    except ProtocolError as error:
        raise typer.BadParameter(str(error)) from None


def _node_id(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES:
        raise typer.BadParameter(f"{text[:80]!r} is no id: it has {2 * ID_BYTES} hex digits")
    return raw


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise typer.BadParameter(f"{text!r} is no number of seconds")
    return value


def _options(
    listen: list[Endpoint] | None,
    bootstrap: list[Any] | None,
    allow_local: bool,
    state: Path | None,
    json: bool,
    verbose: bool,
    timeout: float,
    network: str | None,
) -> Options:
    from kademlia_bt.commands import Options

    return Options(
        listen=tuple(listen) if listen else None,
        bootstrap=tuple(bootstrap) if bootstrap else None,
        allow_local=allow_local or None,
        state_dir=state,
        json=json,
        verbose=verbose,
        timeout_s=timeout,
        network=network,
    )


Listen = Annotated[
    list[Endpoint] | None,
    typer.Option(
        parser=endpoint,
        metavar="HOST:PORT",
        help="Address to bind; may be repeated. Default: all, IPv4 and IPv6, on a free port.",
    ),
]
Bootstrap = Annotated[
    list[Any] | None,  # of (host, port), which typer could not tell from two values
    typer.Option(
        parser=host_port,
        metavar="HOST:PORT",
        help="Node to start from; may be repeated. Replaces the built-in routers.",
    ),
]
AllowLocal = Annotated[
    bool,
    typer.Option("--allow-local", help="Talk to loopback and private addresses though bound to a public one."),
]
State = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder that keeps the node's id and the nodes it knew."),
]
Timeout = Annotated[
    float, typer.Option(parser=_seconds, metavar="SECONDS", help="Gives up after so long; 0 waits for ever.")
]
NetworkName = Annotated[
    str | None,
    typer.Option(
        "--network",
        parser=network_name,
        metavar="NAME",
        help="A private network, apart from the mainline DHT: all of its nodes are given the same name.",
    ),
]
Status = Annotated[
    Endpoint | None,
    typer.Option(
        parser=status_address,
        metavar="[HOST:]PORT",
        help="Serve a status page, /metrics and /healthz there. Default host: loopback.",
    ),
]
StatusNames = Annotated[
    list[str] | None,
    typer.Option("--status-name", metavar="NAME", help="A host name by which the page may be asked for."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout, nothing else there.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Says more on stderr.")]
InfoHashArgument = Annotated[
    bytes, typer.Argument(parser=_swarm_id, metavar="INFOHASH", help="40 hex digits or 32 base32 letters.")
]


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(version_of("kademlia-bt"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command()
def run(
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that keeps the node's id and table. Default: the user's state folder; "
            "with --bootstrap or on loopback alone, none.",
        ),
    ] = None,
    per_ip_limit: Annotated[
        float | None,
        typer.Option(parser=_seconds, metavar="N", help="Queries a second from one address; 0 for no limit."),
    ] = None,
    upload_limit: Annotated[
        int | None,
        typer.Option(parser=size, metavar="N", help="Bytes a second of answers, with K or M; 0 for no limit."),
    ] = None,
    status: Status = None,
    status_name: StatusNames = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Runs a DHT node that stays; others bootstrap from it. Ctrl-C or SIGTERM saves its state and ends it."""
    from kademlia_bt import commands

    return commands.run(
        _options(listen, bootstrap, allow_local, state, json, verbose, 0.0, network),
        per_ip_limit=per_ip_limit,
        upload_limit=upload_limit,
        status=status,
        status_names=tuple(status_name or ()),
    )


@app.command()
def bootstrap(
    listen: Annotated[
        list[Endpoint] | None,
        typer.Option(
            parser=endpoint,
            metavar="HOST:PORT",
            help="Address to bind; may be repeated. Default: all, IPv4 and IPv6, on port 6881.",
        ),
    ] = None,
    bootstrap: Annotated[
        list[Any] | None,
        typer.Option(
            parser=host_port,
            metavar="HOST:PORT",
            help="Another router to learn nodes from; may be repeated. Without one, nodes are known once they ask.",
        ),
    ] = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that keeps id and nodes. Default: the user's state folder; on loopback alone, none.",
        ),
    ] = None,
    nodes: Annotated[
        int, typer.Option(min=1, max=1_000_000, metavar="N", help="Nodes kept of each family.")
    ] = 1_000_000,
    workers: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Processes that share the port, one a core (Linux).")
    ] = 1,
    per_ip_limit: Annotated[
        float | None,
        typer.Option(
            parser=_seconds,
            metavar="N",
            help="Queries a second from one address; 0 for no limit. Default: 5, on local addresses 1000.",
        ),
    ] = None,
    upload_limit: Annotated[
        int,
        typer.Option(parser=size, metavar="N", help="Bytes a second of answers, with K or M; 0 for no limit."),
    ] = "8M",  # type: ignore[assignment]  # which the parser reads
    status: Status = None,
    status_name: StatusNames = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Runs a router for a whole network: nodes ask it for others to start from.

    It hands out nodes that answered a ping long after they asked, so that they are alive and can be reached, and
    pings them again and again. It keeps no routing table and no peers. Ctrl-C or SIGTERM saves its state and ends it.
    """
    from kademlia_bt.private import network_tag
    from kademlia_bt.router import RouterConfig
    from kademlia_bt.router_commands import RouterOptions
    from kademlia_bt.router_commands import bootstrap as run_router

    config = RouterConfig(
        max_nodes=nodes,
        per_ip_limit=per_ip_limit,
        upload_limit=upload_limit,
        network_tag=b"" if network is None else network_tag(network),
    )
    return run_router(
        _options(listen, bootstrap, allow_local, state, json, verbose, 0.0, network),
        RouterOptions(config, workers, status, tuple(status_name or ())),
    )


@app.command()
def ping(
    node: Annotated[Any, typer.Argument(parser=host_port, metavar="HOST:PORT", help="Host may be a name.")],
    listen: Listen = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    timeout: Timeout = 15.0,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Asks one node whether it is there: its id, its program, the round trip, and how it sees us."""
    from kademlia_bt import commands

    return commands.ping(_options(listen, None, allow_local, None, json, verbose, timeout, network), *node)


@app.command("find-node")
def find_node(
    node_id: Annotated[bytes, typer.Argument(parser=_node_id, metavar="ID", help="40 hex digits.")],
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    state: State = None,
    timeout: Timeout = 60.0,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Finds the nodes closest to an id."""
    from kademlia_bt import commands

    return commands.find_node(_options(listen, bootstrap, allow_local, state, json, verbose, timeout, network), node_id)


@app.command("get-peers")
def get_peers(
    info_hash: InfoHashArgument,
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    state: State = None,
    timeout: Timeout = 60.0,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Finds the peers of a torrent, and prints each as it is named."""
    from kademlia_bt import commands

    return commands.get_peers(
        _options(listen, bootstrap, allow_local, state, json, verbose, timeout, network), info_hash
    )


@app.command()
def announce(
    info_hash: InfoHashArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="The TCP port of the peer.")],
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    state: State = None,
    timeout: Timeout = 60.0,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Announces this machine as a peer of a torrent to the nodes closest to it."""
    from kademlia_bt import commands

    return commands.announce(
        _options(listen, bootstrap, allow_local, state, json, verbose, timeout, network), info_hash, port
    )
