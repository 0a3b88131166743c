"""The trio shell of web seeds: asks servers for what `webtrade` wants of them, and feeds it what comes (BEP 19).

Each web seed has a few lanes: tasks that send one request after another over connections that they keep. Nothing that a
server does ends a lane: it rests, tries again, or gives the URL up. Bytes count for the limits of the session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from wire.compact import reach
from wire.http import HttpClient, HttpError, Response
from wire.http_url import is_near_literal, shown
from wire.http_wire import Ahead
from wire.peer.messages import BLOCK_BYTES
from wire.swarm.inflow import Inflow
from wire.swarm.throttle import Throttle
from wire.swarm.webseed import Refusal, Stretch, WebSeed, judge
from wire.swarm.webtrade import LANES, WebTrade

if TYPE_CHECKING:
    from wire.metainfo import Info
    from wire.net import Network
    from wire.swarm.run import SwarmRunner

__all__ = ["run_web_seeds"]

HEAD_S = 30.0
"""For a connection, redirects and the head of the answer: what is asked for must begin to come within this."""
SILENCE_S = 30.0
"""Waiting for the bytes of one block, all waiting together: who sends a byte a second is as good as away."""
_IDLE_S = 1.0
"""How often a lane without work looks for some; what is wanted of a sudden wakes it at once."""
_MAX_MOVED = 1000
_MAX_AHEAD = 64
"""Files asked for before the first of them has come: small ones would cost a way to the server and back each."""
_PART_BYTES = 256 << 10
"""Read at a time, where it cannot be put to its place at once."""
_LANDING_BYTES = 2 << 20
"""Read at a time, where it can."""
_PLAIN = {"Accept-Encoding": "identity"}
"""Ranges are of what was packed, where something is."""
_ZEROS = bytes(64 << 10)


async def run_web_seeds(
    runner: SwarmRunner, info: Info, seeds: Sequence[WebSeed], network: Network, down: Throttle, *, local: bool
) -> None:
    """Works until cancelled. `local`: whether URLs may lead into this machine's networks without saying so openly."""
    trade = runner.swarm.web
    async with trio.open_nursery() as nursery:
        for seed in seeds:
            near = local or (is_near_literal(seed.url) and "?" not in seed.url)
            for number in range(LANES):
                nursery.start_soon(_Lane(runner, info, trade, seed, network, down, near=near, first=not number).run)


class _NoRanges(Exception):  # noqa: N818 - news of a server
    pass


class _Unwanted(Exception):  # noqa: N818 - a peer was faster
    pass


