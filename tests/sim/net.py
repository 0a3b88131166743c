"""A virtual internet for trio's MockClock: hosts, datagrams with loss and delay, and byte streams.

`Internet.host(...)` gives a machine with its addresses; it implements `wire.net.Network`, so a whole
session runs on it without a socket. Nothing here runs in the background: what was sent carries the
moment at which it arrives, and the receiver sleeps until then. Thus it needs no nursery and works
under `autojump_clock`. It does not model congestion: a stream has a delay, a window and, where asked
for, a rate.

    internet = Internet(random.Random(1), delay_s=0.03, loss=0.05)
    alice, bob = internet.host("80.1.0.1"), internet.host("80.2.0.1", "2a01:1::1")
    internet.names["router.example"] = ["80.2.0.1"]

    home = internet.nat("80.3.0.1")  # a router: hosts behind it share its address
    carol = internet.host("192.168.1.2", behind=home)

Faults: `Internet.loss`, `duplicate`, `jitter_s` (reorders datagrams), `fragment` (streams are read in
random bits); `Host.nat` (in come only answers), `Host.unplug()` / `plug()`, `Host.mute` (its own
datagrams vanish), `Host.refuse_names` (no resolver).
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TypeVar

import trio

from wire.compact import Endpoint, reach
from wire.errors import MisuseError, NetworkError
from wire.net import Buffer

__all__ = ["Host", "Internet", "Nat", "VirtualDatagrams", "VirtualListener", "VirtualMulticast", "VirtualStream"]

_BATCH = 64
_FIRST_FREE_PORT = 49152
_LAST_FREE_PORT = 65535
_NAT_KEEPS_S = 60.0
_WINDOW_BYTES = 1 << 20
_BACKLOG = 128

T = TypeVar("T")


class Internet:
    """All hosts, and what happens to things on their way. Delays are one-way seconds, chances are 0..1."""

    def __init__(
        self,
        rng: random.Random,
        *,
        delay_s: float = 0.02,
        jitter_s: float = 0.0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        fragment: bool = False,
        rate_bytes_s: float | None = None,
        window_bytes: int = _WINDOW_BYTES,
    ) -> None:
        self.rng = rng
        self.delay_s = delay_s
        self.jitter_s = jitter_s
        self.loss = loss
        self.duplicate = duplicate
        self.fragment = fragment
        self.rate_bytes_s = rate_bytes_s
        """The rate of each direction of a stream; None for no limit."""
        self.window_bytes = window_bytes
        """Bytes on their way in one direction of a stream, at most; then the sender waits."""
        self.names: dict[str, list[str]] = {}
        """What the resolver of every host knows: name to IP literals."""
        self.datagrams_sent = 0
        self.datagrams_lost = 0
        self.groups: dict[Endpoint, list[VirtualMulticast]] = {}
        """The members of each multicast group."""
        self._hosts: dict[str, Host] = {}
        self._nats: dict[str, Nat] = {}
        self._order = 0

    def nat(self, address: str, *, keeps_ports: bool = True, symmetric: bool = False) -> Nat:
        """A router with that public address, for `host(..., behind=...)`."""
        self._nats[address] = Nat(address, keeps_ports=keeps_ports, symmetric=symmetric)
        return self._nats[address]

    def host(self, *addresses: str, nat: bool = False, behind: Nat | None = None) -> Host:
        """A new machine with these addresses (IP literals, one or more); `behind` a NAT nobody else reaches them."""
        host = Host(self, tuple(Endpoint.of(address, 0).host for address in addresses), nat=nat, behind=behind)
        if behind is not None:
            return host
        for address in host.addresses:
            if address in self._hosts:
                raise ValueError(f"two hosts cannot have {address}")
            self._hosts[address] = host
        return host

    def move(self, address: str, host: Host | None) -> None:
        """Whose an address is from now on."""
        self._hosts.pop(address, None)
        if host is not None:
            self._hosts[address] = host

    def at(self, address: str) -> Host | None:
        """The host with that address."""
        return self._hosts.get(address)

    def socket_at(self, to: Endpoint, source: Endpoint, now: float) -> VirtualDatagrams | None:
        """Who gets a datagram from `source` to `to`, if anybody does."""
        if (nat := self._nats.get(to.host)) is not None:
            return nat.inward(to.port, source, now)
        host = self._hosts.get(to.host)
        target = find_bound(host.udp_sockets, to) if host is not None and host.up else None
        return target if target is not None and target.lets_in(source, now) else None

    def delay(self) -> float:
        """One way's seconds, drawn anew."""
        return self.delay_s + (self.rng.uniform(0.0, self.jitter_s) if self.jitter_s else 0.0)

    def next_order(self) -> int:
        """Breaks ties of things that arrive at one moment: first sent, first there."""
        self._order += 1
        return self._order


