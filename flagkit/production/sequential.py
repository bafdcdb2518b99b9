"""Anytime-valid tests: evidence that may be looked at after every call, with a bounded chance of ever being wrong.

Pure mathematics: no clock, no client, no flag. An e-process starts at 1 and, while there is nothing to find, exceeds L
with a chance of at most 1/L over an unlimited time (Ville's inequality). What is compared with what, and when, is
``comparison``'s. Derivations and operating characteristics: docs/guards.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, inf, lgamma, log, sqrt
from typing import Final, TypeAlias

#: Ratios of odds, beyond the tolerated one, that the evidence is looked for at. Equal weights.
GRID: Final = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
Ratios: TypeAlias = tuple[float, ...]
#: Above how many seconds a call is slow: by p90, of control and candidate, then by p99.
Bounds: TypeAlias = tuple[float, float, float, float]
_LEAST_S: Final = 1e-9
#: Of calls that take hardly longer than it takes to time them, some hundred nanoseconds are a matter of where objects
#: lie in memory. Nobody is slower by less than this.
_NO_SLOWER_S: Final = 10e-6
_MOST_S: Final = 1e6
_LEAST_DEADLINE_S: Final = 1.0
_DEADLINE_P99: Final = 10.0
_UNKNOWN_DEADLINE_S: Final = 60.0
#: Beyond any limit, and far enough from what a float cannot hold.
_MOST: Final = 1e150
_MOST_EXPONENT: Final = 300.0


class _Restarting:
    """Evidence by ratio of the grid, with a part of it always kept back for a regression that begins now.

    After k pieces of evidence the part R(k) = 1 / (2 (1 + ln(k + 1))) has not been staked yet; each piece stakes the
    difference anew. The sum stays an e-process, for stakes and part add up to at most 1. (A mixture over the time of
    change; compare Shin, Ramdas, Rinaldo, E-detectors, 2022.)
    """

    __slots__ = ("_pieces", "_stakes", "_unstaked", "value")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin at 1, knowing nothing."""
        self._pieces = 0
        self._unstaked = 0.5
        self._stakes: Sequence[float] = (0.5,) * len(GRID)
        #: The evidence so far: an e-value.
        self.value = 1.0

    def _multiply(self, ratios: Sequence[float]) -> None:
        """Take in a piece of evidence: its likelihood ratio, for each ratio of the grid."""
        self._pieces += 1
        unstaked = 0.5 / (1.0 + log(self._pieces + 1))
        fresh = self._unstaked - unstaked
        self._unstaked = unstaked
        # Written out: a loop would take three times as long, and this is every other piece of a guarded call's price.
        (s1, s2, s3, s4, s5, s6, s7), (r1, r2, r3, r4, r5, r6, r7) = self._stakes, ratios
        self._stakes = stakes = (
            (s1 + fresh) * r1,
            (s2 + fresh) * r2,
            (s3 + fresh) * r3,
            (s4 + fresh) * r4,
            (s5 + fresh) * r5,
            (s6 + fresh) * r6,
            (s7 + fresh) * r7,
        )
        self.value = value = sum(stakes) / 7 + unstaked
        if value > _MOST:
            self._stakes = tuple(min(stake, _MOST) for stake in stakes)
            self.value = _MOST

    def state(self) -> tuple[float, ...]:
        """All there is to remember: for ``resume``."""
        return (float(self._pieces), *self._stakes)

    def resume(self, state: Sequence[float]) -> None:
        """Go on from a ``state``. Raises: ValueError when it is none."""
        if not all(type(each) in (int, float) for each in state):
            raise ValueError("not the state of an e-process")
        pieces, *stakes = state
        if len(stakes) != len(GRID) or not 0 <= pieces < 1e15 or not all(0 <= stake <= _MOST for stake in stakes):
            raise ValueError("not the state of an e-process")
        self._pieces = int(pieces)
        self._stakes = tuple(stakes)
        self._unstaked = 0.5 / (1.0 + log(self._pieces + 1))
        self.value = sum(stakes) / len(stakes) + self._unstaked


