"""A bootstrap router over real sockets: the trio face of `kademlia_bt.router.core`. Shell.

It binds the sockets, pumps them, finds other routers by name, and saves the ring. What is handed to whom is decided
in the core. Several processes on one port: see pool.py.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

import trio

from kademlia_bt.bootstrap import literals
from kademlia_bt.dht.apart import not_apart
from kademlia_bt.router.core import Router, RouterConfig, RouterStats
from kademlia_bt.router.state import RouterState, load, save
from kademlia_bt.sockets import bind
from wire.compact import Endpoint, Family
from wire.errors import DiskError, MisuseError, NetworkError, ProtocolError
from wire.net import Network
from wire.trio_net import TrioNetwork
from wire.udp import UdpPump

__all__ = ["RouterNode"]

_log = logging.getLogger(__name__)

_SAVE_S = 300.0
_RESOLVE_S = 15.0
_RESOLVE_AGAIN_S = (5.0, 15.0, 60.0, 600.0)
"""Between rounds of looking up the other routers' names: addresses change, and a network may come late."""
_RESTORED_AT_ONCE = 1_000
"""Nodes taken up before others get their turn: some 10 ms."""
_THREAD_FROM_BYTES = 1 << 20
"""A smaller ring is saved in less time than a thread takes to start."""