class Nat:
    """A router between a home and the internet (RFC 4787): one public address, and ports of its own choice on it.

    In comes only what answers: from an address and port that was sent to within the last minute. `keeps_ports`: outside
    a port has the number that it has inside, where that is free. `symmetric`: each far end is shown another port, so
    that what one of them sees is of no use to another.
    """

    def __init__(self, address: str, *, keeps_ports: bool, symmetric: bool) -> None:
        self.address = address
        self._keeps_ports = keeps_ports and not symmetric
        self._symmetric = symmetric
        self._ports: dict[tuple[VirtualDatagrams, Endpoint | None], int] = {}
        self._inside: dict[int, VirtualDatagrams] = {}
        self._spoke: dict[tuple[int, Endpoint], float] = {}

    def outward(self, socket: VirtualDatagrams, to: Endpoint, now: float) -> Endpoint:
        """Whence a datagram to `to` comes, as the internet sees it."""
        key = (socket, to if self._symmetric else None)
        port = self._ports.get(key)
        if port is None:
            kept = self._keeps_ports and socket.endpoint.port not in self._inside
            port = self._ports[key] = socket.endpoint.port if kept else 20_000 + len(self._ports) * 7
        self._inside[port] = socket
        self._spoke[port, to] = now
        return Endpoint(self.address, port)

    def inward(self, port: int, source: Endpoint, now: float) -> VirtualDatagrams | None:
        """Whose a datagram to that port is; None where nobody inside has asked for it."""
        if now - self._spoke.get((port, source), float("-inf")) > _NAT_KEEPS_S:
            return None
        return self._inside[port]


