"""Parts U to Y: a whole comparison, fed call by call, where units are what differs; and what else was thought of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import numpy as np

from flagkit.production.comparison import Comparison
from tests.guard import streams
from tests.guard.operating import Outcome, rarely, row, soon, worst
from tests.guard.streams import Make, Stream, errors_alone, latency_alone, worse

RAMP = {0: 0.05, 40_000: 0.25}
STICKY: dict[str, tuple[Make, dict[int, float] | None]] = {
    "one unit 40 % of calls": (streams.one_heavy, None),
    "the same, never failing": (streams.never_failing, None),
    "Zipf 1.2": (streams.zipf, None),
    "unequal, ramp 5 to 25 %": (streams.unequal, RAMP),
    "1 % poison units": (streams.poison, None),
    "200 tenants, sd 1": (streams.tenants, None),
    "200 tenants, sd 1.5": (streams.spread_tenants, None),
}


def falsely(part: int, repetitions: int, calls: int, odds_ratio: float, names: list[str] | None = None) -> Outcome:
    """How often there is a verdict although the ratio is no more than is tolerated; shares of 5 % and 50 % in turn."""

    def cell(number: int, make: Make, shares: dict[int, float] | None) -> Outcome:
        found = []
        for each in range(repetitions):
            draw = np.random.default_rng((part, number, each))
            stream = Stream(
                draw, make(draw, 0.01), shares or {0: 0.05 if each % 2 else 0.5}, partial(worse, odds_ratio=odds_ratio)
            )
            found.append(stream.through(errors_alone(), calls) < inf)
        return rarely(found, (9, 400))

    chosen = [(number, name) for number, name in enumerate(STICKY) if names is None or name in names]
    return worst((name, cell(number, *STICKY[name])) for number, name in chosen)


@row("U", "false rollback, sticky units, 80,000 calls", quick=14, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    names = None if whole else ["one unit 40 % of calls", "unequal, ramp 5 to 25 %", "1 % poison units"]
    return falsely(20, repetitions, 80_000 if whole else 30_000, 1.0, names)


@row("W", "the same at the boundary, ratio of odds 1.25 of 1.25 tolerated", quick=14, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    names = None if whole else ["200 tenants, sd 1.5", "Zipf 1.2"]
    return falsely(22, repetitions, 80_000 if whole else 30_000, 1.25, names)


def unit_latency(count: int, factor: float, draw: np.random.Generator) -> Any:
    """Durations with an effect of the unit; the candidate's are ``factor`` times as long."""
    effects = np.exp(draw.normal(-3, 0.5, count))

    def seconds(who: np.ndarray, arms: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        return effects[who] * np.exp(draw.normal(0, 0.5, len(who))) * np.where(arms, factor, 1.0)

    return seconds


@row("X", "latency, false rollback with unit effects, 50,000 calls", quick=6, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    def cell(number: int, make: Make, tolerance: float) -> Outcome:
        found = []
        for each in range(repetitions):
            draw = np.random.default_rng((23, number, each))
            units = make(draw, 0.0)
            seconds = unit_latency(len(units.rates), 1 + tolerance, draw)
            stream = Stream(draw, units, {0: 0.05 if each % 2 else 0.5}, seconds=seconds)
            found.append(stream.through(latency_alone(tolerance), 50_000 if whole else 20_000) < inf)
        return rarely(found, (9, 400))

    cells = {
        "Zipf, none slower": (streams.zipf, 0.0),
        "200 tenants, none slower": (streams.tenants, 0.0),
        "Zipf, exactly 1.2": (streams.zipf, 0.2),
        "200 tenants, exactly 1.2": (streams.tenants, 0.2),
    }
    return worst((name, cell(number, *each)) for number, (name, each) in enumerate(cells.items()))


def delays(
    seed: int,
    repetitions: int,
    make: Make,
    rate: float,
    share: float,
    ratio: float,
    calls: int,
    *,
    healthy: int = 0,
    compare: Callable[[], Comparison] = errors_alone,
    slower: float | None = None,
) -> list[float]:
    """Candidate calls until a regression is found that begins after ``healthy`` calls."""
    found = []
    for each in range(repetitions):
        draw = np.random.default_rng((seed, each))
        units = make(draw, rate)
        stream = Stream(draw, units, {0: share})
        comparison = compare()
        if healthy:
            if slower is not None:
                effects = draw.bit_generator.state  # the same units before and after
                stream.seconds = unit_latency(len(units.rates), 1.0, draw)
                draw.bit_generator.state = effects
            if stream.through(comparison, healthy) < inf:
                found.append(inf)
                continue
        stream.candidate = lambda rates: np.minimum(rates * ratio, 0.9)
        if slower is not None:
            stream.seconds = unit_latency(len(units.rates), slower, np.random.default_rng((seed, each, 1)))
        found.append(stream.through(comparison, calls))
    return found


def table(repetitions: int, cells: dict[str, tuple[Make, float, float, float, float]], slack: float) -> Outcome:
    """name -> who, rate, share, ratio, the median before."""
    return worst(
        (
            name,
            soon(delays(30 + at, repetitions, *cell[:4], int(12 * cell[4] / cell[2]) + 5_000), slack * cell[4]),
        )
        for at, (name, cell) in enumerate(cells.items())
    )


@row("Y", "median candidate calls of the whole comparison, many units, 1 %, share 5 % and 50 %", quick=15, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    many = streams.alike
    cells = {
        "x2 at 5%": (many, 0.01, 0.05, 2.0, 3769.0),
        "x5 at 5%": (many, 0.01, 0.05, 5.0, 236.0),
        "x50 at 5%": (many, 0.01, 0.05, 50.0, 8.0),
        "x2 at 50%": (many, 0.01, 0.5, 2.0, 8386.0),
        "x5 at 50%": (many, 0.01, 0.5, 5.0, 626.0),
        "x50 at 50%": (many, 0.01, 0.5, 50.0, 34.0),
    }
    return table(repetitions, cells if whole else {name: cells[name] for name in list(cells)[1::2]}, 1.2)


@row("Y", "the same at 0.1 %, x5", quick=0, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    many = streams.alike
    cells = {"at 5%": (many, 0.001, 0.05, 5.0, 2370.0), "at 50%": (many, 0.001, 0.5, 5.0, 6192.0)}
    return table(repetitions, cells, 1.2)


@row("Y", "the same, Zipf 1.0 over 100,000 units, share 5 %", quick=8, full=160)
def _(repetitions: int, whole: bool) -> Outcome:
    cells = {
        "x2": (streams.many_zipf, 0.01, 0.05, 2.0, 8860.0),
        "x5": (streams.many_zipf, 0.01, 0.05, 5.0, 344.0),
        "x50": (streams.many_zipf, 0.01, 0.05, 50.0, 12.0),
        "0.1% x5": (streams.many_zipf, 0.001, 0.05, 5.0, 4228.0),
    }
    return table(repetitions, cells if whole else {name: cells[name] for name in ("x5", "x50")}, 1.25)


@row("Y", "late x5, after 1.07e6 healthy calls", quick=0, full=40)
def _(repetitions: int, whole: bool) -> Outcome:
    cells: dict[str, tuple[Make, float]] = {"many units": (streams.alike, 734), "Zipf": (streams.many_zipf, 1069)}
    return worst(
        (name, soon(delays(40 + at, repetitions, make, 0.01, 0.05, 5.0, 300_000, healthy=1_070_000), 1.25 * before))
        for at, (name, (make, before)) in enumerate(cells.items())
    )


@row("Y", "200 tenants, sd 1", quick=20, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    cells = {
        "x50 at 5%": (streams.tenants, 0.01, 0.05, 50.0, 25.0),
        "x5 at 50%": (streams.tenants, 0.01, 0.5, 5.0, 1128.0),
    }
    return table(repetitions, cells, 1.3)


@row("U", "latency, median candidate calls with unit effects, share 5 %", quick=8, full=160)
def _(repetitions: int, whole: bool) -> Outcome:
    cells: dict[str, tuple[Make, float, int, float]] = {
        "200k units x1.5": (streams.alike, 1.5, 0, 418),
        "200k units x2": (streams.alike, 2.0, 0, 72),
        "Zipf x2": (streams.many_zipf, 2.0, 0, 118),
        "Zipf late x2": (streams.many_zipf, 2.0, 150_000, 509),
    }

    def cell(at: int, make: Make, slower: float, healthy: int, before: float) -> Outcome:
        some = min(repetitions, 60) if healthy else repetitions
        compare = partial(latency_alone, 0.2)
        calls = int(20 * before / 0.05) + 5_000
        found = delays(50 + at, some, make, 0.0, 0.05, 1.0, calls, healthy=healthy, compare=compare, slower=slower)
        return soon(found, 1.25 * before)

    chosen = cells if whole else {name: cells[name] for name in ("200k units x2", "Zipf x2")}
    return worst((name, cell(at, *each)) for at, (name, each) in enumerate(chosen.items()))


# -- what a comparison must not fall for


def two_rules(draw: np.random.Generator, calls: int, factor: float = 2.0) -> bool:
    """Half of two countries, which fail ``factor`` times as often, and 1 % of everyone else."""
    comparison = errors_alone()
    inside = Stream(draw, streams.alike(draw, 0.01 * factor, 20_000), {0: 0.5})
    outside = Stream(draw, streams.alike(draw, 0.01, 100_000), {0: 0.01})
    for _ in range(calls // 10_000):
        if inside.through(comparison, 2_000, "canary") < inf or outside.through(comparison, 8_000, "everyone") < inf:
            return True
    return False


@row("U", "canary rule, base rate x1.5, x2, x3, beside a rollout to everyone, false, 100,000 calls", quick=8, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    calls = 100_000 if whole else 30_000

    def cell(factor: float) -> Outcome:
        draws = (np.random.default_rng((60, int(factor * 10), each)) for each in range(repetitions))
        return rarely((two_rules(draw, calls, factor) for draw in draws), (9, 400))

    return worst((f"x{factor}", cell(factor)) for factor in ((1.5, 2, 3) if whole else (2,)))


@row("U", "median candidate calls to x5 in a canary rule, base rate x1.5, x2, x3", quick=15, full=1000)
def _(repetitions: int, whole: bool) -> Outcome:
    few = partial(streams.alike, count=20_000)
    cells = {
        f"x{factor}": (few, 0.01 * factor, 0.05, 5.0, before)
        for factor, before in ((1.5, 144.0), (2, 109.0), (3, 72.0))
    }
    return table(repetitions, cells, 1.25)


def late_control(draw: np.random.Generator, calls: int) -> bool:
    """The control's calls end 500 calls after they began, the candidate's at once; outages hit whoever begins."""
    comparison = errors_alone()
    units = streams.alike(draw, 0.01)
    arms = (units.place[draw.integers(len(units.place), size=calls)] < 0.2).astype(int).tolist()
    failed = (draw.random(calls) < np.where(np.arange(calls) % 3_000 < 300, 0.6, 0.01)).tolist()
    under_way: deque[tuple[int, Any, bool]] = deque()
    for number, (arm, fails) in enumerate(zip(arms, failed, strict=True)):
        call = comparison.start("all", arm, b"%d" % number)
        if arm:
            comparison.finish(call, fails, 0.01)
        else:
            under_way.append((number + 500, call, fails))
        while under_way and under_way[0][0] <= number:
            _, call, fails = under_way.popleft()
            comparison.finish(call, fails, 0.01)
        if comparison.verdict is not None:
            return True
    return False


@row("C", "late control, aligned by the start of calls, 60,000 calls", quick=10, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    calls = 60_000 if whole else 20_000
    return rarely((late_control(np.random.default_rng((61, each)), calls) for each in range(repetitions)), (11, 400))


def young_process(draw: np.random.Generator, share: float) -> bool:
    """An outage in the first calls of a process, which at unequal shares are far apart for the arms."""
    comparison = Comparison()
    began, calls = int(draw.integers(5, 600)), 2_000
    for number in range(calls):
        fails = bool(draw.random() < (0.9 if began <= number < began + 300 else 0.01))
        call = comparison.start("all", int(draw.random() < share), b"%d" % number)
        comparison.finish(call, fails, float(draw.lognormal(-3, 0.3)))
    return comparison.verdict is not None


@row("Z", "an outage while a single process is young, shares 5, 10, 20, 50 %", quick=15, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    def cell(share: float) -> Outcome:
        draws = (np.random.default_rng((62, int(share * 100), each)) for each in range(repetitions))
        return rarely((young_process(draw, share) for draw in draws), (9, 400))

    return worst((f"{share:.0%}", cell(share)) for share in (0.05, 0.1, 0.2, 0.5))


def reported_later(draw: np.random.Generator, ratio: float, calls: int, tolerance: float, ramp: bool) -> float:
    """Candidate units until a verdict, where nothing fails but 5 % of units some 500 calls later, by a metric event."""
    comparison = errors_alone(error_tolerance=tolerance)
    share, candidates = 0.05, 0
    places = draw.random(calls).tolist()
    chances = draw.random(calls).tolist()
    delays_of = draw.integers(1, 1000, calls).tolist()
    events: dict[int, list[tuple[int, bytes]]] = {}
    for number, (place, chance, delay) in enumerate(zip(places, chances, delays_of, strict=True)):
        if ramp and number == calls // 3:
            share = 0.5
            comparison.settle()
        arm, key = int(place < share), b"%d" % number
        candidates += arm
        comparison.finish(comparison.start("all", arm, key), False, 0.01)
        if chance < 0.05 * (ratio if arm else 1):
            events.setdefault(number + delay, []).append((arm, key))
        for event in events.pop(number, ()):
            comparison.late("all", *event)
        if comparison.verdict is not None:
            return candidates
    return inf


@row("M", "failures reported later (metric events), nothing tolerated: false, 60,000 calls", quick=8, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    calls = 60_000 if whole else 20_000

    def cell(ramp: bool) -> Outcome:
        draws = (np.random.default_rng((63, ramp, each)) for each in range(repetitions))
        return rarely((reported_later(draw, 1.0, calls, 0.0, ramp) < inf for draw in draws), (9, 400))

    return worst((name, cell(ramp)) for name, ramp in (("share 5%", False), ("ramp 5 to 50%", True)))


@row("M", "failures reported later: median candidate units to x3 at 5 %", quick=10, full=100)
def _(repetitions: int, whole: bool) -> Outcome:
    draws = (np.random.default_rng((64, each)) for each in range(repetitions))
    return soon([reported_later(draw, 3.0, 40_000, 0.25, False) for draw in draws], 210)