class _Lane:
    """One request after another to one web seed."""

    def __init__(
        self,
        runner: SwarmRunner,
        info: Info,
        trade: WebTrade,
        seed: WebSeed,
        network: Network,
        down: Throttle,
        *,
        near: bool,
        first: bool,
    ) -> None:
        self._runner = runner
        self._info = info
        self._trade = trade
        self._seed = seed
        self._near = near
        self._first = first
        self._client = HttpClient(network, part_bytes=_PART_BYTES)
        self._down = down
        self._moved: dict[int, tuple[str, bool]] = {}
        """Where a file was in the end, so that not each request is redirected; and whether that may be nearby."""

    async def run(self) -> None:
        seed = self._seed
        try:
            while not seed.given_up:
                if seed.ranges:
                    worked = await self._fetch_ranges()
                else:  # by one lane alone: all of a file comes at once
                    worked = self._first and await self._fetch_whole()
                if not worked:
                    await self._runner.news(_IDLE_S)
        finally:
            self._client.close()

    # --- servers that give ranges

    async def _fetch_ranges(self) -> bool:
        found = self._trade.ask(self._seed, trio.current_time())
        for stretch in found:
            inflow = Inflow(self._trade, self._seed, stretch, self._info.piece_length, trio.current_time)
            parts = list(self._info.spans(stretch.offset, stretch.length))
            requests = [(url, self._headers(*part)) for part in parts if (url := self._seed.urls[part[0]]) is not None]
            asked = 0
            try:
                for index, start, length in parts:
                    asked += self._seed.urls[index] is not None
                    ahead = requests[asked : asked + _MAX_AHEAD]
                    if not await self._fetch_part(inflow, index, start, length, ahead):
                        return True
            except _Unwanted:
                continue
            except _NoRanges:
                self._seed.ranges = False
                self._trade.pause(self._seed)
                return True
        return bool(found)

    def _headers(self, index: int, start: int, length: int) -> dict[str, str]:
        """What to say when a part of a file is asked for."""
        whole = start == 0 and length == self._info.files[index].size
        return _PLAIN if whole else _PLAIN | {"Range": f"bytes={start}-{start + length - 1}"}

    async def _fetch_part(self, inflow: Inflow, index: int, start: int, length: int, ahead: Sequence[Ahead]) -> bool:
        """A part of one file; False where not all of it came. `ahead`: what will be asked for after it."""
        if self._seed.urls[index] is None:
            for zeros in _zeros(length):
                inflow.pour(zeros)
            self._runner.settle()
            return True
        size = self._info.files[index].size
        left = length

        async def read(response: Response) -> None:
            nonlocal left
            if judge(response.status, response.headers, start, length, size, datetime.now(UTC)):
                raise _NoRanges
            chunks = _Chunks(response, self._down)
            while left:  # where it sends the whole file, the rest is not for us
                while self._runner.swarm.congested:
                    await self._runner.news(_IDLE_S)
                if not inflow.is_awaited:
                    raise _Unwanted
                count = await chunks.into(inflow, left)
                if not count:
                    return
                left -= count
                self._runner.settle()

        if not await self._get(index, self._headers(index, start, length), read, ahead):
            return False
        if left:  # it gives less at a time
            self._trade.pause(self._seed)
        return not left

    # --- servers that give whole files alone

    async def _fetch_whole(self) -> bool:
        """Reads files, from the one on in which the first piece is missing, and takes what is wanted."""
        piece = self._trade.next_whole(self._seed, trio.current_time())
        if piece is None:
            return False
        first, _, _ = next(self._info.spans(piece * self._info.piece_length, 1))
        passing = _Passing(self._info, self._trade, self._seed)
        for index in range(first, len(self._info.files)):
            entry = self._info.files[index]
            if not entry.size:
                continue
            passing.go_to(entry.offset)
            if not await self._pass_file(passing, index, entry.size):
                break
            if not passing.is_halfway and self._trade.next_whole(self._seed, trio.current_time()) is None:
                break
        self._trade.pause(self._seed)  # what lies across into a file that did not come is free for others
        return True

    async def _pass_file(self, passing: _Passing, index: int, size: int) -> bool:
        if self._seed.urls[index] is None:
            for zeros in _zeros(size):
                passing.feed(zeros, trio.current_time())
            self._runner.settle()
            return True

        async def read(response: Response) -> None:
            judge(response.status, response.headers, 0, size, size, datetime.now(UTC))
            left = size
            chunks = _Chunks(response, self._down)
            while chunk := await chunks.next():
                while self._trade.must_prove(self._seed) or self._runner.swarm.congested:
                    await self._runner.news(_IDLE_S)
                if self._seed.given_up:
                    raise Refusal(self._seed.reason or "", lasting=True)
                passing.feed(chunk[:left], trio.current_time())
                self._runner.settle()
                left -= min(left, len(chunk))
                if not left:
                    return
            raise Refusal("its answer was cut off")

        return await self._get(index, _PLAIN, read)

    # --- both

    async def _get(
        self,
        index: int,
        headers: dict[str, str],
        read: Callable[[Response], Awaitable[None]],
        ahead: Sequence[Ahead] = (),
    ) -> bool:
        """One request for one file; False where it failed, and the seed rests or lacks the file."""
        url, near = self._moved.get(index) or (self._seed.urls[index] or "", self._near)
        try:
            with trio.move_on_after(HEAD_S) as patience:
                following = () if self._moved else ahead  # where files lie elsewhere, nobody knows where the next does
                async with self._client.get(url, near=near, headers=headers, ahead=following) as response:
                    patience.deadline = float("inf")
                    if response.url != url:
                        self._remember(index, response.url, near and reach(response.server.host) != "global")
                    await read(response)
                    return True
            refusal = Refusal(f"no answer within {HEAD_S:.0f} s")
        except HttpError as error:
            refusal = Refusal(str(error).removeprefix(f"{shown(url)}: "))
        except Refusal as error:
            refusal = error
        self._moved.pop(index, None)
        self._trade.failed(self._seed, refusal, index, trio.current_time())
        return False

    def _remember(self, index: int, url: str, near: bool) -> None:
        while len(self._moved) >= _MAX_MOVED:
            del self._moved[next(iter(self._moved))]
        self._moved[index] = url, near


