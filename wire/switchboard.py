"""Many short conversations over TCP, all pumped by one task: for those that are over before tasks of their own pay.

What is said is a machine's business (`Talk`). A call that does not get on is ended soon: its caller has another way.
It stands on a descriptor that is ready when any of many is, which Linux has.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from wire.compact import Endpoint
from wire.errors import NetworkError, ProtocolError
from wire.net import MAX_UNANSWERED, TURN_S, Network, network_error

__all__ = ["Call", "CallError", "Switchboard", "Talk", "switchboard_of"]

_OPEN_S = 0.5
"""From its turn until the peer's first word: two round trips of most of the world."""
_MOVE_S = 2.0
"""From one word to the next."""
_WHOLE_S = 10.0
"""How long a call may take, however it moves."""
_SWEEP_S = 0.1
"""How exact these are."""
_READ_BYTES = 1 << 16
_BATCH = 64
"""Calls that are served before other tasks have their turn."""


class Talk(Protocol):
    """One side of a short conversation: bytes in, bytes out."""

    @property
    def done(self) -> bool:
        """It came to its end; the connection is to be closed."""
        ...

    def opening(self) -> bytes:
        """What is said first, once."""
        ...

    def receive(self, data: memoryview) -> bytes:
        """Takes what came, gives what is to be answered. Raises ProtocolError."""
        ...


class CallError(NetworkError):
    """A call could not be made, or was broken off."""

    def __init__(self, message: str, *, connected: bool, silent: bool = False) -> None:
        super().__init__(message)
        self.connected = connected
        """There was a connection."""
        self.silent = silent
        """The time was over, and nothing had come."""


class Call:
    """One call, from where it was asked for to its end. Made by `Switchboard.place`."""

    __slots__ = ("deadline", "ended", "error", "inside", "is_over", "last", "opened", "sock", "talk", "to")

    def __init__(self, to: Endpoint, talk: Talk, now: float) -> None:
        self.to = to
        self.talk = talk
        self.ended: Callable[[], None] | None = None
        """Told once, when it is over; it must not raise, and may place and break off other calls."""
        self.sock: socket.socket | None = None
        self.inside = False
        """It has a socket, on which nothing came yet."""
        self.opened = False
        """It is connected, and our first words are said."""
        self.deadline = now + TURN_S
        self.last = now + _WHOLE_S
        self.error: Exception | None = None
        """Why it ended: a CallError, or what the talk raised; None where the talk is done."""
        self.is_over = False


def _nobody(host: str) -> bool:
    return False


