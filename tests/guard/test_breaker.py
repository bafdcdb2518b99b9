"""``Breaker``: what opens it, what does not, how it tries again, and whom it does not blame."""

from __future__ import annotations

import pytest

from flagkit.production.breaker import Breaker


def breaker(*, controls: bool = True, chance: float = 0.5) -> Breaker:
    made = Breaker(lambda: chance)
    if controls:
        made.controls(1000, 5, 0.0)
    return made


def fail(which: Breaker, times: int, now_s: float = 1.0, units: int = 2) -> None:
    for number in range(times):
        which.candidate(True, b"%d" % (number % units), now_s)


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    four, five = breaker(), breaker()
    fail(four, 4)
    fail(five, 5)
    assert (four.state, five.state) == ("closed", "open")


def test_one_failing_unit_among_others_does_not_open_it() -> None:
    which = breaker()
    which.candidate(False, b"another", 0.0)
    fail(which, 100, units=1)
    assert which.state == "closed"
    which.candidate(True, b"one more", 1.0)
    assert which.state == "open"


def test_where_there_is_but_one_unit_it_is_enough() -> None:
    which = breaker()
    fail(which, 5, units=1)
    assert which.state == "open"


def test_what_it_remembers_of_units_is_bounded() -> None:
    which = breaker()
    which.controls(100_000, 20_000, 0.0)  # so that nothing opens it: the control fails too
    fail(which, 10_000, units=10_000)
    assert len(which._keys) + len(which._failed_keys) < 20


def test_a_control_that_fails_as_well_suspends_it() -> None:
    which = breaker()
    which.controls(1000, 150, 0.0)
    fail(which, 1000)
    assert which.state == "closed"


def test_it_opens_later_where_the_control_fails_more() -> None:
    which = breaker()
    which.controls(10_000, 700, 0.0)
    fail(which, 5)
    assert which.state == "closed"
    fail(which, 10)
    assert which.state == "open"


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 24.0), (0.5, 30.0), (1.0, 36.0)])
def test_it_tries_again_after_about_30_seconds(chance: float, wait_s: float) -> None:
    which = breaker(chance=chance)
    fail(which, 5, now_s=100.0)
    assert which.wait_s == pytest.approx(wait_s)
    which.pass_time(100.0 + wait_s - 0.1)
    assert which.state == "open"
    which.pass_time(100.0 + wait_s)
    assert which.state == "half_open"


def test_eight_clean_probes_close_it_and_seven_do_not() -> None:
    which = breaker()
    fail(which, 5, now_s=0.0)
    which.pass_time(31.0)
    for number in range(7):
        assert not which.candidate(False, b"%d" % number, 31.0)
    assert which.candidate(False, b"x", 31.0)
    assert which.state == "closed"


def test_two_failed_probes_open_it_again_for_twice_as_long_and_the_third_time_for_good() -> None:
    which, now_s, waits = breaker(), 0.0, []
    fail(which, 5, now_s)
    while which.state == "open":
        waits.append(which.wait_s)
        now_s += which.wait_s
        which.pass_time(now_s)
        fail(which, 2, now_s)
    assert (which.state, waits, which.tries) == ("latched", [30.0, 60.0, 120.0], 3)
    which.pass_time(1e9)
    fail(which, 100, 1e9)
    assert which.state == "latched"


def test_the_wait_is_an_hour_at_most() -> None:
    which = breaker(chance=0.5)
    which.tries = 2
    which.take_over(2, 0.0)
    assert which.wait_s == 120.0
    which.tries = 1000
    assert breaker().wait_s == 0.0


def test_without_a_control_just_now_its_next_calls_say_whose_fault_it_was() -> None:
    for failures, state in ((4, "closed"), (3, "open")):
        which = breaker(controls=False)
        fail(which, 5)
        assert which.state == "open"
        assert which.jury == []
        for number in range(8):
            which.swear(number < failures)
        assert (which.state, which.outage, which.tries) == (state, failures == 4, 0)


def test_a_control_of_a_minute_ago_is_none() -> None:
    recent, long_ago = breaker(), breaker()
    fail(recent, 5, now_s=59.0)
    fail(long_ago, 5, now_s=61.0)
    assert (recent.jury, long_ago.jury) == (None, [])
    assert not recent.swear(True)


def test_deaths_in_calls_of_the_candidate_open_it_once() -> None:
    which = breaker()
    assert which.killed(0.0)
    assert which.state == "open"
    assert not which.killed(1.0)
    assert which.tries == 0


def test_good_calls_do_not_add_up_to_a_credit() -> None:
    which = breaker()
    for number in range(10_000):
        which.candidate(False, b"%d" % number, 0.0)
    fail(which, 5)
    assert which.state == "open"
