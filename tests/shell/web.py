"""A web server and a UDP tracker on hosts of the virtual internet, for tests of whoever asks such.

web = Web(); web.answers["/announce"] = ok(b"d8:intervali900ee")
nursery.start_soon(web.serve, await host.listen(Endpoint("80.9.9.9", 80)))
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

import trio

from wire import bencode
from wire.compact import Endpoint, pack_endpoints
from wire.errors import NetworkError
from wire.net import Datagrams, Listener, Stream

Answer = Callable[[Stream, str], Awaitable[None]]


class Web:
    """Answers GETs by their path; `asked` holds every request target in its order."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.heads: list[bytes] = []

    async def serve(self, listener: Listener) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._serve_one, await listener.accept())

    async def _serve_one(self, stream: Stream) -> None:
        try:
            head = b""
            buffer = memoryview(bytearray(4096))
            while b"\r\n\r\n" not in head:
                count = await stream.receive_into(buffer)
                if not count:
                    return
                head += buffer[:count]
            target = head.split(b" ")[1].decode()
            self.asked.append(target)
            self.heads.append(head)
            answer = self.answers.get(urlsplit(target).path, status("404 Not Found"))
            await answer(stream, target)
        except NetworkError:
            pass  # he left
        finally:
            stream.close()


def ok(body: bytes, *headers: str) -> Answer:
    """200 with this body."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return said("\r\n".join([*lines, "", ""]).encode() + body)


def status(line: str, *headers: str) -> Answer:
    """A status line without a body."""
    return said("\r\n".join([f"HTTP/1.1 {line}", "Content-Length: 0", *headers, "", ""]).encode())


def redirect(to: str) -> Answer:
    """302 to there."""
    return status("302 Found", f"Location: {to}")


def said(data: bytes) -> Answer:
    """These bytes, then the end."""

    async def answer(stream: Stream, target: str) -> None:
        await stream.send_all([data])

    return answer


def without_end(head: bytes, part: bytes, pause_s: float = 0.0) -> Answer:
    """A head, then the same part for ever."""

    async def answer(stream: Stream, target: str) -> None:
        await stream.send_all([head])
        while True:
            await stream.send_all([part])
            await trio.sleep(pause_s)

    return answer


class HttpTracker(Web):
    """A tracker at /announce: remembers who came, names them (and `extra`) to whoever asks."""

    def __init__(self, *extra: Endpoint, interval_s: int = 1800, **fields: object) -> None:
        super().__init__()
        self.extra = extra
        self.interval_s = interval_s
        self.fields = fields
        self.said: list[dict[str, bytes]] = []
        """The parameters of each announce."""
        self.swarms: dict[bytes, dict[Endpoint, None]] = {}
        self.answers["/announce"] = self._announce

    @property
    def events(self) -> list[str]:
        """The event of each announce."""
        return [said.get("event", b"").decode() for said in self.said]

    async def _announce(self, stream: Stream, target: str) -> None:
        said = {}
        for part in urlsplit(target).query.split("&"):
            name, _, value = part.partition("=")
            said[name] = unquote_to_bytes(value)
        self.said.append(said)
        peer = Endpoint(stream.remote.host, int(said["port"]))
        swarm = self.swarms.setdefault(said["info_hash"], {})
        peers = [*swarm, *self.extra]
        if said.get("event") == b"stopped":
            swarm.pop(peer, None)
        else:
            swarm[peer] = None
        body = {
            b"interval": self.interval_s,
            b"peers": pack_endpoints(p for p in peers if ":" not in p.host),
            b"peers6": pack_endpoints(p for p in peers if ":" in p.host),
            **{name.encode().replace(b"_", b" "): value for name, value in self.fields.items()},
        }
        await ok(bencode.encode({key: body[key] for key in sorted(body)}))(stream, target)


class UdpTracker:
    """A tracker by BEP 15: names everybody (and `extra`); `deaf` many packets go unanswered first."""

    def __init__(self, *extra: Endpoint, interval_s: int = 1800, deaf: int = 0, refuse: str = "") -> None:
        self.extra = extra
        self.interval_s = interval_s
        self.deaf = deaf
        self.refuse = refuse
        self.events: list[int] = []
        self.options: list[bytes] = []
        self.connects = 0
        self.swarms: dict[bytes, dict[Endpoint, None]] = {}

    async def serve(self, socket: Datagrams) -> None:
        while True:
            for data, source in await socket.receive():
                if self.deaf:
                    self.deaf -= 1
                    continue
                socket.send(self._answer(data, source), source)

    def _answer(self, data: bytes, source: Endpoint) -> bytes:
        number, action, transaction = struct.unpack_from(">QII", data)
        if action == 0:
            assert number == 0x41727101980
            self.connects += 1
            return struct.pack(">IIQ", 0, transaction, 77)
        if number != 77 or self.refuse:
            return struct.pack(">II", 3, transaction) + (self.refuse or "connect first").encode()
        if action == 2:
            rows = [self.swarms.get(data[at : at + 20], {}) for at in range(16, len(data) - 19, 20)]
            return struct.pack(">II", 2, transaction) + b"".join(struct.pack(">III", 0, 5, len(row)) for row in rows)
        info_hash, event, port = (
            data[16:36],
            struct.unpack_from(">I", data, 80)[0],
            struct.unpack_from(">H", data, 96)[0],
        )
        self.events.append(event)
        self.options.append(data[98:])
        swarm = self.swarms.setdefault(info_hash, {})
        peer = Endpoint(source.host, port)
        peers = [*swarm, *self.extra]
        if event == 3:
            swarm.pop(peer, None)
        else:
            swarm[peer] = None
        peers = [p for p in peers if p.family is source.family]
        return struct.pack(">IIIII", 1, transaction, self.interval_s, len(peers), 0) + pack_endpoints(peers)


def query_of(target: str) -> dict[str, list[str]]:
    """The parameters of a request target."""
    return parse_qs(urlsplit(target).query)
