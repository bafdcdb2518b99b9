"""``Comparison``: what is compared with what, and what it does not fall for."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagkit.production.clocks import LEAST_ARM, LEAST_BLOCK
from flagkit.production.comparison import CANDIDATE, CONTROL, Comparison, as_numbers
from flagkit.production.pool import Pool
from flagkit.production.tally import Tally


def errors_alone() -> Comparison:
    return Comparison(latency_tolerance=None, cold=False)


def call(comparison: Comparison, arm: int, key: bytes, failed: bool = False, seconds: float = 0.01) -> None:
    comparison.finish(comparison.start("all", arm, key), failed, seconds)


def calls(
    comparison: Comparison, count: int, *, failing: tuple[float, float], seed: int = 0, rule: str = "all"
) -> None:
    """Calls of new units, half of them the candidate's."""
    chance = random.Random(seed)
    for number in range(count):
        arm = chance.randrange(2)
        begun = comparison.start(rule, arm, b"%d %d" % (seed, number))
        comparison.finish(begun, chance.random() < failing[arm], 0.01 * chance.lognormvariate(0, 0.3))


def value(comparison: Comparison) -> float:
    return max(comparison.evidence().evidence)


def test_a_candidate_that_fails_more_often_is_found_and_the_verdict_stays() -> None:
    comparison = errors_alone()
    calls(comparison, 2_000, failing=(0.01, 0.2))
    verdict = comparison.verdict
    assert verdict is not None
    assert (verdict.kind, verdict.window) == ("errors", 0)
    assert verdict.evidence >= verdict.limit > 200
    calls(comparison, 5_000, failing=(0.2, 0.01), seed=1)
    assert comparison.verdict is verdict


def test_one_that_fails_as_often_or_less_is_left_alone() -> None:
    for failing in ((0.05, 0.05), (0.2, 0.01), (1.0, 1.0), (0.0, 0.0)):
        comparison = Comparison()
        calls(comparison, 5_000, failing=failing)
        assert comparison.verdict is None


def test_a_slower_one_is_found_and_fast_failures_do_not_hide_it() -> None:
    comparison = Comparison(cold=False)
    chance = random.Random(0)
    for number in range(6_000):
        arm = chance.randrange(2)
        failed = chance.random() < 0.1
        seconds = 0.0001 if failed else chance.lognormvariate(-3, 0.5) * (3 if arm else 1)
        call(comparison, arm, b"%d" % number, failed, seconds)
        if comparison.verdict is not None:
            break
    assert comparison.verdict is not None
    assert comparison.verdict.kind == "latency"


def test_what_expired_is_both_failed_and_slow() -> None:
    comparison = Comparison(cold=False)
    chance = random.Random(0)
    for number in range(400):
        call(comparison, number % 2, b"%d" % number, False, chance.lognormvariate(-3, 0.5))
    before = comparison.evidence()
    for number in range(200):
        hung = number % 2 == CANDIDATE and number % 4 == 1
        call(comparison, number % 2, b"more %d" % number, hung, inf if hung else chance.lognormvariate(-3, 0.5))
    after = comparison.evidence()
    assert after.failures[CANDIDATE] - before.failures[CANDIDATE] == 50
    assert after.slow[CANDIDATE] - before.slow[CANDIDATE] >= 50
    assert min(test.value for test in comparison.clocks[0].tests) > 1


def test_nothing_is_judged_before_all_calls_that_began_together_have_ended() -> None:
    comparison = errors_alone()
    under_way = [comparison.start("all", number % 2, b"%d" % number) for number in range(LEAST_BLOCK)]
    for begun in under_way[::-1][: LEAST_BLOCK - 1]:
        comparison.finish(begun, begun[0] == CANDIDATE, 0.01)
    assert value(comparison) == 1
    comparison.finish(under_way[0], False, 0.01)
    assert value(comparison) > 10


def test_blocks_do_not_close_on_outcomes() -> None:
    comparison = errors_alone()
    for number in range(LEAST_BLOCK - 1):
        call(comparison, number % 2, b"%d" % number, failed=number % 2 == CANDIDATE)
        assert value(comparison) == 1
    call(comparison, CANDIDATE, b"last")
    assert value(comparison) > 10


