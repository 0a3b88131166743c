"""What the commands do that ask the DHT one thing: each with a node of its own that lives for as long as that takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from kademlia_bt.answers import QueryError
from kademlia_bt.commands.console import ExitCode, complain, emit, one_line, run_async
from kademlia_bt.commands.options import Options
from kademlia_bt.commands.telling import NAME, failed, joining, log_to_stderr, print_line, saying, unreachable
from kademlia_bt.dht.contact import Contact
from kademlia_bt.node import Node
from wire.compact import Endpoint, reach
from wire.errors import MisuseError
from wire.trio_net import TrioNetwork

__all__ = ["announce", "find_node", "get_peers", "literals_of", "ping", "run_lookup", "short_node"]

_MEASURE_S = 1.0
"""For how long a lookup that is over waits until the size of the network is known."""
_LOCAL = ("loopback", "private")


def ping(options: Options, host: str, port: int) -> int:
    """Asks one node whether it is there."""

    async def main() -> int:
        endpoint = (await (options.outer or TrioNetwork()).resolve(host, port))[0]
        async with short_node(options, [endpoint], alone=True) as node:
            try:
                with trio.fail_after(options.timeout_s or float("inf")):
                    pong = await node.ping(endpoint)
            except QueryError as error:
                return failed(options, "dht_unreachable", str(error))
            except trio.TooSlowError:
                return failed(options, "dht_unreachable", f"{endpoint} did not answer in {options.timeout_s:g} s")
        version = one_line((pong.version or b"").decode("latin-1"))
        if options.json:
            emit(
                {
                    "event": "pong",
                    "address": str(pong.endpoint),
                    "node_id": pong.node_id.hex(),
                    "seconds": round(pong.rtt_s, 6),
                    "version": None if pong.version is None else pong.version.hex(),
                    "own_address": None if pong.own_address is None else str(pong.own_address),
                }
            )
        else:
            seen = f", sees us as {pong.own_address}" if pong.own_address else ""
            print_line(f"{pong.node_id.hex()} {pong.endpoint} {pong.rtt_s * 1000:.1f} ms {version}{seen}")
        return ExitCode.DONE

    return run_async(main)


def find_node(options: Options, target: bytes) -> int:
    """Finds the nodes closest to an id."""

    async def ask(node: Node) -> int:
        async with saying(lambda: joining(node.stats())):
            closest = await node.find_node(target)
        for contact in closest:
            if options.json:
                emit({"event": "node", "node_id": contact.id.hex(), "address": str(contact.endpoint)})
            else:
                print_line(str(contact))
        await _say_confidence(options, node, target, closest)
        return len(closest)

    return run_lookup(options, ask, verdict="dht_unreachable", nothing="no node answered")


def get_peers(options: Options, info_hash: bytes) -> int:
    """Finds the peers of a torrent."""

    async def ask(node: Node) -> int:
        search = node.get_peers(info_hash)
        async with saying(lambda: f"{joining(node.stats())}; {search.found} peers"), search:
            async for endpoint in search:
                if options.json:
                    emit({"event": "peer", "address": str(endpoint)})
                else:
                    print_line(str(endpoint))
        await _say_confidence(options, node, info_hash, search.closest)
        return search.found

    return run_lookup(options, ask, verdict="no_peers", nothing="no node knows a peer of this torrent")


def announce(options: Options, info_hash: bytes, port: int) -> int:
    """Announces this machine as a peer of a torrent."""

    async def ask(node: Node) -> int:
        async with saying(lambda: joining(node.stats())):
            stored = await node.announce(info_hash, port)
        if stored and not options.json:
            print_line(f"{stored} nodes took the announce")
        return stored

    return run_lookup(options, ask, verdict="dht_unreachable", nothing="no node took the announce")


async def _say_confidence(options: Options, node: Node, target: bytes, closest: Sequence[Contact]) -> None:
    """Says how far the closest nodes can be trusted: on stderr, or as an event; unasked only where they cannot be."""
    if not closest:
        return
    # Joining measures the network. What was found is not lost to a time-out meanwhile.
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _MEASURE_S):
        await node.wait_joined()
    for confidence in node.judge(target, closest):
        if options.json:
            emit(
                {
                    "event": "confidence",
                    "family": confidence.family.name,
                    "nodes": confidence.nodes,
                    "secure": confidence.secure,
                    "network_size": confidence.network_size,
                    "density": None if confidence.density is None else round(confidence.density, 2),
                    "eclipse_likely": confidence.eclipse_likely,
                }
            )
        else:
            if options.verbose:
                complain(NAME, confidence.summary)
            if confidence.warning is not None:
                complain(NAME, f"warning: {confidence.warning}")


def run_lookup(
    options: Options,
    ask: Callable[[Node], Awaitable[int]],
    *,
    verdict: str,
    nothing: str,
    refusal: Callable[[], str | None] = lambda: None,
) -> int:
    """Runs one lookup in a node of its own; `ask` prints what it finds and returns how much that was.

    `refusal` may tell, once nothing was found, that the others did not want it.
    """

    async def main() -> int:
        start = trio.current_time()
        async with short_node(options, literals_of(options.bootstrap)) as node:
            found = 0
            with trio.move_on_after(options.timeout_s or float("inf")) as waiting:
                found = await ask(node)
            stats, attempts = node.stats(), node.attempts()
        if found:
            if options.json:
                seconds = round(trio.current_time() - start, 3)
                counts = {"asked": stats.nodes_asked, "answered": stats.nodes_answered}
                emit({"event": "done", "found": found, "seconds": seconds, **counts})
            return ExitCode.DONE
        if not stats.nodes_answered:
            return unreachable(options, stats, attempts)
        if said := refusal():
            return failed(options, "refused", said, stats)
        late = f" within {options.timeout_s:g} s" if waiting.cancelled_caught else ""
        return failed(options, verdict, f"{nothing}{late} ({joining(stats)})", stats)

    return run_async(main)


@asynccontextmanager
async def short_node(options: Options, named: Sequence[Endpoint], *, alone: bool = False) -> AsyncIterator[Node]:
    """A node for one question. It answers nobody (BEP 43): it will be gone before it is asked again.

    Local addresses that the user `named` are permission enough to talk to such. `alone`: it joins no DHT.
    """
    log_to_stderr(options.verbose)
    allow_local = options.allow_local
    if allow_local is None and any(reach(endpoint.host) in _LOCAL for endpoint in named):
        allow_local = True
    async with Node(
        listen=options.listen,
        bootstrap=() if alone else options.bootstrap,
        state=None if options.state_dir is None else options.state_dir / "dht.state",
        allow_local=allow_local,
        read_only=True,
        network_name=options.network,
        network=options.outer,
    ) as node:
        yield node


def literals_of(hosts: Sequence[tuple[str, int]] | None) -> list[Endpoint]:
    endpoints = []
    for host, port in hosts or ():
        try:
            endpoints.append(Endpoint.of(host, port))
        except MisuseError:
            continue  # a name: the node resolves it
    return endpoints
