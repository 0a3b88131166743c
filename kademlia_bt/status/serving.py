"""Serving an ASGI application over HTTP, and the border in front of it: what the status page and streaming share.

Hypercorn's trio worker speaks HTTP. The connections are taken in here, so that they are bounded, and so that a client
which reads nothing (a player that pauses) cannot hold up the end. A page of somebody else in the user's browser must
not read ours, so the Host header has to be an address, `localhost` or a name that was allowed: a name that an
attacker points at us (DNS rebinding) is not. Imported only by commands that serve.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Collection, Mapping

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wire.compact import IPV6, Endpoint, parse_host_port
from wire.errors import MisuseError
from wire.net import network_error

__all__ = ["Border", "serve"]

_log = logging.getLogger(__name__)

_BACKLOG = 32
_MAX_CONNECTIONS = 64
"""A browser opens six, a player two; each costs a task or three."""
_MAX_HEAD_BYTES = 16 << 10
_IDLE_S = 10.0
"""How long a connection may wait without a request: a page asks each second."""


class Border:
    """An application in front of another: refuses requests for other hosts, adds headers to every answer."""

    def __init__(self, app: ASGIApp, *, names: Collection[str], headers: Mapping[str, str], refusal: str) -> None:
        """`names` are those it may be asked for by, beside addresses; `refusal` is what others get as text."""
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}
        self._headers = headers
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # WebSockets: there are none, and hypercorn says so

        async def send_strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) == 1 and self._is_ours(hosts[0]):
            await self._app(scope, receive, send_strict)
        else:
            await PlainTextResponse(self._refusal, 421)(scope, receive, send_strict)

    def _is_ours(self, host: str) -> bool:
        try:
            name = parse_host_port(host, default_port=80)[0]
        except MisuseError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower().removesuffix(".") in self._names
        return True


async def serve(
    app: ASGIApp, at: Endpoint, what: str, *, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serves until cancelled; `task_status` is started with the bound address.

    Raises NetworkError where it cannot bind, which names `what`.
    """
    try:
        sock = _bound(at)
    except OSError as error:
        raise network_error(f"serve {what} on", at, error) from error
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    host, port = sock.getsockname()[:2]
    config = Config()
    config.accesslog = None
    config.errorlog = _log
    config.keep_alive_timeout = _IDLE_S
    config.h11_max_incomplete_size = _MAX_HEAD_BYTES
    config.include_server_header = False
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]
    context = WorkerContext(None)
    streams: set[trio.SocketStream] = set()

    async def converse(stream: trio.SocketStream) -> None:
        if len(streams) >= _MAX_CONNECTIONS:
            await stream.aclose()
            return
        streams.add(stream)
        try:
            # It is made for streams with TLS, and works as well, by its own check, without.
            await TCPServer(wrapped, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]
        finally:
            streams.discard(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, converse, [listener])
        task_status.started(Endpoint(host, port))
        try:
            await trio.sleep_forever()
        finally:
            # Hypercorn shields what it sends: a client that does not read would hold us for ever.
            for stream in streams:
                stream.socket.close()


def _bound(at: Endpoint) -> socket.socket:
    sock = socket.socket(at.family.af, socket.SOCK_STREAM)
    try:
        if at.family is IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((at.host, at.port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