class RatioEProcess(_Restarting):
    """Whether the candidate's odds of an event exceed the control's by more than is tolerated.

    Fed with blocks of calls, each small enough that the base rate was one: given the events of a block, only which arm
    each fell in counts, so that the base rate cancels. The likelihood ratio of e1 ~ Bin(K, theta(rho g)) against
    Bin(K, theta(rho)) has a mean of at most 1 whenever the odds ratio is at most rho: e1 is a sum of independent
    indicators (Fisher's noncentral hypergeometric distribution has real-rooted generating functions), and Hoeffding
    (1956) bounds convex functions of such a sum by the binomial.

    Args: tolerated, the odds ratio rho that is no regression, 1 and up.
    """

    __slots__ = ("tolerated",)

    def __init__(self, tolerated: float = 1.25) -> None:
        self.tolerated = tolerated
        super().__init__()

    def add_block(self, control: int, candidate: int, control_events: int, candidate_events: int) -> None:
        """Take in a block: calls and events of both arms. One that says nothing changes nothing."""
        if control_events + candidate_events > 0 and control > 0 and candidate > 0:
            self._multiply(_block_ratios(self.tolerated, control, candidate, control_events, candidate_events))


@lru_cache(maxsize=8192)  # blocks are small and much alike: nearly all have been met before
def _block_ratios(tolerated: float, control: int, candidate: int, control_events: int, candidate_events: int) -> Ratios:
    """The likelihood ratios of a block, by the grid."""
    events = control_events + candidate_events
    expected = log(candidate * tolerated + control)
    return tuple(
        _bounded(candidate_events * log(ratio) + events * (expected - log(candidate * tolerated * ratio + control)))
        for ratio in GRID
    )


def _bounded(exponent: float) -> float:
    return exp(min(exponent, _MOST_EXPONENT))


