"""Calls, failures and latencies of a variant, in bounded memory."""

from __future__ import annotations

import json
import math
import random
import threading
import tracemalloc
from collections import Counter

import pytest

from flagkit.production.failure import Failure
from flagkit.production.metering import SharedMeter
from flagkit.production.metrics import Meter, Sums, bucket_of, edges, quantiles


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
    assert bucket_of(seconds) in (-736, 703, bucket_of(1e-9))
    assert edges(bucket_of(1e9))[1] == 2.0**20
    assert edges(bucket_of(0.0)) == (0.0, 2.0**-24)


def test_memory_is_bounded_whatever_is_counted() -> None:
    meter = Meter("f", "on")
    for number in range(3000):
        meter.add(math.exp(number / 50 - 30), None)
        meter.add(1.0, f"Error{number}")
    assert (meter.calls, meter.failures) == (6000, 3000)
    assert len(meter.buckets) <= 1410
    assert len(meter.errors) == 21
    assert sum(meter.errors.values()) == 3000


def test_calls_of_many_threads_are_counted_once() -> None:
    meter = SharedMeter("f", "on")

    def call() -> None:
        for number in range(5_000):
            meter.add(0.001 * (number % 50), "ValueError" if number % 5 == 0 else None)
            if number % 100 == 0:
                meter.read()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = meter.read()
    assert (read.calls, read.failures) == (40_000, 8_000)
    assert sum(read.buckets.values()) == 32_000


def test_calls_are_counted_in_the_bucket_of_their_time_whatever_waits_with_them() -> None:
    chance = random.Random(8)
    for strange in (None, 0.0, -1.0, math.inf, 2.0**21):
        meter = SharedMeter("f", "on")
        times = [chance.lognormvariate(-3, 6) for _ in range(700)] + ([] if strange is None else [strange])
        chance.shuffle(times)
        for seconds in times:
            meter.add(seconds, None)
        assert meter.read().buckets == Counter(map(bucket_of, times))


def test_a_failed_call_has_no_latency() -> None:
    meter = Meter("f", "on")
    meter.add(0.001, "ValueError")
    read = meter.read()
    assert (read.calls, read.failures, read.errors, read.p50_s) == (1, 1, {"ValueError": 1}, None)
    meter.add(0.25, None)
    assert meter.read().p99_s == pytest.approx(0.25, rel=0.02)


@pytest.mark.full
@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_so_they_are_of_a_million_counted_by_many_meters_and_added_up(sigma: float) -> None:
    chance, meters, sums = random.Random(9), [Meter("f", "on") for _ in range(16)], Sums()
    values = [chance.lognormvariate(-3, sigma) for _ in range(1_000_000)]
    for number, value in enumerate(values):
        meters[number % 16].add(value, None)
        if number % 200_000 == 0:
            sums = sums.plus(meters[number % 16].take() or Sums())
    for meter in meters:
        sums = Sums.from_json(json.loads(json.dumps(sums.plus(meter.take() or Sums()).to_json())))
    values.sort()
    assert sums.calls == 1_000_000
    for name, share in (("p50_s", 0.5), ("p90_s", 0.9), ("p99_s", 0.99)):
        assert sums.times()[name] == pytest.approx(values[int(share * (len(values) - 1))], rel=0.02)


def test_what_is_taken_adds_up_to_what_was_counted() -> None:
    chance, meter, sums = random.Random(1), Meter("f", "on"), Sums()
    for number in range(5000):
        meter.add(chance.lognormvariate(-3, 1), f"Error{number % 40}" if number % 7 == 0 else None)
        if chance.random() < 0.01:
            sums = sums.plus(meter.take() or Sums())
    sums = sums.plus(meter.take() or Sums())
    read = meter.read()
    assert (sums.calls, sums.failures, sums.errors, sums.buckets) == (5000, read.failures, read.errors, read.buckets)
    assert meter.take() is None


def test_a_meter_takes_a_quarter_of_a_megabyte_at_the_most() -> None:
    tracemalloc.start()
    try:
        meter = Meter("f", "on")
        for bucket in range(bucket_of(0), bucket_of(math.inf) + 1):
            meter.buckets[bucket] = 10**9 + bucket  # an int of its own
            meter.calls += meter.buckets[bucket]
        for number in range(30):
            meter.add(1.0, Failure(f"Error{number}".ljust(128, "x"), f"{number}".ljust(128, "x")))
        assert meter.take() is not None
        assert tracemalloc.get_traced_memory()[0] < 256 * 1024
    finally:
        tracemalloc.stop()


def test_edges_say_where_a_bucket_begins_and_ends() -> None:
    chance = random.Random(4)
    for _ in range(2000):
        seconds = chance.lognormvariate(-3, 6)
        begin, end = edges(bucket_of(seconds))
        assert begin <= seconds < end or seconds >= 2.0**20
    assert edges(bucket_of(0.0))[0] == 0.0
    for power in range(-20, 20):
        assert edges(bucket_of(2.0**power))[0] == 2.0**power


def test_a_variant_s_figures_are_shown_without_hundreds_of_buckets() -> None:
    meter = Meter("f", "on")
    meter.add(1.0, Failure("ValueError", "shop/cart.py:41"))
    assert repr(meter.read()) == (
        "VariantMetrics(flag='f', variant='on', calls=1, failures=1, errors={'ValueError': 1}, p50_s=None, p90_s=None, "
        "p99_s=None, places={'ValueError': 'shop/cart.py:41'})"
    )
