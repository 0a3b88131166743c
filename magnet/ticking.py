"""Looking at a thing several times a second while something else goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from magnet.nursery import open_plain_nursery

__all__ = ["ticking"]

_LOOK_EVERY_S = 0.2
"""A bar moves smoothly, and it costs nothing."""


@asynccontextmanager
async def ticking(show: Callable[[], None]) -> AsyncIterator[None]:
    """Calls `show` several times a second until the body ends."""

    async def tick() -> None:
        while True:
            show()
            await trio.sleep(_LOOK_EVERY_S)

    async with open_plain_nursery() as nursery:
        nursery.start_soon(tick)
        yield
