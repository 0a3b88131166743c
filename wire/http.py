"""One bounded HTTP GET, for trackers, .torrent files and web seeds (RFC 9112; BEP 3, 19). A shell over `Network`.

A URL often comes from a stranger. So every bound is here, in one place: bytes after unpacking, seconds, redirects;
http and https alone; certificates are checked. A name is resolved once, and the very address that was judged is
dialled: a name that answers otherwise a moment later (DNS rebinding) leads nowhere else. Whoever comes from the
global internet, by a redirect or by a name, is not led into a network nearby. One connection a request.
"""

from __future__ import annotations

import functools
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin, urlsplit

import h11
import trio

from wire.compact import Endpoint, Family, reach
from wire.errors import NetworkError

if TYPE_CHECKING:
    from wire.net import Network, Stream

__all__ = [
    "Body",
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
MAX_URL_CHARS = 8192
MAX_HEAD_BYTES = 32 << 10
"""Of an answer's status line and headers; 16 KiB is what many servers send at most."""
_READ_BYTES = 64 << 10
_INFLATE_STEP_BYTES = 64 << 10
_REDIRECTS = (301, 302, 303, 307, 308)
_AGENT: Final = "kademlia-bt/0.1"
_PORTS = {"http": 80, "https": 443}


class HttpError(NetworkError):
    """What was asked for did not come: one line for people, the server's words made printable."""


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


def is_http_url(text: str) -> bool:
    """Whether it begins as an http or https URL."""
    return text.lower().startswith(("http://", "https://"))


def is_near_literal(url: str) -> bool:
    """Whether the URL itself, for all to see, names this machine or a private address (not a link-local one)."""
    with suppress(ValueError):
        host = (urlsplit(url).hostname or "").rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        return reach(host) in ("loopback", "private") and not _is_link_local(host)
    return False


async def fetch(
    network: Network,
    url: str,
    *,
    near: bool,
    max_bytes: int,
    family: Family | None = None,
    timeout_s: float = FETCH_S,
) -> Reply:
    """Gets a URL whole, whatever its status. `near`, `family`: see `request`. Raises HttpError.

    `max_bytes` bounds the body after unpacking, `timeout_s` the whole.
    """
    with trio.move_on_after(timeout_s):
        async with request(network, url, near=near, family=family) as response:
            body = await response.read(max_bytes)
            return Reply(response.status, body, response.url, response.server)
    raise HttpError(f"{_shown(url)}: no whole answer within {timeout_s:.0f} s")


@asynccontextmanager
async def request(
    network: Network,
    url: str,
    *,
    near: bool,
    family: Family | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Response]:
    """Sends a GET, follows redirects, and gives the answer once its headers are there. The caller bounds the time.

    Args:
        network: Whence the streams come.
        url: http or https.
        near: Whether `url` may be on this machine or in a private network: because a person named it, say. Even then
            a redirect from a global address leads to global ones alone.
        family: IPv4 or IPv6 alone; None: whichever answers.
        headers: More of them, such as Range.

    Raises HttpError where it cannot be had or must not be.
    """
    for _ in range(MAX_REDIRECTS + 1):
        target = _Target.of(url)
        stream, server = await _connect(network, target, near=near, family=family)
        try:
            near = near and reach(server.host) != "global"
            response = await _exchange(stream, server, target, headers or {})
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None:
                yield response
                return
            url = _redirected(target.url, location)
        finally:
            stream.close()
    raise HttpError(f"{_shown(url)}: more than {MAX_REDIRECTS} redirects")


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    scheme: str
    host: str
    port: int
    path: str
    """And query, as it goes into the request line."""

    @classmethod
    def of(cls, url: str) -> _Target:
        shown = _shown(url)
        if not is_http_url(url):
            raise HttpError(f"{shown}: only http and https URLs are fetched")
        if len(url) > MAX_URL_CHARS:
            raise HttpError(f"{shown}: the URL is {len(url)} characters long")
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise HttpError(f"{shown}: that is no URL") from None
        if not host or not all(" " < char < "\x7f" for char in host):
            # Names that only look like another's are written with such letters; registrars know them as xn--...
            raise HttpError(f"{shown}: the host is not written in ASCII letters and digits")
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]{}|\"`^<>\\")
        query = "".join(char if "!" <= char <= "~" else quote(char) for char in query)
        port = _PORTS[parts.scheme.lower()] if port is None else port
        return cls(url, parts.scheme.lower(), host, port, f"{path}?{query}" if parts.query else path)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location.strip())
    except ValueError:
        target = location
    if not is_http_url(target):
        raise HttpError(f"{_shown(url)}: it redirects to {_shown(target)}, and only http and https are followed")
    if url.lower().startswith("https:") and not target.lower().startswith("https:"):
        raise HttpError(f"{_shown(url)}: it redirects from https to plain http")
    return target


