"""What `kademlia-bt bootstrap` does: a router that stays, in one process or in several. Its options stand in cli.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from kademlia_bt.commands.console import ExitCode, complain, emit, run_async, version_of
from kademlia_bt.commands.node import say_stopped, state_folder, status_page
from kademlia_bt.commands.options import Options
from kademlia_bt.commands.telling import NAME, log_to_stderr
from kademlia_bt.dht.private import network_tag
from kademlia_bt.router.core import RouterConfig, RouterStats
from kademlia_bt.router.node import RouterNode
from kademlia_bt.router.pool import RouterPool, can_share_a_port
from kademlia_bt.router.state import files_for
from kademlia_bt.status.views import router_view
from wire.compact import IPV4, IPV6, Endpoint, reach
from wire.errors import NetworkError
from wire.trio_net import TrioNetwork

__all__ = ["DEFAULT_PORT", "RouterOptions", "bootstrap"]

DEFAULT_PORT = 6881
"""A router is found by its address, so its port does not change from run to run."""
_TOLD_S = 60.0


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """What the command is told beside what all commands are."""

    config: RouterConfig
    workers: int
    status: Endpoint | None
    status_names: Sequence[str]


def bootstrap(options: Options, router_options: RouterOptions) -> int:
    """Runs a router until interrupted."""
    log_to_stderr(options.verbose)
    only_loopback = options.listen is not None and all(reach(at.host) == "loopback" for at in options.listen)
    # The nodes of one network are no use to another.
    part = "" if options.network is None else f"network-{network_tag(options.network).hex()}"
    folder = state_folder(options, default=not only_loopback, part=part)
    workers = router_options.workers
    if workers > 1 and not can_share_a_port():
        complain(NAME, "this system does not deal out one port to several processes: running one worker")
        workers = 1

    single: RouterNode | None = None

    async def main() -> int:
        nonlocal single
        listen = options.listen or await _every_address()
        config = router_options.config
        node: RouterNode | RouterPool
        if workers == 1:
            node = single = RouterNode(
                listen=listen,
                bootstrap=options.bootstrap or (),
                state=() if folder is None else files_for(folder, 0, 1),
                allow_local=options.allow_local,
                config=config,
            )
        else:
            node = RouterPool(
                workers=workers,
                listen=listen,
                bootstrap=options.bootstrap or (),
                folder=folder,
                allow_local=options.allow_local,
                config=config,
            )
        program = version_of(NAME)
        page = status_page(
            lambda: router_view(node.stats(), version=program), router_options.status, router_options.status_names
        )
        async with node, page as where, trio.open_nursery() as nursery:
            addresses = [str(endpoint) for endpoint in node.endpoints]
            if options.json:
                more = {} if where is None else {"status": f"http://{where}/"}
                emit({"event": "listening", "addresses": addresses, "node_id": node.node_id.hex(), **more})
            else:
                complain(NAME, f"listening on {', '.join(addresses)}, node id {node.node_id.hex()}")
                if where is not None:
                    complain(NAME, f"status page on http://{where}/")
            nursery.start_soon(_tell, node, options)
            if isinstance(node, RouterPool):
                await node.wait_failed()
            else:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()
        complain(NAME, "a worker process has died: all stop, so that whoever watches them starts them anew")
        return ExitCode.CHECK_FAILED

    code = run_async(main, on_interrupt=ExitCode.DONE)
    is_saved = single is None or single.state_saved  # worker processes tell of their failures themselves
    say_stopped(options, folder if is_saved else None)
    return code


async def _tell(node: RouterNode | RouterPool, options: Options) -> None:
    start = trio.current_time()
    await node.wait_joined()
    seconds = trio.current_time() - start
    if options.json:
        emit({"event": "joined", "nodes": node.stats().nodes, "seconds": round(seconds, 3)})
    else:
        complain(NAME, f"the first node can be handed out after {seconds:.1f} s")
    while True:
        await trio.sleep(_TOLD_S)
        stats = node.stats()
        if options.json:
            emit(
                {
                    "event": "status",
                    "nodes": stats.nodes,
                    "waiting": stats.waiting,
                    "queries": sum(stats.queries.values()),
                    "answers": stats.answers,
                    "handed_out": stats.handed_out,
                    "alive_share": None if stats.alive_share is None else round(stats.alive_share, 3),
                }
            )
        elif options.verbose:
            complain(NAME, _line(stats))


def _line(stats: RouterStats) -> str:
    share = "not measured yet" if stats.alive_share is None else f"{stats.alive_share:.0%} of these answer"
    return (
        f"{stats.nodes} nodes, {stats.waiting} wait for their ping; {sum(stats.queries.values())} queries, "
        f"{stats.answers} answers, {stats.handed_out} nodes handed out, {share}; "
        f"{sum(stats.dropped.values())} dropped"
    )


async def _every_address() -> list[Endpoint]:
    """The wildcards of both families; of one, where this machine lacks the other."""
    found = []
    failure: NetworkError | None = None
    for family in (IPV4, IPV6):
        at = Endpoint(family.any_host, DEFAULT_PORT)
        try:
            (await TrioNetwork().udp(at)).close()
            found.append(at)
        except NetworkError as error:
            failure = failure or error
    if failure is not None and (not found or "another program" in str(failure)):
        raise failure
    return found
