"""Asking one tracker, whichever way it speaks: HTTP over `wire.http`, UDP over the session's own sockets (BEP 3, 15).

A tracker with addresses of both families is asked on both, with one key, so that it knows us by both addresses (BEP 7,
15). When to ask which tracker is not decided here, but in `announcer` and `tiers`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import trio

from wire.compact import IPV4, IPV6, Endpoint, Family, reach
from wire.errors import NetworkError, ProtocolError, WireError
from wire.http import NoAddressError, fetch, is_near_literal
from wire.net import Buffer, Datagrams, Network
from wire.tracker import http_codec
from wire.tracker.udp_codec import ConnectionIds, UdpAnnounce, UdpScrape
from wire.tracker.urls import check_tracker_url
from wire.tracker.values import Announce, AnnounceReply, ScrapeReply, TrackerError
from wire.udp import UdpPump

__all__ = ["Answer", "TrackerClient", "UdpDesk"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

UDP_PATIENCE_S = 45.0
"""The first two time-outs of BEP 15, 15 and 30 s; its eight would keep those who wait for more than two hours."""
OTHER_FAMILY_S = 2.0
"""How long an answer that is there waits for that of the other address family."""


class _Conversation(Protocol[T_co]):
    tracker: Endpoint
    failed: bool

    def outgoing(self) -> list[bytes]: ...
    def next_timer(self) -> float: ...
    def tick(self, now: float) -> None: ...
    def receive(self, data: bytes, now: float) -> T_co | None: ...


class _Waiting(Generic[T]):
    """Somebody who waits for the end of a conversation."""

    __slots__ = ("answer", "arrived", "error", "talk")

    def __init__(self, talk: _Conversation[T]) -> None:
        self.talk = talk
        self.arrived = trio.Event()
        self.answer: T | None = None
        self.error: WireError | None = None

    def receive(self, data: bytes, now: float) -> None:
        try:
            self.answer = self.talk.receive(data, now)
        except ProtocolError as error:
            self.error = error
        if self.answer is not None or self.error is not None:
            self.arrived.set()

    def tick(self, now: float) -> None:
        self.talk.tick(now)
        if self.talk.failed:
            self.error = _silence(self.talk.tracker)
            self.arrived.set()

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        return self.answer


class UdpDesk:
    """A tenant of a UDP socket (`wire.udp.Tenant`) that holds conversations with trackers.

    Their packets begin with an action of four bytes, 0 to 3: the first byte is zero, which neither KRPC nor uTP is.
    """

    def __init__(self, pump: UdpPump) -> None:
        self._pump = pump
        self._waiting: dict[_Waiting[object], None] = {}
        pump.add(self)

    @property
    def family(self) -> Family:
        """Whom it can speak to."""
        return self._pump.endpoint.family

    async def ask(self, talk: _Conversation[T]) -> T:
        """Holds a conversation to its end. Raises TrackerError, ProtocolError, or NetworkError for silence."""
        waiting = _Waiting(talk)
        self._waiting[waiting] = None  # type: ignore[index]  # the table does not care for what they wait
        try:
            self._pump.wake()
            await waiting.arrived.wait()
        finally:
            del self._waiting[waiting]  # type: ignore[arg-type]
        return waiting.outcome()

    def claims(self, first_byte: int) -> bool:
        """Whether a datagram that begins so is a tracker's."""
        return first_byte == 0

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        """Takes a datagram; what nobody waits for is dropped."""
        for waiting in self._waiting:
            if waiting.talk.tracker == address and not waiting.arrived.is_set():
                waiting.receive(data, now)

    def outgoing(self) -> list[tuple[Buffer, Endpoint]]:
        """What is to be sent, drained."""
        return [(data, waiting.talk.tracker) for waiting in self._waiting for data in waiting.talk.outgoing()]

    def next_timer(self) -> float | None:
        """When `tick` is wanted next."""
        return min((w.talk.next_timer() for w in self._waiting if not w.arrived.is_set()), default=None)

    def tick(self, now: float) -> None:
        """Asks again where it is time."""
        for waiting in self._waiting:
            if not waiting.arrived.is_set():
                waiting.tick(now)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tracker said, on all families together, and whether it lives in a network of ours."""

    reply: AnnounceReply
    is_near: bool


class TrackerClient:
    """Speaks to trackers for all torrents of a session.

    `pumps`: the session's UDP sockets. `near`: whether trackers that strangers name may be in this machine's own
    networks; where the URL says so for all to see they may, at the path that trackers have.
    """

    def __init__(self, network: Network, pumps: Sequence[UdpPump], rng: random.Random, *, near: bool) -> None:
        self._network = network
        self._rng = rng
        self._near = near
        self._ids = ConnectionIds()
        desks = [UdpDesk(pump) for pump in pumps]
        self._desks = {desk.family: desk for desk in reversed(desks)}
        self.key = rng.getrandbits(32)
        """Who we are, to a tracker that sees us at several addresses."""

    async def announce(self, url: str, said: Announce, *, near: bool = False, leaving: bool = False) -> Answer:
        """Announces. Raises TrackerError for a refusal, ProtocolError for nonsense, NetworkError for all else.

        `near`: a person named this tracker, so it may be anywhere. `leaving`: use no socket of the session, it may be
        gone already; bound the time.
        """
        parts = urlsplit(check_tracker_url(url))
        near = near or self._near or _is_openly_near(url)
        if parts.scheme.lower() != "udp":
            return await _on_each_family(
                lambda family: self._announce_http(url, said, family, near=near), _families(url)
            )
        data = parts.path + (f"?{parts.query}" if parts.query else "")

        async def ask(at: Endpoint) -> Answer:
            talk = UdpAnnounce(at, said, data, self._ids, self._rng, trio.current_time())
            reply = await self._converse(at, talk, leaving=leaving)
            return Answer(reply, reach(at.host) != "global")

        return await _on_each_family(ask, await self._udp_addresses(url, near=near))

    async def scrape(self, url: str, info_hash: bytes, *, near: bool = False) -> ScrapeReply:
        """The tracker's counts for a torrent (BEP 48, BEP 15). Raises as `announce`, MisuseError where it has none."""
        near = near or self._near or _is_openly_near(url)
        row: ScrapeReply | None
        if urlsplit(check_tracker_url(url)).scheme.lower() == "udp":
            at = (await self._udp_addresses(url, near=near))[0]
            talk = UdpScrape(at, [info_hash], self._ids, self._rng, trio.current_time())
            rows = await self._converse(at, talk, leaving=False)
            row = rows[0] if rows else None
        else:
            page = http_codec.scrape_url(url, [info_hash])
            reply = await fetch(self._network, page, near=near, max_bytes=http_codec.MAX_REPLY_BYTES)
            row = http_codec.parse_scrape(reply.body, info_hash)
        if row is None:
            raise TrackerError("it does not know this torrent")
        return row

    async def _announce_http(self, url: str, said: Announce, family: Family | None, *, near: bool) -> Answer:
        page = http_codec.announce_url(url, said)
        reply = await fetch(self._network, page, near=near, max_bytes=http_codec.MAX_REPLY_BYTES, family=family)
        try:
            told = http_codec.parse_announce(reply.body)
        except TrackerError:
            raise
        except ProtocolError as error:
            raise error if reply.status == 200 else NetworkError(f"the server says {reply.status}") from None
        return Answer(told, reach(reply.server.host) != "global")

    async def _udp_addresses(self, url: str, *, near: bool) -> list[Endpoint]:
        """One of each family that we have a socket of."""
        parts = urlsplit(url)
        named = await self._network.resolve(parts.hostname or "", parts.port or 0)
        usable = [at for at in named if at.port and (not self._desks or at.family in self._desks)]
        allowed = [at for at in usable if _may_send(at, near=near)]
        if not usable:
            raise NetworkError(f"{parts.hostname} has no address of a family that we have")
        if not allowed:
            raise NetworkError(f"{parts.hostname} leads to {usable[0].host}, an address of this network")
        first: dict[Family, Endpoint] = {}
        for at in allowed:
            first.setdefault(at.family, at)
        return list(first.values())

    async def _converse(self, at: Endpoint, talk: _Conversation[T], *, leaving: bool) -> T:
        with trio.move_on_after(UDP_PATIENCE_S):
            desk = self._desks.get(at.family)
            if leaving or desk is None:
                return await _ask_alone(self._network, talk)
            return await desk.ask(talk)
        raise _silence(at)


