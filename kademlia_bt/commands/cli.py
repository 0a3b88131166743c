"""The command `kademlia-bt`: its words, options and help. What a command does stands in `kademlia_bt.commands.node`.

Only what is needed to read the command line is imported here, so that help and errors come at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from kademlia_bt.commands.cli_items import app as item_commands
from kademlia_bt.commands.cli_options import (
    AllowLocal,
    Bootstrap,
    InfoHashArgument,
    Json,
    Listen,
    NetworkName,
    ProxyUrl,
    State,
    Status,
    StatusNames,
    Timeout,
    Verbose,
    node_id,
    options_of,
    queries,
    whole,
)
from kademlia_bt.commands.console import endpoint, host_port, size
from kademlia_bt.commands.front import App, Argument, Option
from wire.compact import Endpoint

__all__ = ["app"]

app = App(
    "kademlia-bt",
    help="A mainline BitTorrent DHT node, and single questions to the DHT.",
    epilog="'kademlia-bt COMMAND --help' tells more.",
)


@app.command()
def run(
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    proxy: ProxyUrl = None,
    state: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Folder that keeps the node's id and table. Default: the user's state folder; "
            "with --bootstrap or on loopback alone, none.",
        ),
    ] = None,
    per_ip_limit: Annotated[
        float | None,
        Option(parser=queries, metavar="N", help="Queries a second from one address; 0 for no limit."),
    ] = None,
    upload_limit: Annotated[
        int | None,
        Option(parser=size, metavar="N", help="Bytes a second of answers, with K or M; 0 for no limit."),
    ] = None,
    status: Status = None,
    status_name: StatusNames = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Runs a DHT node that stays; others bootstrap from it. Ctrl-C or SIGTERM saves its state and ends it."""
    from kademlia_bt.commands import node as commands

    return commands.run(
        options_of(listen, bootstrap, allow_local, state, json, verbose, 0.0, network, proxy),
        per_ip_limit=per_ip_limit,
        upload_limit=upload_limit,
        status=status,
        status_names=tuple(status_name or ()),
    )


@app.command()
def bootstrap(
    listen: Annotated[
        list[Endpoint] | None,
        Option(
            parser=endpoint,
            metavar="HOST:PORT",
            help="Address to bind; may be repeated. Default: all, IPv4 and IPv6, on port 6881.",
        ),
    ] = None,
    bootstrap: Annotated[
        list[Any] | None,
        Option(
            parser=host_port,
            metavar="HOST:PORT",
            help="Another router to learn nodes from; may be repeated. Without one, nodes are known once they ask.",
        ),
    ] = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    state: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Folder that keeps id and nodes. Default: the user's state folder; on loopback alone, none.",
        ),
    ] = None,
    nodes: Annotated[
        int,
        Option(parser=whole(1, 1_000_000), metavar="N", help="Nodes kept of each family, at most 1000000."),
    ] = 1_000_000,
    workers: Annotated[
        int,
        Option(
            parser=whole(1, 256), metavar="N", help="Processes that share the port, one a core (Linux); at most 256."
        ),
    ] = 1,
    per_ip_limit: Annotated[
        float | None,
        Option(
            parser=queries,
            metavar="N",
            help="Queries a second from one address; 0 for no limit. Default: 5, on local addresses 1000.",
        ),
    ] = None,
    upload_limit: Annotated[
        int,
        Option(parser=size, metavar="N", help="Bytes a second of answers, with K or M; 0 for no limit."),
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
    from kademlia_bt.commands.router import RouterOptions
    from kademlia_bt.commands.router import bootstrap as run_router
    from kademlia_bt.dht.private import network_tag
    from kademlia_bt.router.core import RouterConfig

    config = RouterConfig(
        max_nodes=nodes,
        per_ip_limit=per_ip_limit,
        upload_limit=upload_limit,
        network_tag=b"" if network is None else network_tag(network),
    )
    return run_router(
        options_of(listen, bootstrap, allow_local, state, json, verbose, 0.0, network),
        RouterOptions(config, workers, status, tuple(status_name or ())),
    )


@app.command()
def ping(
    node: Annotated[Any, Argument(parser=host_port, metavar="HOST:PORT", help="Host may be a name.")],
    listen: Listen = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    proxy: ProxyUrl = None,
    timeout: Timeout = 15.0,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Asks one node whether it is there: its id, its program, the round trip, and how it sees us."""
    from kademlia_bt.commands import node as commands

    return commands.ping(options_of(listen, None, allow_local, None, json, verbose, timeout, network, proxy), *node)


@app.command("find-node")
def find_node(
    target: Annotated[bytes, Argument(parser=node_id, metavar="ID", help="40 hex digits.")],
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    proxy: ProxyUrl = None,
    state: State = None,
    timeout: Timeout = 60.0,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Finds the nodes closest to an id."""
    from kademlia_bt.commands import node as commands

    return commands.find_node(
        options_of(listen, bootstrap, allow_local, state, json, verbose, timeout, network, proxy), target
    )


@app.command("get-peers")
def get_peers(
    info_hash: InfoHashArgument,
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    proxy: ProxyUrl = None,
    state: State = None,
    timeout: Timeout = 60.0,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Finds the peers of a torrent, and prints each as it is named."""
    from kademlia_bt.commands import node as commands

    return commands.get_peers(
        options_of(listen, bootstrap, allow_local, state, json, verbose, timeout, network, proxy), info_hash
    )


@app.command()
def announce(
    info_hash: InfoHashArgument,
    port: Annotated[int, Option(parser=whole(1, 65535), metavar="N", help="The TCP port of the peer.")],
    listen: Listen = None,
    bootstrap: Bootstrap = None,
    allow_local: AllowLocal = False,
    network: NetworkName = None,
    proxy: ProxyUrl = None,
    state: State = None,
    timeout: Timeout = 60.0,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Announces this machine as a peer of a torrent to the nodes closest to it."""
    from kademlia_bt.commands import node as commands

    return commands.announce(
        options_of(listen, bootstrap, allow_local, state, json, verbose, timeout, network, proxy), info_hash, port
    )


app.include(item_commands)
