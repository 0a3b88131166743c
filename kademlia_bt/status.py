"""The status page, `/metrics` and `/healthz` over HTTP: a Starlette application on hypercorn's trio worker.

Read-only: no request changes anything. A page of somebody else in the user's browser must not read it either, so
the Host header has to be an address, `localhost` or a name that was allowed: a name that an attacker points
at us (DNS rebinding) is not. Imported only by commands that were given `--status`.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Collection
from importlib import resources

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kademlia_bt.metrics import exposition
from kademlia_bt.page import render_live, render_page
from kademlia_bt.views import StatusView
from wire.compact import IPV6, Endpoint, parse_host_port
from wire.errors import MisuseError, NetworkError

__all__ = ["application", "serve_status"]

_log = logging.getLogger(__name__)

_BACKLOG = 32
_MAX_HEAD_BYTES = 16 << 10
_IDLE_S = 10.0
"""How long a connection may send nothing: a page asks each second."""
_HEADERS = {
    # Only our own two files: were a text ever not escaped, it could still neither run nor load anything.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class _Border:
    """Refuses requests for other hosts, and puts the headers on that keep the browser strict."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # WebSockets: there are none, and hypercorn says so

        async def send_strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) == 1 and self._is_ours(hosts[0]):
            await self._app(scope, receive, send_strict)
        else:
            refusal = PlainTextResponse("Open this page by its address, or allow the name with --status-name.\n", 421)
            await refusal(scope, receive, send_strict)

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


def application(source: Callable[[], StatusView], names: Collection[str] = ()) -> ASGIApp:
    """The application. `source` gives what is to be shown now; `names` are those it may be asked for by."""
    files = resources.files("kademlia_bt") / "web"
    style, script = ((files / name).read_bytes() for name in ("status.css", "status.js"))

    async def page(_: Request) -> Response:
        return HTMLResponse(render_page(source()))

    async def live(_: Request) -> Response:
        return HTMLResponse(render_live(source()))

    async def css(_: Request) -> Response:
        return Response(style, media_type="text/css")

    async def js(_: Request) -> Response:
        return Response(script, media_type="text/javascript")

    async def metrics(request: Request) -> Response:
        body, content_type = exposition(source().metrics, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def healthz(_: Request) -> Response:
        health = source().health
        return PlainTextResponse(f"{health}\n", 503 if health == "broken" else 200)

    routes = [
        Route("/", page),
        Route("/live", live),
        Route("/status.css", css),
        Route("/status.js", js),
        Route("/metrics", metrics),
        Route("/healthz", healthz),
    ]
    return _Border(Starlette(routes=routes), names)


async def serve_status(
    source: Callable[[], StatusView],
    at: Endpoint,
    *,
    names: Collection[str] = (),
    task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled; `task_status` is started with the bound address.

    Raises NetworkError where it cannot bind.
    """
    try:
        sock = _bound(at)
    except OSError as error:
        raise NetworkError(f"cannot serve the status page on {at}: {error.strerror or error}") from error
    host, port = sock.getsockname()[:2]
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]  # hypercorn closes it
    config.accesslog = None
    config.errorlog = _log
    config.keep_alive_timeout = _IDLE_S
    config.read_timeout = int(_IDLE_S)
    config.graceful_timeout = 0.0
    config.shutdown_timeout = 1.0
    config.h11_max_incomplete_size = _MAX_HEAD_BYTES
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve, application(source, names), config)
        task_status.started(Endpoint(host, port))


async def _serve(app: ASGIApp, config: Config, *, task_status: trio.TaskStatus[object]) -> None:
    await hypercorn_serve(app, config, shutdown_trigger=trio.sleep_forever, task_status=task_status)  # type: ignore[arg-type]


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
