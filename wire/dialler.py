"""How a peer is reached: TCP and uTP raced, encrypted and plain tried in turn; what comes out is a stream.

The first way on which the peer shakes hands wins, the other is broken off. An encrypted handshake that fails is
followed by a plain one on a fresh connection, and the other way round, as far as the settings allow. What worked
with a peer is tried first when it is dialled again. Whom to dial, and when, is decided elsewhere.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple

import trio

from wire.compact import Endpoint
from wire.errors import NetworkError, ProtocolError
from wire.net import MAX_UNANSWERED, TURN_S, Network, Stream
from wire.peer.mse import KeyPair
from wire.secure import Encryption, dial_plain, dial_secure
from wire.socks import ProxyError
from wire.utp.stream import UtpSocket

__all__ = ["DialError", "Dialler", "Encryption", "Miss", "Transport"]

Transport = Literal["both", "tcp", "utp"]

_LATER_S = 0.3
"""How long the second way waits for the first: a round trip of most of the world. Less where the first one fails."""
_UTP_PATIENCE_S = 4.0
"""A uTP dial sends its last SYN after three seconds; who has not answered by then is not there."""
_TRY_S = 5.0
"""Until a handshake that has an alternative is given up: a peer that does not understand mostly hangs up at once."""
_SHAKE_S = 10.0
"""Until the last one is."""
_SPARE_PAUSE_S = 0.05
"""After a key pair was taken, until the next is made: the peer for whom it was is being heard meanwhile."""
_MAX_REMEMBERED = 4096


class Miss(enum.IntEnum):
    """How far a dial came that failed, the furthest last."""

    SILENT = 0
    """Nobody answered in time."""
    REFUSED = 1
    """The peer or the system refused."""
    NO_HANDSHAKE = 2
    """A stream was opened, and no handshake came on it."""


class DialError(NetworkError):
    """A peer could not be reached on any way; `miss` is how far the best one came."""

    def __init__(self, message: str, miss: Miss, *, ours: bool = False) -> None:
        super().__init__(message)
        self.miss = miss
        self.ours = ours
        """The peer has no part in it: our proxy cannot be reached."""


Connect = Callable[[Endpoint], Awaitable[Stream]]


class Dialler:
    """Opens streams to peers by the settings of a session."""

    def __init__(
        self,
        network: Network,
        *,
        rng: random.Random,
        utp: Sequence[UtpSocket] = (),
        transport: Transport = "both",
        encryption: Encryption = "prefer",
    ) -> None:
        """`utp` are the sockets for uTP; a family without one has TCP alone."""
        self._network = network
        self._rng = rng
        self._utp = tuple(utp)
        self._transport = transport
        self._encryption: Encryption = encryption
        self._doors: dict[Endpoint, _Door] = {}
        """Addresses to which a TCP connection is being opened."""
        self._worked: dict[Endpoint, tuple[str, bool]] = {}
        """By peer: the transport, and whether it was encrypted."""
        self._spare: KeyPair | None = None
        self._spare_is_used = trio.Event()

    async def run(self) -> None:
        """Keeps a key pair ready for the next encrypted handshake, made when nobody waits for it. Never returns.

        Who dials needs it not: what is not ready is made then.
        """
        while self._encryption != "off":
            if self._spare is None:
                self._spare_is_used = trio.Event()
                self._spare = KeyPair.make(self._rng)
            await self._spare_is_used.wait()
            await trio.sleep(_SPARE_PAUSE_S)
        await trio.sleep_forever()

    async def open(
        self, to: Endpoint, opening: bytes, patience_s: float, nursery: trio.Nursery, *, punch: bool = False
    ) -> Stream:
        """Reaches a peer and says `opening`, our handshake (BEP 3); on the stream come his handshake and the rest.

        `patience_s` is how long one connection may take to open. `nursery`: where a second way may wait and run; it
        ends by itself. `punch`: he dials us too, through both our NATs, which goes by uTP alone (BEP 55). Raises
        DialError.
        """
        ways = [way for way in self._ways(to) if way[0] == "utp" or not punch]
        if not ways:
            raise DialError(f"cannot connect to {to}: no uTP socket of its kind", Miss.REFUSED)
        first, *others = [_Try(name, connect, to, opening, patience_s) for name, connect in ways]
        if not others:
            only, encrypted = await self._try(first)
            self.remember(to, first.name, encrypted=encrypted)
            return only
        race = _Race(len(ways))
        for other in others:
            nursery.start_soon(self._run_later, race, other)
        try:
            with race.first:
                await self._run(race, first)
            if race.stream is None:
                await race.decided.wait()
            stream, race.stream = race.stream, None
        finally:
            race.end()
        if stream is None:
            raise DialError(race.reason, race.miss, ours=race.ours)
        return stream

    def _ways(self, to: Endpoint) -> list[tuple[str, Connect]]:
        ways: list[tuple[str, Connect]] = []
        if self._transport != "utp":
            ways.append(("tcp", self._network.connect))
        if self._transport != "tcp":
            socket = next((one for one in self._utp if one.endpoint.family is to.family), None)
            if socket is not None:
                ways.append(("utp", socket.connect))
        if self._worked.get(to, ("tcp", True))[0] == "utp":
            ways.reverse()
        return ways

    async def _run_later(self, race: _Race, way: _Try) -> None:
        with trio.move_on_after(_LATER_S):
            await race.first_failed.wait()
        if not race.is_over:
            with race.second:
                await self._run(race, way)
            if race.stream is not None:
                race.first.cancel()

    async def _run(self, race: _Race, way: _Try) -> None:
        try:
            stream, encrypted = await self._try(way)
        except DialError as error:
            race.failed(error)
            return
        if race.is_over or race.stream is not None:  # the other one was a moment earlier
            stream.close()
            return
        race.won(stream)
        self.remember(way.to, way.name, encrypted=encrypted)

    async def _try(self, way: _Try) -> tuple[Stream, bool]:
        if way.name != "tcp":
            return await self._open(way)
        door = self._doors.get(way.to)
        if door is None:
            door = self._doors[way.to] = _Door()
        is_inside = False
        try:
            await door.enter()
            is_inside = True
            return await self._open(way)
        finally:
            if is_inside:
                door.leave()
            if door.is_empty:
                self._doors.pop(way.to, None)

    async def _open(self, way: _Try) -> tuple[Stream, bool]:
        """One transport: each kind of handshake that is allowed, on a connection of its own."""
        to = way.to
        patience_s = min(way.patience_s, _UTP_PATIENCE_S) if way.name == "utp" else way.patience_s
        kinds = self.kinds(to)
        reason = ""
        for number, encrypted in enumerate(kinds):
            stream = shaken = None
            try:
                with trio.move_on_after(patience_s) as limit:
                    stream = await way.connect(to)
                    limit.deadline = trio.current_time() + (_SHAKE_S if number == len(kinds) - 1 else _TRY_S)
                    if encrypted:
                        shaken = await dial_secure(stream, way.opening, self._encryption, self._rng, self.spare_keys())
                    else:
                        shaken = await dial_plain(stream, way.opening)
            except (NetworkError, ProtocolError) as error:
                if stream is None:
                    miss = Miss.NO_HANDSHAKE if number else Miss.REFUSED
                    raise DialError(reason or str(error), miss, ours=isinstance(error, ProxyError)) from error
                reason = f"no handshake with {to}: {error}"
            else:
                if stream is None:
                    miss = Miss.NO_HANDSHAKE if number else Miss.SILENT
                    raise DialError(reason or f"{to} does not answer", miss)
                reason = f"{to} did not answer the handshake"
            finally:
                if stream is not None and shaken is None:
                    stream.close()
            if shaken is not None:
                return shaken, encrypted
        raise DialError(reason, Miss.NO_HANDSHAKE)

    def spare_keys(self) -> KeyPair | None:
        """A key pair for one encrypted handshake, where one is ready; whoever is given it uses it."""
        spare, self._spare = self._spare, None
        self._spare_is_used.set()
        return spare

    def kinds(self, to: Endpoint) -> tuple[bool, ...]:
        """Whether to encrypt, in the order in which it is tried with this peer."""
        kinds: tuple[bool, ...] = {"prefer": (True, False), "require": (True,), "off": (False,)}[self._encryption]
        return kinds if self._worked.get(to, ("", True))[1] else kinds[::-1]

    def avoid_tcp(self, to: Endpoint) -> None:
        """Nobody answered there over TCP a moment ago: uTP is tried first the next time, where both may be."""
        self.remember(to, "utp", encrypted=True)

    def remember(self, to: Endpoint, name: str, *, encrypted: bool) -> None:
        """A peer was reached by the transport of this name: what works is tried first the next time."""
        self._worked.pop(to, None)
        self._worked[to] = (name, encrypted)
        while len(self._worked) > _MAX_REMEMBERED:
            del self._worked[next(iter(self._worked))]


class _Try(NamedTuple):
    """One transport on which a peer may be reached."""

    name: str
    connect: Connect
    to: Endpoint
    opening: bytes
    patience_s: float


class _Door:
    """Lets so many at a time open connections to one address; the others come in turn."""

    __slots__ = ("_inside", "_waiting")

    def __init__(self) -> None:
        self._inside = 0
        self._waiting: dict[trio.Event, None] = {}

    async def enter(self) -> None:
        """Waits for its turn, or long enough."""
        if self._inside < MAX_UNANSWERED:
            self._inside += 1
            return
        turn = trio.Event()
        self._waiting[turn] = None
        try:
            with trio.move_on_after(TURN_S):
                await turn.wait()
        except trio.Cancelled:
            if turn.is_set():
                self.leave()
            raise
        finally:
            self._waiting.pop(turn, None)
        if not turn.is_set():
            self._inside += 1

    @property
    def is_empty(self) -> bool:
        """Whether nobody is here, and so nobody waits either."""
        return not self._inside

    def leave(self) -> None:
        """It was answered, or given up: the next one comes."""
        if self._waiting:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            turn.set()  # and takes the place over
        else:
            self._inside -= 1


class _Race:
    """What the ways to one peer share while they run."""

    __slots__ = ("_left", "decided", "first", "first_failed", "is_over", "miss", "ours", "reason", "second", "stream")

    def __init__(self, ways: int) -> None:
        self._left = ways
        self.stream: Stream | None = None
        """Of the way that won, until somebody takes it."""
        self.miss = Miss.SILENT
        self.reason = ""
        self.ours = False
        self.first = trio.CancelScope()
        self.second = trio.CancelScope()
        self.first_failed = trio.Event()
        self.decided = trio.Event()
        """One has won, or all have failed."""
        self.is_over = False
        """Nobody waits for it any more."""

    def failed(self, error: DialError) -> None:
        """One way leads nowhere."""
        if self.reason == "" or error.miss > self.miss:
            self.miss, self.reason = error.miss, str(error)
        self.ours = self.ours or error.ours
        self._left -= 1
        self.first_failed.set()
        if not self._left:
            self.decided.set()

    def won(self, stream: Stream) -> None:
        """One has led to a stream."""
        self.stream = stream
        self.decided.set()

    def end(self) -> None:
        """Breaks off the second way; where it has not begun, it sees by itself that it need not."""
        self.is_over = True
        self.second.cancel()
        if self.stream is not None:
            self.stream.close()
