"""One bounded HTTP GET, for trackers, .torrent files and web seeds (RFC 9112; BEP 3, 19). A shell over `Network`.

A URL often comes from a stranger. So every bound is here, in one place: bytes after unpacking, seconds, redirects;
http and https alone; certificates are checked. A name is resolved once, and the very address that was judged is
dialled: a name that answers otherwise a moment later (DNS rebinding) leads nowhere else. Whoever comes from the
global internet, by a redirect or by a name, is not led into a network nearby.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import h11
import trio

from wire.compact import Endpoint, Family, reach
from wire.errors import NetworkError
from wire.http_url import HttpError, Target, is_http_url, is_link_local, is_near_literal, printable, redirected, shown
from wire.tls import secured

if TYPE_CHECKING:
    from wire.net import Network, Stream

__all__ = [
    "Body",
    "HttpClient",
    "HttpError",
    "NoAddressError",
    "Reply",
    "Response",
    "fetch",
    "is_http_url",
    "is_near_literal",
    "request",
]

MAX_REDIRECTS = 5
FETCH_S = 30.0
"""For the whole of `fetch`, redirects and body included."""
CONNECT_S = 8.0
"""For one address, where the name has others."""
MAX_ADDRESSES = 8
"""Of one name that are tried: a name may have a thousand."""
MAX_HEAD_BYTES = 32 << 10
"""Of an answer's status line and headers; 16 KiB is what many servers send at most."""
_READ_BYTES = 64 << 10
_INFLATE_STEP_BYTES = 64 << 10
_MAX_DRAINED_BYTES = 16 << 10
"""Of the page that comes with a redirect, so that its connection can be used again."""
_REDIRECTS = (301, 302, 303, 307, 308)
_AGENT: Final = "kademlia-bt/0.1"


class NoAddressError(HttpError):
    """The host has no address of the family that was asked for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, as `fetch` gives it."""

    status: int
    body: bytes
    """Unpacked."""
    url: str
    """Where it came from in the end."""
    server: Endpoint


