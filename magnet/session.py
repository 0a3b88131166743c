"""A session: the DHT node, the listeners and the torrents that share them.

TCP and UDP use one port number. Whoever connects says in the handshake which torrent he means
(BEP 3) and is handed to it. The session makes no decision about pieces or peers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from kademlia_bt.node import Node
from magnet.config import Config
from magnet.inputs import read_source, read_torrent
from magnet.link import LinkError, MagnetLink, PointerLink, read_link
from magnet.mapping import mapper_for
from magnet.network import check_proxy, network_of, trouble_of
from magnet.nursery import open_plain_nursery
from magnet.parts import disk_store
from magnet.shelf import Shelf
from magnet.sockets import Sockets, open_sockets
from magnet.task import CACHE, FILE, Shared, StoreFactory, Task
from magnet.torrent import TorrentHandle
from magnet.twins import Twins
from magnet.vault import Vault
from wire.compact import Endpoint, reach
from wire.descriptors import open_files
from wire.errors import MisuseError, NetworkError, ProtocolError
from wire.ids import make_peer_id
from wire.limits import TokenBucket
from wire.lsd_service import LocalDiscovery
from wire.metainfo import Info, Torrent
from wire.net import Listener, Network, Stream
from wire.peer.connection import PeerConnection
from wire.peer.extended import ExtendedHandshake
from wire.peer.handshake import HANDSHAKE_BYTES, SelfConnectionError
from wire.peer.messages import HandshakeReceived
from wire.secure import accept_any
from wire.swarm.crowd import Crowd
from wire.swarm.values import PeerDropped
from wire.tracker.client import TrackerClient

if TYPE_CHECKING:
    from magnet.census import Count
    from magnet.errands import Errands
    from wire.portmap.mapper import PortMapper

__all__ = ["Session"]

_GREETING_S = 10.0
"""Who connects and does not say what he wants within this is sent away."""
_MAX_DEPARTURES = 256
"""Departures of peers that nobody has read; further ones are not told."""
_MAX_GREETINGS = 128
"""Connections that have not said yet what they want; each costs a task and a small buffer."""


class Session:
    """Torrents that share a DHT node and a port. An async context manager (trio); leaving it stops them all.

    `config` is what the command line gives; the default is a dual-stack listener on a free port and
    the built-in DHT routers. `network`, `rng` and `store_factory` are for simulations.

    Raises NetworkError when it cannot listen.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        network: Network | None = None,
        rng: random.Random | None = None,
        store_factory: StoreFactory | None = None,
    ) -> None:
        self._config = config or Config()
        self._network: Network = network_of(self._config, network)
        self._rng = rng or random.SystemRandom()
        self._store_factory = store_factory or partial(disk_store, self._config.preallocate)
        self._departing, self._departures = trio.open_memory_channel[PeerDropped](_MAX_DEPARTURES)
        self._stack = AsyncExitStack()
        self._torrents: list[TorrentHandle] = []
        self._greetings = 0
        self._sockets: Sockets | None = None
        self._nursery: trio.Nursery | None = None
        self._shared: Shared | None = None
        self._mapper: PortMapper | None = None
        self._maps = False
        self._errands: Errands | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            local = self._is_local()
            if self._config.proxy is not None:
                await check_proxy(self._network)
            self._sockets = sockets = await stack.enter_async_context(
                open_sockets(self._config, self._network, self._rng, allow_local=local)
            )
            self._shared = self._share(sockets, local=local)
            self._mapper = mapper_for(self._config, self._network, sockets.endpoints, self._rng)
            # Innermost: the torrents end while the node and the listeners are still there.
            self._nursery = await stack.enter_async_context(open_plain_nursery())
            for listener in sockets.listeners:
                self._nursery.start_soon(self._accept, listener)
            self._nursery.start_soon(sockets.dialler.run)
            if self._shared.neighbours is not None:
                self._nursery.start_soon(self._shared.neighbours.run)
            if sockets.node is not None:
                self._nursery.start_soon(self._rehearse, sockets.node)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._shared = None
        return await self._stack.__aexit__(kind, error, trace)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it listens, TCP and UDP alike."""
        return () if self._sockets is None else self._sockets.endpoints

    @property
    def dialable(self) -> tuple[Endpoint, ...]:
        """Where peers may dial us: `endpoints`, but none behind a proxy."""
        return self.endpoints if self._config.proxy is None else ()

    @property
    def state_dir(self) -> Path | None:
        """Where it keeps what outlives it; None: it keeps nothing."""
        return self._config.state_dir

    @property
    def node(self) -> Node | None:
        """Its DHT node; None without DHT."""
        return None if self._sockets is None else self._sockets.node

    @property
    def trouble(self) -> str | None:
        """Why nothing goes through the proxy now, or no datagrams do: one line; None where all is well."""
        return trouble_of(self._network)

    async def port_mapping(self) -> str | None:
        """Waits until the gateway was asked for our port; one line on what came of it. None: it is not asked."""
        await trio.lowlevel.checkpoint()
        if self._mapper is None:
            return None
        await self._mapper.news.wait()
        mapping = self._mapper.mapping
        if mapping is None:
            return f"no port mapping: {self._mapper.trouble}"
        at = "" if mapping.host is None else f" of {mapping.host}"
        return f"the gateway lets in port {mapping.port}{at} ({mapping.way})"

    @property
    def departures(self) -> trio.MemoryReceiveChannel[PeerDropped]:
        """Whose connection ended, and why: for logs. One reader; what nobody reads is lost beyond the latest 256."""
        return self._departures

    @property
    def torrents(self) -> tuple[TorrentHandle, ...]:
        """What was added and not removed, in order."""
        return tuple(self._torrents)

    async def add(
        self,
        source: str | MagnetLink | PointerLink | Torrent | Path,
        *,
        directory: str | Path = ".",
        only: Sequence[str] = (),
        choose: Callable[[Info], Sequence[bool]] | None = None,
        first: Sequence[str] = (),
        in_order: bool = False,
        metadata_only: bool = False,
        seed: bool = False,
        super_seed: bool = False,
        begun: float | None = None,
    ) -> TorrentHandle:
        """Takes in a torrent and starts on it; returns at once, but for a link of BEP 46 when that was followed.

        Args:
            source: A magnet link, a bare info-hash (hex or base32), a Torrent, or a .torrent file (a Path or its text).
            directory: Where the files lie or will lie; made where it is missing.
            only: Shell patterns of the files to download, matched against the path inside the torrent and
                against the file name, in any case; none: what the link selects (BEP 53), or all.
            choose: Called with the metadata, says for each file whether it is wanted; takes the place of `only`.
            first: Shell patterns, as in `only`, of the files to fetch before the others.
            in_order: Fetch pieces from the first to the last, not the rarest first; a swarm is better served without.
            metadata_only: Stop at the metadata, write no file.
            seed: Share what `directory` holds and download nothing; it is checked first (`finished` waits for that).
            super_seed: With `seed`, as the first of a swarm: show each peer one piece at a time, so that little more
                than one copy is given before there are other seeds (BEP 16).
            begun: Since when it is waited for, where that is longer (`trio.current_time()`).

        Raises ProtocolError for a broken link or .torrent, ResolveError where a link of BEP 46 leads nowhere,
        MisuseError where a file cannot be read, the torrent is in the session already, or the session is not open.
        """
        if self._shared is None or self._nursery is None:
            raise MisuseError("the session is not open: use 'async with Session() as session'")
        task = replace(
            await self._task(source, self._shared.vault),
            directory=Path(directory),
            only=tuple(only),
            choose=choose,
            first=tuple(first),
            in_order=in_order,
            metadata_only=metadata_only,
            seed=seed,
            super_seed=super_seed,
            begun=begun,
        )
        if any(task.link.info_hash.matches(handle.info_hash) for handle in self._torrents):
            raise MisuseError(f"the torrent {task.link.info_hash} is in this session already")
        handle = TorrentHandle(task, self._shared, self._scouting() if metadata_only else None)
        self._torrents.append(handle)
        self._nursery.start_soon(self._run, handle)
        if self._mapper is not None and not metadata_only and not self._maps:
            self._maps = True
            self._nursery.start_soon(self._mapper.run)
        return handle

    async def fetch(self, link: MagnetLink) -> tuple[Torrent, str] | None:
        """The metadata of a link that names a peer, and by whom, where it is had at once; None: `add` it, and see.

        No source is asked, nobody but that peer hears of it, and it is not among `torrents`. Raises MisuseError where
        the session is not open.
        """
        if self._shared is None or self._nursery is None:
            raise MisuseError("the session is not open: use 'async with Session() as session'")
        if any(link.info_hash.matches(handle.info_hash) for handle in self._torrents):
            return None
        return await self._running_errands().fetch(link)

    async def locate(self, link: PointerLink) -> MagnetLink:
        """The link of the torrent that a link of BEP 46 (`magnet:?xs=urn:btpk:...`) names now.

        Raises ResolveError where no DHT node knows, within the config's patience, and MisuseError without DHT.
        """
        if self.node is None:
            raise MisuseError("a link of BEP 46 (xs=urn:btpk:) is followed by the DHT, which is off")
        from magnet.pointer import locate  # not needed by those who give other links

        config = self._config
        return await locate(self.node, link, min(filter(None, (config.patience_s, config.deadline_s)), default=0.0))

    async def census(self, of: Torrent | MagnetLink, *, within_s: float = 15.0) -> list[Count]:
        """How many share a torrent: by its trackers (BEP 48), and by the DHT (BEP 33) if it is not private (BEP 27)."""
        if self._shared is None:
            raise MisuseError("the session is not open: use 'async with Session() as session'")
        from magnet.census import take_census  # not needed to download

        return await take_census(self._shared, of, within_s)

    async def _task(self, source: str | MagnetLink | PointerLink | Torrent | Path, vault: Vault) -> Task:
        parsed = source if isinstance(source, MagnetLink | PointerLink | Torrent) else await _read(source)
        if isinstance(parsed, PointerLink):
            parsed = await self.locate(parsed)
        if isinstance(parsed, Torrent):
            return Task(link=MagnetLink.of(parsed), torrent=parsed, via=FILE)
        return Task(link=parsed, torrent=await vault.load(parsed.info_hash), via=CACHE)

    def _scouting(self) -> Errands | None:
        errands = self._running_errands()
        return errands if errands.can_be_run else None

    def _running_errands(self) -> Errands:
        if self._errands is None:
            from magnet.errands import Errands  # not needed by those who want more than metadata

            assert self._shared is not None
            assert self._nursery is not None
            self._errands = Errands(self._shared)
            self._nursery.start_soon(self._errands.run)
        return self._errands

    async def _run(self, handle: TorrentHandle) -> None:
        try:
            await handle.run()
        finally:
            self._torrents.remove(handle)

    async def _rehearse(self, node: Node) -> None:
        """Where it has joined before anything was asked of it, the first link is prepared for."""
        await node.wait_joined()
        if not self._torrents:
            from magnet.rehearsal import rehearse  # not needed by who has a link already

            await rehearse(self._config.encryption, lambda: not self._torrents)

    def _is_local(self) -> bool:
        """Whether addresses of this machine and its private network are believed when strangers name them."""
        config = self._config
        if config.allow_local is not None:
            return config.allow_local
        hosts = [endpoint.host for endpoint in config.listen] + [host for host, _ in config.bootstrap or ()]
        return any(reach(host) in ("loopback", "private") for host in hosts)

    def _share(self, sockets: Sockets, *, local: bool) -> Shared:
        config, now = self._config, trio.current_time()
        looks_around = config.lsd and config.proxy is None
        trackers = TrackerClient(self._network, sockets.pumps, self._rng, near=local)
        return Shared(
            config=config,
            network=self._network,
            dialler=sockets.dialler,
            rng=self._rng,
            node=sockets.node,
            trackers=trackers if config.use_trackers else None,
            neighbours=LocalDiscovery(self._network, sockets.endpoints, self._rng) if looks_around else None,
            peer_id=make_peer_id(self._rng),
            port=sockets.endpoints[0].port,
            local=local,
            down=_bucket(config.down_limit, now),
            up=_bucket(config.up_limit, now),
            store_factory=self._store_factory,
            vault=Vault(config.state_dir),
            departures=self._departing,
            shelf=Shelf(config.state_dir),
            twins=Twins(),
            crowd=Crowd(min(config.max_connections, open_files() // 2)),
        )

    # whom it lets in

    async def _accept(self, listener: Listener) -> None:
        assert self._nursery is not None
        while True:
            stream = await listener.accept()
            if self._greetings >= _MAX_GREETINGS or not self._torrents:
                stream.close()
            else:
                self._greetings += 1
                self._nursery.start_soon(self._greet, stream)

    async def _greet(self, stream: Stream) -> None:
        """Waits for the handshake, then hands the connection to its torrent; closes it where there is none."""
        adopted = False
        try:
            with trio.move_on_after(_GREETING_S):
                ours = [swarm_id for handle in self._torrents for swarm_id in handle.info_hash.swarm_ids]
                said = await accept_any(stream, ours, self._config.encryption, self._rng)
                adopted = await self._introduce(said)
        except NetworkError:
            pass  # he left
        except ProtocolError as error:  # he spoke something else
            with suppress(trio.WouldBlock):
                self._departing.send_nowait(PeerDropped(stream.remote, str(error), banned=False))
        finally:
            self._greetings -= 1
            if not adopted:
                stream.close()

    async def _introduce(self, stream: Stream) -> bool:
        shared = self._shared
        if shared is None:
            return False
        connection = PeerConnection(
            peer_id=shared.peer_id,
            info_hash=None,
            extended=ExtendedHandshake(),
            now=trio.current_time(),
            dht=shared.node is not None,
        )
        said = bytearray()
        while count := await stream.receive_into(buffer := connection.buffer()):
            said += buffer[: min(count, HANDSHAKE_BYTES - len(said))]
            try:
                events = connection.received(count, trio.current_time())
            except SelfConnectionError:
                # The DHT told us of ourselves. Our words are said back, so that our dialling end knows them again.
                await stream.send_all([said])
                return False
            for at, event in enumerate(events):
                if isinstance(event, HandshakeReceived):
                    handle = self._named(event.info_hash)
                    if handle is None:
                        return False
                    handle.runner.adopt(stream, connection, events[at:])
                    return True
        return False

    def _named(self, swarm_id: bytes) -> TorrentHandle | None:
        for handle in self._torrents:
            if swarm_id in handle.info_hash.swarm_ids:
                return handle
        return None


def _bucket(rate_bytes_s: int, now: float) -> TokenBucket | None:
    return TokenBucket(rate_bytes_s, rate_bytes_s, now) if rate_bytes_s else None


async def _read(source: str | Path) -> MagnetLink | PointerLink | Torrent:
    if isinstance(source, Path):
        return await trio.to_thread.run_sync(read_torrent, source)
    try:
        return read_link(source)
    except LinkError:
        if _is_meant_as_link(source):
            raise
        return await trio.to_thread.run_sync(read_source, source)  # perhaps the path of a file


def _is_meant_as_link(text: str) -> bool:
    return text.lstrip().lower().startswith("magnet:")
