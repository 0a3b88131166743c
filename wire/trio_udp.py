"""UDP sockets over trio, alone or in a multicast group; on Linux many datagrams of one peer go through one call."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

import trio

from wire.compact import IPV4, IPV6, Endpoint
from wire.errors import NetworkError
from wire.net import Answerer, Buffer

__all__ = ["TrioDatagrams", "TrioMulticast", "endpoint_of"]

_RECEIVE_BATCH = 16
"""Datagrams read before they are answered: few, so that the other side works while we do."""
_SERVED_ROUNDS = 16
"""So many such batches are answered before what else they brought about is looked after."""
_BULK_BATCH = 32
"""The same where streams come over the socket: fewer acknowledgements, which cost their sender as much as us."""
_UNYIELDED_BATCHES = 12
"""Batches read before other tasks get their turn: some 4 ms of answering."""
_DATAGRAM_BYTES = 65536
_RECEIVE_SIZES = (_DATAGRAM_BYTES,) * _RECEIVE_BATCH
_UDP_SOCKET_BUFFER_BYTES = 2 << 20
"""Room for the burst that comes while one batch is answered; the kernel may grant less."""
_MAX_INTERFACES = 16
"""On which a multicast group is joined: a host of containers has hundreds."""

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


def endpoint_of(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    """What the system calls an address."""
    # The system's own text is the canonical one already, but for a zone; no IPv6 socket here takes mapped IPv4.
    return Endpoint(address[0].partition("%")[0], address[1])


class TrioDatagrams:
    """A `Datagrams` of the system."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.endpoint = endpoint_of(sock.getsockname())
        self._is_v4 = self.endpoint.family is IPV4
        self._unyielded = 0
        self._segments = sys.platform == "linux"
        self._bulk: memoryview | None = None
        self._latest: tuple[Any, Endpoint] = ((), Endpoint("", 0))
        """The last sender, as the system and as we name it: in bulk the next datagram is often his too."""
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
            await self.readable()
            batch = self._read()
            if batch:
                return batch

    async def readable(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._socket)
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise NetworkError(f"the UDP socket {self.endpoint} is closed") from error

    def serve(self, answerers: Sequence[Answerer], now: float, unsent: list[Endpoint]) -> bool:
        # Read together, answered together, sent together: each part finds the processor's caches as it left them, and
        # who waits for the answers is wakened once for all of them. `extend` keeps what it got before an error.
        is_v4, receive, send = self._is_v4, self._socket.recvfrom, self._socket.sendto
        for _ in range(_SERVED_ROUNDS):
            batch: list[tuple[bytes, Any]] = []
            more = True
            try:
                batch.extend(map(receive, _RECEIVE_SIZES))
            except BlockingIOError:
                more = False
            except OSError as error:
                self._not_closed(error)
            answers: list[Buffer] = []
            addresses: list[Any] = []
            for data, address in batch:
                answer = answerers[data[0] if data else -1](data, address if is_v4 else endpoint_of(address), now)
                if answer is not None:
                    answers.append(answer)
                    addresses.append(address)
            while answers:
                sent: list[int] = []
                try:
                    sent.extend(map(send, answers, addresses))
                    break
                except (OSError, OverflowError):  # as in `send`
                    failed = len(sent)
                    unsent.append(endpoint_of(addresses[failed]))
                    del answers[: failed + 1], addresses[: failed + 1]
            if not more:
                return False
        return True

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
                    add((data, endpoint_of(address)))
        except BlockingIOError:
            pass
        except OSError as error:
            self._not_closed(error)
        return batch

    def _not_closed(self, error: OSError) -> None:
        """An ICMP "unreachable" for something sent earlier surfaces at a read, on some systems: no reason to end."""
        if self._socket.fileno() < 0:
            raise NetworkError(f"the UDP socket {self.endpoint} is closed") from error

    def _read_bulk(self, room: memoryview, batch: list[tuple[bytes, Endpoint]]) -> None:
        receive, buffers = self._socket.recvmsg_into, [room]
        for _ in range(_BULK_BATCH):
            count, control, _, address = receive(buffers, _GRO_SPACE)
            named, peer = self._latest
            if address != named:
                peer = _new_endpoint(Endpoint, address) if self._is_v4 else endpoint_of(address)
                self._latest = address, peer
            if not control:
                batch.append((room[:count].tobytes(), peer))
                continue
            size = count or 1
            for level, kind, value in control:
                if level == _SOL_UDP and kind == _UDP_GRO:
                    size = _GRO_SIZE.unpack_from(value)[0]
            batch += [(room[at : min(at + size, count)].tobytes(), peer) for at in range(0, count, size)]
            if len(batch) >= _BULK_BATCH:
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


class TrioMulticast(TrioDatagrams):
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


def _interface_of(at: str) -> int | None:
    """The number of the interface that has an IPv6 address; None where it is not told, and for the wildcard."""
    if at == IPV6.any_host:
        return None
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as lines:
            rows = [line.split() for line in lines]
    except OSError:  # not Linux: all interfaces serve
        return None
    packed = socket.inet_pton(socket.AF_INET6, at).hex()
    return next((int(row[1], 16) for row in rows if row and row[0] == packed), None)


def _joined(sock: socket.socket, group: Endpoint, at: str) -> list[bytes]:
    """Joins the group on the interfaces; returns what selects each for sending. Raises OSError where there is none."""
    v4 = group.family is IPV4
    ways: list[bytes] = []
    if v4 and at != IPV4.any_host:
        ways.append(socket.inet_pton(socket.AF_INET, at))
    else:
        its = None if v4 else _interface_of(at)
        for number, name in socket.if_nameindex()[:_MAX_INTERFACES]:
            if name.startswith("lo") or its not in (None, number):
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