class Switchboard:
    """Calls over TCP. `dial` gives the socket of a connection that has only just been asked for, or raises OSError."""

    def __init__(self, dial: Callable[[Endpoint], socket.socket]) -> None:
        self.refuses: Callable[[str], bool] = _nobody
        """Says of a host whether it must not be called."""
        self._dial = dial
        self._poll = select.epoll()
        self._calls: dict[Call, None] = {}
        self._by_number: dict[int, Call] = {}
        """Those that have a socket."""
        self._inside: dict[Endpoint, int] = {}
        self._waiting: dict[Endpoint, deque[Call]] = {}
        """Those that wait for their turn."""
        self._room = memoryview(bytearray(_READ_BYTES))
        self._busy = trio.Event()
        self._is_closed = False

    async def run(self) -> None:
        """Pumps the calls until cancelled; then all that are left are broken off. Once."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                while True:
                    await trio.lowlevel.wait_readable(self._poll.fileno())
                    now = trio.current_time()
                    # Whose they are is settled before: who ends others leaves their numbers to new ones.
                    for call in [self._by_number.get(number) for number, _ in self._poll.poll(0, _BATCH)]:
                        if call is not None and not call.is_over:
                            self._serve(call, now)
        finally:
            self._is_closed = True
            for call in list(self._calls):
                if not call.is_over:  # who was told of another's end has not broken it off
                    self._finish(call, CallError("the program ends", connected=call.opened))
            self._poll.close()

    def place(self, to: Endpoint, talk: Talk) -> Call:
        """Begins a call at once. Who waits for its end sets `ended`, unless `is_over` says that it cannot be made."""
        now = trio.current_time()
        call = Call(to, talk, now)
        if self._is_closed or self.refuses(to.host):
            call.error, call.is_over = CallError(f"{to} is not to be called", connected=False), True
            return call
        self._calls[call] = None
        self._busy.set()
        self._waiting.setdefault(to, deque()).append(call)
        self._let_in(to, now)
        return call

    def break_off(self, call: Call) -> None:
        """Ends a call, of whose end nobody is told; any time."""
        call.ended = None
        self._end(call, None)

    def _let_in(self, to: Endpoint, now: float) -> None:
        """Begins the calls that wait for this address, as far as there is room."""
        waiting = self._waiting.get(to)
        if waiting is None:
            return
        while waiting and self._inside.get(to, 0) < MAX_UNANSWERED:
            call = waiting.popleft()
            if not call.is_over:
                self._begin(call, now)
        if not waiting and self._waiting.get(to) is waiting:  # who was told of an end may have placed another call
            del self._waiting[to]

    def _begin(self, call: Call, now: float) -> None:
        call.inside = True
        self._inside[call.to] = self._inside.get(call.to, 0) + 1
        call.deadline = now + _OPEN_S
        try:
            call.sock = sock = self._dial(call.to)
            try:
                sock.getpeername()  # on one machine it mostly is connected at once
            except OSError:
                self._poll.register(sock, select.EPOLLOUT)
            else:
                self._poll.register(sock, select.EPOLLIN)
                self._greet(call, sock)
            self._by_number[sock.fileno()] = call
        except OSError as error:
            self._finish(call, CallError(str(network_error("connect to", call.to, error)), connected=False))
        except CallError as error:
            self._finish(call, error)

    def _greet(self, call: Call, sock: socket.socket) -> None:
        call.opened = True
        self._say(call, sock, call.talk.opening())

    def _say(self, call: Call, sock: socket.socket, data: bytes) -> None:
        """The words of a short talk fit into any socket: a peer for whom they do not has not read the last ones."""
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            raise CallError(f"{call.to} does not read", connected=True)

    def _serve(self, call: Call, now: float) -> None:
        sock = call.sock
        assert sock is not None
        try:
            if call.opened:
                self._hear(call, sock, now)
            else:
                if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
                self._poll.modify(sock, select.EPOLLIN)
                self._greet(call, sock)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(call, CallError(str(network_error("talk to", call.to, error)), connected=call.opened))
        except (CallError, ProtocolError) as error:
            self._end(call, error)

    def _hear(self, call: Call, sock: socket.socket, now: float) -> None:
        count = sock.recv_into(self._room)
        if not count:
            raise CallError(f"{call.to} closed the connection", connected=True)
        call.deadline = min(now + _MOVE_S, call.last)
        if call.inside:
            self._leave(call)
            self._let_in(call.to, now)
        answer = call.talk.receive(self._room[:count])
        if call.talk.done:
            self._end(call, None)
        elif answer:
            self._say(call, sock, answer)

    def _leave(self, call: Call) -> None:
        call.inside = False
        left = self._inside[call.to] - 1
        if left:
            self._inside[call.to] = left
        else:
            del self._inside[call.to]

    def _end(self, call: Call, error: Exception | None) -> None:
        """It is over, and another one may have its place."""
        if call.is_over:
            return
        was_inside = call.inside
        self._finish(call, error)
        if was_inside:
            self._let_in(call.to, trio.current_time())

    def _finish(self, call: Call, error: Exception | None) -> None:
        call.error, call.is_over = error, True
        del self._calls[call]
        if call.inside:
            self._leave(call)
        if call.sock is not None:
            self._by_number.pop(call.sock.fileno(), None)
            call.sock.close()
        if call.ended is not None:
            ended, call.ended = call.ended, None
            ended()

    async def _keep_time(self) -> None:
        """Ends the calls that do not get on."""
        while True:
            await self._busy.wait()
            await trio.sleep(_SWEEP_S)
            now = trio.current_time()
            late = [call for call in self._calls if call.deadline <= now]
            for call in late:
                if call.inside:  # and who waits for the same address need not find it out for himself
                    late += [other for other in self._waiting.pop(call.to, ()) if not other.is_over]
            for call in dict.fromkeys(late):
                self._end(call, CallError(f"{call.to} does not answer", connected=call.opened, silent=call.inside))
            if not self._calls:
                self._busy = trio.Event()


def switchboard_of(network: Network) -> Switchboard | None:
    """A new one of that network; None where it has none: behind a proxy, in a simulation, on other systems."""
    make: Callable[[], Switchboard | None] | None = getattr(network, "switchboard", None)
    return None if make is None else make()
