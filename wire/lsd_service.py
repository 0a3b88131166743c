"""Local discovery for a session: the sockets in BEP 14's multicast groups, and who waits for neighbours there."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable

import trio

from wire.compact import IPV4, Endpoint, reach
from wire.errors import NetworkError
from wire.lsd import GROUP_V4, GROUP_V6, Lsd
from wire.net import Datagrams, Network

__all__ = ["LocalDiscovery"]

_log = logging.getLogger(__name__)

_BUFFERED = 64
"""Neighbours that nobody has taken yet; what comes beyond is announced again in five minutes."""


class LocalDiscovery:
    """Announces torrents into the local network and hears of others that share them, while `run` runs.

    `endpoints`: where the session listens. Loopback is no local network: who listens there alone announces nothing.
    """

    def __init__(self, network: Network, endpoints: Iterable[Endpoint], rng: random.Random) -> None:
        self._network = network
        places: dict[Endpoint, tuple[str, Lsd]] = {}
        for at in endpoints:
            group = GROUP_V4 if at.family is IPV4 else GROUP_V6
            if reach(at.host) != "loopback":
                places.setdefault(group, (at.host, Lsd(group, at.port, rng)))
        self._places = places
        self._waiting: dict[bytes, trio.MemorySendChannel[Endpoint]] = {}
        self._stirred = trio.Event()

    def join(self, swarm_id: bytes) -> trio.MemoryReceiveChannel[Endpoint]:
        """Announces a torrent (20 bytes) from now on; neighbours that share it come out of the channel.

        Never to be called for a private torrent (BEP 27).
        """
        send, receive = trio.open_memory_channel[Endpoint](_BUFFERED)
        self._waiting[swarm_id] = send
        for _, machine in self._places.values():
            machine.add(swarm_id, trio.current_time())
        self._stir()
        return receive

    def leave(self, swarm_id: bytes) -> None:
        """No more; its channel ends."""
        for _, machine in self._places.values():
            machine.remove(swarm_id)
        if (send := self._waiting.pop(swarm_id, None)) is not None:
            send.close()

    async def run(self) -> None:
        """Works until cancelled. A network without multicast is no error: then nobody is found there."""
        async with trio.open_nursery() as nursery:
            for group, (at, machine) in self._places.items():
                try:
                    socket = await self._network.multicast(group, at)
                except NetworkError as error:
                    _log.info("no local discovery: %s", error)
                    continue
                nursery.start_soon(self._live, socket, group, machine)

    async def _live(self, socket: Datagrams, group: Endpoint, machine: Lsd) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._speak, socket, group, machine)
                await self._listen(socket, machine)
        finally:
            socket.close()

    async def _listen(self, socket: Datagrams, machine: Lsd) -> None:
        while True:
            for data, source in await socket.receive():
                neighbour = machine.receive(data, source)
                if neighbour is None or reach(source.host) in ("unspecified", "invalid"):
                    continue
                for swarm_id in neighbour.info_hashes:
                    if (send := self._waiting.get(swarm_id)) is not None:
                        try:
                            send.send_nowait(neighbour.endpoint)
                        except (trio.WouldBlock, trio.BrokenResourceError):
                            break

    async def _speak(self, socket: Datagrams, group: Endpoint, machine: Lsd) -> None:
        while True:
            stirred = self._stirred
            for data in machine.tick(trio.current_time()):
                socket.send(data, group)
            timer = machine.next_timer()
            with trio.move_on_at(float("inf") if timer is None else timer):
                await stirred.wait()

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = trio.Event()