class Host:
    """One machine: a `wire.net.Network`. Make it by `Internet.host`."""

    def __init__(
        self, internet: Internet, addresses: tuple[str, ...], *, nat: bool = False, behind: Nat | None = None
    ) -> None:
        self.internet = internet
        self.addresses = addresses
        self.nat = nat
        self.behind = behind
        self.up = True
        self.mute = False
        self.refuse_names = False
        self.dialled: Counter[Endpoint] = Counter()
        """Where this host opened streams to, and how often it tried."""
        self.datagrams_to: Counter[Endpoint] = Counter()
        """Where this host sent datagrams, and how many."""
        self.udp_sockets: dict[Endpoint, VirtualDatagrams] = {}
        self.listeners: dict[Endpoint, VirtualListener] = {}
        self.streams: dict[VirtualStream, None] = {}
        """Open streams of this host, either side's dialling."""
        self._next_port = _FIRST_FREE_PORT

    def renumber(self, *addresses: str) -> None:
        """Gives the machine other addresses; what is bound to the old ones hears nothing more."""
        for address in self.addresses:
            self.internet.move(address, None)
        self.addresses = addresses
        for address in addresses:
            self.internet.move(address, self)

    async def udp(self, at: Endpoint) -> VirtualDatagrams:
        """Binds a UDP socket; port 0 picks a free one. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        at = self._free(at, self.udp_sockets, "open UDP")
        self.udp_sockets[at] = VirtualDatagrams(self, at)
        return self.udp_sockets[at]

    async def listen(self, at: Endpoint) -> VirtualListener:
        """Listens for streams; port 0 picks a free one. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        at = self._free(at, self.listeners, "listen on")
        self.listeners[at] = VirtualListener(self, at)
        return self.listeners[at]

    async def multicast(self, group: Endpoint, at: str) -> VirtualMulticast:
        """A socket in a group, heard by the hosts of the same /24 alone (IPv4 only). Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        mine = [a for a in self.addresses if ":" not in a and at in (a, group.family.any_host)]
        if ":" in group.host or not mine:
            raise NetworkError(f"cannot join {group}: No such device")
        member = VirtualMulticast(self, Endpoint(mine[0], group.port), group)
        self.internet.groups.setdefault(group, []).append(member)
        return member

    def global_ipv6(self) -> str | None:
        """The first of this host, where it has any."""
        return next((host for host in self.addresses if ":" in host and reach(host) == "global"), None)

    async def connect(self, to: Endpoint) -> VirtualStream:
        """Opens a stream after a round trip; hangs where nobody answers. Raises NetworkError where it is refused."""
        self.dialled[to] += 1
        own = self.address_of(to)
        if own is None or not self.up:
            await trio.lowlevel.checkpoint()
            raise NetworkError(f"cannot connect to {to}: Network is unreachable")
        await trio.sleep(self.internet.delay() + self.internet.delay())
        other = self.internet.at(to.host)
        if other is None or not other.up or (other.nat and other is not self):
            await trio.sleep_forever()
        assert other is not None
        listener = find_bound(other.listeners, to)
        if listener is None or len(listener.queue) >= _BACKLOG:
            raise NetworkError(f"cannot connect to {to}: Connection refused")
        here = Endpoint(own if self.behind is None else self.behind.address, self._ephemeral())
        there, back = _Pipe(self.internet), _Pipe(self.internet)
        near = VirtualStream(self, here, to, incoming=back, outgoing=there)
        listener.offer(VirtualStream(other, to, here, incoming=there, outgoing=back))
        return near

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        """The literal itself, or what `Internet.names` says. Raises NetworkError."""
        await trio.sleep(self.internet.delay() * 2)
        try:
            return [Endpoint.of(host, port)]
        except MisuseError:
            pass  # a name
        known = [] if self.refuse_names or not self.up else self.internet.names.get(host, [])
        if not known:
            raise NetworkError(f"cannot resolve {host}: Name or service not known")
        return [Endpoint.of(address, port) for address in known]

    def unplug(self) -> None:
        """Takes the cable out: streams break on both sides, nothing passes until `plug`."""
        self.up = False
        for stream in list(self.streams):
            stream.reset()

    def plug(self) -> None:
        """Puts the cable back."""
        self.up = True

    def address_of(self, to: Endpoint) -> str | None:
        """The own address from which `to` is reached: its very address, or the first of its family."""
        if to.host in self.addresses:
            return to.host
        return next((a for a in self.addresses if (":" in a) == (":" in to.host)), None)

    def _ephemeral(self) -> int:
        self._next_port = self._next_port + 1 if self._next_port < _LAST_FREE_PORT else _FIRST_FREE_PORT
        return self._next_port

    def _free(self, at: Endpoint, taken: Mapping[Endpoint, object], what: str) -> Endpoint:
        wildcard = at.host == at.family.any_host
        mine = any((":" in a) == (":" in at.host) for a in self.addresses) if wildcard else at.host in self.addresses
        if not mine:
            raise NetworkError(f"cannot {what} {at}: Cannot assign requested address")
        if at.port:
            rivals = [bound for bound in taken if bound.port == at.port and bound.family is at.family]
            if any(wildcard or bound.host in (at.host, at.family.any_host) for bound in rivals):
                raise NetworkError(f"cannot {what} {at}: Address already in use")
            return at
        while True:
            free = Endpoint(at.host, self._ephemeral())
            if all(bound.port != free.port for bound in (*self.udp_sockets, *self.listeners)):
                return free


def find_bound(bound: Mapping[Endpoint, T], to: Endpoint) -> T | None:
    """What is bound at that address, or at the wildcard of its family."""
    return bound.get(to) or bound.get(Endpoint(to.family.any_host, to.port))


class _Wake:
    """Lets tasks wait for a change; each change wakes all."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def __call__(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def wait(self, until: float | None = None) -> None:
        event = self._event
        with trio.move_on_at(float("inf") if until is None else until):
            await event.wait()