async def _connect(network: Network, target: _Target, *, near: bool, family: Family | None) -> tuple[Stream, Endpoint]:
    shown = _shown(target.url)
    try:
        named = await network.resolve(target.host, target.port)
    except NetworkError as error:
        raise HttpError(f"{shown}: {error}") from None
    usable = [endpoint for endpoint in named if family is None or endpoint.family is family]
    allowed = [endpoint for endpoint in usable if _may_dial(endpoint, near=near)][:MAX_ADDRESSES]
    if not usable:
        raise NoAddressError(f"{shown}: no address of that family")
    if not allowed:
        raise HttpError(f"{shown}: it leads to {usable[0].host}, an address of this network")
    failure = ""
    for left, endpoint in zip(reversed(range(len(allowed))), allowed, strict=True):
        stream: Stream | None = None
        with trio.move_on_after(CONNECT_S if left else float("inf")):
            try:
                stream = await network.connect(endpoint)
                if target.scheme == "https":
                    stream = await _secured(stream, target.host)
                return stream, endpoint
            except NetworkError as error:
                failure = str(error)
            except BaseException:
                if stream is not None:
                    stream.close()
                raise
        if stream is not None:
            stream.close()
    raise HttpError(f"{shown}: {failure or 'nobody answered'}")


def _may_dial(endpoint: Endpoint, *, near: bool) -> bool:
    if _is_link_local(endpoint.host):  # where clouds keep the keys of their machines
        return False
    place = reach(endpoint.host)
    return bool(endpoint.port) and (place == "global" or (near and place in ("loopback", "private")))


def _is_link_local(host: str) -> bool:
    return host.startswith("169.254.") or host.lower().startswith(("fe8", "fe9", "fea", "feb"))


# --- one request, one answer


async def _exchange(stream: Stream, server: Endpoint, target: _Target, headers: Mapping[str, str]) -> Response:
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    said = {
        "Host": target.authority,
        "User-Agent": _AGENT,
        "Accept-Encoding": "gzip, deflate",
        "Connection": "close",
        **headers,
    }
    wire = _Wire(machine, stream, target.url)
    try:
        data = machine.send(h11.Request(method="GET", target=target.path, headers=list(said.items()))) or b""
        data += machine.send(h11.EndOfMessage()) or b""
    except h11.LocalProtocolError as error:
        raise HttpError(f"{_shown(target.url)}: {error}") from None
    await wire.send(data)
    while True:
        event = await wire.event()
        if isinstance(event, h11.InformationalResponse):
            continue
        assert isinstance(event, h11.Response)
        named = {bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in event.headers}
        reason = _printable(bytes(event.reason).decode("latin-1"))
        body = Body(wire, named.get("content-encoding", "").strip().lower(), target.url)
        return Response(event.status_code, reason, named, target.url, server, body)


