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
from wire.swarm.pieces import BlockId
from wire.swarm.throttle import Throttle
from wire.swarm.webseed import Joiner, Refusal, WebSeed, judge
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
"""Read at a time."""
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
            joiner = Joiner(stretch.blocks)
            parts = list(self._info.spans(stretch.offset, stretch.length))
            requests = [(url, self._headers(*part)) for part in parts if (url := self._seed.urls[part[0]]) is not None]
            asked = 0
            try:
                for index, start, length in parts:
                    asked += self._seed.urls[index] is not None
                    ahead = requests[asked : asked + _MAX_AHEAD]
                    if not await self._fetch_part(joiner, index, start, length, ahead):
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

    async def _fetch_part(self, joiner: Joiner, index: int, start: int, length: int, ahead: Sequence[Ahead]) -> bool:
        """A part of one file; False where not all of it came. `ahead`: what will be asked for after it."""
        if self._seed.urls[index] is None:
            for zeros in _zeros(length):
                self._take(joiner.feed(zeros))
            return True
        size = self._info.files[index].size
        left = length

        async def read(response: Response) -> None:
            nonlocal left
            if judge(response.status, response.headers, start, length, size, datetime.now(UTC)):
                raise _NoRanges
            chunks = _Chunks(response, self._down)
            while (chunk := await chunks.next()) is not None:
                if not self._trade.awaits(self._seed, joiner.pending):
                    raise _Unwanted
                self._take(joiner.feed(chunk[:left]))
                left -= min(left, len(chunk))
                if not left:
                    return  # where it sends the whole file, the rest is not for us

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
                self._take(passing.feed(zeros, trio.current_time()))
            return True

        async def read(response: Response) -> None:
            judge(response.status, response.headers, 0, size, size, datetime.now(UTC))
            left = size
            chunks = _Chunks(response, self._down)
            while (chunk := await chunks.next()) is not None:
                while self._trade.must_prove(self._seed) or self._runner.swarm.congested:
                    await self._runner.news(_IDLE_S)
                if self._seed.given_up:
                    raise Refusal(self._seed.reason or "", lasting=True)
                self._take(passing.feed(chunk[:left], trio.current_time()))
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

    def _take(self, blocks: Sequence[tuple[int, int, memoryview]]) -> None:
        if blocks:
            self._trade.received(self._seed, blocks, trio.current_time())
            self._runner.settle()


class _Chunks:
    """The body of an answer as it comes, under the limits and with an end to patience."""

    def __init__(self, response: Response, down: Throttle) -> None:
        self._body = response.body
        self._down = down
        self._waited_s = 0.0
        self._came = 0
        """Both since the last time that a block's worth of bytes had come."""

    async def next(self) -> bytes | memoryview | None:
        """Some bytes; None at the end. Raises Refusal where they hardly come at all."""
        await self._down.allowance()
        began = trio.current_time()
        chunk: bytes | memoryview | None = b""
        with trio.move_on_after(SILENCE_S - self._waited_s):
            chunk = await anext(self._body, None)
        if chunk is None:
            return None
        now = trio.current_time()
        self._down.take(len(chunk), now)
        self._waited_s += now - began
        self._came += len(chunk)
        if self._came >= BLOCK_BYTES:
            self._waited_s, self._came = 0.0, 0
        elif self._waited_s >= SILENCE_S:
            raise Refusal(f"it sends less than {BLOCK_BYTES} bytes in {SILENCE_S:.0f} s")
        return chunk


class _Passing:
    """What is wanted of the bytes of all pieces, as whole files pass by."""

    def __init__(self, info: Info, trade: WebTrade, seed: WebSeed) -> None:
        self._info = info
        self._trade = trade
        self._seed = seed
        self._offset = -1
        self._joiner: Joiner | None = None

    @property
    def is_halfway(self) -> bool:
        """Whether a piece that is to be taken goes on in the next file."""
        return self._joiner is not None and bool(self._joiner.pending)

    def go_to(self, offset: int) -> None:
        """A file begins there."""
        if offset != self._offset:
            self._offset, self._joiner = offset, None

    def feed(self, data: bytes | memoryview, now: float) -> list[tuple[int, int, memoryview]]:
        """The blocks that became whole: (piece, begin, data)."""
        whole: list[tuple[int, int, memoryview]] = []
        while data:
            index, begin = divmod(self._offset, self._info.piece_length)
            size = self._info.piece_size(index)
            if begin == 0:
                claimed = self._trade.claim(self._seed, index, now)
                self._joiner = Joiner(_blocks(index, size)) if claimed else None
            if self._joiner is not None:
                whole += self._joiner.feed(data[: size - begin])
            taken = min(len(data), size - begin)
            self._offset += taken
            data = data[taken:]
        return whole


def _blocks(index: int, size: int) -> list[BlockId]:
    return [(index, begin, min(BLOCK_BYTES, size - begin)) for begin in range(0, size, BLOCK_BYTES)]


def _zeros(length: int) -> list[bytes]:
    """Of pads (BEP 47)."""
    return [_ZEROS[: min(len(_ZEROS), length - at)] for at in range(0, length, len(_ZEROS))]
