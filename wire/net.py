"""The port to the outer world: datagrams, streams, listeners and names, and the real one over trio.

Everything above takes a `Network` as an argument; tests pass a virtual one. Only addresses that are
already literals are dialled: names are resolved by `resolve`, once, at the border.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import trio

from wire.compact import IPV4, IPV6, Endpoint, Family, reach
from wire.errors import NetworkError

__all__ = ["Buffer", "Datagrams", "Listener", "Network", "ScatterStream", "Stream", "TrioNetwork", "network_error"]

Buffer = bytes | bytearray | memoryview

_RECEIVE_BATCH = 16
"""Datagrams read before they are answered: few, so that the other side works while we do."""
_UNYIELDED_BATCHES = 12
"""Batches read before other tasks get their turn: some 4 ms of answering."""
_DATAGRAM_BYTES = 65536
_UDP_SOCKET_BUFFER_BYTES = 2 << 20
"""Room for the burst that comes while one batch is answered; the kernel may grant less."""
_LISTEN_BACKLOG = 128
_MAX_INTERFACES = 16
"""On which a multicast group is joined: a host of containers has hundreds."""
_ACCEPT_PAUSE_S = 0.05
_SEND_BUFFERS = 512
"""Buffers handed to one `sendmsg`: below the IOV_MAX of 1,024 that systems guarantee."""


class Datagrams(Protocol):
    """A bound UDP socket."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it is bound."""
        ...

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        """Waits for datagrams, then gives all that are there, up to a batch. Raises NetworkError when closed."""
        ...

    def send(self, data: Buffer, to: Endpoint) -> bool:
        """Sends at once or not at all; False where the system would not take it. Never raises for the network."""
        ...

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        """Sends each as `send` does, cheaper where several in a row go to one peer; returns where it failed."""
        ...

    def expect_bulk(self) -> None:
        """Streams will come over it: several datagrams of one peer may be taken from the system at once."""
        ...

    def close(self) -> None:
        """Closes it; a waiting `receive` raises NetworkError."""
        ...


class Stream(Protocol):
    """A connected byte stream: TCP, uTP (`wire.utp.stream`), encrypted or not (`wire.secure`)."""

    @property
    def remote(self) -> Endpoint:
        """The other end."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Waits for bytes and puts them into `buffer`; 0 at the end. Raises NetworkError."""
        ...

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        """Sends the buffers in order, whole. Raises NetworkError."""
        ...

    def close(self) -> None:
        """Closes at once; what was not sent is lost. Waiting calls raise NetworkError. May be called twice."""
        ...


@runtime_checkable
class ScatterStream(Stream, Protocol):
    """A stream that can put bytes to many places in one call, chosen when they are there."""

    @property
    def scatters(self) -> bool:
        """Whether it can now."""
        ...

    async def readable(self) -> None:
        """Waits until there may be bytes. Raises NetworkError."""
        ...

    def receive_scattered(self, buffers: Sequence[memoryview]) -> int | None:
        """Fills the buffers in order with what is there; 0 at the end, None where nothing is. Raises NetworkError."""
        ...


