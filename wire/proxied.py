"""The outer world through a SOCKS5 proxy: a `Network` whose inner network is given the proxy's address alone.

Fails closed by its build: there is no way from here to the world but the proxy. Names go to it as names; what stands
for them here are addresses out of a block that leads nowhere. Nobody is listened to, no group is joined. Where the
proxy is gone, what is called fails, and `trouble` says so in one line, until it is back. A shell (RFC 1928).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from wire import socks
from wire.compact import IPV4, Endpoint
from wire.errors import MisuseError, NetworkError
from wire.net import Buffer, Datagrams, Listener, Network, Stream
from wire.socks import Command, Proxy, ProxyError

__all__ = ["ProxiedNetwork"]

TALK_S = 15.0
"""For the talk with the proxy itself, without what it does for us."""
RETRY_S = 2.0
"""Between tries to reach it again."""
NO_UDP_RETRY_S = 300.0
"""The same, where it carries no datagrams."""
MAX_NAMES = 250
"""Names that are known at a time; more than a session ever uses."""
_NAMES_NET = "192.88.99."
"""Once relays of 6to4, withdrawn (RFC 7526): no host has such an address, and no rule takes it for a near one."""
NAME_ANSWERS_S = 60.0
"""How long after a datagram to a name its answers are looked for: they come from an address that nobody here knows."""


class ProxiedNetwork:
    """See `wire.net.Network`."""

    def __init__(self, inner: Network, proxy: Proxy, rng: random.Random | None = None) -> None:
        self.proxy = proxy
        self.without_udp: str | None = None
        """Why no datagrams go through."""
        self._down: str | None = None
        self._inner = inner
        self._rng = rng or random.SystemRandom()
        self._at: Endpoint | None = None
        self._names: dict[str, str] = {}
        """Host names by the addresses that stand for them."""

    @property
    def trouble(self) -> str | None:
        """Why nothing goes through now, or no datagrams do: one line. None where all is well."""
        return self._down or self.without_udp

    # --- the proxy itself

    async def check(self) -> None:
        """Talks to the proxy, up to the login. Raises ProxyError."""
        async with self._talk():
            pass

    async def _address(self) -> Endpoint:
        if self._at is None:
            self._at = (await self._inner.resolve(self.proxy.host, self.proxy.port))[0]
        return self._at

    @asynccontextmanager
    async def _talk(self) -> AsyncIterator[_Talk]:
        """A connection to the proxy, logged in; closed where the body fails. Raises ProxyError."""
        stream: Stream | None = None
        try:
            try:
                with trio.fail_after(TALK_S):
                    stream = await self._inner.connect(await self._address())
                    talk = _Talk(stream, self.proxy)
                    await talk.log_in()
            except ProxyError:
                raise
            except trio.TooSlowError:
                raise ProxyError(f"the proxy {self.proxy} does not answer") from None
            except NetworkError as error:
                reason = str(error).rpartition(": ")[2]
                raise ProxyError(f"the proxy {self.proxy} cannot be reached: {reason}") from None
        except BaseException as error:
            if stream is not None:
                stream.close()
            if isinstance(error, ProxyError):
                self._down = str(error)
                self._at = None
            raise
        self._down = None
        try:
            yield talk
        except BaseException:
            stream.close()
            raise

    async def associate(self) -> tuple[Stream, Datagrams, Endpoint]:
        """A UDP association: the connection that holds it, our socket, and where its datagrams go.

        Raises ProxyError, and NetworkError where the proxy carries no datagrams.
        """
        async with self._talk() as talk:
            port = 0
            with trio.move_on_after(TALK_S):
                port = await talk.ask(Command.UDP_ASSOCIATE, Endpoint(IPV4.any_host, 0), "send datagrams")
            if not port:
                raise NetworkError(f"the proxy {self.proxy} opens no way for datagrams")
            self.without_udp = None
            at = await self._address()
            relay = Endpoint(at.host, port)  # its host as we know it: behind a NAT it may name another
            return talk.stream, await self._inner.udp(Endpoint(relay.family.any_host, 0)), relay

    def is_gone(self) -> None:
        """Its connection broke."""
        self._down = f"the proxy {self.proxy} hung up"

    def named(self, to: Endpoint) -> str:
        """What the proxy is told for an address: the name that it stands for, or itself."""
        return self._names.get(to.host, to.host)

    # --- `Network`

    async def udp(self, at: Endpoint) -> Datagrams:
        """Datagrams through the proxy; where it carries none, nothing is sent. Raises ProxyError where it is away."""
        datagrams = _ProxiedDatagrams(self, Endpoint(at.host, at.port or self._port()))
        await datagrams.open()
        return datagrams

    async def multicast(self, group: Endpoint, at: str) -> Datagrams:
        """Never."""
        raise NetworkError(f"no group is joined through a proxy: {group}")

    def global_ipv6(self) -> str | None:
        """None: others see the proxy."""
        return None

    async def connect(self, to: Endpoint) -> Stream:
        """A stream through the proxy. Raises ProxyError where the proxy is the trouble, NetworkError for the rest."""
        host = self.named(to)
        async with self._talk() as talk:
            await talk.ask(Command.CONNECT, Endpoint(host, to.port), f"connect to {host}")
            return _ProxiedStream(talk.stream, to)

    async def listen(self, at: Endpoint) -> Listener:
        """Nobody comes in: a listener that stays silent, so that no port is open to the outside."""
        await trio.lowlevel.checkpoint()
        return _DeafListener(Endpoint(at.host, at.port or self._port()))

    async def resolve(self, host: str, port: int) -> list[Endpoint]:
        """The literal itself, or an address that stands for the name: the proxy will look it up."""
        await trio.lowlevel.checkpoint()
        with suppress(MisuseError):
            return [Endpoint.of(host, port)]
        name = host.rstrip(".").lower()
        if not name or len(name) > socks.MAX_NAME_BYTES or not all(" " < char < "\x7f" for char in name):
            raise NetworkError(f"cannot resolve {host!r}: it is no host's name")
        for address, known in self._names.items():
            if known == name:
                return [Endpoint(address, port)]
        if len(self._names) >= MAX_NAMES:  # the longest known goes
            address = next(iter(self._names))
            del self._names[address]
        else:
            address = f"{_NAMES_NET}{len(self._names) + 1}"
        self._names[address] = name
        return [Endpoint(address, port)]

    def _port(self) -> int:
        return self._rng.randrange(49152, 65536)


class _Talk:
    """The words that are changed with the proxy on a fresh connection."""

    def __init__(self, stream: Stream, proxy: Proxy) -> None:
        self.stream = stream
        self._proxy = proxy

    async def log_in(self) -> None:
        proxy = self._proxy
        await self.stream.send_all([socks.greeting(proxy)])
        socks.judge_method(proxy, await self._exactly(2))
        if proxy.user is not None:
            await self.stream.send_all([socks.login(proxy)])
            socks.judge_login(proxy, await self._exactly(2))

    async def ask(self, command: Command, to: Endpoint, what: str) -> int:
        """Returns the port that the answer names."""
        await self.stream.send_all([socks.request(command, to.host, to.port)])
        head = await self._exactly(5)
        return socks.rest_of_reply(await self._exactly(socks.judge_reply_head(self._proxy, head, what)))

    async def _exactly(self, count: int) -> bytes:
        """Not a byte more: what follows is not the proxy's."""
        buffer = bytearray(count)
        view = memoryview(buffer)
        at = 0
        while at < count:
            came = await self.stream.receive_into(view[at:])
            if not came:
                raise ProxyError(f"the proxy {self._proxy} hung up")
            at += came
        return bytes(buffer)


