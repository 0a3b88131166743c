"""The command `kademlia-bt`: its words, options and help. What they do: node.py, questions.py, router.py.

Only what is needed to read the command line is imported here, so that help and errors come at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from kademlia_bt.commands.cli_items import app as item_commands
from kademlia_bt.commands.cli_options import (
    AllowLocal,
    InfoHashArgument,
    Json,
    NetworkName,
    Status,
    StatusNames,
    Verbose,
    node_id,
    of_a_lookup,
    of_a_node,
    of_a_question,
    options_of,
    queries,
    whole,
)
from kademlia_bt.commands.console import endpoint, host_port, size
from kademlia_bt.commands.front import App, Argument, Option
from kademlia_bt.commands.options import Options
from wire.compact import Endpoint

__all__ = ["app"]

app = App(
    "kademlia-bt",
    help="A mainline BitTorrent DHT node, and single questions to the DHT.",
    epilog="'kademlia-bt COMMAND --help' tells more.",
)


@app.command(shares=of_a_node)
def run(
    settings: Options,
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
) -> int:
    """Runs a DHT node that stays; others bootstrap from it. Ctrl-C or SIGTERM saves its state and ends it."""
    from kademlia_bt.commands import node as commands

    return commands.run(
        replace(settings, state_dir=state),
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
        options_of(listen, bootstrap, allow_local, network, state=state, json=json, verbose=verbose),
        RouterOptions(config, workers, status, tuple(status_name or ())),
    )


@app.command(shares=of_a_question)
def ping(
    settings: Options,
    node: Annotated[Any, Argument(parser=host_port, metavar="HOST:PORT", help="Host may be a name.")],
) -> int:
    """Asks one node whether it is there: its id, its program, the round trip, and how it sees us."""
    from kademlia_bt.commands import questions

    return questions.ping(settings, *node)


@app.command("find-node", shares=of_a_lookup)
def find_node(
    settings: Options,
    target: Annotated[bytes, Argument(parser=node_id, metavar="ID", help="40 hex digits.")],
) -> int:
    """Finds the nodes closest to an id."""
    from kademlia_bt.commands import questions

    return questions.find_node(settings, target)


@app.command("get-peers", shares=of_a_lookup)
def get_peers(
    settings: Options,
    info_hash: InfoHashArgument,
) -> int:
    """Finds the peers of a torrent, and prints each as it is named."""
    from kademlia_bt.commands import questions

    return questions.get_peers(settings, info_hash)


@app.command(shares=of_a_lookup)
def announce(
    settings: Options,
    info_hash: InfoHashArgument,
    port: Annotated[int, Option(parser=whole(1, 65535), metavar="N", help="The TCP port of the peer.")],
) -> int:
    """Announces this machine as a peer of a torrent to the nodes closest to it."""
    from kademlia_bt.commands import questions

    return questions.announce(settings, info_hash, port)


app.include(item_commands)