class Listener(Protocol):
    """A listening TCP socket."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        ...

    async def accept(self) -> Stream:
        """Waits for the next connection. Raises NetworkError when closed."""
        ...

    def close(self) -> None:
        """Closes it; a waiting `accept` raises NetworkError."""
        ...


class Network(Protocol):
    """What the shells need of the outer world."""

    async def udp(self, at: Endpoint) -> Datagrams:
        """Binds a UDP socket; port 0 picks a free one. Raises NetworkError."""
        ...

    async def multicast(self, group: Endpoint, at: str) -> Datagrams:
        """A socket in a multicast group, on the interface that has the address `at`, or on all for the wildcard.

        What is sent to the group goes out on each of them, no further than the local network. Raises NetworkError.
        """
        ...

    async def connect(self, to: Endpoint) -> Stream:
        """Opens a stream; the caller bounds the time. Raises NetworkError."""
        ...

    async def listen(self, at: Endpoint) -> Listener:
        """Listens for streams; port 0 picks a free one. Raises NetworkError."""
        ...

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        """Every A and AAAA address of a name, or the literal itself. Raises NetworkError where there is none."""
        ...


def network_error(action: str, where: object, error: OSError) -> NetworkError:
    """What the system refused, why, and what to do: `cannot open UDP 127.0.0.1:1: ...`."""
    reason = error.strerror or str(error) or type(error).__name__
    hint = {
        errno.EADDRINUSE: "; another program uses this port: choose another, or port 0 for a free one",
        errno.EADDRNOTAVAIL: "; no interface of this machine has that address",
        errno.EACCES: "; ports below 1024 need more rights",
        errno.EMFILE: "; too many open files: raise the limit (ulimit -n)",
    }.get(error.errno or 0, "")
    return NetworkError(f"cannot {action} {where}: {reason}{hint}")


def _endpoint(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    # The system's own text is the canonical one already, but for a zone; no IPv6 socket here takes mapped IPv4.
    return Endpoint(address[0].partition("%")[0], address[1])


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


# Linux's numbers, which Python's socket module does not name; elsewhere they are never used.
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_PMTUDISC_PROBE = 3
_SEGMENT_SIZE = struct.Struct("=H")
_GRO_SIZE = struct.Struct("=i")
_GRO_SPACE = 64
"""Room for the control message that tells the size of the datagrams."""
_MAX_SEGMENTS = 40
"""Datagrams in one call: fewer than the 64 that the kernel takes."""
_MAX_SEGMENTED_BYTES = 65_000
"""And less than a whole IP packet."""
_MIN_SEGMENTS = 3
"""Fewer are cheaper sent one by one."""

_new_endpoint = tuple.__new__  # `Endpoint(host, port)` without a Python call


class _TrioDatagrams:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.endpoint = _endpoint(sock.getsockname())
        self._is_v4 = self.endpoint.family is IPV4
        self._unyielded = 0
        self._segments = sys.platform == "linux"
        self._bulk: memoryview | None = None
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _UDP_SOCKET_BUFFER_BYTES)
        if self._segments:
            # Datagrams are neither cut up here nor on their way, so that uTP finds the true MTU of a path. All else
            # that is sent fits any path: the DHT's messages have at most a kilobyte (BEP 32).
            with contextlib.suppress(OSError):
                if self._is_v4:
                    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
                else:
                    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)

    def expect_bulk(self) -> None:
        if self._segments and self._bulk is None:
            with contextlib.suppress(OSError):  # a kernel before 5.0
                self._socket.setsockopt(_SOL_UDP, _UDP_GRO, 1)
                self._bulk = memoryview(bytearray(_DATAGRAM_BYTES))

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        # Under load the next batch is there already: it is taken without a turn of the event loop, which
        # costs as much as answering several datagrams, until it is time that the others run.
        if self._unyielded < _UNYIELDED_BATCHES:
            batch = self._read()
            if batch:
                self._unyielded += 1
                return batch
        while True:
            self._unyielded = 0
            try:
                await trio.lowlevel.wait_readable(self._socket)
            except (OSError, ValueError, trio.ClosedResourceError) as error:
                raise NetworkError(f"the UDP socket {self.endpoint} is closed") from error
            batch = self._read()
            if batch:
                return batch

    def _read(self) -> list[tuple[bytes, Endpoint]]:
        receive = self._socket.recvfrom
        batch: list[tuple[bytes, Endpoint]] = []
        add = batch.append
        try:
            if self._bulk is not None:
                self._read_bulk(self._bulk, batch)
                return batch
            if self._is_v4:
                for _ in range(_RECEIVE_BATCH):
                    data, (host, port) = receive(_DATAGRAM_BYTES)
                    add((data, _new_endpoint(Endpoint, (host, port))))
            else:
                for _ in range(_RECEIVE_BATCH):
                    data, address = receive(_DATAGRAM_BYTES)
                    add((data, _endpoint(address)))
        except BlockingIOError:
            pass
        except OSError as error:
            # An ICMP "unreachable" for something sent earlier surfaces here on some systems.
            if self._socket.fileno() < 0:
                raise NetworkError(f"the UDP socket {self.endpoint} is closed") from error
        return batch

    def _read_bulk(self, room: memoryview, batch: list[tuple[bytes, Endpoint]]) -> None:
        receive, buffers = self._socket.recvmsg_into, [room]
        for _ in range(_RECEIVE_BATCH):
            count, control, _, address = receive(buffers, _GRO_SPACE)
            peer = _new_endpoint(Endpoint, address) if self._is_v4 else _endpoint(address)
            size = count
            for level, kind, value in control:
                if level == _SOL_UDP and kind == _UDP_GRO:
                    size = _GRO_SIZE.unpack_from(value)[0]
            if size == count:
                batch.append((bytes(room[:count]), peer))
            else:
                batch += [(bytes(room[at : min(at + size, count)]), peer) for at in range(0, count, size)]
            if len(batch) >= _RECEIVE_BATCH:
                return

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        failed: list[Endpoint] = []
        send = self._socket.sendto
        at = 0
        end = len(batch)
        while at < end:
            data, to = batch[at]
            at += 1
            if at < end and batch[at][1] is to and self._segments:
                # Datagrams of one size but the last, which may be shorter, go out in one call (Linux 4.18).
                first, size = at - 1, len(data)
                limit = min(end, first + min(_MAX_SEGMENTS, _MAX_SEGMENTED_BYTES // max(size, 1)))
                after = at
                while after < limit and batch[after][1] is to and len(batch[after][0]) <= size:
                    after += 1
                    if len(batch[after - 1][0]) < size:
                        break
                if after - first >= _MIN_SEGMENTS:
                    failed += self._send_segments([data for data, _ in batch[first:after]], size, to)
                    at = after
                    continue
            try:
                send(data, to)
            except (OSError, OverflowError):  # as in `send`
                failed.append(to)
        return failed

    def _send_segments(self, buffers: Sequence[Buffer], size: int, to: Endpoint) -> list[Endpoint]:
        try:
            self._socket.sendmsg(buffers, [(_SOL_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(size))], 0, to)
        except BlockingIOError:
            return [to] * len(buffers)  # full: what is lost is sent again
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) in (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP):
                self._segments = False  # this kernel or this device cannot
            return [to for data in buffers if not self.send(data, to)]
        return []

    def send(self, data: Buffer, to: Endpoint) -> bool:
        try:
            self._socket.sendto(data, to)
        except (OSError, OverflowError):  # full buffer, no route, wrong family: a datagram may get lost
            return False
        return True

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class _TrioMulticast(_TrioDatagrams):
    """A UDP socket in a multicast group."""

    def __init__(self, group: Endpoint, at: str) -> None:
        family = group.family
        sock = socket.socket(family.af, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family is IPV6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((family.any_host, group.port))
            super().__init__(sock)
            self._interfaces = _joined(sock, group, at)
        except BaseException:
            sock.close()
            raise

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        return [to for data, to in batch if not self.send(data, to)]

    def send(self, data: Buffer, to: Endpoint) -> bool:
        level = socket.IPPROTO_IP if self._is_v4 else socket.IPPROTO_IPV6
        option = socket.IP_MULTICAST_IF if self._is_v4 else socket.IPV6_MULTICAST_IF
        sent = False
        for interface in self._interfaces:
            with contextlib.suppress(OSError):  # an interface that is down, say
                self._socket.setsockopt(level, option, interface)
                sent = super().send(data, to) or sent
        return sent


def _joined(sock: socket.socket, group: Endpoint, at: str) -> list[bytes]:
    """Joins the group on the interfaces; returns what selects each for sending. Raises OSError where there is none."""
    v4 = group.family is IPV4
    ways: list[bytes] = []
    if v4 and at != IPV4.any_host:
        ways.append(socket.inet_pton(socket.AF_INET, at))
    else:
        for number, name in socket.if_nameindex()[:_MAX_INTERFACES]:
            if name.startswith("lo"):
                continue
            if not v4:
                ways.append(struct.pack("@i", number))
            elif sys.platform == "win32":
                ways.append(struct.pack(">i", number))
            else:
                ways.append(struct.pack("@4s4si", group.ip, bytes(4), number))
    joined = []
    failure = OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    for way in ways:
        try:
            if v4:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, way if len(way) > 4 else group.ip + way)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.ip + way)
            joined.append(way)
        except OSError as error:
            failure = error
    if not joined:
        raise failure
    return joined


_SCATTERS = hasattr(socket.socket, "recvmsg_into")
"""Windows has none."""


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
        queue = [memoryview(buffer) for buffer in buffers if len(buffer)]
        first = 0
        try:
            while first < len(queue):
                try:
                    sent = self._send_some(queue[first : first + _SEND_BUFFERS])
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)
                    continue
                while first < len(queue) and sent >= len(queue[first]):
                    sent -= len(queue[first])
                    first += 1
                if sent:
                    queue[first] = queue[first][sent:]
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise self._error("write to", error) from error

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
        self.endpoint = _endpoint(sock.getsockname())

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
            return _TrioStream(sock, _endpoint(address))

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
            return _TrioDatagrams(_bound(socket.SOCK_DGRAM, at))
        except OSError as error:
            raise network_error("open UDP", at, error) from error

    def adopt_udp(self, sock: socket.socket) -> Datagrams:
        """Takes over a bound UDP socket that another process, or other code, has made."""
        sock.setblocking(False)
        return _TrioDatagrams(sock)

    async def multicast(self, group: Endpoint, at: str) -> Datagrams:
        """A socket in a multicast group, shared with other programs in it. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        try:
            return _TrioMulticast(group, at)
        except OSError as error:
            raise network_error("join", group, error) from error

    async def connect(self, to: Endpoint) -> Stream:
        """Opens a TCP connection. Raises NetworkError."""
        sock = socket.socket(to.family.af, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            self._bind_source(sock, to)
            try:
                sock.connect((to.host, to.port))
            except BlockingIOError:
                await trio.lowlevel.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code)) from None
            else:
                await trio.lowlevel.checkpoint()
            return _TrioStream(sock, to)
        except OSError as error:
            sock.close()
            raise network_error("connect to", to, error) from error
        except BaseException:
            sock.close()
            raise

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
