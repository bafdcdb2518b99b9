"""Parts G and Z: a fleet, whose processes count in ``Tally`` and are judged in ``Pool``, second by second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import product
from math import inf
from typing import Any, NamedTuple

import numpy as np

from flagkit.production.pool import Pool
from flagkit.production.tally import Tally
from tests.guard import streams
from tests.guard.operating import Outcome, rarely, row, soon, worst
from tests.guard.streams import Units, only_latency

#: Second, process, arms, numbers of those arms' calls in the process -> by what rates are multiplied, and durations.
Effect = Callable[[int, int, np.ndarray, np.ndarray], "tuple[np.ndarray | float, np.ndarray | float]"]


class Fleet(NamedTuple):
    """processes, each with per_s calls a second in the mean; every flush_s seconds each hands in what it counted.

    control_lags_s: how many seconds later the control's calls end than they began, on top of their durations.
    """

    processes: int
    per_s: float
    flush_s: int
    share: float = 0.05
    rate: float = 0.01
    cold: bool = False
    latency: float | None = None
    calls_per_unit: int = 31
    control_lags_s: int = 0

    @property
    def pool(self) -> Pool:
        return Pool(latency_tolerance=self.latency, calls_per_unit=self.calls_per_unit)


#: Calls under way in a process: when they end, and what ``finish`` is told.
Late = deque[tuple[int, Any, bool, float]]


def no_effect(second: int, process: int, arms: np.ndarray, numbers: np.ndarray) -> tuple[float, float]:
    return 1.0, 1.0


class Found(NamedTuple):
    """When there was a verdict, in seconds and in candidate calls that began until then; infinite without one."""

    seconds: float
    candidates: float


def judge(
    draw: np.random.Generator,
    fleet: Fleet,
    seconds: int,
    effect: Effect = no_effect,
    *,
    units: Units | None = None,
    guilty: Callable[[Pool], bool] = lambda pool: pool.verdict is not None,
    pool: Pool | None = None,
) -> Found:
    pool = pool or fleet.pool
    pool.pace = 0.0945, 0.159  # what is slow is known from before
    units = units or streams.alike(draw, fleet.rate)
    tallies = [
        Tally(latency_tolerance=fleet.latency, calls_per_unit=fleet.calls_per_unit, cold=fleet.cold)
        for _ in range(fleet.processes)
    ]
    for tally in tallies:
        tally.windows((0, 0), pool.pace)
    numbers = np.zeros((fleet.processes, 2), dtype=int)
    late: list[Late] = [deque() for _ in tallies]
    candidates = 0
    for second in range(seconds):
        for process, tally in enumerate(tallies):
            size = int(draw.poisson(fleet.per_s))
            while late[process] and late[process][0][0] <= second:
                tally.finish(*late[process].popleft()[1:])
            if size:
                place = tally, second, process, numbers[process], late[process]
                candidates += _serve(draw, fleet, units, place, size, effect)
            if (second + process) % fleet.flush_s == 0:
                reply = pool.take(f"{process}", second, tally.drain(), float(second))
                tally.windows(reply.windows, reply.pace)
        if guilty(pool):
            return Found(second + 1, candidates)
    return Found(inf, inf)


def _serve(
    draw: np.random.Generator,
    fleet: Fleet,
    units: Units,
    place: tuple[Tally, int, int, np.ndarray, Late],
    size: int,
    effect: Effect,
) -> int:
    """A second of one process; return how many calls were the candidate's."""
    tally, second, process, numbers, late = place
    if units.activity is None:
        who = draw.integers(len(units.rates), size=size)
    else:
        who = np.minimum(np.searchsorted(units.activity, draw.random(size)), len(units.rates) - 1)
    arms = (units.place[who] < fleet.share).astype(int)
    mine = np.where(arms, numbers[1] + np.cumsum(arms), numbers[0] + np.cumsum(1 - arms))
    numbers += (size - arms.sum(), arms.sum())
    rates, took = effect(second, process, arms, mine)
    failed = draw.random(size) < np.minimum(units.rates[who] * rates, 0.95)
    durations = np.exp(draw.normal(-3, 0.5, size)) * took
    for unit, arm, fails, duration in zip(
        who.tolist(), arms.tolist(), failed.tolist(), durations.tolist(), strict=True
    ):
        call = tally.start("all", arm, b"%d" % unit)
        if fleet.control_lags_s and not arm:
            late.append((second + fleet.control_lags_s, call, fails, duration))
        else:
            tally.finish(call, fails, duration)
    return int(arms.sum())


