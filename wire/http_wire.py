"""One connection to an HTTP server: h11 and a stream as one, and the body of an answer as it comes (RFC 9110, 9112).

Requests may be sent before the answer to the one before has come (pipelining, RFC 9112, 9.3.2): each has an h11 of its
own, and what comes after the end of one answer is the begin of the next. Whom to connect to is decided in `http`.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import h11

from wire.compact import Endpoint, Family
from wire.errors import NetworkError
from wire.http_url import HttpError, Target, printable, shown
from wire.net import scattering

if TYPE_CHECKING:
    from wire.net import Stream

__all__ = ["PART_BYTES", "Ahead", "Body", "Response", "Sink", "Wire"]

MAX_HEAD_BYTES = 32 << 10
"""Of an answer's status line and headers; 16 KiB is what many servers send at most."""
PART_BYTES = 64 << 10
"""Read at a time, where nobody says otherwise."""
_HEAD_PART_BYTES = 4 << 10
"""Read at a time of the head of an answer."""
_INFLATE_STEP_BYTES = 64 << 10
_BODILESS = (204, 304)
_AGENT: Final = "kademlia-bt/0.1"

Ahead = tuple[str, Mapping[str, str]]
"""A request that will be made: its URL and headers."""


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


class Sink(Protocol):
    """Where a body goes, byte by byte in its order."""

    def places(self, most: int) -> Sequence[memoryview]:
        """Where the next bytes go: at least one and at most so many. They are put there at once, and then told."""
        ...

    def came(self, count: int) -> None:
        """So many bytes were put to the places, from their first on."""
        ...

    def pour(self, data: memoryview) -> None:
        """Takes bytes that are here already; they are good until this returns."""
        ...


class Wire:
    """A connection that answers one request after another."""

    def __init__(self, stream: Stream, server: Endpoint, target: Target, part_bytes: int = PART_BYTES) -> None:
        self.server = server
        self.was_silent = True
        """Nothing came since the last request was sent."""
        self.answered_ahead = 0
        """Answers to requests that were sent before their turn."""
        self._stream = stream
        self._scatter = scattering(stream)
        self._url = target.url
        self._place = target.place
        self._buffer = memoryview(bytearray(part_bytes))
        self._machine = _machine()
        self._ahead: deque[tuple[Ahead, h11.Connection]] = deque()
        """Sent, and not answered yet."""
        self._rest = b""
        """Came, and was not looked at."""
        self._due: int | None = None
        """Of a body whose length was said: bytes that are still to come. h11, which would copy them, is passed by."""
        self._is_last = False
        """The server closes after such an answer."""

    def serves(self, target: Target, family: Family | None) -> bool:
        """Whether it leads to the server of that URL."""
        return self._place == target.place and (family is None or family is self.server.family)

    def expects(self, url: str, headers: Mapping[str, str]) -> bool:
        """Whether that is the next request that it can answer: something else may have been sent ahead."""
        return not self._ahead or self._ahead[0][0] == (url, headers)

    @property
    def owes(self) -> bool:
        """Whether requests were sent ahead that it has not answered."""
        return bool(self._ahead)

    def rewind(self) -> bool:
        """Makes it ready for the next request; False where the last one is not over, or the server said its last."""
        machine = self._machine
        if self._due is not None:
            is_over = self._due == 0 and not self._is_last
        else:
            if machine.their_state is h11.SEND_BODY:
                with suppress(h11.RemoteProtocolError):
                    machine.next_event()  # who took all the data may have left the end of the message
            self._rest, is_closed = machine.trailing_data
            is_over = machine.their_state is h11.DONE and not is_closed
        return is_over and machine.our_state is h11.DONE and (bool(self._ahead) or not self._rest)

    def close(self) -> None:
        self._stream.close()

    async def exchange(
        self,
        target: Target,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        keep: bool,
        ahead: Sequence[Ahead] = (),
    ) -> Response:
        """One request, unless it was sent ahead, and the head of its answer.

        `ahead`: the requests after it, to the same server, to be sent now; for a connection that it has kept open.
        """
        self._url, data = target.url, b""
        is_ahead = bool(self._ahead)
        if is_ahead:
            _, self._machine = self._ahead.popleft()
        else:
            self._machine, data = _request(target, headers, body, keep=keep)
        if len(self._ahead) <= len(ahead) // 2:
            for url, said in ahead[len(self._ahead) :]:
                machine, more = _request(Target.of(url), said, None, keep=keep)
                self._ahead.append(((url, said), machine))
                data += more
        self._due = None
        self.was_silent = not self._rest
        if data:
            await self._send(data)
        if self._rest:
            self._machine.receive_data(self._rest)
            self._rest = b""
        while True:
            event = await self.event()
            if isinstance(event, h11.InformationalResponse):
                continue
            assert isinstance(event, h11.Response)
            self.answered_ahead += is_ahead
            named = {bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in event.headers}
            reason = printable(bytes(event.reason).decode("latin-1"))
            if event.status_code not in _BODILESS and "transfer-encoding" not in named:
                self._pass_by(event.http_version, named)
            came = Body(self, named.get("content-encoding", "").strip().lower(), target.url)
            return Response(event.status_code, reason, named, target.url, self.server, came)

    def _pass_by(self, version: bytes, named: Mapping[str, str]) -> None:
        if (length := named.get("content-length")) is not None:  # h11 has seen to it that it is a number, and one
            self._due = int(length)
            self._is_last = version < b"1.1" or "close" in named.get("connection", "").lower()
            self._rest, _ = self._machine.trailing_data

    async def part(self) -> bytes | memoryview:
        """Some more of the body; empty at its end. It is good until the next call."""
        if self._due is None:
            while isinstance(event := await self.event(), h11.Data):
                if event.data:
                    return bytes(event.data)
            return b""
        if not self._due:
            return b""
        if self._rest:
            part: bytes | memoryview = self._rest[: self._due]
            self._rest = self._rest[self._due :]
        else:
            count = await self._receive_some()
            if not count:
                raise self._cut_off()
            part = self._buffer[: min(count, self._due)]
            self._rest = bytes(self._buffer[len(part) : count])
        self._due -= len(part)
        return part

    @property
    def lands(self) -> bool:
        """Whether `land` may be called: the length is known, and nothing was read and not looked at.

        Not for the rest of a small body where answers come after it: one read then brings many of these.
        """
        if self._due is None or self._rest or (self._ahead and self._due < len(self._buffer)):
            return False
        return self._scatter is not None and self._scatter.scatters

    async def land(self, sink: Sink, most: int) -> int:
        """Some more of the body, received straight to where `sink` wants it; how many bytes, 0 at the end."""
        assert self._scatter is not None
        assert self._due is not None
        if not self._due:
            return 0
        count: int | None = None
        try:
            while count is None:
                await self._scatter.readable()
                count = self._scatter.receive_scattered(sink.places(min(most, self._due)))
        except NetworkError as error:
            raise HttpError(f"{shown(self._url)}: {error}") from None
        if not count:
            raise self._cut_off()
        self._due -= count
        sink.came(count)
        return count

    def _cut_off(self) -> HttpError:
        return HttpError(f"{shown(self._url)}: its answer was cut off, {self._due} bytes before the end")

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

    async def _receive_some(self, most: int | None = None) -> int:
        try:
            count = await self._stream.receive_into(self._buffer[:most])
        except NetworkError as error:
            raise HttpError(f"{shown(self._url)}: {error}") from None
        if count:
            self.was_silent = False
        return count

    async def _receive(self) -> bytes:
        # What is read beyond a head is copied. Where several answers are due, heads and bodies alike come with it.
        is_one_head = self._machine.their_state is h11.SEND_RESPONSE and not self._ahead
        count = await self._receive_some(_HEAD_PART_BYTES if is_one_head else None)
        if not count and self._machine.their_state is h11.SEND_RESPONSE:
            raise HttpError(f"{shown(self._url)}: the server closed the connection without an answer")
        return bytes(self._buffer[:count])


