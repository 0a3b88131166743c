"""Files of a torrent over HTTP with ranges, while they are downloaded, and a page that plays them (RFC 9110).

A Starlette application, served by `kademlia_bt.status.serving`. Read-only. Names come from strangers: on the page they
are escaped, in headers and addresses they are percent-encoded, and no type is given to a file that a browser would
run in our name. A file is found by its number; the name in the address is for people and players.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Collection
from pathlib import PurePosixPath
from urllib.parse import quote

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kademlia_bt.commands.console import one_line
from kademlia_bt.status.serving import Border, serve
from magnet.nursery import open_plain_nursery
from magnet.streaming import StreamedFile, Streams
from magnet.subtitles import as_webvtt, is_shown, is_subtitle
from magnet.verdict import MagnetError
from wire.compact import Endpoint
from wire.errors import DiskError

__all__ = ["ByteRange", "application", "byte_range", "content_type", "file_path", "serve_files"]

_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".mov": "video/quicktime",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".ts": "video/mp2t",
    ".ogv": "video/ogg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".aac": "audio/aac",
    ".vtt": "text/vtt; charset=utf-8",
    ".srt": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".nfo": "text/plain; charset=utf-8",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
}
"""By ending. Nothing that runs scripts: no HTML, no SVG, no PDF."""
_STYLE = (
    "body{font:16px system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;background:#fff;color:#222}"
    "video{width:100%;background:#000;border-radius:6px}li{margin:.4rem 0;overflow-wrap:anywhere}small{color:#666}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}a{color:#8bf}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": f"default-src 'none'; media-src 'self'; style-src 'sha256-{_STYLE_HASH}'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_MAX_READERS = 32
"""Answers under way at once: each needs pieces ahead of it."""
_MAX_SUBTITLED = 20
"""Films on the page whose subtitles are looked for: each looks at all files."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)

ByteRange = tuple[int, int]
"""First byte, and the one after the last."""


def byte_range(header: str | None, size: int) -> tuple[int, ByteRange]:
    """The status of the answer to a Range header, and the part that it asks for.

    200 and the whole where there is none, or one that is not understood; 206 for a part; 416 where no byte of that
    exists. Several ranges are answered by the whole, as RFC 9110 lets us.
    """
    whole, none = (200, (0, size)), (416, (0, 0))
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        return whole
    if not match[1]:
        count = min(int(match[2]), size)
        return (206, (size - count, size)) if count else none
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return whole  # no range at all
    return (206, (start, size if not match[2] else min(int(match[2]) + 1, size))) if start < size else none


def content_type(name: str) -> str:
    """The type of a file by its ending; what is not known to be harmless is only bytes."""
    return _TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def file_path(file: StreamedFile) -> str:
    """Where a file is found below the server's root."""
    return f"/{file.index}/{quote(file.name, safe='', errors='replace')}"


class _FileResponse(Response):
    """A part of a file, sent as it comes; ends early where the client leaves or the torrent fails."""

    def __init__(self, streams: Streams, file: StreamedFile, part: ByteRange, status: int, busy: _Busy) -> None:
        start, stop = part
        headers = {
            "accept-ranges": "bytes",
            "content-length": str(stop - start),
            "content-type": content_type(file.name),
            "content-disposition": f"inline; filename*=UTF-8''{quote(file.name, safe='', errors='replace')}",
            "etag": _etag(streams, file),
        }
        if status == 206:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{file.size}"
        super().__init__(status_code=status)
        # Ours alone, with the length of what is sent later.
        self.raw_headers = [(name.encode(), value.encode("ascii")) for name, value in headers.items()]
        self._streams, self._file, self._start, self._stop = streams, file, start, stop
        self._busy = busy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        self._busy.readers += 1
        try:
            async with open_plain_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await self._send(send)
        except (MagnetError, DiskError):
            pass  # the connection ends short of what was promised: that is how HTTP says so
        finally:
            self._busy.readers -= 1

    async def _send(self, send: Send) -> None:
        with self._streams.reader(self._file, self._start) as reader:
            while (left := self._stop - reader.at) > 0:
                data = await reader.read(min(left, 256 << 10))
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Busy:
    readers = 0


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _too_many() -> Response:
    return PlainTextResponse("Too many readers; close some.\n", 503, headers={"retry-after": "1"})


