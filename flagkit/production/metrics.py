"""``Meter``: how often one variant of a flag ran through gates, how often and by what it failed, and how long it took.

Latencies are counted in buckets, 32 to each doubling, so that a quantile is within 2 % of the true one, meters of
several processes can be added, and memory does not grow with calls. Driven by one thread at a time; it knows no gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import frexp, ldexp
from typing import Final, NamedTuple

#: Buckets to a doubling, as a power of two.
_FINE: Final = 5
_LEAST_S: Final = 2.0**-24
_MOST_S: Final = 2.0**20
_LEAST: Final = -23 << _FINE
#: Error types told apart; further ones are counted together.
_MOST_ERRORS: Final = 20
_OTHER: Final = "other"


class VariantMetrics(NamedTuple):
    """What one variant of a flag did in this process since the client started.

    calls: calls that ended. failures: those that failed. errors: exception's type, or what a gate was told -> failures.
    p50_s, p90_s, p99_s: how long calls without a failure took, seconds, within 2 %; None without any.
    """

    flag: str
    variant: str | None
    calls: int
    failures: int
    errors: Mapping[str, int]
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None


class Meter:
    """Counts the calls of one variant."""

    __slots__ = ("buckets", "calls", "errors", "failures", "flag", "variant")

    def __init__(self, flag: str, variant: str | None) -> None:
        self.flag = flag
        self.variant = variant
        self.calls = 0
        self.failures = 0
        self.errors: dict[str, int] = {}
        #: Number of a bucket -> calls; at most 1,410 of them.
        self.buckets: dict[int, int] = {}

    def clear(self) -> None:
        """Begin anew."""
        self.calls = self.failures = 0
        self.errors, self.buckets = {}, {}

    def add(self, seconds: float, error: str | None) -> None:
        """Count a call that took ``seconds``; ``error`` is what it failed of, None if it did not."""
        self.calls += 1
        if error is None:
            bucket = bucket_of(seconds)
            self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
            return
        self.failures += 1
        if error not in self.errors and len(self.errors) >= _MOST_ERRORS:
            error = _OTHER
        self.errors[error] = self.errors.get(error, 0) + 1

    def read(self) -> VariantMetrics:
        """What was counted so far. Any thread; a call that ends meanwhile may be in it or not."""
        buckets = self.buckets.copy()
        p50_s, p90_s, p99_s = quantiles(buckets, (0.5, 0.9, 0.99))
        return VariantMetrics(
            self.flag, self.variant, self.calls, self.failures, self.errors.copy(), p50_s, p90_s, p99_s
        )


def bucket_of(seconds: float) -> int:
    """The number of the bucket that holds ``seconds``; what is no duration goes to the nearest end."""
    if _LEAST_S <= seconds < _MOST_S:
        mantissa, exponent = frexp(seconds)
        return (exponent << _FINE) + int(mantissa * 64)
    return (21 << _FINE) if seconds >= _MOST_S else _LEAST


def quantiles(buckets: Mapping[int, int], asked: Iterable[float]) -> list[float | None]:
    """The quantiles of durations in ``buckets``, seconds; None when there are none. Raises: nothing."""
    total, ordered = sum(buckets.values()), sorted(buckets)
    found: list[float | None] = []
    for share in asked:
        rank, passed, at = share * (total - 1), 0, None
        for number in ordered:
            passed += buckets[number]
            if passed > rank:
                exponent, step = number - 32 >> _FINE, number - 32 & 31
                at = ldexp((step + 32.5) / 64, exponent) if number > _LEAST else 0.0
                break
        found.append(at)
    return found