class SloEProcess(_Restarting):
    """Whether the error rate exceeds one that is borne, where there is no control to compare with.

    Holds for rates that move, as long as each is at most the borne one: the likelihood ratio of a call has then a mean
    of at most 1, whatever went before.

    Args: rate, the error rate that is borne, over 0 and under 1.
    """

    __slots__ = ("_failed", "_passed", "_since", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        worse = [min(0.9, ratio * rate) if rate < 0.9 else (1 + rate) / 2 for ratio in GRID]
        self._failed = [log(each / rate) for each in worse]
        self._passed = [log((1 - each) / (1 - rate)) for each in worse]
        self._since = 0
        super().__init__()

    def add(self, failed: bool) -> None:
        """Take in a call."""
        if not failed:
            self._since += 1
            return
        since, self._since = self._since, 0
        self._multiply([_bounded(up + since * down) for up, down in zip(self._failed, self._passed, strict=True)])

    def state(self) -> tuple[float, ...]:
        return (float(self._since), *super().state())

    def resume(self, state: Sequence[float]) -> None:
        since, *rest = state
        super().resume(rest)
        if type(since) not in (int, float) or not 0 <= since < 1e15:
            raise ValueError("not the state of an e-process")
        self._since = int(since)


class RatesEProcess(_Restarting):
    """As ``SloEProcess``, for calls of several kinds that each have an error rate of their own that is borne.

    One mixture for all of them: the likelihood ratio of a call, of whichever kind, has a mean of at most 1.

    Args: rates, by kind, each over 0; calls of a kind whose rate is 1 or more say nothing.
    """

    __slots__ = ("_failed", "_passed", "_since", "rates")

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates = tuple(rates)
        worse = [[min(0.9, ratio * rate) if rate < 0.9 else (1 + rate) / 2 for ratio in GRID] for rate in rates]
        self._failed = [[log(e / r) for e in each] if r < 1 else None for r, each in zip(rates, worse, strict=True)]
        self._passed = [
            [log((1 - e) / (1 - r)) for e in each] if r < 1 else [] for r, each in zip(rates, worse, strict=True)
        ]
        self._since = [0] * len(self.rates)
        super().__init__()

    def add(self, kind: int, failed: bool) -> None:
        """Take in a call of the kind ``kind``, from 0."""
        ups = self._failed[kind]
        if ups is None:
            return
        if not failed:
            self._since[kind] += 1
            return
        passed = [(since, self._passed[each]) for each, since in enumerate(self._since) if since]
        self._since = [0] * len(self.rates)
        self._multiply([_bounded(up + sum(since * downs[g] for since, downs in passed)) for g, up in enumerate(ups)])


class SharesTest:
    """Whether the arms get the shares of units that they were meant to (a sample ratio mismatch).

    Fed with units as they are first seen. Source: Lindon & Malek, Anytime-Valid Inference for Multinomial Count Data,
    NeurIPS 2022: a Dirichlet mixture with mean at the meant shares.

    Args: shares, as meant, each over 0, summing to 1. weight, how firmly the mixture believes in them.
    """

    __slots__ = ("_counts", "_log", "_shares", "_units", "_weight")

    def __init__(self, shares: Sequence[float], weight: float = 100.0) -> None:
        self._shares = tuple(shares)
        self._weight = weight
        self._counts = [0] * len(self._shares)
        self._units = 0
        self._log = 0.0

    @property
    def value(self) -> float:
        """The evidence so far: an e-value."""
        return exp(min(self._log, _MOST_EXPONENT))

    def add(self, arm: int) -> None:
        """Take in a unit that was seen in an arm for the first time."""
        share, weight = self._shares[arm], self._weight
        self._log += log((weight * share + self._counts[arm]) / (weight + self._units)) - log(share)
        self._counts[arm] += 1
        self._units += 1

    def add_counts(self, counts: Sequence[int]) -> None:
        """Take in so many units of each arm at once; the order they came in makes no difference."""
        weight = self._weight
        for arm, count in enumerate(counts):
            at = weight * self._shares[arm] + self._counts[arm]
            self._log += lgamma(at + count) - lgamma(at) - count * log(self._shares[arm])
            self._counts[arm] += count
        total = sum(counts)
        self._log -= lgamma(weight + self._units + total) - lgamma(weight + self._units)
        self._units += total


class Pace:
    """How long calls of the control take: follows p90 and p99, a step a call: stochastic approximation on a log scale.

    p90, p99: seconds; infinite until 64 calls were seen, so that nothing is slow. Errors cost power, not validity.
    """

    __slots__ = ("_first", "p90", "p99")

    def __init__(self) -> None:
        self._first: list[float] = []
        self.p90 = inf
        self.p99 = inf

    def add(self, seconds: float) -> None:
        """Take in a call; seconds, 0 and up."""
        p90 = self.p90
        if p90 != inf:
            self.p90 = p90 * (1.018 if seconds > p90 else 0.998)
            p99 = self.p99
            self.p99 = p99 * (1.0198 if seconds > p99 else 0.9998)
            return
        first = self._first
        first.append(seconds)
        if len(first) == 64:
            first.sort()
            self.p90, self.p99 = max(first[57], _LEAST_S), max(first[63], _LEAST_S)
            self._first = []

    @property
    def known(self) -> bool:
        return self.p90 != inf

    @property
    def quantiles(self) -> tuple[float, float] | None:
        """p90 and p99, from a nanosecond to some days, in order; None while they are not known."""
        if not self.known:
            return None
        p90 = min(max(self.p90, _LEAST_S), _MOST_S)
        return p90, min(max(self.p99, p90), _MOST_S)

    def bounds(self, slower: float) -> Bounds:
        """For a block that begins; ``slower``: the candidate's bounds, relative to the control's; or 10 us over."""
        # What takes no measurable time must not pull them to where a step no longer moves them.
        p90 = self.p90 = max(self.p90, _LEAST_S)
        p99 = self.p99 = max(self.p99, p90)
        return p90, max(p90 * slower, p90 + _NO_SLOWER_S), p99, max(p99 * slower, p99 + _NO_SLOWER_S)

    def deadline_s(self) -> float:
        """How long a call may take before it counts as failed and slow, seconds: 10 times the p99, at least 1.

        A minute while the p99 is not known.
        """
        return _UNKNOWN_DEADLINE_S if self.p99 == inf else max(_LEAST_DEADLINE_S, _DEADLINE_P99 * self.p99)


def window_share(window: int) -> float:
    """The part of its alpha that a clock may spend in its window ``window``, from 0: they sum to 1, without an end."""
    part = (1 / (1 + log(window + 1)) - 1 / (1 + log(window + 2))) / 2
    return part + 0.5 if window == 0 else part


def upper_limit(events: int, calls: int, z: float = 2.576) -> float:
    """The upper limit of a rate of which ``events`` in ``calls`` were seen: Wilson's, 99.5 % at the usual ``z``."""
    if calls <= 0:
        return 1.0
    rate, slack = events / calls, z * z / calls
    return min(1.0, (rate + slack / 2 + z * sqrt(rate * (1 - rate) / calls + slack / (4 * calls))) / (1 + slack))