def _etag(streams: Streams, file: StreamedFile) -> str:
    return f'"{streams.info.info_hash}-{file.index}"'  # what a hash names never changes


def application(streams: Streams, names: Collection[str] = ()) -> ASGIApp:
    """The application; `names` are those it may be asked for by, beside addresses and `localhost`."""
    busy = _Busy()

    async def page(_: Request) -> Response:
        return HTMLResponse(_page(streams))

    async def playlist(request: Request) -> Response:
        return PlainTextResponse(_playlist(streams, str(request.base_url)), media_type="audio/x-mpegurl")

    async def file(request: Request) -> Response:
        found = streams.file(request.path_params["index"])
        if found is None:
            return PlainTextResponse("There is no such file here.\n", 404)
        etag = _etag(streams, found)
        known = request.headers.get("if-none-match", "")
        if etag in known or known.strip() == "*":
            return Response(status_code=304, headers={"etag": etag})
        header = request.headers.get("range")
        if header is not None and request.headers.get("if-range", etag) != etag:
            header = None
        status, part = byte_range(header, found.size)
        if status == 416:
            return PlainTextResponse(
                "The file has no such part.\n", 416, headers={"content-range": f"bytes */{found.size}"}
            )
        if busy.readers >= _MAX_READERS:
            return _too_many()
        return _FileResponse(streams, found, part, status, busy)

    async def subtitles(request: Request) -> Response:
        found = streams.file(request.path_params["index"])
        if found is None or not is_shown(found.name, found.size):
            return PlainTextResponse("There are no such subtitles here.\n", 404)
        if busy.readers >= _MAX_READERS:
            return _too_many()
        data = bytearray()
        busy.readers += 1
        try:
            with streams.reader(found, 0) as reader:
                while part := await reader.read():
                    data += part
        except (MagnetError, DiskError) as error:
            return PlainTextResponse(f"{one_line(str(error))}\n", 503)
        finally:
            busy.readers -= 1
        return Response(as_webvtt(bytes(data)), media_type="text/vtt")

    routes = [
        Route("/", page),
        Route("/playlist.m3u8", playlist),
        Route("/subtitles/{index:int}", subtitles),
        Route("/{index:int}/{name:path}", file, methods=["GET", "HEAD"]),
    ]
    refusal = "Open this by its address: http://ADDRESS:PORT/\n"
    pages = Starlette(routes=routes)
    pages.router.redirect_slashes = False  # an address that is not ours leads nowhere
    return Border(pages, names=names, headers=_HEADERS, refusal=refusal)


async def serve_files(
    streams: Streams, at: Endpoint, *, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serves until cancelled; `task_status` is started with the bound address. Raises NetworkError."""
    await serve(application(streams), at, "files", task_status=task_status)


def _text(text: str) -> str:
    return html.escape(one_line(text), quote=True)


def _playlist(streams: Streams, base: str) -> str:
    """All files for a player, in order; `base`: the address that it was asked for by, which the border has checked."""
    lines = ["#EXTM3U"]
    for file in streams.in_order:
        if not is_subtitle(file.name, file.size):
            lines += [f"#EXTINF:-1,{one_line(file.name)}", base.rstrip("/") + file_path(file)]
    return "\n".join(lines) + "\n"


def _track(file: StreamedFile) -> str:
    if not is_shown(file.name, file.size):
        return ""
    return f'<track kind="subtitles" src="/subtitles/{file.index}" label="{_text("/".join(file.path[1:]))}">'


def _page(streams: Streams) -> str:
    items = []
    for place, file in enumerate(streams.in_order):
        where = html.escape(file_path(file), quote=True)
        kind = content_type(file.name)
        tag = kind.partition("/")[0]
        player = tracks = ""
        if tag == "video" and place < _MAX_SUBTITLED:
            tracks = "".join(_track(subtitles) for subtitles in streams.subtitles(file))
        if tag in ("video", "audio"):
            player = f'<{tag} controls preload="metadata" src="{where}">{tracks}</{tag}>'
        items.append(
            f'<li>{player}<a href="{where}">{_text("/".join(file.path))}</a> <small>{file.size:,} bytes</small></li>'
        )
    title = _text(streams.info.name)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1><p><a href="/playlist.m3u8">Playlist for a player</a></p>'
        f"<ul>{''.join(items)}</ul></body></html>\n"
    )
