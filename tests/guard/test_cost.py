"""What a guarded call costs, relative to something that everyone pays: building a short string, in the same run."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from flagkit.production.comparison import Comparison
from flagkit.production.pool import Pool
from flagkit.production.tally import Tally
from tests.guard.costs import CALLS, stream


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def reference() -> None:
    """Some 10 bytecodes and a small allocation, as often as there are calls."""
    for number in range(CALLS):
        f"{number}:{number}"


def in_references(work: Callable[[], object]) -> float:
    """The least of runs that alternate with the reference's, whose least it is measured by: others may be busy."""
    work()
    gc.collect()
    took = [(seconds(work), seconds(reference)) for _ in range(9)]
    return min(each for each, _ in took) / min(each for _, each in took)


def relative(make: Callable[[], Comparison | Tally], calls: list[tuple[int, bytes, bool, float]]) -> float:
    """The cost of start and finish together, in references."""

    def work() -> None:
        counting = make()
        start, finish = counting.start, counting.finish
        for arm, key, failed, took in calls:
            finish(start("all", arm, key), failed, took)
        if isinstance(counting, Tally):
            counting.drain()

    return in_references(work)


#: Name -> units, candidate's share, error rate, and what it may cost: twice what it does on a quiet machine.
CASES = {
    "20k units, share 50 %, errors 1 %": (20_000, 0.5, 0.01, 20.0),
    "20k units, share 5 %, errors 1 %": (20_000, 0.05, 0.01, 20.0),
    "200 units, share 50 %, errors 1 %": (200, 0.5, 0.01, 14.0),
    "1e6 units, share 50 %, errors 1 %": (1_000_000, 0.5, 0.01, 22.0),
    "20k units, share 50 %, errors 10 %": (20_000, 0.5, 0.1, 22.0),
}


@pytest.mark.parametrize("name", CASES)
def test_a_call_costs_a_few_times_what_a_string_does(name: str) -> None:
    units, share, rate, bar = CASES[name]
    found = relative(lambda: Comparison(), stream(units, share, rate))
    print(f"\n{name}: {found:.1f} references")
    assert found < bar


def test_a_call_in_a_fleet_costs_no_more() -> None:
    calls = stream(20_000, 0.5, 0.01)
    here, there = relative(Comparison, calls[:2_000]), relative(Tally, calls[:2_000])  # what one flush holds
    print(f"\nfleet: {there / here:.2f} of a comparison's")
    assert there < 1.2 * here


def test_judging_a_fleet_costs_a_few_calls_a_call() -> None:
    calls = stream(20_000, 0.5, 0.01)
    tally, flushes = Tally(), []
    for number, (arm, key, failed, took) in enumerate(calls):
        tally.finish(tally.start("all", arm, key), failed, took)
        if number % 1000 == 999:
            flushes.append(tally.drain())

    def work() -> None:
        pool = Pool()
        for number, packed in enumerate(flushes):
            pool.take("p", number, packed, 0.0)

    found = in_references(work)
    dumping = in_references(Pool().dump) * CALLS
    print(f"\njudging: {found:.1f} references a call; a dump: {dumping:,.0f} references")
    assert found < 40
