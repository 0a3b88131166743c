"""A DHT node over real sockets: the trio face of `kademlia_bt.dht.core` (BEP 5, 32, 42, 43).

It binds the sockets, pumps them, finds the first nodes, saves the table, and turns the core's events
into answers that a caller awaits. What a node knows and decides stands in the core; names and
saved files stand in bootstrap.py and state.py.

    async with Node() as node:
        async for endpoint in node.get_peers(info_hash):
            ...
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType

import trio

from kademlia_bt.answers import PeerSearch, Pong, QueryError
from kademlia_bt.asking import Asking
from kademlia_bt.bootstrap import ROUTERS, Attempt, Starts, keep_resolving
from kademlia_bt.dht.apart import not_apart
from kademlia_bt.dht.confidence import Confidence
from kademlia_bt.dht.config import DhtConfig
from kademlia_bt.dht.contact import Contact
from kademlia_bt.dht.core import Dht
from kademlia_bt.dht.events import (
    Answered,
    DhtStats,
    ExternalAddress,
    Health,
    HealthChanged,
    Joined,
    LookupDone,
    LookupReport,
    PeersFound,
    Unanswered,
)
from kademlia_bt.dht.lookup import Lookup
from kademlia_bt.dht.lookups import FindNode, GetPeers, LookupKind
from kademlia_bt.dht.picture import TableView, table_view
from kademlia_bt.dht.private import network_tag
from kademlia_bt.dht.questions import AskNodes, Ping, Question, QuestionKind
from kademlia_bt.sockets import bind, bind_everywhere
from kademlia_bt.state import Keeper
from wire.compact import Endpoint, Family
from wire.errors import MisuseError
from wire.ids import ID_BYTES
from wire.net import Network
from wire.trio_net import TrioNetwork
from wire.udp import News, UdpPump

__all__ = ["Node", "PeerSearch", "Pong", "QueryError"]

_log = logging.getLogger(__name__)

_SAVE_S = 300.0
"""Between saves of the table: what a crash loses of it is found again in seconds."""


class _Pending:
    """A question whose asker waits."""

    __slots__ = ("arrived", "outcome")

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.outcome: Answered | Unanswered | None = None


class Node(Asking):
    """A DHT node. Use it as an async context manager; all else needs it to be open."""

    def __init__(
        self,
        *,
        listen: Sequence[Endpoint] | None = None,
        bootstrap: Sequence[tuple[str, int]] | None = None,
        state: Path | None = None,
        network: Network | None = None,
        rng: random.Random | None = None,
        read_only: bool = False,
        allow_local: bool | None = None,
        per_ip_limit: float | None = None,
        upload_limit: int | None = None,
        network_name: str | None = None,
    ) -> None:
        """Prepares a node; `async with` opens it.

        Args:
            listen: Where to bind, one or more of each family. The IPv6 wildcard stands for the machine's global
                address, where it has one, and follows it (BEP 32). None: both wildcards on one free port; a machine
                without IPv6 then does without.
            bootstrap: Nodes to start from as (host or address, port); replaces the built-in routers. Empty: waits
                for others to come, or for `add_node`.
            state: File that keeps node ids and the table between runs. None: nothing is kept.
            network: The outer world; tests pass a virtual one.
            rng: The source of chance; unpredictable by default.
            read_only: Asks but does not answer (BEP 43).
            allow_local: Whether to talk to loopback and private addresses. None: where the bound address is one.
            per_ip_limit: Queries a second that one address may send; 0 for no limit; None for the default of the core.
            upload_limit: Bytes a second of answers; 0 for no limit; None for the default of the core.
            network_name: A private network: its nodes and those of other networks do not hear each other. It has no
                built-in routers, and a state file of its own beside `state`. None: the mainline DHT.

        Raises MisuseError for a bootstrap port outside 1..65535 or an impossible network name. Opening it raises
        NetworkError where it cannot bind.
        """
        if listen is not None and not listen:
            raise MisuseError("a node needs an address to listen on")
        self._listen = listen
        tag = b"" if network_name is None else network_tag(network_name)
        self._routers = bootstrap is None and not tag
        self._starts = Starts(ROUTERS if self._routers else bootstrap or ())
        if state is not None and tag:
            state = state.with_name(f"{state.stem}-{tag.hex()}{state.suffix}")
        self._keeper = Keeper(state)
        self._network: Network = TrioNetwork() if network is None else network
        self._rng = random.SystemRandom() if rng is None else rng
        self._allow_local = allow_local
        self._config = DhtConfig(read_only=read_only, per_ip_limit=per_ip_limit, upload_limit=upload_limit, network=tag)
        self._open_parts: AsyncExitStack | None = None
        self._core: Dht | None = None
        self._pumps: list[UdpPump] = []
        self._joined = trio.Event()
        self._health_changed = trio.Event()
        self._opened_at = 0.0
        self._searches: dict[Lookup, PeerSearch] = {}
        self._questions: dict[Question, _Pending] = {}
        self._told: list[str] = []
        self._closed = False

    async def __aenter__(self) -> Node:
        if self._open_parts is not None:
            raise MisuseError("a node is opened once")
        self._open_parts = parts = AsyncExitStack()
        try:
            await self._open(parts)
        except BaseException:
            await parts.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The tasks end here without the body's error, which so leaves as it came, in no group.
        assert self._open_parts is not None
        await self._open_parts.aclose()

    async def _open(self, parts: AsyncExitStack) -> None:
        now = self._opened_at = trio.current_time()
        parts.enter_context(self._keeper)
        dht = self._core = Dht(self._config, self._rng, now)
        if self._listen is None:
            sockets = await bind_everywhere(self._network, self._allow_local, parts)
        else:
            sockets = await bind(self._network, self._listen, self._allow_local, parts)
        for socket in sockets:
            node_id = self._id_for(socket.family)
            face = dht.add_face(socket.family, node_id, now, allow_local=socket.allow_local, bound=socket.bound)
            pump = UdpPump(socket.datagrams, settled=self._settle, told=self._tell)
            pump.add(face)
            self._pumps.append(pump)
        self._tell_not_apart()
        nursery = await parts.enter_async_context(_background())
        parts.callback(self._close)
        dht.import_nodes(self._keeper.kept.nodes, now)
        if self._starts.literals:
            dht.add_bootstrap(self._starts.literals, now, routers=self._routers)
        for pump, socket in zip(self._pumps, sockets, strict=True):
            nursery.start_soon(pump.run)
            nursery.start_soon(socket.follow)
        if self._starts.names:
            nursery.start_soon(self._resolve_names)
        if self._keeper.saves:
            nursery.start_soon(self._save_now_and_then)
        self._settle()

    def _id_for(self, family: Family) -> bytes | None:
        # The same id on both families (BEP 32), but another on each socket of one family (BEP 45).
        faces = self._dht.faces
        nth = sum(face.family is family for face in faces)
        kept = self._keeper.id_of(family, nth)
        return faces[0].node_id if kept is None and faces and not nth else kept

    async def _resolve_names(self) -> None:
        def found(host: str, port: int, endpoints: list[Endpoint]) -> None:
            if self._closed:  # this task may have its last turn after `_close`
                return
            self._starts.found(host, port, endpoints)
            self._dht.add_bootstrap(endpoints, trio.current_time(), routers=self._routers)
            self._settle()

        await keep_resolving(
            self._starts.names,
            self._network,
            found=found,
            failed=self._starts.failed,
            alone=lambda: self._dht.health == "broken",
        )

    async def _save_now_and_then(self) -> None:
        await self._joined.wait()
        while True:
            self._save()
            await trio.sleep(_SAVE_S)

    def _save(self) -> None:
        if not self._closed:
            self._keeper.save(self._dht.faces, self._dht.export_nodes())

    def _close(self) -> None:
        self._save()
        self._closed = True
        self._health_changed.set()
        for search in self._searches.values():
            search.finish(None)
        for pending in self._questions.values():
            pending.arrived.set()
        self._searches.clear()

    def _search(
        self, kind: LookupKind, take: Callable[[Sequence[Endpoint]], None] | None = None, *, ready: bool = False
    ) -> PeerSearch:
        if len(kind.target) != ID_BYTES:
            raise MisuseError(f"a target is {ID_BYTES} bytes long, not {len(kind.target)}")
        lookup = self._dht.start(kind, trio.current_time())
        search = self._searches[lookup] = PeerSearch(lookup, self._end_search, take)
        news = self._tell()  # of peers that announced themselves to us
        if not ready or news is News.PRESSING:
            for pump in self._pumps:
                pump.go_after(news)
        self._settle()
        return search

    def _end_search(self, search: PeerSearch) -> None:
        if not search.done:
            self._dht.cancel(search.lookup, trio.current_time())
            self._settle()
            search.finish(None)

    async def _look_up(self, kind: LookupKind) -> int:
        async with self._search(kind) as search:
            await search.wait_done()
            return search.announced

    async def _ask(self, endpoint: Endpoint, kind: QuestionKind) -> Answered:
        question = self._dht.query(endpoint, kind, trio.current_time())
        pending = self._questions[question] = _Pending()
        try:
            self._settle()
            await pending.arrived.wait()
        finally:
            del self._questions[question]
        outcome = pending.outcome
        if isinstance(outcome, Answered):
            return outcome
        if outcome is None:
            raise QueryError(endpoint, "cancelled")
        raise QueryError(endpoint, outcome.reason, outcome.error)

    def _settle(self) -> None:
        """After anything that the core was told: hands out its events, and sends what any face has to say."""
        self._tell()
        dht = self._core
        assert dht is not None
        for face, pump in zip(dht.faces, self._pumps, strict=True):
            if face.has_outgoing:
                pump.wake()

    def _tell(self) -> News:
        """Hands out the core's events."""
        dht = self._core
        assert dht is not None
        news = News.NONE
        if dht.has_events:
            news = News.SOME
            for event in dht.events():
                if isinstance(event, PeersFound):
                    news = News.PRESSING
                    if (search := self._searches.get(event.lookup)) is not None:
                        search.take(event.endpoints)
                elif isinstance(event, LookupDone):
                    if (search := self._searches.pop(event.lookup, None)) is not None:
                        search.finish(event)
                elif isinstance(event, Answered | Unanswered):
                    if (pending := self._questions.get(event.question)) is not None:
                        pending.outcome = event
                        pending.arrived.set()
                elif isinstance(event, Joined):
                    self._joined.set()
                elif isinstance(event, ExternalAddress):
                    self._tell_not_apart()
                elif isinstance(event, HealthChanged):
                    self._health_changed.set()
                    self._health_changed = trio.Event()
        return news

    def _tell_not_apart(self) -> None:
        """Warns, once, of sockets that are one to others."""
        for line in not_apart((face.bound, face.external) for face in self._dht.faces):
            if line not in self._told:
                self._told.append(line)
                _log.warning("%s", line)

    @property
    def _dht(self) -> Dht:
        if self._core is None or self._closed:
            raise MisuseError("the node is not open: use it inside `async with`")
        return self._core

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Where it is bound, one a socket, in the order of `listen`."""
        return [pump.endpoint for pump in self._pumps]

    @property
    def externals(self) -> list[Endpoint]:
        """Where others see its sockets (BEP 42), as far as they agree; the last ones once it is closed."""
        faces = () if self._core is None else self._core.faces
        return [face.external for face in faces if face.external is not None]

    @property
    def pumps(self) -> Sequence[UdpPump]:
        """One a socket, in the order of `endpoints`: for other protocols that share the port."""
        return tuple(self._pumps)

    @property
    def node_id(self) -> bytes:
        """The id of its first socket: 20 bytes. It changes when the external address asks for another (BEP 42)."""
        return self._dht.faces[0].node_id

    @property
    def state_saved(self) -> bool:
        """Whether the last save of the state succeeded."""
        return self._keeper.saved

    @property
    def joined(self) -> bool:
        """Whether it has known live nodes and looked up its neighbourhood, on any family."""
        return self._joined.is_set()

    async def wait_joined(self) -> None:
        """Returns once it has joined. May wait for ever where nobody answers: bound the time."""
        await self._joined.wait()

    def get_peers(
        self,
        info_hash: bytes,
        *,
        announce_port: int | None = None,
        implied_port: bool = False,
        seed: bool = False,
        take: Callable[[Sequence[Endpoint]], None] | None = None,
        ready: bool = False,
    ) -> PeerSearch:
        """Starts a search for peers; with `announce_port` or `implied_port` it announces us at its end.

        `take` gets the peers in place of the iterator, at the moment they come in: it must be quick and raise nothing.
        `ready`: it needs no task that the caller is about to start; else these have their turn before answers are read.
        Needs no join: it starts from whatever is known, and waits for the first nodes where nothing is.
        Raises MisuseError for an info-hash that is not 20 bytes.
        """
        kind = GetPeers(info_hash, announce_port=announce_port, implied_port=implied_port, seed=seed)
        return self._search(kind, take, ready=ready)

    async def announce(self, info_hash: bytes, port: int | None, *, seed: bool = False) -> int:
        """Announces a peer at `port` (None: the UDP port that the nodes see) and returns how many nodes took it."""
        async with self.get_peers(info_hash, announce_port=port, implied_port=port is None, seed=seed) as search:
            await search.wait_done()
            return search.announced

    async def ping(self, endpoint: Endpoint) -> Pong:
        """Asks whether a node is there. Raises QueryError with the reason where it does not answer."""
        answer = await self._ask(endpoint, Ping())
        return Pong(answer.node.id, answer.node.endpoint, answer.rtt_s, answer.version, answer.own_address)

    async def find_node(self, target: bytes, endpoint: Endpoint | None = None) -> list[Contact]:
        """The nodes closest to `target`, closest first: as one node says, or, without `endpoint`, by a lookup.

        Raises MisuseError for a target that is not 20 bytes, and QueryError where the one node does not answer.
        """
        if endpoint is not None:
            return list((await self._ask(endpoint, AskNodes(target))).nodes)
        async with self._search(FindNode(target)) as search:
            await search.wait_done()
            return list(search.closest)

    def judge(self, target: bytes, closest: Sequence[Contact]) -> tuple[Confidence, ...]:
        """How far the closest nodes that a lookup found can be trusted, for each family: by what is known now.

        The network's size is measured by the join and after it: what could not be judged before then can be later.
        """
        return self._dht.judge(target, closest)

    def add_node(self, endpoint: Endpoint) -> None:
        """Names a node, from a PORT message or a torrent: pinged first, kept if it answers."""
        self._dht.add_node(endpoint, trio.current_time())
        self._settle()

    @property
    def health(self) -> Health:
        """How well it is connected: `broken`, `poor`, `firewalled` or `good` (see `kademlia_bt.dht.events.Health`)."""
        return self._dht.health

    async def wait_health(self, *wanted: Health) -> Health:
        """Returns once the health is one of the `wanted`, or, where none are named, once it is another than now.

        Gives the health back. Like `wait_joined`, it may wait for ever. Raises MisuseError once the node is closed.
        """
        await trio.lowlevel.checkpoint()
        before = self.health
        while (self.health not in wanted) if wanted else (self.health == before):
            await self._health_changed.wait()
        return self.health

    @property
    def uptime_s(self) -> float:
        """Seconds since it was opened."""
        return trio.current_time() - self._opened_at

    def attempts(self) -> list[Attempt]:
        """How it went with each place to start from, given or built in: for who must know why nobody answers."""
        unsent = {endpoint for pump in self._pumps for endpoint in pump.unsent_to}
        families = {face.family for face in self._dht.faces}
        return self._starts.attempts(self._dht.stats().starters, unsent, families)

    def lookups(self) -> list[LookupReport]:
        """The lookups under way and the last 50 that are over, the latest first."""
        return self._dht.lookups(trio.current_time())

    def tables(self) -> list[TableView]:
        """What each socket's routing table holds."""
        now = trio.current_time()
        return [table_view(face.table, now) for face in self._dht.faces]

    def stats(self) -> DhtStats:
        """A snapshot of the counts; the last one once it is closed."""
        if self._core is None:
            raise MisuseError("the node was never opened")
        return self._core.stats()


@asynccontextmanager
async def _background() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()
