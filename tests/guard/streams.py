"""Streams of calls for a ``Comparison``: who calls how often, how often each fails, and how long each takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf
from typing import Any, NamedTuple

import numpy as np

from flagkit.production.comparison import Comparison

_CHUNK = 5_000


class Units(NamedTuple):
    """activity: part of the calls, by unit, summing up; None: all alike. rates: of failure. place: 0 to 1, of the draw.

    A unit is the candidate's when its place is below the share.
    """

    activity: np.ndarray | None
    rates: np.ndarray
    place: np.ndarray


Make = Callable[[np.random.Generator, float], Units]


def alike(draw: np.random.Generator, rate: float, count: int = 200_000) -> Units:
    return Units(None, np.full(count, rate), draw.random(count))


def zipf(draw: np.random.Generator, rate: float, exponent: float = 1.2, count: int = 20_000) -> Units:
    weights = np.arange(1, count + 1) ** -exponent
    return Units(np.cumsum(weights / weights.sum()), np.full(count, rate), draw.random(count))


def many_zipf(draw: np.random.Generator, rate: float) -> Units:
    return zipf(draw, rate, 1.0, 100_000)


def one_heavy(draw: np.random.Generator, rate: float, own: float | None = None) -> Units:
    """One unit has 40 % of the calls, and fails as often as the others or ``own``."""
    count = 20_000
    weights = np.full(count, 0.6 / (count - 1))
    weights[0] = 0.4
    rates = np.full(count, rate)
    rates[0] = rate if own is None else own
    return Units(np.cumsum(weights), rates, draw.random(count))


def never_failing(draw: np.random.Generator, rate: float) -> Units:
    return one_heavy(draw, rate, 0.0)


def poison(draw: np.random.Generator, rate: float) -> Units:
    """One unit in a hundred always fails."""
    count = 20_000
    rates = np.full(count, rate)
    rates[draw.random(count) < 0.01] = 1.0
    return Units(None, rates, draw.random(count))


def tenants(draw: np.random.Generator, rate: float, spread: float = 1.0, count: int = 200) -> Units:
    rates = rate * np.exp(draw.normal(0, spread, count) - spread**2 / 2)
    return Units(None, np.minimum(rates, 0.9), draw.random(count))


def spread_tenants(draw: np.random.Generator, rate: float) -> Units:
    return tenants(draw, rate, 1.5)


def unequal(draw: np.random.Generator, rate: float) -> Units:
    """Activity and rates of failure differ, independently."""
    units = zipf(draw, rate, 1.0)
    return units._replace(rates=np.minimum(tenants(draw, rate, 1.0, len(units.rates)).rates, 0.9))


def worse(rates: np.ndarray, odds_ratio: float) -> np.ndarray:
    """With so many times the odds of failing; a unit that always fails goes on doing so."""
    return odds_ratio * rates / (1 + (odds_ratio - 1) * rates)


@cache
def keys_of(count: int) -> list[bytes]:
    return [b"unit-%d" % number for number in range(count)]


class Stream:
    """Calls of ``units`` through a comparison, until it has a verdict.

    shares: from which call on the candidate has which share; every change settles the comparison. candidate: makes the
    candidate's rates of failure from the control's. seconds: makes durations, from units, arms and a draw; None: all
    alike.
    """

    def __init__(
        self,
        draw: np.random.Generator,
        units: Units,
        shares: dict[int, float],
        candidate: Callable[[np.ndarray], np.ndarray] = lambda rates: rates,
        seconds: Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ) -> None:
        self.draw = draw
        self.units = units
        self.shares = shares
        self.candidate = candidate
        self.seconds = seconds
        self.keys = keys_of(len(units.rates))
        self.passed = 0
        self._healthy = True

    def through(self, comparison: Comparison, calls: int, rule: str = "all") -> float:
        """Candidate calls until there is a verdict; infinite if there is none after ``calls`` more."""
        start, finish, keys = comparison.start, comparison.finish, self.keys
        candidates = 0
        end = self.passed + calls
        while self.passed < end:
            share = self.shares[max(at for at in self.shares if at <= self.passed)]
            if self.passed in self.shares and self.passed:
                comparison.settle()
            size = min([_CHUNK, end - self.passed, *(at - self.passed for at in self.shares if at > self.passed)])
            who, arms, failed, seconds = self._chunk(share, size)
            for unit, arm, fails, took in zip(who, arms, failed, seconds, strict=True):
                candidates += arm
                finish(start(rule, arm, keys[unit]), fails, took)
                if comparison.verdict is not None:
                    return candidates
            self.passed += size
        return inf

    def _chunk(self, share: float, size: int) -> tuple[list[int], list[int], list[bool], list[float]]:
        draw, units = self.draw, self.units
        if units.activity is None:
            who = draw.integers(len(units.rates), size=size)
        else:
            who = np.minimum(np.searchsorted(units.activity, draw.random(size)), len(units.rates) - 1)
        arms = units.place[who] < share
        rates = units.rates[who]
        failed = draw.random(size) < np.where(arms, self.candidate(rates), rates)
        took = np.full(size, 0.01) if self.seconds is None else self.seconds(who, arms, draw)
        return who.tolist(), arms.astype(int).tolist(), failed.tolist(), took.tolist()


class LatencyAlone:
    """In the place of the test of errors, so that a clock's evidence is latency's, without the half weight."""

    def __init__(self, p90: Any, p99: Any) -> None:
        self._parts = p90, p99

    @property
    def value(self) -> float:
        return sum(part.value for part in self._parts) / 2

    def add_block(self, *counts: int) -> None: ...

    def restart(self) -> None: ...


def errors_alone(**more: Any) -> Comparison:
    return Comparison(**{"latency_tolerance": None, "cold": False, **more})


def latency_alone(tolerance: float) -> Comparison:
    comparison = Comparison(latency_tolerance=tolerance, cold=False)
    only_latency(comparison.clocks)
    return comparison


def only_latency(clocks: Any) -> None:
    for clock in clocks:
        clock.tests[0] = LatencyAlone(*clock.tests[1:])
