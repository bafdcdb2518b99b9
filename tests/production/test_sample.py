"""How many units of a flag are compared follows from how many calls there are, and is found out soon."""

from __future__ import annotations

import pytest

from flagkit.production.call import MANY, Sample


def run(sample: Sample, rate: float, seconds: float, began_s: float = 0.0) -> float:
    """So many calls a second come, of which the sample lets its part through; it is looked at as the guard does."""
    now_s, looked_s, share = began_s, began_s, 0.0
    sample.look(now_s)
    while now_s < began_s + seconds:
        now_s += 1 / rate
        share += 1 / (sample.mask + 1)
        if share >= 1:
            share -= 1
            sample.compared += 1
            if sample.compared >= MANY:
                sample.look(now_s)
        if now_s - looked_s >= 0.25:
            looked_s = now_s
            sample.look(now_s)
    return now_s


@pytest.mark.parametrize("rate", [10, 500, 1_900])
def test_few_calls_are_all_compared(rate: int) -> None:
    sample = Sample()
    run(sample, rate, 5)
    assert sample.mask == 0


@pytest.mark.parametrize(("rate", "share"), [(3_000, 2), (10_000, 8), (200_000, 128)])
def test_of_many_calls_as_many_are_compared_as_say_enough(rate: int, share: int) -> None:
    sample = Sample()
    run(sample, rate, 3)
    assert sample.mask + 1 == share


def test_a_burst_is_sampled_after_ten_thousand_calls_however_quickly_they_come() -> None:
    sample = Sample()
    run(sample, 1_000_000, 0.0101)
    assert sample.mask + 1 >= 256


def test_all_are_compared_again_when_few_are_left() -> None:
    sample = Sample()
    now_s = run(sample, 50_000, 2)
    assert sample.mask
    run(sample, 100, 20, now_s)
    assert sample.mask == 0
