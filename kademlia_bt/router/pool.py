"""A bootstrap router as several processes on one port, where the system deals out datagrams by sender. Shell.

Each process (worker.py) has a ring of its own; what an address sends always reaches the same one. They
share a secret, so that ids agree and an answer is understood whoever asked; small rings lend each other nodes.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import trio

from kademlia_bt.router.core import RouterConfig, RouterStats
from kademlia_bt.router.state import RouterState, files_for, load
from kademlia_bt.router.worker import Orders, json_lines
from wire.compact import IPV6, Endpoint
from wire.errors import DiskError, MisuseError, ProtocolError, WorldError
from wire.net import network_error
from wire.routes import global_ipv6

__all__ = ["RouterPool", "can_share_a_port"]

_log = logging.getLogger(__name__)

_HOME = str(Path(__file__).resolve().parents[2])
"""Where this package is found, for a process that starts elsewhere."""
_SECRET_BYTES = 32
_READY_S = 60.0
_END_S = 20.0
"""How long a worker may take to save its ring."""


def can_share_a_port() -> bool:
    """Whether several sockets on one UDP port get each their share (Linux 3.9, FreeBSD 12)."""
    return sys.platform == "linux" or hasattr(socket, "SO_REUSEPORT_LB")


def _bind(at: Endpoint) -> socket.socket:
    sock = socket.socket(at.family.af, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if at.family is IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        option: int = getattr(socket, "SO_REUSEPORT_LB", None) or socket.SO_REUSEPORT
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind((at.host, at.port))
    except OSError as error:
        sock.close()
        raise network_error("open UDP", at, error) from error
    return sock


class RouterPool:
    """A bootstrap router of several processes. Use it as an async context manager, like `RouterNode`."""

    def __init__(
        self,
        *,
        workers: int,
        listen: Sequence[Endpoint],
        bootstrap: Sequence[tuple[str, int]] = (),
        folder: Path | None = None,
        allow_local: bool | None = None,
        config: RouterConfig | None = None,
    ) -> None:
        """Prepares the processes; `async with` starts them. Limits and `max_nodes` of `config` are for all together.

        Raises MisuseError where this system cannot share a port. Opening it raises NetworkError where it cannot bind,
        and WorldError where a process does not start.
        """
        if workers < 1 or not can_share_a_port():
            raise MisuseError("this system cannot deal out one UDP port to several processes")
        self._workers = workers
        self._listen = listen
        self._bootstrap = bootstrap
        self._folder = folder
        self._allow_local = allow_local
        self._config = RouterConfig() if config is None else config
        self._parts: AsyncExitStack | None = None
        self._latest: dict[int, RouterStats] = {}
        self._lends: dict[int, dict[str, str]] = {}
        self._processes: list[trio.Process] = []
        self._ready = trio.Event()
        self._joined = trio.Event()
        self._failed = trio.Event()
        self._ending = False
        self.endpoints: Sequence[Endpoint] = ()
        """Where it is bound, in the order of `listen`."""

    async def __aenter__(self) -> RouterPool:
        self._parts = parts = AsyncExitStack()
        try:
            await self._open(parts)
        except BaseException:
            await self._close(parts)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._parts is not None
        await self._close(self._parts)

    async def _open(self, parts: AsyncExitStack) -> None:
        sockets: list[list[socket.socket]] = []
        bound: list[Endpoint] = []
        for at in self._listen:
            # One global address of several, as others know a node by it (BEP 32): workers cannot move with it.
            host = (global_ipv6() if at.host == IPV6.any_host else None) or at.host
            first = parts.enter_context(_bind(Endpoint(host, at.port)))
            bound.append(Endpoint(host, first.getsockname()[1]))
            sockets.append([first])
        for _ in range(self._workers - 1):  # bound in order, as the system numbers them
            for group, where in zip(sockets, bound, strict=True):
                group.append(parts.enter_context(_bind(where)))
        self.endpoints = bound
        ids = self._saved_ids()
        secret = secrets.token_hex(_SECRET_BYTES)
        nursery = await parts.enter_async_context(trio.open_nursery())
        parts.callback(nursery.cancel_scope.cancel)
        for worker in range(self._workers):
            own = [group[worker] for group in sockets]
            orders = Orders(
                sockets=tuple(sock.fileno() for sock in own),
                bootstrap=tuple(self._bootstrap),
                state=tuple(map(str, files_for(self._folder, worker, self._workers))) if self._folder else (),
                allow_local=self._allow_local,
                max_nodes=max(1, self._config.max_nodes // self._workers),
                per_ip_limit=self._config.per_ip_limit,
                upload_limit=-(-self._config.upload_limit // self._workers),
                network_tag=self._config.network_tag.hex(),
                secret=secret,
                ids=ids,
            )
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "kademlia_bt.router.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=orders.sockets,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([_HOME, *filter(None, [os.environ.get("PYTHONPATH")])]),
                },
            )
            self._processes.append(process)
            assert process.stdin is not None
            await process.stdin.send_all(json.dumps(asdict(orders)).encode() + b"\n")
            nursery.start_soon(self._hear, worker, process)
        for group in sockets:
            for sock in group:
                sock.close()  # the workers have theirs; one more in the port's group would swallow its share
        with trio.move_on_after(_READY_S):
            await self._ready.wait()
        if len(self._latest) < self._workers or self._failed.is_set():
            raise WorldError("a worker process did not start")

    def _saved_ids(self) -> dict[str, tuple[str, ...]]:
        """All workers are one node to the outside: they get the ids of the first, or some that are made here."""
        saved = RouterState()
        if self._folder is not None:
            try:
                saved = load(files_for(self._folder, 0, self._workers)[0])
            except (ProtocolError, DiskError) as error:
                _log.warning("%s", error)
        ids: dict[str, tuple[str, ...]] = {}
        shared = secrets.token_hex(20)
        for at in self._listen:
            before = ids.get(at.family.name, ())
            known = saved.ids.get(at.family, ())
            fresh = shared if not before else secrets.token_hex(20)  # one for both families (BEP 32), else BEP 45
            ids[at.family.name] = (*before, known[len(before)].hex() if len(before) < len(known) else fresh)
        return ids

    async def _hear(self, worker: int, process: trio.Process) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            async with aclosing(json_lines(process.stdout)) as lines:
                async for told in lines:
                    self._latest[worker] = stats = RouterStats.from_json(told["stats"])
                    self._lends[worker] = told["lend"]
                    if stats.nodes:
                        self._joined.set()
                    if len(self._latest) == self._workers:
                        self._ready.set()
                    lent: dict[str, str] = {}
                    for other, lends in self._lends.items():
                        if other != worker:
                            for family, nodes in lends.items():
                                lent[family] = lent.get(family, "") + nodes
                    await process.stdin.send_all(json.dumps({"lent": lent}).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has ended
        if not self._ending:
            self._failed.set()
            self._ready.set()

    async def _close(self, parts: AsyncExitStack) -> None:
        self._ending = True
        with trio.CancelScope(shield=True):
            for process in self._processes:
                if process.stdin is not None:
                    await process.stdin.aclose()
            with trio.move_on_after(_END_S):
                for process in self._processes:
                    await process.wait()
            for process in self._processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        await parts.aclose()
        for process in self._processes:
            if process.stdout is not None:
                with trio.CancelScope(shield=True):
                    await process.stdout.aclose()

    @property
    def node_id(self) -> bytes:
        """The id of its first socket."""
        return self.stats().faces[0].node_id

    async def wait_joined(self) -> None:
        """Returns once it has a node to hand out."""
        await self._joined.wait()

    async def wait_failed(self) -> None:
        """Returns when a process has ended that nobody told to."""
        await self._failed.wait()

    def stats(self) -> RouterStats:
        """A snapshot of all processes together, a second old at most."""
        return RouterStats.total([self._latest[worker] for worker in sorted(self._latest)])
