"""One bounded HTTP GET, for trackers, .torrent files and web seeds (RFC 9112; BEP 3, 19). A shell over `Network`.

A URL often comes from a stranger. So every bound is here, in one place: bytes after unpacking, seconds, redirects;
http and https alone; certificates are checked. A name is resolved once, and the very address that was judged is
dialled: a name that answers otherwise a moment later (DNS rebinding) leads nowhere else. Whoever comes from the
global internet, by a redirect or by a name, is not led into a network nearby.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from wire.compact import Endpoint, Family, reach
from wire.errors import NetworkError
from wire.http_url import HttpError, Target, is_http_url, is_link_local, is_near_literal, redirected, shown
from wire.http_wire import PART_BYTES, Ahead, Body, Response, Wire
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
_MAX_DRAINED_BYTES = 16 << 10
"""Of the page that comes with a redirect, so that its connection can be used again."""
PIPELINE_PROVEN = 8
"""Answers to requests that were sent ahead, before a connection that breaks is no sign of a server that bears none."""
_REDIRECTS = (301, 302, 303, 307, 308)


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
    """Sends GETs, one at a time, and keeps up to `keep` connections open for the next ones (RFC 9112, 9.3).

    `part_bytes` is how much of a body comes at a time, at most.
    """

    def __init__(self, network: Network, *, keep: int = 2, part_bytes: int = PART_BYTES) -> None:
        self._network = network
        self._keep = keep
        self._part_bytes = part_bytes
        self._pipelines = True
        self._idle: list[Wire] = []

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
        ahead: Sequence[Ahead] = (),
    ) -> AsyncIterator[Response]:
        """Sends a GET, follows redirects, gives the answer once its headers are there. The caller bounds the time.

        Args:
            url: http or https.
            near: Whether `url` may be on this machine or in a private network: because a person named it, say. Even
                then a redirect from a global address leads to global ones alone.
            family: IPv4 or IPv6 alone; None: whichever answers.
            headers: More of them, such as Range.
            body: Sent along, by POST; then no redirect is followed.
            ahead: The requests that will be made next, in that order, of the same server: where it has shown that it
                keeps connections open, they are sent at once. Where another one is made, what comes of them is lost.

        Raises HttpError where it cannot be had or must not be. A body that was read to its end leaves its connection
        for the next request; any other closes it.
        """
        for _ in range(MAX_REDIRECTS + 1):
            target = Target.of(url)
            wire, response = await self._ask(target, headers or {}, body, ahead, near=near, family=family)
            ahead = ()
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
        self,
        target: Target,
        headers: Mapping[str, str],
        body: bytes | None,
        ahead: Sequence[Ahead],
        *,
        near: bool,
        family: Family | None,
    ) -> tuple[Wire, Response]:
        for wire in [wire for wire in self._idle if not wire.expects(target.url, headers)]:
            self._idle.remove(wire)  # there others were to be asked first
            wire.close()
        for wire in self._idle:
            if wire.serves(target, family) and _may_dial(wire.server, near=near):
                self._idle.remove(wire)
                more = ahead if self._pipelines else ()
                try:
                    return wire, await wire.exchange(target, headers, body, keep=True, ahead=more)
                except HttpError:  # the server closed it meanwhile, as it may at any time: once more, on a fresh one
                    self._discard(wire)
                    if not wire.was_silent:
                        raise
                except BaseException:
                    self._discard(wire)
                    raise
                break
        stream, server = await _connect(self._network, target, near=near, family=family)
        wire = Wire(stream, server, target, self._part_bytes)
        try:
            return wire, await wire.exchange(target, headers, body, keep=self._keep > 0)
        except BaseException:
            wire.close()
            raise

    def _discard(self, wire: Wire) -> None:
        """It broke. Where requests had been sent ahead and few were answered, that may be why."""
        wire.close()
        if wire.owes and wire.answered_ahead < PIPELINE_PROVEN:
            self._pipelines = False

    def _put_back(self, wire: Wire) -> None:
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
