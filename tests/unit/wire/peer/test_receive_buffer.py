from __future__ import annotations

from wire.peer.receive_buffer import LARGE_BYTES, SMALL_BYTES, ReceiveBuffer


def fill(buffer: ReceiveBuffer, data: bytes) -> None:
    space = buffer.space(shrink=False)
    space[: len(data)] = data
    buffer.end += len(data)


def test_it_starts_small_and_reuses_what_was_read() -> None:
    buffer = ReceiveBuffer()
    for _ in range(3):
        fill(buffer, bytes(SMALL_BYTES))
        assert buffer.is_full
        buffer.start = buffer.end
    assert len(buffer.space(shrink=False)) == SMALL_BYTES


def test_a_rest_moves_to_the_front() -> None:
    buffer = ReceiveBuffer()
    fill(buffer, b"read" + b"rest")
    buffer.start = 4
    assert len(buffer.space(shrink=False)) == SMALL_BYTES - 4
    assert bytes(buffer.view[buffer.start : buffer.end]) == b"rest"


def test_a_rest_longer_than_what_was_read_moves_over_itself() -> None:
    buffer = ReceiveBuffer()
    rest = bytes(range(256)) * 8
    fill(buffer, b"read" + rest)
    buffer.start = 4
    buffer.space(shrink=False)
    assert bytes(buffer.view[buffer.start : buffer.end]) == rest


def test_it_grows_by_steps_to_its_limit_and_old_views_stay_as_they_are() -> None:
    buffer = ReceiveBuffer()
    fill(buffer, b"abcd")
    old = buffer.view[:4]
    sizes = []
    for _ in range(6):
        buffer.grow()
        buffer.space(shrink=False)
        sizes.append(len(buffer.data))
    assert sizes == [SMALL_BYTES * 4, SMALL_BYTES * 16, SMALL_BYTES * 64, LARGE_BYTES, LARGE_BYTES, LARGE_BYTES]
    assert bytes(buffer.view[buffer.start : buffer.end]) == b"abcd"
    buffer.view[:4] = b"new!"
    assert bytes(old) == b"abcd"


def test_it_shrinks_only_when_the_rest_fits() -> None:
    buffer = ReceiveBuffer()
    buffer.grow()
    fill(buffer, bytes(SMALL_BYTES) + b"x")
    buffer.space(shrink=True)
    assert len(buffer.data) == SMALL_BYTES * 4
    buffer.start = SMALL_BYTES
    assert len(buffer.space(shrink=True)) == SMALL_BYTES - 1
    assert bytes(buffer.view[buffer.start : buffer.end]) == b"x"