class _Chunks:
    """The body of an answer as it comes, under the limits and with an end to patience."""

    def __init__(self, response: Response, down: Throttle) -> None:
        self._body = response.body
        self._down = down
        self._waited_s = 0.0
        self._came = 0
        """Both since the last time that a block's worth of bytes had come."""

    async def next(self) -> bytes | memoryview:
        """Some bytes; none at the end. Raises Refusal where they hardly come at all."""
        await self._down.allowance()
        began = trio.current_time()
        chunk: bytes | memoryview | None = None
        with trio.move_on_after(SILENCE_S - self._waited_s):
            chunk = await anext(self._body, b"")
        self._judge(None if chunk is None else len(chunk), began)
        return chunk or b""

    async def into(self, inflow: Inflow, most: int) -> int:
        """Some bytes, at most so many, put to where they belong; 0 at the end. Raises as `next` does."""
        room = min(await self._down.allowance(), most, _LANDING_BYTES)
        began = trio.current_time()
        count: int | None = None
        with trio.move_on_after(SILENCE_S - self._waited_s):
            count = await self._body.into(inflow, room)
        self._judge(count, began)
        return count or 0

    def _judge(self, count: int | None, began: float) -> None:
        """So many bytes came since then; None where patience ended."""
        now = trio.current_time()
        self._waited_s += now - began
        if count is None:
            raise Refusal(f"it sends less than {BLOCK_BYTES} bytes in {SILENCE_S:.0f} s")
        self._down.take(count, now)
        self._came += count
        if self._came >= BLOCK_BYTES:
            self._waited_s, self._came = 0.0, 0


class _Passing:
    """What is wanted of the bytes of all pieces, as whole files pass by."""

    def __init__(self, info: Info, trade: WebTrade, seed: WebSeed) -> None:
        self._info = info
        self._trade = trade
        self._seed = seed
        self._offset = -1
        self._inflow: Inflow | None = None

    @property
    def is_halfway(self) -> bool:
        """Whether a piece that is to be taken goes on in the next file."""
        return self._inflow is not None and not self._inflow.is_over

    def go_to(self, offset: int) -> None:
        """A file begins there."""
        if offset != self._offset:
            self._offset, self._inflow = offset, None

    def feed(self, data: bytes | memoryview, now: float) -> None:
        """The next bytes."""
        piece_length = self._info.piece_length
        while data:
            index, begin = divmod(self._offset, piece_length)
            size = self._info.piece_size(index)
            if begin == 0:
                claimed = self._trade.claim(self._seed, index, now)
                stretch = Stretch(self._offset, size)
                self._inflow = (
                    Inflow(self._trade, self._seed, stretch, piece_length, trio.current_time) if claimed else None
                )
            if self._inflow is not None:
                self._inflow.pour(data[: size - begin])
            taken = min(len(data), size - begin)
            self._offset += taken
            data = data[taken:]


def _zeros(length: int) -> list[bytes]:
    """Of pads (BEP 47)."""
    return [_ZEROS[: min(len(_ZEROS), length - at)] for at in range(0, length, len(_ZEROS))]
