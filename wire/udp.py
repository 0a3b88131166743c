"""One UDP socket for all its tenants: KRPC, uTP and tracker packets, told apart by their first byte.

A tenant is a machine without I/O. The pump here reads, hands each datagram to its tenant, ticks the
tenants' timers and sends what they have to say. A tenant that was called from outside (a lookup
begun) is heard after `wake`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import trio

from wire.compact import Address, Endpoint
from wire.errors import NetworkError
from wire.net import AnsweredDatagrams, Answerer, Buffer, Datagrams

__all__ = ["AnsweringTenant", "News", "Tenant", "UdpPump"]

_NEVER = float("inf")
_MAX_UNSENT_TO = 64
_STAND_BACK_S = 0.005
"""How long datagrams wait in the socket's buffer when a peer was found, where streams share it: dialling him and
hearing from him come first. Where he is near, that is all the time that it takes to have the metadata of him, also
after an encrypted handshake, for which both take powers of large numbers."""
_BETWEEN_S = 0.05
"""From one such wait to the next, so that a session that searches for much loses a tenth of the time at most."""
_UNYIELDED_S = 0.005
"""For so long datagrams are answered before other tasks get their turn. It costs as much as several of them: whoever
waits just then would wait longer, and with turns more often there would be more of those."""


class News(enum.IntEnum):
    """What a batch of datagrams has told those who wait."""

    NONE = 0
    SOME = 1
    PRESSING = 2
    """With whom they can speak now: they will, and wait for the answer."""


class Tenant(Protocol):
    """A protocol that lives on the shared socket. Times are the caller's monotonic seconds."""

    def claims(self, first_byte: int) -> bool:
        """Whether a datagram that begins so is this tenant's."""
        ...

    def receive(self, data: bytes, address: Endpoint, now: float) -> None:
        """Takes a datagram. Never raises for what is in it."""
        ...

    def outgoing(self) -> list[tuple[Buffer, Endpoint]]:
        """What is to be sent, drained."""
        ...

    def next_timer(self) -> float | None:
        """When `tick` is wanted next."""
        ...

    def tick(self, now: float) -> None:
        """Does what time brings."""
        ...


@runtime_checkable
class AnsweringTenant(Tenant, Protocol):
    """A tenant most of whose datagrams are questions."""

    def answer(self, data: bytes, source: Address, now: float) -> Buffer | None:
        """As `receive`, but gives back what is to be sent to the source at once, in place of keeping it for
        `outgoing`."""
        ...


