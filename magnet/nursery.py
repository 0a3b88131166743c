"""A nursery whose one error leaves it as itself, not wrapped in a group: callers catch what the docs name.

Several errors that nobody foresaw still come as their group. No BEP, no decisions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio

from wire.errors import WireError

__all__ = ["open_plain_nursery"]


@asynccontextmanager
async def open_plain_nursery() -> AsyncIterator[trio.Nursery]:
    """A trio nursery. When its body ends, the tasks in it are cancelled: they serve the body."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _only(group)
        if error is None:
            raise
        # What led to the group is the error itself: the group would tell the same story twice.
        raise error from error.__cause__


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """What stands for the whole group: its only error besides cancellations, or the first of foreseen ones.

    Where there is nothing but cancellations, one of them is enough.
    """
    leaves = list(_leaves(group))
    errors = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
    if not errors:
        return leaves[0]
    if len(errors) == 1 or (errors and all(isinstance(error, WireError) for error in errors)):
        return errors[0]
    return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