class VirtualDatagrams:
    """A UDP socket of a virtual host (`wire.net.Datagrams`)."""

    def __init__(self, host: Host, endpoint: Endpoint) -> None:
        self._host = host
        self.endpoint = endpoint
        self._arriving: list[tuple[float, int, bytes, Endpoint]] = []
        self._wake = _Wake()
        self._closed = False
        self._spoke_to: dict[Endpoint, float] = {}

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        """Waits for datagrams, then gives all that are there, up to a batch. Raises NetworkError when closed."""
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise NetworkError(f"the UDP socket {self.endpoint} is closed")
            now = trio.current_time()
            batch: list[tuple[bytes, Endpoint]] = []
            while self._arriving and self._arriving[0][0] <= now and len(batch) < _BATCH:
                _, _, data, source = heapq.heappop(self._arriving)
                batch.append((data, source))
            if batch:
                return batch
            await self._wake.wait(self._arriving[0][0] if self._arriving else None)

    def send(self, data: Buffer, to: Endpoint) -> bool:
        """Sends at once or not at all. Never raises for the network."""
        host, internet = self._host, self._host.internet
        own = host.address_of(to) if self.endpoint.host == self.endpoint.family.any_host else self.endpoint.host
        if self._closed or not host.up or own is None or to.family is not self.endpoint.family or not to.port:
            return False
        internet.datagrams_sent += 1
        host.datagrams_to[to] += 1
        now = trio.current_time()
        self._spoke_to[to] = now
        source = Endpoint(own, self.endpoint.port)
        if host.behind is not None:
            source = host.behind.outward(self, to, now)
        if host.mute:
            internet.datagrams_lost += 1
            return True
        for _ in range(2 if internet.duplicate and internet.rng.random() < internet.duplicate else 1):
            if internet.loss and internet.rng.random() < internet.loss:
                internet.datagrams_lost += 1
                continue
            target = internet.socket_at(to, source, now)
            if target is None:
                internet.datagrams_lost += 1
                continue
            target.arrive(bytes(data), source, now + internet.delay())
        return True

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        """Sends each; returns where it failed."""
        return [to for data, to in batch if not self.send(data, to)]

    def expect_bulk(self) -> None:
        """All batches are alike here."""

    def lets_in(self, source: Endpoint, now: float) -> bool:
        """Whether the router before this host lets a datagram from `source` pass."""
        if not self._host.nat or source.host in self._host.addresses:
            return True
        return now - self._spoke_to.get(source, float("-inf")) <= _NAT_KEEPS_S

    def arrive(self, data: bytes, source: Endpoint, at: float) -> None:
        """Puts a datagram on its way; it is there at `at`."""
        heapq.heappush(self._arriving, (at, self._host.internet.next_order(), data, source))
        self._wake()

    def close(self) -> None:
        """Closes it; a waiting `receive` raises NetworkError."""
        if not self._closed:
            self._closed = True
            del self._host.udp_sockets[self.endpoint]
            self._wake()


class VirtualMulticast(VirtualDatagrams):
    """A UDP socket in a multicast group of the local network; `sent` is what it told the group."""

    def __init__(self, host: Host, endpoint: Endpoint, group: Endpoint) -> None:
        super().__init__(host, endpoint)
        self._group = group
        self.sent: list[tuple[float, bytes]] = []

    def send(self, data: Buffer, to: Endpoint) -> bool:
        """Sends to everybody in the group who is near, ourselves too."""
        host, internet = self._host, self._host.internet
        if self._closed or not host.up or to != self._group:
            return False
        now = trio.current_time()
        self.sent.append((now, bytes(data)))
        near = self.endpoint.host.rpartition(".")[0]
        for member in internet.groups[to]:
            if member.endpoint.host.rpartition(".")[0] == near and member._host.up:
                member.arrive(bytes(data), self.endpoint, now + internet.delay())
        return True

    def close(self) -> None:
        """Leaves the group; a waiting `receive` raises NetworkError."""
        if not self._closed:
            self._closed = True
            self._host.internet.groups[self._group].remove(self)
            self._wake()