@dataclass(slots=True)
class Response:
    """An answer whose body is still to be read, inside the `async with` of `request`."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """By their lower-case names; of several of one name, the last."""
    url: str
    server: Endpoint
    body: Body = field(repr=False)

    async def read(self, max_bytes: int) -> bytes:
        """The whole body. Raises HttpError where it is longer than `max_bytes`."""
        data = bytearray()
        async for chunk in self.body:
            data += chunk
            if len(data) > max_bytes:
                raise HttpError(f"{self.url}: the answer is longer than {max_bytes} bytes")
        return bytes(data)


async def fetch(
    network: Network,
    url: str,
    *,
    near: bool,
    max_bytes: int,
    family: Family | None = None,
    timeout_s: float = FETCH_S,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    """Gets a URL whole, whatever its status. `near`, `family`: see `HttpClient.get`. Raises HttpError.

    `max_bytes` bounds the body after unpacking, `timeout_s` the whole.
    """
    with trio.move_on_after(timeout_s):
        async with request(network, url, near=near, family=family, headers=headers, body=body) as response:
            return Reply(response.status, await response.read(max_bytes), response.url, response.server)
    raise HttpError(f"{shown(url)}: no whole answer within {timeout_s:.0f} s")


@asynccontextmanager
async def request(
    network: Network,
    url: str,
    *,
    near: bool,
    family: Family | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> AsyncIterator[Response]:
    """One GET (with a body, POST) on a connection of its own: see `HttpClient.get`."""
    client = HttpClient(network, keep=0)
    async with client.get(url, near=near, family=family, headers=headers, body=body) as response:
        yield response


class HttpClient:
    """Sends GETs, one at a time, and keeps up to `keep` connections open for the next ones (RFC 9112, 9.3)."""

    def __init__(self, network: Network, *, keep: int = 2) -> None:
        self._network = network
        self._keep = keep
        self._idle: list[_Wire] = []

    def close(self) -> None:
        """Closes what is kept."""
        for wire in self._idle:
            wire.close()
        self._idle.clear()

    @asynccontextmanager
    async def get(
        self,
        url: str,
        *,
        near: bool,
        family: Family | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> AsyncIterator[Response]:
        """Sends a GET, follows redirects, gives the answer once its headers are there. The caller bounds the time.

        Args:
            url: http or https.
            near: Whether `url` may be on this machine or in a private network: because a person named it, say. Even
                then a redirect from a global address leads to global ones alone.
            family: IPv4 or IPv6 alone; None: whichever answers.
            headers: More of them, such as Range.
            body: Sent along, by POST; then no redirect is followed.

        Raises HttpError where it cannot be had or must not be. A body that was read to its end leaves its connection
        for the next request; any other closes it.
        """
        for _ in range(MAX_REDIRECTS + 1):
            target = Target.of(url)
            wire, response = await self._ask(target, headers or {}, body, near=near, family=family)
            try:
                near = near and reach(wire.server.host) != "global"
                location = response.headers.get("location")
                if response.status not in _REDIRECTS or location is None or body is not None:
                    yield response
                    return
                url = redirected(target.url, location)
                if self._keep and response.headers.get("content-length", "").isdigit():
                    with suppress(HttpError):
                        await response.read(_MAX_DRAINED_BYTES)
            finally:
                self._put_back(wire)
        raise HttpError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    async def _ask(
        self, target: Target, headers: Mapping[str, str], body: bytes | None, *, near: bool, family: Family | None
    ) -> tuple[_Wire, Response]:
        for wire in self._idle:
            if wire.serves(target, family) and _may_dial(wire.server, near=near):
                self._idle.remove(wire)
                try:
                    return wire, await wire.exchange(target, headers, body, keep=True)
                except HttpError:  # the server closed it meanwhile, as it may at any time: once more, on a fresh one
                    wire.close()
                    if not wire.was_silent:
                        raise
                except BaseException:
                    wire.close()
                    raise
                break
        stream, server = await _connect(self._network, target, near=near, family=family)
        wire = _Wire(stream, server, target)
        try:
            return wire, await wire.exchange(target, headers, body, keep=self._keep > 0)
        except BaseException:
            wire.close()
            raise

    def _put_back(self, wire: _Wire) -> None:
        if not (self._keep and wire.rewind()):
            wire.close()
            return
        self._idle.append(wire)
        while len(self._idle) > self._keep:
            self._idle.pop(0).close()


async def _connect(network: Network, target: Target, *, near: bool, family: Family | None) -> tuple[Stream, Endpoint]:
    name = shown(target.url)
    try:
        named = await network.resolve(target.host, target.port)
    except NetworkError as error:
        raise HttpError(f"{name}: {error}") from None
    usable = [endpoint for endpoint in named if family is None or endpoint.family is family]
    allowed = [endpoint for endpoint in usable if _may_dial(endpoint, near=near)][:MAX_ADDRESSES]
    if not usable:
        raise NoAddressError(f"{name}: no address of that family")
    if not allowed:
        raise HttpError(f"{name}: it leads to {usable[0].host}, an address of this network")
    failure = ""
    for left, endpoint in zip(reversed(range(len(allowed))), allowed, strict=True):
        stream: Stream | None = None
        with trio.move_on_after(CONNECT_S if left else float("inf")):
            try:
                stream = await network.connect(endpoint)
                if target.scheme == "https":
                    stream = await secured(stream, target.host)
                return stream, endpoint
            except NetworkError as error:
                failure = str(error)
            except BaseException:
                if stream is not None:
                    stream.close()
                raise
        if stream is not None:
            stream.close()
    raise HttpError(f"{name}: {failure or 'nobody answered'}")


def _may_dial(endpoint: Endpoint, *, near: bool) -> bool:
    if is_link_local(endpoint.host):
        return False
    place = reach(endpoint.host)
    return bool(endpoint.port) and (place == "global" or (near and place in ("loopback", "private")))


class _Wire:
    """h11 and its stream as one."""

    def __init__(self, stream: Stream, server: Endpoint, target: Target) -> None:
        self.server = server
        self.was_silent = True
        """Nothing came since the last request was sent."""
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._stream = stream
        self._url = target.url
        self._place = target.place
        self._buffer = memoryview(bytearray(_READ_BYTES))

    def serves(self, target: Target, family: Family | None) -> bool:
        """Whether it leads to the server of that URL."""
        return self._place == target.place and (family is None or family is self.server.family)

    def rewind(self) -> bool:
        """Makes it ready for the next request; False where the last one is not over, or the server said its last."""
        machine = self._machine
        if machine.their_state is h11.SEND_BODY:
            with suppress(h11.RemoteProtocolError):
                machine.next_event()  # who took all the data may have left the end of the message
        if machine.our_state is not h11.DONE or machine.their_state is not h11.DONE or machine.trailing_data[0]:
            return False
        machine.start_next_cycle()
        return True

    def close(self) -> None:
        self._stream.close()

    async def exchange(self, target: Target, headers: Mapping[str, str], body: bytes | None, *, keep: bool) -> Response:
        """One request, and the head of its answer."""
        self._url, machine = target.url, self._machine
        said = {"Host": target.authority, "User-Agent": _AGENT, "Accept-Encoding": "gzip, deflate"}
        if not keep:
            said["Connection"] = "close"
        if body is not None:
            said["Content-Length"] = str(len(body))
        said |= headers
        method = "GET" if body is None else "POST"
        try:
            data = machine.send(h11.Request(method=method, target=target.path, headers=list(said.items()))) or b""
            if body:
                data += machine.send(h11.Data(data=body)) or b""
            data += machine.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise HttpError(f"{shown(target.url)}: {error}") from None
        self.was_silent = True
        await self._send(data)
        while True:
            event = await self.event()
            if isinstance(event, h11.InformationalResponse):
                continue
            assert isinstance(event, h11.Response)
            named = {bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in event.headers}
            reason = printable(bytes(event.reason).decode("latin-1"))
            came = Body(self, named.get("content-encoding", "").strip().lower(), target.url)
            return Response(event.status_code, reason, named, target.url, self.server, came)

    async def event(self) -> Any:
        """The next event of h11 that is not about needing data."""
        machine = self._machine
        try:
            while (event := machine.next_event()) is h11.NEED_DATA:
                machine.receive_data(await self._receive())
        except h11.RemoteProtocolError as error:
            raise HttpError(f"{shown(self._url)}: what the server says is no HTTP: {printable(str(error))}") from None
        return event

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all([data])
        except NetworkError as error:
            raise HttpError(f"{shown(self._url)}: {error}") from None

    async def _receive(self) -> bytes:
        try:
            count = await self._stream.receive_into(self._buffer)
        except NetworkError as error:
            raise HttpError(f"{shown(self._url)}: {error}") from None
        if count:
            self.was_silent = False
        elif self._machine.their_state is h11.SEND_RESPONSE:
            raise HttpError(f"{shown(self._url)}: the server closed the connection without an answer")
        return bytes(self._buffer[:count])


class Body:
    """The body of an answer as it comes: an async iterator of parts of at most 64 KiB, unpacked. Raises HttpError.

    It may be left at any time.
    """

    def __init__(self, wire: _Wire, encoding: str, url: str) -> None:
        self._wire = wire
        self._url = url
        self._packed = b""
        self._inflate: zlib._Decompress | None = None
        if encoding in ("gzip", "x-gzip"):
            self._inflate = zlib.decompressobj(wbits=31)
        elif encoding == "deflate":
            self._inflate = zlib.decompressobj()
        elif encoding not in ("", "identity"):
            raise HttpError(f"{shown(url)}: the answer is packed by {printable(encoding)}, which nobody asked for")

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._packed and self._inflate is not None and not self._inflate.eof:
                if data := self._step(self._inflate):
                    return data
                continue
            event = await self._wire.event()
            if not isinstance(event, h11.Data):
                if self._inflate is not None and not self._inflate.eof:
                    raise HttpError(f"{shown(self._url)}: the packed answer is cut off")
                raise StopAsyncIteration
            if self._inflate is None:
                return bytes(event.data)
            self._packed = bytes(event.data)

    def _step(self, inflate: zlib._Decompress) -> bytes:
        """Unpacks a little: a bomb is stopped at the first bytes too many, not after it has gone off."""
        try:
            data = inflate.decompress(self._packed, _INFLATE_STEP_BYTES)
        except zlib.error:
            raise HttpError(f"{shown(self._url)}: the packed answer is broken") from None
        self._packed = inflate.unconsumed_tail
        return data
