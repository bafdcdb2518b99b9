"""Part S: a step of a ramp, and whether both arms fail more after it: through ``Interference``, fed as a guard does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import numpy as np

from flagkit.production.interference import Interference
from tests.guard import streams
from tests.guard.operating import Outcome, rarely, row, soon, worst
from tests.guard.streams import Make, Units, errors_alone, keys_of, worse

BEFORE, AFTER = 60_000, 30_000


def few_poisoned(draw: np.random.Generator, rate: float) -> Units:
    """Of 1,000 units one in twenty always fails: most failures are among the first calls of a window."""
    rates = np.full(1000, rate)
    rates[draw.random(1000) < 0.05] = 1.0
    return Units(None, rates, draw.random(1000))


class Process:
    """One process, which knows the rate of its own calls."""

    def __init__(self, processes: int) -> None:
        self.comparison = errors_alone()
        self.watched = Interference(processes)

    def step(self) -> None:
        self.comparison.settle()
        self.watched.step(True, 0.0)

    def call(self, arm: int, key: bytes, failed: bool) -> bool:
        comparison = self.comparison
        handle = comparison.start("all", arm, key)
        group = handle[2] if not failed or comparison.fails_first(handle) else None
        comparison.finish(handle, failed, 0.01)
        return group is not None and self.watched.ended(group, arm, failed, 0.0)


def after_step(
    seed: tuple[int, ...],
    make: Make,
    rate: float,
    *,
    both: float = 1.0,
    candidate: float = 1.0,
    processes: int = 1,
    drift: Callable[[np.ndarray], np.ndarray] | None = None,
) -> float:
    """Calls of both arms after a step from 5 to 25 % until there is a verdict; infinite if there is none.

    both, candidate: ratios of odds, of all calls after the step and of the candidate's. drift: by call, a factor.
    """
    draw = np.random.default_rng(seed)
    units = make(draw, rate)
    keys, fleet = keys_of(len(units.rates)), [Process(processes) for _ in range(processes)]
    # Not every step is at the beginning of a window.
    for stage, (share, calls) in enumerate(((0.05, BEFORE + 1777 * (seed[-1] % 8)), (0.25, AFTER))):
        if stage:
            for process in fleet:
                process.step()
        if units.activity is None:
            who = draw.integers(len(units.rates), size=calls)
        else:
            who = np.minimum(np.searchsorted(units.activity, draw.random(calls)), len(units.rates) - 1)
        arms = units.place[who] < share
        rates = worse(units.rates[who], both) if stage else units.rates[who]
        if drift is not None:
            rates = np.minimum(rates * drift(np.arange(calls) + stage * BEFORE), 1.0)
        rates = np.where(arms, worse(rates, candidate), rates)
        failed = draw.random(calls) < rates
        where = draw.integers(processes, size=calls)
        each = zip(who.tolist(), arms.astype(int).tolist(), failed.tolist(), where.tolist(), strict=True)
        for number, (unit, arm, fails, process) in enumerate(each):
            if fleet[process].call(arm, keys[unit], fails):
                return number + 1
    return inf


HEALTHY: dict[str, tuple[Make, float]] = {
    "many units, 0.1 %": (streams.alike, 0.001),
    "many units, 1 %": (streams.alike, 0.01),
    "one unit 40 % of calls": (streams.one_heavy, 0.01),
    "Zipf 1.2": (streams.zipf, 0.01),
    "unequal units": (streams.unequal, 0.01),
    "200 tenants, sd 1.5": (streams.spread_tenants, 0.001),
    "1 % poison units": (streams.poison, 0.001),
    "5 % of 1,000 units poison": (few_poisoned, 0.001),
}


@row("S1", "a step from 5 to 25 %, nobody hurt: held", quick=8, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    names = HEALTHY if whole else ["many units, 1 %", "5 % of 1,000 units poison"]
    return worst(
        (name, rarely([after_step((41, number, each), *HEALTHY[name]) < inf for each in range(repetitions)], (11, 400)))
        for number, name in enumerate(names)
    )


@row("S2", "the same, a candidate at exactly 1.25; rate x1.5 and x2 from the step on; 50 processes", quick=4, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    cells: dict[str, Callable[..., float]] = {
        "candidate x1.25": partial(after_step, candidate=1.25),
        "rate x1.5": partial(after_step, both=1.5),
        "rate x2": partial(after_step, both=2.0),
        "50 processes": partial(after_step, processes=50),
    }
    if not whole:
        del cells["50 processes"]
    return worst(
        (name, rarely([found((42, number, each), streams.alike, 0.01) < inf for each in range(repetitions)]))
        for number, (name, found) in enumerate(cells.items())
    )


def delay(part: int, repetitions: int, rate: float, bars: dict[float, float], processes: int = 1) -> Outcome:
    def calls(number: int, ratio: float) -> list[float]:
        seeds = ((part, number, each) for each in range(repetitions))
        return [after_step(seed, streams.alike, rate, both=ratio, processes=processes) for seed in seeds]

    return worst((f"x{ratio:g}", soon(calls(number, ratio), bar)) for number, (ratio, bar) in enumerate(bars.items()))


@row("S3", "both arms fail more often from the step on, 1 %: calls", quick=8, full=100)
def _(repetitions: int, whole: bool) -> Outcome:
    return delay(
        43, repetitions, 0.01, {5: 600, 10: 120, 50: 15} if not whole else {3: 16_000, 5: 600, 10: 120, 50: 15}
    )


@row("S4", "the same at 0.1 %", quick=8, full=100)
def _(repetitions: int, whole: bool) -> Outcome:
    return delay(44, repetitions, 0.001, {10: 1900, 50: 100} if not whole else {5: 19_000, 10: 1900, 50: 100})


@row("S5", "the same at 1 %, 8 processes that each know their own calls", quick=4, full=100)
def _(repetitions: int, whole: bool) -> Outcome:
    return delay(45, repetitions, 0.01, {10: 650, 50: 45} if not whole else {5: 5800, 10: 650, 50: 45}, 8)