class _ProxiedStream:
    """A stream whose other end is behind the proxy."""

    def __init__(self, stream: Stream, remote: Endpoint) -> None:
        self.remote = remote
        self.receive_into = stream.receive_into
        self.send_all = stream.send_all
        self.close = stream.close


class _DeafListener:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._closed = trio.Event()

    async def accept(self) -> Stream:
        await self._closed.wait()
        raise NetworkError(f"the listener {self.endpoint} is closed")

    def close(self) -> None:
        self._closed.set()


class _ProxiedDatagrams:
    """A UDP association, made again where it breaks; whoever waits in `receive` does the work."""

    def __init__(self, network: ProxiedNetwork, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._network = network
        self._way: tuple[Stream, Datagrams, Endpoint] | None = None
        """The connection that holds the association, our socket, and the relay's address."""
        self._asked: dict[Endpoint, float] = {}
        """Addresses that stand for names, and when something was sent there last."""
        self._closing = trio.Event()

    async def open(self) -> float:
        """Makes the association; how long to wait where there is none. Raises ProxyError."""
        try:
            self._way = await self._network.associate()
        except ProxyError:
            raise
        except NetworkError as error:
            self._network.without_udp = f"no DHT, no uTP and no trackers over UDP: {error}"
            return NO_UDP_RETRY_S
        return 0.0

    def close(self) -> None:
        self._drop()
        self._closing.set()

    def _drop(self) -> None:
        if self._way is not None:
            self._way[0].close()
            self._way[1].close()
            self._way = None

    async def receive(self) -> list[tuple[bytes, Endpoint]]:
        while not self._closing.is_set():
            if self._way is None:
                await self._open_again()
            elif batch := await self._receive(*self._way):
                return batch
        raise NetworkError(f"the UDP socket {self.endpoint} is closed")

    async def _open_again(self) -> None:
        wait_s = RETRY_S
        while self._way is None and not self._closing.is_set():
            with trio.move_on_after(wait_s):
                await self._closing.wait()
                return
            with suppress(ProxyError):
                wait_s = await self.open() or RETRY_S

    async def _receive(self, control: Stream, inner: Datagrams, relay: Endpoint) -> list[tuple[bytes, Endpoint]]:
        came: list[tuple[bytes, Endpoint]] = []

        async def watch() -> None:
            with suppress(NetworkError):
                while await control.receive_into(memoryview(bytearray(64))):
                    pass
            if not self._closing.is_set():
                self._network.is_gone()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                came = await inner.receive()
            except NetworkError:
                pass  # closed
            else:
                nursery.cancel_scope.cancel()
                return self._unpacked(came, relay)
        self._drop()
        return []

    def _unpacked(self, came: Sequence[tuple[bytes, Endpoint]], relay: Endpoint) -> list[tuple[bytes, Endpoint]]:
        batch = []
        for packed, source in came:
            if source != relay or (unpacked := socks.unpack_datagram(packed)) is None:
                continue
            data, sender = unpacked
            batch.append(unpacked)
            # It may be the answer of a host that we know by its name alone; who did not ask it drops it.
            batch += [(data, name) for name in self._names_at(sender.port)]
        return batch

    def _names_at(self, port: int) -> list[Endpoint]:
        if not self._asked:
            return []
        now = trio.current_time()
        self._asked = {to: at for to, at in self._asked.items() if now - at < NAME_ANSWERS_S}
        return [to for to in self._asked if to.port == port]

    def send(self, data: Buffer, to: Endpoint) -> bool:
        if self._way is None:
            return False
        _, inner, relay = self._way
        host = self._network.named(to)
        if host != to.host:
            self._asked[to] = trio.current_time()
        return inner.send(socks.pack_datagram(host, to.port, data), relay)

    def send_many(self, batch: Sequence[tuple[Buffer, Endpoint]]) -> list[Endpoint]:
        return [to for data, to in batch if not self.send(data, to)]

    def expect_bulk(self) -> None:
        pass
