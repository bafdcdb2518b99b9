"""Parts A to D, I and V: the tests alone, every call a unit of its own, with a limit of 100.

Blocks are drawn as counts: a block closes with 4 calls of each arm and 32 in all; only those with an event are handed
to the test, for others change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import comb, inf, log

import numpy as np

from flagkit.production.sequential import GRID, RatioEProcess
from tests.guard.operating import Outcome, rarely, row, soon, worst

LIMIT = 100.0
Rates = Callable[[np.ndarray], np.ndarray]


def blocks(draw: np.random.Generator, share: float, calls: float) -> tuple[np.ndarray, np.ndarray]:
    """Calls of both arms in blocks one after another that make up about ``calls``, for a share of at most 50 %."""
    count = int(calls / max(32, 4 / share) * 1.02) + 2
    until_fourth = draw.negative_binomial(4, share, count) + 4
    rest = np.maximum(32 - until_fourth, 0)
    candidates = 4 + draw.binomial(rest, share)
    controls = np.maximum(until_fourth, 32) - candidates
    return controls, candidates


def found_after(
    draw: np.random.Generator,
    share: float,
    calls: float,
    rate: float | Rates,
    ratio: float,
    *,
    tolerated: float = 1.0,
    healthy: float = 0.0,
    shares: Rates | None = None,
    limit: float = LIMIT,
) -> float:
    """Candidate calls until the test finds something; infinite when it does not in so many calls.

    rate: the control's, or a function of the number of the call. ratio: of rates. healthy: calls before it begins; they
    do not count. shares: the candidate's share as a function of the call, not of the configuration.
    """
    controls, candidates = blocks(draw, share, healthy + calls)
    if shares is not None:
        totals = controls + candidates
        candidates = np.clip(draw.binomial(totals, shares(np.cumsum(totals))), 1, totals - 1)
        controls = totals - candidates
    ends = np.cumsum(controls + candidates)
    control_rate = np.full(len(ends), rate) if isinstance(rate, float) else rate(ends)
    regressed = ends > healthy
    odds = np.where(regressed, ratio, 1.0) * control_rate
    control_events = draw.binomial(controls, control_rate)
    candidate_events = draw.binomial(candidates, np.minimum(odds, 0.99))
    passed = np.cumsum(np.where(regressed, candidates, 0))
    telling = np.nonzero(control_events + candidate_events)[0]
    test = RatioEProcess(tolerated)
    add = test.add_block
    for at, m0, m1, e0, e1 in zip(
        telling.tolist(),
        controls[telling].tolist(),
        candidates[telling].tolist(),
        control_events[telling].tolist(),
        candidate_events[telling].tolist(),
        strict=True,
    ):
        add(m0, m1, e0, e1)
        if test.value >= limit:
            return float(passed[at])
    return inf


def delays(repetitions: int, seed: int, share: float, rate: float, ratio: float, **more: float) -> list[float]:
    tolerated = more.get("tolerated", 1.0)
    horizon = 40 * information_bound(rate, share, ratio, tolerated) / share + 4000
    return [
        found_after(np.random.default_rng((seed, each)), share, horizon, rate, ratio, **more)  # type: ignore[arg-type]
        for each in range(repetitions)
    ]


def information_bound(rate: float, share: float, ratio: float, tolerated: float = 1.0) -> float:
    """Candidate calls: ln(1/alpha) over what one of them tells about which arm events fall in."""
    events = share * ratio * rate + (1 - share) * rate
    found = share * ratio * rate / events
    borne = share * tolerated / (share * tolerated + 1 - share)
    told = found * log(found / borne) + (1 - found) * log((1 - found) / (1 - borne))
    return log(LIMIT) / (told * events / share)


@row("V", "E[LR] of a block, exact", quick=1, full=1)
def _(repetitions: int, whole: bool) -> Outcome:
    sizes = (1, 2, 3, 4, 8, 16, 31, 60) if whole else (1, 4, 16)
    rates = (0.001, 0.01, 0.1, 0.45) if whole else (0.01, 0.3)
    most = 0.0
    for m0, m1, rate, tolerated in product(sizes, sizes, rates, (1.0, 1.25, 2.0)):
        most = max(most, *expected_ratios(m0, m1, rate, tolerated))
    return Outcome(f"{most:.9f}", most <= 1 + 1e-9, "<= 1 + 1e-9")


def expected_ratios(m0: int, m1: int, rate: float, tolerated: float) -> list[float]:
    """For each ratio of the grid: the mean of the likelihood ratio, the candidate's odds being ``tolerated`` times."""
    odds = tolerated * rate / (1 - rate)
    worse = odds / (1 + odds)
    sums = [0.0] * len(GRID)
    for e0, e1 in product(range(m0 + 1), range(m1 + 1)):
        chance = comb(m0, e0) * rate**e0 * (1 - rate) ** (m0 - e0) * comb(m1, e1) * worse**e1 * (1 - worse) ** (m1 - e1)
        for at, ratio in enumerate(likelihood_ratios(tolerated, m0, m1, e0, e1)):
            sums[at] += chance * ratio
    return sums


def likelihood_ratios(tolerated: float, m0: int, m1: int, e0: int, e1: int) -> list[float]:
    """By the library: what one block makes of each part of a test that had not seen any."""
    if not e0 + e1:
        return [1.0] * len(GRID)
    test = RatioEProcess(tolerated)
    test.add_block(m0, m1, e0, e1)
    _, *stakes = test.state()
    staked = 0.5 + 0.5 - 0.5 / (1 + log(2))
    return [stake / staked for stake in stakes]


