"""The token bucket holds its average and its burst, and needs no clock of its own."""

import random

import pytest

from wire.limits import TokenBucket


def test_burst_passes_then_the_rate_holds() -> None:
    bucket = TokenBucket(rate=10, burst=3, now=0.0)
    assert [bucket.take(1, 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(1, 0.0)
    assert bucket.wait_s(0.0) > 0
    assert bucket.take(1, 0.1)


def test_no_rate_means_no_limit() -> None:
    bucket = TokenBucket(rate=0, burst=0, now=0.0)
    assert all(bucket.take(1e9, 0.0) for _ in range(10))
    assert bucket.wait_s(0.0) == 0.0


def test_a_large_thing_passes_in_debt_and_later_ones_wait() -> None:
    bucket = TokenBucket(rate=10, burst=5, now=0.0)
    assert bucket.take(105, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(10.0)
    assert not bucket.take(1, 9.9)
    assert bucket.take(1, 10.2)


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=10, burst=1, now=100.0)
    assert bucket.take(1, 100.0)
    assert not bucket.take(1, 50.0)


def test_the_average_holds_over_any_sizes() -> None:
    rng = random.Random(7)
    bucket = TokenBucket(rate=1000, burst=50, now=0.0)
    now, passed, largest = 0.0, 0.0, 0.0
    for _ in range(5000):
        now += rng.random() * 0.02
        amount = rng.uniform(1, 100)
        if bucket.take(amount, now):
            passed, largest = passed + amount, max(largest, amount)
    assert passed <= 1000 * now + 50 + largest
    assert passed >= 0.9 * 1000 * now
