"""Rates from counters."""

from __future__ import annotations

import pytest

from wire.swarm.meter import Meter


def test_a_steady_stream_is_measured_truly_from_the_first_second() -> None:
    meter = Meter(10.0)
    for second in range(1, 20):
        meter.total += 500
        meter.measure(10.0 + second)
        assert meter.rate == pytest.approx(500.0)
        assert meter.latest == pytest.approx(500.0)


def test_what_stops_fades() -> None:
    meter = Meter(0.0)
    for second in range(1, 10):
        meter.total += 500
        meter.measure(float(second))
    for second in range(10, 20):
        meter.measure(float(second))
    assert meter.latest == 0.0
    assert 0.0 < meter.rate < 50.0


def test_no_time_is_no_measurement() -> None:
    meter = Meter(5.0)
    meter.total += 10
    meter.measure(5.0)
    assert meter.rate == 0.0
