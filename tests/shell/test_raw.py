"""Writing by position: all of it, at its place, no more by one call than is meant."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from wire.storage import raw

BLOCK = 16 << 10


@pytest.mark.parametrize(
    "sizes",
    [
        [BLOCK] * 64,
        [1 << 20],
        [5, BLOCK, 300_000, BLOCK, 7],
        [raw._WRITE_BYTES, 1, raw._WRITE_BYTES - 1, raw._WRITE_BYTES + 1],
        [1] * 1500,
        [0, BLOCK, 0],
        [],
    ],
    ids=str,
)
@pytest.mark.parametrize("disk", ["takes all", "takes a part"])
def test_all_is_written_in_calls_of_a_bounded_size(
    sizes: list[int], disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    parts = [rng.randbytes(size) for size in sizes]
    calls: list[int] = []

    def counted(
        write: Callable[[int, Sequence[memoryview], int], int], fd: int, views: Sequence[memoryview], at: int
    ) -> int:
        size = sum(map(len, views))
        calls.append(size)
        if disk == "takes a part" and size > 1:
            flat = b"".join(views)[: rng.randrange(1, size)]
            return write(fd, [memoryview(flat)], at)
        return write(fd, views, at)

    vectored, plain = os.pwritev, os.pwrite
    monkeypatch.setattr(raw.os, "pwritev", lambda fd, views, at: counted(vectored, fd, views, at))
    one = lambda fd, views, at: plain(fd, views[0], at)  # noqa: E731
    monkeypatch.setattr(raw.os, "pwrite", lambda fd, view, at: counted(one, fd, [view], at))
    path = tmp_path / "file"
    with path.open("wb") as file:
        raw.write_views(file.fileno(), [memoryview(part) for part in parts], 1000)
    assert path.read_bytes() == (bytes(1000) + b"".join(parts) if any(sizes) else b"")
    assert max(calls, default=0) <= raw._WRITE_BYTES
    if disk == "takes all":
        assert len(calls) <= 2 * -(-sum(sizes) // raw._WRITE_BYTES) + len(sizes) // 512 + 3, "small ones go together"
