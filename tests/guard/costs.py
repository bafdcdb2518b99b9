"""Part H: what counting a call costs, by the clock of this machine; ``test_cost`` has the same relative to others'."""

from __future__ import annotations

import gc
import random
import time
from itertools import product

from flagkit.core.bucketing import digest
from flagkit.production.clocks import SEED
from flagkit.production.comparison import Comparison
from tests.guard.operating import Outcome, row, worst

CALLS = 30_000
#: Seconds a call, at the most.
BAR_S = 1.3e-6


def stream(units: int, share: float, rate: float) -> list[tuple[int, bytes, bool, float]]:
    """Arms, keys, failures and durations of calls by so many units."""
    chance = random.Random(1)
    keys = [b"user-%d" % number for number in range(units)]
    arms = [int(chance.random() < share) for _ in keys]
    calls = []
    for _ in range(CALLS):
        unit = chance.randrange(units)
        calls.append((arms[unit], keys[unit], chance.random() < rate, chance.lognormvariate(-3, 0.5)))
    return calls


def counted_s(calls: list[tuple[int, bytes, bool, float]]) -> float:
    comparison = Comparison()
    start, finish = comparison.start, comparison.finish
    began_s = time.perf_counter()
    for arm, key, failed, took in calls:
        finish(start("all", arm, key), failed, took)
    return (time.perf_counter() - began_s) / len(calls)


def hashed_s(calls: list[tuple[int, bytes, bool, float]]) -> float:
    """What the bar leaves out: the loop, and the hash of the unit."""
    began_s = time.perf_counter()
    for _, key, _, _ in calls:
        digest(key, SEED)
    return (time.perf_counter() - began_s) / len(calls)


@row("H", "cost of a call without the hash, errors 1 %: share 5, 50 % of 200, 20k, 1e6 units", quick=0, full=15)
def _(repetitions: int, whole: bool) -> Outcome:
    def cell(share: float, units: int) -> Outcome:
        calls = stream(units, share, 0.01)
        gc.collect()
        least_s = min(counted_s(calls) for _ in range(repetitions)) - min(hashed_s(calls) for _ in range(repetitions))
        return Outcome(f"{least_s * 1e9:,.0f} ns", least_s <= BAR_S, f"<= {BAR_S * 1e6} us")

    shares, crowds = (0.05, 0.5), (200, 20_000, 1_000_000)
    return worst((f"{share:.0%} of {units:,}", cell(share, units)) for units, share in product(crowds, shares))