def _machine() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)


def _request(
    target: Target, headers: Mapping[str, str], body: bytes | None, *, keep: bool
) -> tuple[h11.Connection, bytes]:
    said = {"Host": target.authority, "User-Agent": _AGENT, "Accept-Encoding": "gzip, deflate"}
    if not keep:
        said["Connection"] = "close"
    if body is not None:
        said["Content-Length"] = str(len(body))
    said |= headers
    method = "GET" if body is None else "POST"
    machine = _machine()
    try:
        data = machine.send(h11.Request(method=method, target=target.path, headers=list(said.items()))) or b""
        if body:
            data += machine.send(h11.Data(data=body)) or b""
        data += machine.send(h11.EndOfMessage()) or b""
    except h11.LocalProtocolError as error:
        raise HttpError(f"{shown(target.url)}: {error}") from None
    return machine, data


class Body:
    """The body of an answer as it comes: an async iterator of parts, unpacked. Raises HttpError.

    A part is good until the next is asked for. It may be left at any time.
    """

    def __init__(self, wire: Wire, encoding: str, url: str) -> None:
        self._wire = wire
        self._url = url
        self._packed = b""
        self._over = memoryview(b"")
        """Of the last part, what `into` did not want yet."""
        self._inflate: zlib._Decompress | None = None
        if encoding in ("gzip", "x-gzip"):
            self._inflate = zlib.decompressobj(wbits=31)
        elif encoding == "deflate":
            self._inflate = zlib.decompressobj()
        elif encoding not in ("", "identity"):
            raise HttpError(f"{shown(url)}: the answer is packed by {printable(encoding)}, which nobody asked for")

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes | memoryview:
        while True:
            if self._packed and self._inflate is not None and not self._inflate.eof:
                if data := self._step(self._inflate):
                    return data
                continue
            part = await self._wire.part()
            if not part:
                if self._inflate is not None and not self._inflate.eof:
                    raise HttpError(f"{shown(self._url)}: the packed answer is cut off")
                raise StopAsyncIteration
            if self._inflate is None:
                return part
            self._packed = bytes(part)

    async def into(self, sink: Sink, most: int) -> int:
        """Some more of the body, at most so many bytes, to where `sink` wants them; how many, 0 at the end.

        For who takes all of it that way. Without a copy where the body's length was said and the stream can do it.
        """
        if not self._over and self._inflate is None and self._wire.lands:
            return await self._wire.land(sink, most)
        if not self._over:
            self._over = memoryview(await anext(self, b""))
        part, self._over = self._over[:most], self._over[most:]
        if part:
            sink.pour(part)
        return len(part)

    def _step(self, inflate: zlib._Decompress) -> bytes:
        """Unpacks a little: a bomb is stopped at the first bytes too many, not after it has gone off."""
        try:
            data = inflate.decompress(self._packed, _INFLATE_STEP_BYTES)
        except zlib.error:
            raise HttpError(f"{shown(self._url)}: the packed answer is broken") from None
        self._packed = inflate.unconsumed_tail
        return data
