"""Evidence: what it is exactly, what it starts from, and what it bears."""

from __future__ import annotations

import random
from itertools import product
from math import exp, inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagkit.production.sequential import GRID, Pace, RatioEProcess, SharesTest, SloEProcess, upper_limit, window_share
from tests.guard.pieces import expected_ratios

counts = st.integers(0, 40)


def reference(tolerated: float, blocks: list[tuple[int, int, int, int]]) -> float:
    """The formulas of the specification, one after another."""
    left, stakes, informative = 0.5, [0.5] * len(GRID), 0
    for m0, m1, e0, e1 in blocks:
        if e0 + e1 == 0 or m0 == 0 or m1 == 0:
            continue
        informative += 1
        now = 1 / (2 * (1 + log(informative + 1)))
        ratios = [g**e1 * ((m1 * tolerated + m0) / (m1 * tolerated * g + m0)) ** (e0 + e1) for g in GRID]
        stakes = [(stake + left - now) * ratio for stake, ratio in zip(stakes, ratios, strict=True)]
        left = now
    return sum(stakes) / len(stakes) + left


@pytest.mark.parametrize("tolerated", [1.0, 1.25, 2.0])
def test_the_mean_of_a_blocks_evidence_is_at_most_1_at_the_boundary(tolerated: float) -> None:
    for m0, m1, rate in product((1, 5, 20), (1, 4, 16), (0.01, 0.2, 0.45)):
        assert max(expected_ratios(m0, m1, rate, tolerated)) <= 1 + 1e-9


@given(st.lists(st.tuples(counts, counts, st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_it_is_what_the_formulas_say(blocks: list[tuple[int, int, int, int]]) -> None:
    test = RatioEProcess(1.25)
    for block in blocks:
        test.add_block(*block)
    assert test.value == pytest.approx(reference(1.25, blocks), rel=1e-9)


def test_stakes_and_what_is_kept_back_never_add_up_to_more_than_1() -> None:
    test = RatioEProcess(1.0)
    for _ in range(2000):
        test._multiply((1.0,) * len(GRID))
        assert test.value == pytest.approx(1.0, abs=1e-9)


def test_a_block_without_events_or_without_an_arm_says_nothing() -> None:
    test = RatioEProcess(1.25)
    for block in ((30, 30, 0, 0), (0, 30, 0, 30), (30, 0, 30, 0)):
        test.add_block(*block)
    assert (test.value, test.state()[0]) == (1.0, 0)


def test_it_bears_any_amount_of_evidence_either_way() -> None:
    test = RatioEProcess(1.0)
    for _ in range(500):
        test.add_block(1000, 1000, 0, 1000)
    assert 1e100 < test.value < inf
    for _ in range(500):
        test.add_block(1000, 1000, 1000, 0)
    assert 0 < test.value < 1
    for _ in range(20):
        test.add_block(100, 100, 0, 20)  # and is not so sure that it could not change its mind
    assert test.value > 100


def test_it_goes_on_from_a_state_and_from_nothing_else() -> None:
    one, other = RatioEProcess(1.25), RatioEProcess(1.25)
    one.add_block(20, 20, 1, 3)
    other.resume(one.state())
    for test in (one, other):
        test.add_block(30, 8, 2, 2)
    assert one.state() == other.state()
    for wrong in ((), (1,), (1, *[-1.0] * 7), (1, *[float("nan")] * 7), (1, *["x"] * 7), (1e20, *[0.5] * 7)):
        with pytest.raises(ValueError):
            other.resume(wrong)
    assert one.state() == other.state()


def test_the_shares_of_all_windows_sum_up_to_1() -> None:
    shares = [window_share(window) for window in range(100_000)]
    assert shares[:2] == pytest.approx([0.70, 0.06], abs=0.01)
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + 0.5 / (1 + log(100_001)) == pytest.approx(1.0)


def test_known_rate_evidence_has_a_mean_of_1_at_that_rate() -> None:
    rate = 0.02
    mean = 0.0
    for passed in range(2000):
        test = SloEProcess(rate)
        for failed in [False] * passed + [True]:
            test.add(failed)
        mean += (1 - rate) ** passed * rate * test.value
    assert mean <= 1 + 1e-9


@pytest.mark.parametrize("rate", [0.001, 0.3, 0.95])
def test_a_rate_above_the_known_one_is_found_whatever_that_is(rate: float) -> None:
    test = SloEProcess(rate)
    for _ in range(200):
        test.add(True)
    assert test.value > 100


def test_known_rate_evidence_goes_on_from_a_state() -> None:
    one, other = SloEProcess(0.01), SloEProcess(0.01)
    for number in range(130):
        one.add(number % 50 == 0)
    other.resume(one.state())
    for test in (one, other):
        test.add(True)
    assert one.value == other.value
    with pytest.raises(ValueError):
        other.resume(("x", *one.state()[1:]))


def test_units_of_both_arms_in_any_order_say_the_same_about_shares() -> None:
    shares = (0.95, 0.05)
    one, another, at_once = SharesTest(shares), SharesTest(shares), SharesTest(shares)
    for arm in [0] * 90 + [1] * 30:
        one.add(arm)
    for arm in [1] * 30 + [0] * 90:
        another.add(arm)
    at_once.add_counts((90, 30))
    assert one.value == pytest.approx(another.value) == pytest.approx(at_once.value)
    assert one.value > 1000


def test_pace_follows_and_what_takes_no_time_does_not_stop_it() -> None:
    pace = Pace()
    assert (pace.known, pace.quantiles, pace.deadline_s()) == (False, None, 60.0)
    chance = random.Random(0)
    for _ in range(20_000):
        pace.add(chance.random())
    assert pace.p90 == pytest.approx(0.9, rel=0.1)
    assert pace.deadline_s() == pytest.approx(9.9, rel=0.1)
    for _ in range(500_000):
        pace.add(0.0)
    assert pace.bounds(1.2) == pytest.approx((1e-9, 1e-9 + 10e-6, 1e-9, 1e-9 + 10e-6))
    for _ in range(10_000):
        pace.add(0.5)
    assert pace.bounds(1.2)[0] == pytest.approx(0.5, rel=0.1)
    assert pace.deadline_s() >= 1


@pytest.mark.parametrize(
    ("events", "calls", "limit"), [(0, 0, 1.0), (0, 1000, 0.0066), (10, 1000, 0.0219), (5, 5, 1.0)]
)
def test_the_upper_limit_is_wilsons(events: int, calls: int, limit: float) -> None:
    assert upper_limit(events, calls) == pytest.approx(limit, rel=0.02)


def test_huge_counts_are_borne() -> None:
    test = RatioEProcess(1.25)
    test.add_block(10**9, 10**9, 10**6, 10**8)
    assert test.value <= 1e150
    assert exp(-800) == 0.0  # a ratio that is too small is none
    test.add_block(10**9, 10**9, 10**8, 0)
    assert test.value >= 0