def worse_by(ratio: float, second: int, process: int, arms: np.ndarray, numbers: np.ndarray) -> tuple[Any, float]:
    return np.where(arms, ratio, 1.0), 1.0


def over_100(pool: Pool) -> bool:
    """Whether the test of errors alone, of one clock, has reached 100, as in the other parts that try the pieces."""
    return pool._clocks[0].tests[0].value >= 100


@row("G", "50 processes of 4 calls/s, flush 1 s, limit 100: median seconds to x2, x5, x50", quick=4, full=24)
def _(repetitions: int, whole: bool) -> Outcome:
    fleet = Fleet(50, 4, 1)
    cells = {2.0: 1.2 * 311, 5.0: 1.2 * 29, 50.0: 5.0}
    chosen = cells if whole else {ratio: bar for ratio, bar in cells.items() if ratio > 2}

    def cell(ratio: float, bar: float) -> Outcome:
        draws = (np.random.default_rng((70, int(ratio), each)) for each in range(repetitions))
        effect = partial(worse_by, ratio)
        return soon([judge(draw, fleet, int(8 * bar), effect, guilty=over_100).seconds for draw in draws], bar)

    return worst((f"x{ratio:.0f}", cell(ratio, bar)) for ratio, bar in chosen.items())


FLEETS = {
    f"{processes} processes, {flush_s} s": Fleet(processes, 200 / processes, flush_s)
    for processes, flush_s in product((8, 50), (1, 5))
}


@row("G", "whole guard, 200 calls/s together, share 5 %: median candidate calls to x2, x5, x50", quick=4, full=24)
def _(repetitions: int, whole: bool) -> Outcome:
    def cell(fleet: Fleet, ratio: float, bar: float) -> Outcome:
        # What has begun but is not handed in yet is beyond what any test can know.
        bar += (fleet.flush_s + 1) * fleet.per_s * fleet.processes * fleet.share
        draws = (np.random.default_rng((71, int(ratio), fleet.processes, each)) for each in range(repetitions))
        seconds = int(8 * bar / 10) + 20
        return soon([judge(draw, fleet, seconds, partial(worse_by, ratio)).candidates for draw in draws], bar)

    fleets = dict(list(FLEETS.items())[:: 3 if whole else 4])  # the two that are least alike, or one
    ratios = {2.0: 1.2 * 3769, 5.0: 1.2 * 236, 50.0: 1.2 * 8}
    if not whole:
        del ratios[2.0]
    return worst(
        (f"{name} x{ratio:.0f}", cell(fleet, ratio, bar))
        for (name, fleet), (ratio, bar) in product(fleets.items(), ratios.items())
    )


def outages(second: int, process: int, arms: np.ndarray, numbers: np.ndarray) -> tuple[float, float]:
    """Five seconds in every fifty most calls fail, and take four times as long."""
    return (40.0, 4.0) if second % 50 < 5 else (1.0, 1.0)


def unlike_processes(second: int, process: int, arms: np.ndarray, numbers: np.ndarray) -> tuple[float, float]:
    """One process in four fails ten times as often, and all of them more and more."""
    return (10.0 if process % 4 == 0 else 1.0) * (1 + second / 100), 1.0