def test_a_block_has_four_calls_of_either_arm() -> None:
    comparison = errors_alone()
    for number in range(200):
        call(comparison, CONTROL, b"%d" % number, failed=True)
    for number in range(LEAST_ARM - 1):
        call(comparison, CANDIDATE, b"candidate %d" % number, failed=True)
    assert value(comparison) == 1
    comparison.settle()
    assert value(comparison) != 1


def test_a_change_of_shares_closes_blocks_and_keeps_what_is_known() -> None:
    comparison = errors_alone()
    calls(comparison, 400, failing=(0.01, 0.1))
    before = value(comparison)
    calls(comparison, 20, failing=(0.0, 1.0), seed=1)
    comparison.settle()
    assert value(comparison) > before > 1
    evidence = comparison.evidence()
    comparison.settle()
    assert comparison.evidence() == evidence


def test_a_unit_counts_31_times_a_window_and_until_it_fails() -> None:
    comparison = errors_alone()
    for _ in range(100):
        call(comparison, CANDIDATE, b"busy")
    assert comparison.evidence().counted == 31
    once = Comparison(latency_tolerance=None, cold=False, calls_per_unit=1)
    for _ in range(100):
        call(once, CANDIDATE, b"busy")
    assert once.evidence().counted == 1


def test_one_unit_that_always_fails_is_one_failure() -> None:
    comparison = errors_alone()
    for number in range(3_000):
        call(comparison, CANDIDATE, b"poison", failed=True)
        call(comparison, number % 2, b"%d" % number)
    assert value(comparison) < 4


def test_rules_do_not_meet() -> None:
    comparison = errors_alone()
    chance = random.Random(0)
    for number in range(3_000):
        # All of the canary's control fails less than its candidate's share of the whole would say.
        comparison.finish(comparison.start("canary", CANDIDATE, b"c %d" % number), chance.random() < 0.5, 0.01)
        comparison.finish(comparison.start("everyone", CONTROL, b"e %d" % number), chance.random() < 0.01, 0.01)
    comparison.settle()
    assert value(comparison) == 1


def test_first_calls_of_a_process_meet_only_each_other() -> None:
    def deploy(cold: bool) -> float:
        comparison = Comparison(latency_tolerance=None, cold=cold)
        for number in range(300):
            call(comparison, CONTROL, b"%d" % number)  # the control has been warm for long
        for number in range(31):
            call(comparison, CANDIDATE, b"c%d" % number, failed=number < 20)
            call(comparison, CONTROL, b"more %d" % number)
        for number in range(64):
            call(comparison, number % 2, b"warm %d" % number)
        return value(comparison)

    assert deploy(cold=True) < 2
    assert deploy(cold=False) > 1000


def test_a_window_begins_after_25000_calls_with_nothing_known_of_units_and_no_evidence() -> None:
    comparison = errors_alone()
    calls(comparison, 26_100, failing=(0.02, 0.025))
    long, short = comparison.clocks
    assert (long.window, short.window) == (0, 1)
    assert long.limit < short.limit
    assert short.begun >= 25_000
    assert sum(count > 0 for count in short.table) < 1_200


def test_the_long_clock_goes_on_while_calls_count_and_begins_anew_when_few_do() -> None:
    many, few = errors_alone(), errors_alone()
    for number in range(101_500):
        call(many, number % 2, b"%d" % number)
        call(few, number % 2, b"%d" % (number % 100))
    assert (many.clocks[0].window, few.clocks[0].window) == (0, 1)


def test_calls_under_way_when_a_window_ends_belong_to_none() -> None:
    comparison = errors_alone()
    under_way = [comparison.start("all", CANDIDATE, b"slow %d" % number) for number in range(40)]
    calls(comparison, 26_000, failing=(0.0, 0.0))
    before = comparison.clocks[1].table[:]
    for begun in under_way:
        comparison.finish(begun, True, 0.01)
    assert comparison.clocks[1].table == before
    assert comparison.clocks[1].value == 1