class _Pipe:
    """One direction of a stream."""

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        self.chunks: deque[tuple[float, memoryview]] = deque()
        self.bytes = 0
        self.last_due = 0.0
        self.ends_at: float | None = None
        self.broken = False
        self.wake = _Wake()

    def put(self, data: Buffer, now: float) -> None:
        size = len(data)
        self.last_due = max(self.last_due, now + self.internet.delay())
        if self.internet.rate_bytes_s:
            self.last_due += size / self.internet.rate_bytes_s
        self.chunks.append((self.last_due, memoryview(bytes(data))))
        self.bytes += size
        self.wake()

    def take(self, buffer: memoryview, now: float) -> int:
        limit = len(buffer)
        if self.internet.fragment:
            limit = min(limit, self.internet.rng.randrange(1, 4096))
        taken = 0
        while self.chunks and taken < limit and self.chunks[0][0] <= now:
            due, chunk = self.chunks.popleft()
            part = chunk[: limit - taken]
            buffer[taken : taken + len(part)] = part
            taken += len(part)
            if len(part) < len(chunk):
                self.chunks.appendleft((due, chunk[len(part) :]))
        self.bytes -= taken
        if taken:
            self.wake()
        return taken


class VirtualStream:
    """One end of a byte stream (`wire.net.Stream`)."""

    def __init__(self, host: Host, local: Endpoint, remote: Endpoint, *, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._host = host
        self.local = local
        self.remote = remote
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        host.streams[self] = None

    async def receive_into(self, buffer: memoryview) -> int:
        """Waits for bytes and puts them into `buffer`; 0 at the end. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        pipe = self._incoming
        while True:
            if self._closed:
                raise NetworkError(f"the connection to {self.remote} is closed")
            if pipe.broken:
                raise NetworkError(f"cannot read from {self.remote}: Connection reset by peer")
            now = trio.current_time()
            taken = pipe.take(buffer, now)
            if taken:
                return taken
            if not pipe.chunks and pipe.ends_at is not None and pipe.ends_at <= now:
                return 0
            await pipe.wake.wait(pipe.chunks[0][0] if pipe.chunks else pipe.ends_at)

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        """Sends the buffers in order, whole. Raises NetworkError."""
        await trio.lowlevel.checkpoint()
        left = self.send_now(buffers)
        while left:
            await self._outgoing.wake.wait()
            left = self.send_now(left)

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Sends in order what the window takes; returns what is left. Raises NetworkError."""
        pipe = self._outgoing
        for at, buffer in enumerate(buffers):
            if self._closed:
                raise NetworkError(f"the connection to {self.remote} is closed")
            if pipe.broken:
                raise NetworkError(f"cannot write to {self.remote}: Broken pipe")
            if pipe.bytes >= self._host.internet.window_bytes:
                return buffers[at:]
            if len(buffer):
                pipe.put(buffer, trio.current_time())
        return ()

    def close(self) -> None:
        """Closes at once. The other end reads what is on its way, then the end; its writing fails."""
        if self._closed:
            return
        self._closed = True
        self._host.streams.pop(self, None)
        self._outgoing.ends_at = max(self._outgoing.last_due, trio.current_time() + self._host.internet.delay())
        self._incoming.broken = True
        self._outgoing.wake()
        self._incoming.wake()

    def reset(self) -> None:
        """Breaks it for both ends, at once: what is on its way is lost."""
        for pipe in (self._incoming, self._outgoing):
            pipe.broken = True
            pipe.wake()
        self._host.streams.pop(self, None)


class VirtualListener:
    """A listening socket of a virtual host (`wire.net.Listener`)."""

    def __init__(self, host: Host, endpoint: Endpoint) -> None:
        self._host = host
        self.endpoint = endpoint
        self.queue: deque[VirtualStream] = deque()
        self._wake = _Wake()
        self._closed = False

    def offer(self, stream: VirtualStream) -> None:
        """A connection for `accept`."""
        self.queue.append(stream)
        self._wake()

    async def accept(self) -> VirtualStream:
        """Waits for the next connection. Raises NetworkError when closed."""
        await trio.lowlevel.checkpoint()
        while not self._closed:
            if self.queue:
                return self.queue.popleft()
            await self._wake.wait()
        raise NetworkError(f"the listener {self.endpoint} is closed")

    def close(self) -> None:
        """Closes it; a waiting `accept` raises NetworkError, and what was not accepted is broken off."""
        if self._closed:
            return
        self._closed = True
        del self._host.listeners[self.endpoint]
        for stream in self.queue:
            stream.reset()
        self._wake()