def waves(second: int, process: int, arms: np.ndarray, numbers: np.ndarray) -> tuple[float, float]:
    """Twenty seconds in every sixty all calls take four times as long, and fail twice as often."""
    return (2.0, 4.0) if second % 60 >= 40 else (1.0, 1.0)


SCENARIOS: dict[str, Effect] = {
    "alike": no_effect,
    "outages": outages,
    "unlike processes, drift": unlike_processes,
    "waves of load": waves,
}


@row("G", "false rollback of a fleet, units that differ, errors and latency, 200 s of 200 calls/s", quick=1, full=100)
def _(repetitions: int, whole: bool) -> Outcome:
    """A scenario is a cell: four fleets, so many times each."""

    def found(at: int, fleet: Fleet, effect: Effect, each: int) -> bool:
        draw = np.random.default_rng((72, at, fleet.processes, fleet.flush_s, each))
        units = streams.unequal(draw, 0.01)
        share = (0.05, 0.2, 0.5)[each % 3]
        seconds = 200 if whole else 60
        return judge(draw, fleet._replace(latency=0.2, share=share), seconds, effect, units=units).seconds < inf

    fleets = list(FLEETS.values()) if whole else list(FLEETS.values())[:1]
    return worst(
        (name, rarely((found(at, *each) for each in product(fleets, (effect,), range(repetitions))), (11, 400)))
        for at, (name, effect) in enumerate(SCENARIOS.items())
    )


@row("G", "the same, the control's calls ending 3 s later, outages, errors alone", quick=1, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    def found(number: int, each: int) -> bool:
        draw = np.random.default_rng((75, number, each))
        fleet = list(FLEETS.values())[number]._replace(share=0.2, control_lags_s=3)
        return judge(draw, fleet, 120 if whole else 60, outages).seconds < inf

    return rarely((found(number, each) for number in (0, 3) for each in range(repetitions)), (11, 400))


# -- cold starts


def cold(first: int, second: int, process: int, arms: np.ndarray, numbers: np.ndarray) -> tuple[float, np.ndarray]:
    """The first calls of each arm in each process take ten times as long."""
    return 1.0, np.where(numbers <= first, 10.0, 1.0)


def outage_after_deploy(second: int, process: int, arms: np.ndarray, numbers: np.ndarray) -> tuple[float, float]:
    return (60.0, 10.0) if 5 <= second < 35 else (1.0, 1.0)


def twice(second: int, process: int, arms: np.ndarray, numbers: np.ndarray) -> tuple[float, Any]:
    return 1.0, np.where(arms, 2.0, 1.0)


DEPLOY = Fleet(50, 1, 1, share=0.5, cold=True, latency=0.2)


def latency_pool() -> Pool:
    pool = DEPLOY.pool
    only_latency(pool._clocks)
    return pool


@row("Z", "deploy of 50 processes: first 1, first 10 calls slow, outage 5-35 s; false", quick=3, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    cells: dict[str, tuple[Effect, float]] = {
        "first call x10": (partial(cold, 1), 0.5),
        "first 10 x10": (partial(cold, 10), 0.5),
        "first 10 x10, share 10%": (partial(cold, 10), 0.1),
        "outage": (outage_after_deploy, 0.5),
        "outage, share 10%": (outage_after_deploy, 0.1),
    }

    def cell(at: int, effect: Effect, share: float) -> Outcome:
        draws = (np.random.default_rng((73, at, each)) for each in range(repetitions))
        fleet = DEPLOY._replace(share=share)
        return rarely((judge(draw, fleet, 45, effect).seconds < inf for draw in draws), (7, 200))

    return worst((name, cell(at, *each)) for at, (name, each) in enumerate(cells.items()))


@row("Z", "the same, latency x2 from the start, judged alone: median candidate calls", quick=4, full=60)
def _(repetitions: int, whole: bool) -> Outcome:
    draws = (np.random.default_rng((74, each)) for each in range(repetitions))
    return soon([judge(draw, DEPLOY, 60, twice, pool=latency_pool()).candidates for draw in draws], 1.25 * 122)
