"""What the commands of `kademlia-bt` do: a node that stays, and single questions. Their options stand in cli.py.

Results go to stdout (a line a node or peer, or JSON events), everything else to stderr.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from kademlia_bt.answers import QueryError
from kademlia_bt.bootstrap import Attempt
from kademlia_bt.commands.console import ExitCode, complain, emit, one_line, run_async, version_of
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.events import DhtStats
from kademlia_bt.node import Node
from kademlia_bt.status.views import StatusView, node_view
from wire.compact import Endpoint, reach
from wire.errors import MisuseError
from wire.net import Network
from wire.trio_net import TrioNetwork

__all__ = ["Options", "announce", "find_node", "get_peers", "log_to_stderr", "ping", "run", "status_page"]

NAME = "kademlia-bt"

_WAITING_SAID_S = 5.0
"""Between the lines that say what is waited for."""
_UNREACHABLE_SAID_S = 12.0
"""How long a node that runs waits for a first answer before it tells whom it asked in vain, and goes on."""
_MEASURE_S = 1.0
"""For how long a lookup that is over waits until the size of the network is known."""
_STATUS_SAID_S = 60.0
"""Between the lines that `run -v` writes of itself."""
_LOCAL = ("loopback", "private")


@dataclass(frozen=True, slots=True)
class Options:
    """What every command is told."""

    listen: tuple[Endpoint, ...] | None
    bootstrap: tuple[tuple[str, int], ...] | None
    allow_local: bool | None
    state_dir: Path | None
    json: bool
    verbose: bool
    timeout_s: float
    """0: waits for ever."""
    network: str | None = None
    """The name of a private network."""
    outer: Network | None = None
    """The outer world by way of a proxy; None: the machine's own network."""


def run(
    options: Options,
    *,
    per_ip_limit: float | None,
    upload_limit: int | None,
    status: Endpoint | None = None,
    status_names: Sequence[str] = (),
) -> int:
    """Runs a node until interrupted; with `status` it serves its status page there."""
    log_to_stderr(options.verbose)
    only_loopback = options.listen is not None and all(reach(at.host) == "loopback" for at in options.listen)
    folder = state_folder(options, default=options.bootstrap is None and not only_loopback)
    strangers = [host for host, _ in options.bootstrap or () if reach(host) in _LOCAL]
    wide = options.listen is None or any(reach(at.host) not in _LOCAL for at in options.listen)
    if strangers and wide and not options.allow_local:
        complain(NAME, f"{strangers[0]} is a local address and will not be talked to: add --allow-local")

    program = version_of(NAME)
    node: Node | None = None

    async def main() -> int:
        nonlocal node
        node = running = Node(
            listen=options.listen,
            bootstrap=() if only_loopback and options.bootstrap is None else options.bootstrap,
            state=None if folder is None else folder / "dht.state",
            allow_local=options.allow_local,
            per_ip_limit=per_ip_limit,
            upload_limit=upload_limit,
            network_name=options.network,
            network=options.outer,
        )
        async with node, status_page(lambda: node_view(running, version=program), status, status_names) as page:
            addresses = [str(endpoint) for endpoint in node.endpoints]
            if options.json:
                where = {} if page is None else {"status": f"http://{page}/"}
                emit({"event": "listening", "addresses": addresses, "node_id": node.node_id.hex(), **where})
            else:
                complain(NAME, f"listening on {', '.join(addresses)}, node id {node.node_id.hex()}")
                if page is not None:
                    complain(NAME, f"status page on http://{page}/")
            start = trio.current_time()
            async with saying(lambda: joining(node.stats())), _telling_unreachable(node, json=options.json):
                await node.wait_joined()
            seconds = trio.current_time() - start
            if options.json:
                emit({"event": "joined", "nodes": node.stats().nodes, "seconds": round(seconds, 3)})
            else:
                complain(NAME, f"joined: {node.stats().nodes} nodes after {seconds:.1f} s")
            while True:
                await trio.sleep(_STATUS_SAID_S)
                if options.verbose:
                    complain(NAME, _status(node.stats()))

    code = run_async(main, on_interrupt=ExitCode.DONE)
    say_stopped(options, folder if node is not None and node.state_saved else None)
    return code


def state_folder(options: Options, *, default: bool, part: str = "") -> Path | None:
    """The folder that keeps the state: the one that was named, or by `default` the user's. None: nothing is kept.

    `part` names a folder in it. Raises MisuseError where it was named and nothing can be written there.
    """
    folder = options.state_dir
    if folder is None and default:
        import platformdirs  # not needed by those who name a folder

        folder = Path(platformdirs.user_state_dir(NAME, appauthor=False))
    if folder is None:
        return None
    folder /= part
    probe = folder / f".{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        said = f"no state can be kept in {folder}: {error.strerror or error}; name another folder with --state"
        if options.state_dir is not None:
            raise MisuseError(said) from None
        complain(NAME, said)
        return None
    return folder