class RouterNode:
    """A bootstrap router. Use it as an async context manager; all else needs it to be open."""

    def __init__(
        self,
        *,
        listen: Sequence[Endpoint],
        bootstrap: Sequence[tuple[str, int]] = (),
        state: Sequence[Path] = (),
        network: Network | None = None,
        rng: random.Random | None = None,
        allow_local: bool | None = None,
        config: RouterConfig | None = None,
        secret: bytes | None = None,
        ids: Mapping[Family, Sequence[bytes]] | None = None,
    ) -> None:
        """Prepares a router; `async with` opens it.

        Args:
            listen: Where to bind, one or more of each family; the IPv6 wildcard as in `Node`.
            bootstrap: Other routers (host or address, port), to learn nodes from.
            state: The file that keeps ids and ring between runs, then others that it takes over. Empty: nothing is
                kept.
            network: The outer world; tests pass a virtual one.
            rng: The source of chance; unpredictable by default.
            allow_local: Whether to talk to loopback and private addresses. None: where the bound address is one.
            config: Limits.
            secret: Of 32 bytes, shared by the processes of one port.
            ids: Node ids by family in the order of `listen`, for processes that share a port; else they come from
                `state`, or are made.

        Raises MisuseError for a bootstrap port outside 1..65535. Opening it raises NetworkError where it cannot bind.
        """
        if not listen:
            raise MisuseError("a router needs an address to listen on")
        self._listen = listen
        self._others, self._names = literals(bootstrap)
        self._files = list(state)
        self._network: Network = TrioNetwork() if network is None else network
        self._rng = random.SystemRandom() if rng is None else rng
        self._allow_local = allow_local
        self._config = RouterConfig() if config is None else config
        self._secret = secret
        self._ids = ids
        self._router: Router | None = None
        self._pumps: list[UdpPump] = []
        self._parts: AsyncExitStack | None = None
        self._joined = trio.Event()
        self._restored = False
        self._save_failed = False
        self.state_saved = False
        """Whether the last save of the state succeeded."""

    async def __aenter__(self) -> RouterNode:
        if self._parts is not None:
            raise MisuseError("a router is opened once")
        self._parts = parts = AsyncExitStack()
        try:
            await self._open(parts)
        except BaseException:
            await parts.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._parts is not None
        await self._parts.aclose()

    async def _open(self, parts: AsyncExitStack) -> None:
        now = trio.current_time()
        saved = [self._load(path) for path in self._files]
        # Not the clock of the machine's timers: what processes of one port agree on, whose timers start anywhere.
        router = Router(self._config, self._rng, now, secret=self._secret, clock_offset_s=time.time() - now)
        ids = self._ids if self._ids is not None else saved[0].ids if saved else {}
        sockets = await bind(self._network, self._listen, self._allow_local, parts)
        for socket in sockets:
            family = socket.family
            before = sum(face.family is family for face in router.faces)
            known = ids.get(family, ())
            face = router.add_face(
                family,
                known[before] if before < len(known) else None if before else self._first_id(router),
                now,
                allow_local=socket.allow_local,
                bound=socket.bound,
            )
            pump = UdpPump(socket.datagrams, settled=self._settle)
            pump.add(face)
            self._pumps.append(pump)
        for line in not_apart((socket.bound, None) for socket in sockets):
            _log.warning("%s", line)
        self._router = router
        router.add_others(self._others, now)
        nursery = await parts.enter_async_context(trio.open_nursery())
        parts.callback(nursery.cancel_scope.cancel)
        parts.callback(self._save_last)
        for pump, socket in zip(self._pumps, sockets, strict=True):
            nursery.start_soon(self._pump, pump)
            nursery.start_soon(socket.follow)
        nursery.start_soon(self._restore, router, saved)
        if self._names:
            nursery.start_soon(self._resolve, router)
        self._settle()

    async def _pump(self, pump: UdpPump) -> None:
        with contextlib.suppress(NetworkError):  # its socket was closed: on the way out
            await pump.run()

    def _first_id(self, router: Router) -> bytes | None:
        """The same id on both families (BEP 32)."""
        return router.faces[0].node_id if router.faces else None

    def _load(self, path: Path) -> RouterState:
        try:
            return load(path)
        except (ProtocolError, DiskError) as error:
            _log.warning("%s", error)
            return RouterState()

    async def _restore(self, router: Router, saved: list[RouterState]) -> None:
        for state in saved:
            for family, nodes in state.nodes.items():
                step = _RESTORED_AT_ONCE * family.node_bytes
                for at in range(0, len(nodes), step):
                    router.restore(family, nodes[at : at + step])
                    self._settle()
                    await trio.lowlevel.checkpoint()
        saved.clear()
        self._restored = True
        while self._files:
            await trio.sleep(_SAVE_S)
            state = self._state(router)
            size = sum(map(len, state.nodes.values()))
            with self._told_once():
                if size < _THREAD_FROM_BYTES:
                    save(self._files[0], state)
                else:
                    await trio.to_thread.run_sync(save, self._files[0], state)
                self._drop_taken_over()

    def _save_last(self) -> None:
        if self._files and self._restored and self._router is not None:
            with self._told_once():
                save(self._files[0], self._state(self._router))
                self._drop_taken_over()

    def _drop_taken_over(self) -> None:
        for path in self._files[1:]:
            with contextlib.suppress(OSError):
                path.unlink()
        del self._files[1:]

    @contextlib.contextmanager
    def _told_once(self) -> Iterator[None]:
        try:
            yield
            self.state_saved = True
        except DiskError as error:
            self.state_saved = False
            if not self._save_failed:
                _log.warning("%s", error)
            self._save_failed = True

    def _state(self, router: Router) -> RouterState:
        ids: dict[Family, tuple[bytes, ...]] = {}
        for face in router.faces:
            ids[face.family] = (*ids.get(face.family, ()), face.node_id)
        return RouterState(ids, router.dump())

    async def _resolve(self, router: Router) -> None:
        rounds = 0
        while True:
            for host, port in self._names:
                with trio.move_on_after(_RESOLVE_S), contextlib.suppress(NetworkError):
                    router.add_others(await self._network.resolve(host, port), trio.current_time())
            await trio.sleep(_RESOLVE_AGAIN_S[min(rounds, len(_RESOLVE_AGAIN_S) - 1)])
            rounds += 1

    def _settle(self) -> None:
        router = self._router
        assert router is not None
        for face, pump in zip(router.faces, self._pumps, strict=True):
            if face.has_outgoing:
                pump.wake()
        if not self._joined.is_set() and any(len(keeper.ring) for _, keeper in router.keepers):
            self._joined.set()

    @property
    def router(self) -> Router:
        """The machine. Raises MisuseError before it is open."""
        if self._router is None:
            raise MisuseError("the router is not open: use it inside `async with`")
        return self._router

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Where it is bound, one a socket, in the order of `listen`."""
        return [pump.endpoint for pump in self._pumps]

    @property
    def node_id(self) -> bytes:
        """The id of its first socket: 20 bytes. It changes when the external address asks for another (BEP 42)."""
        return self.router.faces[0].node_id

    async def wait_joined(self) -> None:
        """Returns once it has a node to hand out. May wait for ever where nobody comes: bound the time."""
        await self._joined.wait()

    def stats(self) -> RouterStats:
        """A snapshot."""
        return self.router.stats(trio.current_time())
