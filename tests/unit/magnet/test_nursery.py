"""The nursery whose one error leaves it as itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from magnet.nursery import open_plain_nursery
from wire.errors import DiskError, NetworkError

Job = Callable[[], Awaitable[None]]


def raising(error: Exception, after_s: float | None = None) -> Job:
    """A task that fails, at once or later."""

    async def job() -> None:
        if after_s is not None:
            await trio.sleep(after_s)
        raise error

    return job


async def run(body: Job, *tasks: Job) -> None:
    async with open_plain_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)
        await body()


async def test_the_error_of_the_body_stays_itself(autojump_clock):
    error = DiskError("full")
    with pytest.raises(DiskError) as caught:
        await run(raising(error), trio.sleep_forever)
    assert caught.value is error


async def test_the_error_of_a_task_stays_itself_and_ends_the_body(autojump_clock):
    with pytest.raises(NetworkError):
        await run(trio.sleep_forever, raising(NetworkError("gone"), 1.0))


async def test_of_several_foreseen_errors_one_is_told():
    with pytest.raises(NetworkError, match="gone"):
        await run(trio.sleep_forever, raising(NetworkError("gone")), raising(NetworkError("gone too")))


async def test_errors_that_nobody_foresaw_come_as_their_group():
    with pytest.raises(ExceptionGroup):
        await run(trio.sleep_forever, raising(ValueError("a")), raising(KeyError("b")))


async def test_the_end_of_the_body_ends_the_tasks():
    await run(trio.lowlevel.checkpoint, trio.sleep_forever)


async def test_a_cancelled_body_is_cancelled_and_no_error(autojump_clock):
    with trio.move_on_after(1) as scope:
        await run(trio.sleep_forever, trio.sleep_forever)
    assert scope.cancelled_caught


async def test_a_cancellation_passes_as_itself(autojump_clock):
    with trio.move_on_after(1), pytest.raises(trio.Cancelled):
        await run(trio.sleep_forever, trio.sleep_forever)
