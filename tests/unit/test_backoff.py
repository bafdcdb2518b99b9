from __future__ import annotations

import math
from random import Random

import pytest
from fakes import FixedRandom
from hypothesis import given, settings
from hypothesis import strategies as st

from flagkit.runtime.backoff import Backoff


def pauses(backoff: Backoff, count: int, **how: bool) -> list[float]:
    return [backoff.failed(**how) for _ in range(count)]


def test_the_longest_pause_doubles_up_to_the_cap() -> None:
    assert pauses(Backoff(1, 8, FixedRandom(1.0)), 5) == [2, 4, 8, 8, 8]


def test_the_jitter_is_drawn_after_the_cap() -> None:
    at_the_cap = {round(pauses(Backoff(1, 8, Random(seed)), 6)[-1], 3) for seed in range(50)}
    assert len(at_the_cap) > 30
    assert max(at_the_cap) <= 8


def test_no_pause_is_shorter_than_half_the_interval() -> None:
    assert pauses(Backoff(2, 60, FixedRandom(0.0)), 3) == [1, 1, 1]


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 10), (1.0, 12)])
def test_from_the_fifth_failure_in_a_row_it_only_probes_until_a_success(chance: float, pause: float) -> None:
    backoff = Backoff(1, 10, FixedRandom(chance), probe_s=10)
    assert max(pauses(backoff, 4)) <= 10
    assert pauses(backoff, 4) == pytest.approx([pause] * 4)
    backoff.succeeded()
    assert backoff.failed() <= 2


def test_the_server_gets_the_time_it_asked_for() -> None:
    backoff = Backoff(2, 60, FixedRandom(0.0))
    assert backoff.failed(20.0) == 20
    assert Backoff(2, 60, FixedRandom(1.0)).failed(20.0) == 21, "and those told the same do not come back together"


@pytest.mark.parametrize("wish", [-5.0, math.nan, 0.0, -math.inf])
def test_a_senseless_wish_is_none(wish: float) -> None:
    assert Backoff(2, 60, FixedRandom(0.5)).failed(wish) == 2.5


@pytest.mark.parametrize("wish", [1e9, math.inf])
def test_an_absurd_wish_is_cut_to_the_ceiling(wish: float) -> None:
    assert Backoff(2, 60, FixedRandom(0.0)).failed(wish) == 900
    assert Backoff(2, 60, FixedRandom(0.0), ceiling_s=3600).failed(wish) == 3600


def test_lasting_failures_wait_from_a_minute_to_a_quarter_of_an_hour() -> None:
    assert pauses(Backoff(1, 8, FixedRandom(1.0)), 6, lasting=True) == [60, 120, 240, 480, 900, 900]
    assert pauses(Backoff(1, 8, FixedRandom(0.0)), 6, lasting=True) == [30, 60, 120, 240, 450, 450]


def test_one_success_starts_both_regimes_again() -> None:
    backoff = Backoff(1, 8, FixedRandom(1.0))
    pauses(backoff, 4)
    pauses(backoff, 4, lasting=True)
    assert backoff.failures == 8
    backoff.succeeded()
    assert backoff.failures == 0
    assert backoff.failed() == 2
    assert backoff.failed(lasting=True) == 60


@settings(derandomize=True, max_examples=100)
@given(
    interval=st.floats(0.05, 86_400),
    failures=st.lists(st.tuples(st.booleans(), st.floats(0, 1e6)), max_size=60),
    seed=st.integers(0, 1000),
)
def test_every_pause_lies_within_its_bounds(interval: float, failures: list[tuple[bool, float]], seed: int) -> None:
    cap = max(interval, 60)
    backoff = Backoff(interval, cap, Random(seed))
    for lasting, wish in failures:
        pause = backoff.failed(wish, lasting=lasting)
        assert min(wish, 900) <= pause
        assert (30 if lasting else interval / 2) <= pause <= max(cap, 900) + interval / 2


@pytest.mark.parametrize("together", [True, False])
def test_processes_that_fail_together_spread_out_and_go_easy_on_the_server(together: bool) -> None:
    """Eight processes, an interval of 2 s, an outage of 12 s: at most 32 requests, hardly ever 6 in 250 ms."""
    crowded = 0
    for seed in range(200):
        random = Random(seed)
        requests = []
        for _ in range(8):
            backoff = Backoff(2, 16, random)
            at = backoff.failed() if together else random.random() * 2
            while at < 12:
                requests.append(at)
                at += backoff.failed()
        assert len(requests) <= 32
        crowded += max(sum(at <= other < at + 0.25 for other in requests) for at in requests) > 5
    assert crowded <= 4
