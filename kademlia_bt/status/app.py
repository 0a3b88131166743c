"""The status page, `/metrics` and `/healthz` over HTTP: a Starlette application, served by `serving.py`.

Read-only: no request changes anything. Imported only by commands that were given `--status`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import resources

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kademlia_bt.status.metrics import exposition
from kademlia_bt.status.page import render_live, render_page
from kademlia_bt.status.serving import Border, serve
from kademlia_bt.status.views import StatusView
from wire.compact import Endpoint

__all__ = ["application", "serve_status"]

_HEADERS = {
    # Only our own two files: were a text ever not escaped, it could still neither run nor load anything.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def application(source: Callable[[], StatusView], names: Collection[str] = ()) -> ASGIApp:
    """The application. `source` gives what is to be shown now; `names` are those it may be asked for by."""
    files = resources.files("kademlia_bt.status") / "web"
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
    refusal = "Open this page by its address, or allow the name with --status-name.\n"
    return Border(Starlette(routes=routes), names=names, headers=_HEADERS, refusal=refusal)


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
    await serve(application(source, names), at, "the status page", task_status=task_status)