def say_stopped(options: Options, folder: Path | None) -> None:
    """The last line of a node or router; `folder` is where its state was saved, if it was."""
    if options.json:
        emit({"event": "stopped"})
    else:
        complain(NAME, "stopped" if folder is None else f"stopped; state saved in {folder}")


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


def print_line(text: str) -> None:
    """A result for people, on stdout, at once."""
    sys.stdout.write(one_line(text) + "\n")
    sys.stdout.flush()


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


def failed(
    options: Options,
    verdict: str,
    reason: str,
    stats: DhtStats | None = None,
    attempts: Sequence[Attempt] | None = None,
) -> int:
    complain(NAME, reason)
    if options.json:
        counts: dict[str, object] = {}
        if stats is not None:
            counts = {
                "routers_tried": stats.routers_tried,
                "routers_answered": stats.routers_answered,
                "nodes_asked": stats.nodes_asked,
                "nodes_answered": stats.nodes_answered,
            }
        if attempts is not None:
            counts.update(_as_json(attempts))
        emit({"event": "failed", "verdict": verdict, "reason": reason, **counts})
    return ExitCode.NOT_FOUND


def unreachable(options: Options, stats: DhtStats, attempts: Sequence[Attempt]) -> int:
    """Nobody answered: says whom it asked, and why each led nowhere."""
    return failed(options, "dht_unreachable", f"no DHT node answered ({_tried(attempts)})", stats, attempts)


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


@asynccontextmanager
async def saying(text: Callable[[], str]) -> AsyncIterator[None]:
    """Says on stderr what is being waited for, for as long as the body takes."""

    async def say() -> None:
        said = ""
        while True:
            await trio.sleep(_WAITING_SAID_S)
            if text() != said:  # what has not changed is not said again
                said = text()
                complain(NAME, f"waiting: {said}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _telling_unreachable(node: Node, *, json: bool) -> AsyncIterator[None]:
    """Tells once, where nobody has answered for a while, each address tried and why it leads nowhere."""

    async def tell() -> None:
        await trio.sleep(_UNREACHABLE_SAID_S)
        attempts = node.attempts()
        if node.stats().nodes_answered or not attempts:
            return
        reason = f"no DHT node answered; still trying ({_tried(attempts)})"
        if json:
            emit({"event": "unreachable", "verdict": "dht_unreachable", "reason": reason, **_as_json(attempts)})
        else:
            complain(NAME, reason)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def status_page(
    source: Callable[[], StatusView], at: Endpoint | None, names: Sequence[str]
) -> AsyncIterator[Endpoint | None]:
    """Serves the status page for as long as the body takes, if it is wanted; gives the address."""
    if at is None:
        yield None
        return
    from kademlia_bt.status.app import serve_status  # the web server is loaded by those who want it

    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve_status, source, at, names=names))
        nursery.cancel_scope.cancel()


def _tried(attempts: Sequence[Attempt]) -> str:
    return "; ".join(map(str, attempts)) if attempts else "no node to start from was given"


def _as_json(attempts: Sequence[Attempt]) -> dict[str, object]:
    return {
        "tried": [
            {
                "place": attempt.place,
                "address": None if attempt.endpoint is None else str(attempt.endpoint),
                "answered": attempt.answered,
                "outcome": attempt.outcome,
            }
            for attempt in attempts
        ]
    }


def joining(stats: DhtStats) -> str:
    if not stats.routers_tried and not stats.nodes_asked:
        return "no node to start from is known yet; others may come, or their names are still being resolved"
    return (
        f"{stats.routers_answered} of {stats.routers_tried} first nodes answered, "
        f"{stats.nodes_answered} of {stats.nodes_asked} questions in all"
    )


def _status(stats: DhtStats) -> str:
    return (
        f"{stats.good} good of {stats.nodes} nodes; {stats.queries} queries, {stats.answers} answers, "
        f"{stats.limited} over the limit, {stats.dropped} dropped; {stats.peers} peers of {stats.torrents} torrents"
    )


def log_to_stderr(verbose: bool) -> None:
    """Warnings, and with `verbose` more, as lines on stderr."""
    logging.basicConfig(format=f"{NAME}: %(message)s", level=logging.INFO if verbose else logging.WARNING)