class UdpPump:
    """Pumps one socket for its tenants; `run` does the work, until its socket is closed or it is cancelled."""

    def __init__(
        self,
        datagrams: Datagrams,
        *,
        settled: Callable[[], None] | None = None,
        told: Callable[[], News] | None = None,
    ) -> None:
        """`settled` is called after each batch and tick: for what lies behind the tenants, such as their events.

        `told` is called before it, and after each datagram of a tenant that carries no streams: whether somebody now
        knows more than before, for whom the rest then waits.
        """
        self._datagrams = datagrams
        self._settled = settled
        self._told = told
        self._tenants: list[Tenant] = []
        self._by_first_byte: list[Tenant | None] = [None] * 256
        self._may_tell = [False] * 256
        """By first byte: whether `told` is asked after such a datagram."""
        self._answerers: list[Answerer] | None = None
        """Who answers, by first byte, where all tenants do."""
        self._stand_back_at = -_NEVER
        self._called_back = trio.Event()
        self._after: News | None = None
        self._wakened = trio.Event()
        self._sleeps_until = _NEVER
        self.unclaimed = 0
        """Datagrams that no tenant wanted."""
        self.unsent = 0
        """Datagrams that the system would not take."""
        self.unsent_to: dict[Endpoint, None] = {}
        """Where the latest of them were to go; at most 64."""

    @property
    def endpoint(self) -> Endpoint:
        """Where the socket is bound."""
        return self._datagrams.endpoint

    def add(self, tenant: Tenant, *, bulk: bool = False) -> None:
        """Takes in a tenant; where two claim a first byte, the earlier one gets it. `bulk`: it carries streams."""
        if bulk:
            self._datagrams.expect_bulk()
        self._tenants.append(tenant)
        owners = self._by_first_byte
        for first in range(256):
            if owners[first] is None and tenant.claims(first):
                owners[first] = tenant
                self._may_tell[first] = not bulk
        self._answerers = None
        if all(isinstance(each, AnsweringTenant) for each in self._tenants):
            self._answerers = [
                owner.answer if isinstance(owner, AnsweringTenant) else self._leave for owner in [*owners, None]
            ]
        self.wake()

    def wake(self) -> None:
        """Sends at once what the tenants have to say, and looks at their timers anew. Does not call `settled`."""
        self._called_back.set()  # who speaks waits for an answer: it may be the peer that was found, dialled by uTP
        self._drain()
        if self._due() < self._sleeps_until:
            self._wakened.set()

    def go_after(self, news: News) -> None:
        """What comes next is handled after who has just asked: he makes ready for it. `news`: what he was told already;
        where streams share the socket."""
        self._after = news

    def close(self) -> None:
        """Closes the socket; `run` ends with NetworkError."""
        self._datagrams.close()

    async def run(self) -> None:
        """Reads and ticks. Raises NetworkError once the socket is closed."""
        failure: NetworkError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            try:
                await self._read()
            except NetworkError as error:  # raised outside the nursery, so that it comes in no group
                failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _read(self) -> None:
        datagrams = self._datagrams if isinstance(self._datagrams, AnsweredDatagrams) else None
        while True:
            if datagrams is None or self._answerers is None:
                await self._receive()
            else:
                await datagrams.readable()
                await self._serve(datagrams)

    async def _serve(self, datagrams: AnsweredDatagrams) -> None:
        until = trio.current_time() + _UNYIELDED_S
        while self._answerers is not None:  # else a tenant has come in meanwhile
            now = trio.current_time()
            unsent: list[Endpoint] = []
            more = datagrams.serve(self._answerers, now, unsent)
            self._lost(unsent)
            news = self._told() if self._told is not None else News.NONE
            if news:
                await self._give_way()
            self._settle()
            if not more or news or now >= until:
                return

    async def _receive(self) -> None:
        owners, told = self._by_first_byte, self._told
        batch = await self._datagrams.receive()
        now = trio.current_time()
        if self._after is not None:
            news, self._after = self._after, None
            if news is News.PRESSING:
                await self._stand_back(now)
            else:
                await trio.lowlevel.checkpoint()
            now = trio.current_time()
        for data, address in batch:
            tenant = owners[data[0]] if data else None
            if tenant is None:
                self.unclaimed += 1
                continue
            tenant.receive(data, address, now)
            if told is not None and self._may_tell[data[0]] and (news := told()):
                if news is News.PRESSING:
                    await self._stand_back(now)
                else:
                    await self._give_way()
                now = trio.current_time()
                told = None  # once a batch is enough: what comes later in it is told at its end
        if told is None and self._told is not None and self._told():
            await self._give_way()
        self._settle()

    async def _stand_back(self, now: float) -> None:
        """Gives way for longer, but not always: for who has streams to speak on with whom he was told of."""
        if now < self._stand_back_at:
            await self._give_way()
            return
        self._called_back = trio.Event()
        with trio.move_on_after(_STAND_BACK_S):
            await self._called_back.wait()
        self._stand_back_at = trio.current_time() + _BETWEEN_S

    async def _give_way(self) -> None:
        """Who was told goes first, whatever the order of tasks in a turn: he may have waited for just this.

        What the rest of a batch says, and what is to be sent for it, can wait so long.
        """
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    def _settle(self) -> None:
        """After a batch: what else it brought about."""
        self._drain()
        if self._settled is not None:
            self._settled()
        # A timer that moved away is noticed when the old one is due; only an earlier one must wake the sleeper.
        if self._due() < self._sleeps_until:
            self._wakened.set()

    def _leave(self, data: bytes, source: Address, now: float) -> None:
        """No tenant wants it."""
        self.unclaimed += 1

    def _due(self) -> float:
        due = _NEVER
        for tenant in self._tenants:
            timer = tenant.next_timer()
            if timer is not None and timer < due:
                due = timer
        return due

    async def _tick(self) -> None:
        while True:
            self._wakened = trio.Event()
            self._sleeps_until = self._due()
            with trio.move_on_at(self._sleeps_until):
                await self._wakened.wait()
            now = trio.current_time()
            for tenant in self._tenants:
                timer = tenant.next_timer()
                if timer is not None and timer <= now:
                    tenant.tick(now)
            self._drain()
            if self._settled is not None:
                self._settled()

    def _drain(self) -> None:
        for tenant in self._tenants:
            if batch := tenant.outgoing():
                self._lost(self._datagrams.send_many(batch))

    def _lost(self, unsent: list[Endpoint]) -> None:
        """Counts datagrams that the system would not take, by where they were to go."""
        for address in unsent:
            self.unsent += 1
            self.unsent_to[address] = None
            if len(self.unsent_to) > _MAX_UNSENT_TO:
                del self.unsent_to[next(iter(self.unsent_to))]
