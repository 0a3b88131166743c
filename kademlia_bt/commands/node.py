"""What `kademlia-bt run` does: a node that stays; and what it has in common with a router that stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from kademlia_bt.commands.console import ExitCode, complain, emit, run_async, version_of
from kademlia_bt.commands.options import Options
from kademlia_bt.commands.telling import NAME, joining, log_to_stderr, saying, tried, tried_as_json
from kademlia_bt.dht.events import DhtStats
from kademlia_bt.node import Node
from kademlia_bt.status.views import StatusView, node_view
from wire.compact import Endpoint, reach
from wire.errors import MisuseError

__all__ = ["run", "say_stopped", "state_folder", "status_page"]

_UNREACHABLE_SAID_S = 12.0
"""How long a node that runs waits for a first answer before it tells whom it asked in vain, and goes on."""
_STATUS_SAID_S = 60.0
"""Between the lines that `run -v` writes of itself."""
_LOCAL = ("loopback", "private")


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


@asynccontextmanager
async def _telling_unreachable(node: Node, *, json: bool) -> AsyncIterator[None]:
    """Tells once, where nobody has answered for a while, each address tried and why it leads nowhere."""

    async def tell() -> None:
        await trio.sleep(_UNREACHABLE_SAID_S)
        attempts = node.attempts()
        if node.stats().nodes_answered or not attempts:
            return
        reason = f"no DHT node answered; still trying ({tried(attempts)})"
        if json:
            emit({"event": "unreachable", "verdict": "dht_unreachable", "reason": reason, **tried_as_json(attempts)})
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


def _status(stats: DhtStats) -> str:
    return (
        f"{stats.good} good of {stats.nodes} nodes; {stats.queries} queries, {stats.answers} answers, "
        f"{stats.limited} over the limit, {stats.dropped} dropped; {stats.peers} peers of {stats.torrents} torrents"
    )