@row("A", "false rollback, iid, 1e6 calls", quick=40, full=800)
def _(repetitions: int, whole: bool) -> Outcome:
    cells = product((0.001, 0.01), (0.01, 0.05, 0.5)) if whole else [(0.01, 0.05), (0.01, 0.5)]
    calls = 1e6 if whole else 2e5

    def cell(rate: float, share: float) -> Outcome:
        seeds = (np.random.default_rng((1, int(rate * 1e4), int(share * 100), each)) for each in range(repetitions))
        return rarely((found_after(draw, share, calls, rate, 1.0) < inf for draw in seeds), (18, 800))

    return worst((f"{rate:.1%} share {share:.0%}", cell(rate, share)) for rate, share in cells)


def diurnal(call: np.ndarray) -> np.ndarray:
    """Up to 19 times as high at one time of the day as at another; a day is 1e5 calls."""
    return 0.01 * np.exp(1.47 * np.sin(call / 1e5 * 2 * np.pi))


def outages(call: np.ndarray) -> np.ndarray:
    """Every 50,000 calls, 1,000 of which most fail."""
    return np.where(call % 50_000 < 1_000, 0.6, 0.005)


SCENARIOS: dict[str, tuple[Rates, Rates | None, float]] = {
    "diurnal x19": (diurnal, None, 0.05),
    "outages": (outages, None, 0.05),
    "ramp 1-5-25-50 % with a step x10": (
        lambda call: np.where(call > 6e5, 0.02, 0.002),
        lambda call: np.select([call < 2e5, call < 4e5, call < 6e5], [0.01, 0.05, 0.25], 0.5),
        0.05,
    ),
    "share goes with the rate": (diurnal, lambda call: 0.05 + 20 * 0.01 * diurnal(call), 0.05),
    "true share 3 %, not 1 %": (lambda call: np.full(len(call), 0.01), None, 0.03),
}


@row("C", "false rollback under drift, ramps, outages, 1e6 calls", quick=30, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    calls = 1e6 if whole else 2e5

    def cell(number: int, rate: Rates, shares: Rates | None, share: float) -> Outcome:
        seeds = (np.random.default_rng((3, number, each)) for each in range(repetitions))
        return rarely((found_after(draw, share, calls, rate, 1.0, shares=shares) < inf for draw in seeds), (11, 400))

    return worst((name, cell(number, *each)) for number, (name, each) in enumerate(SCENARIOS.items()))


#: Share -> for error rates of 0.1 % and 1 %, the median candidate calls for x2, x5 and x50, as simulated before.
B = {
    0.01: ((14048, 1342, 48), (1388, 140, 8)),
    0.05: ((13983, 1500, 60), (1588, 164, 8)),
    0.5: ((30655, 3537, 190), (2996, 381, 30)),
}

for _share, _medians in B.items():

    @row("B", f"median candidate calls to x2, x5, x50, nothing tolerated, share {_share:.0%}", quick=25, full=400)
    def _(
        repetitions: int,
        whole: bool,
        share: float = _share,
        medians: tuple[tuple[int, ...], ...] = _medians,
    ) -> Outcome:
        cells = [
            (rate, ratio, before)
            for rate, row_of in zip((0.001, 0.01), medians, strict=True)
            for ratio, before in zip((2.0, 5.0, 50.0), row_of, strict=True)
            if whole or rate == 0.01 or ratio == 5
        ]
        outcomes = []
        for rate, ratio, before in cells:
            each = delays(repetitions, 2, share, rate, ratio)
            outcomes.append((f"{rate:.1%} x{ratio:.0f}", soon(each, 1.2 * before)))
            if ratio < 50 and whole:
                to_bound = sorted(each)[repetitions // 2] / information_bound(rate, share, ratio)
                outcomes.append(("to the bound", Outcome(f"{to_bound:.2f}", to_bound <= 1.5, "<= 1.5")))
        return worst(outcomes)


@row("I", "false rollback at the boundary: ratio of odds 1.25 of 1.25 tolerated, 1e6 calls", quick=40, full=320)
def _(repetitions: int, whole: bool) -> Outcome:
    cells = product((0.001, 0.01), (0.01, 0.05, 0.5)) if whole else [(0.01, 0.05)]
    calls = 1e6 if whole else 2e5

    def cell(rate: float, share: float) -> Outcome:
        odds = 1.25 * rate / (1 - rate)
        ratio = odds / (1 + odds) / rate
        seeds = (np.random.default_rng((9, int(rate * 1e4), int(share * 100), each)) for each in range(repetitions))
        found = (found_after(draw, share, calls, rate, ratio, tolerated=1.25) < inf for draw in seeds)
        return rarely(found, (10, 320))

    return worst((f"{rate:.1%} share {share:.0%}", cell(rate, share)) for rate, share in cells)


@row("I", "median candidate calls to x2, x5, x50, 1.25 tolerated, share 5 %", quick=30, full=400)
def _(repetitions: int, whole: bool) -> Outcome:
    before = {2.0: 3134, 5.0: 192, 50.0: 8}
    return worst(
        (f"x{ratio:.0f}", soon(delays(repetitions, 10, 0.05, 0.01, ratio, tolerated=1.25), 1.2 * bar))
        for ratio, bar in before.items()
    )


@row("D", "candidate calls to x5 after 1e6 and 5e6 healthy calls", quick=12, full=200)
def _(repetitions: int, whole: bool) -> Outcome:
    return worst(
        (
            f"{healthy:.0e}".replace("+0", ""),
            soon(delays(repetitions, 4, 0.05, 0.01, 5.0, tolerated=1.25, healthy=healthy), 700),
        )
        for healthy in ((1e6, 5e6) if whole else (1e6,))
    )