def test_a_failure_reported_later_counts_once_and_for_units_that_were_seen() -> None:
    comparison = errors_alone()
    for number in range(400):
        call(comparison, number % 2, b"%d" % number)
    comparison.late("all", CANDIDATE, b"never seen")
    assert value(comparison) == 1
    for number in range(1, 21, 2):
        for _ in range(3):
            comparison.late("all", CANDIDATE, b"%d" % number)
    evidence = comparison.evidence()
    assert evidence.counted == 400
    assert 2 < value(comparison) < 1000
    before = value(comparison)
    comparison.settle()  # shares have changed: these units were dealt by others
    comparison.late("all", CANDIDATE, b"301")
    assert value(comparison) == before


def test_below_a_rate_that_does_not_matter_nothing_is_rolled_back() -> None:
    rare = Comparison(latency_tolerance=None, cold=False, min_rate=0.05)
    calls(rare, 20_000, failing=(0.0005, 0.02))
    assert rare.verdict is None
    assert value(rare) > 1000
    calls(rare, 4_000, failing=(0.0005, 0.5), seed=1)
    assert rare.verdict is not None


def test_it_says_what_it_has_seen() -> None:
    comparison = Comparison()
    assert (comparison.share, comparison.control_rate(), comparison.deadline_s) == (0.0, (0, 0), 60.0)
    for number in range(400):
        call(comparison, int(number % 4 == 0), b"%d" % number, failed=number % 10 == 1, seconds=0.3)
    evidence = comparison.evidence()
    assert (evidence.calls, sum(evidence.failures), comparison.share) == ((300, 100), 40, 0.25)
    assert comparison.control_rate() == (evidence.failures[CONTROL], 300)
    assert comparison.deadline_s == pytest.approx(3.0, rel=0.1)
    assert as_numbers(evidence)["calls"] == [300, 100]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30), st.booleans()), max_size=300), st.randoms())
def test_blocks_count_what_happened_in_whatever_order_calls_end(
    made: list[tuple[int, int, bool]], order: random.Random
) -> None:
    comparison = errors_alone()
    begun = [(comparison.start("all", arm, b"%d %d" % (arm, unit)), failed) for arm, unit, failed in made]
    order.shuffle(begun)
    for handle, failed in begun:
        comparison.finish(handle, failed, 0.01)
    comparison.settle()
    evidence = comparison.evidence()
    assert sum(evidence.calls) == len(made)
    assert sum(evidence.failures) == sum(failed for _, _, failed in made)
    units = {(arm, unit) for arm, unit, _ in made}
    assert evidence.counted <= min(len(made), 31 * len(units))
    assert value(comparison) >= 0


def test_a_process_that_is_judged_elsewhere_comes_to_the_same_counts() -> None:
    alone, tally, pool = Comparison(), Tally(), Pool()
    chance = random.Random(3)
    for number in range(3_000):
        arm, key = number % 2, b"%d %d" % (number % 2, chance.randrange(500))
        failed, seconds = chance.random() < 0.05, chance.lognormvariate(-3, 0.4)
        alone.finish(alone.start("all", arm, key), failed, seconds)
        tally.finish(tally.start("all", arm, key), failed, seconds)
        if number % 100 == 99:
            pool.take("p", number, tally.drain(), 0.0)
    here, there = alone.evidence(), pool.evidence()
    assert (here.calls, here.failures) == (there.calls, there.failures)
    assert there.counted == pytest.approx(here.counted, rel=0.1)


@pytest.mark.parametrize(
    ("control_s", "candidate_s", "slower"), [(5e-7, 8e-7, False), (3e-6, 9e-6, False), (1e-4, 1.5e-4, True)]
)
def test_less_than_ten_microseconds_are_no_matter(control_s: float, candidate_s: float, slower: bool) -> None:
    comparison, chance = Comparison(), random.Random(3)
    for number in range(20_000):
        arm = number % 2
        took_s = (candidate_s if arm else control_s) * chance.lognormvariate(0, 0.2)
        comparison.finish(comparison.start("all", arm, b"%d" % number), False, took_s)
    assert (comparison.verdict is not None) == slower