def _is_openly_near(url: str) -> bool:
    """Whether it names a place nearby for all to see; over HTTP, only where trackers are: links come from strangers."""
    if not is_near_literal(url):
        return False
    parts = urlsplit(url)
    return parts.scheme.lower() == "udp" or parts.path.rpartition("/")[2].startswith("announce")


def _may_send(at: Endpoint, *, near: bool) -> bool:
    place = reach(at.host)
    return place == "global" or (near and place in ("loopback", "private"))


def _families(url: str) -> Sequence[Family | None]:
    host = urlsplit(url).hostname or ""
    return (None,) if reach(host) != "invalid" else (IPV4, IPV6)  # an address has one family, a name perhaps both


async def _ask_alone(network: Network, talk: _Conversation[T]) -> T:
    """A conversation over a socket of its own."""
    family = talk.tracker.family
    socket = await network.udp(Endpoint(family.any_host, 0))
    waiting = _Waiting(talk)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, socket, waiting)
            while not waiting.arrived.is_set():
                for data in talk.outgoing():
                    socket.send(data, talk.tracker)
                with trio.move_on_at(talk.next_timer()):
                    await waiting.arrived.wait()
                if not waiting.arrived.is_set():
                    waiting.tick(trio.current_time())
            nursery.cancel_scope.cancel()
    finally:
        socket.close()
    return waiting.outcome()


