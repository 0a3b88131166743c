"""The real outer world, over trio: the system's sockets behind the port of `wire.net`.

Sockets are non-blocking and read as soon as they are ready.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections.abc import Iterable, Sequence

import trio

from wire.compact import IPV4, IPV6, Endpoint, Family, reach
from wire.errors import NetworkError
from wire.net import Buffer, Datagrams, Listener, Stream, network_error
from wire.routes import global_ipv6
from wire.switchboard import Switchboard
from wire.trio_udp import TrioDatagrams, TrioMulticast, endpoint_of

__all__ = ["TrioNetwork"]

_LISTEN_BACKLOG = 128
_ACCEPT_PAUSE_S = 0.05
_SEND_BUFFERS = 512
"""Buffers handed to one `sendmsg`: below the IOV_MAX of 1,024 that systems guarantee."""
_SCATTERS = hasattr(socket.socket, "recvmsg_into")
"""Windows has none."""


def _bound(kind: int, at: Endpoint) -> socket.socket:
    sock = socket.socket(at.family.af, kind)
    try:
        sock.setblocking(False)
        if at.family is IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM and sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((at.host, at.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _is_connected(sock: socket.socket) -> bool:
    """Whether a connection is there already that has only just been asked for: on one machine it mostly is."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


class _TrioStream:
    def __init__(self, sock: socket.socket, remote: Endpoint) -> None:
        with contextlib.suppress(OSError):  # some systems refuse it where the other end is gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self.remote = remote

    async def receive_into(self, buffer: memoryview) -> int:
        # Waiting first yields to the other tasks on each read, however fast the sender is.
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                try:
                    return self._socket.recv_into(buffer)
                except BlockingIOError:
                    continue
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise self._error("read from", error) from error

    @property
    def scatters(self) -> bool:
        return _SCATTERS

    async def readable(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._socket)
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise self._error("read from", error) from error

    def receive_scattered(self, buffers: Sequence[memoryview]) -> int | None:
        try:
            return self._socket.recvmsg_into(buffers)[0]
        except BlockingIOError:
            return None
        except (OSError, ValueError) as error:
            raise self._error("read from", error) from error

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        left = self.send_now(buffers)
        while left:
            try:
                await trio.lowlevel.wait_writable(self._socket)
            except (OSError, ValueError, trio.ClosedResourceError) as error:
                raise self._error("write to", error) from error
            left = self.send_now(left)

    def send_now(self, buffers: Sequence[Buffer]) -> list[memoryview]:
        queue = [memoryview(buffer) for buffer in buffers if len(buffer)]
        first = 0
        try:
            while first < len(queue):
                sent = self._send_some(queue[first : first + _SEND_BUFFERS])
                while first < len(queue) and sent >= len(queue[first]):
                    sent -= len(queue[first])
                    first += 1
                if sent:
                    queue[first] = queue[first][sent:]
        except BlockingIOError:
            return queue[first:]
        except (OSError, ValueError) as error:
            raise self._error("write to", error) from error
        return []

    def _error(self, action: str, error: Exception) -> NetworkError:
        if isinstance(error, OSError) and self._socket.fileno() >= 0:
            return network_error(action, self.remote, error)
        return NetworkError(f"the connection to {self.remote} is closed")

    def _send_some(self, buffers: Sequence[memoryview]) -> int:
        if len(buffers) == 1 or not hasattr(self._socket, "sendmsg"):  # Windows has no sendmsg
            return self._socket.send(buffers[0])
        return self._socket.sendmsg(buffers)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class _TrioListener:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.endpoint = endpoint_of(sock.getsockname())

    async def accept(self) -> Stream:
        while True:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                sock, address = self._socket.accept()
            except BlockingIOError:
                continue
            except (OSError, ValueError, trio.ClosedResourceError) as error:
                if self._socket.fileno() < 0:
                    raise NetworkError(f"the listener {self.endpoint} is closed") from error
                # Linux gives here the failures of connections that broke while they queued; too many open
                # files is the other case, and lasts until something closes: no busy loop.
                await trio.sleep(_ACCEPT_PAUSE_S)
                continue
            sock.setblocking(False)
            return _TrioStream(sock, endpoint_of(address))

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class TrioNetwork:
    """The real network, over trio. Sockets are non-blocking; waiting is `trio.lowlevel.wait_readable`.

    `listen` are the addresses that the program listens on: where one of them is no wildcard, TCP connections of its
    family go out from it too, so that a program bound to one interface keeps to it, and trackers see where it listens.
    """

    def __init__(self, listen: Iterable[Endpoint] = ()) -> None:
        self._sources: dict[Family, str] = {}
        for at in listen:
            if reach(at.host) != "unspecified":
                self._sources.setdefault(at.family, at.host)

    async def udp(self, at: Endpoint) -> Datagrams:
        """Binds a UDP socket (an IPv6 one takes IPv6 alone). Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        try:
            return TrioDatagrams(_bound(socket.SOCK_DGRAM, at))
        except OSError as error:
            raise network_error("open UDP", at, error) from error

    def adopt_udp(self, sock: socket.socket) -> Datagrams:
        """Takes over a bound UDP socket that another process, or other code, has made."""
        sock.setblocking(False)
        return TrioDatagrams(sock)

    async def multicast(self, group: Endpoint, at: str) -> Datagrams:
        """A socket in a multicast group, shared with other programs in it. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        try:
            return TrioMulticast(group, at)
        except OSError as error:
            raise network_error("join", group, error) from error

    def global_ipv6(self) -> str | None:
        """See `wire.routes`."""
        return global_ipv6()

    async def connect(self, to: Endpoint) -> Stream:
        """Opens a TCP connection. Raises NetworkError."""
        try:
            sock = self._dial(to)
            try:
                if not _is_connected(sock):
                    await trio.lowlevel.wait_writable(sock)
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if code:
                        raise OSError(code, os.strerror(code))
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise network_error("connect to", to, error) from error
        return _TrioStream(sock, to)

    def switchboard(self) -> Switchboard | None:
        """For short conversations with many; None where the system has not what it stands on."""
        return Switchboard(self._dial) if hasattr(select, "epoll") else None

    def _dial(self, to: Endpoint) -> socket.socket:
        """A connection that has been asked for. Raises OSError."""
        sock = socket.socket(to.family.af, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            self._bind_source(sock, to)
            with contextlib.suppress(BlockingIOError):
                sock.connect((to.host, to.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _bind_source(self, sock: socket.socket, to: Endpoint) -> None:
        source = self._sources.get(to.family)
        if source is None or (reach(source) == "loopback" and reach(to.host) != "loopback"):
            return  # from a loopback address nobody else can be reached: who listens there may still ask a tracker
        if hasattr(socket, "IP_BIND_ADDRESS_NO_PORT"):  # a port for each pair of addresses, not one of 28,000 for all
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))

    async def listen(self, at: Endpoint) -> Listener:
        """Listens on TCP (an IPv6 listener takes IPv6 alone). Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        try:
            sock = _bound(socket.SOCK_STREAM, at)
            try:
                sock.listen(_LISTEN_BACKLOG)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise network_error("listen on", at, error) from error
        return _TrioListener(sock)

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        """Every A and AAAA address of `host`, IPv4 first, each once. Raises NetworkError."""
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:  # ValueError: no name at all, by IDNA's rules or for a NUL in it
            reason = getattr(error, "strerror", None) or str(error)
            raise NetworkError(f"cannot resolve {host}: {reason}") from error
        endpoints = dict.fromkeys(
            Endpoint.of(str(address[0]), port)
            for af, _, _, _, address in found
            if af in (socket.AF_INET, socket.AF_INET6)
        )
        return sorted(endpoints, key=lambda endpoint: endpoint.family is not IPV4)