class _Wire:
    """h11 and its stream as one."""

    def __init__(self, machine: h11.Connection, stream: Stream, url: str) -> None:
        self._machine = machine
        self._stream = stream
        self._url = url
        self._buffer = memoryview(bytearray(_READ_BYTES))

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send_all([data])
        except NetworkError as error:
            raise HttpError(f"{_shown(self._url)}: {error}") from None

    async def event(self) -> Any:
        """The next event of h11 that is not about needing data."""
        machine = self._machine
        try:
            while (event := machine.next_event()) is h11.NEED_DATA:
                machine.receive_data(await self._receive())
        except h11.RemoteProtocolError as error:
            raise HttpError(f"{_shown(self._url)}: what the server says is no HTTP: {_printable(str(error))}") from None
        return event

    async def _receive(self) -> bytes:
        try:
            count = await self._stream.receive_into(self._buffer)
        except NetworkError as error:
            raise HttpError(f"{_shown(self._url)}: {error}") from None
        if not count and self._machine.their_state is h11.SEND_RESPONSE:
            raise HttpError(f"{_shown(self._url)}: the server closed the connection without an answer")
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
            raise HttpError(f"{_shown(url)}: the answer is packed by {_printable(encoding)}, which nobody asked for")

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
                    raise HttpError(f"{_shown(self._url)}: the packed answer is cut off")
                raise StopAsyncIteration
            if self._inflate is None:
                return bytes(event.data)
            self._packed = bytes(event.data)

    def _step(self, inflate: zlib._Decompress) -> bytes:
        """Unpacks a little: a bomb is stopped at the first bytes too many, not after it has gone off."""
        try:
            data = inflate.decompress(self._packed, _INFLATE_STEP_BYTES)
        except zlib.error:
            raise HttpError(f"{_shown(self._url)}: the packed answer is broken") from None
        self._packed = inflate.unconsumed_tail
        return data


# --- TLS


class _Secured:
    """TLS over a stream of `Network` (`wire.net.Stream`), for reading one answer."""

    def __init__(self, stream: Stream, tls: trio.SSLStream[Any]) -> None:
        self._stream = stream
        self._tls = tls
        self.remote = stream.remote

    async def receive_into(self, buffer: memoryview) -> int:
        try:
            data = await self._tls.receive_some(len(buffer))
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise _tls_error(error) from error
        buffer[: len(data)] = data
        return len(data)

    async def send_all(self, buffers: Sequence[Any]) -> None:
        try:
            for buffer in buffers:
                await self._tls.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise _tls_error(error) from error

    def close(self) -> None:
        self._stream.close()


class _Transport(trio.abc.Stream):
    """A stream of `Network` as trio's TLS wants it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all([data])
        except NetworkError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        buffer = bytearray(max_bytes or _READ_BYTES)
        try:
            count = await self._stream.receive_into(memoryview(buffer))
        except NetworkError as error:
            raise trio.BrokenResourceError(str(error)) from error
        return bytes(buffer[:count])

    async def aclose(self) -> None:
        self._stream.close()
        await trio.lowlevel.checkpoint()


async def _secured(stream: Stream, host: str) -> Stream:
    try:
        context = await trio.to_thread.run_sync(_context)  # it reads the machine's certificates: some 20 ms
        tls = trio.SSLStream(_Transport(stream), context, server_hostname=host, https_compatible=True)
        await tls.do_handshake()
    except (trio.BrokenResourceError, ssl.SSLError, ssl.CertificateError) as error:
        stream.close()
        raise _tls_error(error) from error
    except BaseException:
        stream.close()
        raise
    return _Secured(stream, tls)


@functools.cache
def _context() -> ssl.SSLContext:
    """Trusts what the machine trusts, and Mozilla's list where the machine has none of its own."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not context.cert_store_stats()["x509_ca"]:
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _tls_error(error: Exception) -> NetworkError:
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NetworkError(f"the server's certificate is not to be trusted: {_printable(cause.verify_message)}")
    if isinstance(cause, ssl.SSLError):
        return NetworkError(f"no secure connection: {_printable(cause.reason or str(cause))}")
    return NetworkError(_printable(str(cause or error)))


def _shown(url: str) -> str:
    """A URL for people: one line, without what was asked and without a password."""
    head = url.partition("?")[0]
    scheme, slashes, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    return _printable(f"{scheme}{slashes}{authority.rpartition('@')[2]}{slash}{path}", 120)


def _printable(text: str, limit: int = 200) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