async def _listen(socket: Datagrams, waiting: _Waiting[T]) -> None:
    while not waiting.arrived.is_set():
        for data, source in await socket.receive():
            if source == waiting.talk.tracker and not waiting.arrived.is_set():
                waiting.receive(data, trio.current_time())
        for data in waiting.talk.outgoing():
            socket.send(data, waiting.talk.tracker)


async def _on_each_family(ask: Callable[[T], Awaitable[Answer]], ways: Sequence[T]) -> Answer:
    """Asks each way at once; the first answer waits a little for the others. Raises the first error if none came."""
    answers: list[Answer] = []
    errors: list[WireError] = []
    changed = trio.Event()

    async def one(way: T) -> None:
        nonlocal changed
        try:
            answers.append(await ask(way))
        except WireError as error:
            errors.append(error)
        changed.set()

    async with trio.open_nursery() as nursery:
        for way in ways:
            nursery.start_soon(one, way)
        while not answers and len(errors) < len(ways):
            changed = trio.Event()
            await changed.wait()
        nursery.cancel_scope.deadline = trio.current_time() + OTHER_FAMILY_S
    if not answers:
        # A refusal tells more than a failure, and a failure more than that there was nobody to ask.
        raise min(errors, key=lambda error: (not isinstance(error, ProtocolError), isinstance(error, NoAddressError)))
    return Answer(_merged([answer.reply for answer in answers]), any(answer.is_near for answer in answers))


def _merged(replies: Sequence[AnnounceReply]) -> AnnounceReply:
    first = replies[0]
    peers = dict.fromkeys(peer for reply in replies for peer in reply.peers)
    return replace(
        first,
        peers=tuple(peers),
        interval_s=max(reply.interval_s for reply in replies),
        seeders=max((reply.seeders for reply in replies if reply.seeders is not None), default=None),
        leechers=max((reply.leechers for reply in replies if reply.leechers is not None), default=None),
    )


def _silence(tracker: Endpoint) -> NetworkError:
    return NetworkError(f"{tracker} does not answer")
