"""Parts E, F, J and K: latency, shares, the breaker, and the test against a known rate, each alone."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from flagkit.production.breaker import Breaker
from flagkit.production.sequential import Pace, RatioEProcess, SharesTest, SloEProcess, upper_limit
from tests.guard.operating import Outcome, rarely, row, soon, worst
from tests.guard.pieces import LIMIT

Slower = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def latency_found(draw: np.random.Generator, share: float, calls: int, slower: Slower, load: np.ndarray) -> float:
    """Candidate calls until the mean of the tests of p90 and p99 reaches 100; infinite if they do not.

    slower: what the candidate makes of its durations. load: by which durations of both arms are multiplied, a call.
    """
    arms = (draw.random(calls) < share).tolist()
    took = np.exp(draw.normal(-3, 0.8, calls)) * load
    fast, slow = took.tolist(), slower(took, draw).tolist()
    tests = RatioEProcess(1.0), RatioEProcess(1.0)
    pace = Pace()
    totals, events = [0, 0], [[0, 0], [0, 0]]
    bounds = None
    passed = 0
    for arm, control_s, candidate_s in zip(arms, fast, slow, strict=True):
        if bounds is None:
            bounds = pace.bounds(1.0) if pace.known else (inf,) * 4
        seconds = candidate_s if arm else control_s
        passed += arm
        totals[arm] += 1
        if seconds > bounds[arm]:
            events[0][arm] += 1
            if seconds > bounds[2 + arm]:
                events[1][arm] += 1
        if not arm:
            pace.add(seconds)
        if totals[0] >= 4 and totals[1] >= 4 and totals[0] + totals[1] >= 32:
            for test, each in zip(tests, events, strict=True):
                test.add_block(*totals, *each)
            if tests[0].value + tests[1].value >= 2 * LIMIT:
                return passed
            totals, events, bounds = [0, 0], [[0, 0], [0, 0]], None
    return inf


def tail(share: float, factor: float) -> Slower:
    """So much of the calls takes so many times as long."""
    return lambda took, draw: np.where(draw.random(len(took)) < share, took * factor, took)


SLOWER = {
    "x1.2": (lambda took, _: took * 1.2, (708, 1590)),
    "x1.5": (lambda took, _: took * 1.5, (136, 366)),
    "x2": (lambda took, _: took * 2, (48, 168)),
    "5 % x10": (tail(0.05, 10), (206, 554)),
    "1 % x30": (tail(0.01, 30), (1773, 3692)),
}


@row("E", "median candidate calls to slower calls, nothing tolerated", quick=12, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    outcomes = []
    for at, share in enumerate((0.05, 0.5)):
        for name, (slower, bars) in SLOWER.items():
            if not whole and name in ("x1.2", "1 % x30"):
                continue
            calls = int(12 * bars[at] / share) + 4000
            found = [
                latency_found(np.random.default_rng((5, at, each)), share, calls, slower, np.ones(calls))
                for each in range(repetitions)
            ]
            outcomes.append((f"{name} at {share:.0%}", soon(found, 1.25 * bars[at])))
    return worst(outcomes)


LOADS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "iid": lambda draw, calls: np.ones(calls),
    "load steps x4": lambda draw, calls: np.where(np.arange(calls) // 20_000 % 2, 4.0, 1.0),
    "load of its own memory": lambda draw, calls: np.exp(autoregressive(draw, calls)),
}


def autoregressive(draw: np.random.Generator, calls: int) -> np.ndarray:
    """What comes and goes over some 2,000 calls, with a standard deviation of 0.5."""
    steps = draw.normal(0, 0.5 * (2 / 20) ** 0.5, calls // 100 + 1)
    level, levels = 0.0, []
    for step in steps.tolist():
        level = 0.95 * level + step
        levels.append(level)
    return np.repeat(levels, 100)[:calls]


@row("E", "latency, false rollback, 100,000 calls", quick=6, full=160)
def _(repetitions: int, whole: bool) -> Outcome:
    calls = 100_000 if whole else 40_000

    def cell(number: int, make: Callable[[np.random.Generator, int], np.ndarray]) -> Outcome:
        draws = [np.random.default_rng((55, number, each)) for each in range(repetitions)]
        found = (latency_found(draw, 0.05, calls, lambda took, _: took, make(draw, calls)) < inf for draw in draws)
        return rarely(found, (6, 160))

    return worst((name, cell(number, make)) for number, (name, make) in enumerate(LOADS.items()))


# -- shares of units


def units_until_alarm(draw: np.random.Generator, meant: float, true: float, units: int) -> float:
    """Units until the test of shares has reached 1000; infinite if it does not within so many."""
    test = SharesTest((1 - meant, meant))
    for number, arm in enumerate((draw.random(units) < true).tolist(), start=1):
        test.add(int(arm))
        if test.value >= 1000:
            return number
    return inf


@row("F", "shares of units, alpha 0.1 %: null, 20,000 units", quick=20, full=1000)
def _(repetitions: int, whole: bool) -> Outcome:
    units = 20_000 if whole else 5_000
    found = [units_until_alarm(np.random.default_rng((6, each)), 0.5, 0.5, units) < inf for each in range(repetitions)]
    allowed = 5 if whole else 1
    return Outcome(f"{sum(found)} of {len(found)}", sum(found) <= allowed, f"<= {allowed} of {len(found)}")


@row("F", "shares of units: median units to 47 % for 50 %, 3 % for 5 %", quick=30, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    cells = {(0.5, 0.47): 4456, (0.05, 0.03): 1590}
    return worst(
        (
            f"{true:.0%} for {meant:.0%}",
            soon(
                [
                    units_until_alarm(np.random.default_rng((7, each)), meant, true, 60_000)
                    for each in range(repetitions)
                ],
                1.2 * before,
            ),
        )
        for (meant, true), before in cells.items()
    )


# -- the breaker


def calls_to_open(draw: np.random.Generator, rate: float, calls: int) -> float:
    breaker = Breaker(lambda: 0.5)
    breaker.controls(1000, 10, 0.0)
    breaker.candidate(False, b"another", 0.0)
    number = 0
    while number < calls:
        for passed in draw.geometric(rate, 1000).tolist():
            for each in range(number + 1, number + passed):
                if breaker.quiet:
                    break  # calls without a failure are of no interest to it now
                breaker.candidate(False, b"%d" % each, each / 100)
            number += passed
            if breaker.candidate(True, b"%d" % number, number / 100):
                return number
    return inf


@row("J", "breaker: median calls at 100 %, 50 %, 20 % failures", quick=60, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    return worst(
        (
            f"{rate:.0%}",
            soon([calls_to_open(np.random.default_rng((8, each)), rate, 100_000) for each in range(repetitions)], bar),
        )
        for rate, bar in ((1.0, 5), (0.5, 16), (0.2, 120))
    )


@row("J", "breaker: false at 1 %, 1e6 calls", quick=4, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    calls = 1_000_000 if whole else 200_000
    found = [calls_to_open(np.random.default_rng((88, each)), 0.01, calls) < inf for each in range(repetitions)]
    return Outcome(f"{sum(found)} of {len(found)}", not any(found), f"0 of {len(found)}")


def closes(draw: np.random.Generator, rate: float) -> tuple[bool, int]:
    """Whether a half-open breaker closes at such a rate of failures, and after how many probes."""
    breaker = Breaker(lambda: 0.5)
    breaker.killed(0.0)
    breaker.pass_time(1e6)
    probes = 0
    while breaker.state == "half_open":
        probes += 1
        breaker.candidate(bool(draw.random() < rate), b"%d" % probes, 1e6)
    return breaker.state == "closed", probes


@row("J", "half-open: closes at 0, 5, 50 %", quick=400, full=4000)
def _(repetitions: int, whole: bool) -> Outcome:
    outcomes = []
    for rate, least, most in ((0.0, 1.0, 1.0), (0.05, 0.99, 1.0), (0.5, 0.0, 0.01 if whole else 0.03)):
        each = [closes(np.random.default_rng((89, number)), rate) for number in range(repetitions)]
        share = sum(closed for closed, _ in each) / repetitions
        slack = 0 if whole else 0.02
        outcomes.append((f"{rate:.0%}", Outcome(f"{share:.1%}", least - slack * (least < 1) <= share <= most, "")))
    probes = closes(np.random.default_rng(0), 0.0)[1]
    outcomes.append(("probes", Outcome(f"{probes}", probes == 8, "100 %, >= 99 %, <= 1 %; 8 probes")))
    return worst(outcomes)


# -- no control


def slo_found(draw: np.random.Generator, borne: float, rate: float, calls: int) -> float:
    test = SloEProcess(borne)
    for number, failed in enumerate((draw.random(calls) < rate).tolist(), start=1):
        test.add(failed)
        if failed and test.value >= LIMIT:
            return number
    return inf


@row("K", "known rate: false at the boundary, 100,000 calls", quick=20, full=240)
def _(repetitions: int, whole: bool) -> Outcome:
    calls = 100_000 if whole else 20_000
    draws = (np.random.default_rng((11, each)) for each in range(repetitions))
    return rarely((slo_found(draw, 0.01, 0.01, calls) < inf for draw in draws), (8, 240))


@row("K", "known rate: median calls to x5 at 1 %", quick=40, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    return soon([slo_found(np.random.default_rng((12, each)), 0.01, 0.05, 20_000) for each in range(repetitions)], 175)


@row(
    "K",
    "rate stored from the ramp (twice its upper limit), 10,000 calls of control, drift 1 % to 1.5 %",
    quick=20,
    full=240,
)
def _(repetitions: int, whole: bool) -> Outcome:
    def stored(draw: np.random.Generator) -> bool:
        borne = 2 * upper_limit(int(draw.binomial(10_000, 0.01)), 10_000)
        return slo_found(draw, borne, 0.015, 100_000 if whole else 20_000) < inf

    return rarely((stored(np.random.default_rng((13, each))) for each in range(repetitions)), (8, 240))
