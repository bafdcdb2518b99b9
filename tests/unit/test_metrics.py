"""Calls, failures and latencies of a variant, in bounded memory."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from flagkit.production.metrics import Meter, bucket_of, quantiles


def test_quantiles_are_within_two_percent_of_the_true_ones() -> None:
    chance = random.Random(7)
    values = sorted(chance.lognormvariate(-5, 1.5) for _ in range(100_000))
    buckets = Counter(map(bucket_of, values))
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        (found,) = quantiles(buckets, [share])
        assert found == pytest.approx(values[int(share * (len(values) - 1))], rel=0.02)


@pytest.mark.full
def test_so_they_are_of_a_million() -> None:
    chance = random.Random(8)
    values = sorted(chance.lognormvariate(-3, 2) for _ in range(1_000_000))
    buckets = Counter(map(bucket_of, values))
    for share in (0.001, 0.25, 0.5, 0.9, 0.99, 0.9999):
        (found,) = quantiles(buckets, [share])
        assert found == pytest.approx(values[int(share * (len(values) - 1))], rel=0.02)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, 1e-9, 1e9, math.inf])
def test_what_is_no_duration_goes_to_the_nearest_end(seconds: float) -> None:
    assert -23 << 5 <= bucket_of(seconds) <= 21 << 5


def test_memory_is_bounded_whatever_is_counted() -> None:
    meter = Meter("f", "on")
    for number in range(3000):
        meter.add(math.exp(number / 50 - 30), None)
        meter.add(1.0, f"Error{number}")
    assert (meter.calls, meter.failures) == (6000, 3000)
    assert len(meter.buckets) <= 1410
    assert len(meter.errors) == 21
    assert sum(meter.errors.values()) == 3000


def test_a_failed_call_has_no_latency() -> None:
    meter = Meter("f", "on")
    meter.add(0.001, "ValueError")
    read = meter.read()
    assert (read.calls, read.failures, read.errors, read.p50_s) == (1, 1, {"ValueError": 1}, None)
    meter.add(0.25, None)
    assert meter.read().p99_s == pytest.approx(0.25, rel=0.02)
