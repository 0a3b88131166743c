"""uTP streams on a shared UDP socket: the trio shell of `wire.utp.mux` (BEP 29).

`UtpSocket` is a tenant of the socket's pump and, to those above, a listener and a way to connect; its streams are
`wire.net.Stream` like those of TCP. It decides nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio

from wire.compact import Endpoint
from wire.errors import NetworkError
from wire.net import Buffer, Stream
from wire.udp import UdpPump
from wire.utp.connection import Ended, UtpConnection
from wire.utp.mux import UtpMux

__all__ = ["UtpSocket", "UtpStream"]

_BACKLOG = 64
"""Accepted streams that nobody took yet; further ones are refused."""


class UtpSocket:
    """The uTP streams of one UDP socket: dials, and accepts as a `wire.net.Listener`."""

    def __init__(self, pump: UdpPump, rng: random.Random) -> None:
        """Moves in with the pump. Needs a running trio; works while the pump runs."""
        self._mux = UtpMux(rng, trio.current_time())
        self._pump = pump
        self._streams: dict[UtpConnection, UtpStream] = {}
        self._arrived, self._arrivals = trio.open_memory_channel[Stream](_BACKLOG)
        self._closed = False
        self.receive = self._mux.receive  # takes a datagram; a call less for each
        pump.add(self, bulk=True)

    @property
    def endpoint(self) -> Endpoint:
        """Where the socket is bound."""
        return self._pump.endpoint

    # what the pump asks of its tenants

    def claims(self, first_byte: int) -> bool:
        """Version 1 in the low half of the first byte."""
        return self._mux.claims(first_byte)

    def outgoing(self) -> list[tuple[Buffer, Endpoint]]:
        """What is to be sent, drained; wakes those whose streams changed."""
        mux = self._mux
        changed = mux.changed()
        out: list[tuple[Buffer, Endpoint]] = list(mux.outgoing(trio.current_time()))
        for connection in mux.accepted():
            self._offer(connection)
        for connection in changed:
            if (stream := self._streams.get(connection)) is not None:
                stream.wake()
        return out

    def next_timer(self) -> float | None:
        """When `tick` is wanted next."""
        return self._mux.next_timer()

    def tick(self, now: float) -> None:
        """Does what time brings."""
        self._mux.tick(now)

    # what those above ask

    async def connect(self, to: Endpoint) -> Stream:
        """Opens a stream; the caller bounds the time. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        self._check()
        connection = self._mux.dial(to, trio.current_time())
        stream = UtpStream(self, connection)
        self._streams[connection] = stream
        try:
            self._pump.wake()
            await stream.wait_connected()
        except BaseException:
            stream.close()
            raise
        return stream

    async def accept(self) -> Stream:
        """Waits for the next stream that somebody opened to us. Raises NetworkError when closed."""
        try:
            return await self._arrivals.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise NetworkError(f"the uTP socket {self.endpoint} is closed") from None

    def close(self) -> None:
        """Ends every stream, and tells the peers; a waiting `accept` raises NetworkError. The pump goes on."""
        if self._closed:
            return
        self._closed = True
        self._mux.abort_all()
        self._pump.wake()
        self._arrived.close()
        self._arrivals.close()

    def _check(self) -> None:
        if self._closed:
            raise NetworkError(f"the uTP socket {self.endpoint} is closed")

    def _offer(self, connection: UtpConnection) -> None:
        stream = UtpStream(self, connection)
        try:
            self._arrived.send_nowait(stream)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            connection.abort()
            self._mux.touch(connection)
            return
        self._streams[connection] = stream

    def touched(self, connection: UtpConnection) -> None:
        """A stream did something to its connection: sends what it has to say."""
        if not self._closed:
            self._mux.touch(connection)
            self._pump.wake()

    def forget(self, connection: UtpConnection) -> None:
        """Nobody listens to it any more; it ends by itself."""
        if self._streams.pop(connection, None) is not None:
            self.touched(connection)


class UtpStream:
    """One uTP connection as a stream (`wire.net.Stream`). One task may read while another writes."""

    def __init__(self, socket: UtpSocket, connection: UtpConnection) -> None:
        """Made by `UtpSocket`."""
        self._socket = socket
        self._connection = connection
        self._closed = False
        self._reader: trio.Event | None = None
        self._writer: trio.Event | None = None

    @property
    def remote(self) -> Endpoint:
        """The other end."""
        return self._connection.remote

    async def wait_connected(self) -> None:
        """Returns once the peer has answered. Raises NetworkError where nobody does, or he refuses."""
        connection = self._connection
        while not connection.connected:
            if connection.ended is not None:
                raise NetworkError(f"cannot connect to {self.remote} by uTP: {connection.ended.value}")
            self._writer = trio.Event()
            await self._writer.wait()

    async def receive_into(self, buffer: memoryview) -> int:
        """Waits for bytes and puts them into `buffer`; 0 at the end. Raises NetworkError."""
        await trio.lowlevel.checkpoint()  # others run, however fast the sender is
        connection = self._connection
        while True:
            if self._closed:
                raise NetworkError(f"the connection to {self.remote} is closed")
            count = connection.read_into(buffer)
            if count:
                if connection.has_news:
                    self._socket.touched(connection)
                return count
            if connection.at_end:
                self._check()
                return 0
            self._reader = trio.Event()
            await self._reader.wait()

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        """Sends the buffers in order, whole; they must not change afterwards. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        connection = self._connection
        for buffer in buffers:
            left = memoryview(buffer)
            while len(left):
                if self._closed:
                    raise NetworkError(f"the connection to {self.remote} is closed")
                taken = connection.write(left)
                left = left[taken:]
                if not taken:
                    self._check()
                    self._socket.touched(connection)
                    self._writer = trio.Event()
                    if not connection.writable:
                        self._check()
                        await self._writer.wait()
        self._socket.touched(connection)

    def wake(self) -> None:
        """The connection changed."""
        connection = self._connection
        if self._reader is not None and connection.readable:
            self._reader.set()
            self._reader = None
        if self._writer is not None and (connection.writable or connection.ended is not None):
            self._writer.set()
            self._writer = None

    def close(self) -> None:
        """Closes; what was written is still sent, for a while. Waiting calls raise NetworkError. Twice is no harm."""
        if self._closed:
            return
        self._closed = True
        self._connection.close(trio.current_time())
        for waiting in (self._reader, self._writer):
            if waiting is not None:
                waiting.set()
        self._socket.forget(self._connection)

    def _check(self) -> None:
        if self._connection.ended in (Ended.RESET, Ended.TIMED_OUT):
            raise NetworkError(f"the connection to {self.remote} broke: {self._connection.ended.value}")
        if self._connection.ended is Ended.CLOSED:
            raise NetworkError(f"the connection to {self.remote} is closed")
